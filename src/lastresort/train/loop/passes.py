"""Forward passes over units of rows, as training, evaluation and the reference take them: one split, one precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.divergence import Far
from lastresort.engine.forest import Row, split_units
from lastresort.engine.logp import TargetLogps, row_sums, target_logps
from lastresort.train.adapters.adapters import adapters_in_base_precision

Most = Callable[[int], int]
IDLE = Row((0, 0), (False, True))


def passes(
    model: Any,
    units: Sequence[Sequence[Row]],
    max_pass_tokens: int,
    *,
    plain: bool = False,
    most: Most | None = None,
    far: Sequence[Far | None] = (),
) -> Iterator[tuple[list[int], TargetLogps]]:
    """The numbers of the units of each pass, and the log-probabilities of their rows, in this order.

    far: of each unit of one row that is held to another model, that model there; () where none is. most: the largest of the
    processes' numbers, where all of them have to make as many passes; those with fewer make idle ones.
    """
    parts = split_units(units, max_pass_tokens)
    rows = [[row for number in part for row in units[number]] for part in parts]
    made = sum(any(any(row.targets) for row in own) for own in rows)  # what has no targets is not computed
    idle = most(made) - made if most is not None else 0
    for part, own in zip(parts, rows, strict=True):
        with adapters_in_base_precision(model):
            found = target_logps(model, own, plain=plain, far=_far_of(part, units, far))
        yield part, found
    for _ in range(idle):
        with adapters_in_base_precision(model):
            logps = target_logps(model, [IDLE], plain=plain).per_token
        if logps.requires_grad:
            torch.autograd.backward(logps.sum() * 0)


def _far_of(part: Sequence[int], units: Sequence[Sequence[Row]], far: Sequence[Far | None]) -> Far | None:
    """The other model at the rows of a pass; None where none of them is held to it."""
    held = [far[number] if far else None for number in part]
    known = next((one for one in held if one is not None), None)
    if known is None:
        return None
    states: list[Tensor | None] = []
    for number, one in zip(part, held, strict=True):
        states += [None] * len(units[number]) if one is None else one.states
    return Far(states, known.head)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """In evaluation mode and without gradients; the mode is as before afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def unit_sums(
    model: Any,
    units: Sequence[Sequence[Row]],
    max_pass_tokens: int,
    *,
    plain: bool = False,
    most: Most | None = None,
    on_units: Callable[[int], None] | None = None,
) -> list[list[float]]:
    """Summed log-probability in nats of every row of every unit under the model as it is now.

    on_units: called after each pass with the number of units that it computed.
    """
    found: list[list[float]] = [[] for _ in units]
    with evaluating(model):
        for part, result in passes(model, units, max_pass_tokens, plain=plain, most=most):
            sums = iter(row_sums(result.per_token, result.row, sum(len(units[i]) for i in part)).tolist())
            for i in part:
                found[i] = [next(sums) for _ in units[i]]
            if on_units is not None:
                on_units(len(part))
    return found


def token_logps(
    model: Any, rows: Sequence[Row], max_pass_tokens: int, *, plain: bool = False
) -> list[tuple[float, ...]]:
    """Log-probabilities in nats of each row's targets under the model as it is now."""
    found: list[tuple[float, ...]] = [()] * len(rows)
    with evaluating(model):
        for part, result in passes(model, [(row,) for row in rows], max_pass_tokens, plain=plain):
            for place, number in enumerate(part):
                found[number] = tuple(result.per_token[result.row == place].tolist())
    return found
