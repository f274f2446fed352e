"""Scorers equal what others compute: SQuAD's F1 by its own recipe, rouge_score with its own tokenizer on plain English."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest
from rouge_score.rouge_scorer import RougeScorer

from lastresort.evals.scorers import build_scorer
from lastresort.types import Example, Message

PAIRS = [
    ("The quick brown fox jumps over the lazy dog.", "A quick brown dog jumps on the log!"),
    ("in the year 1998, he moved to Rome", "he moved to rome in 1998"),
    ("yes", "no"),
    ("Saint Bernadette Soubirous", "Bernadette"),
]


def squad_f1(answer: str, expected: str) -> float:
    def tokens(text: str) -> list[str]:
        bare = "".join(character for character in text.lower() if character not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", bare).split()

    said, wanted = tokens(answer), tokens(expected)
    shared = sum((Counter(said) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(("answer", "expected"), PAIRS)
def test_token_f1_and_rouge_l(answer: str, expected: str) -> None:
    example = Example(id="1", input=(Message("user", "?"),), output=expected)
    assert build_scorer("token_f1", {})(answer, example) == pytest.approx(squad_f1(answer, expected))
    theirs = RougeScorer(["rougeL"]).score(expected, answer)["rougeL"].fmeasure
    assert build_scorer("rouge_l", {})(answer, example) == pytest.approx(theirs)
