"""Shares of the error of a false MET: they add up, what is ruled out has none, a run keeps what it began with."""

from __future__ import annotations

import re
from functools import partial
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lastresort.climb.shares as shares_module
from bar_table import scored_item
from climb_gate_support import script_rungs
from climb_support import scripted_task
from lastresort.after.recheck.finished import open_finished
from lastresort.app.climb import climb
from lastresort.app.start import ClimbRequest, start_climb
from lastresort.climb.prepare import check_sizes, prepare
from lastresort.climb.shares import (
    FIRST,
    REPAIRS,
    UNITS,
    error_shares,
    note_shares,
    ruled_out,
    share_of_tuned,
    shares_of,
)
from lastresort.errors import TaskError
from lastresort.evals.evidence.bar import judge_bar, outcome_of, smallest_deciding_test, usable_share
from lastresort.gate.target import HeldOutTarget
from lastresort.ladder import RUNGS, trains
from lastresort.records import rungs as reasons
from lastresort.records.events.run import ErrorShared
from lastresort.records.events.search import RungTested
from lastresort.records.record import Record
from lastresort.rungs.race import judge_scores_on_dev
from lastresort.rungs.rung import Workbench
from lastresort.rungs.tuning import weigh
from lastresort.spec.task import load_task
from lastresort.types import Judgement, SilentProgress

LADDERS = [list(found) for size in range(1, len(RUNGS) + 1) for found in combinations(RUNGS, size)]


def in_units(shares: dict[str, float]) -> dict[str, int]:
    found = {test: round(share * UNITS) for test, share in shares.items()}
    assert {test: units / UNITS for test, units in found.items()} == shares, "whole units"
    return found


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99, 0.937, 0.9999])
def test_shares_add_up_exactly_whatever_the_ladder_and_the_test_set(confidence: float) -> None:
    for ladder in LADDERS:
        for usable in (float, *(partial(usable_share, n=n, bar=bar) for n in (40, 200, 1000) for bar in (0.5, 0.85))):
            found = error_shares(ladder, 1 - confidence, usable)
            assert sum(in_units(found).values()) == round((1 - confidence) * UNITS)
            assert list(found) == [*ladder, *(f"{rung} repair" for rung in ladder if trains(rung))]
            assert min(found.values()) > 0


def test_the_first_rung_has_half_repairs_a_little_and_the_others_the_same() -> None:
    found = error_shares(["prompting", "retrieval", "sft", "full"], 0.05)
    assert found["prompting"] == FIRST * 0.05
    assert len({found[rung] for rung in ("retrieval", "sft", "full")}) == 2  # by one unit
    assert found["retrieval"] == pytest.approx(0.05 * (1 - FIRST - REPAIRS) / 3)
    assert found["sft repair"] == found["full repair"] == pytest.approx(0.05 * REPAIRS / 2)
    assert error_shares(["prompting"], 0.05) == {"prompting": 0.05}
    assert error_shares(["full"], 0.05) == {"full": 0.048, "full repair": 0.002}
    assert error_shares([], 0.05) == {}


@pytest.mark.parametrize("n", [30, 100, 200, 500])
@pytest.mark.parametrize("bar", [0.5, 0.8, 0.95])
def test_what_a_test_cannot_use_can_be_taken_from_it(bar: float, n: int) -> None:
    """The verdict at the last item is the same for every number of right answers, and a little less would change one."""
    for share in (0.05, 0.025, 0.0046):
        found = usable_share(share, n, bar)
        assert found <= share
        if bar**n > 0.8 * share:
            assert found == share
            continue
        at = [_exact(right, n, bar, alpha) for alpha in (share, found, 0.999 * found) for right in range(n + 1)]
        own, less, too_little = at[: n + 1], at[n + 1 : 2 * n + 2], at[2 * n + 2 :]
        assert own == less
        assert sum(too_little) == sum(own) - 1


def _exact(right: int, n: int, bar: float, alpha: float) -> bool:
    """Whether the exact test at the last item says MET, seen in an order in which no evidence builds up before it."""
    from scipy.stats import binom

    return bool(binom.sf(right - 1, n, bar) <= 0.8 * alpha * (1 + 1e-12))


def test_a_test_says_the_same_with_what_it_can_use() -> None:
    generator = np.random.default_rng(4)
    share = usable_share(0.025, 200, 0.85)
    assert share < 0.02
    for _ in range(60):
        scores = (generator.random(200) < 0.9).astype(float).tolist()
        said = [judge_bar(scores, bar=0.85, alpha=alpha, binary=True) for alpha in (0.025, share)]
        assert {one.outcome for one in said if one is not None} in ({"MET"}, {"UNDECIDED"})


