"""Outputs that the task does not allow are refused with file, row and what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from lastresort.data.check import refuse_invalid_outputs
from lastresort.errors import DataError
from lastresort.evals.scorers.forms import Choice
from lastresort.types import Example, Message

SCHEMA = {"type": "object", "required": ["team"], "properties": {"team": {"type": "string"}}}


def examples(*outputs: str, source: str = "rows.jsonl") -> list[Example]:
    return [
        Example(str(row), (Message("user", f"q {row}"),), output, row=row, source=source)
        for row, output in enumerate(outputs, start=1)
    ]


def refusal(*outputs: str, choices: tuple[str, ...] | None = None, schema: dict[str, Any] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        refuse_invalid_outputs(examples(*outputs)[::-1], choices=choices, json_schema=schema)
    return str(caught.value)


def test_what_is_allowed_passes() -> None:
    refuse_invalid_outputs(examples("a", "b"), choices=("a", "b"), json_schema=None)
    refuse_invalid_outputs(examples('{"team":"x"}'), choices=None, json_schema=SCHEMA)
    refuse_invalid_outputs(examples("anything"), choices=None, json_schema=None)


def test_the_first_row_is_named_and_the_others_counted() -> None:
    said = refusal("Billing", "billing.", *["sales"] * 7, choices=("Billing", "Support"))
    assert said == (
        'rows.jsonl, row 2, key "output": found an output that is not among the choices: "billing.", perhaps "Billing" '
        "(7 more like it, in rows 3, 4, 5, 6, 7 …), expected one of Billing, Support. "
        "Correct the rows, or the key `output` of the task file."
    )


def test_of_many_choices_the_closest_are_named_and_all_counted() -> None:
    choices = (*(f"intent {n}" for n in range(4_997)), "card arrival", "card arrivals", "lost card")
    said = refusal("card_arival", choices=choices)
    assert 'expected one of the 5,000 choices, of which "card arrival", "card arrivals" and "' in said
    assert len(said) < 300
    assert 'of which "lost card", ' in refusal("LOST CARD.", choices=choices), "case and a full stop are no distance"
    said = refusal("x" * 10_000, choices=(*choices, "y" * 10_000))
    assert len(said) < 500
    with pytest.raises(DataError) as caught:
        Choice(choices)("lost card", Example("1", (Message("user", "q"),), "card_arival", row=1, source="rows.jsonl"))
    assert len(str(caught.value)) < 300


def test_a_schema_says_which_field_is_wrong() -> None:
    said = refusal('{"team":"x"}', '{"team":3}', "x", schema=SCHEMA)
    assert "row 2" in said
    assert "is not valid against the schema: $.team: 3 is not of type 'string' (1 more like it, in row 3)" in said
    assert '"x" is not JSON' in refusal("x", schema=SCHEMA)


def test_rows_of_several_files_are_named_with_their_file() -> None:
    rows = [
        *examples("sales", "a", "sales", source="b/test.tsv"),
        *examples("sales", "a", "sales", source="a/train.tsv"),
    ]
    with pytest.raises(DataError) as caught:
        refuse_invalid_outputs(rows, choices=("a",), json_schema=None)
    assert str(caught.value).startswith(
        'a/train.tsv, row 1, key "output": found an output that is not among the choices: "sales" '
        "(1 more like it, in row 3; 2 in test.tsv, in rows 1, 3), expected one of a."
    )
    with pytest.raises(DataError, match=r'"sales" \(2 more like it in test.tsv, in rows 1, 3\)'):
        refuse_invalid_outputs(rows[:4], choices=("a",), json_schema=None)
