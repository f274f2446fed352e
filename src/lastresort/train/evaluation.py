"""The objective on items that are not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lastresort.train.gradients import seen_by_all
from lastresort.train.items import Item
from lastresort.train.objective import BatchLoss, Objective, Seen, bind
from lastresort.train.passes import evaluating
from lastresort.train.policy import Policy
from lastresort.train.reference import Keeping, reference_logps
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class Evaluated:
    """loss: of the objective over all items. shown: its own figures (margins, gains), means over them."""

    loss: float
    shown: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """known: log-probabilities of the items' rows under the reference, None where the objective needs none."""

    policy: Policy
    objective: Objective
    items: Sequence[Item]
    known: list[list[float]] | None

    def evaluated(self, progress: Progress) -> Evaluated | None:
        """The loss of the items as of one batch, in evaluation mode; None without any. Each process computes its share."""
        if not self.items:
            return None
        processes = self.policy.processes
        progress.stage(f"evaluating {len(self.items):,} items held out", len(self.policy.own(self.items)))
        with evaluating(self.policy.model):
            loss_of = bind(self.objective, self.items, self.known, self.policy.score)
            shares = processes.each(lambda: self._share(loss_of, progress))
        return Evaluated(sum(loss for loss, _ in shares), seen_by_all([seen for _, seen in shares]).means())

    def _share(self, loss_of: BatchLoss, progress: Progress) -> tuple[float, Seen]:
        own, seen, total = self.policy.own(self.items), Seen(), 0.0
        for part, result in self.policy.passes([self.items[number].trained for number in own]):
            total += float(loss_of.loss([own[i] for i in part], result.per_token, result.row, seen))
            progress.advance(len(part))
        return total, seen


def hold_out(
    policy: Policy, items: Sequence[Item], objective: Objective, keeping: Keeping, progress: Progress
) -> HeldOut:
    """Items to evaluate, with their reference where the objective needs one; see `reference_logps`."""
    known = None
    if items and objective.needs_reference:
        known = reference_logps(policy, items, keeping, "evaluation", progress)
    return HeldOut(policy, objective, items, known)
