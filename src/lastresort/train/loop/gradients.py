"""The gradients of one optimizer batch and the loss on held-out items, pass by pass, each process computing its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lastresort.errors import DataError
from lastresort.train.adapters.adapters import trainable
from lastresort.train.loop.batches import Batch, TrainingItem
from lastresort.train.loop.objective import BatchFigures, BatchLoss, bind
from lastresort.train.loop.policy import Policy, evaluating
from lastresort.train.loop.reference import Base, Reference, ReferenceStore, reference_logps
from lastresort.train.settings import Objective
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class BatchPass:
    """One optimizer batch after its backward passes. skipped: it held nothing to learn from."""

    loss: float
    computed_tokens: int
    nominal_tokens: int
    figures: Mapping[str, float]
    skipped: bool = False


def batch_gradients(
    policy: Policy,
    batch: Batch,
    objective: Objective,
    reference: Reference,
    *,
    base: Base | None = None,
    max_new_tokens: int | None = None,
) -> BatchPass:
    """Leave the gradients of the batch's loss in the parameters, the same in every process.

    The first batch of the run is checked by both paths before. base: for items that are held to it. max_new_tokens: for dr_grpo.
    Raises DataError for a batch without targets.
    """
    if not batch.items:
        return BatchPass(0.0, 0, 0, batch.figures, skipped=True)
    if not any(any(row.targets) for item in batch.items for row in item.rows):
        raise DataError(
            "no token of the batch is trained",
            where="training",
            expected="targets in every row",
            remedy="Run `lastresort data check`.",
        )
    policy.check_first(batch.items)
    known = reference.of_items(batch)
    loss_of = bind(objective, batch.items, known, policy.score, max_new_tokens=max_new_tokens, dropped=batch.dropped)
    shares = policy.processes.each(lambda: _share(policy, batch, loss_of, base))
    policy.processes.sum_gradients([parameter for _, parameter in trainable(policy.model)])
    for path in (path for share in shares for path in share.paths):
        policy.note_path(*path)
    return BatchPass(
        sum(share.loss for share in shares),
        sum(share.computed_tokens for share in shares),
        sum(share.nominal_tokens for share in shares),
        {**batch.figures, **merged_figures([share.seen for share in shares]).means()},
    )


@dataclass(slots=True)
class _Share:
    """What one process did of a batch. paths: of its passes, with their reasons."""

    loss: float = 0.0
    computed_tokens: int = 0
    nominal_tokens: int = 0
    seen: BatchFigures = field(default_factory=BatchFigures)
    paths: dict[tuple[str, str | None], None] = field(default_factory=dict)


def _share(policy: Policy, batch: Batch, loss_of: BatchLoss, base: Base | None) -> _Share:
    own_numbers, share = policy.own(batch.items), _Share()
    items = [batch.items[number] for number in own_numbers]
    far = () if base is None else base.far_of(items)
    for part, result in policy.passes([item.trained for item in items], far):
        loss = loss_of.loss([own_numbers[i] for i in part], result.per_token, result.row, share.seen)
        torch.autograd.backward(loss * policy.processes.divided_by)
        share.loss += float(loss.detach())
        share.computed_tokens += result.computed_tokens
        share.nominal_tokens += result.nominal_tokens
        share.paths[result.path, result.reason] = None
    return share


def merged_figures(parts: Sequence[BatchFigures]) -> BatchFigures:
    """The figures of several processes as those of one."""
    whole = BatchFigures()
    for part in parts:
        whole.items += part.items
        for name, total in part.sums.items():
            whole.sums[name] = whole.sums.get(name, 0.0) + total
    return whole


@dataclass(frozen=True, slots=True)
class Evaluated:
    """loss: of the objective over all items. figures: its own figures (margins, gains), means over them."""

    loss: float
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """known: log-probabilities of the items' rows under the reference, None where the objective needs none."""

    policy: Policy
    objective: Objective
    items: Sequence[TrainingItem]
    known: list[list[float]] | None

    def evaluate(self, progress: Progress) -> Evaluated | None:
        """The loss of the items as of one batch, in evaluation mode; None without any. Each process computes its share."""
        if not self.items:
            return None
        processes = self.policy.processes
        with evaluating(self.policy.model):
            own_numbers = self.policy.own(self.items)
            progress.stage(f"evaluating {len(self.items):,} items held out", len(own_numbers))
            loss_of = bind(self.objective, self.items, self.known, self.policy.score)
            shares = processes.each(lambda: self._share(own_numbers, loss_of, progress))
        return Evaluated(sum(loss for loss, _ in shares), merged_figures([seen for _, seen in shares]).means())

    def _share(self, own: Sequence[int], loss_of: BatchLoss, progress: Progress) -> tuple[float, BatchFigures]:
        seen, total = BatchFigures(), 0.0
        for part, result in self.policy.passes([self.items[number].trained for number in own]):
            total += float(loss_of.loss([own[i] for i in part], result.per_token, result.row, seen))
            progress.advance(len(part))
        return total, seen


def hold_out(
    policy: Policy, items: Sequence[TrainingItem], objective: Objective, store: ReferenceStore, progress: Progress
) -> HeldOut:
    """Items to evaluate, with their reference where the objective needs one; see `reference_logps`."""
    known = None
    if items and objective.needs_reference:
        known = reference_logps(policy, items, store, "evaluation", progress)
    return HeldOut(policy, objective, items, known)
