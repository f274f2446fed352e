"""What making rows may take in calls and money, and what it is expected to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.models.protocol import Prompt, estimated_prompt_tokens, estimated_tokens
from lastresort.synthesis.journal import Tally
from lastresort.synthesis.kinds import RowRequest
from lastresort.synthesis.prompts import PER_REQUEST, request_turns
from lastresort.synthesis.recipe import Recipe

Limit = Literal["calls", "usd"]

USUAL_YIELD, USUALLY_CHECKED = 0.6, 0.8  # of the proposed rows
FORM_TOKENS = 12  # of the JSON around a row


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """Over all sessions. calls, usd: None for no limit. prices: USD per million tokens of prompt and output."""

    calls: int | None = None
    usd: float | None = None
    prices: tuple[float, float] = (0.0, 0.0)

    def needs_a_price(self, spent: Tally) -> bool:
        """Whether the next request goes alone: the first shows what an answer costs, more than its tokens say if a model thinks.
        Calls without a batch do not count, as another teacher may have answered them.
        """
        return self.usd is not None and not spent.batches


def most_calls(recipe: Recipe, request: RowRequest) -> int:
    """Of a request, and of all checks that may follow from it."""
    return 1 + _most_checks(recipe, request)


def _most_checks(recipe: Recipe, request: RowRequest) -> int:
    return recipe.checks(request.kind) * request.n


def limit_reached(
    limits: SpendingLimits, recipe: Recipe, requests: Sequence[RowRequest], spent: Tally, counted: int = 0
) -> Limit | None:
    """Which limit these requests could exceed, with all that may follow from them. None where they fit. counted: how many of their
    calls are among those of `spent`, since their batch was interrupted.
    """
    most = sum(most_calls(recipe, request) for request in requests)
    if limits.calls is not None and spent.calls - counted + most > limits.calls:
        return "calls"
    if limits.usd is None:
        return None
    most_usd = sum(
        max(
            _most_usd(limits, recipe, one), most_calls(recipe, one) * spent.dearest_usd
        )  # no answer is taken to cost less
        for one in requests
    )
    return "usd" if spent.usd + most_usd > limits.usd else None


def _most_usd(limits: SpendingLimits, recipe: Recipe, request: RowRequest) -> float:
    """Of a request whose reply is as long as it may be, and of answering its rows."""
    lengths, checks = recipe.lengths, _most_checks(recipe, request)
    tokens_in = estimated_prompt_tokens(request_turns(request, recipe.instruction)) + checks * lengths.blind
    return _usd(limits.prices, tokens_in, lengths.reply + checks * lengths.answer)


def _usd(prices: tuple[float, float], tokens_in: float, tokens_out: float) -> float:
    return (tokens_in * prices[0] + tokens_out * prices[1]) / 1e6


@dataclass(frozen=True, slots=True)
class CallForecast:
    """requests: for rows. answers: to them, to check that they agree."""

    requests: int
    answers: int
    usd: float


def forecast(
    recipe: Recipe, wanted: Sequence[int], prompts: Sequence[Prompt], prices: tuple[float, float]
) -> CallForecast:
    """What is to be expected. wanted: rows of each label, or of all. prompts: of some requests."""
    asked = sum(wanted) / USUAL_YIELD
    checks = sum(map(recipe.checks, recipe.kinds))
    requests, answers = (
        math.ceil(expected_requests(wanted)),
        round(asked * USUALLY_CHECKED * checks / len(recipe.kinds)),
    )
    rows = recipe.seeds.rows
    row_in = sum(estimated_tokens(row.input[-1].content) for row in rows) / len(rows)
    row_out = sum(estimated_tokens(row.output) for row in rows) / len(rows)
    blind = estimated_prompt_tokens(
        recipe.passage_prompt(rows[0].input, recipe.seeds.passages[0], ())
        if recipe.seeds.passages
        else recipe.blind_prompt(rows[0].input)
    )
    read = requests * sum(map(estimated_prompt_tokens, prompts)) / len(prompts) + answers * blind
    written = asked * (row_in + row_out + FORM_TOKENS) + answers * row_out
    return CallForecast(requests, answers, _usd(prices, read, written))


def expected_requests(wanted: Sequence[int]) -> float:
    """Until there are so many rows of each label, where a request asks for at most three and for no more than are missing.

    Each row is kept with probability USUAL_YIELD, so that with m missing and a request for k the rest is m less a binomial count.
    """
    expected = [0.0]
    for missing in range(1, max(wanted, default=0) + 1):
        k = min(PER_REQUEST, missing)
        chances = [math.comb(k, kept) * USUAL_YIELD**kept * (1 - USUAL_YIELD) ** (k - kept) for kept in range(k + 1)]
        after = sum(chance * expected[missing - kept] for kept, chance in enumerate(chances) if kept)
        expected.append((1 + after) / (1 - chances[0]))
    return sum(expected[n] for n in wanted)
