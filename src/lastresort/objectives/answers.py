"""Objectives on given answers, one by one or in pairs of a chosen and a rejected one.

One by one: supervised fine-tuning, and Kahneman-Tversky optimisation of answers labelled good or bad. In pairs: DPO, IPO, the
hinge loss of SLiC, APO zero, SimPO and ORPO.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lastresort.errors import ContractError


def sft(per_token_logps: Tensor) -> Tensor:
    """Raise the probability of the right answer: loss = -log p.

    per_token_logps: of the target tokens, in nats, any shape. Returns the loss of each token, same shape, not averaged; the
    caller divides the sum by the number of target tokens of the whole accumulated batch, so that accumulation changes nothing.
    Source: maximum likelihood; Radford et al. 2018, eq. 3. Oracle: transformers' causal loss with num_items_in_batch.
    """
    return -per_token_logps


def kto(
    logps: Tensor,
    ref_logps: Tensor,
    desirable: Tensor,
    baseline: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Raise good answers above the reference and lower bad ones below it, as seen from how far the policy has moved anyway.

    loss = desirable_weight (1 - sigmoid(beta (logp - ref - z)))      where desirable
           undesirable_weight (1 - sigmoid(beta (z - logp + ref)))    elsewhere

    logps, ref_logps: of the answers, in nats, summed, each (rows,); no gradient into the reference. desirable: bool, (rows,).
    baseline: z in nats, a single value, from `kto_baseline` over the whole optimizer batch. beta: 1/nats, > 0. Weights: >= 0;
    the paper sets desirable_weight x desirable rows at 1 to 4/3 of undesirable_weight x undesirable rows.
    Returns the loss of each row, in order, shape (rows,), not averaged.
    Raises ContractError where layouts differ, labels are not bool, or a number is out of range.
    Source: Ethayarajh et al. 2024, eqs. 7 and 8. Oracle: TRL's KTOTrainer, loss_type `kto`.
    """
    positive("kto", beta=beta)
    not_negative("kto", desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    same_layout("kto", logps=logps, ref_logps=ref_logps)
    if desirable.dtype != torch.bool or desirable.shape != logps.shape:
        found = f"labels in {desirable.dtype} of shape {tuple(desirable.shape)}"
        raise ContractError(found, where="kto", expected=f"bool of shape {tuple(logps.shape)}")
    if baseline.numel() != 1:
        raise ContractError(f"a baseline of {baseline.numel()} values", where="kto", expected="one for the whole batch")
    value = beta * (logps - ref_logps.detach() - baseline.detach().to(logps).reshape(()))
    # sigmoid(-x) is 1 - sigmoid(x) without the cancellation.
    return torch.where(desirable, desirable_weight * (-value).sigmoid(), undesirable_weight * value.sigmoid())


def kto_baseline(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """How far the policy has moved from the reference on answers that belong to other prompts.

    z = max(0, mean(logp - ref))

    logps, ref_logps: of mismatched pairs (each prompt with another row's answer), in nats, summed, each (rows,): all rows of
    the optimizer batch, on all devices, or accumulation changes the loss. Returns z in nats, shape (), without gradient.
    Raises ContractError where layouts differ or there is no row.
    Source: Ethayarajh et al. 2024, section 4. TRL takes the mean of each micro-batch. Oracle: TRL's KTOTrainer, one micro-batch.
    """
    same_layout("kto_baseline", logps=logps, ref_logps=ref_logps)
    if logps.numel() == 0:
        raise ContractError("no mismatched pair", where="kto_baseline", expected="at least one")
    return (logps.detach() - ref_logps.detach()).mean().clamp(min=0)


@dataclass(frozen=True, slots=True, eq=False)
class PairLogps:
    """Log-probabilities of the answers of a batch of pairs, the prompt not counted.

    chosen, rejected: of the policy, in nats, summed over the tokens of the answer, each of shape (batch,), differentiable.
    ref_chosen, ref_rejected: the same of the reference; no gradient flows into them. Both or neither.
    chosen_tokens, rejected_tokens: how many tokens each sum is over, whole numbers of at least 1, shape (batch,). Both or
    neither.
    Raises ContractError where shapes or precisions differ, one of two partners is missing, or an answer has no token.
    """

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    chosen_tokens: Tensor | None = None
    rejected_tokens: Tensor | None = None

    def __post_init__(self) -> None:
        where = "PairLogps"
        if self.chosen.ndim != 1:
            raise ContractError(f"chosen of shape {tuple(self.chosen.shape)}", where=where, expected="shape (batch,)")
        same_layout(where, chosen=self.chosen, rejected=self.rejected)
        if (self.ref_chosen is None) != (self.ref_rejected is None):
            raise ContractError("the reference of one side only", where=where, expected="both or neither")
        if self.ref_chosen is not None and self.ref_rejected is not None:
            same_layout(where, chosen=self.chosen, ref_chosen=self.ref_chosen, ref_rejected=self.ref_rejected)
        if (self.chosen_tokens is None) != (self.rejected_tokens is None):
            raise ContractError("the token counts of one side only", where=where, expected="both or neither")
        if self.chosen_tokens is not None and self.rejected_tokens is not None:
            _check_counts("chosen_tokens", self.chosen_tokens, self.chosen)
            _check_counts("rejected_tokens", self.rejected_tokens, self.chosen)

    def gains(self, objective: str) -> tuple[Tensor, Tensor]:
        """log pi - log ref of chosen and of rejected, in nats, each (batch,). objective: who asks, for the error.

        Raises ContractError without a reference.
        """
        if self.ref_chosen is None or self.ref_rejected is None:
            raise ContractError(
                "no log-probabilities of the reference", where=objective, expected="those of both sides"
            )
        return self.chosen - self.ref_chosen.detach(), self.rejected - self.ref_rejected.detach()

    def margin(self, objective: str) -> Tensor:
        """By how much more the policy has raised chosen than rejected above the reference, in nats, (batch,)."""
        chosen, rejected = self.gains(objective)
        return chosen - rejected

    def tokens(self, objective: str) -> tuple[Tensor, Tensor]:
        """Tokens of chosen and of rejected in the precision of the log-probabilities; ContractError if they are unknown."""
        if self.chosen_tokens is None or self.rejected_tokens is None:
            raise ContractError("no token counts", where=objective, expected="those of both sides")
        return self.chosen_tokens.to(self.chosen), self.rejected_tokens.to(self.rejected)

    def means(self, objective: str) -> tuple[Tensor, Tensor]:
        """Mean log-probability a token of chosen and of rejected, in nats, each (batch,): no reference in it."""
        chosen_tokens, rejected_tokens = self.tokens(objective)
        return self.chosen / chosen_tokens, self.rejected / rejected_tokens


def _check_counts(name: str, counts: Tensor, beside: Tensor) -> None:
    if counts.shape != beside.shape:
        found = f"{name} of shape {tuple(counts.shape)} beside log-probabilities of shape {tuple(beside.shape)}"
        raise ContractError(found, where="PairLogps", expected="one shape for all")
    if counts.is_floating_point() or bool((counts < 1).any()):
        raise ContractError(
            f"{name} holds {counts.tolist()}", where="PairLogps", expected="whole numbers of at least 1"
        )


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


def ipo(pairs: PairLogps, *, beta: float = 0.1, per_token: bool = False) -> Tensor:
    """Bring the chosen/rejected margin above the reference's to a fixed target, and no further.

    loss = (m - 1/(2 beta))^2,  m = (chosen - ref_chosen) - (rejected - ref_rejected)
    per_token: each of the two differences is divided by the tokens of its answer first.

    pairs: with reference; with token counts if per_token. beta: 1/nats, > 0, the paper's tau. Returns the loss of each pair
    in squared nats, shape (batch,), not averaged. Raises ContractError if beta <= 0, or reference or counts are missing.
    Source: Azar et al. 2023, eq. 17, where pi(y|x) is the probability of the whole answer, hence per_token=False. TRL divides
    by the tokens, which its authors say the paper's experiments did too, so that beta does not depend on the length: that is
    per_token=True, and a beta tuned for one does not serve the other. Oracle: TRL `ipo` for True; by hand for False.
    """
    positive("ipo", beta=beta)
    chosen, rejected = pairs.gains("ipo")
    if per_token:
        chosen_tokens, rejected_tokens = pairs.tokens("ipo")
        chosen, rejected = chosen / chosen_tokens, rejected / rejected_tokens
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def hinge(pairs: PairLogps, *, beta: float = 0.1) -> Tensor:
    """Raise the chosen/rejected margin above the reference's until it reaches 1/beta, then leave the pair alone.

    loss = max(0, 1 - beta m),  m = (chosen - ref_chosen) - (rejected - ref_rejected)

    pairs: with reference. beta: 1/nats, > 0. Returns the loss of each pair, shape (batch,), not averaged.
    Raises ContractError if beta <= 0 or the reference is missing.
    Source: Zhao et al. 2023 (SLiC-HF) has the hinge on log-probabilities without a reference, with a cross-entropy term;
    Liu et al. 2023 (RSO, `hinge-norm`) sets the reference in place of that term, and this is theirs. Oracle: TRL `hinge`.
    """
    positive("hinge", beta=beta)
    return (1 - beta * pairs.margin("hinge")).relu()


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


def same_layout(where: str, **tensors: Tensor) -> None:
    """Raises ContractError unless all have one shape and one floating dtype, so that nothing broadcasts by accident."""
    first_name, first = next(iter(tensors.items()))
    if not first.is_floating_point():
        raise ContractError(f"{first_name} holds {first.dtype}", where=where, expected="log-probabilities as floats")
    for name, tensor in tensors.items():
        if tensor.shape != first.shape:
            found = f"{name} of shape {tuple(tensor.shape)} beside {first_name} of shape {tuple(first.shape)}"
            raise ContractError(found, where=where, expected="one shape for all")
        if tensor.dtype != first.dtype:
            found = f"{name} in {tensor.dtype} beside {first_name} in {first.dtype}"
            raise ContractError(found, where=where, expected="one precision for all")


def positive(where: str, **values: float) -> None:
    """Raises ContractError for the first value that is not above 0; not-a-number counts as such."""
    for name, value in values.items():
        if not value > 0:
            raise ContractError(f"{name} is {value}", where=where, expected="a number above 0")


def not_negative(where: str, **values: float) -> None:
    """Raises ContractError for the first value that is below 0; not-a-number counts as such."""
    for name, value in values.items():
        if not value >= 0:
            raise ContractError(f"{name} is {value}", where=where, expected="0 or a number above it")
