"""Samples of a model, and preference pairs from them.

Pairs hold the answers that the scorer puts first against those that it puts last. What all samples of a prompt share
teaches nothing, so prompts whose samples all score alike make no pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lastresort.errors import SAME_COMMAND, BudgetError
from lastresort.models.protocol import Prompt, estimated_prompt_tokens
from lastresort.records.events import PromptCounts
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer
from lastresort.types import Answer, Example, Progress

PAIRS_A_PROMPT = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to a prompt. whole: it ended by itself, so that its end may be trained."""

    text: str
    score: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class SampledPair:
    """prompt: number of the prompt."""

    prompt: int
    chosen: Sample
    rejected: Sample


@dataclass(frozen=True, slots=True)
class SortedSamples:
    pairs: tuple[SampledPair, ...]
    counts: PromptCounts


def pairs_from_samples(samples: Sequence[Sequence[Sample]], most: int | None = PAIRS_A_PROMPT) -> SortedSamples:
    """Pairs of each prompt's samples: every different answer of the lowest score, at most so many of them, against the
    best answer that is nearest to it in length, so that length teaches as little as possible.

    samples: for each prompt its answers, whose order decides between equals. most: None for all.
    """
    pairs: list[SampledPair] = []
    right = wrong = ties = unusable = 0
    for number, own in enumerate(samples):
        scores = [sample.score for sample in own]
        low, high = min(scores), max(scores)
        if low == high:
            right += high >= 1
            wrong += high <= 0
            ties += 0 < high < 1
            continue
        best = [sample for sample in _different(own) if sample.score == high and sample.whole]
        rejected = [sample for sample in _different(own) if sample.score == low]
        unusable += not (best and rejected)
        for worst in rejected[:most] if best else ():
            nearest = min(best, key=lambda sample: abs(len(sample.text) - len(worst.text)))
            pairs.append(SampledPair(number, nearest, worst))
    used = len({pair.prompt for pair in pairs})
    counts = PromptCounts(len(samples), len(pairs), used, right, wrong, ties, unusable)
    return SortedSamples(tuple(pairs), counts)


def _different(samples: Sequence[Sample]) -> list[Sample]:
    """The first of each text that is not blank."""
    first: dict[str, Sample] = {}
    for sample in samples:
        if sample.text.strip():
            first.setdefault(sample.text, sample)
    return list(first.values())


@dataclass
class SamplingBudget:
    """What all calls for these samples cost, also those of earlier sessions. limit_usd: None for none. limit_from: where the user
    set it. prices: USD per million tokens of prompt and output. dearest_usd: of the answers so far.
    """

    limit_usd: float | None
    limit_from: str
    prices: tuple[float, float]
    usd: float = 0.0
    dearest_usd: float = 0.0
    answers: int = 0

    def add(self, answers: Sequence[Answer]) -> None:
        self.answers += len(answers)
        self.usd += sum(answer.usd for answer in answers)
        self.dearest_usd = max([self.dearest_usd, *(answer.usd for answer in answers)])

    def lose(self, usd: float) -> None:
        """What a call without an answer cost."""
        self.usd += usd

    def at_once(self, batch: int) -> int:
        """The first answer goes alone: it shows what one costs, more than its tokens say if a model thinks."""
        return 1 if self.limit_usd is not None and not self.answers else batch

    def check(self, prompts: Sequence[Prompt], tokens: int, done: int) -> None:
        """Raises BudgetError where answers to these prompts could pass the limit. done: rows that have all their samples."""
        price_in, price_out = self.prices
        most = [
            max(self.dearest_usd, (estimated_prompt_tokens(one) * price_in + tokens * price_out) / 1e6)
            for one in prompts
        ]
        if self.limit_usd is not None and self.usd + sum(most) > self.limit_usd:
            fewer = f" Or add --rows {done}, to pair what there is." if done else ""
            raise BudgetError(
                f"{self.usd:.2f} USD are spent, and the next samples could pass the limit",
                where=self.limit_from,
                expected=f"at most {self.limit_usd:g}",
                remedy=f"Raise it.{fewer}",
                resume=SAME_COMMAND,
            )


def has_room(answerer: Answerer, row: Example) -> bool:
    """Whether the prompt of this row leaves room for an answer."""
    limit = answerer.model.context_tokens
    most = None if limit is None else limit - answerer.system.decoding.max_new_tokens
    return most is None or answerer.model.count_tokens(answerer.prompt(row.input)) <= most


def sampled_answers(
    answerer: Answerer, rows: Sequence[Example], count: int, budget: SamplingBudget, progress: Progress, stop: Stop
) -> list[tuple[Example, list[Answer]]]:
    """So many answers to each row, row after row, each with a seed of its own.

    Raises BudgetError at the limit, StoppedError where it stopped.
    """
    progress.stage("samples", len(rows) * count)
    found: list[tuple[Example, list[Answer]]] = []
    seed, tokens = answerer.system.decoding.seed, answerer.system.decoding.max_new_tokens
    while len(found) < len(rows):
        batch = rows[len(found) : len(found) + budget.at_once(answerer.model.batch_size)]
        own: list[list[Answer]] = [[] for _ in batch]
        prompts = answerer.prompts([row.input for row in batch])
        for number in range(count):
            budget.check(prompts, tokens, len(found))
            decoding = replace(answerer.system.decoding, seed=seed + 1 + number)
            asked = Answerer(replace(answerer.system, decoding=decoding), answerer.model)
            answers = asked.answer([row.input for row in batch], stop=stop)
            budget.add(answers)
            for place, answer in zip(own, answers, strict=True):
                place.append(answer)
            progress.advance(len(batch))
        found += zip(batch, own, strict=True)
    return found
