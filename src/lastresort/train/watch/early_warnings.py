"""How far a model in training is from its base, on general requests, on the task's prompts and on plain prose.

KL(base || tuned) in nats a token: the base answers at temperature 1 before training, and the mean of log base - log tuned over
the tokens of these answers is unbiased for the mean KL at a token of an answer. It asks no more of the base than sums of
log-probabilities, so that one definition serves an adapter, whose base is the same model with the adapter disabled, and the
training of all weights, where the model is its own base until the first step. The answers are as many as cost about a twentieth of
the training. The figures are reported and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from lastresort.data.plain_text import TextDocument, packed_rows
from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.data.wording import entries
from lastresort.engine.choose import Sampling
from lastresort.engine.forest import Row, common_length
from lastresort.engine.sampling import generate
from lastresort.models.local import row_seeds
from lastresort.train.adapters.adapters import adapters_in_base_precision, as_base
from lastresort.train.loop.policy import evaluating, unit_sums
from lastresort.train.watch import kept
from lastresort.types import Json, Message

AT_ONCE = 48


def requests(
    name: Literal["watched", "distance"], tokenizer: Any, template_kwargs: Mapping[str, Json] | None = None
) -> list[tuple[int, ...]]:
    """Requests that no probe of the gate asks and no replay row does, always in this order. watched: for the early warnings.
    distance: others, which choose among checkpoints, so that no report on the choice asks them.
    """
    asked = [(Message("user", text),) for text in entries(name)]
    return [tuple(render_prompt(tokenizer, prompt, template_kwargs=template_kwargs)) for prompt in asked]


def sampled_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    seed: int,
    template_kwargs: Mapping[str, Json] | None = None,
) -> list[Row]:
    """The prompts, each with an answer that the model samples at temperature 1, up to its end token, which is a target too.

    prompts: token ids, each with room for so many more `tokens`.
    """
    ends = frozenset(stop_token_ids(tokenizer, template_kwargs=template_kwargs))
    with evaluating(model), adapters_in_base_precision(model):
        generated = generate(
            model,
            prompts,
            settings=Sampling(tokens, temperature=1.0, rows_at_once=AT_ONCE),
            seeds=row_seeds(prompts, seed),
            stopped=lambda row, said: said[-1] in ends,  # not by the engine's stop_ids, so that the end token is kept
        )
    return [
        Row((*prompt, *answer.tokens), (*[False] * len(prompt), *[True] * len(answer.tokens)))
        for prompt, answer in zip(prompts, generated, strict=True)
    ]


def prose_rows(tokenizer: Any, row_tokens: int) -> list[Row]:
    """A page that was written for this project, so that no model was trained on it."""
    text = files("lastresort.data").joinpath("texts", "plain.txt").read_text("utf-8")
    return [Row(row.ids, row.targets) for row in packed_rows(tokenizer, [TextDocument(text, "plain.txt")], row_tokens)]


SHARE = 0.05
PROSE_ROW_TOKENS = 128
MOST_TOKENS = 10_240  # more does not make the figures better than the sampled answers are
LEAST_PROMPTS, MOST_PROMPTS = 4, 24  # of either kind
LEAST_PROSE, MOST_PROSE = 2, 8
FORWARD = 2  # forward passes of a token that cost less than training on it: forward, and back through a frozen base
BEFORE = 5  # looks that go before the kept ones: the base's own, and making its answers, whose tokens come one by one


@dataclass(frozen=True, slots=True)
class WatchSize:
    """look_tokens: how many tokens, with their answers, the prompts and the prose of one look have in all.

    Of these the requests and the task's prompts get two fifths each and the prose one; of each part a least is taken whatever
    the training is, without which the figures would mean nothing: at most LEAST_PROMPTS prompts of either kind.
    """

    look_tokens: int

    @property
    def prompts(self) -> tuple[int, int, int]:
        """What `first_within` asks of prompts of one kind."""
        return 2 * self.look_tokens // 5, LEAST_PROMPTS, MOST_PROMPTS

    @property
    def prose(self) -> tuple[int, int, int]:
        """What `first_within` asks of rows of prose."""
        return self.look_tokens // 5, LEAST_PROSE, MOST_PROSE


def watch_size(trained_tokens: int, looks: int) -> WatchSize:
    """Of a training on so many tokens, over all epochs, that is looked at so often: looking costs SHARE of it at most.

    Counted in forward passes of a token: FORWARD * trained_tokens are the least that training costs, and looks are computed
    once for each kept checkpoint and BEFORE times more.
    """
    return WatchSize(min(MOST_TOKENS, int(SHARE * FORWARD * trained_tokens) // (looks + BEFORE)))


def own_tokens(rows: Sequence[tuple[int, ...]]) -> int:
    """Tokens of rows without the beginning that all of them share, which training computes once a batch."""
    if len(rows) < 2:
        return sum(map(len, rows))
    shared = common_length(min(rows), max(rows))
    return sum(len(row) - shared for row in rows)


def first_within(lengths: Sequence[int], tokens: int, least: int, most: int) -> int:
    """How many of the first have at most so many tokens in all; at least `least` and at most `most`, where there are so many."""
    taken = total = 0
    for length in lengths[:most]:
        total += length
        if total > tokens and taken >= least:
            break
        taken += 1
    return taken


PASS_TOKENS = 1536


@dataclass(frozen=True, slots=True)
class WatchedTexts:
    """general, task: prompts with what the base said to each, the answers as targets. prose: the beginning of a page that was
    written for this project, so that no model was trained on it. What is empty is not measured.
    """

    general: tuple[Row, ...]
    task: tuple[Row, ...]
    prose: tuple[Row, ...]

    @property
    def counts(self) -> list[int]:
        return [len(self.general), len(self.task), len(self.prose)]

    @property
    def prompt_tokens(self) -> int:
        return sum(len(row.ids) for row in (*self.general, *self.task)) - self.answer_tokens

    @property
    def answer_tokens(self) -> int:
        return _targets((*self.general, *self.task))

    def first(self, counts: Sequence[int]) -> WatchedTexts:
        """The first so many of each part."""
        general, task, prose = counts
        return WatchedTexts(self.general[:general], self.task[:task], self.prose[:prose])

    def limited_to(self, size: WatchSize) -> WatchedTexts:
        """The first of each part that a training of this size can afford."""
        limits = (size.prompts, size.prompts, size.prose)
        parts = (self.general, self.task, self.prose)
        return self.first(
            [first_within([len(row.ids) for row in part], *limit) for part, limit in zip(parts, limits, strict=True)]
        )


@dataclass(frozen=True, slots=True)
class LogpSums:
    """Log-probability in nats of all targets of each part under one model."""

    general: float
    task: float
    prose: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is computed again and again while training goes on, and the base's own sums of it."""

    watched: WatchedTexts
    base: LogpSums

    def figures(self, model: Any) -> dict[str, float]:
        """Of the model as it is now; see `figures`."""
        return figures(self.watched, self.base, logp_sums(model, self.watched))

    def at_base(self) -> dict[str, float]:
        """Those of the base itself, which need no computing."""
        return figures(self.watched, self.base, self.base)


