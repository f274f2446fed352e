"""What a tuned system came of, and how a milder one is had: for repairs after a gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lastresort.rungs.rung import Rung, Workbench
from lastresort.systems.system import System


@dataclass(frozen=True, slots=True)
class Training:
    """replay: the share of general rows, None where the training has none. earlier: checkpoints of the same training that were kept
    before this one, the latest first: epoch or step, and the name of the candidate.
    """

    learning_rate: float
    replay: float | None
    earlier: tuple[tuple[int, str], ...] = ()


@runtime_checkable
class TrainsAnew(Rung, Protocol):
    """A rung that can tell what a system of its own came of, and train it anew."""

    def training_of(self, bench: Workbench, name: str) -> Training:
        """name: of a system that the rung's search kept."""

    def train_anew(
        self, bench: Workbench, system: System, *, replay: float | None = None, learning_rate: float | None = None
    ) -> System | None:
        """The system that the same training ends in with this share of replay or this learning rate, as long as that of `system`;
        None where it diverges. What is finished is read from the record, what was cut goes on from its checkpoint.
        """
