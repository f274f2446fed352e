"""Which of two answers a text gives, found by program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lastresort.evals.scorers.words import words

Named = Literal["right", "wrong", "neither"]
_ARTICLES = ("a", "an", "the")
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_BEFORE = (("not",), ("isnt",), ("wasnt",), ("than",), ("never",), ("instead", "of"), ("rather", "than"))
_AFTER = (("is", "not"), ("isnt",), ("was", "not"), ("is", "wrong"), ("is", "incorrect"))
_BETWEEN = (*_ARTICLES, "in", "at", "from", "really", "actually", "be")  # may stand between a denial and what it denies


def named(text: str, right: str, wrong: str) -> Named:
    """The one of two answers that a text gives; "neither" where it gives none, or both.

    Words are compared without case, articles and commas in numbers; numbers up to twelve may be spelled out. An answer that
    is denied ("not Lyon", "larger than a cow", "Lyon is wrong") is not given.
    """
    said = _plain(text)
    found = [_given(said, _bare(_plain(answer))) for answer in (right, wrong)]
    if found == [True, False]:
        return "right"
    return "wrong" if found == [False, True] else "neither"


def _plain(text: str) -> list[str]:
    spelled = [str(_NUMBERS.index(word)) if word in _NUMBERS else word for word in words(text)]
    return [word.replace(",", "") if word[0].isdigit() else word for word in spelled]


def _bare(answer: list[str]) -> list[str]:
    """Without the article before it: who says "stone" or "the stone" means "a stone"."""
    return answer[1:] if len(answer) > 1 and answer[0] in _ARTICLES else answer


def _given(said: Sequence[str], answer: Sequence[str]) -> bool:
    width = len(answer)
    places = [start for start in range(len(said) - width + 1) if list(said[start : start + width]) == list(answer)]
    return any(not _denied(said[:start], said[start + width :]) for start in places)


def _denied(before: Sequence[str], after: Sequence[str]) -> bool:
    if any(tuple(after[: len(mark)]) == mark for mark in _AFTER):
        return True
    end = len(before)
    while end and before[end - 1] in _BETWEEN:
        end -= 1
    return any(tuple(before[max(0, end - len(mark)) : end]) == mark for mark in _BEFORE)
