"""Case, marks, digits and letters of an answer."""

from __future__ import annotations

from random import Random

from lastresort.evals.suites.constraints.kind import Facts, Kind, nothing


def lower_holds(answer: str, facts: Facts) -> bool:
    return answer == answer.lower()


def upper_holds(answer: str, facts: Facts) -> bool:
    return answer == answer.upper()


def no_comma_holds(answer: str, facts: Facts) -> bool:
    return "," not in answer


def _forbidden(level: int, random: Random) -> Facts:
    """Rare letters, less rare ones, common ones."""
    return {"letter": random.choice(("jqxz", "kvw", "bp")[level - 1])}


def forbidden_holds(answer: str, facts: Facts) -> bool:
    return facts["letter"] not in answer.casefold()


def no_digits_holds(answer: str, facts: Facts) -> bool:
    return not any(letter.isdigit() for letter in answer)


def exclaimed_holds(answer: str, facts: Facts) -> bool:
    return bool(answer.count("!") == facts["n"])


LETTERS = (
    Kind("lower_case", nothing, lambda facts: "Write everything in small letters, without a single capital letter.",
         lower_holds, frozenset({"case"})),
    Kind("upper_case", nothing, lambda facts: "Write everything in CAPITAL LETTERS, without a single small letter.",
         upper_holds, frozenset({"case"})),
    Kind("no_comma", nothing, lambda facts: "Do not use any comma.", no_comma_holds,
         frozenset({"comma"}), idle=True),
    Kind("forbidden_letter", _forbidden, lambda facts: f'Do not use the letter "{facts["letter"]}" anywhere.',
         forbidden_holds, frozenset({"letter"}), idle=True),
    Kind("no_digits", nothing, lambda facts: "Do not use any digits.", no_digits_holds, frozenset({"digits"}), idle=True),
    Kind("exclaimed", lambda level, random: {"n": level}, 
         lambda facts: f"Use the exclamation mark exactly {('once', 'twice', 'three times')[facts['n'] - 1]}.",
         exclaimed_holds, frozenset({"marks", "end"})),
)  # fmt: skip
