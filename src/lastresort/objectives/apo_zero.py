"""Anchored preference optimisation, variant zero."""

from __future__ import annotations

from torch import Tensor

from lastresort.objectives.contract import positive
from lastresort.objectives.pairs import PairLogps


def apo_zero(pairs: PairLogps, *, beta: float = 0.1) -> Tensor:
    """Raise chosen above the reference and lower rejected below it, each by itself: for answers better than the model's own.

    loss = (1 - sigmoid(beta (chosen - ref_chosen))) + sigmoid(beta (rejected - ref_rejected))

    pairs: with reference. beta: 1/nats, > 0. Returns the loss of each pair, in (0, 2), shape (batch,), not averaged.
    Raises ContractError if beta <= 0 or the reference is missing.
    Source: D'Oosterlinck et al. 2024, eq. 7, plus the constant 1 that keeps it above 0, as in TRL. Oracle: TRL `apo_zero`.
    """
    positive("apo_zero", beta=beta)
    chosen, rejected = pairs.gains("apo_zero")
    # sigmoid(-x) is 1 - sigmoid(x) without the cancellation.
    return (-beta * chosen).sigmoid() + (beta * rejected).sigmoid()
