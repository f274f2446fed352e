"""What the objectives on pairs read: a batch of chosen and rejected answers, and every margin between them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lastresort.errors import ContractError
from lastresort.objectives.contract import same_layout


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
