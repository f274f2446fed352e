"""JSON is read by one function: what it refuses, and that no text makes its users fail otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.data.check import check_data, refuse_invalid_outputs
from lastresort.data.read import read_examples
from lastresort.errors import DataError
from lastresort.evals.scorers import build_scorer, format_ok
from lastresort.foreign import NotJson, is_json, parse_json
from lastresort.models.api.replies import read_reply
from lastresort.models.calls import TransientFailure
from lastresort.models.scripted import read_script
from lastresort.report.differences import side_by_side
from lastresort.types import Example, Message

LONG = "1" * 5_000  # more digits than int() takes
LARGE = "1" * 400  # a whole number, and more than a float holds
HARD = {
    "too many digits": f'{{"a": {LONG}}}',
    "beyond a float": f'{{"a": {LARGE}}}',
    "an exponent": '{"a": 1e999}',
    "no number": '{"a": NaN}',
    "twice": '{"a": 1, "a": 2}',
    "deep": "[" * 101 + "]" * 101,
    "deeper than the stack": "[" * 100_000,
    "half a character": '{"a": "\\ud83d"}',
    "half a key": '{"a\\uDD00": 1}',
    "half, unescaped": '{"a": "\udcff"}',
    "words": "team: billing",
    "nothing": "",
}


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_refused_texts_say_what_is_wrong_and_where(text: str) -> None:
    with pytest.raises(NotJson) as caught:
        parse_json(text)
    assert caught.value.reason
    assert (caught.value.line is None) == (caught.value.column is None)
    assert not is_json(text)


@pytest.mark.parametrize(
    "text", ['"\\ud83d\\ude00"', '"\\\\ud83d"', "[" * 100 + "]" * 100, "1e308", "-" + "9" * 308, " 1 ", "null"]
)
def test_what_is_json_is_read(text: str) -> None:
    parse_json(text)
    assert is_json(text)


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_a_hard_answer_is_wrong_and_nothing_worse(text: str) -> None:
    expected = Example("1", (Message("user", "q"),), '{"a": 1}')
    for name in ("json_valid", "json_exact", "json_fields"):
        assert build_scorer(name, {}, json_schema={"type": "object"})(text, expected) == 0.0
    assert format_ok(text, json_schema={"type": "object"}) is False
    sides = side_by_side('{"a": 1}', text)
    assert sides.note or text == HARD["beyond a float"]
    side_by_side(text, '{"a": 1}')


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_a_hard_expected_output_is_named_by_its_row(text: str) -> None:
    items = [Example("1", (Message("user", "q"),), text, row=7, source="rows.jsonl")]
    with pytest.raises(DataError, match=r'rows\.jsonl, row 7, key "output"'):
        refuse_invalid_outputs(items, choices=None, json_schema={"type": "object"})
    both = [*items, Example("2", (Message("user", "q"),), "x", row=8, source="rows.jsonl")]
    report = check_data(both, [], [], count_tokens=None, context_tokens=None, choices=None, json_schema=None)
    assert [finding.kind for finding in report.findings if finding.kind == "conflicting_labels"]


@pytest.mark.parametrize("number", [LONG, LARGE, "1e999"])
def test_a_hard_number_in_a_file_is_named_by_its_row(number: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"input": "a", "output": "b"}}\n{{"input": "c", "output": {number}}}\n')
    with pytest.raises(DataError, match="row 2") as caught:
        read_examples(path)
    assert "number" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_half_a_character_is_named_by_its_row_before_a_model_sees_it(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n{"input": "broken \\ud83d", "output": "b"}\n')
    with pytest.raises(DataError, match=r"row 2: found half of a surrogate pair \(\\ud83d\)"):
        read_examples(tmp_path / "rows.jsonl")


def test_replies_and_scripts_with_hard_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TransientFailure, match="not JSON"):
        read_reply(HARD["too many digits"])
    (tmp_path / "s.json").write_text(HARD["too many digits"])
    with pytest.raises(Exception, match="not a readable script"):
        read_script(tmp_path / "s.json")
