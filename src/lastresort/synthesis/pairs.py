"""Preference pairs from a model's own samples.

They hold the answers that the scorer puts first against those that it puts last. What all samples of a prompt share
teaches nothing, so prompts whose samples all score alike make no pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.records.events import PromptCounts

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
