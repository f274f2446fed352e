"""Whole climbs with `goal: cost`, and what every decision says of cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import cost_support
from climb_support import calls, comparable, reason_lines
from cost_support import HOURLY_PRICE, OUTPUT_PRICE, PROMPT_PRICE, two_models
from decision_support import validate_decision
from lastresort.app.climb import Climbed, climb
from lastresort.climb.break_even import Amount
from lastresort.climb.costs import _one_off
from lastresort.climb.identity import changed_keys
from lastresort.errors import InfrastructureError, TaskError
from lastresort.ladder import RUNGS
from lastresort.records.events.run import TaskRead
from lastresort.records.events.search import SystemFrozen
from lastresort.records.record import Record
from lastresort.records.rungs import TooLarge
from lastresort.records.view import fold_of
from lastresort.spec.task import load_task
from lastresort.systems.files import load_system
from report_support import training_reached
from tuning_support import tiny_task

NO_PRICES = {"prompt_price": None, "output_price": None, "hourly_price": None}
LADDER = ["prompting", "retrieval", "sft", "preference"]


def plan(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the rung sft be one of `cost_support`, with the plan of this name."""
    monkeypatch.setitem(RUNGS, "sft", replace(RUNGS["sft"], path=f"{cost_support.__name__}:{name}"))


@pytest.fixture
def cheap_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "cheap")


def climbed(tmp_path: Path, until: str | None = None, **task: Any) -> Climbed:
    return climb(load_task(two_models(tmp_path / "task", **task)), tmp_path / "run", until=until, gate="none")


def rungs(decision: dict[str, Any]) -> list[tuple[str, str]]:
    return [(rung["name"], rung["test"]["verdict"]) for rung in decision["rungs"]]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    """A climb that goes on from prompting to sft, past retrieval."""
    with pytest.MonkeyPatch.context() as patch:
        plan(patch, "cheap")
        return climbed(tmp_path_factory.mktemp("usual"), ladder=LADDER)


def test_after_the_bar_is_met_a_cheaper_tuned_model_is_tried_and_wins(usual: Climbed) -> None:
    found, decision = usual, usual.decision.as_json()
    validate_decision(decision)
    assert rungs(decision) == [("prompting", "MET"), ("sft", "MET")]
    assert (decision["verdict"], decision["meets_bar"], decision["stopped_at"]) == ("MET", True, "sft")
    assert decision["winner"]["kind"] == "adapter"
    assert load_system(found.run / "winner").name == "tuned"
    assert (
        decision["answer"] == "Yes, to save money, but no gate ran: SFT is cheaper; for the bar, prompting is enough."
    )
    assert any("the climb went on to SFT. The plan puts 1,000 calls" in reason for reason in reason_lines(decision))
    assert any(reason.startswith("No gate was run") for reason in reason_lines(decision))


def test_the_numbers_of_the_decision_are_those_of_the_record(usual: Climbed) -> None:
    found, costs = usual, usual.decision.as_json()["break_even"]
    with Record.open(found.run, read_only=True) as record:
        tests = {m.rung: m for m in record.measurements() if m.split == "test"}
    shared = {item.id for item in tests["prompting"].items} & {item.id for item in tests["sft"].items}
    items = [item for item in tests["prompting"].items if item.id in shared]
    assert len(items) >= 20
    prompting, sft = costs["systems"]
    mean_in, mean_out = (
        sum(getattr(i, name) for i in items) / len(items) for name in ("prompt_tokens", "completion_tokens")
    )
    assert prompting["items"] == sft["items"] == len(items)
    assert prompting["per_call_usd"] == pytest.approx((mean_in * PROMPT_PRICE + mean_out * OUTPUT_PRICE) / 1e6)
    assert (prompting["per_call_machine_s"], prompting["one_off_usd"], prompting["seconds"]) == (0, 0, 0.8)
    assert sft["per_call_usd"] == pytest.approx(0.01 * HOURLY_PRICE / 3600)
    answered = 60 + len(tests["sft"].items)  # dev and the test, at 0.01 s each
    assert sft["one_off_machine_s"] == pytest.approx(0.01 * answered)
    assert sft["one_off_usd"] == pytest.approx(0.01 * answered * HOURLY_PRICE / 3600)
    assert found.decision.as_json()["rungs"][1]["cost"]["usd"] == 0  # the prices are not those of the tuned model
    (pair,) = costs["pairs"]
    exact = sft["one_off_usd"] / (prompting["per_call_usd"] - sft["per_call_usd"])
    assert exact <= pair["calls"] < exact + 1
    assert pair["months"] == pytest.approx(pair["calls"] / 1000)
    assert pair["both"]["n"] == len(shared)
    assert (costs["currency"], costs["missing"]) == ("usd", [])
    saving = costs["saving"]
    assert (saving["rung"], saving["goes_on"], saving["one_off"]) == ("prompting", True, pytest.approx(1.0))
    assert saving["then"] == pytest.approx(0.000005)
    assert saving["calls"] == pytest.approx(1.0 / (saving["now"] - 0.000005), abs=1)


