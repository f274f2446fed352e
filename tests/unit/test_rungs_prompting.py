"""The prompting rung: its variants, its race, what it does with form failures and with what a model cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from climb_support import TEAMS, calls, comparable, scripted_task
from lastresort.app.climb import climb
from lastresort.climb.prepare import prepare
from lastresort.errors import CandidateError, DataError
from lastresort.models.scripted import ScriptedModel
from lastresort.records.events.search import RungSearched
from lastresort.records.record import Record
from lastresort.rungs.prompting.prompts import instruction, shots_of, variants
from lastresort.spec.task import load_task
from lastresort.systems.files import load_system, save_system
from lastresort.types import Decoding, Example, Message
from tuning_support import Cut, CutAt


def examples(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(str(i), (Message("user", text),), output) for i, (text, output) in enumerate(pairs)]


def test_every_way_of_design_part_7_is_there(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=[]))
    train = prepare(task).split.train
    names = [system.name for system in variants(task, train, 16, "m")]
    assert names == [
        "zero-shot",
        "structured",
        "few-shot-3",
        "nearest-3",
        "few-shot-5",
        "nearest-5",
        "chain-of-thought",
        "zero-shot+constrained",
    ]


def test_every_prompt_thinks_as_long_as_the_task_says(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=[], task={"decode": {"reasoning_effort": "high"}}))
    systems = variants(task, prepare(task).split.train, 16, "m")
    assert {system.decoding.reasoning_effort for system in systems} == {"high"}
    save_system(systems[0], tmp_path / "system")
    assert load_system(tmp_path / "system") == systems[0]


def test_shots_come_from_train_alone(tmp_path: Path) -> None:
    """What dev and test hold never stands in a prompt."""
    task = load_task(scripted_task(tmp_path, quality=[]))
    split = prepare(task).split
    held_out = {example.input_text for example in (*split.dev, *split.test)}
    for system in variants(task, split.train, 16, "m"):
        assert not {shot.input[0].content for shot in system.prompt.shots} & held_out


def test_the_first_shots_show_every_label(tmp_path: Path) -> None:
    train = examples(("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "x"), ("f", "z"))
    assert {shot.output for shot in shots_of(train, 0)[:3]} == {"x", "y", "z"}
    assert shots_of(train, 0) != shots_of(train, 1)


def test_the_instruction_says_what_an_answer_looks_like(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=[]))
    assert instruction(task) == "Route the case to a team.\nAnswer with exactly one of: billing, delivery, repairs."


def found(tmp_path: Path, quality: list[dict[str, Any]], **arguments: Any) -> dict[str, Any]:
    path = scripted_task(tmp_path / "task", quality=quality, **arguments)
    decision: dict[str, Any] = climb(load_task(path), tmp_path / "runs" / "run", until="prompting").decision.as_json()
    return decision


def test_the_winner_is_constrained_where_its_answers_failed_by_form(tmp_path: Path) -> None:
    levels = [{"right": 0.2}, {"right": 0.7, "min_shots": 3}, {"right": 0.95, "min_shots": 3, "grammar": True}]
    decision = found(tmp_path, levels)
    assert decision["rungs"][0]["chosen"].endswith("+constrained")
    assert decision["verdict"] == "MET"


def test_no_second_constrained_race_where_every_answer_is_well_formed(tmp_path: Path) -> None:
    decision = found(tmp_path, [{"right": 0.7}], script={"wrong": [TEAMS[0]]})
    names = {candidate["name"] for candidate in decision["rungs"][0]["candidates"]}
    assert {name for name in names if name.endswith("+constrained")} == {"zero-shot+constrained"}


def test_losers_leave_the_race_early(tmp_path: Path) -> None:
    decision = found(tmp_path, [{"right": 0.2}, {"right": 0.9, "min_shots": 5}])
    dev = {candidate["name"]: candidate["dev"]["n"] for candidate in decision["rungs"][0]["candidates"]}
    assert dev["few-shot-5"] == dev["nearest-5"] == 60
    assert sum(n == 24 for n in dev.values()) == 6, "halving alone leaves two of these"
    assert "6 were dropped early by a paired test at an error of 50%." in searched(tmp_path).in_words


def searched(tmp_path: Path) -> RungSearched:
    with Record.open(tmp_path / "runs" / "run", read_only=True) as record:
        search = record.last(RungSearched, "prompting")
    assert search is not None
    return search


ONE_IS_BETTER = [{"right": 0.3}, {"right": 0.95, "contains": "Think|step"}]


def test_the_race_ends_where_a_paired_test_leaves_one(tmp_path: Path) -> None:
    decision = found(tmp_path, ONE_IS_BETTER, script={"wrong": [TEAMS[0]]})
    rung = decision["rungs"][0]
    assert rung["chosen"] == "chain-of-thought"
    assert {candidate["dev"]["n"] for candidate in rung["candidates"]} == {24}
    assert (
        "the race ended after 24 of 60 items, where a paired test at an error of 50% left one"
        in searched(tmp_path).in_words
    )


@pytest.mark.slow
def test_a_race_that_is_cut_before_a_paired_test_decides_the_same(tmp_path: Path) -> None:
    whole = found(tmp_path / "whole", ONE_IS_BETTER)
    path = scripted_task(tmp_path / "cut", quality=ONE_IS_BETTER)
    with pytest.raises(Cut):
        climb(load_task(path), tmp_path / "run", until="prompting", progress=CutAt("prompting: few-shot-5, dev", 1))
    again = climb(load_task(path), tmp_path / "run", until="prompting").decision.as_json()
    assert comparable(again) == comparable(whole)
    assert len(calls(tmp_path / "cut")) == len(calls(tmp_path / "whole" / "task"))


def test_the_race_ends_where_all_is_below_the_bar(tmp_path: Path) -> None:
    decision = found(tmp_path, [{"right": 0.1}, {"right": 0.4, "min_shots": 5}], script={"wrong": [TEAMS[0]]})
    rung = decision["rungs"][0]
    assert {candidate["dev"]["n"] for candidate in rung["candidates"]} == {24}
    assert rung["chosen"] == "few-shot-5"  # the least far off of what answered
    assert rung["test"]["verdict"] == "NOT_MET"
    assert "the race ended after 24 of 60 items" in searched(tmp_path).in_words


def test_the_choice_is_corrected_over_all_that_answered_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over those that the end of the race spared from being dropped: the leader was chosen among them."""
    corrected: list[int] = []

    def count(scores: dict[str, list[float]], seed: int, *, groups: object) -> float:
        corrected.append(len(scores))
        return 0.0

    monkeypatch.setattr("lastresort.rungs.race.selection_bias_corrected", count)
    found(tmp_path, [{"right": 0.1}], script={"wrong": [TEAMS[0]]})
    assert corrected == [9]  # the eight, and the leader held to the form


