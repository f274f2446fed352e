"""Log-probabilities of the target tokens of rows: what training and scoring ask of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lastresort.engine.attention import Packed
from lastresort.engine.divergence import Far, target_values_of
from lastresort.engine.forest import Row, plan_forest, split_indices, split_padded
from lastresort.engine.parts import packed_hidden
from lastresort.engine.plain import plain_logps, plain_states
from lastresort.engine.support import Support, support, why_plain_batch
from lastresort.errors import ContractError

Path = Literal["packed", "plain"]


@dataclass(frozen=True, slots=True)
class TargetLogps:
    """per_token: log p in nats of each target in the order of the rows, float32 or wider, differentiable. row: which row
    each belongs to. reason: why the path is plain, None if it is packed or plain was requested."""

    per_token: Tensor
    row: Tensor
    computed_tokens: int
    nominal_tokens: int
    path: Path
    reason: str | None


def target_logps(model: Any, rows: Sequence[Row], *, plain: bool = False, far: Far | None = None) -> TargetLogps:
    """One pass over all rows, each shared piece computed once. model: a transformers causal model, or peft around one.

    far: what `target_states` found of the model to stay close to, for some of the rows; they get -KL(far || model) of each target
    in place of log p. The model keeps the engine's attention implementation afterwards, under which its own forward is what it was.
    Raises ContractError for far states of a model whose hidden states cannot be distinguished from its logits.
    """
    if not rows:
        raise ContractError("no rows", where="target_logps")
    found = support(model)
    device = found.parts.causal.device
    reason = None if plain else why_plain_batch(found, max(len(row.ids) for row in rows))
    owners = torch.tensor(
        [i for i, row in enumerate(rows) for wanted in row.targets if wanted], dtype=torch.long, device=device
    )
    if plain or reason is not None:
        logps = plain_logps(found.parts, rows, head=found.head, equal_lengths=found.equal_lengths, far=far)
        nominal = sum(len(row.ids) for row in rows)
        return TargetLogps(logps, owners, _padded(found, rows), nominal, "plain", reason)
    forest = plan_forest(rows)
    if not forest.pick:
        empty = torch.zeros(0, dtype=torch.promote_types(found.parts.causal.dtype, torch.float32), device=device)
        return TargetLogps(empty, owners, 0, forest.nominal_tokens, "packed", None)
    attends = Packed(forest.nodes, kernel=found.kernel)
    hidden = packed_hidden(found.parts.trunk, forest.ids, forest.positions, attends, device)
    pick, target = torch.tensor(forest.pick, device=device), torch.tensor(forest.target, device=device)
    logps = target_values_of(hidden, pick, target, owners, found.parts.head, far)
    return TargetLogps(logps, owners, forest.computed_tokens, forest.nominal_tokens, "packed", None)


def planned_tokens(model: Any, rows: Sequence[Row], *, plain: bool = False) -> int:
    """How many tokens `target_logps` would compute of these rows in one pass, without computing anything."""
    found = support(model)
    if plain or why_plain_batch(found, max((len(row.ids) for row in rows), default=0)) is not None:
        return _padded(found, rows)
    forest = plan_forest(rows)
    return forest.computed_tokens if forest.pick else 0


def _padded(found: Support, rows: Sequence[Row]) -> int:
    """Tokens of a plain pass, in which every row is as long as the longest, unless it takes rows of one length alone."""
    longest = max(len(row.ids) for row in rows)
    return sum(len(row.ids) for row in rows) if found.equal_lengths else len(rows) * longest


@torch.no_grad()
def target_states(model: Any, rows: Sequence[Row], *, plain: bool = False) -> list[Tensor]:
    """Of each row the hidden states that predict its targets, [targets, width], in the model's precision.

    Raises ContractError as `target_logps` does for far states.
    """
    found = support(model)
    device = found.parts.causal.device
    counts = [sum(row.targets) for row in rows]
    if not any(counts):
        return [torch.zeros(0, device=device) for _ in rows]
    if plain or why_plain_batch(found, max(len(row.ids) for row in rows)) is not None:
        return plain_states(found.parts, rows, head=found.head, equal_lengths=found.equal_lengths)
    forest = plan_forest(rows)
    attends = Packed(forest.nodes, kernel=found.kernel)
    hidden = packed_hidden(found.parts.trunk, forest.ids, forest.positions, attends, device)
    return list(torch.split(hidden[torch.tensor(forest.pick, device=device)], counts))


def row_sums(per_token: Tensor, row: Tensor, rows: int) -> Tensor:
    """Sum of each row's tokens, shape [rows], in float64: a margin is a small difference of sums over long answers.

    On the CPU where the device has no float64 (mps).
    """
    if per_token.device.type == "mps":
        per_token, row = per_token.cpu(), row.cpu()
    return per_token.new_zeros(rows, dtype=torch.float64).index_add(0, row, per_token.double())


@torch.no_grad()
def score_continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    max_tokens: int = 4096,
) -> list[list[float]]:
    """Summed log-probability in nats of every continuation of every prompt; an empty continuation has 0.

    max_tokens: computed tokens a pass, padding counted.
    """
    if len(prompts) != len(continuations):
        raise ContractError(f"{len(prompts)} prompts, {len(continuations)} lists of continuations", where="score")
    rows, places = [], []
    for number, (prompt, choices) in enumerate(zip(prompts, continuations, strict=True)):
        if not prompt:
            raise ContractError(f"prompt {number} is empty", where="score")
        for choice, tokens in enumerate(choices):
            if tokens:
                rows.append(Row((*prompt, *tokens), (*[False] * len(prompt), *[True] * len(tokens))))
                places.append((number, choice))
    scores = [[0.0] * len(choices) for choices in continuations]
    for part in _passes(model, rows, max_tokens):
        seen = target_logps(model, [rows[i] for i in part])
        for i, total in zip(part, row_sums(seen.per_token, seen.row, len(part)).tolist(), strict=True):
            number, choice = places[i]
            scores[number][choice] = total
    return scores


def _passes(model: Any, rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
    """Numbers of the rows of each pass. The plain path shares nothing, so that there a long prompt counts for every row."""
    if rows and why_plain_batch(support(model), max(len(row.ids) for row in rows)) is not None:
        return split_padded(rows, max_tokens)
    return split_indices(rows, max_tokens)
