"""More examples in the prompt: when they enter the race, when they stop growing, and that a cut climb takes the same way."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from climb_support import calls, scripted_task
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.climb.prepare import prepare
from lastresort.records.events.search import RungSearched
from lastresort.records.record import Record
from lastresort.rungs.prompting.prompts import shots_of, variants, with_shots
from lastresort.rungs.retrieval.rung import base_systems
from lastresort.spec.task import load_task
from lastresort.systems.files import load_system, save_system
from tuning_support import Cut, CutAt

FIVE = [{"right": 0.2}, {"right": 0.4, "min_shots": 5}]
SIXTEEN = [*FIVE, {"right": 0.55, "min_shots": 8}, {"right": 0.95, "min_shots": 16}]
EVER = [*FIVE, *({"right": right, "min_shots": k} for k, right in ((8, 0.5), (16, 0.57), (32, 0.64), (64, 0.7)))]


def climbed(path: Path, run: Path, **arguments: Any) -> tuple[dict[str, Any], str]:
    """The prompting rung of the decision, and what the search says."""
    found = climb(load_task(path), run, until="prompting", gate="none", **arguments)
    with Record.open(run, read_only=True) as record:
        search = record.last(RungSearched, "prompting")
    assert search is not None
    rung: dict[str, Any] = found.decision.as_json()["rungs"][0]
    return rung, search.in_words


def many(rung: dict[str, Any]) -> dict[str, int]:
    """How many dev items the prompts with more than five examples answered."""
    dev = {one["name"]: one["dev"]["n"] for one in rung["candidates"] if "+" not in one["name"]}
    kinds = [(name, n) for name, n in dev.items() if name.startswith(("few-shot-", "nearest-"))]
    return {name: n for name, n in sorted(kinds) if int(name.rsplit("-", 1)[1]) > 5}


def test_more_examples_enter_until_the_leader_is_likely_to_meet_the_bar(tmp_path: Path) -> None:
    rung, said = climbed(scripted_task(tmp_path / "task", quality=SIXTEEN), tmp_path / "run")
    assert rung["chosen"] == "few-shot-16"
    assert rung["test"]["verdict"] == "MET"
    finalists = max(one["dev"]["n"] for one in rung["candidates"])
    assert many(rung) == {"few-shot-16": finalists, "few-shot-8": finalists}
    assert (
        "More examples were tried, since few-shot-5 helped: few-shot-8 and few-shot-16; the leader is then likely to meet the bar."
        in said
    )


def test_they_stop_where_one_more_step_is_no_better(tmp_path: Path) -> None:
    rung, said = climbed(scripted_task(tmp_path / "task", quality=SIXTEEN[:3]), tmp_path / "run")
    assert list(many(rung)) == ["few-shot-16", "few-shot-8"]
    assert "the last was not ahead of the one before by more than one item." in said
    assert rung["chosen"] == "few-shot-8"  # the cheaper of equals


@pytest.mark.slow
def test_they_stop_at_64(tmp_path: Path) -> None:
    path = scripted_task(tmp_path / "task", quality=EVER, task={"split": {"dev": 120, "test": 60}})
    rung, said = climbed(path, tmp_path / "run")
    assert list(many(rung)) == ["few-shot-16", "few-shot-32", "few-shot-64", "few-shot-8"]
    assert "more are never tried." in said


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "quality",
    [
        [{"right": 0.5}],
        [{"right": 0.3}, {"right": 0.6, "min_shots": 3}, {"right": 0.45, "min_shots": 5}],
        [{"right": 0.2}, {"right": 0.4, "min_shots": 5}, {"right": 0.5, "contains": "step by step"}],
        [{"right": 0.2}, {"right": 0.97, "min_shots": 5}],
    ],
    ids=["no examples help", "three are better", "reasoning helps more", "the bar is likely to be met"],
)
def test_none_enters(tmp_path: Path, quality: list[dict[str, Any]]) -> None:
    rung, said = climbed(scripted_task(tmp_path / "task", quality=quality), tmp_path / "run")
    assert not many(rung)
    assert "More examples" not in said


def test_the_context_bounds_them_and_the_climb_goes_on(tmp_path: Path) -> None:
    path = scripted_task(tmp_path / "task", quality=SIXTEEN, script={"context_tokens": 250})
    rung, said = climbed(path, tmp_path / "run")
    assert list(many(rung)) == ["few-shot-8"]
    assert "few-shot-16 could not be tried" in said
    assert "few-shot-8; more could not be tried." in said
    assert rung["chosen"].startswith("few-shot-8")


def test_train_bounds_them(tmp_path: Path) -> None:
    path = scripted_task(tmp_path / "task", quality=EVER, task={"split": {"dev": 60, "test": 190}})
    assert len(prepare(load_task(path)).split.train) == 10
    rung, said = climbed(path, tmp_path / "run")
    assert list(many(rung)) == ["few-shot-8"]
    assert "there are too few training rows for more." in said


@pytest.mark.slow
def test_the_nearest_grow_only_where_they_lead(tmp_path: Path) -> None:
    """Rows of a label share a word, which the nearest examples often repeat five times, and five fixed ones never do."""
    quality = [{"right": 0.2}, {"right": 0.6, "contains": "(?s)(zebra.*){5}|(yak.*){5}|(emu.*){5}"}]
    path = scripted_task(tmp_path / "task", quality=quality)
    words = {"billing": "zebra", "delivery": "yak", "repairs": "emu"}
    file = path.with_name("rows.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    named = [{**row, "input": f"{row['input']} {words[row['output']]}"} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in named), encoding="utf-8")
    rung, said = climbed(path, tmp_path / "run")
    assert "nearest-8" in many(rung)
    assert all(name.startswith("nearest-") for name in many(rung))
    assert "since nearest-5 helped" in said
    system = load_system(tmp_path / "run" / "candidates" / "prompting" / "nearest-8")
    assert (system.prompt.k, system.prompt.selection, len(system.prompt.shots)) == (8, "nearest", 80)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("label", ["few-shot-8, dev", "few-shot-16, dev"])
def test_a_climb_that_is_cut_takes_the_same_way_without_a_second_call(tmp_path: Path, label: str) -> None:
    whole, said = climbed(scripted_task(tmp_path / "whole", quality=SIXTEEN), tmp_path / "whole" / "run")
    path, run = scripted_task(tmp_path / "cut", quality=SIXTEEN), tmp_path / "cut" / "run"
    with pytest.raises(Cut):
        climbed(path, run, progress=CutAt(f"prompting: {label}", 1))
    again, said_again = climbed(path, run)
    for rung in (whole, again):
        rung["cost"].pop("seconds")
    assert (again, said_again) == (whole, said)
    assert len(calls(tmp_path / "cut")) == len(calls(tmp_path / "whole"))


@pytest.mark.slow
def test_the_optimised_prompt_goes_into_the_one_with_most_examples(tmp_path: Path) -> None:
    better = "Billing is about money, delivery about transport."
    script = {"rules": [{"match": "(?s)^An assistant follows", "answer": f"```\n{better}\n```"}]}
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "reflector.json").write_text(json.dumps(script), encoding="utf-8")
    quality = [*SIXTEEN[:3], {"right": 0.6, "contains": "about money, delivery"}]
    keys = {"prompting": {"reflect": "scripted:reflector.json", "calls": 150}}
    rung, _ = climbed(scripted_task(tmp_path / "task", quality=quality, task=keys), tmp_path / "run")
    names = {one["name"] for one in rung["candidates"]}
    assert {"few-shot-8", "optimised", "few-shot-8+optimised"} <= names


def test_a_dry_run_names_what_they_would_take(tmp_path: Path) -> None:
    path = scripted_task(tmp_path, quality=[])
    forecast = dry_run(load_task(path), until="prompting").rungs[0].forecast
    assert forecast is not None
    named = [line for line in forecast.lines if line.startswith("up to nearest-")]
    assert [line.split(",")[0] for line in named] == [f"up to nearest-{k}" for k in (8, 16, 32, 64)]
    assert [line.endswith("not counted") for line in named] == [False, True, True, True]


def test_another_number_of_examples_keeps_the_rest_of_the_system(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=[]))
    train = prepare(task).split.train
    pool = shots_of(train, task.split.seed)
    for system in variants(task, train, 16, "m"):
        if system.prompt.k == 5:
            assert with_shots(with_shots(system, 16, pool), 5, pool) == system
            assert with_shots(system, 16, pool).name == system.name.replace("5", "16")


@pytest.mark.parametrize("kind", ["few-shot", "nearest"])
def test_retrieval_shows_five_of_them_at_most(tmp_path: Path, kind: str) -> None:
    """Each fixed example brings passages of its own."""
    task = load_task(scripted_task(tmp_path, quality=[]))
    train, folder = prepare(task).split.train, tmp_path / "chosen"
    five = next(system for system in variants(task, train, 16, "m") if system.name == f"{kind}-5")
    save_system(with_shots(five, 16, shots_of(train, task.split.seed)), folder)
    bench = SimpleNamespace(
        task=task,
        train=train,
        max_new_tokens=16,
        models=SimpleNamespace(base_name="m"),
        record=SimpleNamespace(last=lambda *_: SimpleNamespace(name=f"{kind}-16")),
        candidate_folder=lambda *_: folder,
    )
    assert base_systems(bench)[-1] == five  # type: ignore[arg-type]