def test_the_further_rung_is_tested_at_its_own_share_or_that_of_the_met_below_it(usual: Climbed) -> None:
    decision = usual.decision.as_json()
    shares = decision["shares"]
    assert list(shares) == ["prompting", "sft", "sft repair"]
    errors = [rung["test"]["decided"]["error"] for rung in decision["rungs"]]
    assert [rung["test"]["decided"]["by"] for rung in decision["rungs"]] == ["sequence", "sequence"]
    assert errors == pytest.approx([0.2 * shares["prompting"], 0.2 * max(shares["prompting"], shares["sft"])])
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting", "sft"]  # nothing between would be cheaper
    page = usual.report.read_text("utf-8")
    assert page.count("The bar was met below it, and nothing suggests that it is cheaper.") == 1
    assert page.count("Not reached: the climb stopped below it.") == 1


def test_training_that_is_not_paid_back_within_a_year_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, "dear")
    decision = climbed(tmp_path).decision.as_json()
    validate_decision(decision)
    assert rungs(decision) == [("prompting", "MET")]
    assert (decision["winner"]["kind"], decision["stopped_at"]) == ("prompt", "prompting")
    saving = decision["break_even"]["saving"]
    assert (saving["goes_on"], saving["crossing"]) == (False, "after")
    assert saving["months"] == pytest.approx(saving["calls"] / 1000)
    assert saving["months"] > 12
    assert saving["because"] in reason_lines(decision)
    assert "would cost $1,000.00 and pay off after" in saving["because"]
    assert "beyond the limit of 12 months" in saving["because"]
    assert not (tmp_path / "task" / "small-calls.jsonl").exists()


def test_calls_that_would_cost_no_less_are_not_trained_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "dear_calls")
    decision = climbed(tmp_path).decision.as_json()
    assert rungs(decision) == [("prompting", "MET")]
    assert decision["break_even"]["saving"]["crossing"] == "never"
    assert any("and never pay off" in reason for reason in reason_lines(decision))


def test_a_plan_that_cannot_be_made_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "unknown")
    decision = climbed(tmp_path).decision.as_json()
    assert rungs(decision) == [("prompting", "MET")]
    assert "cannot be predicted" in decision["break_even"]["saving"]["because"]


@pytest.mark.usefixtures("cheap_plan")
def test_without_a_price_nothing_is_invented(tmp_path: Path) -> None:
    decision = climbed(tmp_path, use={"hourly_price": None}).decision.as_json()
    validate_decision(decision)
    costs = decision["break_even"]
    assert rungs(decision) == [("prompting", "MET")]
    assert "the task does not set `use.hourly_price`" in costs["saving"]["because"]
    assert costs["systems"][0]["per_call_usd"] > 0


@pytest.mark.usefixtures("cheap_plan")
def test_models_that_both_run_here_are_compared_by_the_seconds_of_the_machine(tmp_path: Path) -> None:
    decision = climbed(tmp_path, use=NO_PRICES).decision.as_json()
    validate_decision(decision)
    costs = decision["break_even"]
    assert rungs(decision) == [("prompting", "MET"), ("sft", "MET")]
    assert (costs["currency"], costs["missing"]) == ("machine_seconds", ["use.hourly_price"])
    assert decision["winner"]["kind"] == "adapter"
    assert [system["per_call_usd"] for system in costs["systems"]] == [None, None]
    assert costs["pairs"][0]["calls"] == pytest.approx(costs["systems"][1]["one_off_machine_s"] / 0.79, abs=1)
    assert costs["saving"]["calls"] == pytest.approx(2000 / 0.79, abs=1)
    assert any("Some costs are unknown in money" in reason for reason in reason_lines(decision))
    assert not any("$" in reason for reason in reason_lines(decision))


@pytest.mark.usefixtures("cheap_plan")
def test_a_tuned_model_that_misses_the_bar_leaves_the_winner_where_it_was(tmp_path: Path) -> None:
    decision = climbed(tmp_path, small={"quality": [{"right": 0.4}]}).decision.as_json()
    assert rungs(decision) == [("prompting", "MET"), ("sft", "NOT_MET")]
    assert (decision["verdict"], decision["stopped_at"], decision["winner"]["kind"]) == ("MET", "prompting", "prompt")
    assert decision["answer"].startswith("No: prompting reaches ")
    assert "The bar was met below SFT, which was tried only for its cost. Nothing is left to try." in reason_lines(
        decision
    )
    assert not any(reason.startswith("Break-even") for reason in reason_lines(decision))


