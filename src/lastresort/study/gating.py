"""The gate of an adapter that a study trained, while the study still has it.

It is the gate of `lastresort gate`, but for its target: a study leaves the test set unused, so the target is dev, which the cell
has answered by then and on which a study chooses nothing. Both ways and all seeds are asked the same items, and the answers of the
base are kept, so only the first gate asks the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.climb.bar_test import BarRule, judge_so_far
from lastresort.climb.llm_judge import correction_by_labels
from lastresort.climb.prepare import PreparedTask
from lastresort.data.split import groups_of
from lastresort.gate.built_in import gate_forecast
from lastresort.gate.command import gate_sides
from lastresort.gate.scored import GateSettings
from lastresort.gate.sides import resolve_sides
from lastresort.gate.suites.asking import kept_answers
from lastresort.gate.target import PLAIN
from lastresort.gate.verdict.decide import Comparator, judge_target
from lastresort.records.gate import GateFindings, TargetFound
from lastresort.records.measurement import ItemScore
from lastresort.rungs.forecast import Forecast
from lastresort.rungs.rung import Workbench
from lastresort.study.grid import Cell, hash_of
from lastresort.study.rows import CellGate, CellRow
from lastresort.systems.system import System
from lastresort.types import LabelledProgress, Progress, StudyGate

SEED = 0  # of the items
DEPENDS_ON = ("bar", "confidence", "general", "keep")
"""Keys of the task file on which a verdict depends, and the rest of a row does not."""


@dataclass(frozen=True, slots=True)
class StudyGating:
    """How each cell that trains is gated. alone: whether nothing trains meanwhile."""

    prepared: PreparedTask
    mode: StudyGate
    alone: bool = True

    def key(self, key: str) -> str:
        """A hash of all that the gate of a cell depends on. key: of the cell."""
        resolved = self.prepared.task.resolved()
        return hash_of({"cell": key, "mode": self.mode, "seed": SEED, **{name: resolved[name] for name in DEPENDS_ON}})

    def run(
        self, bench: Workbench, cell: Cell, key: str, system: System, items: Sequence[ItemScore], base: CellRow
    ) -> CellGate:
        """items: of dev, as the adapter answered them. base: the row of the base prompt. Raises StoppedError where it stopped:
        the answers so far are kept.
        """
        quick = self.mode == "quick"
        settings = GateSettings(SEED, quick)
        target = self._target(bench, items, base, settings.alpha)
        bench.models.close()  # the gate opens base and tuned model itself
        assert system.adapter is not None, "the cell trained one"
        assert bench.shared is not None
        folder = system.adapter.absolute()
        kwargs = bench.task.chat_template_kwargs
        sides = resolve_sides(bench.models.tuned_name, str(folder), kwargs, bench.task.folder)
        progress = LabelledProgress(bench.progress, f"{cell.label}, gate")
        with kept_answers(bench.shared, scores=sides.base.scores) as kept:
            found = gate_sides(
                self.prepared, sides, system, target, settings, kept, progress, bench.stop, together=self.alone
            )
        return CellGate(key=self.key(key), mode=self.mode, seed=SEED, **dict(without_examples(found)))

    def _target(self, bench: Workbench, items: Sequence[ItemScore], base: CellRow, alpha: float) -> TargetFound:
        """Whether the adapter meets the bar on dev, and is better than the base with the plain prompt."""
        task, binary, dev = bench.task, bench.scorer.binary, bench.dev
        by = correction_by_labels(task, bench.scorer, bench.progress, bench.stop)
        judgement = judge_so_far(BarRule(task.bar, binary, 1 - task.confidence, by), items, dev)
        assert judgement is not None, "all items were answered"
        tuned = [item.score for item in items]
        comparator = Comparator(PLAIN, base.scores, tuned, binary, groups_of(dev))
        return judge_target(judgement, comparator, alpha=alpha, seed=task.split.seed)


def without_examples(found: GateFindings) -> GateFindings:
    """A row keeps figures; what was asked and answered would make a file of thousands of texts."""
    suites = tuple(one.replaced(changed=(), strata=()) for one in found.suites)
    return found.replaced(suites=suites, failure_modes=())


def forecast_of_gates(prepared: PreparedTask, mode: StudyGate, adapters: int, progress: Progress) -> Forecast:
    """Of so many adapters of one base, whose answers are kept."""
    suites = gate_forecast(
        prepared, quick=mode == "quick", alpha=GateSettings().alpha, progress=progress, adapters=adapters
    )
    return sum((suite.forecast.unscored() for suite in suites), start=Forecast(0, 0, 0, 0.0, 0.0))
