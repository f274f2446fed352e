"""Measuring with workers elsewhere: their answers go into the driver's cache, and the driver measures from it as it would alone.

So scores, progress and verdicts come from the same code in the same order, whoever was quicker. Scoring, looking up passages,
judging and calls to endpoints stay with the driver: what travels is a prompt, and what comes back an answer of a loaded model.

Batches are cut as the driver cuts them, and sent ahead in the order of the jobs, a few for each worker. All of a race's stretch is
needed. A batch of a sequential test may turn out not to be: one for each worker is sent ahead all the same, since the worker would
otherwise wait, and its answers are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lastresort.errors import ContractError, LastresortError
from lastresort.evals.measure import Executor, LocalExecutor, MeasureJob, Result
from lastresort.models.cached import CachedModel, ModelCall
from lastresort.models.open import ModelOpening
from lastresort.scale.ahead import SentCalls, SharedModel
from lastresort.scale.crew import QUEUED, Crew
from lastresort.scale.work import is_loaded
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Passages
from lastresort.systems.system import System


class JobModels(Protocol):
    """The models of jobs: see `OpenModels`."""

    def answerer(self, system: System, passages: Passages | None = None) -> Answerer: ...
    def opening(self, system: System) -> ModelOpening: ...
    def is_lent(self, system: System) -> bool: ...


@dataclass(frozen=True, slots=True)
class OneModel:
    """The same open model for all jobs, which its owner closes. opened_by: how workers open it, too."""

    model: CachedModel
    opened_by: ModelOpening

    def answerer(self, system: System, passages: Passages | None = None) -> Answerer:
        return Answerer(system, self.model)

    def opening(self, system: System) -> ModelOpening:
        return self.opened_by

    def is_lent(self, system: System) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class CrewExecutor:
    """Measures with a crew. local: how this process would; it scores."""

    local: LocalExecutor
    models: JobModels
    crew: Crew

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        sent = _SentAhead(self, jobs, stop)

        def used(job: MeasureJob, result: Result) -> None:
            sent.used += 1
            on_result(job, result)

        try:
            replace(self.local, answerer=sent.answerer).run(jobs, used, stop)
        finally:
            sent.calls.leave()


def crew_of(executor: Executor | None) -> Crew | None:
    """The workers that an executor measures with, None where it has none."""
    return executor.crew if isinstance(executor, CrewExecutor) else None


class _SentAhead:
    """The batches of some jobs, sent ahead. used: the number of jobs whose results were used."""

    def __init__(self, executor: CrewExecutor, jobs: Sequence[MeasureJob], stop: Stop) -> None:
        self._models, self._crew, self._jobs, self._stop = executor.models, executor.crew, jobs, stop
        self.calls = SentCalls(executor.crew, stop, send_more=self._send_ahead, marks=True)
        self.used = 0
        self._shared: SharedModel | None = None
        self._next = self._plan()
        self._queued = 1 if any(job.may_be_dropped for job in jobs) else QUEUED

    def answerer(self, system: System, passages: Passages | None) -> Answerer:
        """The system, whose answers come from the workers if its model can be loaded there."""
        here = self._models.answerer(system, passages)
        self._shared = None
        opening = self._models.opening(system)
        if self._models.is_lent(system) or not is_loaded(opening.name, (opening.prompt_price, opening.output_price)):
            return here
        self._shared = SharedModel(opening, _cached(here))
        return here.through(self.calls.answered(self._shared))

    def _send_ahead(self) -> None:
        """As many batches as the workers can use, in the order of the jobs, for the model that answers now."""
        while self._crew.room(self._queued) > 0 and self._shared is not None and self._stop.requested() is None:
            calls = next(self._next, None)
            if calls is None:
                return
            for call in calls:
                self.calls.send(self._shared, call)

    def _plan(self) -> Iterator[list[ModelCall] | None]:
        """The calls of one batch after the other; None where the next one must wait for its model."""
        for number, job in enumerate(self._jobs):
            while number >= self.used and not self._is_open(job):
                yield None
            try:
                yield from self._calls_of(number, job)
            except LastresortError:  # the job will meet it itself
                continue
        while True:
            yield None

    def _calls_of(self, number: int, job: MeasureJob) -> Iterator[list[ModelCall]]:
        if number < self.used:  # measured without this
            return
        answerer = self._models.answerer(job.system, job.passages)
        model = _cached(answerer)
        for start in range(0, len(job.examples), model.batch_size):
            if number < self.used:  # refused
                return
            prompts = answerer.prompts([one.input for one in job.examples[start : start + model.batch_size]])
            yield self.calls.missing(model, prompts, job.system.decoding)

    def _is_open(self, job: MeasureJob) -> bool:
        """One model is open at a time."""
        return self._shared is not None and self._models.opening(job.system) == self._shared.opening


def _cached(answerer: Answerer) -> CachedModel:
    if not isinstance(answerer.model, CachedModel):
        raise ContractError("models without a cache cannot be answered for elsewhere", where=answerer.model.name)
    return answerer.model
