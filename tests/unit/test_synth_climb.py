"""Synthetic rows in a climb: trained on and nothing else, and not where they give held-out rows away."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from climb_support import TEAMS, rows
from lastresort.climb.prepare import PreparedTask, data_report, prepare
from lastresort.data.read import read_examples
from lastresort.errors import DataError, TaskError
from lastresort.records.data_report import RowsLeftOut
from lastresort.report.words import data as words
from lastresort.rungs.preference.items import columns_of, with_room
from lastresort.spec.task import load_task
from lastresort.systems.system import PromptDesign
from synth_support import Row, Teacher, fresh_rows, made, routing, synth


def prepared_task(path: Path) -> PreparedTask:
    return prepare(load_task(path), begins=False)


def write_rows(path: Path, found: Sequence[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in found), encoding="utf-8")


def test_rows_made_from_what_is_held_out_since_leave_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another seed most of the rows have one that is now in dev or test among those that they were made from."""
    path = routing(tmp_path)
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=30)
    sources = {"train": "rows.jsonl", "synthetic": found.path.name}
    path = routing(tmp_path, {"examples": sources})
    assert not prepared_task(path).notes
    path = routing(tmp_path, {"examples": sources, "split": {"seed": 5, "test": 120}})
    after = prepared_task(path)
    held = {row.id for row in (*after.split.dev, *after.split.test)}
    away = {row["id"] for row in made(found) if held & set(row["synthetic"]["seeds"])}
    assert 0 < len(away) < 30
    trained = {row.id for row in after.split.train}
    assert trained >= {row["id"] for row in made(found)} - away
    assert not trained & away
    assert after.notes == (RowsLeftOut("train", "not made from train", len(away)),)
    report = data_report(after, None, None)
    assert report.used("train") == len(after.split.train)
    assert ("synthetic", [f"30 of the {len(after.split.train) + len(away)} train"]) in words.rows(report)


def test_synthetic_rows_are_refused_wherever_something_is_measured_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As test set, and among rows that are divided, also under names of the task's own; rows for train alone may be any."""
    found = synth(monkeypatch, routing(tmp_path), Teacher(fresh_rows()), n=12)
    sides = prepared_task(routing(tmp_path)).split
    for name, side in (("train", sides.train), ("dev", sides.dev), ("test", sides.test)):
        write_rows(tmp_path / f"{name}.jsonl", [{"input": row.input_text, "output": row.output} for row in side])
    mixed = [*rows(), *made(found)]
    renamed = [{"text": row["input"], "team": row["output"], "synthetic": row.get("synthetic")} for row in mixed]
    write_rows(tmp_path / "mixed.jsonl", mixed)
    write_rows(tmp_path / "renamed.jsonl", renamed)
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["input", "output", "synthetic"])
        for row in mixed:
            table.writerow([row["input"], row["output"], json.dumps(row["synthetic"]) if "synthetic" in row else ""])
    columns = {"input": "text", "output": "team"}
    for task in (
        {"examples": {"train": "rows.jsonl", "test": found.path.name}},
        {"examples": {"train": "rows.jsonl", "dev": found.path.name}},
        {"examples": "mixed.jsonl"},
        {"examples": {"train": "mixed.jsonl", "test": "test.jsonl"}},
        {"examples": "renamed.jsonl", "columns": columns},
        {"examples": "table.csv"},
    ):
        with pytest.raises(
            DataError, match=r'row \d+( \(line \d+\))?, key "synthetic": found a synthetic row \(11 more'
        ):
            prepared_task(routing(tmp_path, {**task, "split": {}}))
    write_rows(
        tmp_path / "train.jsonl", [{"input": row.input_text, "output": row.output} for row in sides.train] + made(found)
    )
    files = {name: f"{name}.jsonl" for name in ("train", "dev", "test")}
    assert len(prepared_task(routing(tmp_path, {"examples": files, "split": {}})).split.train) == len(sides.train) + 12


def test_a_reward_that_asks_for_columns_is_given_no_synthetic_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = routing(tmp_path)
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=6)
    write_rows(tmp_path / "own.jsonl", [{**row, "region": "north"} for row in rows()])
    (tmp_path / "r.py").write_text("def reward(completion, region):\n    return 1.0\n", encoding="utf-8")
    task = {"examples": {"train": "own.jsonl", "synthetic": found.path.name}, "reward": [{"python": "r.py:reward"}]}
    split = prepared_task(routing(tmp_path, {**task, "ladder": ["sft", "preference"]})).split
    assert len(split.train) == 86
    asked = with_room(split.train, PromptDesign(""), None, None, {}, 8)
    assert {columns["region"] for columns in columns_of(asked).values()} == {"north"}
    assert len(asked) == 80


