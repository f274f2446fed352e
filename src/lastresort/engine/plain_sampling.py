"""Generation through the model's own `generate`, for whatever the packed form cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.choose import Sampling
from lastresort.engine.support import Support


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
        for batch in _batches(texts, settings.rows_at_once, equal_lengths):
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


def _batches(texts: Sequence[tuple[int, ...]], rows_at_once: int, equal_lengths: bool) -> Iterator[list[int]]:
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
