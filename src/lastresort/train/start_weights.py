"""The trainable weights as they stood at the start, to go back to: for another run, or for a moment's comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lastresort.train.adapters import trainable


class StartWeights:
    """Copies of the trainable parameters of `model`, taken when this is made."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._kept = self._copies()

    def restore(self) -> None:
        """Put the model back to its start."""
        self._put(self._kept)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The model stands at its start inside, and where it stood before afterwards."""
        own = self._copies()
        self.restore()
        try:
            yield
        finally:
            self._put(own)

    def _copies(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in trainable(self._model)}

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in trainable(self._model):
            parameter.copy_(weights[name])
