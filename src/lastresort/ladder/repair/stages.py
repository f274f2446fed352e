"""The repairs of a training in stages, the cheapest first: the next stage is tried only where nothing was good before. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lastresort.ladder.repair.when import Kind
from lastresort.rungs.milder import Training

SCALES = (0.75, 0.5, 0.25)
REPLAY = (0.1, 0.25)
SLOWER = 1 / 3


@dataclass(frozen=True, slots=True)
class Repair:
    """setting: the scale; the epoch or step of a checkpoint; the share of replay; the learning rate."""

    kind: Kind
    setting: float

    @property
    def key(self) -> str:
        """Of its note in the record."""
        return f"{self.kind} {self.setting:g}"


def stages(kinds: Collection[Kind], training: Training | None) -> list[list[Repair]]:
    """training: what the system came of, None where its rung cannot tell; then there are scales alone."""
    found = [[Repair("scale", scale) for scale in SCALES]]
    if training is not None:
        found.append([Repair("fewer_epochs", number) for number, _ in training.earlier])
        if training.replay is not None:
            found += [[Repair("replay", share)] for share in REPLAY if share > training.replay]
        found.append([Repair("learning_rate", rounded(training.learning_rate * SLOWER))])
    wanted = ([repair for repair in stage if repair.kind in kinds] for stage in found)
    return [stage for stage in wanted if stage]


def rounded(rate: float) -> float:
    """To three digits, so that a rate that was raced before is found again."""
    return float(f"{rate:.3g}")
