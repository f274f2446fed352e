"""Events of a run, or of a study, as a whole: how it started, the judge that scores its answers, what was spent, and its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

from pydantic import JsonValue

from lastresort.errors import TaskError
from lastresort.ladder import COST_RUNG, trains
from lastresort.records.data_report import DataReport
from lastresort.records.decision import RunView
from lastresort.records.events.base import BaseEvent, EventValue, Interval
from lastresort.types import StudyKind


class RunBegan(BaseEvent):
    """id: which run this is, wherever its folder is moved."""

    kind: Literal["run_began"] = "run_began"
    id: str


class TaskRead(BaseEvent):
    """task: resolved, as the task file writes it. json_schema: of its answers, None where they have another form."""

    kind: Literal["task_read"] = "task_read"
    task: dict[str, Any]  # JSON as a task file holds it: its type, `spec.task.Task`, is above the records
    json_schema: dict[str, Any] | None = None  # foreign JSON, as a user wrote it


class FilesRead(BaseEvent):
    """files: sha256 by name, of everything that decides what is trained and measured."""

    kind: Literal["files_read"] = "files_read"
    files: dict[str, str]


class ItemsAdded(BaseEvent):
    """Fresh items for the tests that ended UNDECIDED. path: how their file is reached from the folder of the run. The newest of a
    sha256 counts, where the file was moved.
    """

    kind: Literal["items_added"] = "items_added"
    path: str
    sha256: str
    n: int


class TaskPlaced(BaseEvent):
    """path: how the task file is reached from the folder of the run. run: how that is reached from the task file's folder."""

    kind: Literal["task_placed"] = "task_placed"
    path: str
    run: str


class OptionsChosen(BaseEvent):
    """How the climb was started or last resumed. settings: that override the task file. until: the last rung to try."""

    kind: Literal["options_chosen"] = "options_chosen"
    settings: dict[str, JsonValue]
    until: str | None


class DocumentsRead(BaseEvent):
    """files: sha256 by document, as they were when the run began."""

    kind: Literal["documents_read"] = "documents_read"
    files: dict[str, str]


def repair_test(rung: str) -> str:
    """The test of a repaired system of a rung, among the shares of the error."""
    return f"{rung} repair"


class ErrorShared(BaseEvent):
    """r: tests of the bar over which the run shares its error. shares: of each, by rung and `repair_test`; None in a run that began
    when all were equal.
    """

    kind: Literal["error_shared"] = "error_shared"
    r: int
    shares: dict[str, float] | None = None

    def share_of(self, test: str, error: float) -> float:
        """error: that is shared. Raises TaskError for a test that has no share."""
        if self.shares is None:
            return round(error / self.r, 12)
        if test not in self.shares:
            raise TaskError(
                f"{test} was ruled out when this run began, so that it has no share of the error",
                expected=f"one of {', '.join(self.shares)}",
                remedy="Start a new run without --resume.",
            )
        return self.shares[test]

    def alpha_of_rung(self, rung: str, met: Collection[str], error: float) -> float:
        """The error of the test of a rung's own system: its share; at the rung with cheaper calls the largest of that and the
        shares of the untrained rungs that met the bar. Why: `climb.shares`. met: the rungs whose own system did.
        """
        led = [one for one in met if not trains(one)] if rung == COST_RUNG else []
        return max(self.share_of(test, error) for test in (rung, *led))

    def alpha_of_repair(self, rung: str, met: Collection[str], error: float) -> float:
        """The error of the test of a repaired system: its share, and the error of the first one's test where that said MET."""
        own = self.share_of(repair_test(rung), error)
        if self.shares is None or rung not in met:
            return own
        return own + self.alpha_of_rung(rung, met, error)


class ModelOpened(BaseEvent):
    """fingerprint: of the task's model. max_new_tokens: of every answer. price_known: whether what a call of it costs is known."""

    kind: Literal["model_opened"] = "model_opened"
    fingerprint: str
    max_new_tokens: int
    price_known: bool


class ThreadsChosen(BaseEvent):
    """With how many threads the model answers from here on. seconds: that the same products of it took, by number of threads."""

    kind: Literal["threads_chosen"] = "threads_chosen"
    threads: int
    seconds: dict[str, float]


class RowsTooLong(BaseEvent):
    """train: ids of the rows that are left out of training, since they exceed the context."""

    kind: Literal["rows_too_long"] = "rows_too_long"
    train: tuple[str, ...]


class DataChecked(BaseEvent):
    kind: Literal["data_checked"] = "data_checked"
    report: DataReport


class BudgetSpent(BaseEvent):
    """Time and money since the one before; money with every paid answer, time every few seconds. left: its process does not
    climb: it was refused, it stopped or failed as the model opened, or it only looks at the run.
    """

    kind: Literal["budget_spent"] = "budget_spent"
    seconds: float
    usd: float
    left: bool = False


