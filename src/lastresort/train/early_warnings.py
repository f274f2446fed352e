"""How far a model in training is from its base, beside its loss: on general requests, on the task's prompts, on plain prose.

KL(base || tuned) in nats a token: the base answers at temperature 1 before training, and the mean of log base - log tuned over
the tokens of these answers is unbiased for the mean KL at a token of an answer. It asks no more of the base than sums of
log-probabilities, so that one definition serves an adapter, whose base is the same model with the adapter disabled, and the
training of all weights, where the model is its own base until the first step. Shown, never voted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.engine.forest import Row
from lastresort.train.adapters import as_base
from lastresort.train.base_answers import answered, general_prompts
from lastresort.train.base_drift import ROW_TOKENS, prose_rows
from lastresort.train.passes import unit_sums

PROMPTS, ANSWER_TOKENS, MOST_TOKENS = 24, 32, 8192  # of either kind; what is computed may not cost as much as training
PROSE_ROWS, PASS_TOKENS = 2, 1536
PARTS = ("general", "task", "prose")


@dataclass(frozen=True, slots=True)
class Watched:
    """general, task: prompts with what the base said to each, the answers as targets. prose: the beginning of a page that was
    written for this project, so that no model was trained on it. What is empty is not measured.
    """

    general: tuple[Row, ...]
    task: tuple[Row, ...]
    prose: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Sums:
    """Log-probability in nats of all targets of each part under one model."""

    general: float
    task: float
    prose: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is computed again and again while training goes on, and the base's own sums of it."""

    watched: Watched
    base: Sums

    def figures(self, model: Any) -> dict[str, float]:
        """Of the model as it stands; see `figures`."""
        return figures(self.watched, self.base, summed(model, self.watched))

    def at_base(self) -> dict[str, float]:
        """Those of the base itself, which need no computing."""
        return figures(self.watched, self.base, self.base)


def watch(
    model: Any, tokenizer: Any, task: Sequence[Sequence[int]], *, context_tokens: int | None, seed: int, kwargs: Any
) -> Watched:
    """What the base says to general requests and to the task's prompts, as many of these as cost little.

    model: the base itself, or an adapter around it. task: prompts as token ids.
    """
    general = general_prompts(tokenizer, PROMPTS, seed, kwargs)

    def said(prompts: Sequence[Sequence[int]]) -> tuple[Row, ...]:
        asked = with_room(prompts, context_tokens)
        return tuple(answered(model, tokenizer, asked, tokens=ANSWER_TOKENS, seed=seed, template_kwargs=kwargs))

    with as_base(model):
        answers = said(general), said(task)
    row_tokens = min(context_tokens or ROW_TOKENS, ROW_TOKENS)
    prose = prose_rows(tokenizer, row_tokens)[:PROSE_ROWS] if tokenizer.eos_token_id is not None else []
    return Watched(*answers, tuple(prose))


def with_room(prompts: Sequence[Sequence[int]], context_tokens: int | None) -> list[tuple[int, ...]]:
    """The first PROMPTS that leave room for an answer, of at most MOST_TOKENS tokens with their answers."""
    found: list[tuple[int, ...]] = []
    left = MOST_TOKENS
    for prompt in prompts:
        length = len(prompt) + ANSWER_TOKENS
        if length <= min(left, context_tokens or left) and len(found) < PROMPTS:
            found.append(tuple(prompt))
            left -= length
    return found


def baseline(model: Any, watched: Watched) -> Baseline:
    """model: the base itself, or an adapter around it."""
    with as_base(model):
        return Baseline(watched, summed(model, watched))


def summed(model: Any, watched: Watched) -> Sums:
    """In the same passes for every model, so that rounding in 16 bits is the same too."""
    parts = [getattr(watched, name) for name in PARTS]
    sums = iter(unit_sums(model, [(row,) for part in parts for row in part], PASS_TOKENS))
    return Sums(*(math.fsum(next(sums)[0] for _ in part) for part in parts))


def figures(watched: Watched, base: Sums, own: Sums) -> dict[str, float]:
    """kl_general and kl_task in nats a token, perplexity of the prose a token and base_perplexity; none of an empty part."""
    found = {}
    for name in ("general", "task"):
        if tokens := _targets(getattr(watched, name)):
            found[f"kl_{name}"] = (getattr(base, name) - getattr(own, name)) / tokens
    if tokens := _targets(watched.prose):
        found["perplexity"] = _perplexity(own.prose, tokens)
        found["base_perplexity"] = _perplexity(base.prose, tokens)
    return found


def watched_to_json(watched: Watched) -> dict[str, Any]:
    """Each row as its tokens and the place of its first target."""
    return {name: [[list(row.ids), row.targets.index(True)] for row in getattr(watched, name)] for name in PARTS}


def watched_from_json(kept: Mapping[str, Any]) -> Watched:
    def row(ids: Sequence[int], first: int) -> Row:
        return Row(tuple(ids), tuple(place >= first for place in range(len(ids))))

    return Watched(*(tuple(row(ids, first) for ids, first in kept[name]) for name in PARTS))


def _targets(rows: Sequence[Row]) -> int:
    return sum(sum(row.targets) for row in rows)


def _perplexity(total: float, tokens: int) -> float:
    mean = -total / tokens
    return math.exp(mean) if mean < 700 else math.inf
