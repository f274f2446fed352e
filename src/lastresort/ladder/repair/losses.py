"""What a repaired system seems to have lost, on a draw of items that no gate scores, about facts that the second gate does not ask
of: a choice made on a gate's own items would flatter whatever is chosen.
"""

from __future__ import annotations

from pathlib import Path

from lastresort.evals.gate import SuiteFound
from lastresort.ladder.gate.command import ANSWERS
from lastresort.ladder.gate.drawing import training_texts
from lastresort.ladder.gate.in_climb import WithinLimits
from lastresort.ladder.gate.named import Named, named_sides
from lastresort.ladder.gate.plans import Plan
from lastresort.ladder.gate.run import Asking, Scored, Settings, suites_found
from lastresort.ladder.gate.sides import refuse_other_rendering
from lastresort.ladder.gate.suites import known_of, plans_of
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.repair.judging import Measured
from lastresort.ladder.repair.when import CLIMB_ALPHA
from lastresort.records.suite_answers import SuiteAnswers
from lastresort.rungs.rung import Workbench

REPAIR_SEED = -2  # of no gate and no pilot
POWER = 0.8  # of no use here: no size is planned


class Losses:
    """The base beside one repaired system after the other; as many items as of a quick gate. The base is asked once."""

    def __init__(self, bench: Workbench, prepared: Prepared) -> None:
        self._bench, self._prepared = bench, prepared
        self._settings = Settings(REPAIR_SEED, quick=True, alpha=CLIMB_ALPHA, facts="few")
        self._base: list[Scored] | None = None

    def of(self, folder: Path) -> tuple[Measured, ...]:
        """Of the system that is saved in this folder, by measure. Raises StoppedError where asking stopped."""
        bench = self._bench
        assert bench.shared is not None
        bench.models.close()  # base and tuned model are opened here, one at a time
        named = named_sides(bench.models.tuned_name, str(folder.absolute()), bench.task.chat_template_kwargs, folder)
        refuse_other_rendering(named.base, named.tuned)
        plans = self._plans(named)
        with SuiteAnswers(bench.shared / ANSWERS) as kept:
            asking = self._asking(kept)
            if self._base is None:
                required = [plan for plan in plans if bench.task.keep[plan.name] != "skip"]
                self._base, _, _ = asking.base(named.base, required, bench.task.keep)
            scored, _ = asking.tuned(named.tuned, self._base)
        return tuple(map(_measured, suites_found(plans, scored, bench.task.keep, self._settings, POWER)))

    def _plans(self, named: Named) -> list[Plan]:
        assert named.system is not None
        return plans_of(
            known_of(self._prepared, named.base.scores and named.tuned.scores, named.system.prompt, quick=True)
        )

    def _asking(self, kept: SuiteAnswers) -> Asking:
        texts = training_texts(self._prepared)
        progress = WithinLimits(self._bench.progress, self._bench.check_budget, "repair")
        return Asking(self._settings, kept, texts, progress, None, "Each repair")


def _measured(found: SuiteFound) -> Measured:
    counts = found.verdict not in ("UNINFORMATIVE", "SKIPPED")
    return Measured(
        found.name, found.suite, found.base, found.tuned, found.difference, found.margin, found.n, counts=counts
    )
