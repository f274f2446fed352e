"""Who computes the answers: one thread with continuous batches for a local model, a few threads for one that only answers."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastresort.errors import (
    CandidateError,
    ContractError,
    InfrastructureError,
    InputError,
    LastresortError,
    StoppedError,
    TooLongError,
)
from lastresort.hardware.memory import give_back_freed_memory, is_lack_of_memory
from lastresort.models.constrained import StreamedText
from lastresort.models.protocol import Model
from lastresort.serve.desk import Desk, Job
from lastresort.serve.work import Deliver, Draining, Ended, Failed, Load, Owner, Piece, TokenLogp, Work
from lastresort.stop import StopRequest
from lastresort.types import Answer

if TYPE_CHECKING:
    from lastresort.engine.continuous import ContinuousBatch, Shelf
    from lastresort.engine.live_rows import Continuation, LiveRow
    from lastresort.models.local import LocalModel

LONGEST_QUEUE = 256
MOST_SLOTS, THREADS = 32, 8
LONGEST_TOKENS = 8192  # of a text, for a model whose context is not known
STEPS_A_CHOICE = 64  # for which the number of threads that compute is kept

_log = logging.getLogger("lastresort")


def open_owner(model: Model, *, longest_queue: int = LONGEST_QUEUE, slots: int | None = None) -> Owner:
    """The owner that suits the model, which stays the caller's to close. slots: answers computed at once, None for what suits it.

    longest_queue: answers that may wait.
    """
    from lastresort.models.local import LocalModel

    if isinstance(model, LocalModel):
        return LocalOwner(model, longest_queue=longest_queue, shelves=plan_shelves(model, slots))
    return AskingOwner(model, longest_queue=longest_queue, threads=slots or THREADS)


def plan_shelves(model: LocalModel, slots: int | None = None) -> tuple[Shelf, ...]:
    """Slots for as many tokens as the model's batches have room for: half of them for many short answers, half for a few as
    long as its context, or as this half."""
    from lastresort.engine.continuous import Shelf
    from lastresort.hardware.plan.memory import ROW_TOKENS

    half = model.batch_size * ROW_TOKENS // 2
    slots = min(MOST_SLOTS, model.batch_size) if slots is None else slots
    longest = min(model.context_tokens or LONGEST_TOKENS, half)
    short = half // slots
    if short >= longest:
        return (Shelf(slots, longest),)
    return Shelf(slots, short), Shelf(max(1, half // longest), longest)


class LocalOwner:
    """One thread that computes continuous batches. shelves: the slots of the batch, which is all the memory it takes.

    An answer is the text that `model.generate` gives for this prompt alone, up to rounding: where precision is reduced, what else
    is in the batch can change it.
    """

    def __init__(
        self,
        model: LocalModel,
        *,
        shelves: Sequence[Shelf],
        longest_queue: int = LONGEST_QUEUE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        from lastresort.engine.continuous import ContinuousBatch

        self._model, self._clock = model, clock
        self._batch: ContinuousBatch | None = ContinuousBatch(model.loaded.model, shelves)
        self._longest_tokens = max(shelf.tokens for shelf in shelves)
        self._desk: Desk[Continuation] = Desk(longest_queue)
        self._preparing = threading.Lock()  # tokenizers are not made for several threads
        self._growing: dict[LiveRow, _Growing] = {}
        self._used = 0.0
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(self._batch,), name="lastresort-owner", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread that computes while the interpreter is taken down would abort it

    @property
    def load(self) -> Load:
        return Load(self._desk.running, self._desk.waiting, self._used)

    @property
    def fault(self) -> Exception | None:
        return self._fault

    def submit(self, work: Work, deliver: Deliver) -> Callable[[], None]:
        self._desk.refuse_if_full()
        batch = self._batch
        if batch is None:
            raise Draining
        with self._preparing:
            asked = self._model.continuation(work.prompt, work.decoding, top_logps=work.top_logprobs)
        if not batch.fits(asked):
            raise TooLongError(
                f"{len(asked.tokens)} prompt tokens and {asked.settings.max_new_tokens} for the answer exceed the server's memory",
                where="serve",
                expected=f"at most {self._longest_tokens} together",
                remedy="Shorten the prompt, or ask for a shorter answer.",
            )
        return self._desk.submit(Job(work, deliver, asked))

    def drain(self, within_s: float) -> bool:
        return self._desk.drain(within_s)

    def close(self) -> None:
        atexit.unregister(self.close)
        self._desk.close()
        self._thread.join()
        self._batch = None
        give_back_freed_memory()

    def _run(self, batch: ContinuousBatch) -> None:
        try:
            while self._desk.wait():
                self._compute(batch)
            self._leave(batch, list(self._growing))
        except Exception as error:  # noqa: BLE001 - such as a GPU that is lost: not even a slot can be freed
            self._fault = error
            _log.critical("no answer can be computed any more", exc_info=error)
            self._desk.close()
            for growing in self._growing.values():
                self._desk.done(growing.job)
            self._growing.clear()

    def _compute(self, batch: ContinuousBatch) -> None:
        """Steps until nothing is left to compute."""
        self._admit(batch)
        while self._growing and not self._desk.closed:
            with self._model.threads.chosen(len(self._growing)):
                for _ in range(STEPS_A_CHOICE):
                    self._step(batch)
                    self._leave(batch, [row for row, growing in self._growing.items() if growing.job.over])
                    self._admit(batch)
                    if not self._growing or self._desk.closed:
                        return

    def _admit(self, batch: ContinuousBatch) -> None:
        """Let join what has room."""
        while (job := self._desk.next(batch.has_room)) is not None:
            try:
                self._growing[batch.join(job.prepared)] = _Growing(job, StreamedText(job.work.decoding.stop))
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets to know it
                job.tell(Failed(_told(error)))
                self._desk.done(job)

    def _step(self, batch: ContinuousBatch) -> None:
        began = self._clock()
        try:
            rows = batch.step()
        except Exception as error:  # noqa: BLE001 - the rows are lost, the thread goes on
            batch.clear()
            for growing in self._growing.values():
                growing.job.tell(Failed(_told(error)))
            return
        self._used = batch.used
        seconds = (self._clock() - began) / max(1, len(rows))
        for row in rows:
            growing = self._growing[row]
            growing.seconds += seconds
            try:
                self._tell(row, growing)
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets to know it
                growing.job.tell(Failed(_told(error)))

    def _tell(self, row: LiveRow, growing: _Growing) -> None:
        """Deliver what is new of a row."""
        job, result = growing.job, row.result  # the result first: a plain row grows in another thread
        if row.error is not None:
            job.tell(Failed(_told(row.error)))
            return
        logps = row.logps[growing.told :]
        growing.told += len(logps)
        tokens = tuple(
            TokenLogp(self._token(one.token), one.logp, tuple((self._token(token), logp) for token, logp in one.top))
            for one in logps
        )
        if result is None:
            answer, text = None, growing.text.grow(self._model.text_of(row.tokens))
        else:
            answer = self._model.answer_of(len(row.asked.tokens), result, job.work.decoding, growing.seconds)
            text = growing.text.finish(answer.text)
        if text or tokens:
            job.tell(Piece(text, tokens))
        if answer is not None:
            job.tell(Ended(answer))

    def _leave(self, batch: ContinuousBatch, rows: Sequence[LiveRow]) -> None:
        for row in rows:
            batch.leave(row)
            self._desk.done(self._growing.pop(row).job)
        if rows:
            self._used = batch.used

    def _token(self, token: int) -> str:
        return self._model.text_of([token], special=True)


@dataclass(slots=True)
class _Growing:
    """An answer that is being computed. told: tokens whose log-probabilities were delivered. seconds: its share of the steps."""

    job: Job[Continuation]
    text: StreamedText
    told: int = 0
    seconds: float = 0.0


class AskingOwner:
    """A few threads that ask a model which only answers: an endpoint, or a script."""

    def __init__(self, model: Model, *, threads: int = THREADS, longest_queue: int = LONGEST_QUEUE) -> None:
        self._model, self._size = model, threads
        self._desk: Desk[None] = Desk(longest_queue)
        self._threads = [
            threading.Thread(target=self._run, name=f"lastresort-asking-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def load(self) -> Load:
        return Load(self._desk.running, self._desk.waiting, self._desk.running / self._size)

    @property
    def fault(self) -> Exception | None:
        return None

    def submit(self, work: Work, deliver: Deliver) -> Callable[[], None]:
        if isinstance(work.prompt, str):
            raise self._unable("a text to continue", "a conversation", "Send messages.")
        if work.top_logprobs is not None:
            raise self._unable("log-probabilities asked for", "a model with local weights", "Ask without them.")
        self._desk.refuse_if_full()
        self._model.check_decoding(work.decoding)
        return self._desk.submit(Job(work, deliver, None))

    def drain(self, within_s: float) -> bool:
        return self._desk.drain(within_s)

    def close(self) -> None:
        """A thread that waits for an endpoint ends when its answer arrives or its connection is closed."""
        self._desk.close()

    def _run(self) -> None:
        while self._desk.wait():
            if (job := self._desk.next()) is None:  # another thread was first
                continue
            try:
                self._answer(job)
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets to know it
                job.tell(Failed(_told(error)))
            finally:
                self._desk.done(job)

    def _answer(self, job: Job[None]) -> None:
        assert not isinstance(job.work.prompt, str)
        answers: list[Answer] = []
        pieces = self._model.stream(
            job.work.prompt,
            job.work.decoding,
            on_answer=lambda _, answer: answers.append(answer),
            stop=_UntilOver(job),
        )
        for text in pieces:
            job.tell(Piece(text))
        if not answers and not job.over:
            raise ContractError("the model ended without an answer", where=self._model.name)
        for answer in answers:
            job.tell(Ended(answer))

    def _unable(self, found: str, expected: str, remedy: str) -> CandidateError:
        return CandidateError(found, where=self._model.name, expected=expected, remedy=remedy)


@dataclass(frozen=True, slots=True)
class _UntilOver:
    """Asks a model to stop once nobody waits for its answer."""

    job: Job[None]

    def requested(self) -> StopRequest | None:
        return StopRequest("signal", "the request was cancelled") if self.job.over else None


def _told(error: Exception) -> LastresortError:
    """The error as whoever waits for the answer gets it."""
    if isinstance(error, LastresortError):
        if not isinstance(error, InputError | CandidateError | StoppedError):  # the client is not told why
            _log.error("an answer could not be computed: %s", error)
        return error
    if is_lack_of_memory(error):
        return InfrastructureError(
            "there is not enough memory", where="serve", remedy="Send a shorter prompt, or serve fewer answers at once."
        )
    _log.error("an answer could not be computed", exc_info=error)
    return ContractError(f"{type(error).__name__}: {error}", where="serve")
