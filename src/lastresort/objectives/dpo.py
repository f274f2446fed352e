"""Direct preference optimisation."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lastresort.errors import ContractError
from lastresort.objectives.contract import positive
from lastresort.objectives.pairs import PairLogps


def dpo(pairs: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """Raise the chosen/rejected margin above the reference's.

    loss = -(1-e) log sigmoid(beta m) - e log sigmoid(-beta m),  m = (chosen - ref_chosen) - (rejected - ref_rejected)

    pairs: with reference. beta: 1/nats, > 0. label_smoothing: e in [0, 0.5), the share of pairs believed to be the wrong
    way round. Returns the loss of each pair, shape (batch,), not averaged.
    Raises ContractError if a number is out of range or the reference is missing.
    Source: Rafailov et al. 2023, eq. 7; e: Mitchell 2023, conservative DPO. Oracle: TRL `sigmoid` for e = 0 (TRL 1.16
    reads no label_smoothing there); for e > 0 its `aot` on single pairs, where nothing is left to sort.
    """
    positive("dpo", beta=beta)
    if not 0 <= label_smoothing < 0.5:
        raise ContractError(f"label_smoothing is {label_smoothing}", where="dpo", expected="at least 0, below 0.5")
    logit = beta * pairs.margin("dpo")
    return -(1 - label_smoothing) * logsigmoid(logit) - label_smoothing * logsigmoid(-logit)