class JudgeOpened(BaseEvent):
    """model to self_preference: as in the decision. price_known: whether what a call of it costs is known."""

    kind: Literal["judge_opened"] = "judge_opened"
    fingerprint: str
    model: str
    asks: Literal["comparison", "grading"]
    criterion: str | None
    scale: Literal["1-5", "yes-no"] | None
    self_preference: bool
    price_known: bool


class JudgeCalls(EventValue):
    """What asking a judge took. calls: prompts answered. paid_usd: the part of usd that was paid now, for what no cache had."""

    calls: int
    tokens_in: int
    tokens_out: int
    seconds: float
    usd: float
    paid_usd: float

    @staticmethod
    def sum_of(calls: Iterable[JudgeCalls]) -> JudgeCalls:
        taken = list(calls)
        return JudgeCalls(**{name: sum(getattr(one, name) for one in taken) for name in JudgeCalls.model_fields})


class JudgeChecked(BaseEvent):
    """How far the judge agrees with people, on labelled cases. said: its verdicts on each. people, judged: the scores by which the
    bar is corrected, of the first case of every input; none where the task wants no correction, and in records of before there was
    one.
    """

    kind: Literal["judge_checked"] = "judge_checked"
    n: int
    share: float
    interval: Interval
    kappa: float | None
    kappa_interval: Interval | None
    weights: Literal["none", "quadratic"]
    said: tuple[tuple[str, ...], ...]
    people: tuple[float, ...] = ()
    judged: tuple[float, ...] = ()
    spent: JudgeCalls


class JudgedAnswer(JudgeCalls):
    """answer: hash of its text. said: the judge's verdicts on it, one a prompt."""

    id: str
    answer: str
    score: float
    said: tuple[str, ...]


class AnswersJudged(BaseEvent):
    """A batch. An answer that is met again is here again, and counts once."""

    kind: Literal["answers_judged"] = "answers_judged"
    items: tuple[JudgedAnswer, ...]


class ClimbDecided(BaseEvent):
    kind: Literal["climb_decided"] = "climb_decided"
    decision: RunView


StoppedBy = Literal["file", "signal", "limit", "error"]


class ClimbStopped(BaseEvent):
    """The climb, or the study, ended before its end. by: a file in its folder, a signal to its process, a limit of the task, or an
    error. error: in words, "" otherwise. One that was killed or that crashed writes none.
    """

    kind: Literal["climb_stopped"] = "climb_stopped"
    by: StoppedBy
    error: str = ""


class ClimbResumed(BaseEvent):
    """Another process goes on with the climb, which had stopped, died or ended."""

    kind: Literal["climb_resumed"] = "climb_resumed"


class ClimbFinished(BaseEvent):
    """Everything is written: the winner, decision.json and the report."""

    kind: Literal["climb_finished"] = "climb_finished"


class StudyBegan(BaseEvent):
    """The folder is that of a study, not of a climb, and a process begins it or goes on with it. task: how its task file is reached
    from the folder; None where a command of another name, or a program, began it. options: of the command, as they are typed,
    without task, folder and --ray. workers: whether it had --ray. keys: of its cells, as in rows.jsonl; None before they are known.
    A process that goes on with a study writes this event only then, as it may be refused before.
    """

    kind: Literal["study_began"] = "study_began"
    study: StudyKind
    task: str | None
    options: tuple[str, ...]
    workers: bool = False
    keys: tuple[str, ...] | None = None


class TokensTimed(BaseEvent):
    """How many seconds a token of a prompt takes to read here, and one of an answer to write, each as one of many: timed once for a
    study. model: its fingerprint.
    """

    kind: Literal["tokens_timed"] = "tokens_timed"
    model: str
    read_s: float
    write_s: float

    @property
    def key(self) -> str:
        return self.model


class StudyFinished(BaseEvent):
    """Everything is written: study.json and its page."""

    kind: Literal["study_finished"] = "study_finished"


Subject = Literal["model", "prompt", "documents"]


class RecheckCounted(BaseEvent):
    """A recheck, counted before it has seen an answer. question: hash of what it asks. look: its number among those that test
    systems against the bar. new: what changed."""

    kind: Literal["recheck_counted"] = "recheck_counted"
    question: str
    number: int
    look: int | None
    new: tuple[Subject, ...]

    @property
    def key(self) -> str:
        return self.question


RunEvent = (
    RunBegan
    | TaskRead
    | FilesRead
    | ItemsAdded
    | TaskPlaced
    | OptionsChosen
    | DocumentsRead
    | ErrorShared
    | ModelOpened
    | ThreadsChosen
    | RowsTooLong
    | DataChecked
    | BudgetSpent
    | JudgeOpened
    | JudgeChecked
    | AnswersJudged
    | ClimbDecided
    | ClimbStopped
    | ClimbResumed
    | ClimbFinished
    | StudyBegan
    | TokensTimed
    | StudyFinished
    | RecheckCounted
)
