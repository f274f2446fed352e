"""Samples of a model, and preference pairs from them.

Pairs hold the answers that the scorer puts first against those that it puts last. What all samples of a prompt share
teaches nothing, so prompts whose samples all score alike make no pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lastresort.errors import SAME_COMMAND, BudgetError, TooLongError
from lastresort.models.cached import CachedModel
from lastresort.models.protocol import Prompt, estimated_prompt_tokens
from lastresort.records.events.training import PromptCounts
from lastresort.stop import Stop, check
from lastresort.systems.answerer import Answerer
from lastresort.types import Answer, Example, Progress

TEMPERATURE = 1.0
PAIRS_A_PROMPT = 4
ALL_TOO_LONG = 16  # rows: if the first so many are refused, it is for the answers that are asked for


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
    """What all answers for these samples cost at the prices of now, also those of earlier sessions. limit_usd: None for none.
    limit_from: where the user set it. prices: USD per million tokens of prompt and output. dearest_usd: of the answers so far.
    """

    limit_usd: float | None
    limit_from: str
    prices: tuple[float, float]
    usd: float = 0.0
    dearest_usd: float = 0.0
    answers: int = 0

    def add(self, answers: Sequence[Answer]) -> None:
        """An answer that was kept may have been given before its price was known."""
        costs = [max(one.usd, self._of(one.prompt_tokens, one.completion_tokens)) for one in answers]
        self.answers += len(answers)
        self.usd += sum(costs)
        self.dearest_usd = max([self.dearest_usd, *costs])

    def lose(self, usd: float) -> None:
        """What a call without an answer cost."""
        self.usd += usd

    def allows(self, prompts: Sequence[Prompt], tokens: int) -> bool:
        """Whether answers to these prompts are sure to stay within the limit."""
        return self.limit_usd is None or not prompts or self.usd + self.most(prompts, tokens) <= self.limit_usd

    def most(self, prompts: Sequence[Prompt], tokens: int) -> float:
        """What answers to these prompts may cost, as far as it is known yet. tokens: of the longest."""
        return sum(max(self.dearest_usd, self._of(estimated_prompt_tokens(one), tokens)) for one in prompts)

    def at_once(self, batch: int) -> int:
        """The first answer goes alone: it shows what one costs, more than its tokens say if a model thinks."""
        return 1 if self.limit_usd is not None and any(self.prices) and not self.answers else batch

    def reached(self, done: int) -> BudgetError:
        """done: rows that have all their samples."""
        return BudgetError(
            f"{self.usd:.2f} USD are spent, and the next samples could pass the limit",
            where=self.limit_from,
            expected=f"at most {self.limit_usd:g}",
            remedy=f"Raise it, or give --rows {done} to pair what there is." if done else "Raise it.",
            resume=SAME_COMMAND,
        )

    def _of(self, tokens_in: float, tokens_out: float) -> float:
        return (tokens_in * self.prices[0] + tokens_out * self.prices[1]) / 1e6


def sampling(answerer: Answerer, number: int) -> Answerer:
    """The same system, drawing the samples of this number: at temperature 1, with a seed of their own."""
    decoding = answerer.system.decoding
    return answerer.with_decoding(replace(decoding, temperature=TEMPERATURE, seed=decoding.seed + 1 + number))


def samples_of(
    answerer: Answerer, rows: Sequence[Example], count: int, *, first: int = 0, stop: Stop
) -> Iterator[list[Answer]]:
    """So many times an answer to each row. first: number of the first sample. stop: checked before each of the times, since only
    what a call returns is kept, and what is under way is paid for.
    """
    for number in range(first, first + count):
        check(stop)
        yield sampling(answerer, number).answer([row.input for row in rows])


def with_room(answerer: Answerer, rows: Sequence[Example], most: int | None = None) -> list[Example]:
    """The first rows, at most so many, whose prompt leaves room for an answer, as far as that is known before they are asked."""
    model, limit = answerer.model, answerer.model.context_tokens
    if limit is None:
        return list(rows[:most])
    room = limit - answerer.system.decoding.max_new_tokens
    return list(islice((row for row in rows if model.count_tokens(answerer.prompt(row.input)) <= room), most))


@dataclass(frozen=True, slots=True)
class RowSampler:
    """So many samples of each row. answerer: its model is cached."""

    answerer: Answerer
    model: CachedModel
    count: int

    def missing(self, rows: Sequence[Example]) -> list[Prompt]:
        """The prompts of all answers that are not kept yet."""
        prompts = self.answerer.prompts([row.input for row in rows])
        return [
            one
            for number in range(self.count)
            for call in self.model.calls(prompts, sampling(self.answerer, number).system.decoding)
            for one in call.prompts
        ]

    def kept(self, rows: Sequence[Example]) -> list[Answer]:
        """Those that are not missing."""
        prompts = self.answerer.prompts([row.input for row in rows])
        return [
            answer
            for number in range(self.count)
            for answer in self.model.kept(prompts, sampling(self.answerer, number).system.decoding)
        ]

    def answers(
        self, rows: Sequence[Example], budget: SamplingBudget, progress: Progress, stop: Stop
    ) -> list[tuple[Example, list[Answer]]]:
        """Row after row, without those whose prompt the model finds too long.

        Raises TooLongError where it finds all of them too long, or the first ones; BudgetError at the limit, StoppedError where it
        stopped.
        """
        progress.stage("sampling answers", len(rows) * self.count)
        found: list[tuple[Example, list[Answer]]] = []
        place, tokens = 0, self.answerer.system.decoding.max_new_tokens
        alone = 0  # rows up to this one go one by one: the model finds one of them too long
        while place < len(rows):
            size = 1 if place < alone else budget.at_once(self.model.batch_size)
            batch = rows[place : place + size]
            if budget.limit_usd is not None:
                batch = self._affordable(batch, budget, tokens)
                if not batch:
                    raise budget.reached(place)
            try:
                found += self._batch(batch, budget, progress, stop)
            except TooLongError:
                alone = max(alone, place + len(batch))
                if len(batch) > 1:
                    continue
                if not found and place + 1 >= min(len(rows), ALL_TOO_LONG):
                    raise
            place += len(batch)
        return found

    def _affordable(self, batch: Sequence[Example], budget: SamplingBudget, tokens: int) -> Sequence[Example]:
        """The first rows whose answers are all kept, or those of which some are missing, as many as are sure to stay within the
        limit. None where the first one may not.
        """
        kept = [not self.missing([row]) for row in batch]
        batch = batch[: next((place for place, one in enumerate(kept) if one != kept[0]), len(batch))]
        prompts = [] if kept[0] else self.answerer.prompts([row.input for row in batch])
        while batch and not budget.allows(prompts * self.count, tokens):
            batch, prompts = batch[: len(batch) // 2], prompts[: len(batch) // 2]
        return batch

    def _batch(
        self, batch: Sequence[Example], budget: SamplingBudget, progress: Progress, stop: Stop
    ) -> list[tuple[Example, list[Answer]]]:
        own: list[list[Answer]] = [[] for _ in batch]
        for answers in samples_of(self.answerer, batch, self.count, stop=stop):
            for place, answer in zip(own, answers, strict=True):
                place.append(answer)
            progress.advance(len(batch))
        budget.add([answer for answers in own for answer in answers])
        return list(zip(batch, own, strict=True))
