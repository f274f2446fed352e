"""A model in whose place workers answer: calls that are known before they are made are sent ahead, several at once.

The answers go into the model's cache, and whoever makes the calls finds them there, in its own order. So what follows from them
does not depend on who was quicker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lastresort.evals.measure import JobFailure
from lastresort.models.cached import CachedModel, ModelCall
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.scale.crew import BATCH_S, NOTICE_S, Crew, JobKind, Ticket
from lastresort.scale.work import BatchJob, JobAnswers, JobModel
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding

CALLS = JobKind("batch", 1, BATCH_S)  # each may take minutes: the next one goes to whichever worker is free first


class AnsweredAhead:
    """model: open here, too. opening: how workers open it. stop: looked at while answers are waited for."""

    def __init__(self, model: CachedModel, opening: ModelOpening, crew: Crew, stop: Stop) -> None:
        self._kept, self._job_model = model, JobModel.of(opening, model)
        self._crew, self._stop = crew, stop
        self._on_the_way: dict[str, Ticket] = {}  # by key of an answer
        self._failed: dict[str, JobFailure] = {}  # by key of an answer that did not come
        self.model = model.computed_elsewhere(self._compute, self._wait_for)

    def expect(self, prompts: Sequence[Prompt], decoding: Decoding) -> None:
        """Send what the cache lacks of a call that the model is going to get."""
        for call in self._kept.calls(prompts, decoding, self._on_the_way.keys()):
            self._send(call, {})

    def _wait_for(self, keys: Sequence[str]) -> None:
        tickets = list({id(ticket): ticket for key in keys if (ticket := self._on_the_way.get(key))}.values())
        self._crew.wait(tickets, self._stop, lambda: None)

    def _compute(self, call: ModelCall, on_answer: OnAnswer | None) -> list[Answer]:
        """What was not expected, or failed there."""
        found: dict[int, Answer] = {}
        if not any(key in self._failed for key in call.keys):
            self._crew.wait([self._send(call, found)], self._stop, lambda: None)
            for place, answer in found.items():
                if on_answer is not None:
                    on_answer(place, answer)
        failures = [failure for key in call.keys if (failure := self._failed.pop(key, None)) is not None]
        if failures:
            raise failures[0].error()
        return [found[place] for place in range(len(call.prompts))]

    def _send(self, call: ModelCall, found: dict[int, Answer]) -> Ticket:
        """found: where the answers go, besides the cache."""

        def arrived(came: JobAnswers[int, Answer]) -> None:
            for key in call.keys:
                self._on_the_way.pop(key, None)
            share = self._crew.share
            found.update({place: replace(one, seconds=one.seconds * share) for place, one in came.answers.items()})
            self._kept.keep(call, found)
            if came.failure is not None:
                missing = [key for place, key in enumerate(call.keys) if place not in found]
                self._failed.update(dict.fromkeys(missing or call.keys, came.failure))

        self._crew.count_room(NOTICE_S)
        ticket = self._crew.submit(BatchJob.of(self._job_model, call), arrived)
        self._on_the_way.update(dict.fromkeys(call.keys, ticket))
        return ticket
