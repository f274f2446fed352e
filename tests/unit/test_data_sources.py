"""Rows that share a source are found, and columns that sort rows into kinds are not taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from climb_support import rows, scripted_task
from lastresort.app.data_check import check_task
from lastresort.app.dry_run import dry_run
from lastresort.climb.prepare import prepare
from lastresort.data.sources import find_sources
from lastresort.records.reasons import RowsShareSource
from lastresort.report.words.answer import of_reason
from lastresort.spec.task import load_task
from lastresort.types import Example, Message

PASSAGES = [
    f"Paragraph {i}. " + " ".join(f"Machine {i}-{k} was built in {1900 + i} by plant {k * 7 + i}." for k in range(8))
    for i in range(40)
]


def shared(
    inputs: list[str], columns: dict[str, list[Any]] | None = None, outputs: list[str] | None = None
) -> tuple[str | None, int] | None:
    examples = [
        Example(str(i), (Message("user", text),), outputs[i] if outputs else f"answer {i}")
        for i, text in enumerate(inputs)
    ]
    by_id = {str(i): {name: values[i] for name, values in (columns or {}).items()} for i in range(len(inputs))}
    found = find_sources(examples, by_id)
    return None if found is None else (found.column, found.rows)


def distinct(n: int = 200) -> list[str]:
    return [f"question {i} about matter {i * 31 % 97}" for i in range(n)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("customer", lambda i: f"c{i // 4}"),
        ("conversation_id", lambda i: i // 3),
        ("ticketId", lambda i: f"T-{i // 2}"),
        ("context", lambda i: PASSAGES[i % 40]),
        ("background", lambda i: PASSAGES[i % 40]),
    ],
)
def test_a_column_that_names_a_source_and_repeats_is_found(name: str, value: Any) -> None:
    assert shared(distinct(), {name: [value(i) for i in range(200)]}) == (name, 200)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", lambda i: i),  # never repeats
        ("language", lambda i: f"l{i % 5}"),
        ("label_id", lambda i: i % 9),
        ("model_id", lambda i: i % 15 if i % 2 else 15),
        ("year", lambda i: 1950 + i % 60),
        ("age", lambda i: i % 50),
        ("score", lambda i: i % 30),
        ("category", lambda i: f"category {i % 40}"),
        ("user", lambda i: "anonymous" if i % 2 else f"u{i}"),  # a default in half of the rows
        ("instruction", lambda i: "Summarise the following text in two sentences for a busy reader. " * 5),
        ("document", lambda i: None if i % 3 else f"d{i // 6}"),
    ],
)
def test_a_column_that_sorts_rows_into_kinds_is_no_source(name: str, value: Any) -> None:
    assert shared(distinct(), {name: [value(i) for i in range(200)]}) is None


def test_the_number_of_an_answer_is_no_source() -> None:
    outputs = [f"intent {i % 60}" for i in range(200)]
    assert shared(distinct(), {"intent_id": [i % 60 for i in range(200)]}, outputs) is None


def test_questions_on_one_passage_are_found_within_their_inputs_and_a_template_is_not() -> None:
    asked = [f"{PASSAGES[i % 40]}\n\nWhat was machine {i}?" for i in range(160)]
    assert shared(asked) == (None, 160)
    in_one_line = [f"Question {i}: which plant? {PASSAGES[i % 40]}" for i in range(160)]
    assert shared(in_one_line) == (None, 160)
    template = "Read the request below and answer with one team. " * 8
    assert shared([f"{template}\n{text}" for text in distinct()]) is None
    assert shared([f"{template}\n{PASSAGES[i]} {i}" for i in range(40)]) is None


def test_a_conversation_that_grows_row_by_row_is_one_source() -> None:
    turns = [
        [f"turn {k} of talk {talk}: {PASSAGES[talk]}" for k in range(1 + step)]
        for talk in range(30)
        for step in range(3)
    ]
    assert shared(["\n".join(found) for found in turns]) == (None, 90)


def test_system_turns_and_equal_inputs_share_nothing_more() -> None:
    examples = [
        Example(str(i), (Message("system", PASSAGES[i % 40]), Message("user", f"question {i}")), "a")
        for i in range(160)
    ]
    assert find_sources(examples, {}) is None
    assert shared([PASSAGES[i % 40] for i in range(160)]) is None


def test_rows_with_a_group_are_left_alone() -> None:
    examples = [Example(str(i), (Message("user", f"q {i}"),), "a", f"g{i // 4}") for i in range(200)]
    assert find_sources(examples, {str(i): {"customer": i // 2} for i in range(200)}) is None


def test_data_check_dry_run_and_decision_say_it_and_a_group_ends_it(tmp_path: Path) -> None:
    data = [{**row, "customer": f"c{i // 4}"} for i, row in enumerate(rows())]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
    path = scripted_task(tmp_path / "task", quality=[{"right": 1.0}], task={"examples": str(tmp_path / "rows.jsonl")})
    found = prepare(load_task(path))
    note = found.notes[-1]
    assert isinstance(note, RowsShareSource)
    assert (note.column, note.rows, note.n_test) == ("customer", len(data), len(found.split.test))
    assert 0 < note.in_test <= note.n_test
    says = "Set `split.group_by: customer` if they belong together."
    assert of_reason(note).text.endswith(says)
    assert any(line.endswith(says) for line in dry_run(load_task(path)).assumed)
    report = check_task(load_task(path)).report
    finding = report.finding("shared_source")
    assert finding is not None
    assert finding.severity == "warning"
    assert "split.group_by: customer" in finding.says
    grouped = scripted_task(
        tmp_path / "grouped",
        quality=[{"right": 1.0}],
        task={"examples": str(tmp_path / "rows.jsonl"), "split": {"group_by": "customer"}},
    )
    assert not any(isinstance(one, RowsShareSource) for one in prepare(load_task(grouped), begins=False).notes)
