"""Repairs in whole climbs: what is tried after a gate, what is tested and gated once more, and what wins then."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from climb_gate_support import BROKEN, SAFE, by_making, by_scale, gated_climb, script_rungs
from climb_support import calls, comparable, reason_lines, rows
from decision_support import validate_decision
from gate_support import Words
from lastresort.after.repair import phase as time_left
from lastresort.after.repair.choose import REPAIR_SEED, RepairCandidate
from lastresort.after.repair.phase import SCALES, Repair, _Trying
from lastresort.app.climb import Climbed
from lastresort.app.runs import Run
from lastresort.errors import TaskError
from lastresort.evals.evidence.bar import judge_bar
from lastresort.gate.drawing import is_among
from lastresort.gate.suites.suite import SuiteItem
from lastresort.records.decision import MISSES, RunView
from lastresort.records.events.search import SystemKept
from lastresort.records.measurement import whole_of
from lastresort.records.record import Record
from lastresort.records.rungs import OverTime
from lastresort.records.view import Fold
from lastresort.report.markdown import markdown
from lastresort.report.story import gather, spent_on_repairs
from lastresort.report.terminal import ladder_table
from lastresort.report.words.answer import how_to_use
from lastresort.report.words.next_step import next_step
from lastresort.systems.files import artefact_sha256, candidate_folder, load_system
from lastresort.systems.running import winner_status
from tuning_support import Scissors

ONE_SUITE = {"keep": {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}, "split": {"dev": 20, "test": 60}}
MENDED = by_scale((1, 0.99, BROKEN), (0.75, 0.99, 0.7), (0.5, 0.96, SAFE), (0.25, 0.6, SAFE))
SPOILED = by_scale(*((scale, 0.99, BROKEN) for scale in (1, 0.75, 0.5, 0.25)))


@pytest.fixture(scope="module")
def scripted() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft", "preference")
        yield patch


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory, scripted: pytest.MonkeyPatch) -> Climbed:
    return gated_climb(tmp_path_factory.mktemp("mended"), MENDED, task=ONE_SUITE, gate="quick")


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory, scripted: pytest.MonkeyPatch) -> Climbed:
    return gated_climb(tmp_path_factory.mktemp("spoiled"), SPOILED, task=ONE_SUITE, gate="quick")


def test_the_items_of_a_gated_run_name_whole_splits(mended: Climbed) -> None:
    assert {row["split"] for row in Run(mended.run).items()} == {"dev", "test", "rest of test"}


def test_the_record_holds_the_hash_of_every_system_that_was_measured(mended: Climbed) -> None:
    with Record.open(mended.run, read_only=True) as record:
        kept = {event.key: event.sha256 for event in record.all(SystemKept)}
        measured = {(one.rung, one.candidate) for one in record.measured() if whole_of(one.split) == "dev"}
    files = {"/".join(one): artefact_sha256(candidate_folder(mended.run, *one)) for one in measured}
    assert ("sft", "sft-adapter-scale0.5") in measured
    assert kept == files


def test_a_rejected_adapter_ships_at_the_scale_that_loses_nothing(mended: Climbed) -> None:
    decision = mended.decision.as_json()
    validate_decision(decision)
    assert (decision["verdict"], decision["meets_bar"], decision["stopped_at"]) == ("MET", True, "sft")
    assert (decision["winner"]["kind"], decision["winner"]["held"]) == ("adapter", False)
    gate, first = decision["gate"], decision["first_gate"]
    assert (first["verdict"], first["system"], first["seed"], first["alpha"]) == ("REJECT", "sft-adapter", 0, 0.025)
    assert (gate["verdict"], gate["system"], gate["seed"], gate["alpha"]) == ("SHIP", "sft-adapter-scale0.5", 1, 0.025)
    assert decision["rungs"][1]["chosen"] == "sft-adapter-scale0.5"
    assert decision["rungs"][1]["candidates"][-1]["name"] == "sft-adapter-scale0.5"
    assert artefact_sha256(mended.run / "winner") == gate["artefact_sha256"]
    assert load_system(mended.run / "winner").name == "sft-adapter-scale0.5"
    assert any(
        reason.startswith(
            "sft: after the gate rejected it, 3 repairs were tried and 1 of them was good. The best on dev, sft-adapter-scale0.5"
        )
        for reason in reason_lines(decision)
    )


def test_all_that_was_tried_is_told_also_what_was_no_good(mended: Climbed) -> None:
    repairs = mended.decision.as_json()["repairs"]
    assert [(one["kind"], one["setting"], one["good"], one["frozen"]) for one in repairs] == [
        ("scale", 0.75, False, False),
        ("scale", 0.5, True, True),
        ("scale", 0.25, False, False),
    ]
    assert (repairs[0]["findings"][0]["kind"], repairs[0]["findings"][0]["measure"]) == ("LOST_TOO_MUCH", "general")
    assert repairs[2]["findings"][0]["kind"] == "BELOW_BAR"
    assert all(one["dev"]["n"] == 20 and one["measures"][0]["n"] > 100 for one in repairs)
    assert [one["test"] is None for one in repairs] == [True, False, True]
    assert repairs[1]["test"]["verdict"] == "MET"
    assert repairs[1]["gate"]["verdict"] == "SHIP"
    assert repairs[1]["gate"]["measures"][0]["verdict"] == "NON_INFERIOR"


def test_what_repairs_took_counts_in_the_total_and_the_base_once(mended: Climbed) -> None:
    decision = mended.decision
    spent = [repair.spent for repair in decision.repairs]
    assert spent[0].tokens_in > spent[1].tokens_in == spent[2].tokens_in > 0
    assert all(one.seconds > 0 for one in spent)
    gates = [decision.gate.spent, decision.first_gate.spent]
    with Record.open(mended.run, read_only=True) as record:
        total = gather(record, decision).total
    rungs = sum(rung.cost.tokens_in for rung in decision.rungs)
    assert total.tokens_in == rungs + sum(one.tokens_in for one in [*spent, *gates])


def test_a_second_gate_that_fails_counts_in_the_total_too(mended: Climbed) -> None:
    decision = mended.decision
    failed = decision.model_copy(update={"gate": decision.first_gate, "first_gate": None})
    assert sum(one.tokens_in for one in spent_on_repairs(failed)) == decision.gate.spent.tokens_in + sum(
        repair.spent.tokens_in for repair in decision.repairs
    )


def test_page_terminal_and_markdown_tell_of_repairs(mended: Climbed) -> None:
    told = "1 of 3 repairs was good: sft-adapter-scale0.5 replaced the first system, and the SHIP above is its own"
    page = mended.report.read_text("utf-8")
    assert f'<h2 id="repairs">{told}' in page
    assert "The first gate said REJECT for sft-adapter" in page
    assert page.count('class="chart tradeoff"') == 1
    assert all(f">scale {scale}" in page for scale in (0.75, 0.5, 0.25))
    assert f"{told}." in markdown(mended.decision).replace("\\", "")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(ladder_table(mended.decision))
    assert f"{told}." in console.export_text()


def test_repairs_are_chosen_on_items_and_facts_of_which_the_gate_that_follows_asks_nothing(mended: Climbed) -> None:
    asked = {seed: _words(mended, seed) for seed in (REPAIR_SEED, -1, 0, 1)}
    gate, first = mended.decision.gate, mended.decision.first_gate
    assert len({gate.seed, first.seed, REPAIR_SEED, -1}) == 4
    assert all(asked.values())
    assert all(is_among(item, "few") for item in asked[REPAIR_SEED])
    assert all(is_among(item, "most") for item in asked[1])
    assert {is_among(item, "few") for item in asked[0]} == {False, True}


def _words(found: Climbed, seed: int) -> list[SuiteItem]:
    """The items of this seed that were asked of anybody."""
    path = found.run.parent / ".lastresort" / "suite_answers.sqlite"
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT DISTINCT item FROM answer WHERE item LIKE ?", (f"%/1/{seed}/%",)).fetchall()
    numbers = [int(name.rsplit("/", 1)[1]) for (name,) in rows]
    return [item for number in numbers for item in Words(name="general").draw(seed, number, number + 1)]


def test_the_view_is_whole_after_every_event_of_a_gate_and_its_repairs(mended: Climbed, spoiled: Climbed) -> None:
    for found, chosen in ((mended, "sft-adapter-scale0.5"), (spoiled, "sft-adapter")):
        assert chosen_by_the_view(found)[-1] == chosen


def chosen_by_the_view(found: Climbed) -> list[str]:
    """The systems for which the rung sft stood in turn, while every view was whole; the last is that of the decision."""
    fold, chosen, before = Fold(), list[str](), None
    with Record.open(found.run, read_only=True) as record:
        events = [event for _, event in record.since()]
    for event in events:
        fold.take(event)
        seen = fold.view()
        if seen is None or seen.decided:
            continue
        before = seen
        RunView.model_validate(seen.as_json())
        for rung in seen.rungs:
            if rung.name == "sft" and rung.test is not None and rung.chosen not in chosen[-1:]:
                chosen.append(str(rung.chosen))
    assert before is not None
    decided, last = found.decision.as_json(), before.as_json()
    for key in ("rungs", "gate", "first_gate", "repairs", "retrieval"):
        assert last[key] == decided[key], key
    return chosen


def test_where_no_repair_is_good_none_is_tested_and_all_is_as_it_was(spoiled: Climbed) -> None:
    decision = spoiled.decision.as_json()
    validate_decision(decision)
    assert (decision["gate"]["verdict"], decision["gate"]["system"]) == ("REJECT", "sft-adapter")
    assert (decision["first_gate"], decision["meets_bar"], decision["winner"]["kind"]) == (None, False, "prompt")
    assert [(one["good"], one["frozen"], one["test"], one["gate"]) for one in decision["repairs"]] == [
        (False, False, None, None)
    ] * 3
    assert any(
        reason == "sft: after the gate rejected it, 3 repairs were tried. None was good, so none was tested."
        for reason in reason_lines(decision)
    )
    assert any(
        change["text"] == "SFT on other training rows, or on fewer of their kind: no repair was good enough."
        for change in decision["would_change"]
    )


def test_a_resumed_climb_repairs_nothing_again(mended: Climbed, spoiled: Climbed) -> None:
    for found in (mended, spoiled):
        task = found.run.parent.parent / "task"
        before = len(calls(task))
        for mode in ("none", "full", None):
            assert comparable(gated_climb(task.parent, [], gate=mode).decision.as_json()) == comparable(
                found.decision.as_json()
            )
        assert len(calls(task)) == before


@pytest.mark.slow
def test_without_a_gate_no_repair_is_begun_of_one_that_was_rejected_before(
    tmp_path: Path, scripted: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr("lastresort.app.climb.after_repairs", _killed)
        with pytest.raises(KeyboardInterrupt):
            gated_climb(tmp_path, MENDED, task=ONE_SUITE, gate="quick")
    before = len(calls(tmp_path / "task"))
    decision = gated_climb(tmp_path, MENDED, gate="none").decision.as_json()
    assert (decision["gate"]["verdict"], decision["repairs"]) == ("REJECT", [])
    assert len(calls(tmp_path / "task")) == before


@pytest.mark.parametrize(("levels", "after", "good"), [(SPOILED, 1, 0), (MENDED, 2, 1)])
def test_a_climb_that_goes_on_without_a_gate_keeps_the_verdict_and_ends_its_repairs(
    tmp_path: Path, scripted: pytest.MonkeyPatch, levels: list[dict[str, Any]], after: int, good: int
) -> None:
    """after: repairs that were tried when the climb was stopped."""
    tried = _Trying.tried

    def stopped(self: _Trying, repair: Repair) -> RepairCandidate | None:
        if repair.setting == SCALES[after]:
            raise KeyboardInterrupt
        return tried(self, repair)

    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(_Trying, "tried", stopped)
        with pytest.raises(KeyboardInterrupt):
            gated_climb(tmp_path, levels, task=ONE_SUITE, gate="quick")
    before, heard = len(calls(tmp_path / "task")), Scissors()
    decision = gated_climb(tmp_path, levels, gate="none", progress=heard).decision.as_json()
    validate_decision(decision)
    assert len(calls(tmp_path / "task")) == before
    assert "sft: its quick gate was run before, and its verdict counts; no further repair is tried" in heard.said
    assert (decision["gate"]["verdict"], decision["winner"]["kind"]) == ("REJECT", "prompt")
    assert [one["good"] for one in decision["repairs"]] == [False] * (after - good) + [True] * good
    said = "The climb ended before one was tested." if good else "None was good, so none was tested."
    assert any(f"were tried. {said}" in reason or f"was tried. {said}" in reason for reason in reason_lines(decision))


def test_a_climb_that_goes_on_without_a_gate_speaks_of_no_repairs_where_none_are_due(
    tmp_path: Path, scripted: pytest.MonkeyPatch
) -> None:
    levels, heard = by_scale((1, 0.99, SAFE)), Scissors()
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr("lastresort.app.climb._decide", _killed)
        with pytest.raises(KeyboardInterrupt):
            gated_climb(tmp_path, levels, task=ONE_SUITE, gate="quick")
    gated_climb(tmp_path, levels, gate="none", progress=heard)
    assert "sft: its quick gate was run before, and its verdict counts" in heard.said


def _killed(*arguments: object, **more: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_second_rejection_leaves_all_as_it_was(tmp_path: Path, scripted: pytest.MonkeyPatch) -> None:
    """On the items of the second gate the repaired system is as bad as the first."""
    second = {"right": BROKEN, "adapter": '"lora_alpha": 16[,}]', "contains": "^Say: [a-z]+ 1 "}
    found = gated_climb(tmp_path, [*MENDED, second], task=ONE_SUITE, gate="quick")
    decision = found.decision.as_json()
    validate_decision(decision)
    frozen = decision["repairs"][1]
    assert (frozen["frozen"], frozen["test"]["verdict"], frozen["gate"]["verdict"]) == (True, "MET", "REJECT")
    assert (decision["gate"]["system"], decision["gate"]["verdict"]) == ("sft-adapter", "REJECT")
    assert (decision["first_gate"], decision["winner"]["kind"], decision["meets_bar"]) == (None, "prompt", False)
    assert chosen_by_the_view(found) == ["sft-adapter"]
    assert any("Its gate on fresh items says REJECT: the first stays" in why for why in reason_lines(decision))


def test_a_repair_that_misses_the_bar_leaves_the_test_of_the_rung(tmp_path: Path, scripted: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.after.repair.phase.goes_to_the_gate", lambda test, bar: False)
        found = gated_climb(tmp_path, MENDED, task=ONE_SUITE, gate="quick")
    decision = found.decision.as_json()
    assert [(one["frozen"], one["gate"]) for one in decision["repairs"]] == [(False, None), (True, None), (False, None)]
    assert chosen_by_the_view(found) == ["sft-adapter"]
    assert (decision["rungs"][1]["chosen"], decision["rungs"][1]["gate"]) == ("sft-adapter", "REJECT")


@pytest.mark.slow
def test_an_undecided_repair_is_not_told_to_go_on_with_fresh_items(
    tmp_path: Path, scripted: pytest.MonkeyPatch
) -> None:
    levels = by_scale((1, 0.99, BROKEN), (0.75, 0.99, 0.7), (0.5, 0.87, SAFE), (0.25, 0.6, SAFE))
    found = gated_climb(tmp_path, levels, task=ONE_SUITE, gate="quick")
    rung, decision = found.decision.rungs[1], found.decision
    assert rung.test is not None
    assert (rung.chosen, rung.test.verdict, decision.verdict) == ("sft-adapter-scale0.5", "UNDECIDED", "UNDECIDED")
    assert decision.is_repaired(rung)
    assert "--more" not in (next_step(decision) or "")
    assert "--more" in (next_step(decision.replaced(repairs=())) or ""), "of the rung's own system"
    page = found.report.read_text(encoding="utf-8")
    console = Console(width=2000, record=True, file=io.StringIO())
    console.print(ladder_table(decision))
    for text in (console.export_text(), markdown(decision), page):
        assert "A repaired system is tested once, so its test does not go on with fresh items." in text
        assert "Allowing for that" not in text
        assert "of the way" not in text
        assert "--more" not in text
        assert "Label about" not in text
    right, n = round(rung.test.score * rung.test.n_used), rung.test.n_used
    assert rung.test.outlook is not None
    assert (rung.test.outlook.seen_share, rung.test.outlook.after) == (None, ())
    scores = [float((item + 1) * right // n > item * right // n) for item in range(n)]
    again = judge_bar(scores, bar=0.8, alpha=rung.test.outlook.error, binary=True)
    assert again is not None
    assert rung.test.n_needed == again.n_needed, "of a new test"
    with pytest.raises(TaskError, match=r"the only test of this run that is UNDECIDED is that of a repaired system"):
        climbed_with_more(tmp_path)


def climbed_with_more(folder: Path) -> Climbed:
    more = folder / "more.jsonl"
    more.write_text("".join(json.dumps(row) + "\n" for row in rows(400)[260:]), encoding="utf-8")
    return gated_climb(folder, [], more=more)


def test_an_untuned_winner_that_was_kept_below_the_bar_is_said_to_miss_it(spoiled: Climbed) -> None:
    decision = spoiled.decision
    assert (decision.stopped_at, decision.winner_verdict, decision.provisional) == ("prompting", "NOT_MET", False)
    assert how_to_use(decision, spoiled.run)[0] == MISSES
    assert winner_status(spoiled.run).notes == (MISSES,)


@pytest.mark.slow
def test_there_is_one_phase_of_repairs_a_climb(tmp_path: Path, scripted: pytest.MonkeyPatch) -> None:
    taller = {**ONE_SUITE, "ladder": ["prompting", "sft", "preference"]}
    decision = gated_climb(tmp_path, SPOILED, task=taller, gate="quick").decision.as_json()
    assert [rung["gate"] for rung in decision["rungs"]] == [None, "REJECT", "REJECT"]
    assert {repair["rung"] for repair in decision["repairs"]} == {"sft"}
    assert (decision["gate"]["rung"], decision["winner"]["kind"]) == ("preference", "prompt")


@pytest.mark.slow
def test_a_full_gate_that_holds_for_a_loss_is_repaired_and_a_quick_one_is_not(
    tmp_path: Path, scripted: pytest.MonkeyPatch
) -> None:
    worn = by_scale((1, 0.99, 0.89), (0.75, 0.99, SAFE), (0.5, 0.99, SAFE), (0.25, 0.99, SAFE))
    found = {
        mode: gated_climb(tmp_path / mode, worn, task=ONE_SUITE, gate=mode).decision.as_json()
        for mode in ("full", "quick")
    }
    assert (found["quick"]["gate"]["verdict"], found["quick"]["repairs"]) == ("HOLD", [])
    decision = found["full"]
    assert (decision["first_gate"]["verdict"], decision["gate"]["verdict"]) == ("HOLD", "SHIP")
    assert (decision["winner"]["held"], decision["gate"]["system"]) == (False, "sft-adapter-scale0.75")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("mode", ["quick", "full"])
def test_training_anew_comes_last_and_never_after_a_quick_gate(tmp_path: Path, mode: str) -> None:
    levels = by_making(first=(0.99, BROKEN), epoch1=(0.99, 0.8), replay=(0.97, SAFE))
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "training")
        decision = gated_climb(tmp_path, levels, task=ONE_SUITE, gate=mode).decision.as_json()
    validate_decision(decision)
    tried = [(one["kind"], one["setting"]) for one in decision["repairs"]]
    untrained = [("scale", 0.75), ("scale", 0.5), ("scale", 0.25), ("fewer_epochs", 1)]
    assert tried == (untrained if mode == "quick" else [*untrained, ("replay", 0.25)])
    assert decision["gate"]["system"] == ("sft-epoch2" if mode == "quick" else "sft-replay0.25")
    assert decision["gate"]["verdict"] == ("REJECT" if mode == "quick" else "SHIP")


@pytest.mark.slow
def test_a_training_that_diverges_is_told(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "training")
        spoiled = by_making(first=(0.99, BROKEN))
        decision = gated_climb(tmp_path, spoiled, task=ONE_SUITE, gate="full").decision.as_json()
        assert decision["repairs"][-1]["kind"] == "learning_rate"
        assert [one["kind"] for one in decision["repairs"][-1]["findings"]] == ["DIVERGED"]
        assert (decision["repairs"][-1]["system"], decision["repairs"][-1]["dev"]) == (None, None)


@pytest.mark.slow
def test_a_training_that_does_not_fit_the_time_is_told_and_begun_where_more_is_given(tmp_path: Path) -> None:
    levels = by_making(first=(0.99, BROKEN), epoch1=(0.99, 0.8), replay=(0.97, SAFE))
    file = tmp_path / "task" / "task.yaml"
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "training")
        patch.setattr(time_left, "over_time", lambda seconds, left: OverTime(36_000.0, left) if left < 10 else None)
        few = gated_climb(tmp_path, levels, task={**ONE_SUITE, "limits": {"hours": 5}}, gate="full").decision.as_json()
        again = gated_climb(tmp_path, []).decision.as_json()
        assert "hours: 5\n" in file.read_text()
        file.write_text(file.read_text().replace("hours: 5\n", "hours: 50\n"))
        more = gated_climb(tmp_path, []).decision.as_json()
        file.write_text(file.read_text().replace("hours: 50\n", "hours: 6\n"))
        less = gated_climb(tmp_path, []).decision.as_json()
    assert [[said["kind"] for said in one["findings"]] for one in few["repairs"][-2:]] == [["OVER_TIME"], ["OVER_TIME"]]
    assert comparable(again) == comparable(few)
    assert (more["gate"]["verdict"], more["gate"]["system"]) == ("SHIP", "sft-replay0.25")
    assert [one["frozen"] for one in more["repairs"] if one["kind"] == "replay"] == [True]
    assert (less["repairs"], less["gate"]) == (more["repairs"], more["gate"])
