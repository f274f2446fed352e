"""Where the items of an optimizer step come from: a data set in an order of its own, or answers sampled for the step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lastresort.engine.forest import Row
from lastresort.errors import ContractError
from lastresort.train.items import Item
from lastresort.train.order import batch_of


@dataclass(frozen=True, slots=True)
class Batch:
    """items: all of one optimizer step, on all devices; none where sampling gave nothing to learn from. numbers: the place
    of each in the data set, () for sampled ones. shown: what is recorded beside the loss. dropped: sampled answers that are no
    items, having no advantage; the mean of grpo and dr_grpo is over them too.
    """

    items: tuple[Item, ...]
    numbers: tuple[int, ...] = ()
    shown: dict[str, float] = field(default_factory=dict)
    dropped: int = 0


class Batches(Protocol):
    """The batches of a run. size: things in an epoch. items: all items, where they are known beforehand."""

    @property
    def size(self) -> int: ...

    @property
    def items(self) -> Sequence[Item]: ...

    def fingerprint(self) -> str:
        """Changes whenever a batch might."""

    def first_items(self) -> Sequence[Item]:
        """What the run's first step is like, by which the engine's paths are compared before anything else is computed. () where
        nothing is known of it."""

    def at(
        self, step: int, model: Any, reference: Callable[[Sequence[Row]], Any] | None, *, plain: bool = False
    ) -> Batch:
        """Batch of step `step` (0-based): a function of step, the data and the model's weights alone.

        plain: whether what is sampled for it takes the engine's plain path.
        """


class DataSet:
    """Items that are known beforehand, shuffled anew in each epoch."""

    def __init__(self, items: Sequence[Item], batch_size: int, seed: int) -> None:
        if not items:
            raise ContractError("no items to train on", where="train")
        self.items, self._batch_size, self._seed = tuple(items), batch_size, seed

    @property
    def size(self) -> int:
        return len(self.items)

    def fingerprint(self) -> str:
        return fingerprint(self.items)

    def first_items(self) -> Sequence[Item]:
        return self.at(0, None, None).items

    def at(
        self, step: int, model: Any, reference: Callable[[Sequence[Row]], Any] | None, *, plain: bool = False
    ) -> Batch:
        numbers = batch_of(step, len(self.items), self._batch_size, self._seed)
        return Batch(tuple(self.items[i] for i in numbers), tuple(numbers))


def fingerprint(items: Sequence[Item]) -> str:
    """Hash of the rows and labels of items, in their order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.desirable, *((row.ids, row.targets) for row in item.rows))).encode())
    return digest.hexdigest()
