"""The plain path: padded batches through the model's own forward, correct for any causal model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.forest import Row
from lastresort.engine.head import target_logps_of
from lastresort.engine.parts import Head, Parts


def plain_logps(parts: Parts, rows: Sequence[Row], *, head: Head | None, equal_lengths: bool) -> Tensor:
    """log p of each target, in the order of the rows.

    head: how hidden states become logits; None where that is unknown, so that the model's own logits are taken, at target
    positions where its forward can be told. equal_lengths: never pad (the length of a batch changes what it computes).
    """
    found: dict[int, Tensor] = {}
    for group in _batches(rows, equal_lengths):
        ids, mask, picks, targets, owner = _padded([rows[i] for i in group], parts.causal.device)
        if not len(targets):
            continue
        if head is not None:
            hidden = parts.trunk(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            flat = owner * ids.shape[1] + picks
            logps = target_logps_of(hidden.flatten(0, 1), flat, targets, head)
        else:
            logps = _own_logits(parts.causal, ids, mask, picks, targets, owner)
        counts = torch.bincount(owner, minlength=len(group)).tolist()
        found.update(zip(group, torch.split(logps, counts), strict=True))
    if not found:
        return torch.zeros(0, device=parts.causal.device)
    return torch.cat([found[i] for i in sorted(found)])


def _own_logits(causal: Any, ids: Tensor, mask: Tensor, picks: Tensor, targets: Tensor, owner: Tensor) -> Tensor:
    kept, place = torch.unique(picks, return_inverse=True)
    if "logits_to_keep" in inspect.signature(causal.forward).parameters:
        logits: Tensor = causal(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=kept).logits[
            owner, place
        ]
    else:
        logits = causal(input_ids=ids, attention_mask=mask, use_cache=False).logits[owner, picks]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]


def _batches(rows: Sequence[Row], equal_lengths: bool) -> Iterator[list[int]]:
    if not equal_lengths:
        yield list(range(len(rows)))
        return
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row.ids), []).append(i)
    yield from by_length.values()


def _padded(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """ids and mask [rows, longest], padded on the right; pick, target and row of each target."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    picks, targets, owner = [], [], []
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        mask[number, : len(row.ids)] = 1
        for i, wanted in enumerate(row.targets):
            if wanted:
                picks.append(i - 1)
                targets.append(row.ids[i])
                owner.append(number)
    pick, target, owners = (torch.tensor(x, dtype=torch.long, device=device) for x in (picks, targets, owner))
    return ids.to(device), mask.to(device), pick, target, owners
