"""Patterns of schemas and scorers: what they find, and that a search has an end."""

from __future__ import annotations

import os
import re
import threading
from typing import Any

import pytest

from lastresort import apart
from lastresort.apart import last_match
from lastresort.data.answer_schema import schema_validator, violation
from lastresort.errors import TaskError
from lastresort.evals.scorers import build_scorer
from lastresort.types import Example, Message


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "MOST_SEARCH_S", 0.2)
    apart._process.cache_clear()


ENDLESS = [
    ("(a+)+$", "a" * 60 + "!"),
    ("(x|x)*y", "x" * 60),
    ("(a|aa)+$", "a" * 60 + "!"),
    (r"\s+$", " " * 200_000 + "a"),
]
PLAIN = ["a", "^a+$", "(b)|(a)", "^[a-z]+(-[a-z]+)*$", "(?i)A{1,3}", "", r"(\d+)-(\d+)", "é", "\ud800?"]
TEXTS = ["", "a", "a-b-c", "aaa", "1-2 3-4", "é\u2028\n", "\ud800", "x" * 20_000]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("pattern", PLAIN)
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_last_match_is_that_of_re(pattern: str, text: str) -> None:
    matches = list(re.finditer(pattern, text))
    expected = (matches[-1][0], *matches[-1].groups()[:1]) if matches else None
    assert last_match(pattern, text) == expected


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("pattern", "text"), ENDLESS)
def test_a_search_without_an_end_is_ended_and_the_next_one_works(pattern: str, text: str) -> None:
    with pytest.raises(TaskError, match=r"the pattern .* takes more than 0\.2 s to search a text of [\d,]+ characters"):
        last_match(pattern, text)
    assert last_match("(a+)b*", "aab") == ("aab", "aa")


def test_the_process_is_one_for_all_and_ends_where_its_input_does() -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(last_match("(a+)+", "aa"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [("aa", "aa")] * 8
    child = apart._process(os.getpid(), apart._SEARCH, False)._child
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(20) == 0


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "(a+)+$"}, "a" * 60 + "!"),
        ({"properties": {"a": {"pattern": "(x|x)*y"}}}, {"a": "x" * 60}),
        ({"patternProperties": {"(a+)+$": {}}}, {"a" * 60 + "!": 1}),
        ({"additionalProperties": False, "patternProperties": {"(a+)+$": {}}}, {"a" * 60 + "!": 1}),
        ({"unevaluatedProperties": False, "allOf": [{"patternProperties": {"(a+)+$": {}}}]}, {"a" * 60 + "!": 1}),
    ],
)
def test_a_schema_whose_pattern_has_no_end_stops_with_a_sentence(schema: dict[str, Any], value: Any) -> None:
    with pytest.raises(TaskError, match="takes more than"):
        violation(schema_validator(schema), value)


def test_a_scorer_whose_pattern_has_no_end_stops_with_a_sentence() -> None:
    example = Example("1", (Message("user", "a"),), "b")
    with pytest.raises(TaskError, match="takes more than"):
        build_scorer("regex", {"pattern": "(a+)+$"})("a" * 60 + "!", example)
    assert build_scorer("regex", {"pattern": r"is: (\w)"})("is: a, is: b", example) == 1


EQUAL = [
    1,
    1.0,
    True,
    0,
    0.0,
    False,
    "1",
    None,
    [],
    [1],
    [1.0],
    [True],
    {},
    {"a": 1},
    {"a": 1.0},
    {"a": True},
    1.5,
    "",
    10**20,
]


@pytest.mark.parametrize("one", EQUAL, ids=repr)
def test_values_are_unique_and_listed_as_the_library_says(one: Any) -> None:
    from jsonschema import Draft202012Validator

    for other in EQUAL:
        for schema, value in (({"uniqueItems": True}, [one, {"z": 1}, other]), ({"enum": [one, {"z": 1}]}, other)):
            library = next(Draft202012Validator(schema).iter_errors(value), None)
            ours = violation(schema_validator(schema), value)
            assert (ours is None) == (library is None), (schema, value)
            if library is not None:
                assert ours == f"$: {library.message}"


def test_many_values_are_looked_up_at_once() -> None:
    """3,000 objects are 4.5 million pairs: the corpus would not end in its 10 s if each were compared."""
    items = [{"a": number} for number in range(20_000)]
    unique = schema_validator({"uniqueItems": True})
    assert violation(unique, items) is None
    assert violation(unique, [*items, {"a": 7}]) is not None
    listed = schema_validator({"enum": items})
    assert all(violation(listed, item) is None for item in items[::100])


def test_an_interrupted_search_leaves_no_answer_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, text = "(a|b)*c", "ab" * 6_000 + "c"
    searcher = apart._process(os.getpid(), apart._SEARCH, False)
    answers = searcher._child.stdout
    assert answers is not None

    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(searcher._child, "stdout", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        last_match(slow, text)
    answers.close()
    assert last_match("(x|y)*z", "xyz" + "a" * 20_000) == ("xyz", "y")


def test_a_pattern_that_refers_back_is_searched_within_the_limit() -> None:
    with pytest.raises(TaskError, match="takes more than"):
        last_match(r"(.*)\1x", "a" * 9_000)
