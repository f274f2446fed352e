"""`climb --resume RUN --more FILE`: a test that ended UNDECIDED goes on with fresh items."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from bar_table import task_for
from climb_gate_support import BROKEN, SAFE, by_scale, gated_climb, quality, script_rungs
from climb_support import calls, rows, scripted_task
from cost_support import two_models
from decision_support import validate_decision
from lastresort.app.climb import Climbed
from lastresort.app.runs import Run
from lastresort.app.start import ClimbRequest, start_climb
from lastresort.climb.fresh_items import _least_deciding
from lastresort.errors import DataError, InputError, TaskError
from lastresort.evals.evidence.bar import judge_bar
from lastresort.evals.evidence.martingale import binary_interval
from lastresort.evals.evidence.outlook import Errors, errors_after, judge_going_on
from lastresort.ladder import RUNGS
from lastresort.records.events.after_test import RepairTested
from lastresort.records.events.run import ErrorShared, ItemsAdded
from lastresort.records.events.search import RungTested
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.record import Record
from lastresort.report.markdown import markdown
from lastresort.types import GateMode, Judgement, SilentProgress
from train_support import lastresort

TASK = {"split": {"dev": 60, "test": 60}, "confidence": 0.99}
EVERYTHING = rows(700)
FRESH = EVERYTHING[260:]
KNOWN = [{**row, "input": f"{row['input']}, fresh"} for row in FRESH]  # that a scripted model can tell from the others


def write(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path


def undecided(tmp_path: Path, right: float = 0.9, **task: Any) -> Path:
    """The task file of a run in `run` that ended UNDECIDED; its model knows the fresh rows, too."""
    path = scripted_task(
        tmp_path / "task",
        quality=[{"right": right}],
        task={**TASK, **task},
        script={"answers_from": ["rows.jsonl", "known.jsonl"]},
    )
    write(tmp_path / "task" / "known.jsonl", FRESH)
    assert climbed(tmp_path, path).decision.verdict == "UNDECIDED"
    return path


def climbed(tmp_path: Path, task: Path, more: Path | None = None, resume: bool = False) -> Climbed:
    request = ClimbRequest(task, run=tmp_path / "run", resume=resume, more=more)
    return start_climb(request, SilentProgress())


def with_more(tmp_path: Path, found: list[dict[str, Any]], name: str = "more.jsonl") -> Climbed:
    return climbed(tmp_path, tmp_path / "task" / "task.yaml", write(tmp_path / name, found), resume=True)


def test_fresh_items_decide_what_was_undecided(tmp_path: Path) -> None:
    before = climbed_test(tmp_path, undecided(tmp_path))
    asked = len(calls(tmp_path / "task"))
    found = with_more(tmp_path, FRESH[:300])
    decision = found.decision.as_json()
    validate_decision(decision)
    test = decision["rungs"][0]["test"]
    assert (decision["verdict"], decision["stopped_at"], decision["provisional"]) == ("MET", "prompting", False)
    first, fresh = test["parts"]
    assert (first["n_used"], first["score"], first["alpha"]) == (60, before["score"], decision["alpha_per_rung"])
    assert fresh["n_available"] == 300
    assert fresh["alpha"] > first["alpha"], "it looked good"
    assert test["n_used"] == 60 + fresh["n_used"]
    assert test["n_available"] == 360
    assert test["score"] == pytest.approx((60 * first["score"] + fresh["n_used"] * fresh["score"]) / test["n_used"])
    assert test["decided"] == {"by": "continued", "error": decision["alpha_per_rung"], "limit": decision["bar"]}
    assert test["outlook"] is None
    items = Run(found.run).items()
    counted = [row["score"] for row in items if row["split"] in ("test", "fresh")]
    assert [row["split"] for row in items].count("test") == 60
    assert (len(counted), fmean(counted)) == (test["n_used"], pytest.approx(test["score"]))
    assert "rest of test" in {row["split"] for row in items}, "the end of the last batch"
    assert len(calls(tmp_path / "task")) - asked <= 300, "nothing that was asked is asked again"


def climbed_test(tmp_path: Path, task: Path) -> dict[str, Any]:
    return climbed(tmp_path, task, resume=True).decision.as_json()["rungs"][0]["test"]


def test_the_report_shows_the_items_before_and_after(tmp_path: Path) -> None:
    undecided(tmp_path)
    found = with_more(tmp_path, FRESH[:300])
    text = markdown(found.decision)
    assert "prompting: The test went on after it was UNDECIDED: " in text
    assert " of 60, tested at an error rate of " in text
    assert " fresh items, tested at an error rate of " in text
    assert "the test set and the fresh items together put the true score at 80.0% or more" in text
    assert "The test went on after it was UNDECIDED: " in found.report.read_text(encoding="utf-8")


def test_it_is_noted_with_the_hash_of_its_file_and_counted_as_used(tmp_path: Path) -> None:
    undecided(tmp_path)
    found = with_more(tmp_path, FRESH[:300])
    with Record.open(tmp_path / "run", read_only=True) as record:
        (added,) = record.all(ItemsAdded)
        tests = record.all(RungTested)
    assert (added.path, added.n) == ("../more.jsonl", 300)
    assert found.decision.provenance is not None
    assert found.decision.provenance.hashes["--more more.jsonl"] == added.sha256
    assert [test.judgement.outcome for test in tests] == ["UNDECIDED", "MET"]
    used = found.decision.rungs[0].test
    assert used is not None
    from lastresort.data.read import read_examples

    hashes = [item_hash(example) for example in read_examples(tmp_path / "more.jsonl")]
    with Ledger(tmp_path / ".lastresort" / "ledger.sqlite") as ledger:
        assert 0 <= sum(ledger.uses(hashes).values()) - used.parts[1].n_used < 32, "to the end of the batch"


@pytest.mark.slow
def test_it_goes_on_file_after_file(tmp_path: Path) -> None:
    """With few items each; as `judge_going_on` says of the same scores."""
    undecided(tmp_path, right=0.85)
    decision = with_more(tmp_path, FRESH[:40]).decision
    assert decision.verdict == "UNDECIDED"
    first = decision.rungs[0].test
    assert first is not None
    assert [part.n_available for part in first.parts] == [60, 40]
    assert first.outlook is not None
    assert first.outlook.after[0].n == 100
    second = with_more(tmp_path, FRESH[40:90], "again.jsonl").decision.rungs[0].test
    assert second is not None
    assert second.n_available == 150
    with Record.open(tmp_path / "run", read_only=True) as record:
        parts = [
            [item.score for item in one.items]
            for one in record.measurements()
            if one.split.startswith(("test", "fresh"))
        ]
    expected = judge_going_on(parts, bar=0.8, alpha=decision.alpha_per_rung, n_available=50)
    assert expected is not None
    assert second.parts == expected.parts
    assert second.verdict == expected.outcome


def test_the_same_file_again_changes_nothing(tmp_path: Path) -> None:
    undecided(tmp_path, right=0.85)
    first = with_more(tmp_path, FRESH[:40]).decision.as_json()
    asked = len(calls(tmp_path / "task"))
    (tmp_path / "more.jsonl").rename(tmp_path / "moved.jsonl")
    again = climbed(tmp_path, tmp_path / "task" / "task.yaml", tmp_path / "moved.jsonl", resume=True).decision.as_json()
    assert again["rungs"][0]["test"] == first["rungs"][0]["test"]
    assert len(calls(tmp_path / "task")) == asked


@pytest.mark.slow
def test_a_run_that_was_killed_on_the_way_goes_on_without_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = undecided(tmp_path)
    with monkeypatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("lastresort.climb.bar_test._until_decided", killed)
        with pytest.raises(KeyboardInterrupt):
            with_more(tmp_path, FRESH[:300])
    test = climbed(tmp_path, task, resume=True).decision.rungs[0].test
    assert test is not None
    assert (test.verdict, len(test.parts)) == ("MET", 2)


def test_without_the_file_the_run_does_not_go_on(tmp_path: Path) -> None:
    task = undecided(tmp_path, right=0.85)
    with_more(tmp_path, FRESH[:40])
    write(tmp_path / "more.jsonl", FRESH[:39])
    with pytest.raises(TaskError, match=r"more.jsonl: the fresh items of this run are changed.*Restore it"):
        climbed(tmp_path, task, resume=True)
    (tmp_path / "more.jsonl").unlink()
    with pytest.raises(TaskError, match=r"the fresh items of this run are gone"):
        climbed(tmp_path, task, resume=True)


def test_items_that_are_no_news_are_refused(tmp_path: Path) -> None:
    undecided(tmp_path)
    asked = len(calls(tmp_path / "task"))
    known, near = EVERYTHING[5], {**EVERYTHING[7], "input": EVERYTHING[7]["input"] + "."}
    for extra, message in (
        (known, r"more.jsonl, row 51: found the input of rows.jsonl, row 6 \(1 of 51 rows are known\)"),
        (near, r"row 51: found .*the input of rows.jsonl, row 8"),
        (FRESH[3], r"row 51: found the input of row 4 once more"),
        ({**FRESH[60], "group": "a"}, r"found a group"),
        ({**FRESH[60], "synthetic": {"kind": "harder"}}, r'row 51, key "synthetic": found a synthetic row'),
    ):
        with pytest.raises(DataError, match=message):
            with_more(tmp_path, [*FRESH[:50], extra] if "group" not in extra else [extra])
    with pytest.raises(DataError, match="found an empty file"):
        with_more(tmp_path, [])
    with pytest.raises(DataError, match=r"found the keys? .*question"):
        with_more(tmp_path, [{"question": "?", "team": "billing"}])
    with pytest.raises(DataError, match=r"more.jsonl"):
        with_more(tmp_path, [{**FRESH[0], "output": "nobody"}])
    with pytest.raises(
        TaskError, match=r"2 fresh items decide nothing, even if all are right or all are wrong.*at least \d+"
    ):
        with_more(tmp_path, FRESH[:2])
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert not record.all(ItemsAdded)
    assert len(calls(tmp_path / "task")) == asked


def test_only_an_undecided_test_goes_on(tmp_path: Path) -> None:
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.3}, {"right": 0.97, "min_shots": 5}])
    climbed(tmp_path, path)
    with pytest.raises(TaskError, match=r"no test of this run is UNDECIDED.*Leave --more out"):
        with_more(tmp_path, FRESH[:50])


@pytest.mark.slow
def test_without_a_name_the_newest_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, more = undecided(tmp_path), write(tmp_path / "more.jsonl", FRESH[:300])
    monkeypatch.chdir(tmp_path)
    start_climb(ClimbRequest(task), SilentProgress())
    found = start_climb(ClimbRequest(task, resume=True, more=more), SilentProgress())
    assert found.run == Path("runs/routing-1")
    assert found.decision.verdict == "MET"


def test_more_needs_a_run(tmp_path: Path) -> None:
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.9}])
    with pytest.raises(InputError, match=r"--more .* without --resume"):
        climbed(tmp_path, path, write(tmp_path / "more.jsonl", FRESH))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_groups_and_graded_scores_go_on_at_the_whole_error(tmp_path: Path) -> None:
    """Groups of two: the parts are pooled, and judged by the rule of the first."""
    grouped = [{**row, "group": f"g{number // 2}"} for number, row in enumerate(EVERYTHING)]
    path = scripted_task(
        tmp_path / "task",
        quality=[{"right": 0.84}],
        task={"split": {"dev": 40, "test": 140}, "confidence": 0.97},
        script={"answers_from": ["rows.jsonl", "known.jsonl"]},
    )
    write(tmp_path / "task" / "rows.jsonl", grouped[:260])
    write(tmp_path / "task" / "known.jsonl", grouped[260:])
    before = climbed(tmp_path, path).decision.rungs[0].test
    assert before is not None
    assert before.verdict == "UNDECIDED"
    decision = with_more(tmp_path, grouped[260:360]).decision
    test = decision.rungs[0].test
    assert test is not None
    assert test.unit == "group"
    assert [part.n_available for part in test.parts] == [before.n_available, 50]
    assert {part.alpha for part in test.parts} == {decision.alpha_per_rung}
    assert test.n_available == before.n_available + 50
    with pytest.raises(DataError, match='found the group "g0", of which the run has items'):
        with_more(tmp_path, [{**grouped[420], "group": "g0"}, {**grouped[421], "group": "new"}], "third.jsonl")


@pytest.mark.slow
def test_graded_scores_go_on_with_all_that_they_have_at_the_error_that_they_began_with(tmp_path: Path) -> None:
    """The same bets, from the first item of the test set to the last fresh one (Ville): no error is parted."""
    undecided(tmp_path, right=0.91, score="rouge_l")
    decision = with_more(tmp_path, FRESH[:10]).decision
    first = decision.rungs[0].test
    assert first is not None
    assert (first.verdict, [part.n_available for part in first.parts]) == ("UNDECIDED", [60, 10])
    assert first.outlook is not None
    second = with_more(tmp_path, FRESH[10:240], "again.jsonl").decision.rungs[0].test
    assert second is not None
    with Record.open(tmp_path / "run", read_only=True) as record:
        parts = [one.items for one in record.measurements() if one.split.startswith(("test", "fresh"))]
    pooled = [item.score for items in parts for item in items]
    whole = judge_bar(pooled, bar=0.8, alpha=decision.alpha_per_rung, binary=False, n_available=300)
    assert whole is not None
    assert whole.outcome != "UNDECIDED"
    assert (second.verdict, second.n_used, second.score) == (whole.outcome, whole.n_used, whole.score)
    assert sum(part.n_used for part in second.parts) == second.n_used < len(pooled), "up to the item that decided"
    assert sum(part.n_used * part.score for part in second.parts) == pytest.approx(second.n_used * second.score)
    assert {part.alpha for part in second.parts} == {decision.alpha_per_rung}
    assert second.n_available == 300
    assert second.decided == whole.decided


@pytest.mark.slow
def test_with_goal_cost_the_test_of_the_cheaper_calls_goes_on_at_the_error_of_the_met_or_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt meets the bar with fresh items, and only then is the other model tested, first on the test set."""
    monkeypatch.setitem(RUNGS, "sft", replace(RUNGS["sft"], path="cost_support:cheap"))
    task = tmp_path / "task"
    small = {"answers": {row["input"]: row["output"] for row in EVERYTHING}, "quality": [{"right": 0.88}]}
    path = two_models(task, quality=[{"right": 0.9}], small=small, **TASK)
    script = json.loads((task / "script.json").read_text("utf-8"))
    (task / "script.json").write_text(json.dumps({**script, "answers_from": ["rows.jsonl", "known.jsonl"]}), "utf-8")
    write(task / "known.jsonl", FRESH)
    request = ClimbRequest(path, run=tmp_path / "run", gate="none")
    first = start_climb(request, SilentProgress()).decision
    assert [rung.name for rung in first.rungs] == ["prompting"]
    more = write(tmp_path / "more.jsonl", FRESH[:400])
    decision = start_climb(replace(request, resume=True, more=more), SilentProgress()).decision
    assert [(rung.name, rung.test and rung.test.verdict) for rung in decision.rungs] == [
        ("prompting", "MET"),
        ("sft", "MET"),
    ]
    test, shares = decision.rungs[1].test, decision.shares
    assert test is not None
    assert shares is not None
    assert [part.n_available for part in test.parts] == [60, 400]
    assert test.parts[0].alpha == max(shares["prompting"], shares["sft"])
    seen = round(test.parts[0].score * 60)
    after = errors_after(seen, 60, 0.8, Errors(test.parts[0].alpha, 0.05))
    assert (test.parts[1].alpha, test.parts[1].beta) == pytest.approx((after.alpha, after.beta))


