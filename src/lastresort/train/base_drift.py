"""How far a tuned model has drifted from its base where it was not trained: shown beside the gate's verdict, never voted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lastresort.data.plain_text import TextDocument, packed_rows
from lastresort.data.rendering import render_prompt
from lastresort.engine.forest import Row
from lastresort.engine.logp import target_logps
from lastresort.evals.probes.filled import filled
from lastresort.models.local import LocalModel
from lastresort.train.divergence import Divergence, divergence_between
from lastresort.train.passes import evaluating
from lastresort.types import Decoding, Message

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
    rows = answered(base, [filled("off_task", seed, number) for number in range(prompts)], seed)
    page = prose_rows(base.loaded.tokenizer)
    return BaseDrift(
        divergence_between(base.loaded.model, tuned.loaded.model, rows),
        perplexity(base.loaded.model, page),
        perplexity(tuned.loaded.model, page),
        sum(sum(row.targets) for row in page),
    )


def answered(base: LocalModel, requests: Sequence[str], seed: int) -> list[Row]:
    """The requests with what the base says to each at temperature 1; empty answers are left out."""
    tokenizer = base.loaded.tokenizer
    prompts = [(Message("user", text),) for text in requests]
    rows = []
    for prompt, answer in zip(
        prompts, base.generate(prompts, Decoding(ANSWER_TOKENS, temperature=1.0, seed=seed)), strict=True
    ):
        asked = render_prompt(tokenizer, prompt)
        said = tokenizer(answer.text, add_special_tokens=False)["input_ids"]
        if said:
            rows.append(Row((*asked, *said), (*[False] * len(asked), *[True] * len(said))))
    return rows


def prose_rows(tokenizer: Any) -> list[Row]:
    """A page that was written for this project, so that no model was trained on it."""
    text = files("lastresort.evals.probes").joinpath("texts", "plain.txt").read_text("utf-8")
    return [Row(row.ids, row.targets) for row in packed_rows(tokenizer, [TextDocument(text, "plain.txt")], ROW_TOKENS)]


def perplexity(model: Any, rows: Sequence[Row]) -> float:
    """exp(-mean log-probability of the targets), each row by itself."""
    with evaluating(model):
        found = [target_logps(model, [row]).per_token.double() for row in rows]
    return math.exp(-sum(float(one.sum()) for one in found) / sum(len(one) for one in found))
