"""The suites that this package brings, as plans of a gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lastresort.evals.probes import format_leak as leak
from lastresort.evals.probes import headroom as yielding
from lastresort.evals.probes.sycophancy import Sycophancy
from lastresort.evals.scorers.scorer import Output
from lastresort.evals.suites.general import KEY, General, score
from lastresort.evals.suites.headroom import Pilot, headroom
from lastresort.evals.suites.pilot_looks import looks_at, next_looks
from lastresort.evals.suites.strata import CHOSEN_STRATA, CONSTRAINT_STRATA, CONSTRAINTS, WRITTEN_STRATA, Stratum
from lastresort.evals.suites.suite import Item
from lastresort.ladder.gate.plans import PILOT_SEED, Known, Plain, Plan, Ready, Said

LEAK_ITEMS = 80
QUICK_SHOWN = 4  # of so many facts one is asked in the conditions that no measure is made from


@dataclass(frozen=True)
class GeneralPlan:
    """The general suite, over those strata at which the pilot shows this base to have something to lose."""

    strata: tuple[Stratum, ...]
    quick: bool = False

    @property
    def name(self) -> str:
        return "general"

    @cached_property
    def pilot(self) -> General:
        return General(self.strata)

    @property
    def pilot_items(self) -> int:
        """All looks, without the levels of constraints beyond the first: few bases get there."""
        asked = [one for one in self.strata if one.family not in CONSTRAINTS or one.level == 1]
        return sum(looks_at(stratum, quick=self.quick)[-1] for stratum in asked)

    def look(self, asked: Sequence[Item], said: Said, margin: float) -> Sequence[Item]:
        before = Counter(Stratum(item.family, item.level) for item in asked)
        pilots = {pilot.stratum: pilot for pilot in _pilots(self.strata, said)}
        looks = next_looks(self.strata, before, pilots, margin, quick=self.quick)
        return [
            item
            for stratum, stop in looks.items()
            for item in self.pilot.of_stratum(stratum, PILOT_SEED, before[stratum], stop)
        ]

    def ready(self, said: Said, margin: float) -> Ready:
        found = headroom(_pilots(self.strata, said), margin=margin)
        suite = General(found.used) if found.used else self.pilot
        return Ready(suite, {} if found.informative else {measure.name: found.reason for measure in suite.measures})


@dataclass(frozen=True)
class LeakPlan:
    """Format leak, in those conditions in which the pilot shows this base to have something to lose."""

    suite: leak.FormatLeak
    pilot_items: int = LEAK_ITEMS

    @property
    def name(self) -> str:
        return self.suite.name

    @property
    def pilot(self) -> leak.FormatLeak:
        return leak.for_pilot(self.suite)

    def look(self, asked: Sequence[Item], said: Said, margin: float) -> Sequence[Item]:
        return () if asked else self.pilot.draw(PILOT_SEED, 0, self.pilot_items)

    def ready(self, said: Said, margin: float) -> Ready:
        if why := leak.lacks(self.pilot, said, margin):
            return Ready(self.suite, {measure.name: why for measure in self.suite.measures})
        return Ready(replace(self.suite, conditions=leak.conditions_with_headroom(self.pilot, said, margin)))


def general(known: Known) -> Plan:
    """Choice questions by likelihood where both models tell it; where not and in a full gate choice questions in words, and
    instructions with constraints. These take most of a pilot's time, and a small model keeps hardly any of them.
    """
    if known.scores and known.quick:
        return GeneralPlan(CHOSEN_STRATA, known.quick)
    return GeneralPlan((*(CHOSEN_STRATA if known.scores else ()), *CONSTRAINT_STRATA, *WRITTEN_STRATA), known.quick)


def sycophancy(known: Known) -> Plan:
    suite = Sycophancy(mode="chosen" if known.scores else "written", shown_every=QUICK_SHOWN if known.quick else 1)
    return Plain(suite, lacks=yielding.lacks)


def format_leak(known: Known) -> Plan:
    """Base and tuned are asked by the prompt of the tuned system, with inputs of the task that were not trained on."""
    form = Output(known.task.output.json_schema, known.task.output.choices)
    return LeakPlan(leak.FormatLeak(form, known.design, known.inputs, known.answer_tokens))


def _pilots(strata: Sequence[Stratum], said: Said) -> list[Pilot]:
    """What the base scored, a stratum at a time; those of which no item fits its context are left out."""
    right: dict[tuple[str, int], list[float]] = {}
    for item, transcript in said:
        right.setdefault((item.family, item.level), []).append(score(item, transcript[KEY]))
    asked = ((stratum, right.get((stratum.family, stratum.level), [])) for stratum in strata)
    return [Pilot(stratum, int(sum(scores)), len(scores)) for stratum, scores in asked if scores]
