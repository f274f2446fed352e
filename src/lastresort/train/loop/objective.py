"""How an objective turns the log-probabilities of a pass into its share of a batch's loss.

Every loss is a sum over passes whose terms depend on the whole optimizer batch only through numbers known beforehand
(token counts, KTO's baseline), so that accumulating gradients changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from lastresort.engine.forest import Row
from lastresort.engine.logp import row_sums
from lastresort.errors import ContractError
from lastresort.objectives.answers import PairLogps, kto_baseline
from lastresort.objectives.grpo import Variant, k3, token_weights
from lastresort.train.loop.batches import TrainingItem
from lastresort.train.settings import Objective

Score = Callable[[Sequence[Row]], Tensor]


@dataclass(slots=True)
class BatchFigures:
    """Sums over the items of a batch, of what is reported with its loss; divided by `items` at its end."""

    items: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, items: int, **sums: Tensor) -> None:
        self.items += items
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())

    def means(self) -> dict[str, float]:
        return {name: total / self.items for name, total in self.sums.items()} if self.items else {}


class BatchLoss(Protocol):
    """An objective bound to one optimizer batch."""

    def loss(self, numbers: Sequence[int], per_token: Tensor, row: Tensor, seen: BatchFigures) -> Tensor:
        """The share of the batch's loss of items `numbers`, whose trained rows were computed in this order: a scalar.

        per_token: log-probabilities of their targets in nats; row: which of their rows each belongs to.
        """


def bind(
    objective: Objective,
    items: Sequence[TrainingItem],
    reference: Sequence[Sequence[float]] | None,
    score: Score,
    *,
    max_new_tokens: int | None = None,
    dropped: int = 0,
) -> BatchLoss:
    """The loss of one optimizer batch: `items` are all of it, on all devices.

    reference: for each item the summed log-probabilities of its rows under the reference, None where none is needed.
    score: summed log-probabilities of rows under the policy, without gradient (KTO's baseline). max_new_tokens: for dr_grpo.
    dropped: as in `Batch`.
    """
    if objective.needs_reference and reference is None and objective.need != "groups":
        raise ContractError("no reference", where=objective.name, expected="its log-probabilities")
    if objective.need in ("pairs", "labels") and any(item.is_replay for item in items):
        return _WithReplay(objective, items, reference, score)
    if objective.need in ("completions", "text"):
        return _Answers(objective, items)
    if objective.need == "pairs":
        return _Pairs(objective, items, reference)
    if objective.need == "labels":
        return _Labels(objective, items, reference or (), score)
    return _Groups(objective, items, max_new_tokens, dropped)


class _Answers:
    def __init__(self, objective: Objective, items: Sequence[TrainingItem]) -> None:
        self._items, self._function = items, objective.function()
        self._targets = _targets(items)
        self._held = sum(item.held for item in items)
        self._free_targets = _targets([item for item in items if not item.held])

    def loss(self, numbers: Sequence[int], per_token: Tensor, row: Tensor, seen: BatchFigures) -> Tensor:
        """Of a held item per_token is -KL(base || policy), so that the likelihood's own function makes the divergence of it."""
        losses = self._function(per_token)
        self._show(numbers, losses.detach(), row, seen)
        if all(item.weight == 1.0 for item in self._items):
            return losses.sum() / self._targets
        weights = losses.new_tensor([self._items[number].weight for number in numbers])
        return (losses * weights[row]).sum() / self._targets

    def _show(self, numbers: Sequence[int], losses: Tensor, row: Tensor, seen: BatchFigures) -> None:
        """Of a batch with held items: how far these are from the base, in nats a target, as a mean over them, and the loss of the
        other items alone, in nats a target.
        """
        if not self._held:
            return
        held = torch.tensor([self._items[number].held for number in numbers], device=row.device)
        means = row_sums(losses, row, len(numbers)) / torch.bincount(row, minlength=len(numbers)).clamp(min=1)
        seen.add(int(held.sum()), kl_to_base=means[held].sum())
        if self._free_targets:
            scale = self._held / self._free_targets  # `seen` divides by the held items, of which this is no figure
            seen.add(0, task_loss=losses[~held[row]].sum() * scale)


def _targets(items: Sequence[TrainingItem]) -> int:
    return sum(sum(row.targets) for item in items for row in item.rows)


class _Pairs:
    def __init__(
        self, objective: Objective, items: Sequence[TrainingItem], reference: Sequence[Sequence[float]] | None
    ) -> None:
        self._items, self._reference = items, reference
        self._name, self._function, self._options = objective.name, objective.function(), dict(objective.options)

    def loss(self, numbers: Sequence[int], per_token: Tensor, row: Tensor, seen: BatchFigures) -> Tensor:
        chosen, rejected = row_sums(per_token, row, 2 * len(numbers)).view(-1, 2).unbind(1)
        tokens = torch.bincount(row, minlength=2 * len(numbers)).view(-1, 2)
        pairs = PairLogps(chosen, rejected, chosen_tokens=tokens[:, 0], rejected_tokens=tokens[:, 1])
        margin = chosen - rejected
        if self._reference is not None:
            far = chosen.new_tensor([list(self._reference[i]) for i in numbers])
            pairs = replace(pairs, ref_chosen=far[:, 0], ref_rejected=far[:, 1])
            chosen_gain, rejected_gain = pairs.gains(self._name)
            margin = chosen_gain - rejected_gain
            seen.add(0, chosen_gain=chosen_gain.sum(), rejected_gain=rejected_gain.sum())
        losses = self._function(pairs, **self._options)
        seen.add(len(numbers), margin=margin.sum(), margin_above_0=(margin > 0).sum())
        return losses.sum() / len(self._items)


class _Labels:
    def __init__(
        self, objective: Objective, items: Sequence[TrainingItem], reference: Sequence[Sequence[float]], score: Score
    ) -> None:
        self._items, self._reference, self._objective = items, reference, objective
        mismatched = score([item.rows[1] for item in items])
        self._baseline = kto_baseline(mismatched, mismatched.new_tensor([far for _, far in reference]))

    def loss(self, numbers: Sequence[int], per_token: Tensor, row: Tensor, seen: BatchFigures) -> Tensor:
        logps = row_sums(per_token, row, len(numbers))
        known = logps.new_tensor([self._reference[i][0] for i in numbers])
        desirable = torch.tensor([bool(self._items[i].desirable) for i in numbers], device=logps.device)
        options = dict(self._objective.options)
        losses = self._objective.function()(logps, known, desirable, self._baseline, **options)
        gain = logps - known
        seen.add(
            len(numbers),
            gain_of_desirable=gain[desirable].sum(),
            gain_of_undesirable=gain[~desirable].sum(),
            baseline=self._baseline * len(numbers),
        )
        return losses.sum() / len(self._items)


class _WithReplay:
    """A mean over all items of the batch: pairs or labelled answers count by their objective, a row of replay by its weight times
    the mean of its targets' losses. A sum of these would outweigh the pairs, whose tokens count beta times or less.
    """

    def __init__(
        self,
        objective: Objective,
        items: Sequence[TrainingItem],
        reference: Sequence[Sequence[float]] | None,
        score: Score,
    ) -> None:
        self._items = items
        not_replayed = [number for number, item in enumerate(items) if not item.is_replay]
        self._place = {number: place for place, number in enumerate(not_replayed)}
        self._own: BatchLoss | None = None
        if not_replayed:
            known = None if reference is None else [reference[number] for number in not_replayed]
            self._own = bind(objective, [items[number] for number in not_replayed], known, score)

    def loss(self, numbers: Sequence[int], per_token: Tensor, row: Tensor, seen: BatchFigures) -> Tensor:
        """Of a held item per_token is -KL(base || policy), as in `_Answers`."""
        mixed = [self._items[number].is_replay for number in numbers]
        of_row = [place for place, number in enumerate(numbers) for _ in self._items[number].trained]
        is_replay = torch.tensor([mixed[place] for place in of_row], device=row.device)
        renumbered = torch.where(is_replay, is_replay.cumsum(0), (~is_replay).cumsum(0)) - 1
        soft = is_replay[row]
        parts = [
            self._replay([n for n in numbers if n not in self._place], per_token[soft], renumbered[row[soft]], seen)
        ]
        places = [self._place[number] for number in numbers if number in self._place]
        if places and self._own is not None:
            own_loss = self._own.loss(places, per_token[~soft], renumbered[row[~soft]], seen)
            parts.append(own_loss * (len(self._place) / len(self._items)))
        return torch.stack([part.double() for part in parts]).sum()

    def _replay(self, numbers: Sequence[int], per_token: Tensor, row: Tensor, seen: BatchFigures) -> Tensor:
        tokens = torch.bincount(row, minlength=len(numbers)).clamp(min=1)
        means = -row_sums(per_token, row, len(numbers)) / tokens
        held = [self._items[number].held for number in numbers]
        if any(held):
            self._show(means.detach()[torch.tensor(held, device=means.device)], seen)
        weights = means.new_tensor([self._items[number].weight for number in numbers])
        return (means * weights).sum() / len(self._items)

    def _show(self, means: Tensor, seen: BatchFigures) -> None:
        """The mean distance of held rows, beside figures that are means over the other items."""
        if not self._place:
            seen.add(len(means), kl_to_base=means.sum())
            return
        held = sum(item.held for item in self._items)
        seen.add(0, kl_to_base=means.sum() * len(self._place) / held)


class _Groups:
    def __init__(
        self, objective: Objective, items: Sequence[TrainingItem], max_new_tokens: int | None, dropped: int
    ) -> None:
        self._items, self._objective, self._longest = items, objective, max_new_tokens
        # What was dropped counts as answers without tokens: in a mean over answers, and not in one over tokens.
        self._tokens = torch.tensor([*(sum(item.rows[0].targets) for item in items), *[0] * dropped])

    def loss(self, numbers: Sequence[int], per_token: Tensor, row: Tensor, seen: BatchFigures) -> Tensor:
        item_of_token = torch.tensor(list(numbers), device=row.device)[row]
        advantages = per_token.new_tensor([item.advantage for item in self._items])[item_of_token]
        old = self._old(numbers, per_token.detach(), row)
        options: dict[str, float | Tensor | None] = dict(self._objective.options)
        reference = None
        if self._objective.needs_reference:
            far = [value for i in numbers for value in self._items[i].reference]
            options["per_token_ref_logps"] = reference = per_token.new_tensor(far) if far else None
        losses = self._objective.function()(per_token, old, advantages, **options)
        variant = cast(Variant, self._objective.name)
        weights = token_weights(
            item_of_token, self._tokens.to(row.device), variant=variant, max_tokens=self._longest, dtype=per_token.dtype
        )
        if reference is not None:
            apart = k3(per_token.detach(), reference)
            seen.add(0, kl=(apart / self._tokens.to(row.device)[item_of_token]).sum())
        seen.add(len(numbers), answer_tokens=self._tokens[list(numbers)].sum())
        return (losses * weights).sum()

    def _old(self, numbers: Sequence[int], present: Tensor, row: Tensor) -> Tensor:
        """Log-probabilities under the policy that sampled. Where an item has none, it is the policy that is updated, as this pass
        has it: each batch gets one update."""
        known = [self._items[i].old for i in numbers]
        if not any(known):
            return present
        parts = torch.split(present, torch.bincount(row, minlength=len(numbers)).tolist())
        return torch.cat([part.new_tensor(old) if old else part for part, old in zip(parts, known, strict=True)])


def refused_options(objective: Objective) -> ContractError | None:
    """What the objective says of its options, by a call on one row; None where it takes them."""
    logp, count = torch.full((1,), -1.0), torch.ones(1, dtype=torch.long)
    arguments: tuple[Any, ...] = (logp,)
    more: dict[str, Tensor] = {}
    if objective.need == "pairs":
        arguments = (PairLogps(logp, logp, logp, logp, count, count),)
    elif objective.need == "labels":
        arguments = (logp, logp, torch.ones(1, dtype=torch.bool), torch.zeros(()))
    elif objective.need == "groups":
        arguments, more = (logp, logp, logp), {"per_token_ref_logps": logp}
    try:
        objective.function()(*arguments, **more, **dict(objective.options))
    except ContractError as error:
        return error
    return None