@pytest.mark.parametrize("binary", [True, False])
def test_what_says_met_on_one_test_set_says_so_at_every_larger_error(binary: bool) -> None:
    """On which it rests that a repair may be tested at a sum of errors, whatever led to it."""
    generator = np.random.default_rng(8)
    for _ in range(150):
        right = generator.random((4, 80)) < generator.uniform(0.6, 1.0)
        scores = right[0].astype(float) if binary else right.mean(axis=0)
        said = [outcome_of(scores, 0.75, alpha, 0.05, binary=binary) for alpha in (0.001, 0.004, 0.02, 0.05, 0.3)]
        met = [one == "MET" for one in said]
        assert met == sorted(met)


def test_what_is_left_over_goes_up_the_ladder() -> None:
    offered = []

    def half(share: float) -> float:
        offered.append(share)
        return share / 2

    found = error_shares(["prompting", "retrieval"], 0.04, half)
    assert offered == [0.02, 0.03]
    assert found == {"prompting": 0.01, "retrieval": 0.03}  # where nothing is repaired, the last one has it
    assert error_shares(["prompting", "sft"], 0.04, half)["sft repair"] == pytest.approx(0.0016 + 0.0142)


SKIPS: dict[str, Any] = {
    "no weights": reasons.WeightsNotLocal("openai:m"),
    "another method": reasons.MethodExcluded("adapters", "full"),
    "stale": reasons.KnowledgeOutpacesTraining("weekly", "monthly"),
    "too few rows": reasons.TooFewRows(3, 50, 500),
    "no knowledge": reasons.NoKnowledge(),
    "not in the prompt": reasons.KnowledgeNotInPrompt(),
    "too few prompts": reasons.TooFewPrompts(3, 50, to_pair=True),
    "a judge alone": reasons.JudgeAlone(),
}


