"""Workers that answer for the two models of a gate; what comes back is kept and compared as if this process had answered.

A batch of a suite is a job: it goes to a worker with all its rounds, since each depends on the replies before it, and with its
questions about likelihoods. A look needs all its batches, whatever their suite, so no suite waits for the one before it; nothing
beyond the look is sent.

A chunk of documents of lm-eval is a job, too, since what it asks does not depend on replies. lm-eval makes the requests and scores
the replies here, so neither tasks nor their code travel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from lastresort.errors import PrerequisiteError
from lastresort.evals.measure import JobFailure
from lastresort.gate.lm_eval.asking import (
    DocumentChunk,
    HarnessReplies,
    HarnessRequest,
    harness_version,
    reply,
)
from lastresort.gate.probes.format_leak import FormatLeak
from lastresort.gate.sides import GateSide
from lastresort.gate.suites.asking import AnswerBatches, Answered, SuiteBatch, answer_batch
from lastresort.gate.suites.suite import SideName, Suite, SuiteItem
from lastresort.gate.target import MeasuredBy, alone
from lastresort.models.open import ModelOpening, local_model
from lastresort.models.protocol import Model
from lastresort.records.responses import KeptAnswer
from lastresort.scale.crew import Crew, Ticket
from lastresort.scale.executor import CrewExecutor, OneModel
from lastresort.scale.work import JobAnswers, JobModel, WorkerJob, is_loaded
from lastresort.stop import Stop

B = TypeVar("B", SuiteBatch, DocumentChunk)
MakeJob = Callable[[JobModel, B], WorkerJob[str, Any]]


@dataclass(frozen=True, slots=True)
class SuiteJob:
    """Items of a suite. The key of an answer is the id of its item."""

    model: JobModel
    suite: Suite
    items: tuple[SuiteItem, ...]

    @classmethod
    def of(cls, model: JobModel, batch: SuiteBatch) -> SuiteJob:
        return cls(model, _asking(batch.suite), tuple(batch.todo))

    def answered_by(self, model: Model, arrived: Callable[[str, KeptAnswer], None]) -> None:
        """All at once: a batch is the unit of resuming."""
        for name, answer in answer_batch(model, self.suite, self.items).items():
            arrived(name, answer)


@dataclass(frozen=True, slots=True)
class HarnessJob:
    """Requests of lm-eval. suite: whose they are, for errors. version: of the driver's lm-eval. There is one answer, with all
    replies, under the key "".
    """

    model: JobModel
    suite: str
    version: str
    requests: tuple[HarnessRequest, ...]

    @classmethod
    def of(cls, model: JobModel, chunk: DocumentChunk) -> HarnessJob:
        return cls(model, chunk.suite, harness_version(), chunk.todo)

    def answered_by(self, model: Model, arrived: Callable[[str, HarnessReplies], None]) -> None:
        """Raises PrerequisiteError for another lm-eval than the driver's, which may ask the model otherwise."""
        version, local = harness_version(), local_model(model)
        assert local is not None  # only models with local weights get such a suite
        if version != self.version:
            raise PrerequisiteError(
                f"the worker has lm-eval {version}" if version else "lm-eval is not installed",
                expected=f"lm-eval {self.version}, as the driver has",
                remedy="Use machines with the same versions on all of them.",
            )
        arrived("", reply(local, self.suite, self.requests))


