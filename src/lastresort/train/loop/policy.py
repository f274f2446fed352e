"""The model that a run trains, and the forward passes over units of rows that training, evaluation and the reference take.

All passes share one split and one precision. The policy holds the path of the engine that they take, and what it gives to rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.divergence import Far
from lastresort.engine.forest import Row, split_evenly, split_units
from lastresort.engine.logp import TargetLogps, row_sums, target_logps
from lastresort.engine.parts import back_into_shards
from lastresort.engine.support import check_first_batch, longest_packed, support, why_plain_batch
from lastresort.records.training import FirstBatch
from lastresort.train.adapters.adapters import adapters_in_base_precision
from lastresort.train.loop.batches import TrainingItem
from lastresort.train.loop.processes import Processes

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
    made = sum(any(any(row.targets) for row in part_rows) for part_rows in rows)  # what has no targets is not computed
    idle = most(made) - made if most is not None else 0
    for part, part_rows in zip(parts, rows, strict=True):
        with adapters_in_base_precision(model):
            result = target_logps(model, part_rows, plain=plain, far=_far_of(part, units, far))
        yield part, result
    for _ in range(idle):
        with adapters_in_base_precision(model):
            logps = target_logps(model, [IDLE], plain=plain).per_token
        if logps.requires_grad:
            torch.autograd.backward(logps.sum() * 0)


def _far_of(part: Sequence[int], units: Sequence[Sequence[Row]], far: Sequence[Far | None]) -> Far | None:
    """The other model at the rows of a pass; None where none of them is held to it."""
    held = [far[number] if far else None for number in part]
    known = next((far_of_item for far_of_item in held if far_of_item is not None), None)
    if known is None:
        return None
    states: list[Tensor | None] = []
    for number, far_of_item in zip(part, held, strict=True):
        states += [None] * len(units[number]) if far_of_item is None else far_of_item.states
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
        back_into_shards(model)


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
    unit_logps: list[list[float]] = [[] for _ in units]
    with evaluating(model):
        for part, result in passes(model, units, max_pass_tokens, plain=plain, most=most):
            sums = iter(row_sums(result.per_token, result.row, sum(len(units[i]) for i in part)).tolist())
            for i in part:
                unit_logps[i] = [next(sums) for _ in units[i]]
            if on_units is not None:
                on_units(len(part))
    return unit_logps


def token_logps(
    model: Any, rows: Sequence[Row], max_pass_tokens: int, *, plain: bool = False
) -> list[tuple[float, ...]]:
    """Log-probabilities in nats of each row's targets under the model as it is now."""
    row_logps: list[tuple[float, ...]] = [()] * len(rows)
    with evaluating(model):
        for part, result in passes(model, [(row,) for row in rows], max_pass_tokens, plain=plain):
            for place, number in enumerate(part):
                row_logps[number] = tuple(result.per_token[result.row == place].tolist())
    return row_logps


CHECKED_ITEMS = 4


