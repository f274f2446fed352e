"""How far a tuned model has drifted from its base where it was not trained: shown beside the gate's verdict, never voted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lastresort.data.plain_text import TextDocument, packed_rows
from lastresort.engine.forest import Row
from lastresort.engine.logp import target_logps
from lastresort.models.local import LocalModel
from lastresort.train.base_answers import answered, off_task_prompts
from lastresort.train.divergence import Divergence, divergence_between
from lastresort.train.passes import evaluating

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
    text = files("lastresort.evals.probes").joinpath("texts", "plain.txt").read_text("utf-8")
    return [Row(row.ids, row.targets) for row in packed_rows(tokenizer, [TextDocument(text, "plain.txt")], row_tokens)]


def perplexity(model: Any, rows: Sequence[Row]) -> float:
    """exp(-mean log-probability of the targets), each row by itself."""
    with evaluating(model):
        found = [target_logps(model, [row]).per_token.double() for row in rows]
    return math.exp(-sum(float(one.sum()) for one in found) / sum(len(one) for one in found))
