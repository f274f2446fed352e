"""Which repairs are good, and which one is frozen, by dev and by what each seems to have lost.

The losses are measured on a separate draw of items, about facts that the second gate does not use: a choice made on a gate's own
items would flatter whatever is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.climb.prepare import PreparedTask
from lastresort.gate.built_in import suite_inputs, suite_plans
from lastresort.gate.document import spent_on
from lastresort.gate.drawing import training_texts
from lastresort.gate.plans import SuitePlan
from lastresort.gate.run import AskedBase, GateRunner
from lastresort.gate.scored import GateSettings, judge_suites
from lastresort.gate.sides import GateSides, refuse_other_rendering, resolve_sides
from lastresort.gate.suites.asking import KeptAnswers, kept_answers
from lastresort.gate.verdict.decide import CLIMB_ALPHA, RepairNeed
from lastresort.gate.workers import GateWorkers
from lastresort.records.decision_parts import RepairFinding, RepairFindingKind, RepairMeasure
from lastresort.records.events.after_test import RepairTried
from lastresort.records.gate import GENERAL, WORTH, GateSpent
from lastresort.rungs.rung import Workbench
from lastresort.scale.executor import crew_of
from lastresort.types import Judgement, LabelledProgress

LEFT = 0.5  # of its margin, which an offending measure may still seem to lose: the second gate has to exclude the whole


@dataclass(frozen=True, slots=True)
class RepairCandidate:
    """A repaired system. dev: its score there."""

    system: str
    dev: float
    measures: tuple[RepairMeasure, ...]
    good: bool


def findings_on(
    dev: float, measures: Sequence[RepairMeasure], needed: RepairNeed, *, bar: float, won: float | None
) -> tuple[RepairFinding, ...]:
    """What speaks against a repaired system; where nothing does, how little the offending measures lost.

    Good: dev at or above the bar; each offending measure seems to lose at most half of its margin, each other at most its margin;
    where the loss was too large for the gain, general loses at most half of what is won on dev. won: over the best prompt, None
    without one.
    """
    findings = [RepairFinding(kind="BELOW_BAR", value=dev, limit=bar)] if dev < bar else []
    for measure in measures:
        accepted = (measure.margin or 0.0) * (LEFT if measure.name in needed.offending else 1.0)
        if measure.counts and measure.lost > accepted:
            findings.append(_about("LOST_TOO_MUCH", measure, accepted))
    findings += [RepairFinding(kind="UNSEEN", measure=name) for name in _unseen(measures, needed)]
    lost = max((measure.lost for measure in measures if measure.suite == GENERAL), default=0.0)
    if needed.costly and won is not None and lost > max(0.0, WORTH * won):
        findings.append(RepairFinding(kind="NOT_WORTH", measure=GENERAL, value=lost, limit=won))
    if findings:
        return tuple(findings)
    offending = [measure for measure in measures if measure.name in needed.offending]
    return tuple(_about("LOST_LITTLE", measure, (measure.margin or 0.0) * LEFT) for measure in offending)


def is_good(findings: Sequence[RepairFinding]) -> bool:
    return all(finding.kind == "LOST_LITTLE" for finding in findings)


def _about(kind: RepairFindingKind, measure: RepairMeasure, accepted: float) -> RepairFinding:
    return RepairFinding(kind=kind, measure=measure.name, value=measure.lost, limit=accepted)


def _unseen(measures: Sequence[RepairMeasure], needed: RepairNeed) -> list[str]:
    """Offending measures that the separate draw says nothing about: those of fixed items, or without informative ones."""
    seen = {measure.name for measure in measures if measure.counts and measure.difference is not None}
    return [name for name in needed.offending if name not in seen]


def best(tried: Sequence[RepairCandidate]) -> RepairCandidate | None:
    """The good one with the highest dev score; of equal ones the one that loses least, then the first. None where none is good."""
    good = [repair for repair in tried if repair.good]
    return max(good, key=lambda one: (one.dev, -sum(max(0.0, m.lost) for m in one.measures)), default=None)


def goes_to_the_gate(test: Judgement, bar: float) -> bool:
    """Whether a second gate is worth it: the bar is met, or undecided with the estimate at or above it."""
    return test.outcome == "MET" or (test.outcome == "UNDECIDED" and test.score >= bar)


REPAIR_SEED = -2  # which no gate and no pilot uses


class RepairLosses:
    """The base against each repaired system, on a fixed number of items. The base answers once, and what that took counts
    with the first repair that is measured.
    """

    def __init__(self, bench: Workbench, prepared: PreparedTask) -> None:
        self._bench, self._prepared = bench, prepared
        self._settings = GateSettings(REPAIR_SEED, quick=True, alpha=CLIMB_ALPHA, facts="few", looks=False)
        self._base: AskedBase | None = None

    def of(self, folder: Path) -> tuple[tuple[RepairMeasure, ...], GateSpent]:
        """Of the system that is saved in this folder, by measure. Raises StoppedError where it stopped."""
        bench = self._bench
        assert bench.shared is not None
        bench.models.close()  # base and tuned model are opened here, one at a time
        sides = resolve_sides(bench.models.tuned_name, str(folder.absolute()), bench.task.chat_template_kwargs, folder)
        refuse_other_rendering(sides.base, sides.tuned)
        plans = self._plans(sides)
        with kept_answers(bench.shared, scores=sides.base.scores) as answers:
            runner = self._runner(answers, sides)
            if self._base is None:
                required = [plan for plan in plans if bench.task.keep[plan.name] != "skip"]
                self._base = runner.ask_base(sides.base, required, bench.task.keep)
            scored = runner.ask_tuned(sides.tuned, self._base)
        measures = tuple(
            RepairMeasure.from_fields_of(measure, counts=measure.verdict not in ("UNINFORMATIVE", "SKIPPED"))
            for measure in judge_suites(plans, scored, bench.task.keep, self._settings)
        )
        base = [suite.base for suite in scored]
        if any(tried.measures for tried in bench.record.all(RepairTried)):
            base = []
        return measures, spent_on([*base, *(suite.tuned for suite in scored)])

    def _plans(self, named: GateSides) -> list[SuitePlan]:
        assert named.system is not None
        return suite_plans(suite_inputs(self._prepared, named.scores, named.system.prompt, quick=True))

    def _runner(self, kept: KeptAnswers, named: GateSides) -> GateRunner:
        texts = training_texts(self._prepared)
        progress, stop = LabelledProgress(self._bench.progress, "repair"), self._bench.stop
        workers = GateWorkers.of(crew_of(self._bench.executor), named.base, named.tuned)
        return GateRunner(self._settings, kept, texts, progress, None, "repair", stop=stop, workers=workers)