def test_judge_going_on_continues_the_test() -> None:
    first, bar, alpha = [1.0] * 88 + [0.0] * 12, 0.8, 0.0125
    after = errors_after(88, 100, bar, Errors(alpha, 0.05))
    fresh = [1.0] * 46 + [0.0] * 4
    alone = judge_bar(fresh, bar=bar, alpha=after.alpha, beta=after.beta, binary=True)
    found = judge_going_on([first, fresh], bar=bar, alpha=alpha, n_available=50)
    assert found is not None
    assert alone is not None
    assert found.outcome == alone.outcome
    assert found.n_used == 100 + alone.n_used
    assert found.interval == binary_interval(88 + int(sum(fresh[: alone.n_used])), found.n_used, alpha)
    assert judge_going_on([first, fresh[:5]], bar=bar, alpha=alpha, n_available=50) is None


def test_the_command_line_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = undecided(tmp_path)
    more = write(tmp_path / "more.jsonl", FRESH[:300])
    code = lastresort(monkeypatch, "climb", str(task), "--resume", str(tmp_path / "run"), "--more", str(more), "--json")
    assert code == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "MET"


def two_rungs(
    tmp_path: Path, levels: list[dict[str, Any]], more: Path | None = None, gate: GateMode = "quick", **keys: Any
) -> Climbed:
    """A climb of a scripted prompt and a scripted adapter, gated; again with `more` where it is given. keys: of the task."""
    task = {"split": {"dev": 60, "test": 60}, "confidence": 0.99, **keys}
    (tmp_path / "task").mkdir(exist_ok=True)
    write(tmp_path / "task" / "known.jsonl", [*FRESH, *KNOWN])
    known = {"answers_from": ["rows.jsonl", "known.jsonl"]}
    return gated_climb(tmp_path, levels, task=task, script=known, gate=gate, more=more)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("gate", ["quick", "none"])
