"""Measuring as jobs: values that pickle, done in this process or elsewhere. The driver alone writes the record, and uses results in
the order of the jobs, so that no verdict depends on who was quicker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lastresort.errors import CandidateError
from lastresort.evals.measure import Format, mean_score, measured
from lastresort.evals.scorers import Scorer
from lastresort.models.protocol import Pay, pay_on_answer
from lastresort.records.measurement import ItemScore
from lastresort.stop import Stop, StopRequest
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Passages
from lastresort.systems.system import System
from lastresort.types import Example, Progress


@dataclass(frozen=True, slots=True)
class MeasureJob:
    """Measure a system on these examples, in batches that are cut from their order.

    number: its place among those that are given together. refused_is_wrong: as in `measured`. label: of the stage of progress
    that it begins, "" where it goes on with the present one. passages: shown in place of what the system's retriever finds.
    """

    number: int
    system: System
    examples: tuple[Example, ...]
    refused_is_wrong: bool = False
    label: str = ""
    passages: Passages | None = None


@dataclass(frozen=True, slots=True)
class JobScores:
    """The scores of all its examples, in their order. unpaid_usd: what the driver has not yet been told of."""

    items: tuple[ItemScore, ...]
    unpaid_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class JobRefused:
    """The model cannot be measured so: what its CandidateError says."""

    found: str
    where: str
    expected: str
    remedy: str

    @classmethod
    def of(cls, error: CandidateError) -> JobRefused:
        return cls(error.found, error.where, error.expected, error.remedy)

    def error(self) -> CandidateError:
        return CandidateError(self.found, where=self.where, expected=self.expected, remedy=self.remedy)


Result = JobScores | JobRefused


class Executor(Protocol):
    """Does jobs, in whatever order and wherever."""

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        """Hand over each result in the calling thread as it comes.

        Once stop is requested no job is begun, and one under way ends after its present batch, without a result unless that was
        its last. An infrastructure failure is raised.
        """


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """One job after the other, in this process. answerer: opens a system. pay: told of every USD as it is paid."""

    answerer: Callable[[System, Passages | None], Answerer]
    scorer: Scorer
    output: Format
    progress: Progress
    pay: Pay

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        opened: Answerer | None = None
        passages: Passages | None = None
        for job in jobs:
            if stop.requested() is not None:
                return
            if job.label:
                self.progress.stage(job.label, len(job.examples))
            try:
                if opened is None or opened.system is not job.system or passages is not job.passages:
                    opened, passages = self.answerer(job.system, job.passages), job.passages
                result = self._measured(opened, job, stop)
            except CandidateError as error:
                on_result(job, JobRefused.of(error))
                continue
            if result is None:
                return
            on_result(job, result)

    def _measured(self, answerer: Answerer, job: MeasureJob, stop: Stop) -> JobScores | None:
        """None where it was left undone."""
        items: list[ItemScore] = []
        for batch in measured(
            answerer,
            job.examples,
            self.scorer,
            self.output,
            batch_size=answerer.model.batch_size,
            refused_is_wrong=job.refused_is_wrong,
            on_answer=pay_on_answer(self.pay),
        ):
            items += batch
            self.progress.advance(len(batch), note=f"{mean_score(batch):.2f}")
            if len(items) < len(job.examples) and stop.requested() is not None:
                return None
        return JobScores(tuple(items))


def run_in_order(
    executor: Executor, jobs: Sequence[MeasureJob], use: Callable[[MeasureJob, Result], None], stop: Stop, pay: Pay
) -> StopRequest | None:
    """Give each result to `use` in the order of the jobs: one that comes early waits for those before it.

    Returns the request by which jobs were left undone, None where all are done.
    """
    watched = _Remembering(stop)
    waiting: dict[int, Result] = {}
    turn = iter(jobs)
    following = next(turn, None)

    def arrived(job: MeasureJob, result: Result) -> None:
        nonlocal following
        if isinstance(result, JobScores) and result.unpaid_usd:
            pay(result.unpaid_usd)
        waiting[job.number] = result
        while following is not None and following.number in waiting:
            use(following, waiting.pop(following.number))
            following = next(turn, None)

    executor.run(jobs, arrived, watched)
    return None if following is None else watched.seen


class _Remembering:
    """A stop whose first request counts, also where it is taken back."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self.seen: StopRequest | None = None

    def requested(self) -> StopRequest | None:
        self.seen = self.seen or self._stop.requested()
        return self.seen
