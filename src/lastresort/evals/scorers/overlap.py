"""Graded scorers by shared words: token_f1 and rouge_l."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lastresort.evals.scorers.scorer import Output
from lastresort.evals.scorers.words import same_text, words
from lastresort.types import Example

_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class TokenF1:
    """Harmonic mean of precision and recall over words, English articles left out, as for SQuAD.

    Where either side has no word: 1 if the texts are equal, else 0.
    Source: Rajpurkar et al. 2016, section 6.1 and its evaluation script.
    """

    name: str = "token_f1"
    binary: bool = False

    def __call__(self, answer: str, example: Example) -> float:
        said, wanted = _without_articles(words(answer)), _without_articles(words(example.output))
        if not said or not wanted:
            return float(same_text(answer, example.output))
        shared = sum((Counter(said) & Counter(wanted)).values())
        return 2 * shared / (len(said) + len(wanted))


@dataclass(frozen=True, slots=True)
class RougeL:
    """F-measure of the longest common subsequence of words, by the rouge_score library.

    Its own tokenizer keeps a-z and 0-9 only, so that a right answer in any other script scores 0; it is given ours.
    Where either side has no word: 1 if the texts are equal, else 0.
    Source: Lin 2004, equation 4 with beta = 1.
    """

    rouge: Any
    name: str = "rouge_l"
    binary: bool = False

    def __call__(self, answer: str, example: Example) -> float:
        if not words(answer) or not words(example.output):
            return float(same_text(answer, example.output))
        return float(self.rouge.score(example.output, answer)["rougeL"].fmeasure)


class _Words:
    """The tokenizer interface that rouge_score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def token_f1(parameters: Mapping[str, Any], output: Output) -> TokenF1:
    return TokenF1()


def rouge_l(parameters: Mapping[str, Any], output: Output) -> RougeL:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeL(RougeScorer(["rougeL"], tokenizer=_Words()))


def _without_articles(found: list[str]) -> list[str]:
    return [word for word in found if word not in _ARTICLES] or found
