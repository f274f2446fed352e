"""Outputs that the task does not allow are refused with file, row and what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from lastresort.data.check import refuse_invalid_outputs
from lastresort.errors import DataError
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