HELD_TO_THE_FORM = [{"right": 0.1}, {"right": 0.4, "min_shots": 3}, {"right": 0.95, "min_shots": 3, "grammar": True}]


def test_what_is_held_to_the_form_is_tried_on_as_many_items_and_the_test_decides(tmp_path: Path) -> None:
    decision = found(tmp_path, HELD_TO_THE_FORM)
    rung = decision["rungs"][0]
    assert rung["chosen"].endswith("-3+constrained")
    assert {candidate["dev"]["n"] for candidate in rung["candidates"]} == {24}
    assert decision["verdict"] == "MET"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("label", ["prompting: chain-of-thought", "prompting: few-shot-3+constrained"])
def test_a_race_that_is_cut_where_it_ends_decides_the_same(tmp_path: Path, label: str) -> None:
    whole = found(tmp_path / "whole", HELD_TO_THE_FORM)
    path = scripted_task(tmp_path / "cut", quality=HELD_TO_THE_FORM)
    with pytest.raises(Cut):
        climb(load_task(path), tmp_path / "run", until="prompting", progress=CutAt(label, 1))
    again = climb(load_task(path), tmp_path / "run", until="prompting").decision.as_json()
    assert comparable(again) == comparable(whole)
    assert len(calls(tmp_path / "cut")) == len(calls(tmp_path / "whole" / "task"))


def test_rows_that_belong_together_go_the_whole_way(tmp_path: Path) -> None:
    """Half a group shows nothing that is certain."""
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.1}])
    file = path.with_name("rows.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    grouped = [json.dumps({**row, "case": str(i // 2)}) + "\n" for i, row in enumerate(rows)]
    file.write_text("".join(grouped), encoding="utf-8")
    path.write_text(
        path.read_text(encoding="utf-8").replace("test: 120", "test: 120\n  group_by: case"), encoding="utf-8"
    )
    decision = climb(load_task(path), tmp_path / "runs" / "run", until="prompting").decision.as_json()
    assert max(candidate["dev"]["n"] for candidate in decision["rungs"][0]["candidates"]) == 60


def test_the_search_sees_no_test_item(tmp_path: Path) -> None:
    found(tmp_path, [{"right": 0.9}])
    with Record.open(tmp_path / "runs" / "run", read_only=True) as record:
        task = load_task(tmp_path / "task" / "task.yaml")
        test = {example.id for example in prepare(task).split.test}
        searched = {item.id for m in record.measurements() if m.split != "test" for item in m.items}
    assert searched
    assert not searched & test


def test_a_limit_of_money_stops_the_run_and_raising_it_goes_on(tmp_path: Path) -> None:
    from lastresort.errors import BudgetError

    priced = {"use": {"prompt_price": 1000.0, "output_price": 1000.0}, "limits": {"usd": 2}}
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.9}], task=priced)
    with pytest.raises(BudgetError, match=r"USD are spent"):
        climb(load_task(path), tmp_path / "runs" / "run")
    path.write_text(path.read_text().replace("usd: 2", "usd: 500"), encoding="utf-8")
    decision = climb(load_task(path), tmp_path / "runs" / "run").decision.as_json()
    assert decision["verdict"] == "MET"
    assert decision["rungs"][0]["cost"]["usd"] > 2


def test_a_prompt_that_does_not_fit_drops_its_candidate_and_not_the_climb(tmp_path: Path) -> None:
    decision = found(tmp_path, [{"right": 0.9}], script={"context_tokens": 110})
    names = {candidate["name"] for candidate in decision["rungs"][0]["candidates"]}
    assert "zero-shot" in names
    assert "few-shot-5" not in names
    assert decision["verdict"] == "MET"
    assert "few-shot-5 could not be tried" in searched(tmp_path).in_words


def test_nothing_fits_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at most the context of 10 tokens"):
        found(tmp_path, [{"right": 0.9}], script={"context_tokens": 10})


def test_a_form_that_cannot_be_enforced_drops_its_candidates_and_not_the_climb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader's answers fail by form, so that it would be held to it; the model takes no form at all."""

    def check_decoding(self: ScriptedModel, decoding: Decoding) -> None:
        if decoding.grammar is not None:
            raise CandidateError("the output format cannot be enforced", where="output")

    monkeypatch.setattr(ScriptedModel, "check_decoding", check_decoding)
    decision = found(tmp_path, [{"right": 0.2}, {"right": 0.9, "min_shots": 3}])
    assert decision["rungs"][0]["failures"]["format"] > 0
    search = searched(tmp_path)
    assert "zero-shot+constrained could not be tried" in search.in_words
    assert f"{search.chosen}+constrained could not be tried" in search.in_words
