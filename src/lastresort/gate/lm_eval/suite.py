"""Tasks of lm-eval as a further suite: a pilot of the base, then the same documents for both models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lastresort.errors import DataError
from lastresort.evals.evidence.noninferiority import items_needed
from lastresort.gate.drawing import DrawnItems, draw
from lastresort.gate.from_logs import changed_items
from lastresort.gate.lm_eval.asking import VERSION, DocumentChunk, DocumentsToAsk, HarnessAnswers, ask_each
from lastresort.gate.lm_eval.tasks import Documents, MeasuredTasks
from lastresort.gate.logs.logged import LoggedMeasure, PairedMeasure, pair_measures
from lastresort.gate.plans import FEWEST, MOST, QUICK_ITEMS
from lastresort.gate.suites.asking import AnswerBatches
from lastresort.gate.suites.suite import SideName
from lastresort.gate.verdict.compare import NOTHING_SAID, SPREAD, judge_measure, uninformative_measure, why_no_headroom
from lastresort.models.protocol import Model
from lastresort.records.gate import GateSpent, ItemsAsked, SkippedMeasure, SuiteFound, UninformativeMeasure
from lastresort.records.responses import SuiteAnswers
from lastresort.records.uninformative import FewDocuments, Unusable, WhyUninformative
from lastresort.report.words.gate import of_documents
from lastresort.stop import NEVER, Stop
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.gate.scored import GateSettings


@dataclass
class _Part:
    """The state of one part. why: why a log is uninformative, by its name; "" stands for the whole part."""

    tasks: MeasuredTasks
    documents: Documents
    why: dict[str, WhyUninformative] = field(default_factory=dict)
    pilot_items: int = 0
    drawn: DrawnItems = field(default_factory=lambda: DrawnItems((), 0))
    answers: dict[SideName, HarnessAnswers] = field(default_factory=dict)

    def cannot_be_used(self, fault: DataError) -> None:
        self.why[""] = Unusable(message=str(fault))
        self.drawn = DrawnItems((), 0)

    @contextmanager
    def faults(self) -> Iterator[None]:
        """A DataError makes the part uninformative."""
        try:
            yield
        except DataError as fault:
            self.cannot_be_used(fault)


class LmEvalSuite:
    """Asks by itself while a gate has one of its two models open.

    name: as in the task's `general`. margin: the accepted loss of each of its measures. parts: its tasks, one or several
    measures.

    training_texts: documents too similar to one of them are skipped. A task whose scores cannot be used, or that asked the two
    models different things, is UNINFORMATIVE: it holds a model back and does not end a climb.
    """

    def __init__(
        self,
        name: str,
        margin: float,
        parts: Sequence[MeasuredTasks],
        settings: GateSettings,
        training_texts: Sequence[str],
    ) -> None:
        self.name, self._margin, self._settings, self._texts = name, margin, settings, training_texts
        self._parts = [_Part(part, Documents(name, part)) for part in parts]

    @property
    def measures(self) -> int:
        """How many it has."""
        return len(self._parts)

    @property
    def spent(self) -> GateSpent:
        answers = [side for part in self._parts for side in part.answers.values()]
        return GateSpent(
            seconds=sum(side.seconds for side in answers),
            asked_now=sum(side.new for side in answers),
            tokens_in=sum(side.tokens_in for side in answers),
            tokens_out=sum(side.tokens_out for side in answers),
        )

    def answer(
        self,
        side: SideName,
        model: Model,
        kept: SuiteAnswers,
        power: float,
        progress: Progress,
        stop: Stop = NEVER,
        answered: AnswerBatches[DocumentChunk] | None = None,
    ) -> None:
        """Ask the base, which comes first, or the tuned model. power: to plan each measure for. stop: checked after every batch,
        which is kept by then. answered: who answers, None for the model itself.

        The pilots of all parts go first, so that workers have more than one to do.
        """

        def ask_parts(parts: Sequence[tuple[_Part, DocumentsToAsk]]) -> Iterator[tuple[_Part, HarnessAnswers]]:
            documents = [documents for _, documents in parts]
            results = ask_each(_local(model), self.name, documents, kept, progress, stop, answered)
            for (part, _), answers in zip(parts, results, strict=True):
                if isinstance(answers, DataError):
                    part.cannot_be_used(answers)
                else:
                    yield part, answers

        if side == "base":
            for part, pilot in ask_parts([*self._pilots()]):
                self._plan(part, pilot, power, progress)
        for part, answers in ask_parts([*self._drawn_documents(side)]):
            part.answers[side] = answers

    def judge(self) -> list[SuiteFound]:
        """The finding of each measure, after both models answered."""
        return [measure for part in self._parts for measure in self._judge(part)]

    def _pilots(self) -> Iterator[tuple[_Part, DocumentsToAsk]]:
        for part in self._parts:
            with part.faults():
                items = part.documents.pilot()
                part.pilot_items = len(items)
                yield part, DocumentsToAsk(part.tasks, items, f"{self._name(part)}: a pilot of the base")

    def _drawn_documents(self, side: SideName) -> Iterator[tuple[_Part, DocumentsToAsk]]:
        for part in self._parts:
            if part.drawn.items:
                yield part, DocumentsToAsk(part.tasks, part.drawn.items, f"{side}: {self._name(part)}")

    def _plan(self, part: _Part, pilot: HarnessAnswers, power: float, progress: Progress) -> None:
        """What the base has to lose, and which documents to ask."""
        part.why = {log.name: why for log in pilot.logs if (why := self._why_no_headroom(log))}
        if not pilot.logs:
            part.why[""] = FewDocuments()
        if len(part.why) >= max(1, len(pilot.logs)):
            return
        n_documents = self._n_documents(pilot.logs, power)
        with part.faults():
            part.drawn = draw(part.documents, self._settings.seed, n_documents, self._texts)
            n = len(part.drawn.items)
            seconds = 2 * n * pilot.seconds / part.pilot_items
            progress.say(of_documents(self._name(part), n, seconds))

    def _why_no_headroom(self, log: LoggedMeasure) -> WhyUninformative | None:
        scores = [item.score for item in log.items]
        guessing = [item.chance or 0.0 for item in log.items]  # unknown as for answers in words
        return why_no_headroom(scores, chance=fmean(guessing or [0.0]), margin=self._margin)

    def _n_documents(self, logs: Sequence[LoggedMeasure], power: float) -> int:
        """How many documents; a part with several measures needs as many for each."""
        binary = all(item.score in (0.0, 1.0) for log in logs for item in log.items)
        needed = items_needed(self._margin, SPREAD[binary], power=power, alpha=self._settings.alpha, binary=binary)
        most = QUICK_ITEMS[self._settings.alpha] if self._settings.quick else MOST
        return math.ceil(min(max(needed, FEWEST), most)) * len(logs)

    def _judge(self, part: _Part) -> list[SuiteFound]:
        if "" in part.why or len(part.answers) < 2:
            return [self._uninformative(part, self._name(part), *part.why.values())]
        tuned_logs = {log.name: log for log in part.answers["tuned"].logs}
        single = len(part.answers["base"].logs) == 1
        return [
            self._judge_log(part, log, tuned_logs, self._name(part) if single else f"{self.name}/{_task(log)}")
            for log in part.answers["base"].logs
        ]

    def _judge_log(
        self, part: _Part, base: LoggedMeasure, tuned_logs: Mapping[str, LoggedMeasure], name: str
    ) -> SuiteFound:
        try:
            measure = pair_measures(base, tuned_logs[base.name])
        except DataError as fault:
            return self._uninformative(part, name, Unusable(message=str(fault)))
        finding = self._test(name, measure, part.why.get(base.name))
        return finding.replaced(asked=self._items_asked(part), changed=changed_items(measure), notes=measure.notes)

    def _test(self, name: str, measure: PairedMeasure, why: WhyUninformative | None) -> SuiteFound:
        return judge_measure(
            name,
            self.name,
            measure.pairs,
            margin=self._margin,
            binary=measure.binary,
            alpha=self._settings.alpha,
            uninformative=why,
            seed=self._settings.seed,
        )

    def _uninformative(self, part: _Part, name: str, *why: WhyUninformative) -> SuiteFound:
        return uninformative_measure(name, self.name, margin=self._margin, why=why or (NOTHING_SAID,)).replaced(
            asked=self._items_asked(part)
        )

    def _items_asked(self, part: _Part) -> ItemsAsked:
        return ItemsAsked(
            version=VERSION,
            items=len(part.drawn.items),
            left_out=0,
            passed_over=part.drawn.passed_over,
            pilot_items=part.pilot_items,
        )

    def _name(self, part: _Part) -> str:
        return self.name if len(self._parts) == 1 else f"{self.name}/{part.tasks.name}"


def _task(log: LoggedMeasure) -> str:
    return log.name.partition(":")[2]


def _local(model: Model) -> Any:
    """Only models with local weights get such a suite."""
    from lastresort.models.local import LocalModel

    assert isinstance(model, LocalModel)
    return model


FurtherSuite = LmEvalSuite | SkippedMeasure | UninformativeMeasure
"""One of the task's `general`: what is found already where the task leaves it out, or it cannot run here."""
