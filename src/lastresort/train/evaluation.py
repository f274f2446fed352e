"""The objective on items that are not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.train.batches import fingerprint
from lastresort.train.items import Item
from lastresort.train.objective import Objective, Seen, bind
from lastresort.train.passes import evaluating
from lastresort.train.policy import Policy
from lastresort.train.reference import reference_logps


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

    def evaluated(self) -> Evaluated | None:
        """The loss of the items as of one batch, in evaluation mode; None without any."""
        if not self.items:
            return None
        seen, total = Seen(), 0.0
        with evaluating(self.policy.model):
            loss_of = bind(self.objective, self.items, self.known, self.policy.score)
            for part, result in self.policy.passes([item.trained for item in self.items]):
                total += float(loss_of.loss(part, result.per_token, result.row, seen))
        return Evaluated(total, seen.means())


def hold_out(
    policy: Policy, items: Sequence[Item], objective: Objective, folder: Path, run: str, *, begun: bool
) -> HeldOut:
    """Items to evaluate, with their reference where the objective needs one. folder, run, begun: see `reference_logps`."""
    known = None
    if items and objective.needs_reference:
        known = reference_logps(items, policy.logps_of, folder, f"{run} {fingerprint(items)}", begun=begun)
    return HeldOut(policy, objective, items, known)
