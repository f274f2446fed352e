"""Logits -> the next token of each row."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lastresort.errors import ContractError

Allowed = Callable[[int, Sequence[int]], Tensor | None]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate. temperature 0 is greedy; top_p 1 and top_k 0 keep everything. Each row's random numbers depend on
    seed and row alone. rows_at_once: rows decoded together; the others wait."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    rows_at_once: int = 32

    def __post_init__(self) -> None:
        for name, found, ok in (
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1),
            ("temperature", self.temperature, self.temperature >= 0),
            ("top_p", self.top_p, 0 < self.top_p <= 1),
            ("top_k", self.top_k, self.top_k >= 0),
            ("rows_at_once", self.rows_at_once, self.rows_at_once >= 1),
        ):
            if not ok:
                raise ContractError(f"{name} is {found}", where="Sampling")


def random_stream(seed: int, row: int) -> random.Random:
    return random.Random(f"{seed}:{row}")


def to_choose_from(logits: Tensor) -> Tensor:
    """Logits in float32 or wider where their tokens are chosen: on CUDA where they are, as the host takes longer to choose from
    a vocabulary of 150,000 than a GPU takes for a step; else on the host, since not every device has float64."""
    near = logits if logits.device.type == "cuda" else logits.cpu()
    return near.to(torch.promote_types(logits.dtype, torch.float32))


def restrict(logits: Tensor, masks: Sequence[Tensor | None]) -> None:
    """Set the logits [rows, vocabulary] of tokens that are not allowed to -inf, in place.

    A mask is of bool [n], or of int32 with 32 tokens a word, lowest bit first, as llguidance fills them; it is on the host. Tokens
    beyond the mask's end (padding of the output layer) are not allowed.
    """
    for row, mask in enumerate(masks):
        if mask is None:
            continue
        if mask.dtype == torch.int32:
            bits = np.unpackbits(mask.contiguous().numpy().view(np.uint8), bitorder="little")
            mask = torch.from_numpy(bits).view(torch.bool)
        mask = mask[: logits.shape[1]]
        if not bool(mask.any()):
            raise ContractError(f"no token is allowed in row {row} of the batch", where="generate")
        logits[row, : len(mask)].masked_fill_(~mask.to(logits.device), -torch.inf)
        logits[row, len(mask) :].fill_(-torch.inf)


def choose(logits: Tensor, settings: Sampling, draws: Sequence[float]) -> list[int]:
    """Next token of each row. logits [rows, vocabulary], float32 or wider; draws: a uniform number in [0, 1) a row.

    Filters in the order temperature, top_k, top_p, as transformers does; then the inverse of the cumulative distribution.
    """
    if settings.temperature == 0:
        best = logits.argmax(1)
        _finite(logits.gather(1, best[:, None]))
        return best.tolist()
    scaled = logits if settings.temperature == 1 else logits / settings.temperature
    order = None
    if settings.top_k and settings.top_k < scaled.shape[1]:
        scaled, order = scaled.topk(settings.top_k, 1)
    elif settings.top_p < 1:
        scaled, order = scaled.sort(dim=1, descending=True, stable=True)
    p = torch.softmax(scaled, 1).double()
    below = p.cumsum(1)
    if settings.top_p < 1:
        p = p * (below - p < settings.top_p)
        below = p.cumsum(1)
    _finite(below[:, -1])
    wanted = torch.tensor(draws, dtype=torch.float64, device=p.device)[:, None] * below[:, -1:]
    place = torch.searchsorted(below, wanted, right=True)
    # A draw that rounding made the whole sum belongs to the last token that can be drawn.
    if bool((place == p.shape[1]).any()):
        place = torch.minimum(place, p.shape[1] - 1 - (p > 0).flip(1).byte().argmax(1, keepdim=True))
    return (place if order is None else order.gather(1, place))[:, 0].tolist()


def _finite(values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ContractError("the model's logits are not finite", where="generate")