def test_synthetic_rows_may_have_the_columns_of_the_task(tmp_path: Path) -> None:
    """Or those that `data synth` writes, with a group or without; one of a held-out group is left out."""
    names = {"text": "input", "team": "output"}
    grouped = [{new: row[old] for new, old in names.items()} | {"who": f"w{i}"} for i, row in enumerate(rows())]
    write_rows(tmp_path / "own.jsonl", grouped)
    task = {"examples": "own.jsonl", "columns": {"input": "text", "output": "team"}, "split": {"group_by": "who"}}
    held = prepared_task(routing(tmp_path, task)).split.test[0].group
    path = routing(tmp_path, {**task, "examples": {"train": "own.jsonl", "synthetic": "more.jsonl"}})
    more = {"text": "some other tool wrote this", "team": TEAMS[0]}
    for given, notes in (
        ([{"input": more["text"], "output": TEAMS[0]}], ()),
        ([more], ()),
        ([{**more, "who": "w"}, {**more, "who": held}], (RowsLeftOut("train", "not made from train", 1),)),
    ):
        write_rows(tmp_path / "more.jsonl", given)
        after = prepared_task(path)
        assert [row.input_text for row in after.split.train if row.synthetic] == [more["text"]]
        assert after.notes == notes


def test_rows_of_several_files_have_ids_of_their_own(tmp_path: Path) -> None:
    """Each file may number its rows; pairs and columns of rows are known by their ids."""
    write_rows(tmp_path / "own.jsonl", [{"id": number, **row} for number, row in enumerate(rows())])
    for name in ("one", "two"):
        more = [{"id": number, "input": f"{name} tool wrote row {number}", "output": TEAMS[0]} for number in range(260)]
        write_rows(tmp_path / f"{name}.jsonl", more)
    sources = {"train": "own.jsonl", "synthetic": ["one.jsonl", "two.jsonl"]}
    split = prepared_task(routing(tmp_path, {"examples": sources})).split
    train = split.train
    assert not {row.id for row in train} & {row.id for row in (*split.dev, *split.test)}
    assert len({row.id for row in train}) == len(train) == 80 + 520
    assert all(row.synthetic or row.id.isdecimal() for row in train)
    assert train == prepared_task(tmp_path / "task.yaml").split.train


def test_a_task_may_name_several_synthetic_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed line keeps those that it names, and every file joins train under its own hash."""
    path = routing(tmp_path, {"examples": {"train": "rows.jsonl", "synthetic": "first.jsonl"}})
    write_rows(tmp_path / "first.jsonl", [{"input": "some other tool wrote this", "output": TEAMS[0]}])
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=6)
    line = "examples: {train: rows.jsonl, synthetic: [first.jsonl, routing-synthetic.jsonl]}"
    assert f"  {line}" in found.lines()
    sources = {"train": "rows.jsonl", "synthetic": ["first.jsonl", "routing-synthetic.jsonl"]}
    task = load_task(routing(tmp_path, {"examples": sources}))
    assert task.resolved()["examples"] == sources
    after = prepare(task, begins=False)
    assert len([row for row in after.split.train if row.synthetic]) == 7
    assert set(after.files) == {"rows.jsonl", "first.jsonl", "routing-synthetic.jsonl"}
    assert f"  {line}" in synth(monkeypatch, task.path, Teacher(fresh_rows()), n=6).lines()
    for given, message in (
        (["first.jsonl", "first.jsonl"], "found the file of synthetic again"),
        (["none.jsonl"], 'key "examples.synthetic.*found no file "none.jsonl"'),
        ([3], r'key "examples.synthetic.*found a number'),
    ):
        with pytest.raises(TaskError, match=message):
            load_task(routing(tmp_path, {"examples": {"train": "rows.jsonl", "synthetic": given}}))


def test_a_table_that_does_not_hold_the_seeds_as_json_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python's writers of tables do with an object; and so is a row whose seeds somebody dropped."""
    found = synth(monkeypatch, routing(tmp_path), Teacher(fresh_rows()), n=6)
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["id", "input", "output", "synthetic"])
        table.writeheader()
        table.writerows(made(found))
    without = [{**row, "synthetic": {"teacher": "t", "seeds": row["synthetic"]["seeds"]}} for row in made(found)]
    write_rows(tmp_path / "without.jsonl", without)
    for name, said in (
        ("table.csv", "an object that is not JSON"),
        ("without.jsonl", "seed_inputs are not a list of texts"),
    ):
        with pytest.raises(DataError, match=rf'row \d.*, key "synthetic": .*{said}'):
            prepared_task(routing(tmp_path, {"examples": {"train": "rows.jsonl", "synthetic": name}}))


def test_a_label_may_be_named_synthetic(tmp_path: Path) -> None:
    """Its column tells what a text is, not where the row comes from."""
    write_rows(tmp_path / "rows.jsonl", [{"text": "a", "synthetic": "yes"}])
    (row,) = read_examples(tmp_path / "rows.jsonl", names={"input": ("text",), "output": ("synthetic",)})
    assert (row.output, row.synthetic) == ("yes", False)


@pytest.mark.parametrize(
    ("mark", "marked"),
    [(True, True), ("yes", True), ({"by": "t"}, True), (False, False), ("False", False), (None, False)],
)
def test_rows_that_another_tool_marks_are_synthetic(mark: object, marked: bool, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"input": "a", "output": "b", "synthetic": mark}])
    assert read_examples(tmp_path / "rows.jsonl")[0].synthetic is marked
