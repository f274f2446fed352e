"""Climbs without models whose first gate may be followed by repairs: how often a model passes that is truly as it is said here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gate_looks import looked_gates, planned
from gate_simulation import GATES, Asked
from lastresort.after.repair.choose import RepairCandidate, best, findings_on, is_good
from lastresort.gate.verdict.decide import CLIMB_ALPHA, KINDS, RepairNeed
from lastresort.records.decision_parts import RepairMeasure

DRAW = 208  # items of the separate draw
ASKED = GATES[4]
BAR = 0.8


@dataclass(frozen=True, slots=True)
class Passed:
    """Shares of simulated climbs. first: shipped at once. repaired: shipped after a repair. rejected: by both gates, or by the
    first where no repair was good.
    """

    first: float
    repaired: float
    rejected: float

    @property
    def shipped(self) -> float:
        return self.first + self.repaired


def climbs(first: float, repairs: Sequence[float], *, runs: int, seed: int = 0) -> Passed:
    """first, repairs: what is truly lost of general, before and after each repair; nothing else is lost. Gates look as they go."""
    sizes = planned(ASKED, CLIMB_ALPHA)
    verdicts = _verdicts(first, sizes, runs, seed)
    second = [_verdicts(loss, sizes, runs, seed + 1 + number) for number, loss in enumerate(repairs)]
    generator = np.random.default_rng(seed)
    shipped = rejected = 0
    for run in (run for run in range(runs) if verdicts[run] == "REJECT"):
        chosen = _chosen(repairs, generator)
        end = "REJECT" if chosen is None else second[chosen][run]
        shipped, rejected = shipped + (end == "SHIP"), rejected + (end == "REJECT")
    return Passed(verdicts.count("SHIP") / runs, shipped / runs, rejected / runs)


def _verdicts(loss: float, sizes: Sequence[int], runs: int, seed: int) -> list[str]:
    losses = [loss, *(0.0 for _ in ASKED[1:])]
    return list(looked_gates(ASKED, sizes, losses, alpha=CLIMB_ALPHA, runs=runs, seed=seed).verdicts)


def _chosen(repairs: Sequence[float], generator: np.random.Generator) -> int | None:
    """By the program's rules, dev drawn alike for all."""
    needed = RepairNeed((ASKED[0].name,), costly=False, kinds=KINDS)
    tried = []
    for number, loss in enumerate(repairs):
        dev = generator.binomial(100, 0.9) / 100
        measures = [_seen(one, loss if one is ASKED[0] else 0.0, generator) for one in ASKED]
        findings = findings_on(dev, measures, needed, bar=BAR, won=None)
        tried.append(RepairCandidate(str(number), dev, tuple(measures), is_good(findings)))
    found = best(tried)
    return None if found is None else int(found.system)


def _seen(one: Asked, loss: float, generator: np.random.Generator) -> RepairMeasure:
    won, lost = (one.share - loss) / 2, (one.share + loss) / 2
    b, c, _ = generator.multinomial(DRAW, [won, lost, 1 - won - lost])
    difference = (b - c) / DRAW
    return RepairMeasure(
        name=one.name,
        suite=one.name,
        base=0.8,
        tuned=0.8 + difference,
        difference=difference,
        margin=one.margin,
        n=DRAW,
        counts=True,
    )
