"""Every family keeps one contract: thousands of different questions, one right answer, options that give nothing away."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from random import Random
from statistics import mean

import pytest

from lastresort.gate.suites.families import FAMILIES, ChoiceQuestion
from suite_solvers import SOLVERS

STRATA = [(name, level) for name, family in FAMILIES.items() for level in family.levels]
DISTINCT = 2000
MADE_ANEW = {
    "comparisons", "letters", "spelling", "counting", "sorting", "rules", "ranking", "negation", "passages", "places",
}  # fmt: skip
SLACK = 0.06  # five standard errors of a share of .25 of 2,000, and a little for short lists


@cache
def questions(name: str, level: int) -> tuple[ChoiceQuestion, ...]:
    """As many different ones as are asked for; few draws may be spent on repeats."""
    random, found = Random(f"{name}/{level}/test"), {}
    for _ in range(2 * DISTINCT):
        choice = FAMILIES[name].make(level, random)
        found.setdefault(choice.question, choice)
        if len(found) == DISTINCT:
            break
    return tuple(found.values())


@pytest.mark.sampled_slow(4)
@pytest.mark.sampled(7)
@pytest.mark.parametrize(("name", "level"), STRATA)
def test_questions_are_many_and_each_has_one_right_answer(name: str, level: int) -> None:
    family, drawn = FAMILIES[name], questions(name, level)
    assert len(drawn) == DISTINCT
    for choice in drawn:
        assert len(set(choice.options)) == len(choice.options) == family.options
        assert SOLVERS[name](choice.question) == choice.options[choice.right], choice
        assert not any(rest in choice.question for rest in ("{", "}", "  ", ".."))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "level"), STRATA)
def test_a_fact_is_what_settles_the_answer(name: str, level: int) -> None:
    """Few facts in many wordings are told as facts, so that none is asked twice; the place of an agreement settles nothing."""
    answers: dict[str, set[str]] = {}
    for choice in questions(name, level):
        right = choice.options[choice.right]
        answers.setdefault(choice.fact, set()).add(choice.fact if name == "agreement" else right)
        assert name != "agreement" or right.startswith(choice.fact)
    assert (set(answers) == {""}) == (name in MADE_ANEW)
    assert name in MADE_ANEW or all(len(found) == 1 for found in answers.values())


def number(option: str) -> float:
    found = re.findall(r"\d+\.?\d*", option)
    return float(found[-1].rstrip(".")) if found else 0.0


def common(option: str, options: tuple[str, ...]) -> float:
    """How much like the others it is, place by place."""
    return sum(a == b for other in options for a, b in zip(option, other, strict=False))


HABITS: dict[str, Callable[[str, tuple[str, ...]], float]] = {
    "longest": lambda option, _: len(option),
    "shortest": lambda option, _: -len(option),
    "first": lambda option, options: -options.index(option),
    "last": lambda option, options: options.index(option),
    "largest": lambda option, _: number(option),
    "smallest": lambda option, _: -number(option),
    "most like the others": common,
    "least like the others": lambda option, options: -common(option, options),
}


@pytest.mark.sampled_slow(4)
@pytest.mark.sampled(10)
@pytest.mark.parametrize(("name", "level"), STRATA)
def test_a_chooser_that_does_not_read_the_question_guesses(name: str, level: int) -> None:
    for habit, liking in HABITS.items():
        random, hits = Random(habit), 0
        for choice in questions(name, level):
            likings = [(liking(option, choice.options), random.random()) for option in choice.options]
            hits += likings.index(max(likings)) == choice.right
        assert hits / DISTINCT == pytest.approx(FAMILIES[name].chance, abs=SLACK), habit


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_get_harder_by_the_measure_of_the_family(name: str) -> None:
    family = FAMILIES[name]
    hardness = [mean(choice.hardness for choice in questions(name, level)) for level in family.levels]
    assert len(hardness) >= 3
    assert all(easier < harder for easier, harder in pairwise(hardness)), hardness
    assert family.measure


def test_options_have_about_the_same_length() -> None:
    """So that the summed log-probability of one is not smaller for its length alone."""
    for name, level in STRATA:
        spreads = [max(map(len, choice.options)) - min(map(len, choice.options)) for choice in questions(name, level)]
        assert mean(spreads) <= 4.5, (name, level)
