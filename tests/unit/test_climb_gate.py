"""The gate in whole climbs: what ships, what is held, what is rejected, and that nothing is asked twice."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from climb_gate_support import BROKEN, SAFE, WORN, gated_climb, quality, script_rungs
from climb_support import calls, comparable, reason_lines
from decision_support import validate_decision
from lastresort.app.climb import Climbed
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import BudgetError
from lastresort.evals.measure import LocalExecutor, MeasureJob, Result
from lastresort.gate.in_climb import QUICK_COMPARED
from lastresort.records.decision import NOT_GATED
from lastresort.records.events.after_test import GateRun
from lastresort.records.gate import ClimbGate
from lastresort.records.record import Record
from lastresort.report.story import gather
from lastresort.report.words.answer import how_to_use
from lastresort.rungs import rung as rungs
from lastresort.stop import Stop
from lastresort.systems.files import load_system
from lastresort.systems.running import winner_status
from tuning_support import Cut, CutAt

ONE_SUITE = {"keep": {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}, "split": {"dev": 20, "test": 60}}


@pytest.fixture(scope="module")
def scripted() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft", "preference")
        yield patch


@pytest.fixture(scope="module")
def labels(scripted: pytest.MonkeyPatch) -> list[str]:
    """Of the jobs that executors are given."""
    found: list[str] = []

    class Noting(LocalExecutor):
        def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
            found.extend(job.label for job in jobs)
            LocalExecutor.run(self, jobs, on_result, stop)

    scripted.setattr(rungs, "LocalExecutor", Noting)
    return found


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, scripted: pytest.MonkeyPatch, labels: list[str]) -> Climbed:
    return gated_climb(tmp_path_factory.mktemp("ship"), quality(SAFE), gate="quick")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, scripted: pytest.MonkeyPatch) -> Climbed:
    return gated_climb(tmp_path_factory.mktemp("hold"), quality(WORN), task=ONE_SUITE, gate="quick")


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory, scripted: pytest.MonkeyPatch) -> Climbed:
    folder = tmp_path_factory.mktemp("reject")
    return gated_climb(folder, quality(BROKEN), task=ONE_SUITE, gate="quick")


def test_what_is_better_and_lost_nothing_ships(shipped: Climbed) -> None:
    decision = shipped.decision.as_json()
    validate_decision(decision)
    gate = decision["gate"]
    assert (decision["verdict"], decision["meets_bar"], decision["stopped_at"]) == ("MET", True, "sft")
    assert (decision["winner"]["kind"], decision["winner"]["held"]) == ("adapter", False)
    assert (gate["verdict"], gate["mode"], gate["alpha"], gate["rung"]) == ("SHIP", "quick", 0.025, "sft")
    assert [suite["name"] for suite in gate["suites"]] == ["general", "sycophancy", "format_leak"]
    assert [rung["gate"] for rung in decision["rungs"]] == [None, "SHIP"]
    assert decision["answer"].startswith("Yes: SFT reaches ")
    assert any(reason.startswith("sft: the gate clears it to ship: ") for reason in reason_lines(decision))
    assert not any("No gate was run" in reason for reason in reason_lines(decision))


def test_both_are_completed_on_as_many_items_as_are_compared_and_the_verdict_stays(
    shipped: Climbed, labels: list[str]
) -> None:
    target = shipped.decision.as_json()["gate"]["target"]
    chosen = shipped.decision.as_json()["rungs"][0]["chosen"]
    assert (target["comparator"], target["n_compared"], target["by"]) == (
        f"prompting ({chosen})",
        QUICK_COMPARED,
        "better",
    )
    with Record.open(shipped.run, read_only=True) as record:
        found = {(m.rung, m.split): m for m in record.measurements() if not m.split.startswith("dev[")}
    for rung in shipped.decision.as_json()["rungs"]:
        used = rung["test"]["n_used"]
        tested, rest = (
            found[rung["name"], "test"],
            found[rung["name"], f"rest of test[{_whole(used)}:{QUICK_COMPARED}]"],
        )
        assert used < QUICK_COMPARED
        assert {item.id for item in tested.items}.isdisjoint(item.id for item in rest.items)
        assert tested.n + rest.n == QUICK_COMPARED
        score = target["tuned_score" if rung["name"] == "sft" else "comparator_score"]
        assert score == pytest.approx(sum(item.score for item in (*tested.items, *rest.items)) / QUICK_COMPARED)
    assert target["score"] == pytest.approx(shipped.decision.as_json()["rungs"][1]["test"]["score"])
    systems = [rung.chosen for rung in shipped.decision.rungs]
    assert {f"gate: the rest of the test set, {system}" for system in systems} <= set(labels)


def _whole(used: int, batch: int = 16) -> int:
    """Items in the batches that the test began."""
    return -(-used // batch) * batch


def test_the_page_has_a_section_on_the_gate(shipped: Climbed) -> None:
    page = shipped.report.read_text("utf-8")
    assert '<h2 id="gate">The gate says SHIP: the tuned model passes on its own task' in page
    assert page.count('class="badge NON_INFERIOR"') == 2 * 3  # beside the other measures, and in its failure mode


def test_the_total_of_tokens_holds_what_both_models_read_and_said_for_the_gate(shipped: Climbed) -> None:
    decision, spent = shipped.decision.as_json(), shipped.decision.as_json()["gate"]["spent"]
    with Record.open(shipped.run, read_only=True) as record:
        total = gather(record, shipped.decision).total.as_json()
    for key in ("tokens_in", "tokens_out"):
        assert spent[key] >= 2 * sum(suite["asked"]["items"] for suite in decision["gate"]["suites"])
        assert total[key] == sum(rung["cost"][key] for rung in decision["rungs"]) + spent[key]
    page = shipped.report.read_text("utf-8")
    assert f"{spent['tokens_in']:,}" in page
    assert f"{total['tokens_in']:,}" in page


def test_a_resumed_climb_asks_nothing_again_whatever_gate_it_names(shipped: Climbed) -> None:
    task = shipped.run.parent.parent / "task"
    before = len(calls(task))
    for mode in ("none", "full", None):
        again = gated_climb(task.parent, [], gate=mode)
        assert comparable(again.decision.as_json()) == comparable(shipped.decision.as_json())
    assert len(calls(task)) == before


def test_what_cannot_be_told_is_held_and_chat_wants_to_be_told_so(
    held: Climbed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = held.decision.as_json()
    validate_decision(decision)
    assert (decision["gate"]["verdict"], decision["winner"]["held"], decision["meets_bar"]) == ("HOLD", True, True)
    assert decision["answer"].startswith("Yes, but not yet cleared to ship: SFT reaches ")
    assert any(reason.startswith("sft: the gate holds it: ") for reason in reason_lines(decision))
    assert load_system(held.run / "winner").name == "sft-adapter"
    for folder in (held.run, held.run / "winner"):
        monkeypatch.setattr(sys, "argv", ["lastresort", "chat", str(folder), "--once", "lamp"])
        assert guarded(app) == 2
        assert "the gate holds this winner" in capsys.readouterr().err
        monkeypatch.setattr(sys, "argv", [*sys.argv, "--allow-held"])
        assert guarded(app) == 0
        assert "the gate holds this winner" not in capsys.readouterr().err


def test_what_lost_too_much_never_wins(rejected: Climbed) -> None:
    decision = rejected.decision.as_json()
    validate_decision(decision)
    gate = decision["gate"]
    assert (decision["verdict"], decision["meets_bar"], gate["verdict"], gate["rung"]) == (
        "MET",
        False,
        "REJECT",
        "sft",
    )
    assert (decision["winner"]["kind"], decision["winner"]["held"]) == ("prompt", False)
    assert load_system(rejected.run / "winner").name == decision["rungs"][0]["chosen"]
    assert decision["answer"].startswith("No: the gate rejected SFT. Without tuning, prompting scored ")
    assert any(reason.startswith("sft: the gate rejects it: general lost ") for reason in reason_lines(decision))
    changed = gate["suites"][0]["changed"]
    assert len(changed) == 5
    assert all((one["base_score"], one["tuned_score"], one["tuned"]) == (1.0, 0.0, "unknown") for one in changed)
    assert "<details open><summary>What changed most, side by side</summary>" in rejected.report.read_text("utf-8")
    assert not any(
        "Break-even" in reason for reason in reason_lines(decision)
    )  # nobody is told to run it for its price


def test_after_a_rejection_the_climb_goes_up(tmp_path: Path, scripted: pytest.MonkeyPatch, rejected: Climbed) -> None:
    """What the gate said of sft is recorded before: it lost in a suite that no repair can be measured on."""
    taller = {**ONE_SUITE, "ladder": ["prompting", "sft", "preference"]}
    first = gated_climb(tmp_path, quality(SAFE), task=taller, until="sft", gate="none")
    assert first.decision.as_json()["gate"] is None
    assert "No gate was run: what else tuning changed was not measured." in reason_lines(first.decision.as_json())
    assert first.decision.as_json()["answer"].startswith("Yes, but no gate ran: SFT reaches ")
    assert how_to_use(first.decision, first.run)[0] == NOT_GATED
    assert how_to_use(first.decision, Path("a run"))[-1].startswith(
        "use it: lastresort chat 'a run', serve 'a run', or"
    )
    assert winner_status(first.run).notes == (NOT_GATED,)
    with Record.open(first.run) as record:
        gate = rejected.decision.as_json()["gate"]
        suites = [
            suite | {"suite": "lm_eval:mmlu"} if suite["verdict"] == "REGRESSED" else suite for suite in gate["suites"]
        ]
        record.append(
            GateRun(gate=ClimbGate.model_validate(gate | {"suites": suites, "failure_modes": ()}), repaired=False)
        )
    found = gated_climb(tmp_path, [], until="preference", gate="quick").decision.as_json()
    validate_decision(found)
    assert [rung["gate"] for rung in found["rungs"]] == [None, "REJECT", "SHIP"]
    assert (found["stopped_at"], found["gate"]["rung"], found["meets_bar"]) == ("preference", "preference", True)
    assert winner_status(first.run).notes == ()
    assert found["answer"].startswith("Yes: preference tuning reaches ")
    assert any(reason.startswith("sft: the gate rejects it: ") for reason in reason_lines(found))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("stage", ["gate: base: general", "gate: tuned: general"])
def test_a_climb_cut_in_the_middle_of_its_gate_decides_the_same_and_asks_nothing_twice(
    tmp_path: Path, rejected: Climbed, stage: str
) -> None:
    task = rejected.run.parent.parent / "task"
    with pytest.raises(Cut):
        gated_climb(tmp_path, quality(BROKEN), task=ONE_SUITE, progress=CutAt(stage, 2), gate="quick")
    assert len(calls(tmp_path / "task")) < len(calls(task))
    found = gated_climb(tmp_path, [])  # goes on with the gate that it began with
    assert comparable(found.decision.as_json()) == comparable(rejected.decision.as_json())
    assert len(calls(tmp_path / "task")) == len(calls(task))


def test_a_limit_that_is_reached_in_the_gate_stops_the_climb_and_more_goes_on(
    tmp_path: Path, scripted: pytest.MonkeyPatch
) -> None:
    class Late:
        """Progress, and a clock that is past the limit once the tuned model is asked."""

        hours = 0.0

        def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
            if label.startswith("gate: tuned:"):
                self.hours = 2.0

        def advance(self, amount: int = 1, note: str = "") -> None: ...

        def say(self, text: str) -> None: ...

    late, limited = Late(), {**ONE_SUITE, "limits": {"hours": 1}}
    with pytest.raises(BudgetError):
        gated_climb(tmp_path, quality(SAFE), task=limited, progress=late, clock=lambda: 3600 * late.hours, gate="quick")
    before = len(calls(tmp_path / "task"))
    path = tmp_path / "task" / "task.yaml"
    path.write_text(path.read_text().replace("hours: 1", "hours: 10"), encoding="utf-8")
    found = gated_climb(tmp_path, [], clock=lambda: 0.0)
    assert found.decision.as_json()["gate"]["verdict"] == "SHIP"
    assert len(calls(tmp_path / "task")) > before


def test_the_command_takes_the_gate(
    shipped: Climbed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = shipped.run.parent.parent / "task" / "task.yaml"
    words = ["climb", str(task), "--run", str(shipped.run), "--resume", "--json"]
    for extra, code in ((["--gate", "quick"], 0), (["--gate", "some"], 2)):
        monkeypatch.setattr(sys, "argv", ["lastresort", *words, *extra])
        assert guarded(app) == code
        out, error = capsys.readouterr()
        assert code or json.loads(out)["gate"]["verdict"] == "SHIP"
        assert not code or "quick" in error
