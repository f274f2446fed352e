"""What trainings compute, in tokens, before they are trained: the passes of each batch as the engine would cut and pack them, or
pad them where the check of the first batch finds the packed form wrong.

A token of a training pass goes forward and backward through a frozen base, one of the reference forward alone, which is half of
that work. So SFT then DPO costs  C = sft + dpo + reference / 2  tokens, and ORPO gets as many steps as cost C at most: it falls
short by less than one of its steps. What is left out of C is the same for both ways (measuring), or a few rows once (the engine's
check of the first batch).
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


def found_plain(model: Any, items: Sequence[TrainingItem], settings: TrainSettings) -> bool:
    """Whether the check of the first batch, with which a training begins, finds the packed form wrong, so that every pass is plain.
    model: as it will be trained. Computes a few rows.
    """
    from lastresort.train.adapters.adapters import inputs_in_base_precision
    from lastresort.train.loop.batches import DataSet
    from lastresort.train.loop.policy import Policy
    from lastresort.train.loop.processes import join

    policy = Policy(model, settings.max_pass_tokens, join())
    with inputs_in_base_precision(model):
        policy.check_first(DataSet(items, settings.batch_size, settings.seed).first_items())
    return policy.plain


def planned_compute(
    model: Any, items: Sequence[TrainingItem], settings: TrainSettings, *, plain: bool = False
) -> TrainingCompute:
    """Of a whole training of one process, with its reference where the objective needs one. model: as it will be trained. plain:
    whether all passes are plain.
    """
    with _training(model):
        trained = _of_steps(model, items, settings, plain=plain)
    return TrainingCompute(trained, reference_compute(model, items, settings, plain=plain))


def reference_compute(
    model: Any, items: Sequence[TrainingItem], settings: TrainSettings, *, plain: bool = False
) -> int:
    """Tokens that the reference of a training computes; 0 where its objective needs none."""
    from lastresort.train.loop.policy import evaluating
    from lastresort.train.loop.reference import in_every_pass

    if not settings.objective.needs_reference:
        return 0
    with evaluating(model):
        if in_every_pass(model):
            return _of_steps(model, items, settings, plain=plain)
        return _of_passes(model, items, settings.max_pass_tokens, plain=plain)


def steps_within(
    model: Any, items: Sequence[TrainingItem], settings: TrainSettings, tokens: float, *, plain: bool = False
) -> int:
    """How many steps, one at least, compute at most so many tokens, over as many epochs as that takes. The objective needs no
    reference. plain: whether all passes are plain.
    """
    steps, computed = 0, 0
    with _training(model):
        while (computed := computed + _of_step(model, items, settings, steps, plain=plain)) <= tokens:
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


def _of_steps(model: Any, items: Sequence[TrainingItem], settings: TrainSettings, *, plain: bool) -> int:
    from lastresort.train.loop.loop import total_steps

    steps = total_steps(len(items), settings)
    return sum(_of_step(model, items, settings, step, plain=plain) for step in range(steps))


def _of_step(model: Any, items: Sequence[TrainingItem], settings: TrainSettings, step: int, *, plain: bool) -> int:
    from lastresort.train.loop.batches import batch_of

    numbers = batch_of(step, len(items), settings.batch_size, settings.seed)
    return _of_passes(model, [items[number] for number in numbers], settings.max_pass_tokens, plain=plain)


def _of_passes(model: Any, items: Sequence[TrainingItem], max_pass_tokens: int, *, plain: bool) -> int:
    from lastresort.engine.forest import split_units
    from lastresort.engine.logp import planned_tokens

    units = [item.trained for item in items]
    parts = split_units(units, max_pass_tokens)
    return sum(planned_tokens(model, [row for number in part for row in units[number]], plain=plain) for part in parts)
