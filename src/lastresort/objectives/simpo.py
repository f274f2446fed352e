"""Simple preference optimisation."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from lastresort.objectives.contract import not_negative, positive
from lastresort.objectives.pairs import PairLogps


def simpo(pairs: PairLogps, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """Raise the mean log-probability a token of chosen above that of rejected by a margin, without a reference.

    loss = -log sigmoid(beta (chosen / chosen_tokens - rejected / rejected_tokens) - gamma)

    pairs: with token counts. beta: tokens/nats, > 0. gamma: >= 0, outside beta as in the paper (the target margin is
    gamma/beta nats a token). Returns the loss of each pair, shape (batch,), not averaged.
    Raises ContractError if a number is out of range or the token counts are missing.
    Source: Meng et al. 2024, eq. 6; the defaults are its beta of 2 and its ratio gamma/beta of a half. Oracle: TRL's
    CPOTrainer with loss_type `simpo` and cpo_alpha 0 (its default of 1 adds an NLL that is not SimPO's).
    """
    positive("simpo", beta=beta)
    not_negative("simpo", gamma=gamma)
    chosen, rejected = pairs.means("simpo")
    return -logsigmoid(beta * (chosen - rejected) - gamma)
