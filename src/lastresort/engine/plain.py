"""The plain path: padded batches through the model's own forward, correct for any causal model.

Generation through the model's own `generate`, for whatever the packed form cannot do.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.choose import Sampling
from lastresort.engine.divergence import Far, target_values_of
from lastresort.engine.forest import Row
from lastresort.engine.parts import Head, Parts
from lastresort.engine.support import Support
from lastresort.errors import ContractError


def plain_logps(
    parts: Parts, rows: Sequence[Row], *, head: Head | None, equal_lengths: bool, far: Far | None = None
) -> Tensor:
    """log p of each target, in the order of the rows, or -KL(far || model) in the rows of which `far` has states.

    head: how hidden states become logits; None where that is unknown, so that the model's own logits are taken, at target
    positions if its forward accepts them. equal_lengths: never pad (the length of a batch changes what it computes).
    """
    if head is None and far is not None:
        raise unknown_head(parts)
    found: dict[int, Tensor] = {}
    for group in _batches(rows, equal_lengths):
        ids, mask, picks, targets, owner = _padded([rows[i] for i in group], parts.causal.device)
        if not len(targets):
            continue
        if head is not None:
            hidden = _hidden(parts, ids, mask)
            other = None if far is None else far.of(group)
            logps = target_values_of(hidden, owner * ids.shape[1] + picks, targets, owner, head, other)
        else:
            logps = _own_logits(parts.causal, ids, mask, picks, targets, owner)
        counts = torch.bincount(owner, minlength=len(group)).tolist()
        found.update(zip(group, torch.split(logps, counts), strict=True))
    if not found:
        return torch.zeros(0, device=parts.causal.device)
    return torch.cat([found[i] for i in sorted(found)])


def plain_states(parts: Parts, rows: Sequence[Row], *, head: Head | None, equal_lengths: bool) -> list[Tensor]:
    """Of each row the hidden states that predict its targets."""
    if head is None:
        raise unknown_head(parts)
    found: dict[int, Tensor] = {}
    for group in _batches(rows, equal_lengths):
        ids, mask, picks, _, owner = _padded([rows[i] for i in group], parts.causal.device)
        states = _hidden(parts, ids, mask)[owner * ids.shape[1] + picks]
        counts = torch.bincount(owner, minlength=len(group)).tolist()
        found.update(zip(group, torch.split(states, counts), strict=True))
    return [found[i] for i in range(len(rows))]


def _hidden(parts: Parts, ids: Tensor, mask: Tensor) -> Tensor:
    """Hidden states [rows * tokens, width]."""
    hidden: Tensor = parts.trunk(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1)


def unknown_head(parts: Parts) -> ContractError:
    return ContractError(
        f"{type(parts.causal).__name__}, whose logits are not known to follow from its hidden states",
        where="engine",
        expected="a model whose output layer is applied to them",
    )


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


def generate_plain(
    found: Support,
    texts: Sequence[tuple[int, ...]],
    settings: Sampling,
    advance: Callable[[Sequence[int], Tensor], list[int]],
    ended: Callable[[int], bool],
) -> None:
    """Continue all texts in batches, padded on the left unless the length of a batch changes what the model computes.

    advance(rows, logits) chooses the tokens, so that both paths choose alike; ended(row) says when to stop.
    """
    from transformers import GenerationConfig

    causal = found.parts.causal
    config = GenerationConfig(max_new_tokens=settings.max_new_tokens, do_sample=False, pad_token_id=0, use_cache=True)
    # In float64 the eager attention of transformers makes nan of a row of padding, by its softmax in float32.
    equal_lengths = found.equal_lengths or causal.dtype == torch.float64
    with _own_settings_unset(causal):
        for batch in _prompt_batches(texts, settings.rows_at_once, equal_lengths):
            longest = max(len(texts[row]) for row in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for line, row in enumerate(batch):
                ids[line, longest - len(texts[row]) :] = torch.tensor(texts[row])
                mask[line, longest - len(texts[row]) :] = 1
            causal.generate(
                input_ids=ids.to(causal.device),
                attention_mask=mask.to(causal.device),
                generation_config=config,
                logits_processor=[_choosing(batch, advance, ended)],
                stopping_criteria=[_stopping(batch, ended)],
            )


def generate_plain_in_thread(
    found: Support,
    texts: Sequence[tuple[int, ...]],
    settings: Sampling,
    advance: Callable[[Sequence[int], Tensor], list[int]],
    ended: Callable[[int], bool],
) -> Generator[None, None, None]:
    """`generate_plain`, yielding after each step. The model's own `generate` cannot be left in the middle, so that it runs in a
    thread, which ends after its present step once this is closed.
    """
    steps: SimpleQueue[BaseException | bool] = SimpleQueue()  # True: one more step, False: the last was it
    closed = threading.Event()

    def advance_and_tell(rows: Sequence[int], logits: Tensor) -> list[int]:
        chosen = advance(rows, logits)
        steps.put(True)
        return chosen

    def work() -> None:
        try:
            with torch.no_grad():
                generate_plain(found, texts, settings, advance_and_tell, lambda row: closed.is_set() or ended(row))
            steps.put(False)
        except BaseException as error:  # noqa: BLE001 - carried over to the calling thread and raised there
            steps.put(error)

    thread = threading.Thread(target=work, name="lastresort-generate", daemon=True)
    thread.start()
    try:
        while (step := steps.get()) is not False:
            if isinstance(step, BaseException):
                raise step
            yield
    finally:
        closed.set()
        thread.join()


@contextmanager
def _own_settings_unset(causal: Any) -> Iterator[None]:
    """`generate` fills what is not set from the model's generation_config: a repetition penalty, beams, further end tokens.

    Here tokens are chosen from the logits as they are, and rows end where `ended` says, as in the packed form.
    """
    from transformers import GenerationConfig

    own, causal.generation_config = causal.generation_config, GenerationConfig()
    try:
        yield
    finally:
        causal.generation_config = own


def _choosing(
    batch: Sequence[int], advance: Callable[[Sequence[int], Tensor], list[int]], ended: Callable[[int], bool]
) -> Callable[[Tensor, Tensor], Tensor]:
    """A logits processor that leaves only the chosen token."""

    def process(input_ids: Tensor, scores: Tensor) -> Tensor:
        lines = [line for line, row in enumerate(batch) if not ended(row)]
        chosen = advance([batch[line] for line in lines], scores[lines])
        left = torch.full_like(scores, -torch.inf)
        left[:, 0] = 0.0
        for line, token in zip(lines, chosen, strict=True):
            left[line, 0] = -torch.inf
            left[line, token] = 0.0
        return left

    return process


def _stopping(batch: Sequence[int], ended: Callable[[int], bool]) -> Callable[..., Tensor]:
    def stop(input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.tensor([ended(row) for row in batch], device=input_ids.device)

    return stop


def _prompt_batches(texts: Sequence[tuple[int, ...]], rows_at_once: int, equal_lengths: bool) -> Iterator[list[int]]:
    """Neighbours in length together, in an order that depends on the lengths alone."""
    order = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
    batch: list[int] = []
    for row in order:
        other_length = equal_lengths and batch and len(texts[row]) != len(texts[batch[0]])
        if len(batch) == rows_at_once or other_length:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