@pytest.mark.parametrize("reason", SKIPS.values(), ids=SKIPS)
def test_a_rung_that_the_task_rules_out_has_no_share(
    reason: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task(scripted_task(tmp_path, quality=[], task={"ladder": ["prompting", "retrieval"]}))
    skipped = SimpleNamespace(skip_reason=lambda task, train: reason)
    kept = SimpleNamespace(skip_reason=lambda task, train: None)
    monkeypatch.setattr(shares_module, "find_rung", lambda name: skipped if name == "retrieval" else kept)
    assert shares_of(task, (), 100) == {"prompting": 0.05}


@pytest.mark.parametrize(
    "reason", [reasons.TooLarge(10**9, 16 * 10**9, 8 * 10**9), reasons.SmallestPassTooLarge(9, 8, 7, on_card=True)]
)
def test_memory_rules_nothing_out_since_a_run_may_be_resumed_on_a_larger_machine(
    reason: reasons.LacksMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task(scripted_task(tmp_path, quality=[], task={"ladder": ["prompting", "full"]}))
    too_large = SimpleNamespace(skip_reason=lambda task, train: reason)
    monkeypatch.setattr(shares_module, "find_rung", lambda name: too_large)
    assert not ruled_out("full", task, ())
    assert list(shares_of(task, (), None)) == ["prompting", "full", "full repair"]


WAYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no knowledge, weights elsewhere": ({"model": "openai:m"}, ["prompting"]),
    "knowledge": ({"model": "openai:m", "knowledge": "docs"}, ["prompting", "retrieval"]),
    "knowledge that may not travel": (
        {"model": "openai:m", "knowledge": "docs", "use": {"context": "forbidden"}},
        ["prompting"],
    ),
    "all weights": (
        {"tune": {"model": "org/model-1b", "method": "full"}},
        ["prompting", "full", "full repair"],
    ),
    "adapters": (
        {"tune": {"model": "org/model-1b", "method": "lora"}},
        ["prompting", "sft", "preference", "sft repair", "preference repair"],
    ),
    "knowledge that changes": (
        {
            "tune": {"model": "org/model-1b", "method": "auto"},
            "knowledge": "docs",
            "knowledge_changes": "weekly",
            "retrain_every": "monthly",
        },
        ["prompting", "retrieval", "preference", "preference repair"],
    ),
}


@pytest.mark.parametrize(("keys", "tests"), WAYS.values(), ids=WAYS)
def test_which_tests_a_task_file_leaves(keys: dict[str, Any], tests: list[str], tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("The ape is red.", encoding="utf-8")
    path = scripted_task(tmp_path, quality=[], task={"ladder": list(RUNGS), "split": {"dev": 60, "test": 100}, **keys})
    assert list(prepare(load_task(path)).shares) == tests


@pytest.mark.parametrize(("keys", "tests"), WAYS.values(), ids=WAYS)
def test_a_gate_alone_tests_at_the_share_that_a_climb_leaves_to_a_tuned_system(
    keys: dict[str, Any], tests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at an equal part that rungs which the task rules out have, too."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("The ape is red.", encoding="utf-8")
    path = scripted_task(tmp_path, quality=[], task={"ladder": list(RUNGS), "split": {"dev": 60, "test": 100}, **keys})
    prepared, errors = prepare(load_task(path)), list[float]()
    target = HeldOutTarget(prepared, prepared.split.test, prepared.scorer, None, None)  # type: ignore[arg-type]
    monkeypatch.setattr("lastresort.gate.target.judge_so_far", lambda *args: errors.append(args[0].alpha))
    with pytest.raises(AssertionError):
        target.judge(0.05)
    trained = [test for test in tests if trains(test)]
    assert errors == [min(prepared.shares[test] for test in trained or tests)]
    assert errors[0] > 0.05 * 0.04


def test_a_gate_alone_of_a_task_without_a_rung_has_all_of_the_error(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=[]))
    assert share_of_tuned({}, task) == pytest.approx(0.05)


def test_a_run_keeps_the_shares_that_it_began_with(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        note_shares(record, {"prompting": 0.03, "sft": 0.02})
        note_shares(record, {"prompting": 0.05})
        known = record.last(ErrorShared)
        assert known is not None
        assert (known.r, known.shares) == (2, {"prompting": 0.03, "sft": 0.02})
        with pytest.raises(TaskError, match=r"full was ruled out when this run began.*Start a new run"):
            known.share_of("full", 0.05)


def test_a_run_that_began_with_equal_shares_goes_on_with_them(tmp_path: Path) -> None:
    old = ErrorShared.model_validate_json('{"r": 5}')
    assert (old.share_of("prompting", 0.05), old.share_of("sft repair", 0.05)) == (0.01, 0.01)
    path = scripted_task(tmp_path / "task", quality=[{"right": 1.0}])
    run = tmp_path / "run"
    run.mkdir()
    with Record.create(run) as record:
        record.append(old)
    decision = climb(load_task(path), run).decision.as_json()
    assert (decision["r"], decision["alpha_per_rung"], decision["shares"]) == (5, 0.01, None)
    assert decision["rungs"][0]["test"]["decided"]["error"] == pytest.approx(0.2 * 0.01)


@pytest.mark.parametrize("ladder", [["prompting", "sft", "preference", "full"], ["prompting", "sft"]], ids=len)
def test_a_refusal_of_few_test_items_names_the_bar_and_the_rungs_that_they_are_enough_for(
    tmp_path: Path, ladder: list[str]
) -> None:
    def refused(bar: float, rungs: list[str], test: int) -> str:
        keys = {"split": {"dev": 60, "test": test}, "bar": bar, "ladder": rungs, "model": "embedded"}
        path = scripted_task(tmp_path / f"{bar} {len(rungs)} {test}", quality=[{"right": 1.0}], task=keys)
        try:
            check_sizes(load_task(path))
        except TaskError as error:
            return str(error)
        return ""

    said = refused(0.97, ladder, 20)
    found = re.search(r"or a bar of at most (\S+), which 20 items can show; or (\d+) with `ladder: \[(.*?)\]`\.", said)
    assert found is not None, said
    bar, fewer = float(found[1]), found[3].split(", ")
    assert refused(bar, ladder, 20) == "" != refused(round(bar + 0.01, 2), ladder, 20)
    assert refused(0.97, fewer, int(found[2])) == ""
    assert len(fewer) < len(ladder)


def test_a_run_that_began_with_other_shares_is_not_held_to_those_of_today(tmp_path: Path) -> None:
    """As where an earlier version let it begin: its test set may be too small for a share that is smaller now."""
    run, split = tmp_path / "run", {"dev": 60, "test": 12}
    path = scripted_task(tmp_path / "task", quality=[{"right": 1.0}], task={"split": split})
    with pytest.raises(TaskError, match="a test set of 12 items, on which even a perfect score cannot show"):
        start_climb(ClimbRequest(path, run=run), SilentProgress())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.climb.shares.check_test_size", lambda *_, **__: None)
        began = start_climb(ClimbRequest(path, run=run, until="prompting"), SilentProgress()).decision
    for went_on in (
        start_climb(ClimbRequest(path, run=run, resume=True), SilentProgress()).decision,
        climb(load_task(path), run).decision,
    ):
        assert went_on.rungs == began.rungs
    with Record.open(run, read_only=True) as record:
        assert len(open_finished(run, record).order) == 12


def test_a_rung_that_was_ruled_out_when_the_run_began_is_refused_before_it_costs_anything(tmp_path: Path) -> None:
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.1}])
    run = climb(load_task(path), tmp_path / "run", until="prompting").run
    asked = len((tmp_path / "task" / "calls.jsonl").read_text("utf-8").splitlines())
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft")
        with pytest.raises(TaskError, match="sft was ruled out when this run began"):
            climb(load_task(path), run, until="sft", gate="none")
    assert len((tmp_path / "task" / "calls.jsonl").read_text("utf-8").splitlines()) == asked


