"""Prompts without answers, and the columns beside them."""

from __future__ import annotations

import json

import pytest

from lastresort.data.read import read_prompts
from lastresort.errors import DataError
from lastresort.types import Message


def written(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_labelled_file_is_read_as_such_with_its_columns(tmp_path):
    rows = [{"input": "2+2", "output": 4, "id": "a", "hard": False}, {"input": "3+3", "output": 6, "hard": True}]
    examples, columns = read_prompts(written(tmp_path, *rows))
    assert [(e.input_text, e.output) for e in examples] == [("2+2", "4"), ("3+3", "6")]
    assert examples[0].id == "a"
    assert [columns[e.id] for e in examples] == rows


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "say a", "solution": "a"},
        {"prompt": [{"role": "user", "content": "say a"}], "solution": "a"},
        {"messages": [{"role": "user", "content": "say a"}], "solution": "a"},
        {"question": "say a", "solution": "a"},
    ],
)
def test_a_prompt_alone_is_enough(row, tmp_path):
    examples, columns = read_prompts(written(tmp_path, row, row))
    assert [(e.input, e.output, e.row) for e in examples] == [((Message("user", "say a"),), "", n) for n in (1, 2)]
    assert len({e.id for e in examples}) == 2
    assert [columns[e.id]["solution"] for e in examples] == ["a", "a"]


def test_a_prompt_of_a_table_is_named_with_its_line(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('prompt,solution\n"say\na",a\nsay b,b\n', "utf-8")
    examples, _ = read_prompts(path)
    assert [example.place for example in examples] == [f"{path}, row 1 (line 2)", f"{path}, row 2 (line 4)"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "x"}], "row 1: found the keys text, expected one of prompt, messages"),
        ([{"prompt": "x"}, {"prompt": ""}], 'row 2, key "prompt": found empty text'),
        ([{"prompt": "x"}, {"other": "y"}], 'row 2, key "prompt": found nothing'),
        ([{"prompt": [{"role": "assistant", "content": "x"}]}], "found a prompt that ends with an answer"),
    ],
)
def test_what_is_no_prompt_is_refused(rows, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_prompts(written(tmp_path, *rows))
