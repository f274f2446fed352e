"""`lastresort init`: from a data file to a task file that loads."""

import csv
import io
import json
import random
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lastresort.advice.columns import OpenColumns, choose_columns, facts_of, group_column
from lastresort.advice.draft import LADDERS, FewUnitsError, answers_of, draft, smallest_for
from lastresort.app.dry_run import power_needed
from lastresort.app.init import InitRequest, init_task
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb.prepare import prepare
from lastresort.climb.shares import error_shares
from lastresort.data.answer_schema import schema_of, schema_validator, violation
from lastresort.data.files import read_rows
from lastresort.data.formats.rows import RawRow
from lastresort.data.split import UnitSize, fill
from lastresort.errors import DataError, InputError, TaskError
from lastresort.evals.evidence.bar import smallest_deciding_test, usable_share
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.rung import find_rung
from lastresort.spec.task import load_task

SEASONS = ("spring", "summer", "autumn", "winter")


def _file(folder: Path, rows: list[dict[str, object]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _labelled(n: int, source: str = "text", target: str = "label") -> list[dict[str, object]]:
    return [{source: f"day number {i} of the year", target: SEASONS[i * 4 // n]} for i in range(n)]


def _drafted(tmp_path: Path, rows: list[dict[str, object]], **options: object) -> dict[str, object]:
    task = tmp_path / "task.yaml"
    init_task(InitRequest(_file(tmp_path, rows), task_file=task, **options))  # type: ignore[arg-type]
    found: dict[str, object] = yaml.safe_load(task.read_text())
    return found


def test_labels_become_choices(tmp_path: Path) -> None:
    found = _drafted(tmp_path, _labelled(400))
    assert found["output"] == {"choices": list(SEASONS)}
    assert (found["score"], found["bar"]) == ("choice", 0.85)
    assert found["split"] == {"dev": 100, "test": 120}
    assert "columns" not in found, "text and label are known by themselves"


def test_a_drafted_prompt_names_each_label_once(tmp_path: Path) -> None:
    assert _drafted(tmp_path, _labelled(400))["about"] == "Read the text. Answer with its label."
    said = instruction(load_task(tmp_path / "task.yaml"))
    assert [said.count(label) for label in SEASONS] == [1, 1, 1, 1]


def test_columns_of_other_names_are_written_down(tmp_path: Path) -> None:
    found = _drafted(tmp_path, _labelled(400, "message", "season"), output="season")
    assert found["columns"] == {"input": "message", "output": "season"}
    assert len(prepare(load_task(tmp_path / "task.yaml")).split.test) == 120


@pytest.mark.parametrize("named", [{}, {"output": "Label"}, {"output": "label"}])
def test_a_known_column_is_written_as_the_header_spells_it(named: dict[str, str], tmp_path: Path) -> None:
    data, path = tmp_path / "rows.csv", tmp_path / "task.yaml"
    data.write_text("Message,Label\n" + "".join(f"{row['text']},{row['label']}\n" for row in _labelled(200)))
    drafted = init_task(InitRequest(data, task_file=path, **named))  # type: ignore[arg-type]
    assert drafted.draft.columns == ("Message", "Label")
    assert yaml.safe_load(path.read_text())["columns"] == {"input": "Message", "output": "Label"}
    assert {one.output for one in prepare(load_task(path)).split.test} <= set(SEASONS)
    path.write_text(path.read_text().replace("output: Label", "output: label"))
    assert prepare(load_task(path)).split.test, "as it is read"


def test_a_copy_without_empty_rows_fits_a_draft_that_spells_a_known_column_its_own_way(tmp_path: Path) -> None:
    data, path = tmp_path / "rows.csv", tmp_path / "task.yaml"
    data.write_text("Message,LABEL\n,spring\n" + "".join(f"{row['text']},{row['label']}\n" for row in _labelled(200)))
    init_task(InitRequest(data, task_file=path, leave_out_empty=True))
    assert yaml.safe_load(path.read_text())["columns"] == {"input": "Message", "output": "LABEL"}
    assert prepare(load_task(path)).split.test


def test_objects_become_a_schema_beside_the_task(tmp_path: Path) -> None:
    rows = [{"input": f"row {i}", "output": {"team": "ab"[i % 2], "order": i}} for i in range(300)]
    found = _drafted(tmp_path, rows)
    assert (found["output"], found["score"]) == ({"schema": "task.schema.json"}, "json_exact")
    schema = json.loads((tmp_path / "task.schema.json").read_text())
    assert schema["properties"] == {"team": {"type": "string", "enum": ["a", "b"]}, "order": {"type": "integer"}}
    assert "keys team and order" in str(found["about"])


def test_the_instruction_tells_the_keys_that_only_some_answers_have_from_the_others(tmp_path: Path) -> None:
    keys = ("city", "artist", "seats")
    rows = [{"input": f"row {i}", "output": {"intent": "x", keys[i % 3]: f"value {i}"}} for i in range(300)]
    said = "Answer with one JSON object with the key intent, and those of city, artist and seats that apply."
    assert said in str(_drafted(tmp_path, rows)["about"])


def test_an_instruction_claims_no_key_of_all_where_each_is_missing_somewhere(tmp_path: Path) -> None:
    rows = [{"input": f"row {i}", "output": {"ab"[i % 2]: i}} for i in range(300)]
    said = str(_drafted(tmp_path, rows)["about"])
    assert "Answer with one JSON object with those of a and b that apply." in said


def test_a_schema_rarely_refuses_a_right_answer_to_come() -> None:
    """Texts drawn from vocabularies of 2 to 2,000 words by Zipf's law; a drafted enum must hold nearly all texts to come."""
    rng = np.random.default_rng(7)
    refused, enums = [], 0
    for words in (2, 5, 20, 200, 2_000):
        shares = 1 / np.arange(1, words + 1)
        shares /= shares.sum()
        for rows in (10, 25, 60, 300):
            for _ in range(50):
                drawn = [str(word) for word in rng.choice(words, rows, p=shares)]
                seen, values = set(drawn), schema_of(drawn).get("enum")
                assert values is None or set(values) == seen
                enums += values is not None
                refused.append(0.0 if values is None else sum(shares[i] for i in range(words) if str(i) not in seen))
    assert enums > 200, "values that repeat are listed"
    assert np.mean(refused) < 0.001
    assert max(refused) < 0.05


def test_two_values_of_a_free_text_are_not_all_that_it_can_be() -> None:
    owners = ["my"] * 22 + ["gayle's"]
    assert schema_of(owners) == {"type": "string"}
    assert schema_of(["this", "current"] * 10) == {"type": "string"}, "nor do 20 rows show that there is no third"
    assert schema_of(["this", "current"] * 40) == {"type": "string", "enum": ["current", "this"]}


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (lambda i: str(i * 7), "number"),
        (lambda i: f"Take {i} and add {i}.\n#### {2 * i}", "number"),
        (lambda i: f"the {i}th street", "short"),
        (lambda i: f"a long answer about many things, among them the number {i}", "text"),
        (lambda i: json.dumps([i]), "json"),
        (lambda i: "yes" if i % 3 else "no", "labels"),
    ],
)
def test_kinds_of_answers(output: Callable[[int], str], kind: str) -> None:
    assert answers_of([output(i) for i in range(200)]).kind == kind


def test_the_bar_lies_above_the_most_frequent_label() -> None:
    assert draft(["ham"] * 460 + ["spam"] * 40).bar == 0.95
    assert draft(["ham", "spam"] * 250).bar == 0.85


def test_few_rows_get_a_lower_bar_and_a_shorter_ladder() -> None:
    whole, few = draft(["a", "b"] * 200), draft(["a", "b"] * 20)
    assert whole.ladder == ("prompting", "sft", "preference", "full")
    assert few.bar < whole.bar
    assert few.test == 20


@pytest.mark.parametrize("given_parts", [True, False])
@pytest.mark.parametrize("rows", [48, 60, 180])
def test_the_rungs_that_are_proposed_are_those_that_a_climb_would_try(
    rows: int, given_parts: bool, tmp_path: Path
) -> None:
    """With so many test rows that every rung could be tested, and with as few as the file has."""
    train = _file(tmp_path, _labelled(rows), "train.jsonl" if given_parts else "rows.jsonl")
    if given_parts:
        _file(tmp_path, [{"text": f"dev {i}", "label": SEASONS[i % 4]} for i in range(40)], "dev.jsonl")
        _file(tmp_path, [{"text": f"test {i}", "label": SEASONS[i % 4]} for i in range(400)], "test.jsonl")
    path = tmp_path / "task.yaml"
    found = init_task(InitRequest(train, task_file=path)).draft
    prepared = prepare(load_task(path))
    enough = len(prepared.split.train) >= 50
    assert found.ladder == prepared.task.ladder
    assert all(find_rung(name).skip_reason(prepared.task, prepared.split.train) is None for name in found.ladder)
    assert ("sft" in found.ladder) is enough
    few = f"{len(prepared.split.train)} training rows are too few (at least 50, better 500 to 5,000)"
    said = f"# Not in the draft: sft and full, since {few}.\n"
    assert (said in path.read_text("utf-8")) is not enough


def test_rungs_that_these_rows_cannot_train_lower_no_bar_and_ask_for_no_test_rows(tmp_path: Path) -> None:
    """20 test rows decide on 0.85 for prompting alone, on 0.8 for a ladder of two."""
    path = tmp_path / "task.yaml"
    found = init_task(InitRequest(_file(tmp_path, _labelled(40), "rows.jsonl"), task_file=path)).draft
    assert (found.bar, found.ladder, found.test) == (0.85, ("prompting",), 20)
    assert load_task(path).bar == 0.85
    text = path.read_text("utf-8")
    assert (
        "# Not in the draft: preference, since the task names neither preferences nor a reward, and 10 training rows"
        in text
    )
    assert "needs more test rows" not in text
    assert "stops at the first rung" not in text


def test_rungs_that_the_test_file_is_too_small_for_are_said_to_need_more_test_rows(tmp_path: Path) -> None:
    train = _file(tmp_path, _labelled(180), "train.jsonl")
    _file(tmp_path, [{"text": f"dev {i}", "label": SEASONS[i % 4]} for i in range(40)], "dev.jsonl")
    _file(tmp_path, [{"text": f"test {i}", "label": SEASONS[i % 4]} for i in range(25)], "test.jsonl")
    found = init_task(InitRequest(train, task_file=tmp_path / "task.yaml")).draft
    assert found.ladder == ("prompting", "sft")
    said = "# Not in the draft: preference and full, since every added rung needs more test rows."
    assert said in (tmp_path / "task.yaml").read_text("utf-8")


def test_a_test_set_that_may_decide_nothing_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a dry run of the draft says it."""
    train, task = _file(tmp_path, _labelled(230), "train.jsonl"), tmp_path / "task.yaml"
    _file(tmp_path, [{"text": f"test {i}", "label": SEASONS[i % 4]} for i in range(68)], "test.jsonl")
    assert _command(monkeypatch, str(train), "--task", str(task)) == 0
    prepared = prepare(load_task(task))
    test = power_needed(prepared, prepared.task.ladder)
    assert test is not None
    said = f"warning: with 68 test items, a rung close to the bar of 85% may end UNDECIDED; about {test.enough} give 80% power\n"
    assert said in capsys.readouterr().out
    large = init_task(InitRequest(_file(tmp_path, _labelled(1_360)), task_file=tmp_path / "large.yaml"))
    assert (large.few, large.as_dict()["few_test_items"]) == (None, None)


@pytest.mark.parametrize("times", [2, 3])
def test_inputs_that_repeat_count_once_in_the_draft_as_in_the_check(times: int, tmp_path: Path) -> None:
    """As many test items as without the repeats, and a bar that they can show."""
    once, rows = _labelled(100), [row for row in _labelled(100) for _ in range(times)]
    path = tmp_path / "task.yaml"
    found = init_task(InitRequest(_file(tmp_path, rows), task_file=path)).draft
    plain = draft([str(row["label"]) for row in once])
    split = prepare(load_task(path)).split
    assert plain.test is not None
    assert abs(len(split.test) - plain.test) <= 1
    assert (found.test, found.bar) == (times * plain.test, plain.bar)
    assert (found.dev, len(split.dev)) == (times * (plain.dev or 0), plain.dev)


@pytest.mark.parametrize(("inputs", "times"), [(60, 2), (60, 10), (40, 3), (79, 2)])
def test_few_inputs_that_repeat_are_drafted_as_few_that_do_not(inputs: int, times: int, tmp_path: Path) -> None:
    drafted = list[list[int]]()
    for rows, path in ((_labelled(inputs), tmp_path / "once"), (_labelled(inputs) * times, tmp_path / "again")):
        path.mkdir()
        init_task(InitRequest(_file(path, rows), task_file=path / "task.yaml"))
        split = prepare(load_task(path / "task.yaml")).split
        drafted.append([len({one.input_text for one in side}) for side in (split.train, split.dev, split.test)])
    assert drafted[0] == drafted[1]


@pytest.mark.parametrize(("inputs", "times", "seldom"), [(60, 40, 0.1), (100, 60, 0.05), (100, 8, 0.2)])
def test_a_draft_of_a_few_inputs_that_repeat_often_has_as_many_inputs_as_without(
    inputs: int, times: int, seldom: float, tmp_path: Path
) -> None:
    drawn, once = random.Random(1), _labelled(inputs)
    rows = [row for row in once for _ in range(times if drawn.random() < seldom else 1)]
    init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml"))
    split, plain = prepare(load_task(tmp_path / "task.yaml")).split, draft([str(row["label"]) for row in once])
    assert (len(split.dev), len(split.test)) == (plain.dev, plain.test)
    assert len({one.input_text for one in split.train}) == plain.train


def test_a_group_column_that_equal_inputs_connect_is_left_out_of_the_split(tmp_path: Path) -> None:
    rows = [{**row, "customer": f"c{(i + copy) % 50}"} for copy in range(4) for i, row in enumerate(_labelled(100))]
    task = tmp_path / "task.yaml"
    found = init_task(InitRequest(_file(tmp_path, rows), task_file=task)).draft
    assert found.group_by is None
    assert len(prepare(load_task(task)).split.dev) == 25
    assert "# Rows share a customer, but equal inputs connect them" in task.read_text("utf-8")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("owners", "inputs", "times", "largest"),
    [(40, 2, 10, 2), (60, 2, 12, 2), (100, 5, 6, 5), (25, 20, 1, 20), (30, 4, 1, 300), (60, 4, 1, 500)],
)
def test_owners_that_are_enough_stay_together_however_their_inputs_repeat_or_one_has_most(
    owners: int, inputs: int, times: int, largest: int, tmp_path: Path
) -> None:
    labelled = iter(_labelled(owners * inputs + largest))
    rows = [
        {**next(labelled), "customer": f"c{owner}"}
        for owner in range(owners)
        for _ in range(largest if owner == 0 else inputs)
    ]
    task = tmp_path / "task.yaml"
    found = init_task(InitRequest(_file(tmp_path, rows * times), task_file=task)).draft
    split = prepare(load_task(task)).split
    assert found.group_by == "customer"
    assert len(split.dev) >= 20
    assert not {one.group for one in split.train} & {one.group for one in (*split.dev, *split.test)}


@pytest.mark.parametrize("owners", [25, 30, 60])
def test_one_large_owner_leaves_dev_and_train_enough(owners: int) -> None:
    """Wherever in the order of the split it is; two of the files at most are refused."""
    refused = list[str]()
    for seed in range(40):
        drawn = random.Random(seed)
        each = [UnitSize(n, n, 1) for n in (61, *(drawn.randint(1, 2) for _ in range(owners - 1)))]
        drawn.shuffle(each)
        rows = sum(one.rows for one in each)
        try:
            found = draft(["abc"[i % 3] for i in range(rows)], group_by="customer", together=each)
        except FewUnitsError as error:
            refused.append(error.cause)
            continue
        rest = fill(each, found.test or 0, lambda one: one.rows)[1]
        dev, train = fill(rest, found.dev or 0, lambda one: one.rows)
        assert sum(one.rows for one in dev) >= 10
        assert sum(one.rows for one in train) == found.train >= rows / 8
    assert refused in ([], ["uneven"], ["uneven"] * 2)


@pytest.mark.parametrize(("owners", "inputs", "largest", "tested"), [(200, 2, 600, 100), (400, 2, 1200, 200)])
def test_a_large_owner_leaves_the_test_set_more_than_the_fewest_owners_that_can_decide(
    owners: int, inputs: int, largest: int, tested: int
) -> None:
    """11 of them are the fewest: the bar would fall to what so few can show."""
    for seed in range(20):
        drawn = random.Random(seed)
        each = [UnitSize(n, n, 1) for n in (largest, *(drawn.randint(1, inputs) for _ in range(owners - 1)))]
        drawn.shuffle(each)
        rows = sum(one.rows for one in each)
        found = draft(["abc"[i % 3] for i in range(rows)], group_by="customer", together=each)
        test, rest = fill(each, found.test or 0, lambda one: one.rows)
        dev, train = fill(rest, found.dev or 0, lambda one: one.rows)
        assert len(test) >= tested
        assert min(sum(one.rows for one in side) for side in (dev, train)) >= 40


def test_owners_of_whom_many_are_connected_by_equal_inputs_are_drafted_with_other_sizes(tmp_path: Path) -> None:
    """61 of 100 form a chain, which is one large unit, though no owner has more than two rows."""
    pairs = [*((owner, owner) for owner in range(100)), *((owner, owner + 1) for owner in range(60))]
    rows: list[dict[str, object]] = [
        {"text": f"input {n} of the year", "label": SEASONS[n % 4], "customer": f"c{owner}"} for owner, n in pairs
    ]
    task = tmp_path / "task.yaml"
    assert init_task(InitRequest(_file(tmp_path, rows), task_file=task)).draft.group_by == "customer"
    split = prepare(load_task(task)).split
    assert not {one.group for one in split.train} & {one.group for one in (*split.dev, *split.test)}


def test_a_column_called_group_that_names_each_input_once_is_drafted_for_groups(tmp_path: Path) -> None:
    """The split counts them as groups, whose test needs more of them than one of items."""
    rows = [{**row, "group": f"g{i}"} for i, row in enumerate(_labelled(60))]
    found = init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml")).draft
    assert (found.group_by, found.bar) == (None, 0.8)
    prepared = prepare(load_task(tmp_path / "task.yaml"))
    assert (prepared.counts_right, prepared.n_units) == (False, 30)


@pytest.mark.parametrize(("of_train", "of_test", "bar"), [(False, True, 0.75), (True, False, 0.85), (True, True, 0.75)])
def test_the_bar_is_one_that_the_groups_of_a_test_file_can_show(
    of_train: bool, of_test: bool, bar: float, tmp_path: Path
) -> None:
    for name, n, has_groups in (("train.jsonl", 200, of_train), ("test.jsonl", 30, of_test)):
        rows = [{**row, "text": f"{name} {row['text']}"} for row in _labelled(n)]
        _file(tmp_path, [{**row, "group": f"{name} {i}"} if has_groups else row for i, row in enumerate(rows)], name)
    found = init_task(InitRequest(tmp_path / "train.jsonl", task_file=tmp_path / "task.yaml"))
    assert found.draft.bar == bar
    prepared = prepare(load_task(tmp_path / "task.yaml"))
    assert (prepared.counts_right, prepared.n_units) == (not of_test, 30)


def test_few_rows_of_a_test_file_without_groups_do_not_count_as_groups(tmp_path: Path) -> None:
    for name, n in (("train.jsonl", 200), ("test.jsonl", 9)):
        rows = [{**row, "text": f"{name} {row['text']}"} for row in _labelled(n)]
        _file(tmp_path, [{**row, "group": f"g{i}"} for i, row in enumerate(rows)] if n == 200 else rows, name)
    assert init_task(InitRequest(tmp_path / "train.jsonl", task_file=tmp_path / "task.yaml")).draft.bar == 0.6
    _file(tmp_path, [{**row, "group": f"t{i}"} for i, row in enumerate(_labelled(9))], "test.jsonl")
    (tmp_path / "task.yaml").unlink()
    with pytest.raises(DataError, match=r"found 9 rows, expected at least 11 values of group\."):
        init_task(InitRequest(tmp_path / "train.jsonl", task_file=tmp_path / "task.yaml"))
    assert not (tmp_path / "task.yaml").exists()


def test_a_test_file_of_few_groups_is_refused_by_their_number(tmp_path: Path) -> None:
    for name, n in (("train.jsonl", 200), ("test.jsonl", 30)):
        rows = [
            {**row, "text": f"{name} {row['text']}", "group": f"{name} {i // 6}"} for i, row in enumerate(_labelled(n))
        ]
        _file(tmp_path, rows, name)
    with pytest.raises(DataError, match=r"found 30 rows of 5 values of group, expected at least 11 values of group\."):
        init_task(InitRequest(tmp_path / "train.jsonl", task_file=tmp_path / "task.yaml"))


def test_owners_of_whom_one_has_nearly_all_rows_are_not_said_to_be_lacking_in_number(tmp_path: Path) -> None:
    labelled = iter(_labelled(180))
    rows = [{**next(labelled), "customer": f"c{i}"} for i in range(30) for _ in range(151 if i == 0 else 1)]
    task = tmp_path / "task.yaml"
    init_task(InitRequest(_file(tmp_path, rows), task_file=task))
    said = "# Rows share a customer, but too many of them belong together, by customer or by equal inputs, for a split that keeps"
    assert said in task.read_text("utf-8")


@pytest.mark.parametrize("value", [lambda i: {"id": i}, float])
def test_a_group_of_objects_or_fractions_groups_no_rows_and_the_file_says_so(
    value: Callable[[int], object], tmp_path: Path
) -> None:
    rows = [{**row, "customer": value(i % 50)} for i, row in enumerate(_labelled(200))]
    task = tmp_path / "task.yaml"
    assert init_task(InitRequest(_file(tmp_path, rows), task_file=task)).draft.group_by is None
    said = "# Rows share a customer: make it text or a whole number, then split by it (split.group_by: customer)."
    assert said in task.read_text("utf-8")


def test_a_column_called_group_that_equal_inputs_connect_is_refused_as_that(tmp_path: Path) -> None:
    rows = [{**row, "group": f"c{(i + copy) % 50}"} for copy in range(4) for i, row in enumerate(_labelled(100))]
    sentence = (
        r"found 400 rows of 50 values of group, which equal inputs connect to 1, expected at least \d+ values of group"
    )
    with pytest.raises(DataError, match=sentence):
        init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml"))


def test_a_dev_file_of_one_input_is_refused(tmp_path: Path) -> None:
    train = _file(tmp_path, _labelled(300), "train.jsonl")
    _file(tmp_path, [{"text": "a constant", "label": SEASONS[i % 4]} for i in range(100)], "dev.jsonl")
    with pytest.raises(DataError, match=r"dev\.jsonl: found 100 dev items, and 1 without .*, expected at least 20"):
        init_task(InitRequest(train, task_file=tmp_path / "task.yaml"))
    assert not (tmp_path / "task.yaml").exists()


def test_a_draft_that_is_refused_names_no_key_of_the_file_that_has_gone(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {**row, "text": f"{row['text']}{end}"} for row in _labelled(60) for end in ("", "!", " please")
    ]
    sentence = (
        r"found 43 dev items, and 15 without .*, expected at least 20\. Add labelled examples with other inputs\.$"
    )
    with pytest.raises(DataError, match=sentence):
        init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml"))


def test_a_test_file_that_repeats_inputs_counts_each_once(tmp_path: Path) -> None:
    train, path = _file(tmp_path, _labelled(180), "train.jsonl"), tmp_path / "task.yaml"
    _file(tmp_path, [{"text": f"dev {i}", "label": SEASONS[i % 4]} for i in range(40)], "dev.jsonl")
    _file(tmp_path, [{"text": f"test {i % 20}", "label": SEASONS[i % 4]} for i in range(100)], "test.jsonl")
    found = init_task(InitRequest(train, task_file=path)).draft
    assert len(prepare(load_task(path)).split.test) == 20
    assert found.bar < draft([str(row["label"]) for row in _labelled(180)], n_test=100).bar


def test_too_few_rows_for_any_verdict_are_refused() -> None:
    with pytest.raises(DataError, match=r"found 8 rows, expected at least \d+ rows, half of them to test on"):
        draft(["a", "b"] * 4)


def test_the_count_that_is_asked_for_is_one_of_what_is_lacking() -> None:
    with pytest.raises(
        DataError, match=r"found 40 rows of 4 inputs, expected at least \d+ inputs, half of them to test on"
    ):
        draft(["a", "b"] * 20, together=[UnitSize(10, 1, 1)] * 4)
    with pytest.raises(
        DataError, match=r"found 40 rows of 4 values of shop, expected at least \d+ values of shop, half"
    ):
        draft(["a", "b"] * 20, group_by="shop", together=[UnitSize(10, 10, 1)] * 4)


@pytest.mark.parametrize(("rows", "found", "unit"), [(4, "4 rows", "rows"), (40, "40 rows of 4 inputs", "inputs")])
def test_a_test_file_that_is_too_small_is_named(rows: int, found: str, unit: str, tmp_path: Path) -> None:
    train = _file(tmp_path, _labelled(300), "train.jsonl")
    test = _file(tmp_path, [{"text": f"test {i % 4}", "label": SEASONS[i % 4]} for i in range(rows)], "test.jsonl")
    with pytest.raises(DataError, match=rf"found {found}, expected at least \d {unit}\. Add .* to it, or") as caught:
        init_task(InitRequest(train, task_file=tmp_path / "task.yaml"))
    assert str(caught.value).startswith(f"{test}: ")


def test_an_open_column_is_asked_for_and_never_guessed(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"a": f"long text {i}", "b": i % 2, "c": i % 3} for i in range(300)]
    path, task = _file(tmp_path, rows), tmp_path / "task.yaml"
    with pytest.raises(
        InputError,
        match=r"cannot tell which columns are the input and the output.*--input COLUMN and --output COLUMN\.",
    ):
        init_task(InitRequest(path, task_file=task))
    assert not task.exists()
    asked: list[OpenColumns] = []

    def ask(found: OpenColumns) -> str | None:
        asked.append(found)
        return "c" if found.side == "output" else None

    init_task(InitRequest(path, task_file=task), ask)
    assert [one.side for one in asked] == ["input", "output"]
    assert yaml.safe_load(task.read_text())["columns"] == {"input": "a", "output": "c"}


def test_the_only_column_left_is_taken() -> None:
    facts = facts_of([RawRow({"utterance": "x y", "mood": "z"}, 1, "f")])
    assert choose_columns(facts, 1) == ("utterance", "mood")


def test_a_wrong_column_is_told_with_the_near_one(tmp_path: Path) -> None:
    path = _file(tmp_path, _labelled(100))
    with pytest.raises(InputError, match=r'no column "lable".*Write --output "label"'):
        init_task(InitRequest(path, output="lable", task_file=tmp_path / "task.yaml"))


def test_the_column_of_the_answers_is_never_proposed_as_the_input(tmp_path: Path) -> None:
    rows = [{"utterance": f"play song {i}", "txt": f"{i % 7} of {i}", "label": "ab"[i % 2]} for i in range(100)]
    path = _file(tmp_path, rows)
    for near, says in (("labe", "Name one of them with --input"), ("utterence", 'Write --input "utterance"')):
        with pytest.raises(InputError, match=says):
            init_task(InitRequest(path, input=near, task_file=tmp_path / "task.yaml"))
    intents = [{"utterance": row["utterance"], "intent": row["label"]} for row in rows]
    with pytest.raises(InputError, match="Name one of them with --input"):  # a longer word that shares four letters
        init_task(InitRequest(_file(tmp_path, intents), input="text", task_file=tmp_path / "task.yaml"))


def test_a_file_of_one_column_is_told(tmp_path: Path) -> None:
    path = _file(tmp_path, [{"remark": f"text {i}"} for i in range(100)])
    for source in (None, "remark"):
        with pytest.raises(DataError, match="found one column, expected one for the input and one for the output"):
            init_task(InitRequest(path, input=source, task_file=tmp_path / "task.yaml"))


def test_a_column_without_any_value_is_named(tmp_path: Path) -> None:
    path = _file(tmp_path, [{"remark": f"text {i}", "intent": ""} for i in range(100)])
    with pytest.raises(DataError, match='found no value in column "intent" of any row, expected one for the input'):
        init_task(InitRequest(path, task_file=tmp_path / "task.yaml"))


def test_two_wrong_columns_are_told_at_once(tmp_path: Path) -> None:
    path = _file(tmp_path, _labelled(100))
    with pytest.raises(InputError) as refused:
        init_task(InitRequest(path, input="txet", output="lable", task_file=tmp_path / "task.yaml"))
    assert str(refused.value) == (
        '--input and --output: no column "txet" and no column "lable", expected text, label. '
        'Write --input "text" and write --output "label".'
    )
    with pytest.raises(InputError, match=r'Write --input "text" and name one of them with --output\.'):
        init_task(InitRequest(path, input="txet", output="zzzzzzz", task_file=tmp_path / "task.yaml"))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Support-requests--final--2026.jsonl", "support-requests-final-2026"),
        ("My rows (2).jsonl", "my-rows-2"),
        ("Été_2026.jsonl", "ete_2026"),
        ("---.jsonl", "task"),
    ],
)
def test_a_task_is_named_tidily_after_its_file(tmp_path: Path, file: str, name: str) -> None:
    init_task(InitRequest(_file(tmp_path, _labelled(100), file), task_file=tmp_path / "task.yaml"))
    assert yaml.safe_load((tmp_path / "task.yaml").read_text(encoding="utf-8"))["task"] == name


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("mine")
    with pytest.raises(InputError, match=r"already exists.*name another file with --task\.$"):
        init_task(InitRequest(_file(tmp_path, _labelled(100)), task_file=task))
    assert task.read_text() == "mine"


def test_a_draft_that_does_not_load_is_taken_away(tmp_path: Path) -> None:
    rows = [*_labelled(100), {"text": "one more", "label": ""}]
    with pytest.raises(DataError, match='row 101, key "label"'):
        init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_test_and_dev_files_beside_train_are_used(tmp_path: Path) -> None:
    for name, n in (("train.jsonl", 300), ("test.jsonl", 120), ("validation.jsonl", 60)):
        _file(tmp_path, [{"text": f"{name} {row['text']}", "label": row["label"]} for row in _labelled(n)], name)
    init_task(InitRequest(tmp_path / "train.jsonl", task_file=tmp_path / "task.yaml"))
    found = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert found["examples"] == {"train": "train.jsonl", "dev": "validation.jsonl", "test": "test.jsonl"}
    assert "split" not in found


def test_files_that_are_given_are_named_as_the_reason_why_owners_are_not_kept_apart(tmp_path: Path) -> None:
    for name, n in (("train.jsonl", 300), ("test.jsonl", 120)):
        labelled = [{"text": f"{name} {row['text']}", "label": row["label"]} for row in _labelled(n)]
        _file(tmp_path, [{**row, "customer": f"{name} {i % 100}"} for i, row in enumerate(labelled)], name)
    task = tmp_path / "task.yaml"
    init_task(InitRequest(tmp_path / "train.jsonl", task_file=task))
    text = task.read_text("utf-8")
    assert (
        "# Rows share a customer: split.group_by: customer keeps them together, and refuses files that share one."
        in text
    )
    task.write_text(re.sub(r"^split: \{", "split: {group_by: customer, ", text, flags=re.M), "utf-8")
    split = prepare(load_task(task)).split
    assert not {one.group for one in split.train} & {one.group for one in split.dev}


def test_the_need_for_test_items_that_is_named_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    needed = set[int]()
    for rows in (260, 300, 340, 360):
        (tmp_path / f"{rows}").mkdir()
        found = init_task(
            InitRequest(_file(tmp_path / f"{rows}", _labelled(rows)), task_file=tmp_path / f"{rows}" / "t.yaml")
        )
        assert found.few is not None
        assert (found.draft.bar, found.draft.ladder) == (0.85, LADDERS[0])
        needed.add(found.few.enough)
    assert len(needed) == 1


def test_rows_of_one_owner_stay_together(tmp_path: Path) -> None:
    rows = [{**row, "customer_id": f"c{i % 150}"} for i, row in enumerate(_labelled(600))]
    found = _drafted(tmp_path, rows)
    assert found["split"]["group_by"] == "customer_id"  # type: ignore[index]
    split = prepare(load_task(tmp_path / "task.yaml")).split
    assert not {one.group for one in split.train} & {one.group for one in split.test}


def test_a_column_that_names_nobody_does_not_group() -> None:
    rows = [RawRow({"text": f"t{i}", "customer": f"c{i}", "group_size": i % 12}, i, "f") for i in range(100)]
    assert group_column(facts_of(rows), 100, ("text",)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_every_answer_meets_the_schema_of_all(values: list[object]) -> None:
    validator = schema_validator(schema_of(values))
    assert all(violation(validator, value) is None for value in values)


def _command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["lastresort", "init", *arguments])
    return guarded(app)


def test_the_command_shows_the_file_and_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task.yaml"
    assert _command(monkeypatch, str(_file(tmp_path, _labelled(400))), "--task", str(task)) == 0
    said = capsys.readouterr()
    assert task.read_text() in said.out
    assert f"lastresort climb {task} --dry-run" in said.out
    assert f"wrote {task}" in said.err


def test_yes_takes_what_is_plausible_and_stops_where_several_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, [{"a": f"long text {i}", "b": i % 2, "c": i % 3} for i in range(300)])
    task = tmp_path / "task.yaml"
    monkeypatch.setattr("sys.stdin", None)
    assert _command(monkeypatch, str(path), "--task", str(task)) == 2
    said = capsys.readouterr().err
    assert "expected two of a (long text 0, long text 1, long text 2, …); b (0, 1); c (0, 1, 2)." in said
    assert "Name them with --input COLUMN and --output COLUMN." in said
    assert _command(monkeypatch, str(path), "--task", str(task), "--output", "c") == 2
    assert 'Name it with --input COLUMN, or give --yes to take "a".' in capsys.readouterr().err
    assert _command(monkeypatch, str(path), "--task", str(task), "--yes") == 2
    assert (
        "cannot tell which column is the output, expected one of b (0, 1); c (0, 1, 2). Name it with --output COLUMN."
        in capsys.readouterr().err
    )
    assert not task.exists()
    assert _command(monkeypatch, str(path), "--task", str(task), "--yes", "--output", "c", "--json") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["answers"], document["rows"]) == ("labels", 300)
    assert 'input: column "a"; output: column "c"' in printed.err


def test_candidates_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, [{"b": i % 2, "c": i % 3, "a": f"long text {i}"} for i in range(300)])
    with pytest.raises(InputError, match=r'expected one of b \(.*; a \(.*to take "a"'):
        init_task(InitRequest(path, output="c", task_file=tmp_path / "task.yaml"))


def test_one_column_for_both_is_refused(tmp_path: Path) -> None:
    request = InitRequest(_file(tmp_path, _labelled(300)), "label", "label", tmp_path / "task.yaml")
    with pytest.raises(
        DataError, match='found "label" for both, expected one for the input and another for the answer'
    ):
        init_task(request)


def test_objects_without_a_key_in_common_have_no_schema_of_their_keys(tmp_path: Path) -> None:
    scores: list[dict[str, object]] = [{f"answer {i}, {j}": j % 2 for j in range(4)} for i in range(300)]
    assert schema_of(scores) == {"type": "object", "additionalProperties": {"type": "integer"}}
    within = schema_of([{"scores": one} for one in scores])
    assert within["properties"] == {"scores": schema_of(scores)}
    path = _file(tmp_path, [{"text": f"question {i}", "scores": one} for i, one in enumerate(scores)])
    with pytest.raises(DataError, match=r'key "scores": found answers .* without a key in common, .* --output'):
        init_task(InitRequest(path, "text", "scores", tmp_path / "task.yaml"))


REQUESTS = ("Request ID", "Created", "Channel", "Customer said", "Team category", "Labelled by")


def _requests(header: tuple[str, ...] = REQUESTS) -> list[dict[str, object]]:
    return [
        dict(zip(header, (f"R{i}", f"2026-01-{i % 28}", "web app".split()[i % 2], f"help with order {i}",
                          SEASONS[i % 4], "AB"[i % 2]), strict=True))
        for i in range(300)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (REQUESTS, ("Customer said", "Team category")),
        (("id", "date", "source", "message_text", "issueClass", "status"), ("message_text", "issueClass")),
        (("Ticket number", "Opened", "Topic source", "Body", "Labels", "Label author"), ("Body", "Labels")),
        (("Answer id", "Answer date", "Topic", "Text", "output", "Team"), ("Text", "output")),
    ],
)
def test_the_words_of_a_name_say_what_a_column_is(header: tuple[str, ...], columns: tuple[str, str]) -> None:
    rows = [RawRow(row, i, "f") for i, row in enumerate(_requests(header), start=1)]
    assert choose_columns(facts_of(rows), len(rows)) == columns


def test_equally_plausible_columns_are_left_open_and_metadata_comes_last() -> None:
    header = ("Request ID", "Created", "Channel", "Customer said", "Team", "Season")
    rows = [RawRow({**row, "Topic": i % 3}, i, "f") for i, row in enumerate(_requests(header), start=1)]
    found = choose_columns(facts_of(rows), len(rows))
    assert isinstance(found, OpenColumns)
    assert [one.name for one in found.candidates] == ["Topic", "Team", "Season", "Channel"]
    assert (found.likely, found.other) == (2, "Customer said")
    alone = choose_columns(
        facts_of([RawRow({"Ref": f"R{i}", "Created": i, "by": "AB"[i % 2]}, i, "f") for i in range(9)]), 9
    )
    assert isinstance(alone, OpenColumns)
    assert len(alone.candidates) == 3, "where nothing else is left"


@pytest.mark.parametrize(
    ("value", "left_out"),
    [
        ("REQ-{}", True), ("2026-03-{} 05:15", True), ("3/{}/2026", True), ("1{:03}", True), ("same", True),
        ("{}.25", False), ("{}00", False),
    ],
)  # fmt: skip
def test_what_names_or_dates_the_rows_or_never_changes_is_not_proposed(value: str, left_out: bool) -> None:
    cells = [{"Body": f"text about {i}", "Value": value.format(i), "Mood": "xyz"[i % 3]} for i in range(1, 29)]
    found = choose_columns(facts_of([RawRow(row, i, "f") for i, row in enumerate(cells, start=1)]), len(cells))
    assert (found == ("Body", "Mood")) == left_out
    named = [RawRow({"Body": row["Body"], "answer": row["Value"], "Mood": row["Mood"]}, 1, "f") for row in cells]
    assert choose_columns(facts_of(named), len(cells)) == ("Body", "answer"), "unless its name says that it is meant"


def _tickets(teams: tuple[str, ...], *header: str, code: str = "X-{}") -> list[RawRow]:
    """header: of the codes, the text and the answers."""
    cells = [(code.format(i), f"customer text about order {i}", teams[i % len(teams)]) for i in range(120)]
    return [RawRow(dict(zip(header, row, strict=True)), i, "f") for i, row in enumerate(cells, start=1)]


@pytest.mark.parametrize("header", ["Ticket #", "Ticket", "Request"])
@pytest.mark.parametrize("code", ["X-{}", "#{}", "2026-01-{}", "{}"])
def test_a_column_of_codes_is_not_the_input_whatever_its_name(header: str, code: str) -> None:
    facts = facts_of(_tickets(("billing", "shop"), header, "Kundentext (raw)", "Ziel-Team", code=code))
    assert choose_columns(facts, 120) == ("Kundentext (raw)", "Ziel-Team")
    assert choose_columns(facts, 120, given_input=header) == (header, "Ziel-Team"), "unless somebody says so"
    named = facts_of(_tickets(("billing", "shop"), header, "Body", "Ziel-Team", code=code))
    assert choose_columns(named, 120) == ("Body", "Ziel-Team")


def test_words_without_spaces_are_text() -> None:
    rows = [RawRow({"Message": f"请问第{i}号订单", "Key": f"k{i}", "Team": "ab"[i % 2]}, i, "f") for i in range(1, 99)]
    assert choose_columns(facts_of(rows), len(rows)) == ("Message", "Team")


@pytest.mark.parametrize("header", ["Ticket #", "text"])
def test_a_file_whose_rows_all_have_one_answer_is_refused_for_it(header: str, tmp_path: Path) -> None:
    names = (header, "Body", "Team") if header != "text" else ("Ticket #", "text", "label")
    rows = [dict(row.values) for row in _tickets(("ship",), *names)]
    with pytest.raises(DataError) as refused:
        init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml"))
    where = ', key "Team"' if header != "text" else ""
    assert str(refused.value).removeprefix(str(tmp_path)) == (
        f'/rows.jsonl{where}: found one answer in all 120 rows ("ship"), expected at least two different answers. '
        "Add rows with other answers, or name another column with --output."
    )


def test_a_column_with_one_value_gives_way_to_one_that_could_be_the_output() -> None:
    rows = [RawRow({"Body": f"text {i}", "Team": "ship", "Mood": i % 3}, i, "f") for i in range(1, 99)]
    assert choose_columns(facts_of(rows), len(rows)) == ("Body", "Mood")


def test_a_person_answers_by_number_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, [{"a": f"long text {i}", "b": i % 2, "c": i % 3} for i in range(300)])
    typed = io.StringIO("1\nnothing\nc\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", typed)
    task = tmp_path / "task.yaml"
    assert _command(monkeypatch, str(path), "--task", str(task)) == 0
    assert yaml.safe_load(task.read_text())["columns"] == {"input": "a", "output": "c"}
    said = capsys.readouterr().err
    assert "  1 a: long text 0, long text 1, long text 2, …\n" in said
    assert "  2 c: 0, 1, 2\n" in said
    assert "Please answer with a number from 1 to 2, or a name." in said


def test_labels_that_differ_only_in_case_are_named_with_their_rows(tmp_path: Path) -> None:
    rows = _labelled(400)
    for place, label in ((7, "SPRING"), (8, "SPRING"), (150, "Summer")):
        rows[place]["label"] = label
    found = _drafted(tmp_path, rows)
    assert found["output"] == {"choices": ["autumn", "winter", "summer", "spring", "SPRING", "Summer"]}
    text = (tmp_path / "task.yaml").read_text(encoding="utf-8")
    assert (
        "# 3 rows of the file spell a label in another case or with other spaces:\n"
        '#   "SPRING" for "spring" (2)\n#   "Summer" for "summer" (1)\n' in text
    )
    assert "the 4 labels of the file and 2 other spellings" in text.lower()


def test_a_label_that_may_be_a_typo_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    rows = _labelled(400)
    rows[7]["label"], rows[8]["label"] = "sumer", "SPRING"
    _drafted(tmp_path, rows)
    text = (tmp_path / "task.yaml").read_text(encoding="utf-8")
    assert (
        '# 1 row of the file has a label that may be a typo:\n#   "sumer", perhaps "summer" (1)\n'
        "# If so, correct those rows and remove the typos from choices.\n"
        "# The 5 labels of the file, 1 of them perhaps a typo, and 1 other spelling.\noutput: " in text
    )


def test_answers_that_may_be_labels_in_too_few_rows_are_said_to_be(tmp_path: Path) -> None:
    rows = [{"text": f"day {i}", "label": SEASONS[i % 4]} for i in range(14)]
    assert "output" not in _drafted(tmp_path, rows)
    said = "# 14 rows are too few to say that their 4 different answers are all labels.\n# If they are, list them"
    assert said in (tmp_path / "task.yaml").read_text(encoding="utf-8")
    (tmp_path / "task.yaml").unlink()
    _drafted(tmp_path, [{"text": f"day {i}", "label": f"the {i}th"} for i in range(14)])
    assert "labels" not in (tmp_path / "task.yaml").read_text(encoding="utf-8")


def test_a_line_break_in_a_label_stays_out_of_the_comments(tmp_path: Path) -> None:
    rows = [{"text": f"day {i}", "label": ("a\nb", "A\nb", "c")[i % 3]} for i in range(300)]
    assert _drafted(tmp_path, rows)["output"] == {"choices": ["a\nb", "A\nb", "c"]}


def test_spaces_around_a_label_in_a_table_do_not_make_another_label(tmp_path: Path) -> None:
    lines = [f"day {i},{SEASONS[i % 4]}{' ' if i == 5 else ''}" for i in range(300)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    drafted = init_task(InitRequest(tmp_path / "rows.csv", task_file=tmp_path / "task.yaml"))
    assert sorted(drafted.draft.answers.labels) == sorted(SEASONS)


def test_an_empty_cell_is_told_and_not_asked_about(tmp_path: Path) -> None:
    rows = [{"Customer says": f"text {i}" if i != 11 else "", "label": "ab"[i % 2]} for i in range(300)]
    with pytest.raises(DataError, match='row 12, key "Customer says"'):
        init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml"))


def test_all_empty_cells_of_both_columns_are_told_at_once(tmp_path: Path) -> None:
    rows = _requests()
    for i in (11, 20, 30, 40, 50, 60, 70):
        rows[i]["Customer said"] = " "
    for i in (3, 11):
        rows[i]["Team category"] = ""
    with pytest.raises(DataError) as refused:
        init_task(InitRequest(_file(tmp_path, rows), task_file=tmp_path / "task.yaml"))
    assert str(refused.value).removeprefix(str(tmp_path)) == (
        '/rows.jsonl, row 4, key "Team category": found empty text (1 more like it, in row 12; 7 in key "Customer said", '
        "in rows 12, 21, 31, 41, 51 …), expected a value in every row. Fill them in or remove the rows."
    )


@pytest.mark.parametrize("table", [True, False])
def test_empty_rows_are_left_out_where_somebody_says_so(
    tmp_path: Path, table: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _labelled(300)
    rows[3]["label"], rows[7]["text"] = " ", ""
    data = _file(tmp_path, rows).rename(tmp_path / "rows.v2.jsonl")
    if table:
        data = tmp_path / "rows.v2.csv"
        data.write_text(
            "".join(f"{row['text']},{row['label']}\n" for row in [{"text": "text", "label": "label"}, *rows])
        )
    task = tmp_path / "task.yaml"
    arguments = [str(data), "--task", str(task)]
    assert _command(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err
    assert "leave out 1 row without an answer and 1 without an input with --leave-out-empty" in said
    assert not task.exists()
    assert _command(monkeypatch, *arguments, "--leave-out-empty") == 0
    copy = tmp_path / ("rows.v2-complete.csv" if table else "rows.v2-complete.jsonl")
    drafted = yaml.safe_load(task.read_text())
    assert (drafted["task"], drafted["examples"]) == ("rows.v2", copy.name)
    expected = [row for i, row in enumerate(rows) if i not in (3, 7)]
    assert [dict(row.values) for row in read_rows(copy)] == expected


@pytest.mark.parametrize(("typed", "options", "status"), [("y", (), 0), ("", (), 2), ("", ("--yes",), 2)])
def test_a_person_is_asked_whether_to_leave_out_empty_rows(
    typed: str, options: tuple[str, ...], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = [{"Customer said": f"text {i}", "Season": SEASONS[i % 4], "Mood": "ab"[i % 2]} for i in range(300)]
    rows[7]["Customer said"] = ""
    stdin = io.StringIO(f"Season\n{typed}\n" if not options else "")
    for stream in (stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    task = tmp_path / "task.yaml"
    chosen = ("--output", "Season") if options else ()
    assert _command(monkeypatch, str(_file(tmp_path, rows)), "--task", str(task), *options, *chosen) == status
    said = capsys.readouterr().err
    assert ("Leave out 1 row without an input? [y/N]\n" in said) == (not options)
    assert said.count("Which column is the output?") == (not options), "once"
    assert ("with --leave-out-empty." in said) == (status == 2)
    if status == 0:
        assert len(read_rows(tmp_path / "rows-complete.jsonl")) == 299


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        init_task(InitRequest(_file(tmp_path, _labelled(100)), task_file=tmp_path / "new" / "task.yaml"))
    assert not (tmp_path / "new").exists()


def test_a_data_file_in_place_of_a_task_is_told_what_drafts_one(tmp_path: Path) -> None:
    file = _file(tmp_path, _labelled(10), "my rows.jsonl")
    with pytest.raises(
        TaskError, match=f"found a data file, expected a task file. `lastresort init '{re.escape(str(file))}'` drafts"
    ):
        load_task(file)


def test_the_drafted_instruction_names_only_what_reads_well(tmp_path: Path) -> None:
    assert str(_drafted(tmp_path, _labelled(400, "Customer says", "label"))["about"]).startswith("Read the text.")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_copy_without_empty_rows_holds_what_the_file_held(tmp_path: Path, suffix: str) -> None:
    """Also a lone carriage return in a cell, and a number that is none in a column that nobody reads."""
    rows = [
        {"text": f"words {number}\rof two lines", "label": "" if number < 3 else str(number % 2), "size": float(number)}
        for number in range(100)
    ]
    path = tmp_path / f"cases{suffix}"
    if suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    else:
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame([{**row, "size": float("nan")} for row in rows]).to_parquet(path)
    task = tmp_path / "task.yaml"
    init_task(InitRequest(path, input="text", output="label", task_file=task, leave_out_empty=True))
    (copy,) = tmp_path.glob("cases-complete.*")
    kept = read_rows(copy)
    assert [row.values["text"] for row in kept] == [row["text"] for row in rows[3:]]
    assert prepare(load_task(task)).split.train


@pytest.mark.parametrize("bar", [0.5, 0.8, 0.85, 0.95])
@pytest.mark.parametrize("ladder", LADDERS, ids="-".join)
def test_the_fewest_test_items_of_a_draft_are_those_with_which_a_climb_may_begin(
    bar: float, ladder: tuple[str, ...]
) -> None:
    """With what a test cannot use passed on, as in a climb."""
    least = smallest_for(bar, True, ladder)
    for n, begins in ((least, True), (least + 1, True), (least - 1, False)):
        shares = error_shares(ladder, 0.05, partial(usable_share, n=n, bar=bar))
        assert (n >= smallest_deciding_test(bar, min(shares[rung] for rung in ladder))) is begins