def test_a_gate_that_lacked_the_verdict_is_judged_again_and_asks_nothing(
    gate: GateMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it was compared with, too: the prompt as it was on the test set."""
    script_rungs(monkeypatch, "sft")
    first = two_rungs(tmp_path, quality(SAFE, right=0.88)).decision
    assert first.verdict == "UNDECIDED"
    assert first.gate is not None
    assert (first.gate.verdict, first.gate.target.outcome) == ("HOLD", "UNDECIDED")
    monkeypatch.setattr("lastresort.gate.in_climb.gate_sides", None)
    monkeypatch.setattr("lastresort.gate.in_climb.judge_target", None)
    more = write(tmp_path / "more.jsonl", FRESH[:400])
    found = two_rungs(tmp_path, quality(SAFE, right=0.88), more, gate=gate).decision
    assert found.verdict == "MET"
    assert found.gate is not None
    assert (found.gate.verdict, found.gate.target.outcome) == ("SHIP", "MET")
    assert found.gate.suites == first.gate.suites
    kept = ("comparator", "comparator_score", "n_compared", "gain", "interval", "p_better", "by", "margin")
    assert [getattr(found.gate.target, key) for key in kept] == [getattr(first.gate.target, key) for key in kept]
    assert found.gate.target.n == found.rungs[-1].test.n_used  # type: ignore[union-attr]
    assert found.gate.reasons != first.gate.reasons
    assert found.winner is not None
    assert found.winner.held is False


@pytest.mark.slow
def test_a_gate_is_judged_again_where_a_larger_error_decides_the_test_set_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `goal: cost`, where a rung below meets the bar with fresh items and hands its error on."""
    script_rungs(monkeypatch, "sft")
    levels = [{"right": 0.68}, *quality(SAFE, right=0.88)[1:]]
    first = two_rungs(tmp_path, levels).decision
    assert [rung.test and rung.test.verdict for rung in first.rungs] == ["UNDECIDED", "UNDECIDED"]
    monkeypatch.setattr(ErrorShared, "alpha_of_rung", lambda *_: 0.4)
    found = two_rungs(tmp_path, levels, write(tmp_path / "more.jsonl", FRESH[:30])).decision
    test = found.rungs[1].test
    assert test is not None
    assert found.gate is not None
    assert (test.verdict, test.n_available, found.gate.target.outcome) == ("MET", 60, "MET")


@pytest.mark.slow
def test_what_meets_the_bar_with_fresh_items_and_is_rejected_is_repaired_at_its_error_and_tested_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After UNDECIDED nothing is repaired: no training for a test that may be too small for the share of a repair alone."""
    script_rungs(monkeypatch, "sft")
    levels = by_scale((1, 0.88, BROKEN), (0.75, 0.97, SAFE), (0.5, 0.97, SAFE), (0.25, 0.97, SAFE))
    keep = {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}
    first = two_rungs(tmp_path, levels, keep=keep).decision
    assert [(rung.test and rung.test.verdict, rung.gate) for rung in first.rungs][1] == ("UNDECIDED", "REJECT")
    assert first.repairs == ()
    decision = two_rungs(tmp_path, levels, write(tmp_path / "more.jsonl", FRESH[:400]), keep=keep).decision
    assert decision.first_gate is not None
    assert (decision.first_gate.verdict, decision.first_gate.target.outcome) == ("REJECT", "MET")
    run = tmp_path / "runs" / "routing-1"
    with Record.open(run, read_only=True) as record:
        (tested,) = record.all(RepairTested)
        repaired = record.measurement("sft", tested.system, "test")
    assert repaired is not None
    shares = decision.shares
    assert shares is not None
    alpha = shares["sft"] + shares["sft repair"]
    scores = [item.score for item in repaired.items]
    assert tested.judgement.parts == (), "on the test set alone"
    expected = judge_bar(scores, bar=0.8, alpha=alpha, binary=True, n_available=60)
    assert expected is not None
    assert (tested.judgement.outcome, tested.judgement.interval) == (expected.outcome, expected.interval)
    with monkeypatch.context() as patch:  # whatever error a later session would give it
        patch.setattr(ErrorShared, "alpha_of_repair", lambda *_: 1e-9)
        again = two_rungs(tmp_path, levels, keep=keep).decision
    assert (again.repairs, again.rungs, again.gate) == (decision.repairs, decision.rungs, decision.gate)
    with Record.open(run, read_only=True) as record:
        assert record.all(RepairTested) == [tested]


def test_a_rung_below_that_meets_the_bar_after_all_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompting scored below the bar, undecided, and tuning won; with more items prompting is enough."""
    script_rungs(monkeypatch, "sft")
    levels = [{"right": 0.68}, {"right": 1.0, "contains": "fresh"}, *quality(SAFE, right=0.97)[1:]]
    first = two_rungs(tmp_path, levels).decision
    assert [rung.test and rung.test.verdict for rung in first.rungs] == ["UNDECIDED", "MET"]
    assert first.winner is not None
    assert first.winner.kind == "adapter"
    found = two_rungs(tmp_path, levels, write(tmp_path / "more.jsonl", KNOWN))
    validate_decision(found.decision.as_json())
    assert (found.decision.verdict, found.decision.stopped_at) == ("MET", "prompting")
    assert found.decision.winner is not None
    assert found.decision.winner.kind == "prompt"
    assert found.decision.gate is None
    page = found.report.read_text(encoding="utf-8")
    assert "Tested before fresh items showed that a rung below it meets the bar" in page


RISING = [{"right": 0.68}, {"right": 0.97, "contains": "fresh"}]  # from below the bar to above it, and never decided


@pytest.mark.slow
def test_a_rung_below_that_leads_after_all_takes_no_met_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_rungs(monkeypatch, "sft")
    levels = [*RISING, *quality(SAFE, right=0.97)[1:]]
    assert two_rungs(tmp_path, levels).decision.verdict == "MET"
    went_on = two_rungs(tmp_path, levels, write(tmp_path / "more.jsonl", KNOWN[:30]))
    decision = went_on.decision
    validate_decision(decision.as_json())
    page = went_on.report.read_text(encoding="utf-8")
    assert "Provisional: a test is UNDECIDED. It takes nothing from the rung that meets the bar." in page
    assert "and stops otherwise" not in page
    below, above = (rung.test for rung in decision.rungs)
    assert below is not None
    assert above is not None
    assert (below.verdict, below.n_available, above.verdict) == ("UNDECIDED", 90, "MET")
    assert below.score >= decision.bar
    assert (decision.verdict, decision.stopped_at) == ("MET", "sft")
    assert decision.winner is not None
    assert (decision.winner.kind, decision.winner.held) == ("adapter", False)


@pytest.mark.slow
def test_a_rung_below_that_leads_after_all_ends_the_climb_where_the_gate_rejected_what_met_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_rungs(monkeypatch, "sft")
    levels = [*RISING, *quality(BROKEN, right=0.97)[1:]]
    first = two_rungs(tmp_path, levels).decision
    assert [(rung.test and rung.test.verdict, rung.gate) for rung in first.rungs] == [
        ("UNDECIDED", None),
        ("MET", "REJECT"),
    ]
    decision = two_rungs(tmp_path, levels, write(tmp_path / "more.jsonl", KNOWN[:30])).decision
    assert ([rung.name for rung in decision.rungs], decision.verdict) == (["prompting"], "UNDECIDED")
    assert (decision.stopped_at, decision.winner and decision.winner.kind) == ("prompting", "prompt")


@pytest.mark.slow
def test_a_rung_below_that_leads_after_all_ends_the_climb_where_none_above_meets_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_rungs(monkeypatch, "sft")
    levels = [*RISING, *quality(SAFE, right=0.72)[1:]]
    first = two_rungs(tmp_path, levels).decision
    assert [rung.test and rung.test.verdict for rung in first.rungs] == ["UNDECIDED", "UNDECIDED"]
    found = two_rungs(tmp_path, levels, write(tmp_path / "more.jsonl", KNOWN[:30]))
    assert (found.decision.verdict, found.decision.stopped_at) == ("UNDECIDED", "prompting")
    page = found.report.read_text(encoding="utf-8")
    assert "Tested before fresh items raised the score of a rung below it to the bar or above" in page
    assert "showed that a rung below it meets the bar" not in page


def test_how_few_fresh_items_decide_nothing_depends_on_what_met_the_bar_since(tmp_path: Path) -> None:
    """A run that stopped after a prompt met the bar with fresh items, and before the tuned model went on at its error. The bar is
    low: above one half, items that are all wrong are the first to decide, at an error that stays the same.
    """
    task = task_for(2, 0.3, 0.95)
    open_, met = (Judgement(outcome, 0.4, 60, 60, (0.2, 0.6)) for outcome in ("UNDECIDED", "MET"))
    sft = RungTested(rung="sft", system="a", judgement=open_)
    with Record.create(tmp_path / "run") as record:
        record.append(ErrorShared(r=2, shares={"prompting": 0.045, "sft": 0.005}))
        record.append(RungTested(rung="prompting", system="b", judgement=open_))
        before = _least_deciding(sft, record, task)
        record.append(RungTested(rung="prompting", system="b", judgement=met))
        assert _least_deciding(sft, record, task) < before
