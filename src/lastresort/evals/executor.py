"""Measuring as jobs: values that pickle, done in this process or elsewhere. The driver alone writes the record, and uses results in
the order of the jobs, so that no verdict depends on who was quicker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lastresort.errors import CandidateError, ContractError
from lastresort.evals.measure import Format, mean_score, measured
from lastresort.evals.scorers import Scorer
from lastresort.models.protocol import Pay, pay_on_answer
from lastresort.records.measurement import ItemScore
from lastresort.stop import Stop, StopRequest
from lastresort.systems.answerer import Answerer
from lastresort.systems.lookup import Passages
from lastresort.systems.system import System
from lastresort.types import At, Example, Progress, nowhere


@dataclass(frozen=True, slots=True)
class JobPlace:
    """What a job is about, for those who watch the run."""

    rung: str
    candidate: str
    split: str


@dataclass(frozen=True, slots=True)
class MeasureJob:
    """Measure a system on these examples, in batches that are cut from their order.

    number: its place among those that are given together. refused_is_wrong: as in `measured`. label: of the stage of progress
    that it begins, "" where it goes on with the present one. place: where the run is with this job, None where that was said before
    it. passages: shown in place of what the system's retriever finds.
    """

    number: int
    system: System
    examples: tuple[Example, ...]
    refused_is_wrong: bool = False
    label: str = ""
    place: JobPlace | None = None
    passages: Passages | None = None


@dataclass(frozen=True, slots=True)
class JobScores:
    """The scores of all its examples, in their order. unpaid_usd: what the driver has not yet counted."""

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
    """One job after the other, in this process. answerer: opens a system. pay: called with every USD as it is paid. at: called
    with the place of every job as it begins.
    """

    answerer: Callable[[System, Passages | None], Answerer]
    scorer: Scorer
    output: Format
    progress: Progress
    pay: Pay
    at: At = nowhere

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        opened: Answerer | None = None
        passages: Passages | None = None
        for job in jobs:
            if stop.requested() is not None:
                return
            if job.label:
                self.progress.stage(job.label, len(job.examples))
            if job.place is not None:
                self.at(job.place.rung, job.place.candidate, job.place.split)
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

    Returns the request by which jobs were left undone, None where all are done. Raises ContractError where the executor leaves jobs
    undone that it was not asked to stop.
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
    if following is None:
        return None
    if watched.seen is None:
        raise ContractError(
            f"the executor returned without a result for job {following.number}, and no stop was requested"
        )
    return watched.seen


class _Remembering:
    """A stop whose first request counts, also where it is taken back."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self.seen: StopRequest | None = None

    def requested(self) -> StopRequest | None:
        self.seen = self.seen or self._stop.requested()
        return self.seen
