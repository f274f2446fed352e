"""Rows that belong together are one unit, whether the task names the column or the file just has one called group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from climb_support import reason_lines, scripted_task
from lastresort.app.climb import Climbed, climb
from lastresort.data.split import groups_of
from lastresort.errors import TaskError
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from lastresort.types import Example, Message

GOOD = [{"right": 0.3}, {"right": 0.97, "min_shots": 5}]


def grouped_climb(folder: Path, column: str, split: dict[str, Any], size: int = 4) -> Climbed:
    path = scripted_task(folder / "task", quality=GOOD, task={"split": split})
    rows = [json.loads(line) for line in (folder / "task" / "rows.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, column: f"client {i // size}"}) for i, row in enumerate(rows)]
    (folder / "task" / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return climb(load_task(path), folder / "runs" / "run")


def example(name: str, group: str | None) -> Example:
    return Example(name, (Message("user", name),), "x", group)


def test_a_column_called_group_counts_as_one_named_in_the_task(tmp_path: Path) -> None:
    named = grouped_climb(tmp_path / "named", "client", {"dev": 60, "test": 160, "group_by": "client"})
    found = grouped_climb(tmp_path / "found", "group", {"dev": 60, "test": 160})
    assert found.decision.as_json()["rungs"][0]["test"] == named.decision.as_json()["rungs"][0]["test"]
    assert found.decision.as_json()["rungs"][0]["test"]["n_available"] == 40  # groups of four, not 160 items
    assert found.decision.as_json()["rungs"][0]["test"]["unit"] == "group"
    assert any("of 40 test groups" in reason for reason in reason_lines(found.decision.as_json()))
    assert not any("test items (" in reason for reason in reason_lines(found.decision.as_json()))


def test_a_test_set_of_too_few_groups_is_refused_whoever_named_them(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"a test set of 4 groups,"):
        grouped_climb(tmp_path, "group", {"dev": 60, "test": 80}, size=20)
    assert not (tmp_path / "task" / "calls.jsonl").exists()


def test_the_test_goes_group_by_group(tmp_path: Path) -> None:
    run = grouped_climb(tmp_path, "group", {"dev": 60, "test": 160}).run
    with Record.open(run, read_only=True) as record:
        items = next(m for m in record.measurements() if m.split == "test").items
    assert len(items) % 4 == 0 or len(items) == 160


def test_a_row_without_a_group_is_a_unit_of_its_own() -> None:
    assert groups_of([example("a", None), example("b", None)]) is None
    labels = groups_of([example("a", "x"), example("x", None), example("c", "x"), example("d", None)])
    assert labels is not None
    assert labels[0] == labels[2]
    assert len(set(labels)) == 3
