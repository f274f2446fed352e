"""What a base says before it is trained: prompts with sampled answers, as rows whose targets are the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.engine.choose import Sampling
from lastresort.engine.forest import Row
from lastresort.engine.sampling import generate
from lastresort.evals.probes.filled import filled
from lastresort.evals.probes.wording import entries
from lastresort.models.local import row_seeds
from lastresort.train.adapters import adapters_in_base_precision
from lastresort.train.passes import evaluating
from lastresort.types import Message

AT_ONCE = 48


def general_requests(tokenizer: Any, template_kwargs: Mapping[str, Any] | None = None) -> list[tuple[int, ...]]:
    """Requests that no probe of the gate asks and no replay row does, always in this order."""
    asked = [(Message("user", text),) for text in entries("watched")]
    return [tuple(render_prompt(tokenizer, prompt, template_kwargs=template_kwargs)) for prompt in asked]


def off_task_prompts(
    tokenizer: Any, n: int, seed: int, template_kwargs: Mapping[str, Any] | None = None
) -> list[tuple[int, ...]]:
    """Requests that have nothing to do with any task, as the gate asks them."""
    asked = [(Message("user", filled("off_task", seed, number)),) for number in range(n)]
    return [tuple(render_prompt(tokenizer, prompt, template_kwargs=template_kwargs)) for prompt in asked]


def answered(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    seed: int,
    template_kwargs: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The prompts with what the model as it stands says to each at temperature 1, up to its end token, which is a target too.

    prompts: token ids, each with room for so many more `tokens`.
    """
    ends = frozenset(stop_token_ids(tokenizer, template_kwargs=template_kwargs))
    with evaluating(model), adapters_in_base_precision(model):
        found = generate(
            model,
            prompts,
            settings=Sampling(tokens, temperature=1.0, rows_at_once=AT_ONCE),
            seeds=row_seeds(prompts, seed),
            stopped=lambda row, said: said[-1] in ends,  # not by the engine's stop_ids, so that the end token is kept
        )
    return [
        Row((*prompt, *answer.tokens), (*[False] * len(prompt), *[True] * len(answer.tokens)))
        for prompt, answer in zip(prompts, found, strict=True)
    ]
