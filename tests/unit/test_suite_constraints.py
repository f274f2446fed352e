"""Constraints: each accepts an answer that keeps it and refuses answers that do not; requests are many and not those of replay."""

from __future__ import annotations

from itertools import product
from random import Random
from statistics import fmean
from typing import Any

import pytest

from lastresort.gate.drawing import without_duplicates
from lastresort.gate.suites.constraints import GROUPS, KINDS
from lastresort.gate.suites.constraints.request import (
    ANSWERS,
    CHANCE,
    LEVELS,
    REQUESTS,
    SUBJECTS,
    draw_request,
    keeps,
)
from lastresort.gate.suites.general import CONSTRAINT_STRATA, StratumItems
from lastresort.synthesis.replay import general_prompts

CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "bullets": ({"n": 2}, ["- one\n- two", "Here:\n* one\n• two"], ["- one", "- one\n- two\n- three", "-one\n-two", "one\ntwo"]),
    "numbered": ({"n": 2}, ["1. one\n2. two", "1) one\n\n2) two"], ["1. one", "1. one\n3. two", "2. one\n1. two", "1 one\n2 two"]),
    "paragraphs": ({"n": 2}, ["One.\n\nTwo.", "One\nline.\n \n\nTwo."], ["One.\nTwo.", "One.\n\nTwo.\n\nThree.", "One."]),
    "one_line": ({}, ["One line.", "One line.\n"], ["One\nline."]),
    "json_keys": (
        {"keys": ["name", "size"]},
        ['{"size": 1, "name": "x"}', '```json\n{"name": null, "size": []}\n```'],
        ['{"name": 1}', '{"name": 1, "size": 2, "x": 3}', '["name", "size"]', 'Here: {"name": 1, "size": 2}', "{name: 1, size: 2}"],
    ),
    "separator": ({}, ["One\n***\nTwo", "One\n\n *** \nTwo"], ["One *** Two", "One\n***", "A\n***\nB\n***\nC", "One\nTwo"]),
    "words_at_most": ({"n": 3}, ["One two-three four.", "One"], ["One two three four"]),
    "words_at_least": ({"n": 3}, ["One two, three", "it's a fine day"], ["One two ..."]),
    "sentences": ({"n": 2}, ["It rains. Why?", 'He said "no!" She left'], ["It rains.", "One. Two. Three.", "It costs 3.50 here."]),
    "characters_at_most": ({"n": 5}, ["12345", " 12345\n"], ["123456"]),
    "exact_words": ({"n": 2}, ["two words", "Two-fold joy!"], ["one", "now three words"]),
    "needed_words": ({"words": ["garden", "silent"]}, ["Silent, the garden."], ["The garden.", "Silent gardens"]),
    "repeated_word": ({"word": "garden", "n": 2}, ["Garden to garden."], ["A garden.", "garden garden garden", "gardens garden"]),
    "banned_word": ({"word": "very"}, ["Every day"], ["Very well", "not VERY."]),
    "start_word": ({"word": "Listen"}, ["Listen, it rains.", '"Listen!"'], ["Now listen", "Listening", ""]),
    "ending": ({"phrase": "So it is."}, ["It rains. So it is.", 'Yes. "so it  is"'], ["So it is. Yes.", "It is."]),
    "lower_case": ({}, ["all small, 3 of it"], ["One capital"]),
    "upper_case": ({}, ["ALL OF 3"], ["ALMOSt"]),
    "no_comma": ({}, ["one; two"], ["one, two"]),
    "forbidden_letter": ({"letter": "k"}, ["a cat"], ["a kite", "K"]),
    "no_digits": ({}, ["three"], ["3", "a1"]),
    "exclaimed": ({"n": 2}, ["Oh! Yes!"], ["Oh!", "Oh!!!"]),
    "title": ({}, ["[[Rain]]\nIt falls."], ["[Rain]\nIt falls.", "[[Rain]]", "It falls.\n[[Rain]]", "[[ ]]\nIt"]),
    "quoted": ({}, ['"It rains."', "“It rains.”\n"], ["It rains.", '"It" rains.', '"It" and "that"', '"It rains.', '""']),
    "postscript": ({}, ["It rains.\nP.S. Bring boots.", "It rains.\n\nPS: Boots"],
                   ["P.S. It rains.", "It rains. P.S. Boots", "a\nP.S."]),
    "signature": ({"name": "Aunt Helen"}, ["Hello.\nAunt Helen", "Hello.\n\n- aunt helen."],
                  ["Aunt Helen", "Hello. Aunt Helen", "A\nHelen"]),
}  # fmt: skip


