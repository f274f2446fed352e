"""What a base says before it is trained: prompts with sampled answers, as rows whose targets are the answers.

How far a tuned model has drifted from its base where it was not trained: shown beside the gate's verdict, never voted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lastresort.data.plain_text import TextDocument, packed_rows
from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.data.wording import entries, filled
from lastresort.engine.choose import Sampling
from lastresort.engine.forest import Row
from lastresort.engine.logp import target_logps
from lastresort.engine.sampling import generate
from lastresort.models.local import LocalModel, row_seeds
from lastresort.train.adapters.adapters import adapters_in_base_precision
from lastresort.train.loop.passes import evaluating
from lastresort.train.watch.divergence import Divergence, divergence_between
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


PROMPTS, ANSWER_TOKENS, ROW_TOKENS = 48, 48, 512


@dataclass(frozen=True, slots=True)
class BaseDrift:
    """kl: KL(base || tuned) on answers of the base to general requests. base_perplexity, tuned_perplexity: of a page of prose, a
    token. tokens: of that page.
    """

    kl: Divergence
    base_perplexity: float
    tuned_perplexity: float
    tokens: int


def base_drift(base: LocalModel, tuned: LocalModel, *, seed: int = 0, prompts: int = PROMPTS) -> BaseDrift:
    """Both models are held at once. The text of the base is cut into tokens by the base's tokenizer, which both must share."""
    tokenizer = base.loaded.tokenizer
    asked = off_task_prompts(tokenizer, prompts, seed)
    rows = answered(base.loaded.model, tokenizer, asked, tokens=ANSWER_TOKENS, seed=seed)
    page = prose_rows(tokenizer)
    return BaseDrift(
        divergence_between(base.loaded.model, tuned.loaded.model, rows),
        perplexity(base.loaded.model, page),
        perplexity(tuned.loaded.model, page),
        sum(sum(row.targets) for row in page),
    )


def prose_rows(tokenizer: Any, row_tokens: int = ROW_TOKENS) -> list[Row]:
    """A page that was written for this project, so that no model was trained on it."""
    text = files("lastresort.data").joinpath("texts", "plain.txt").read_text("utf-8")
    return [Row(row.ids, row.targets) for row in packed_rows(tokenizer, [TextDocument(text, "plain.txt")], row_tokens)]


def perplexity(model: Any, rows: Sequence[Row]) -> float:
    """exp(-mean log-probability of the targets), each row by itself."""
    with evaluating(model):
        found = [target_logps(model, [row]).per_token.double() for row in rows]
    return math.exp(-sum(float(one.sum()) for one in found) / sum(len(one) for one in found))
