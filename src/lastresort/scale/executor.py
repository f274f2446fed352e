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
from lastresort.evals.measure import Executor, JobFailure, LocalExecutor, MeasureJob, Result
from lastresort.models.cached import CachedModel, ModelCall
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import OnAnswer
from lastresort.scale.crew import QUEUED, Crew, Ticket
from lastresort.scale.work import BatchJob, JobAnswers, JobModel, is_loaded
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Passages
from lastresort.systems.system import System
from lastresort.types import Answer


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
            self.crew.leave(sent.tickets)


def crew_of(executor: Executor | None) -> Crew | None:
    """The workers that an executor measures with, None where it has none."""
    return executor.crew if isinstance(executor, CrewExecutor) else None


@dataclass(frozen=True, slots=True)
class _Shared:
    """The model that driver and workers have open."""

    opening: ModelOpening
    model: CachedModel


class _SentAhead:
    """The batches of some jobs, sent ahead. used: the number of jobs whose results were used."""

    def __init__(self, executor: CrewExecutor, jobs: Sequence[MeasureJob], stop: Stop) -> None:
        self._models, self._crew, self._jobs, self._stop = executor.models, executor.crew, jobs, stop
        self.used = 0
        self.tickets: list[Ticket] = []
        self._shared: _Shared | None = None
        self._next = self._plan()
        self._on_the_way: dict[str, Ticket] = {}  # by key of an answer
        self._failed: dict[str, JobFailure] = {}  # by key of an answer that did not come
        self._has_counted = False
        self._queued = 1 if any(job.may_be_dropped for job in jobs) else QUEUED

    def answerer(self, system: System, passages: Passages | None) -> Answerer:
        """The system, whose answers come from the workers if its model can be loaded there."""
        here = self._models.answerer(system, passages)
        self._shared = None
        opening = self._models.opening(system)
        if self._models.is_lent(system) or not is_loaded(opening.name, (opening.prompt_price, opening.output_price)):
            return here
        self._shared = _Shared(opening, _cached(here))
        return here.through(self._shared.model.computed_elsewhere(self._compute, self._wait_for))

    def _wait_for(self, keys: Sequence[str]) -> None:
        self._send_ahead()
        tickets = list({id(ticket): ticket for key in keys if (ticket := self._on_the_way.get(key))}.values())
        self._crew.wait(tickets, self._stop, self._send_ahead)

    def _compute(self, call: ModelCall, on_answer: OnAnswer | None) -> list[Answer]:
        """What was not sent ahead, or was refused there."""
        found: dict[int, Answer] = {}
        if self._shared is None:
            raise ContractError("answers are computed for the model that is measured")
        failure = self._failure_of(call)
        if failure is None:
            self._crew.wait([self._send(self._shared, call, found)], self._stop, self._send_ahead)
            failure = self._failure_of(call)
        for place, answer in found.items():
            if on_answer is not None:
                on_answer(place, answer)
        if failure is not None:
            for key in [key for key, known in self._failed.items() if known is failure]:
                del self._failed[key]
            raise failure.error()
        return [found[place] for place in range(len(call.prompts))]

    def _failure_of(self, call: ModelCall) -> JobFailure | None:
        return next((self._failed[key] for key in call.keys if key in self._failed), None)

    def _send_ahead(self) -> None:
        """As many batches as the workers can use, in the order of the jobs, for the model that answers now."""
        while self._crew.room(self._queued) > 0 and self._shared is not None and self._stop.requested() is None:
            calls = next(self._next, None)
            if calls is None:
                return
            for call in calls:
                self._send(self._shared, call, {})

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
            yield model.calls(prompts, job.system.decoding, self._on_the_way.keys())

    def _is_open(self, job: MeasureJob) -> bool:
        """One model is open at a time."""
        return self._shared is not None and self._models.opening(job.system) == self._shared.opening

    def _send(self, shared: _Shared, call: ModelCall, found: dict[int, Answer]) -> Ticket:
        """found: where the answers go, besides the cache."""

        def arrived(came: JobAnswers[int, Answer]) -> None:
            for key in call.keys:
                self._on_the_way.pop(key, None)
            # The machine's seconds are what an answer costs, and what the cache keeps for climbs without workers.
            share = self._crew.share
            answers = {place: replace(one, seconds=one.seconds * share) for place, one in came.answers.items()}
            found.update(answers)
            shared.model.keep(call, answers, from_worker=True)
            if came.failure is not None:
                missing = [key for place, key in enumerate(call.keys) if place not in came.answers]
                self._failed.update(dict.fromkeys(missing or call.keys, came.failure))

        if not self._has_counted:  # where all answers are kept, no cluster is needed
            self._crew.count_room()
            self._has_counted = True
        ticket = self._crew.submit(BatchJob.of(JobModel.of(shared.opening, shared.model), call), arrived)
        self.tickets.append(ticket)
        self._on_the_way.update(dict.fromkeys(call.keys, ticket))
        return ticket


def _cached(answerer: Answerer) -> CachedModel:
    if not isinstance(answerer.model, CachedModel):
        raise ContractError("models without a cache cannot be answered for elsewhere", where=answerer.model.name)
    return answerer.model
