"""Scorers for text: exact, normalized, contains, regex, and by shared words token_f1 and rouge_l."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lastresort.apart import last_match
from lastresort.errors import TaskError
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.types import Example

# Scripts written without spaces between words: each character counts as a word, as in multilingual SQuAD scorers.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_APOSTROPHES = "'’ʼ`"
_MINUS = "-−"
_DECIMAL = ".,"


def words(text: str) -> list[str]:
    """The words of `text` after NFKC and case folding; punctuation falls away.

    A number keeps its sign and its points and commas ("-3.14" is one word, "1-2" are two); an apostrophe inside a word
    vanishes; a character of a script without spaces is a word.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    found: list[str] = []
    current = ""
    for index, character in enumerate(folded):
        following = folded[index + 1 : index + 2]
        if _is_unspaced(character):
            found += [current, character]
            current = ""
        elif unicodedata.category(character)[0] in "LNM" or _belongs_to_number(character, current, following):
            current += "-" if character in _MINUS else character
        elif character not in _APOSTROPHES or not current:
            found.append(current)
            current = ""
    found.append(current)
    return [word for word in found if word]


def same_text(left: str, right: str) -> bool:
    """Equal up to outer whitespace and Unicode composition."""
    return unicodedata.normalize("NFC", left).strip() == unicodedata.normalize("NFC", right).strip()


def _belongs_to_number(character: str, current: str, following: str) -> bool:
    if not following.isdecimal():
        return False
    return (character in _MINUS and not current) or (character in _DECIMAL and current[-1:].isdecimal())


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return code >= 0x0E00 and any(low <= code <= high for low, high in _UNSPACED) and character.isalnum()


@dataclass(frozen=True, slots=True)
class Exact:
    """1 if the answer is the expected text, up to whitespace around it and Unicode composition (NFC)."""

    name: str = "exact"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        return float(same_text(answer, example.output))


@dataclass(frozen=True, slots=True)
class Normalized:
    """1 if both have the same words: case, spaces, punctuation and compatibility forms (NFKC) do not count.

    Signs and decimal points of numbers do. Texts without any word are compared as they are.
    """

    name: str = "normalized"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        wanted = words(example.output)
        return float(words(answer) == wanted if wanted else same_text(answer, example.output))


@dataclass(frozen=True, slots=True)
class Contains:
    """1 if the words of the expected text stand in the answer, together and in order ("art" is not in "party").

    An expected text without any word must be the whole answer.
    """

    name: str = "contains"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        wanted, said = words(example.output), words(answer)
        if not wanted:
            return float(same_text(answer, example.output))
        width = len(wanted)
        return float(any(said[start : start + width] == wanted for start in range(len(said) - width + 1)))


@dataclass(frozen=True, slots=True)
class Regex:
    """Without a group: 1 if the pattern is found in the answer, whatever was expected.

    With a group: 1 if the first group of the last match is the expected text (or what the pattern finds in that), up to
    whitespace around it; for answers such as "... so the answer is: 7", pattern "answer is: (.+)".
    """

    pattern: re.Pattern[str]
    name: str = "regex"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        if self.pattern.groups == 0:
            return float(last_match(self.pattern.pattern, answer) is not None)
        said = self._captured(answer)
        wanted = self._captured(example.output)
        return float(said is not None and same_text(said, example.output if wanted is None else wanted))

    def _captured(self, text: str) -> str | None:
        found = last_match(self.pattern.pattern, text)
        return None if found is None else found[1]


def regex(parameters: Mapping[str, Any], output: AnswerForm) -> Regex:
    pattern = parameters.get("pattern")
    if not isinstance(pattern, str):
        raise TaskError(f"{pattern!r}", where='task file, key "score.regex"', expected="a pattern as text")
    try:
        return Regex(re.compile(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise TaskError(
            f"a pattern that does not compile ({error})",
            where='task file, key "score.regex"',
            expected="a Python regular expression",
            remedy="Quote it in single quotes, so that YAML leaves its backslashes alone.",
        ) from error


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


def rouge_l(parameters: Mapping[str, Any], output: AnswerForm) -> RougeL:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeL(RougeScorer(["rougeL"], tokenizer=_Words()))


def _without_articles(found: list[str]) -> list[str]:
    return [word for word in found if word not in _ARTICLES] or found
