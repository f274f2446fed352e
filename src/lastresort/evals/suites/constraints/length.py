"""How long an answer is."""

from __future__ import annotations

from lastresort.evals.suites.constraints.kind import Facts, Kind, count_by_level, sentences, words

_COUNT = {2: "two sentences", 3: "three sentences", 4: "four sentences", 5: "five sentences"}
_LENGTH = frozenset({"length"})


def words_at_most_holds(answer: str, facts: Facts) -> bool:
    return len(words(answer)) <= int(facts["n"])


def words_at_least_holds(answer: str, facts: Facts) -> bool:
    return len(words(answer)) >= int(facts["n"])


def sentences_hold(answer: str, facts: Facts) -> bool:
    return bool(len(sentences(answer)) == facts["n"])


def characters_at_most_holds(answer: str, facts: Facts) -> bool:
    return len(answer.strip()) <= int(facts["n"])


def exact_words_hold(answer: str, facts: Facts) -> bool:
    return bool(len(words(answer)) == facts["n"])


LENGTH = (
    Kind("words_at_most", count_by_level((12, 15, 18), (8, 10, 12), (5, 6, 7)),
         lambda facts: f"Use at most {facts['n']} words.", words_at_most_holds, _LENGTH),
    Kind("words_at_least", count_by_level((25, 30), (35, 40), (45, 50)),
         lambda facts: f"Use at least {facts['n']} words.", words_at_least_holds, _LENGTH),
    Kind("sentences", count_by_level((2,), (3,), (4, 5)),
         lambda facts: f"Answer in exactly {_COUNT[facts['n']]}.", sentences_hold, _LENGTH),
    Kind("characters_at_most", count_by_level((90, 100), (80,), (60, 70)),
         lambda facts: f"The answer may have at most {facts['n']} characters.", characters_at_most_holds, _LENGTH),
    Kind("exact_words", count_by_level((1, 2), (3, 4), (6, 7, 8)),
         lambda facts: f"Answer with exactly {facts['n']} word{'s' if facts['n'] > 1 else ''}.", exact_words_hold,
         frozenset({"length", "lines", "words"})),
)  # fmt: skip
