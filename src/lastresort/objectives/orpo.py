"""Odds ratio preference optimisation: supervised fine-tuning and preference in one, without a reference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lastresort.objectives.contract import not_negative
from lastresort.objectives.pairs import PairLogps


def orpo(pairs: PairLogps, *, weight: float = 0.1) -> Tensor:
    """Learn the chosen answer, and raise its odds above those of the rejected one.

    loss = -log p_chosen - weight log sigmoid(log odds(p_chosen) - log odds(p_rejected)),
    log p = summed log-probability / tokens,  odds(p) = p / (1 - p)

    pairs: with token counts. weight: the paper's lambda (TRL calls it beta), >= 0. Returns the loss of each pair, in nats
    a token, shape (batch,), not averaged. Raises ContractError if weight < 0 or the token counts are missing.
    Source: Hong et al. 2024, eqs. 3, 4, 6 and 7, where the likelihood is that of the answer given the prompt. TRL differs: its
    NLL is over prompt and answer, and a mean over all tokens of the batch instead of a mean of means. Oracle: TRL's
    ORPOTrainer with the prompt masked, one pair a batch.
    """
    not_negative("orpo", weight=weight)
    chosen, rejected = pairs.means("orpo")
    return -chosen - weight * logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def _log_odds(logp: Tensor) -> Tensor:
    # At p = 1 the odds are infinite: 1 - p is kept at one unit in the last place, which keeps loss and gradient finite.
    below_one = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    return logp - torch.log(-torch.expm1(below_one))
