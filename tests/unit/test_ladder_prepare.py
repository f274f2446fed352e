"""What `prepare` refuses without a model, what it leaves out, and what it remembers of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from climb_support import TEAMS, rows, scripted_task
from lastresort.app.climb import climb
from lastresort.app.data_check import check_task
from lastresort.climb.prepare import PreparedTask, data_report, prepare
from lastresort.climb.workspace import LEDGER, SHARED
from lastresort.errors import DataError, TaskError
from lastresort.records.events.run import DataChecked
from lastresort.records.reasons import RowsLeftOut
from lastresort.records.record import Record
from lastresort.spec.task import load_task

Rows = list[dict[str, str]]
FREE: dict[str, Any] = {"output": {}}


def written(path: Path, found: Rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path.as_posix()


def prepared(folder: Path, found: Rows, **task: Any) -> PreparedTask:
    """All rows in one file."""
    path = scripted_task(folder, quality=[{"right": 1.0}], task=task)
    written(folder / "rows.jsonl", found)
    return prepare(load_task(path))


def prepared_apart(folder: Path, train: Rows, dev: Rows, test: Rows, **task: Any) -> PreparedTask:
    """A file for each side, all of one name."""
    sides = {"train": train, "dev": dev, "test": test}
    for name, found in sides.items():
        written(folder / name / "rows.jsonl", found)
    examples = {name: f"{name}/rows.jsonl" for name in sides}
    path = scripted_task(folder, quality=[{"right": 1.0}], task={"examples": examples, "split": {}, **task})
    return prepare(load_task(path))


def sides(n: int = 260) -> tuple[Rows, Rows, Rows]:
    found = rows(n)
    return found[:100], found[100:140], found[140:]


def refusal(folder: Path, found: Rows, **task: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepared(folder, found, **task)
    return str(caught.value)


def outputs(output: str, *, at: int = 17) -> Rows:
    """Rows of which one, counted from 1, has this output."""
    found = rows()
    found[at - 1]["output"] = output
    return found


def held_row(folder: Path) -> int:
    """A row that stands in test: with ids of their own, rows are split alike whatever their outputs."""
    return prepared(folder, with_ids(rows())).split.test[0].row


def with_ids(found: Rows) -> Rows:
    return [{**row, "id": str(i)} for i, row in enumerate(found)]


@pytest.mark.parametrize(
    ("output", "task", "said"),
    [
        ("repair", {}, '"repair"'),
        ("x", {"output": {"schema": {"type": "object"}}, "score": "json_valid"}, '"x" is not JSON'),
        ('{"a": NaN}', {**FREE, "score": "json_exact"}, "not JSON"),
        ("none at all", {**FREE, "score": "number"}, "a number in it"),
        ("unlike", {**FREE, "score": {"regex": "^(?:1|b|d|r)"}}, "scorer regex takes for wrong"),
        ("not JSON", {**FREE, "score": "json_valid"}, "scorer json_valid takes for wrong"),
    ],
)
def test_a_held_out_label_that_cannot_be_right_is_refused(
    output: str, task: dict[str, Any], said: str, tmp_path: Path
) -> None:
    at = held_row(tmp_path / "asked")
    found = rows()
    if task.get("score") in ("json_valid", "json_exact", "number"):
        found = [{**row, "output": '{"a": 1}'} for row in found]
    found[at - 1]["output"] = output
    message = refusal(tmp_path / "task", with_ids(found), **task)
    assert said in message
    assert f'rows.jsonl, row {at}, key "output"' in message


def test_a_training_label_outside_the_choices_is_refused_too(tmp_path: Path) -> None:
    train, dev, test = sides()
    train[2]["output"] = "Billing"
    with pytest.raises(DataError, match=r'train.rows\.jsonl, row 3, key "output".*"Billing", perhaps "billing"'):
        prepared_apart(tmp_path, train, dev, test)


@pytest.mark.parametrize(
    "score",
    [
        "exact",
        "normalized",
        "contains",
        "choice",
        "token_f1",
        "rouge_l",
        {"regex": "the team is: (.+)"},
        {"regex": r"\w+"},
    ],
)
def test_right_answers_are_accepted_by_the_other_scorers(score: Any, tmp_path: Path) -> None:
    """A pattern with a group may want words around the output, so its own output need not score."""
    task = {} if score == "choice" else FREE
    assert prepared(tmp_path, rows(), **task, score=score, bar=0.6).notes == ()


def test_a_users_scorer_that_fails_on_a_label_names_the_row(tmp_path: Path) -> None:
    tmp_path.joinpath("metrics.py").write_text(
        "def score(answer, expected) -> bool:\n"
        "    if expected == 'odd':\n"
        "        raise ValueError('no such team')\n"
        "    return False\n"
    )
    task = {**FREE, "score": {"python": "metrics.py:score"}}
    assert (
        prepared(tmp_path, rows(), **task).scorer.name == "python"
    )  # which takes its own labels for wrong: its affair
    at = held_row(tmp_path / "asked")
    message = refusal(tmp_path, with_ids(outputs("odd", at=at)), **task)
    assert f'rows.jsonl, row {at}, key "output"' in message
    assert "raised ValueError: no such team" in message


def test_a_synthetic_file_joins_train_alone(tmp_path: Path) -> None:
    """Dev and test are as without it, its rows that are in test are left out, and rows made from one row are no common source."""
    path = scripted_task(tmp_path, quality=[])
    before = prepare(load_task(path)).split
    passage = "a passage that all synthetic rows share because they were made from the same row " * 4
    held = {"input": before.test[0].input_text, "output": before.test[0].output}
    more = [{"text": f"{passage}{number}", "label": TEAMS[number % 3]} for number in range(60)]
    (tmp_path / "more.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in more), encoding="utf-8")
    sources = {"examples": {"train": "rows.jsonl", "synthetic": "more.jsonl"}}
    after = prepare(load_task(scripted_task(tmp_path, quality=[], task=sources)))
    assert (after.split.dev, after.split.test) == (before.dev, before.test)
    assert len(after.split.train) == len(before.train) + 60
    assert after.sources is None
    assert set(after.files) == {"rows.jsonl", "more.jsonl"}
    (tmp_path / "more.jsonl").write_text(f"{json.dumps(held)}\n", encoding="utf-8")
    assert prepare(load_task(path)).leaks == 1
    (tmp_path / "more.jsonl").write_text('{"input": "x", "output": "none of them"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r'more\.jsonl, row 1, key "output"'):
        prepare(load_task(path))
    with pytest.raises(TaskError, match=r"found the file of train again"):
        load_task(path, {"examples.synthetic": "rows.jsonl"})
    with pytest.raises(TaskError, match="synthetc"):
        load_task(path, {"examples.synthetc": "more.jsonl"})


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = prepared_apart(tmp_path, *sides())
    names = {"train/rows.jsonl", "dev/rows.jsonl", "test/rows.jsonl"}
    assert set(first.files) == names
    assert len(set(first.files.values())) == 3
    train, dev, test = sides()
    second = prepared_apart(tmp_path, train, dev[1:], test)
    assert {name for name in names if first.files[name] != second.files[name]} == {"dev/rows.jsonl"}


def test_a_file_elsewhere_is_named_by_its_folder_and_name(tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "far" / "away" / "cases.jsonl", rows())
    path = scripted_task(tmp_path / "task", quality=[{"right": 1.0}], task={"examples": elsewhere})
    assert set(prepare(load_task(path)).files) == {"away/cases.jsonl"}


def test_leaks_are_reported_though_they_have_left_train(tmp_path: Path) -> None:
    train, dev, test = sides()
    found = prepared_apart(tmp_path, [*train, test[0]], dev, test)
    assert found.leaks == 1
    assert len(found.split.train) == len(train)
    assert found.notes == (RowsLeftOut("train", "in dev or test", 1),)
    report = data_report(found, None, None)
    finding = report.finding("exact_leaks")
    assert finding is not None
    assert [[str(place) for place in places] for places in finding.places] == [
        ["row 101 of rows.jsonl in train", "row 1 of rows.jsonl in test"]
    ]
    assert finding.severity == "warning"  # they have left
    assert report.ok
    assert report.counts == {"train": 101, "dev": 40, "test": 120}


def test_dev_items_in_test_and_repeats_leave_and_stay_reported(tmp_path: Path) -> None:
    train, dev, test = sides()
    again = {**test[3], "output": next(team for team in TEAMS if team != test[3]["output"])}
    found = prepared_apart(tmp_path, train, [*dev, test[5]], [*test, again])
    assert (len(found.split.train), len(found.split.dev), len(found.split.test)) == (100, 40, 120)
    assert found.n_units == 120
    assert [item.output for item in found.split.test if item.row in (4, 121)] == [test[3]["output"]]
    assert found.notes == (RowsLeftOut("dev", "in test", 1), RowsLeftOut("test", "repeated", 1))
    report = data_report(found, None, None)
    assert {finding.kind for finding in report.findings} == {"exact_duplicates", "dev_in_test", "conflicting_labels"}


def test_repeats_do_not_make_a_test_set_large_enough(tmp_path: Path) -> None:
    train, dev, test = sides()
    with pytest.raises(TaskError, match="a test set of 5 items, on which"):
        prepared_apart(tmp_path, train, dev, test[:5] * 30)


def test_too_few_dev_items_beside_test_are_refused(tmp_path: Path) -> None:
    train, dev, test = sides()
    with pytest.raises(DataError, match=r"found 24 dev items, and 19 without"):
        prepared_apart(tmp_path, train, [*dev[:19], *test[:5]], test)


def test_a_dev_set_that_is_small_anyway_may_lose_some_items_but_not_most(tmp_path: Path) -> None:
    train, dev, test = sides()
    assert len(prepared_apart(tmp_path, train, [*dev[:9], *test[:8]], test).split.dev) == 9
    with pytest.raises(DataError, match=r"found 17 dev items, and 8 without .*, expected at least 9"):
        prepared_apart(tmp_path, train, [*dev[:8], *test[:9]], test)


@pytest.mark.parametrize("inputs", [1, 2, 17])
def test_few_inputs_that_repeat_are_no_dev_set_where_the_task_has_more(inputs: int, tmp_path: Path) -> None:
    train, dev, test = sides()
    repeated = dev[:inputs] * (120 // inputs)
    sentence = (
        rf"found {len(repeated)} dev items, and {inputs} without .*, expected at least 20\. Add dev examples with"
    )
    with pytest.raises(DataError, match=sentence):
        prepared_apart(tmp_path, train, repeated, test)


def test_of_few_inputs_that_repeat_dev_holds_at_least_half_a_fifth(tmp_path: Path) -> None:
    train, dev, test = sides()
    few = {"train": train[:16], "test": test[:29]}  # with 15 of dev, 60 inputs
    assert len(prepared_apart(tmp_path, dev=dev[:8] * 4, **few).split.dev) == 8  # of 53, a fifth is 10
    with pytest.raises(DataError, match=r"found 100 dev items, and 2 without .*, expected at least 5"):
        prepared_apart(tmp_path, dev=dev[:2] * 50, **few)


def test_a_climb_counts_the_tokens_that_a_data_check_counts(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path / "task", quality=[{"right": 1.0}]))
    run = climb(task, tmp_path / "run").run
    with Record.open(run, read_only=True) as record:
        recorded = record.last(DataChecked)
    assert task.about.strip()
    assert recorded is not None
    assert recorded.report.tokens == check_task(task).report.tokens


def test_a_data_check_says_which_test_items_earlier_runs_have_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the start, since after it they have been used again. Looking changes nothing."""
    path = scripted_task(tmp_path / "task", quality=[{"right": 1.0}])
    task = load_task(path)
    monkeypatch.chdir(tmp_path)
    assert check_task(task).as_dict()["test_reuse"] is None
    assert check_task(task, show=1).as_dict()["masks"][0].startswith("cannot show tokens: ")
    climb(task, tmp_path / "runs" / "a")
    ledger = tmp_path / "runs" / SHARED / LEDGER
    before = ledger.stat().st_mtime_ns
    found = check_task(task)
    assert found.test_reuse is not None
    assert 0 < found.test_reuse.used < found.test_reuse.n, "the test ended early"
    assert found.lines()[-1].startswith("warning: ")
    assert "have already been used in an earlier run" in found.lines()[-1]
    assert ledger.stat().st_mtime_ns == before