SHARES = {"prompting": 0.02, "retrieval": 0.01, "sft": 0.008, "full": 0.008, "sft repair": 0.002, "full repair": 0.002}


def test_a_met_hands_its_error_on_to_the_test_that_is_made_because_of_it() -> None:
    shared = ErrorShared(r=6, shares=SHARES)
    rung, repair = partial(shared.alpha_of_rung, error=0.05), partial(shared.alpha_of_repair, error=0.05)
    assert rung("prompting", ()) == 0.02
    assert rung("sft", ("prompting",)) == 0.02  # gone on to for its cheaper calls
    assert rung("sft", ("retrieval",)) == 0.01
    assert rung("sft", ("retrieval", "prompting")) == 0.02
    assert rung("sft", ("sft",)) == rung("sft", ()) == 0.008
    assert rung("full", ("prompting", "sft")) == 0.008  # above what the gate rejected
    assert repair("sft", ("sft",)) == pytest.approx(0.010)
    assert repair("sft", ("prompting", "sft")) == pytest.approx(0.022)
    assert repair("full", ("prompting", "sft")) == 0.002
    assert repair("sft", ("prompting",)) == 0.002  # tested after an UNDECIDED, which has handed nothing on


def test_checkpoints_and_dev_are_judged_at_the_error_of_the_test_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = list[float]()

    def chance_of_met(*_: object, alpha: float, **__: object) -> float:
        errors.append(alpha)
        raise InterruptedError

    def judge_bar(*_: object, alpha: float, **__: object) -> None:
        errors.append(alpha)

    monkeypatch.setattr("lastresort.rungs.rung.chance_of_met", chance_of_met)
    monkeypatch.setattr("lastresort.rungs.race.judge_bar", judge_bar)
    task = load_task(scripted_task(tmp_path / "task", quality=[]))
    met = Judgement("MET", 0.9, 10, 10, (0.0, 1.0))
    with Record.create(tmp_path) as record:
        scorer: Any = SimpleNamespace(binary=True)
        bench = Workbench(task, (), (), scorer, record, tmp_path, None, SilentProgress(), 8, str)  # type: ignore[arg-type]
        note_shares(record, SHARES)
        record.append(RungTested(rung="prompting", system="a", judgement=met))
        with pytest.raises(InterruptedError):
            weigh(bench, "sft", {"one": [scored_item(1.0)]}, {"one": 0.0}, "one")
        judge_scores_on_dev(bench, "sft", [1.0])
    assert errors == [SHARES["prompting"]] * 2


@pytest.mark.parametrize("n", [20, 40, 100])
@pytest.mark.parametrize("bar", [0.6, 0.8])
def test_a_repair_can_be_tested_wherever_its_rung_can(bar: float, n: int) -> None:
    """Its own part alone may be too small for the test set; it is made after a MET alone (`repairs_after`), whose error it has."""
    for ladder in LADDERS:
        found = error_shares(ladder, 0.05, partial(usable_share, n=n, bar=bar))
        shared = ErrorShared(r=len(found), shares=found)
        for rung in filter(trains, ladder):
            own, repaired = shared.alpha_of_rung(rung, (rung,), 0.05), shared.alpha_of_repair(rung, (rung,), 0.05)
            assert smallest_deciding_test(bar, repaired) <= smallest_deciding_test(bar, own)


def test_equal_shares_are_not_handed_on() -> None:
    shared = ErrorShared(r=5)
    assert shared.alpha_of_rung("sft", ("prompting",), 0.05) == 0.01
    assert shared.alpha_of_repair("sft", ("sft",), 0.05) == 0.01


def test_a_rung_is_planned_and_tested_at_the_error_that_the_tests_before_it_leave(tmp_path: Path) -> None:
    met, missed = (Judgement(said, 0.9, 10, 10, (0.0, 1.0)) for said in ("MET", "NOT_MET"))
    with Record.create(tmp_path) as record:
        task = SimpleNamespace(confidence=0.95, ladder=tuple(RUNGS))
        bench = Workbench(task, (), (), None, record, tmp_path, None, SilentProgress(), 8, str)  # type: ignore[arg-type]
        note_shares(record, SHARES)
        record.append(RungTested(rung="prompting", system="a", judgement=missed))
        assert bench.alpha_of_rung("sft") == 0.008
        record.append(RungTested(rung="retrieval", system="b", judgement=met))
        assert (bench.alpha_of_rung("sft"), bench.alpha_of_repair("sft")) == (0.01, 0.002)
        record.append(RungTested(rung="sft", system="c", judgement=met))
        assert bench.alpha_of_repair("sft") == pytest.approx(0.012)
