"""Calls sent to workers before their answers are needed, several at once.

The answers go into the model's cache, and whoever makes the calls finds them there, in its own order. So what follows from them
does not depend on who was quicker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lastresort.evals.measure import JobFailure
from lastresort.models.cached import CachedModel, ModelCall
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.scale.crew import BATCH_S, NOTICE_S, Crew, JobKind, Ticket
from lastresort.scale.work import BatchJob, JobAnswers, JobModel
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding

CALLS = JobKind("batch", 1, BATCH_S)  # each may take minutes: the next one goes to whichever worker is free first


@dataclass(frozen=True, slots=True)
class SharedModel:
    """A model that is open here. opening: how workers open it, too."""

    opening: ModelOpening
    model: CachedModel


class SentCalls:
    """Calls on their way to workers, and what came back.

    stop: looked at while answers are waited for. send_more: called then, before and after each piece of news. marks: whether the
    cache says that workers answered, so that seconds there are not compared.
    """

    def __init__(self, crew: Crew, stop: Stop, *, send_more: Callable[[], None] = lambda: None, marks: bool) -> None:
        self._crew, self._stop, self._send_more, self._marks = crew, stop, send_more, marks
        self._on_the_way: dict[str, Ticket] = {}  # by key of an answer
        self._failed: dict[str, JobFailure] = {}  # by key of an answer that did not come

    def answered(self, shared: SharedModel) -> CachedModel:
        """The model, with the answers that its cache lacks from workers."""
        return shared.model.computed_elsewhere(partial(self._compute, shared), self._wait_for)

    def missing(self, model: CachedModel, prompts: Sequence[Prompt], decoding: Decoding) -> list[ModelCall]:
        """The calls whose answers are neither in the cache nor on the way."""
        return model.calls(prompts, decoding, self._on_the_way.keys())

    def send(self, shared: SharedModel, call: ModelCall) -> dict[int, Answer]:
        """Its answers, by the place of their prompts, as they arrive. They also go into the cache."""
        found: dict[int, Answer] = {}

        def arrived(came: JobAnswers[int, Answer]) -> None:
            for key in call.keys:
                self._on_the_way.pop(key, None)
            # The machine's seconds are what an answer costs, and what the cache keeps for climbs without workers.
            share = self._crew.share
            found.update({place: replace(one, seconds=one.seconds * share) for place, one in came.answers.items()})
            shared.model.keep(call, found, from_worker=self._marks)
            if came.failure is not None:
                missing = [key for place, key in enumerate(call.keys) if place not in found]
                self._failed.update(dict.fromkeys(missing or call.keys, came.failure))

        self._crew.count_room(NOTICE_S)
        ticket = self._crew.submit(BatchJob.of(JobModel.of(shared.opening, shared.model), call), arrived)
        self._on_the_way.update(dict.fromkeys(call.keys, ticket))
        return found

    def leave(self) -> None:
        """What is still on the way is no longer wanted."""
        self._crew.leave(self._tickets(list(self._on_the_way)))

    def _wait_for(self, keys: Sequence[str]) -> None:
        self._send_more()
        self._crew.wait(self._tickets(keys), self._stop, self._send_more)

    def _tickets(self, keys: Sequence[str]) -> list[Ticket]:
        return list({id(ticket): ticket for key in keys if (ticket := self._on_the_way.get(key))}.values())

    def _compute(self, shared: SharedModel, call: ModelCall, on_answer: OnAnswer | None) -> list[Answer]:
        """What was not sent ahead, or failed there."""
        found: dict[int, Answer] = {}
        failure = self._failure_of(call)
        if failure is None:
            found = self.send(shared, call)
            self._crew.wait(self._tickets(call.keys), self._stop, self._send_more)
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


class AnsweredAhead:
    """A model in whose place workers answer, where its calls are known before they are made."""

    def __init__(self, model: CachedModel, opening: ModelOpening, crew: Crew, stop: Stop) -> None:
        self._shared = SharedModel(opening, model)
        self._sent = SentCalls(crew, stop, marks=False)  # a teacher's answers are not compared by their seconds
        self.model = self._sent.answered(self._shared)

    def expect(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Send what the cache lacks of a call that the model is going to get."""
        for call in self._sent.missing(self._shared.model, prompts, decoding):
            self._sent.send(self._shared, call)
