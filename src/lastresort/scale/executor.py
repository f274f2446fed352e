"""Measuring with workers elsewhere: their answers go into the driver's cache, and the driver measures from it as it would alone.

So scores, money, progress and verdicts come from the same code in the same order, whoever was quicker. Scoring, looking up
passages and judging stay with the driver: what travels is a prompt, and what comes back an answer.

Batches are cut as the driver cuts them, and sent ahead in the order of the jobs, a few for each worker. Ahead of what? A stretch of
a race is needed whole, so that all of it may be sent. A batch of a sequential test may turn out not to be needed: weights of our
own answer it ahead all the same, since a worker would otherwise wait, and what comes too late is dropped. An endpoint is asked for
such a batch only once the results before it are used, since it may want money for each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lastresort.errors import ContractError, LastresortError, PrerequisiteError
from lastresort.evals.measure import LocalExecutor, MeasureJob, Result
from lastresort.keys import passed_names
from lastresort.models.cached import CachedModel, ModelCall
from lastresort.models.endpoint import key_for, parse_endpoint
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import OnAnswer, Pay, is_endpoint
from lastresort.rungs.open_models import OpenModels
from lastresort.scale.crew import QUEUED, Crew, Ticket
from lastresort.scale.work import JobAnswers, JobFailure, environment_that_travels, job_of
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Passages
from lastresort.systems.system import System
from lastresort.types import Answer


@dataclass(frozen=True, slots=True)
class CrewExecutor:
    """Measures with a crew. local: how this process would; it scores. on_lost: given what calls cost that gave no answer.
    environment: the driver's.
    """

    local: LocalExecutor
    models: OpenModels
    crew: Crew
    on_lost: Pay
    environment: Mapping[str, str]

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        ahead = _Ahead(self, jobs, stop)

        def used(job: MeasureJob, result: Result) -> None:
            ahead.used += 1
            on_result(job, result)

        self.crew.look_around()
        finish = False
        try:
            replace(self.local, answerer=ahead.answerer).run(jobs, used, stop)
            finish = True
        except LastresortError:
            finish = True
            raise
        finally:
            ahead.end(finish=finish)


def refuse_key_that_stays(opening: ModelOpening, environment: Mapping[str, str]) -> None:
    """Raises PrerequisiteError where the driver has a key for an endpoint, and its workers would not."""
    if not is_endpoint(opening.name) or opening.name.startswith("scripted:"):
        return
    endpoint = parse_endpoint(opening.name)
    if key_for(endpoint, environment, named=opening.named) == key_for(
        endpoint, environment_that_travels(environment), named=opening.named
    ):
        return
    name = endpoint.key_name if environment.get(endpoint.key_name) else "LASTRESORT_API_KEYS"
    names = ",".join([*sorted(passed_names(environment)), name])
    raise PrerequisiteError(
        f"the key of {endpoint} does not travel to the workers",
        where="--ray",
        expected=f"{name} in LASTRESORT_PASS_ENV",
        remedy=f"Set LASTRESORT_PASS_ENV={names}, or leave --ray out.",
    )


class _Ahead:
    """The batches of some jobs, sent ahead. used: how many of the jobs have had their results used."""

    def __init__(self, executor: CrewExecutor, jobs: Sequence[MeasureJob], stop: Stop) -> None:
        self._executor, self._jobs, self._stop = executor, jobs, stop
        self.used = 0
        self._opening: ModelOpening | None = None
        self._model: CachedModel | None = None
        self._next = self._plan()
        self._on_the_way: dict[str, Ticket] = {}  # by key of an answer
        self._failed: dict[str, JobFailure] = {}  # by key of an answer that did not come
        self._tickets: list[Ticket] = []
        self._paid_by_call = False
        self._may_be_dropped = any(job.may_be_dropped for job in jobs)

    def answerer(self, system: System, passages: Passages | None) -> Answerer:
        """The system, whose answers come from the workers."""
        models = self._executor.models
        here = models.answerer(system, passages)
        if models.is_lent(system):  # weights that only this process has
            self._opening = None
            return here
        self._opening = models.opening(system)
        refuse_key_that_stays(self._opening, self._executor.environment)
        self._paid_by_call = is_endpoint(self._opening.name)
        if not isinstance(here.model, CachedModel):
            raise ContractError("models without a cache cannot be answered for elsewhere", where=here.model.name)
        self._model = here.model
        return here.through(here.model.computed_elsewhere(self._compute, self._wait_for))

    def end(self, *, finish: bool) -> None:
        """finish: let calls that are paid come to their end, so that they are counted and kept."""
        self._executor.crew.leave(self._tickets, finish=finish and self._paid_by_call)

    def _wait_for(self, keys: Sequence[str]) -> None:
        self._send_ahead()
        tickets = list({id(ticket): ticket for key in keys if (ticket := self._on_the_way.get(key))}.values())
        self._executor.crew.wait(tickets, self._stop, self._send_ahead)

    def _compute(self, call: ModelCall, on_answer: OnAnswer | None) -> list[Answer]:
        """What was not sent ahead, or was refused there."""
        found: dict[int, Answer] = {}
        failure = next((self._failed[key] for key in call.keys if key in self._failed), None)
        if failure is None:
            ticket = self._send(call, found)
            self._executor.crew.wait([ticket], self._stop, self._send_ahead)
            failure = next((self._failed[key] for key in call.keys if key in self._failed), None)
        for place, answer in found.items():
            if on_answer is not None:
                on_answer(place, replace(answer, paid=0.0))  # it was paid when it came
        if failure is not None:
            for key in [key for key, known in self._failed.items() if known is failure]:
                del self._failed[key]
            raise failure.error()
        return [found[place] for place in range(len(call.prompts))]

    def _send_ahead(self) -> None:
        """As many batches as the workers can use, in the order of the jobs, for the model that answers now."""
        room = self._executor.crew.room(1 if self._paid_by_call or self._may_be_dropped else QUEUED)
        while room > 0 and self._opening is not None:
            calls = next(self._next, None)
            if calls is None:
                return
            for call in calls:
                self._send(call, {})
            room -= len(calls)

    def _plan(self) -> Iterator[list[ModelCall] | None]:
        """The calls of one batch after the other; None where the next one must wait for results, or for its model."""
        for number, job in enumerate(self._jobs):
            while not self._may_begin(number, job):
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
        answerer = self._executor.models.answerer(job.system, job.passages)
        model = answerer.model
        assert isinstance(model, CachedModel), "as that of the job that is measured now"
        for start in range(0, len(job.examples), model.batch_size):
            if number < self.used:  # refused
                return
            prompts = [answerer.prompt(one.input) for one in job.examples[start : start + model.batch_size]]
            yield model.calls(prompts, job.system.decoding, self._on_the_way.keys())

    def _may_begin(self, number: int, job: MeasureJob) -> bool:
        if number < self.used:
            return True
        if self._opening is None or self._executor.models.opening(job.system) != self._opening:
            return False  # one model is open at a time
        return number == self.used or not (job.may_be_dropped and self._paid_by_call)

    def _send(self, call: ModelCall, found: dict[int, Answer]) -> Ticket:
        """found: where the answers go, besides the cache."""
        assert self._model is not None, "a job is measured"
        assert self._opening is not None, "on a model that workers can open"
        model = self._model

        def back(came: JobAnswers) -> None:
            for key in call.keys:
                self._on_the_way.pop(key, None)
            self._count(came)
            found.update(came.answers)
            model.keep(call, came.answers)
            if came.failure is not None:
                missing = [key for place, key in enumerate(call.keys) if place not in came.answers]
                self._failed.update(dict.fromkeys(missing or call.keys, came.failure))

        ticket = self._executor.crew.submit(job_of(self._opening, model, call), back)
        self._tickets.append(ticket)
        self._on_the_way.update(dict.fromkeys(call.keys, ticket))
        return ticket

    def _count(self, came: JobAnswers) -> None:
        """Pay before anything is kept: a kill in between must not leave an answer that nobody paid for."""
        for answer in came.answers.values():
            if answer.paid:
                self._executor.local.pay(answer.paid)
        if came.lost_usd:
            self._executor.on_lost(came.lost_usd)
