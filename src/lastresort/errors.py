"""Every error that reaches a user, one class a kind of fault.

    LastresortError            base; `exit_code` is what the command returns
    ├── InputError        2    the user's input: correct it and run again
    │   ├── TaskError          the task file
    │   └── DataError          a file of examples, or its content
    │       └── SplitError         too few examples for the split
    ├── CandidateError    2    this model cannot be measured so: the search goes on without this candidate
    │   └── TooLongError       a prompt and its answer do not fit
    ├── PrerequisiteError 3    something is missing here: the message says what to install or set
    ├── StoppedError      4    the run stopped and can be resumed
    │   ├── InfrastructureError   time-out, 429, 500, cut connection, full disk: never scored as a wrong answer
    │   │   ├── LateError             a model writes longer than a request waits
    │   │   ├── OutOfMemoryError      a training did not get its memory
    │   │   └── DiskError             the disk is full
    │   ├── BudgetError           the limit of money or time is reached
    │   └── StopRequestedError    a stop was requested
    └── ContractError    70    a part of this program was called wrongly: our fault, please report

Each message is one sentence of the form "where: found what, expected what. What to do." None is longer than a screen, whatever it
quotes.
"""

from __future__ import annotations

from typing import Self

RESUME = "Go on with --resume."
AGAIN = "Give the same command again."
SAME_COMMAND = "Give the same command again: what was answered is kept."  # of commands without --resume

LONGEST, LONGEST_PART = (
    900,
    200,
)  # characters of a message, and of each of its four parts where the message would be longer


class LastresortError(Exception):
    """Base of all errors shown to a user without a traceback.

    where: file, row and key, as far as known. found, expected: in words. remedy: what to do, an imperative sentence.
    """

    exit_code = 70  # EX_SOFTWARE of sysexits.h; 1 is the answer "no" of a command that judges

    def __init__(self, found: str, *, where: str = "", expected: str = "", remedy: str = "") -> None:
        parts = (found, where, expected, remedy)
        if sum(map(len, parts)) > LONGEST:
            found, where, expected, remedy = map(_without_middle, parts)
        self.found, self.where, self.expected, self.remedy = found, where, expected, remedy
        sentence = f"{where}: {found}" if where else found
        if expected:
            sentence += f", expected {expected}"
        sentence = sentence.rstrip(".") + "."
        super().__init__(f"{sentence} {remedy}".strip())

    def elsewhere(self, where: str) -> Self:
        """The same error about another place."""
        same = type(self).__new__(type(self))  # some take more than these four, which it has kept
        LastresortError.__init__(same, self.found, where=where, expected=self.expected, remedy=self.remedy)
        same.__dict__.update({**self.__dict__, "where": same.where})
        return same


def _without_middle(part: str) -> str:
    """Both ends say what it is about: a row's place ends with its key, a quotation with what is wrong with it."""
    half = (LONGEST_PART - 1) // 2
    return part if len(part) <= LONGEST_PART else f"{part[:half]}…{part[-half:]}"


class InputError(LastresortError):
    """The user's input cannot be used."""

    exit_code = 2


class TaskError(InputError):
    """The task file is missing, malformed or contradicts itself. key: the one that is wrong, () where it is none or not known."""

    def __init__(
        self, found: str, *, where: str = "", expected: str = "", remedy: str = "", key: tuple[str | int, ...] = ()
    ) -> None:
        super().__init__(found, where=where, expected=expected, remedy=remedy)
        self.key = key


class UnknownModelError(TaskError):
    """A model's name is neither a path that exists nor the form of a name."""


class DataError(InputError):
    """A data file is missing, malformed or cannot serve its purpose."""


class SplitError(DataError):
    """There are too few examples for the split that the task names."""


class CandidateError(LastresortError):
    """A candidate cannot be measured with this model, and the search goes on without it."""

    exit_code = 2


class TooLongError(CandidateError):
    """A prompt and its answer do not fit into the model's context, or into the memory that is there for them."""


class PrerequisiteError(LastresortError):
    """Something must be installed or set before this can run."""

    exit_code = 3


class StoppedError(LastresortError):
    """The run stopped before its end; nothing finished is lost.

    resume: how to go on once the remedy is done, the message's last sentence; "" where nothing can go on, or where it is not known:
    it depends on the command, which sets it with `going_on` at its border, and the remedy stays.
    """

    exit_code = 4

    def __init__(self, found: str, *, where: str = "", expected: str = "", remedy: str = "", resume: str = "") -> None:
        super().__init__(found, where=where, expected=expected, remedy=remedy)
        self.resume = resume

    def __str__(self) -> str:
        return f"{super().__str__()} {self.resume}".strip()

    def going_on(self, resume: str) -> Self:
        """The same stop in work that goes on in another way."""
        same = self.elsewhere(self.where)
        same.resume = resume
        return same


class InfrastructureError(StoppedError):
    """An endpoint, the network or the disk failed, after retries where these make sense."""


class LateError(InfrastructureError):
    """A model took a request and gave no whole answer in time. waited_s: how long it had, at the last attempt."""

    waited_s = 0.0


class OutOfMemoryError(InfrastructureError):
    """A training did not get its memory."""


class DiskError(InfrastructureError):
    """The disk is full. Files are written whole or not at all, so that a command without a way on of its own can be given again."""


class BudgetError(StoppedError):
    """A limit of the task file is reached."""


class StopRequestedError(StoppedError):
    """A stop was requested, by a signal or by a file in the run's folder."""


class ContractError(LastresortError):
    """A function was called outside its contract: a fault of this program, not of its user."""