@pytest.mark.usefixtures("cheap_plan")
def test_a_tuned_model_that_proves_dearer_does_not_win(tmp_path: Path) -> None:
    decision = climbed(tmp_path, small={"seconds": 20.0}).decision.as_json()  # 0.01 USD a call, against the plan
    assert rungs(decision) == [("prompting", "MET"), ("sft", "MET")]
    assert (decision["stopped_at"], decision["winner"]["kind"]) == ("prompting", "prompt")
    assert decision["answer"].endswith("SFT does, too, but its calls are no cheaper.")
    assert any(reason.startswith("Cost of 1,000 calls: prompting (") for reason in reason_lines(decision))
    assert decision["break_even"]["pairs"][0]["crossing"] == "never"


@pytest.mark.usefixtures("cheap_plan")
def test_where_the_goal_is_quality_the_first_met_ends_the_climb(tmp_path: Path) -> None:
    decision = climbed(tmp_path, goal="quality").decision.as_json()
    validate_decision(decision)
    assert rungs(decision) == [("prompting", "MET")]
    assert decision["break_even"]["saving"] is None
    assert len(decision["break_even"]["systems"]) == 1
    assert not any("Cost of" in reason for reason in reason_lines(decision))


@pytest.mark.slow
@pytest.mark.usefixtures("cheap_plan")
def test_what_the_user_excludes_is_not_gone_on_to(tmp_path: Path) -> None:
    told = climbed(tmp_path / "until", until="prompting").decision.as_json()["break_even"]["saving"]
    assert (told["goes_on"], "the climb is limited to prompting" in told["because"]) == (False, True)
    told = climbed(tmp_path / "left out", ladder=["prompting", "retrieval"]).decision.as_json()["break_even"]["saving"]
    assert "the task leaves sft out of `ladder`" in told["because"]


def test_a_model_that_cannot_be_trained_is_named(tmp_path: Path) -> None:
    decision = climbed(tmp_path).decision.as_json()  # the rung as it is: a script has no weights
    assert rungs(decision) == [("prompting", "MET")]
    _, stopped, weighed, *_ = reason_lines(decision)
    assert stopped == "Prompting meets the bar, and no higher rung was tried for cheaper calls."
    assert "sft does not apply, since the weights of scripted:small.json are not local" in weighed


def test_two_models_stand_beside_each_other(usual: Climbed) -> None:
    decision = usual.decision.as_json()
    (told,) = (reason for reason in reason_lines(decision) if reason.startswith("Two models"))
    assert told.startswith("Two models: scripted:small.json, tuned by SFT, scored 9")
    assert "MET), and scripted:script.json with prompting 100% (" in told
    assert "test items that both answered" in told
    assert told.count("MET)") == 2
    priced = next(reason for reason in reason_lines(decision) if reason.startswith("Cost of 1,000 calls: "))
    assert "answer tokens in 800 ms per call; sft (tuned) $0.005, with" in priced
    assert "answer tokens in 10 ms per call." in priced


@pytest.mark.usefixtures("cheap_plan")
def test_two_models_are_compared_where_the_large_one_misses_the_bar(tmp_path: Path) -> None:
    decision = climbed(
        tmp_path, goal="quality", bar=0.9, split={"dev": 60, "test": 120}, small={"quality": []}
    ).decision.as_json()
    path = tmp_path / "task" / "script.json"
    assert rungs(decision)[-1][0] in ("prompting", "sft")
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**body, "quality": [{"right": 0.3}]}), encoding="utf-8")
    decision = climb(load_task(tmp_path / "task" / "task.yaml"), tmp_path / "second", gate="none").decision.as_json()
    assert rungs(decision) == [("prompting", "NOT_MET"), ("sft", "MET")]
    assert any(reason.startswith("Two models: ") for reason in reason_lines(decision))
    told = next(reason for reason in reason_lines(decision) if reason.startswith("Break-even: "))
    assert told.startswith("Break-even: SFT becomes cheaper than prompting, which misses the bar, after ")


@pytest.mark.usefixtures("cheap_plan")
def test_a_climb_that_is_cut_while_it_goes_on_ends_as_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usual: Climbed
) -> None:
    whole = usual.decision.as_json()
    path = two_models(tmp_path / "cut" / "task", ladder=LADDER, small={"faults": {"fail_at": [20, 75]}})
    run = tmp_path / "cut" / "run"
    with pytest.raises(InfrastructureError):
        climb(load_task(path), run, gate="none")
    large = len(calls(tmp_path / "cut" / "task"))
    plan(monkeypatch, "dear")  # as on a machine that is slower today: what was planned holds
    with pytest.raises(InfrastructureError):
        climb(load_task(path), run, gate="none")
    found = climb(load_task(path), run, gate="none")
    assert comparable(found.decision.as_json()) == comparable(whole)
    assert found.decision.as_json()["break_even"]["saving"] == whole["break_even"]["saving"]
    assert len(calls(tmp_path / "cut" / "task")) == large
    again = climb(load_task(path), run, gate="none")
    assert again.decision.as_json() == found.decision.as_json()