@dataclass(frozen=True, slots=True)
class GateWorkers:
    """openings: of the models that workers can load."""

    crew: Crew
    openings: Mapping[SideName, ModelOpening]

    @classmethod
    def of(cls, crew: Crew | None, base: GateSide, tuned: GateSide) -> GateWorkers | None:
        """None where there is no crew."""
        if crew is None:
            return None
        sides: dict[SideName, GateSide] = {"base": base, "tuned": tuned}
        openings = {name: opening for name, side in sides.items() if (opening := _loaded_opening(side)) is not None}
        return cls(crew, openings)

    def suites(self, side: SideName) -> AnswerBatches[SuiteBatch] | None:
        """Their answers to suites, None where this process alone can answer."""
        return self._answers(side, SuiteJob.of)

    def documents(self, side: SideName) -> AnswerBatches[DocumentChunk] | None:
        """Their replies to lm-eval, None where this process alone can answer."""
        return self._answers(side, HarnessJob.of)

    def _answers(self, side: SideName, job: MakeJob[B]) -> AnswerBatches[B] | None:
        opening = self.openings.get(side)
        if opening is None:
            return None

        def answer(model: Model, batches: Iterator[B], stop: Stop) -> Answered[B]:
            return _SentAhead(self.crew, JobModel.of(opening, model), batches, job, stop).answered()

        return answer

    def measured_by(self, side: SideName) -> MeasuredBy:
        """Measures the task's test set with their answers."""
        opening = self.openings.get(side)
        if opening is None:
            return alone
        return lambda local, model: CrewExecutor(local, OneModel(model, opening), self.crew)


def loaded_openings(sides: Iterable[GateSide]) -> list[ModelOpening]:
    """Of the models that workers can load."""
    return [opening for side in sides if (opening := _loaded_opening(side)) is not None]


def _loaded_opening(side: GateSide) -> ModelOpening | None:
    return side.opening if side.opening is not None and is_loaded(side.opening.name) else None


def _asking(suite: Suite) -> Suite:
    """The suite, to ask items that are drawn: without the task's inputs, which are the user's and need not lie on every machine."""
    return replace(suite, inputs=("",)) if isinstance(suite, FormatLeak) else suite


@dataclass(slots=True)
class _SentBatch(Generic[B]):
    batch: B
    tickets: list[Ticket] = field(default_factory=list)
    failure: JobFailure | None = None


class _SentAhead(Generic[B]):
    """The batches of one call of `ask_each`, a few for each worker at a time. job: makes a job of one that has something to do."""

    def __init__(
        self,
        crew: Crew,
        model: JobModel,
        batches: Iterator[B],
        job: MakeJob[B],
        stop: Stop,
    ) -> None:
        self._crew, self._model, self._stop = crew, model, stop
        self._batches: Iterator[B] = batches
        self._job: MakeJob[B] = job
        self._sent: deque[_SentBatch[B]] = deque()
        self._has_counted = False

    def answered(self) -> Answered[B]:
        try:
            self._send_ahead()
            while self._sent or self._send_next():
                oldest = self._sent[0]
                self._crew.wait(oldest.tickets, self._stop, self._send_ahead)
                if oldest.failure is not None:
                    raise oldest.failure.error()
                self._sent.popleft()
                yield oldest.batch
        finally:
            self._crew.leave([ticket for batch in self._sent for ticket in batch.tickets])

    def _send_ahead(self) -> None:
        while self._stop.requested() is None and self._crew.room() > 0 and self._send_next():
            pass

    def _send_next(self) -> bool:
        """Whether there was another batch."""
        batch = next(self._batches, None)
        if batch is None:
            return False
        sent = _SentBatch(batch)
        self._sent.append(sent)
        if batch.todo:
            if not self._has_counted:  # a gate whose answers are kept needs no cluster
                self._crew.count_room()
                self._has_counted = True
            sent.tickets = [self._crew.submit(self._job(self._model, batch), self._take_answers(sent))]
        return True

    def _take_answers(self, sent: _SentBatch[B]) -> Callable[[JobAnswers[str, Any]], None]:
        def take(result: JobAnswers[str, Any]) -> None:
            if result.failure is not None:
                sent.failure = result.failure
                return
            # The machine's seconds are what sets the size of a quick gate, and what later gates find.
            share = self._crew.share
            sent.batch.take(
                {name: replace(answer, seconds=answer.seconds * share) for name, answer in result.answers.items()}
            )

        return take
