"""What is to be made and how (`app/synth_recipe.py` reads it off a task), and what that may take in calls and money."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.knowledge.chunks import Chunk
from lastresort.models.protocol import Prompt, estimated_prompt_tokens
from lastresort.synthesis.journal import Tally
from lastresort.synthesis.kinds import KINDS, RowRequest, SeedRows
from lastresort.synthesis.prompts import ANSWER_FROM_PASSAGE, NOT_STATED, PER_REQUEST, request_turns
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message

PASSAGE_CHECKS = 2  # answers at least to a question made from a passage, all of which must agree with the row's


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens. reply: the longest to a request. blind, answer: the longest prompt for the answer to an input alone, and the
    longest answer.
    """

    reply: int
    blind: int
    answer: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be made. teacher: its name, as the user gives it. n: rows. kinds: in turn. instruction: of the task, with the
    form of its answers. blind: how the teacher answers an input on its own. agreement: how often it must give the row's answer
    again, 0 to not ask. passage_checks: the same for questions from documents. agrees: whether an answer counts as that of the
    example. supports: the same of an answer from a passage. spelt: an answer as train spells it.
    constrained: whether the teacher is a local model, whose decoding can be held to the form of a reply. made: the date.
    priced: whether it is known what the teacher costs.
    """

    teacher: str
    n: int
    kinds: tuple[str, ...]
    seeds: SeedRows
    instruction: str
    blind: PromptDesign
    agreement: int
    passage_checks: int
    agrees: Callable[[str, Example], bool]
    supports: Callable[[str, Example], bool]
    spelt: Callable[[str], str]
    lengths: Lengths
    seed: int
    made: str
    constrained: bool = False
    priced: bool = True

    def checks(self, kind: str) -> int:
        """How often the teacher answers a new row of this kind, without having seen its answer."""
        return self.passage_checks if KINDS[kind].needs_passages else self.agreement

    @property
    def most_checks(self) -> int:
        """Of a row of any of its kinds."""
        return max(map(self.checks, self.kinds))

    def blind_prompt(self, turns: Sequence[Message]) -> tuple[Message, ...]:
        """For an answer to an input on its own."""
        return compose(self.blind, turns, self.blind.shots)

    def passage_prompt(self, turns: Sequence[Message], passage: Chunk, shown: Sequence[Example]) -> tuple[Message, ...]:
        """For an answer from a passage, or the word that it has none. shown: rows that the request for the question showed, none of
        which is a shot here: an answer copied from one of them would be copied again. The shots have no passage.
        """
        seen = [row.input for row in shown]
        shots = tuple(shot for shot in self.blind.shots if shot.input not in seen)
        return compose(
            self.blind, turns, shots, lambda asked: (passage,) if asked is turns else (), ANSWER_FROM_PASSAGE
        )

    def gives_again(self, answer: str, example: Example, passage: Chunk | None) -> bool:
        """Whether an answer to the example's input counts as the example's."""
        if passage is None:
            return self.agrees(answer, example)
        return NOT_STATED.casefold() not in answer.casefold() and self.supports(answer, example)


Limit = Literal["calls", "usd"]

USUAL_YIELD, USUALLY_CHECKED = 0.6, 0.8  # of the proposed rows


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
    """requests: for rows. answers: to them, to check that they agree. Tokens of the prompt of one of each."""

    requests: int
    answers: int
    request_tokens: float
    answer_tokens: float


def forecast(recipe: Recipe, wanted: Sequence[int], prompts: Sequence[Prompt]) -> CallForecast:
    """What is to be expected. wanted: rows of each label, or of all. prompts: of some requests."""
    asked = sum(wanted) / USUAL_YIELD
    checks = sum(map(recipe.checks, recipe.kinds))
    rows = recipe.seeds.rows
    blind = estimated_prompt_tokens(
        recipe.passage_prompt(rows[0].input, recipe.seeds.passages[0], ())
        if recipe.seeds.passages
        else recipe.blind_prompt(rows[0].input)
    )
    return CallForecast(
        requests=math.ceil(expected_requests(wanted)),
        answers=round(asked * USUALLY_CHECKED * checks / len(recipe.kinds)),
        request_tokens=sum(map(estimated_prompt_tokens, prompts)) / len(prompts),
        answer_tokens=blind,
    )


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