@pytest.mark.slow
@pytest.mark.usefixtures("cheap_plan")
def test_another_volume_is_weighed_anew_without_asking_again(tmp_path: Path) -> None:
    path = two_models(tmp_path / "task", use={"calls_per_month": 10})
    first = climb(load_task(path), tmp_path / "run", gate="none").decision.as_json()
    assert rungs(first) == [("prompting", "MET")]
    asked = len(calls(tmp_path / "task"))
    task = yaml.safe_load(path.read_text(encoding="utf-8"))
    task["use"]["calls_per_month"] = 100_000
    path.write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    second = climb(load_task(path), tmp_path / "run", gate="none").decision.as_json()
    assert rungs(second) == [("prompting", "MET"), ("sft", "MET")]
    assert len(calls(tmp_path / "task")) == asked
    task["use"]["prompt_price"] = 4.0
    path.write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    with pytest.raises(TaskError, match="differs from the one this run began with, in use"):
        climb(load_task(path), tmp_path / "run", gate="none")


@pytest.mark.slow
@pytest.mark.usefixtures("cheap_plan")
def test_a_rung_that_was_gone_on_to_for_its_cost_stays_on_a_machine_too_small_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = climbed(tmp_path)
    too_large = TooLarge(10**9, 16 * 10**9, 8 * 10**9)
    monkeypatch.setattr(cost_support.Tuned, "skip_reason", lambda *_: too_large)
    again = climb(load_task(tmp_path / "task" / "task.yaml"), first.run, gate="none")
    assert again.decision.as_json() == first.decision.as_json()


def test_preferences_trained_on_the_supervised_adapter_cost_both(tmp_path: Path) -> None:
    task = load_task(two_models(tmp_path / "task"))
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task={**task.resolved(), "ladder": ["sft", "preference", "full"]}))
        for rung, seconds in (("sft", 100.0), ("preference", 40.0), ("full", 900.0)):
            record.append(training_reached(rung, f"{rung}-1", seconds=seconds))
        assert _one_off(fold_of(record), "preference") == Amount(0.0, 40.0)  # ORPO, from the base
        record.append(SystemFrozen(rung="sft", name="sft-1", sha256=""))
        assert _one_off(fold_of(record), "preference") == Amount(0.0, 140.0)
        assert _one_off(fold_of(record), "sft") == Amount(0.0, 100.0)
        assert _one_off(fold_of(record), "full") == Amount(0.0, 900.0)


def test_what_is_only_weighed_may_change(tmp_path: Path) -> None:
    task = load_task(two_models(tmp_path))
    now = {**task.resolved(), "path": "task.yaml"}
    before = json.loads(json.dumps(now))
    before["use"] |= {"calls_per_month": 7, "hourly_price": 3.0}
    assert changed_keys(before, now) == []
    before["use"]["prompt_price"] = 77.0
    del before["sft"]
    assert changed_keys(before, now) == ["sft", "use"]


@pytest.mark.slow
def test_a_small_model_is_really_trained_where_it_pays(tmp_path: Path) -> None:
    """The rung as it is, its own plan and measured seconds; the letters of any answer are worth something."""
    settings = {
        "model": "scripted:script.json",
        "tune": {"model": "model"},
        "ladder": ["prompting", "sft"],
        "goal": "cost",
        "bar": 0.2,
        "use": {"calls_per_month": 1_000_000, "prompt_price": 30.0, "output_price": 60.0, "hourly_price": 1.0},
    }
    path = tiny_task(tmp_path / "task", **settings)
    (path.parent / "script.json").write_text(json.dumps({"default": "abcdef", "seconds": 0.5}), encoding="utf-8")
    decision = climb(load_task(path), tmp_path / "run", gate="none").decision.as_json()
    validate_decision(decision)
    saving = decision["break_even"]["saving"]
    assert saving["goes_on"]
    assert 0 < saving["then"] < saving["now"]
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting", "sft"]
    prompting, sft = decision["break_even"]["systems"]
    assert sft["model"] == "model"
    assert sft["per_call_usd"] == pytest.approx(sft["per_call_machine_s"] / 3600)
    assert 0 < sft["per_call_usd"] < prompting["per_call_usd"]
    assert sft["one_off_machine_s"] == pytest.approx(decision["rungs"][1]["cost"]["seconds"])
    assert sft["prompt_tokens"] > 0
    if sft["verdict"] == "MET":
        assert decision["stopped_at"] == "sft"
