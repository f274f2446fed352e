"""What trainings compute, in tokens, before they are trained: the passes of each batch as the engine would cut and pack them.

A token of a training pass goes forward and backward through a frozen base, one of the reference forward alone, which is half of
that work. So SFT and DPO cost  C = sft + dpo + reference / 2  tokens, and ORPO gets as many steps as cost C at most: it falls short
by less than one of its steps. What is left out of C is the same for both ways (measuring), or a few rows once (the engine's check
of the first batch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lastresort.hardware.plan.time import FORWARD, FROZEN_BASE

if TYPE_CHECKING:
    from lastresort.train.loop.batches import TrainingItem
    from lastresort.train.settings import TrainSettings

REFERENCE_SHARE = FORWARD / FROZEN_BASE


@dataclass(frozen=True, slots=True)
class TrainingCompute:
    """trained_tokens: that go forward and backward. reference_tokens: that go forward through the reference."""

    trained_tokens: int
    reference_tokens: int = 0

    @property
    def tokens(self) -> float:
        """As many tokens of training as cost the same."""
        return self.trained_tokens + REFERENCE_SHARE * self.reference_tokens


def planned_compute(model: Any, items: Sequence[TrainingItem], settings: TrainSettings) -> TrainingCompute:
    """Of a whole training of one process, with its reference where the objective needs one. model: as it will be trained."""
    from lastresort.train.loop.loop import total_steps
    from lastresort.train.loop.policy import evaluating
    from lastresort.train.loop.reference import in_every_pass

    def of_steps() -> int:
        return sum(_of_step(model, items, settings, step) for step in range(total_steps(len(items), settings)))

    with _training(model):
        trained = of_steps()
    if not settings.objective.needs_reference:
        return TrainingCompute(trained)
    with evaluating(model):
        return TrainingCompute(
            trained, of_steps() if in_every_pass(model) else _of_passes(model, items, settings.max_pass_tokens)
        )


def steps_within(model: Any, items: Sequence[TrainingItem], settings: TrainSettings, tokens: float) -> int:
    """How many steps, one at least, compute at most so many tokens, over as many epochs as that takes. The objective needs no
    reference.
    """
    steps, computed = 0, 0
    with _training(model):
        while (computed := computed + _of_step(model, items, settings, steps)) <= tokens:
            steps += 1
    return max(1, steps)


@contextmanager
def _training(model: Any) -> Iterator[None]:
    """In training mode, in which a base with dropout shares nothing."""
    was_training = model.training
    model.train()
    try:
        yield
    finally:
        model.train(was_training)


def _of_step(model: Any, items: Sequence[TrainingItem], settings: TrainSettings, step: int) -> int:
    from lastresort.train.loop.batches import batch_of

    numbers = batch_of(step, len(items), settings.batch_size, settings.seed)
    return _of_passes(model, [items[number] for number in numbers], settings.max_pass_tokens)


def _of_passes(model: Any, items: Sequence[TrainingItem], max_pass_tokens: int) -> int:
    from lastresort.engine.forest import split_units
    from lastresort.engine.logp import planned_tokens

    units = [item.trained for item in items]
    parts = split_units(units, max_pass_tokens)
    return sum(planned_tokens(model, [row for number in part for row in units[number]]) for part in parts)
