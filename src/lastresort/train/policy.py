"""The model that a run trains, as its passes see it: the path of the engine that they take, and what it gives to rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.forest import Row
from lastresort.engine.logp import TargetLogps
from lastresort.engine.support import FirstBatchCheck, check_first_batch
from lastresort.train.adapters import adapters_in_base_precision
from lastresort.train.items import Item
from lastresort.train.passes import passes, token_logps, unit_sums

CHECKED_ITEMS = 4


class Policy:
    """path: "packed" or "plain", of the newest pass that trained, with its reason. check: packed against plain on the first
    items of the run; None before that, and where the plain path was asked for."""

    def __init__(
        self, model: Any, max_pass_tokens: int, *, plain: bool = False, check: FirstBatchCheck | None = None
    ) -> None:
        self.model, self._max_pass_tokens = model, max_pass_tokens
        self._asked_plain = self._plain = plain
        self.path, self.reason = "packed", "it was asked for" if plain else None
        self._take_path(check)

    def check_first(self, items: Sequence[Item]) -> None:
        """Packed against plain on the run's first items, once; what fails goes on by the plain path."""
        if items and self.check is None and not self._asked_plain:
            with adapters_in_base_precision(self.model):
                rows = [row for item in items[:CHECKED_ITEMS] for row in item.rows]
                self._take_path(check_first_batch(self.model, rows))

    def _take_path(self, check: FirstBatchCheck | None) -> None:
        self.check = check
        if check is not None and not check.ok:
            # Without a gradient to compare, the engine refused the packed form and takes the plain path by itself.
            self._plain = self._plain or check.gradient_difference is not None
            self.reason = check.reason

    def passes(self, units: Sequence[Sequence[Row]]) -> Iterator[tuple[list[int], TargetLogps]]:
        """The numbers of the units of each pass, and the log-probabilities of their rows, in this order."""
        return passes(self.model, units, self._max_pass_tokens, plain=self._plain)

    def trained_by(self, result: TargetLogps) -> None:
        """Note the path of a pass that trained."""
        self.path = result.path
        self.reason = result.reason if result.reason is not None else self.reason

    def score(self, rows: Sequence[Row]) -> Tensor:
        """Summed log-probabilities of rows under the model as it stands, in nats, [rows], float64."""
        units = [(row,) for row in rows]
        sums = unit_sums(self.model, units, self._max_pass_tokens, plain=self._plain)
        return torch.tensor([own for (own,) in sums], dtype=torch.float64, device=self.model.device)

    def logps_of(self, items: Sequence[Item], own: Sequence[int] | None = None) -> list[list[float]]:
        """Summed log-probabilities of the rows of items under the model as it stands, in the passes that training takes.

        own: the items whose trained rows this process computes, None for all; those of the others are left at 0.
        """
        own = range(len(items)) if own is None else own
        units = [items[number].trained for number in own]
        sums = unit_sums(self.model, units, self._max_pass_tokens, plain=self._plain)
        computed = dict(zip(own, sums, strict=True))
        found = [computed.get(number, [0.0] * len(item.trained)) for number, item in enumerate(items)]
        if any(item.desirable is not None for item in items):
            mismatched = self.score([item.rows[1] for item in items]).tolist()
            found = [[*logps, far] for logps, far in zip(found, mismatched, strict=True)]
        return found

    def token_logps(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """Log-probabilities in nats of each row's targets under the model as it stands."""
        return token_logps(self.model, rows, self._max_pass_tokens, plain=self._plain)