class Policy:
    """path: "packed" or "plain", of the newest pass that trained, with its reason. check: packed against plain on the first
    items of the run; None before that, and where the plain path was asked for.

    `check_first`, `parts_of`, `own`, `score` and `logps_of` share work among the processes: all of them call them alike.
    """

    def __init__(
        self,
        model: Any,
        max_pass_tokens: int,
        processes: Processes,
        *,
        plain: bool = False,
        check: FirstBatch | None = None,
    ) -> None:
        self.model, self.processes, self.max_pass_tokens = model, processes, max_pass_tokens
        self._asked_plain = self._plain = plain
        self._packs_in_all: bool | None = None
        self.path, self.reason = "packed", "it was asked for" if plain else None
        self._take_path(check)

    def check_first(self, items: Sequence[TrainingItem]) -> None:
        """Packed against plain on the run's first items, once, in every process; if it fails in one, all take the plain path."""
        if items and self.check is None and not self._asked_plain:
            rows = checked_rows(items, self.max_pass_tokens, longest=longest_packed(self.model))
            with adapters_in_base_precision(self.model), recomputing(self.model):
                checks = self.processes.each(lambda: check_first_batch(self.model, rows))
            back_into_shards(self.model)
            self._take_path(next((check for check in checks if not check.ok), checks[0]))

    @property
    def plain(self) -> bool:
        """Whether everything of the run takes the plain path: it was asked for, or the check found the packed one wrong."""
        return self._plain

    def _take_path(self, check: FirstBatch | None) -> None:
        self.check = check
        if check is not None and not check.ok:
            # Without a gradient to compare, the engine refused the packed form and takes the plain path by itself.
            self._plain = self._plain or check.gradient_difference is not None
            self.reason = check.reason

    def passes(
        self, units: Sequence[Sequence[Row]], far: Sequence[Far | None] = ()
    ) -> Iterator[tuple[list[int], TargetLogps]]:
        """The numbers of the units of each pass, and the log-probabilities of their rows, in this order. far: as in `passes`."""
        most = self.processes.most
        return passes(self.model, units, self.max_pass_tokens, plain=self._plain, most=most, far=far)

    def note_path(self, path: str, reason: str | None) -> None:
        """Note the path of a pass that trained."""
        self.path = path
        self.reason = reason if reason is not None else self.reason

    def parts_of(self, items: Sequence[TrainingItem]) -> list[list[int]]:
        """Of each process the items whose trained rows it computes, in the mode the model is in: those with a common beginning,
        as far as that is a fair share of the tokens; where the plain path is taken, which shares nothing, those of similar length.
        """
        return self._parts([item.trained for item in items])

    def own(self, items: Sequence[TrainingItem]) -> list[int]:
        """This process's part of `parts_of`."""
        return self.parts_of(items)[self.processes.place]

    def _parts(self, units: Sequence[Sequence[Row]]) -> list[list[int]]:
        alone = self.processes.count == 1
        return split_evenly(units, self.processes.count, shared=alone or self._shares_beginnings(units))

    def _shares_beginnings(self, units: Sequence[Sequence[Row]]) -> bool:
        """Whether no pass over the units takes the plain path. All processes give the same answer, though the engine may have found
        no kernel in one of them: they would cut a batch differently otherwise.
        """
        if self._plain:
            return False
        if self._packs_in_all is None:
            with adapters_in_base_precision(self.model):
                self._packs_in_all = all(self.processes.each(lambda: support(self.model).refused is None))
        longest = max((len(row.ids) for unit in units for row in unit), default=0)
        return self._packs_in_all and why_plain_batch(support(self.model), longest) is None

    def score(self, rows: Sequence[Row]) -> Tensor:
        """Summed log-probabilities of rows under the model as it is now, in nats, [rows], float64."""
        sums = self._sums([(row,) for row in rows])
        return torch.tensor([logp for (logp,) in sums], dtype=torch.float64, device=self.model.device)

    def logps_of(
        self,
        items: Sequence[TrainingItem],
        on_items: Callable[[int], None] | None = None,
        *,
        parts: Sequence[Sequence[int]] | None = None,
    ) -> list[list[float]]:
        """Summed log-probabilities of the rows of items under the model as it is now, in the passes that training takes.

        on_items: called with the number of items whose trained rows a pass of this process computed. parts: of the items, where
        they are known, see `parts_of`.
        """
        trained = self._sums([item.trained for item in items], on_items, parts)
        others = [row for item in items for row in item.rows[len(item.trained) :]]
        far = iter(self.score(others).tolist() if others else ())
        return [
            [*logps, *(next(far) for _ in item.rows[len(item.trained) :])]
            for item, logps in zip(items, trained, strict=True)
        ]

    def _sums(
        self,
        units: Sequence[Sequence[Row]],
        on_units: Callable[[int], None] | None = None,
        parts: Sequence[Sequence[int]] | None = None,
    ) -> list[list[float]]:
        def compute(own: Sequence[int]) -> list[list[float]]:
            rows = [units[number] for number in own]
            most = self.processes.most
            return unit_sums(self.model, rows, self.max_pass_tokens, plain=self._plain, most=most, on_units=on_units)

        if parts is None:
            with evaluating(self.model):
                parts = self._parts(units)
        return self.processes.share(parts, compute)

    def token_logps(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """Log-probabilities in nats of each row's targets under the model as it is now; each process for itself."""
        return token_logps(self.model, rows, self.max_pass_tokens, plain=self._plain)


@contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Layers that are checkpointed in training are so in evaluation too, since the check would hold what checkpointing spares.

    Of the layers alone the mode is another, not of the dropout inside them.
    """
    layers = [
        module for module in model.modules() if getattr(module, "gradient_checkpointing", False) and not module.training
    ]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def checked_rows(items: Sequence[TrainingItem], max_tokens: int, *, longest: int | None = None) -> list[Row]:
    """Rows of the first items, as many as the plain forward holds padded in `max_tokens`, but at least two to share a piece, which
    are shortened to fit: the check must not be what sets a run's memory.

    longest: tokens of the longest text that the packed form takes; longer rows are shortened to it, since other batches may
    hold shorter ones.
    """
    rows: list[Row] = []
    for item in items[:CHECKED_ITEMS]:
        more = [*rows, *(row if longest is None else _within(row, longest) for row in item.rows)]
        if len(rows) >= 2 and len(more) * max(len(row.ids) for row in more) > max_tokens:
            break
        rows = more
    most = max((len(row.ids) for row in rows), default=0)
    room = max(max_tokens, most) // max(1, len(rows))  # a pass holds the longest row in any case
    return rows if most <= room else [shortened(row, room) for row in rows]


def _within(row: Row, tokens: int) -> Row:
    """The row in at most so many tokens: without what follows its last target, and without its middle."""
    if len(row.ids) <= tokens:
        return row
    last = row.needed + 1
    return shortened(Row(row.ids[:last], row.targets[:last]), tokens)


def shortened(row: Row, tokens: int) -> Row:
    """The row without its middle: the beginning, which others may share, and the end up to the last target."""
    last = row.needed + 1  # what follows is not computed
    if last <= tokens:
        return row
    end = max(1, tokens // 2)
    places = (*range(max(1, tokens - end)), *range(last - end, last))
    return Row(tuple(row.ids[i] for i in places), tuple(row.targets[i] for i in places))
