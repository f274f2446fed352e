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
from lastresort.gate.lm_eval.asking import VERSION, AnswerChunks, DocumentsToAsk, HarnessAnswers, ask_each
from lastresort.gate.lm_eval.tasks import Documents, MeasuredTasks
from lastresort.gate.logs.logged import LoggedMeasure, PairedMeasure, pair_measures
from lastresort.gate.plans import FEWEST, MOST, QUICK_ITEMS
from lastresort.gate.suites.suite import SideName
from lastresort.gate.verdict.compare import NOTHING_SAID, SPREAD, judge_measure, uninformative_measure, why_no_headroom
from lastresort.models.protocol import Model
from lastresort.records.gate import GateSpent, ItemsAsked, SuiteFound
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
    """name: as in the task's `general`. margin: the accepted loss of each of its measures. parts: its tasks, one or several
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
        return len(self._parts)

    @property
    def spent(self) -> GateSpent:
        answers = [side for one in self._parts for side in one.answers.values()]
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
        answered: AnswerChunks | None = None,
    ) -> None:
        """The pilots of all parts go first, so that workers have more than one to do."""

        def asked(parts: Sequence[tuple[_Part, DocumentsToAsk]]) -> Iterator[tuple[_Part, HarnessAnswers]]:
            documents = [documents for _, documents in parts]
            found = ask_each(_local(model), self.name, documents, kept, progress, stop, answered)
            for (one, _), answers in zip(parts, found, strict=True):
                if isinstance(answers, DataError):
                    one.cannot_be_used(answers)
                else:
                    yield one, answers

        if side == "base":
            for one, pilot in asked([*self._pilots()]):
                self._plan(one, pilot, power, progress)
        for one, answers in asked([*self._drawn(side)]):
            one.answers[side] = answers

    def judge(self, power: float) -> list[SuiteFound]:
        return [found for one in self._parts for found in self._judge(one, power)]

    def _pilots(self) -> Iterator[tuple[_Part, DocumentsToAsk]]:
        for one in self._parts:
            with one.faults():
                items = one.documents.pilot()
                one.pilot_items = len(items)
                yield one, DocumentsToAsk(one.tasks, items, f"{self._name(one)}: a pilot of the base")

    def _drawn(self, side: SideName) -> Iterator[tuple[_Part, DocumentsToAsk]]:
        for one in self._parts:
            if one.drawn.items:
                yield one, DocumentsToAsk(one.tasks, one.drawn.items, f"{side}: {self._name(one)}")

    def _plan(self, one: _Part, pilot: HarnessAnswers, power: float, progress: Progress) -> None:
        """What the base has to lose, and which documents to ask."""
        one.why = {log.name: why for log in pilot.logs if (why := self._why_no_headroom(log))}
        if not pilot.logs:
            one.why[""] = FewDocuments()
        if len(one.why) >= max(1, len(pilot.logs)):
            return
        wanted = self._wanted(pilot.logs, power)
        with one.faults():
            one.drawn = draw(one.documents, self._settings.seed, wanted, self._texts)
            n = len(one.drawn.items)
            seconds = 2 * n * pilot.seconds / one.pilot_items
            progress.say(of_documents(self._name(one), n, seconds))

    def _why_no_headroom(self, log: LoggedMeasure) -> WhyUninformative | None:
        scores = [item.score for item in log.items]
        return why_no_headroom(scores, chance=_chance(log), margin=self._margin)

    def _wanted(self, logs: Sequence[LoggedMeasure], power: float) -> int:
        """How many documents; a part with several measures needs as many for each."""
        binary = all(item.score in (0.0, 1.0) for log in logs for item in log.items)
        needed = items_needed(self._margin, SPREAD[binary], power=power, alpha=self._settings.alpha, binary=binary)
        most = QUICK_ITEMS[self._settings.alpha] if self._settings.quick else MOST
        return math.ceil(min(max(needed, FEWEST), most)) * len(logs)

    def _judge(self, one: _Part, power: float) -> list[SuiteFound]:
        if "" in one.why or len(one.answers) < 2:
            return [self._uninformative(one, self._name(one), *one.why.values())]
        after = {log.name: log for log in one.answers["tuned"].logs}
        single = len(one.answers["base"].logs) == 1
        return [
            self._judge_log(one, log, after, self._name(one) if single else f"{self.name}/{_task(log)}", power)
            for log in one.answers["base"].logs
        ]

    def _judge_log(
        self, one: _Part, base: LoggedMeasure, after: Mapping[str, LoggedMeasure], name: str, power: float
    ) -> SuiteFound:
        try:
            measure = pair_measures(base, after[base.name])
        except DataError as fault:
            return self._uninformative(one, name, Unusable(message=str(fault)))
        found = self._test(name, measure, one.why.get(base.name), power)
        return found.replaced(asked=self._items_asked(one), changed=changed_items(measure))

    def _test(self, name: str, measure: PairedMeasure, why: WhyUninformative | None, power: float) -> SuiteFound:
        return judge_measure(
            name,
            self.name,
            measure.pairs,
            margin=self._margin,
            binary=measure.binary,
            alpha=self._settings.alpha,
            uninformative=why,
            power=power,
            seed=self._settings.seed,
        )

    def _uninformative(self, one: _Part, name: str, *why: WhyUninformative) -> SuiteFound:
        return uninformative_measure(name, self.name, margin=self._margin, why=why or (NOTHING_SAID,)).replaced(
            asked=self._items_asked(one)
        )

    def _items_asked(self, one: _Part) -> ItemsAsked:
        return ItemsAsked(
            version=VERSION,
            items=len(one.drawn.items),
            left_out=0,
            passed_over=one.drawn.passed_over,
            pilot_items=one.pilot_items,
        )

    def _name(self, one: _Part) -> str:
        return self.name if len(self._parts) == 1 else f"{self.name}/{one.tasks.name}"


def _chance(log: LoggedMeasure) -> float:
    """The mean score of guessing, taken as 0 if unknown, as for answers in words."""
    return fmean(item.chance or 0.0 for item in log.items) if log.items else 0.0


def _task(log: LoggedMeasure) -> str:
    return log.name.partition(":")[2]


def _local(model: Model) -> Any:
    """Only models with local weights get such a suite."""
    from lastresort.models.local import LocalModel

    assert isinstance(model, LocalModel)
    return model