def test_the_cases_cover_the_table() -> None:
    assert set(CASES) == set(KINDS)
    assert len(KINDS) >= 15
    assert len(KINDS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize("name", CASES)
def test_a_constraint_accepts_what_keeps_it_and_nothing_else(name: str) -> None:
    facts, right, wrong = CASES[name]
    for answer in right:
        assert KINDS[name].holds(answer, facts), answer
    for answer in wrong:
        assert not KINDS[name].holds(answer, facts), answer


def test_all_constraints_of_a_request_must_be_kept_and_something_said() -> None:
    both = {"lower_case": {}, "words_at_most": {"n": 2}}
    assert keeps("two words", both)
    assert not keeps("Two words", both)
    assert not keeps("now three words", both)
    assert not keeps(" ... ", both)


@pytest.mark.sampled_slow(4)
@pytest.mark.sampled(12)
@pytest.mark.parametrize("stratum", CONSTRAINT_STRATA, ids=lambda stratum: stratum.name)
def test_requests_are_many_and_hold_as_many_demands_as_their_level(stratum: Any) -> None:
    drawn = StratumItems(stratum, 3)
    for number in range(2000):
        constraints = drawn[number].facts["constraints"]
        assert len(constraints) == stratum.level or "json_keys" in constraints
        aspects = [aspect for name in constraints for aspect in KINDS[name].aspects]
        assert len(aspects) == len(set(aspects)), constraints
        assert all(KINDS[name].tell(facts) in drawn[number].text for name, facts in constraints.items())
    assert len({item.text for item in drawn.items}) == 2000


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_thousands_of_requests_and_gets_no_easier(name: str) -> None:
    kind = KINDS[name]
    assert len(set(REQUESTS)) * len(set(SUBJECTS)) >= 2000
    random = Random(name)
    demands = [{kind.tell(kind.draw(level, random)) for _ in range(50)} for level in LEVELS]
    assert all(demands)
    facts = [[kind.draw(level, random) for _ in range(200)] for level in LEVELS]
    if "n" in facts[0][0]:
        means = [sum(fact["n"] for fact in drawn) for drawn in facts]
        assert means == sorted(means) or means == sorted(means, reverse=True)


def test_demands_that_could_contradict_share_an_aspect() -> None:
    """Worked through by hand: a forbidden letter and words that are demanded, few words and long endings, and the like."""
    contradicting = {
        "forbidden_letter": (
            "needed_words",
            "repeated_word",
            "start_word",
            "ending",
            "signature",
            "postscript",
            "json_keys",
        ),
        "exact_words": ("ending", "signature", "title", "separator", "bullets", "needed_words", "repeated_word"),
        "words_at_most": ("bullets", "numbered", "paragraphs", "words_at_least", "json_keys"),
        "sentences": ("numbered", "exact_words"),
        "no_digits": ("numbered",),
        "no_comma": ("json_keys",),
        "one_line": ("bullets", "numbered", "paragraphs", "separator", "title", "postscript", "signature"),
        "start_word": ("bullets", "numbered", "title", "quoted", "json_keys"),
        "ending": ("quoted", "postscript", "signature", "exclaimed", "banned_word", "json_keys"),
        "lower_case": ("upper_case",),
        "banned_word": ("needed_words", "repeated_word", "signature"),
    }
    for name, others in contradicting.items():
        for other in others:
            assert KINDS[name].aspects & KINDS[other].aspects, (name, other)


def ignoring_score(group: str, level: int, requests: int = 400) -> float:
    """The share of ANSWERS that keep the constraints, over the requests of a fixed seed."""
    random = Random(f"ignoring/{group}/{level}")
    drawn = [draw_request(group, level, random) for _ in range(requests)]
    return fmean(keeps(answer, request.constraints) for request in drawn for answer in ANSWERS)


@pytest.mark.parametrize(("group", "level"), product(GROUPS, LEVELS))
def test_the_chance_of_a_group_is_the_score_of_answers_that_ignore_the_request(group: str, level: int) -> None:
    assert CHANCE[group][level - 1] == pytest.approx(ignoring_score(group, level), abs=0.02)
    assert CHANCE[group][level - 1] < 0.3


@pytest.mark.slow
def test_no_request_is_one_of_replay() -> None:
    replay = general_prompts(10**6, seed=0)
    for stratum in CONSTRAINT_STRATA:
        drawn = StratumItems(stratum, 5)
        items = [drawn[number] for number in range(100)]
        assert without_duplicates(items, replay) == items
    asked = {request.format(subject=subject) for request, subject in product(REQUESTS, SUBJECTS)}
    assert not asked & set(replay)
    assert draw_request("shape", 1, Random(1)) == draw_request("shape", 1, Random(1))