def watch(
    model: Any,
    tokenizer: Any,
    task: Sequence[Sequence[int]],
    *,
    size: WatchSize,
    context_tokens: int | None,
    seed: int,
    template_kwargs: Mapping[str, Json] | None = None,
) -> WatchedTexts:
    """What the base says to general requests and to the task's prompts, as many of these as the training can afford.

    model: the base itself, or an adapter around it. task: prompts as token ids.
    """
    general = _with_room(requests("watched", tokenizer, template_kwargs), size, context_tokens)
    asked = [*general, *_with_room(task, size, context_tokens)]
    with as_base(model):
        said = sampled_answers(
            model, tokenizer, asked, tokens=kept.ANSWER_TOKENS, seed=seed, template_kwargs=template_kwargs
        )
    row_tokens = min(context_tokens or PROSE_ROW_TOKENS, PROSE_ROW_TOKENS)
    prose = prose_rows(tokenizer, row_tokens) if tokenizer.eos_token_id is not None else []
    return WatchedTexts(tuple(said[: len(general)]), tuple(said[len(general) :]), tuple(prose[:MOST_PROSE])).limited_to(
        size
    )


def _with_room(prompts: Sequence[Sequence[int]], size: WatchSize, context_tokens: int | None) -> list[tuple[int, ...]]:
    """The first that leave room for an answer and that the training can afford."""
    fitting = [
        tuple(prompt)
        for prompt in prompts
        if context_tokens is None or len(prompt) + kept.ANSWER_TOKENS <= context_tokens
    ]
    return fitting[: first_within([len(prompt) + kept.ANSWER_TOKENS for prompt in fitting], *size.prompts)]


def baseline(model: Any, watched: WatchedTexts) -> Baseline:
    """model: the base itself, or an adapter around it."""
    with as_base(model):
        return Baseline(watched, logp_sums(model, watched))


def logp_sums(model: Any, watched: WatchedTexts) -> LogpSums:
    """In the same passes for every model, so that rounding in 16 bits is the same too."""
    rows = [*watched.general, *watched.task, *watched.prose]
    sums = iter([row_sums[0] for row_sums in unit_sums(model, [(row,) for row in rows], PASS_TOKENS)])
    return LogpSums(*(math.fsum(next(sums) for _ in range(count)) for count in watched.counts))


def figures(watched: WatchedTexts, base: LogpSums, own: LogpSums) -> dict[str, float]:
    """kl_general and kl_task in nats a token, perplexity of the prose a token and base_perplexity; none of an empty part."""
    values = {}
    if tokens := _targets(watched.general):
        values["kl_general"] = (base.general - own.general) / tokens
    if tokens := _targets(watched.task):
        values["kl_task"] = (base.task - own.task) / tokens
    if tokens := _targets(watched.prose):
        values["perplexity"] = _perplexity(own.prose, tokens)
        values["base_perplexity"] = _perplexity(base.prose, tokens)
    return values


KeptRows = tuple[tuple[tuple[int, ...], int], ...]  # each row as its tokens and the place of its first target


def watched_to_json(watched: WatchedTexts) -> dict[str, KeptRows]:
    parts = {"general": watched.general, "task": watched.task, "prose": watched.prose}
    return {name: tuple((row.ids, len(row.prompt)) for row in rows) for name, rows in parts.items()}


def watched_from_json(kept: Mapping[str, KeptRows]) -> WatchedTexts:
    def rows(name: str) -> tuple[Row, ...]:
        return tuple(Row(tuple(ids), tuple(place >= first for place in range(len(ids)))) for ids, first in kept[name])

    return WatchedTexts(rows("general"), rows("task"), rows("prose"))


def _targets(rows: Sequence[Row]) -> int:
    return sum(sum(row.targets) for row in rows)


def _perplexity(total: float, tokens: int) -> float:
    mean = -total / tokens
    return math.exp(mean) if mean < 700 else math.inf
