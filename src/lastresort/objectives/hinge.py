"""The hinge loss on pairs (SLiC), normalised by the reference."""

from __future__ import annotations

from torch import Tensor

from lastresort.objectives.contract import positive
from lastresort.objectives.pairs import PairLogps


def hinge(pairs: PairLogps, *, beta: float = 0.1) -> Tensor:
    """Raise the chosen/rejected margin above the reference's until it reaches 1/beta, then leave the pair alone.

    loss = max(0, 1 - beta m),  m = (chosen - ref_chosen) - (rejected - ref_rejected)

    pairs: with reference. beta: 1/nats, > 0. Returns the loss of each pair, shape (batch,), not averaged.
    Raises ContractError if beta <= 0 or the reference is missing.
    Source: Zhao et al. 2023 (SLiC-HF) has the hinge on log-probabilities without a reference, beside a cross-entropy term;
    Liu et al. 2023 (RSO, `hinge-norm`) sets the reference in place of that term, and this is theirs. Oracle: TRL `hinge`.
    """
    positive("hinge", beta=beta)
    return (1 - beta * pairs.margin("hinge")).relu()
