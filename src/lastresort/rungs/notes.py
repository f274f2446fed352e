"""What a rung reports while it is at work, beyond its stages, as values. `report.words.training` writes the line of each.

Nothing of it decides. What it found and why it is skipped are values of `records.rungs`, which the record keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastresort.records.events.search import SkippedFile
from lastresort.records.rungs import CurveBelowBar, SmallReflector

if TYPE_CHECKING:
    from lastresort.hardware.plan.fit import LoweredPlan


@dataclass(frozen=True, slots=True)
class RateDroppedOut:
    """A learning rate that is trained no further. because: a sentence."""

    rate: float
    because: str


@dataclass(frozen=True, slots=True)
class PlainPathTaken:
    """Training in the plain path, where the packed one was wanted. reason: a clause."""

    reason: str


@dataclass(frozen=True, slots=True)
class SmallerPasses:
    """A training would hold more than is free. lowered: with which it fits, and which it takes."""

    training: str
    needed_bytes: int
    free_bytes: int
    lowered: LoweredPlan


@dataclass(frozen=True, slots=True)
class MayNotFit:
    """As `SmallerPasses`, where no settings that a run may change make it fit. It is tried. remedy: a sentence."""

    training: str
    needed_bytes: int
    free_bytes: int
    remedy: str


@dataclass(frozen=True, slots=True)
class OneProcess:
    """`tune.processes` asks for several, and GRPO samples as it trains."""


@dataclass(frozen=True, slots=True)
class ModelLeftOff:
    """A training ended with an error, and the device lacked the memory to take the whole model back."""

    device: str


@dataclass(frozen=True, slots=True)
class NothingReplayed:
    """The task file asks for replay in `preference`, and GRPO trains on its own samples alone."""


@dataclass(frozen=True, slots=True)
class ReplayByLikelihood:
    """`replay_loss: kl` needs the hidden states of the model, which cannot be separated from its logits."""


@dataclass(frozen=True, slots=True)
class PlainClosedBook:
    """The prompt that prompting chose cannot be opened. because: a sentence."""

    because: str


@dataclass(frozen=True, slots=True)
class TrainOn:
    """A question to the user: whether to train the other two thirds after this curve."""

    seen: CurveBelowBar


RungNote = (
    RateDroppedOut
    | PlainPathTaken
    | SmallerPasses
    | MayNotFit
    | OneProcess
    | ModelLeftOff
    | NothingReplayed
    | ReplayByLikelihood
    | PlainClosedBook
    | SmallReflector
    | CurveBelowBar
    | TrainOn
    | SkippedFile
)
