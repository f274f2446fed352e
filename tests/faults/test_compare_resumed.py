"""Ways of training compared on the tiny model: what is reported is what was measured; cut and resumed it ends the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from climb_support import reason_lines
from compare_support import ALL, Stops, compared, decision_of, same
from decision_support import validate_decision
from lastresort.after.compare.ways import ComparisonRequest
from lastresort.app.climb import Climbed
from lastresort.errors import BudgetError
from lastresort.evals.evidence.noninferiority import over_seeds
from lastresort.evals.measure import LocalExecutor, MeasureJob, Result
from lastresort.records.events.training import TrainingReached
from lastresort.records.ledger import Ledger
from lastresort.records.record import Record
from lastresort.rungs import rung
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer
from lastresort.systems.files import load_system
from lastresort.types import Message
from tuning_support import Cut, Scissors, tiny_task, tuned_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Climbed]:
    """A climb that ended at sft, without a comparison."""
    folder = tmp_path_factory.mktemp("tiny")
    path = tiny_task(folder, ladder=["sft"], bar=0.1, full={"learning_rates": [0.0003, 0.001], "epochs": 2})
    return path, compared(path, folder / "runs" / "tiny-1")


@pytest.fixture(scope="module")
def labels() -> list[str]:
    """Of the jobs that the executor of `whole` was given."""
    return []


@pytest.fixture(scope="module")
def whole(finished: tuple[Path, Climbed], labels: list[str]) -> tuple[Climbed, int]:
    path, first = finished
    run, scissors = shutil.copytree(first.run, first.run.parent / "tiny-2"), Scissors()

    class Noting(LocalExecutor):
        def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
            labels.extend(job.label for job in jobs)
            LocalExecutor.run(self, jobs, on_result, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rung, "LocalExecutor", Noting)
        return compared(path, run, ALL, scissors), scissors.seen


def test_each_way_and_seed_is_measured_as_one_job(whole: tuple[Climbed, int], labels: list[str]) -> None:
    assert labels == [f"compare: {way}-seed{seed} on the test set" for way in ALL.names for seed in (1, 2)]


def test_a_comparison_added_to_a_finished_run_leaves_its_verdict(
    finished: tuple[Path, Climbed], whole: tuple[Climbed, int]
) -> None:
    before, after = finished[1].decision.as_json(), whole[0].decision.as_json()
    validate_decision(after)
    assert [entry["way"] for entry in after["compare"]] == list(ALL.names)
    assert same(before) == same(after) | {"compare": []}
    assert tuned_files(finished[1].run) == tuned_files(whole[0].run)


def tested(record: Record, system: str) -> list[float]:
    found = record.measurement("compare", system, "test")
    assert found is not None
    return [item.score for item in found.items]


def test_what_is_reported_is_what_was_measured(whole: tuple[Climbed, int]) -> None:
    reference, *others = whole[0].decision.as_json()["compare"]
    with Record.open(whole[0].run, read_only=True) as record:
        scores = {
            entry["way"]: [tested(record, f"{entry['way']}-seed{seed}") for seed in (1, 2)]
            for entry in (reference, *others)
        }
    assert (reference["difference"], reference["interval"], reference["verdict"]) == (None, None, None)
    assert reference["score"] == pytest.approx(sum(score for seed in scores["lora"] for score in seed) / 60)
    for entry in others:
        found = over_seeds(scores["lora"], scores[entry["way"]], margin=0.03, alpha=0.05)
        assert (entry["difference"], entry["verdict"]) == (found.difference, found.verdict)
        assert entry["interval"] == list(found.interval)
        assert [part["difference"] for part in entry["seeds"]] == list(found.by_seed)
        assert entry["difference"] == pytest.approx(entry["score"] - reference["score"])


def test_trained_with_the_winners_settings_and_seeds_of_its_own(whole: tuple[Climbed, int]) -> None:
    by_way = {entry["way"]: entry for entry in whole[0].decision.as_json()["compare"]}
    with Record.open(whole[0].run, read_only=True) as record:
        notes = {one.candidate: one for one in record.all(TrainingReached)}
    winner = notes["lr0.003"]
    for way, kind, quantize in (("lora", "lora", None), ("qlora", "lora", "nf4"), ("full", "none", None)):
        rate = by_way[way]["learning_rate"]
        trained = notes[f"compare-{way}-seed2-lr{rate:g}"]
        assert (trained.settings.seed, winner.settings.seed) == (2, 0)
        assert (trained.step, trained.rows, trained.settings.batch_size) == (winner.step, winner.rows, 16)
        adapter = trained.settings.adapter
        assert (adapter.kind, adapter.quantize) == (kind, quantize)
    assert (by_way["lora"]["learning_rate"], by_way["qlora"]["learning_rate"]) == (0.003, 0.003)
    raced = {name for name in notes if name.startswith("compare-full")}
    rate = by_way["full"]["learning_rate"]
    assert raced == {*(f"compare-full-seed1-lr{other}" for other in (0.0003, 0.001)), f"compare-full-seed2-lr{rate:g}"}
    assert [by_way[way]["training"] is None for way in ALL.names] == [False, False, False, True, True]
    assert [by_way[way]["made_of"] for way in ("merged", "nf4")] == ["lora", "lora"]


def test_nf4_answers_with_the_adapter_on_a_4_bit_base(whole: tuple[Climbed, int]) -> None:
    from lastresort.models.local import LocalModel, load_local

    found = whole[0].run
    system = replace(load_system(found / "winner"), precision="auto", fingerprint="", rendering="")
    loaded = load_local(Path(system.model), adapter=found / "compare" / "lora-seed1", quantize="nf4")
    with Record.open(found, read_only=True) as record:
        told = {way: record.measurement("compare", f"{way}-seed1", "test") for way in ("lora", "nf4")}
    assert told["nf4"] is not None
    assert told["lora"] is not None
    asked = [(Message("user", item.input),) for item in told["nf4"].items[:16]]
    answers = [answer.text for answer in Answerer(system, LocalModel(loaded, name="nf4")).answer(asked)]
    assert answers == [item.answer for item in told["nf4"].items[:16]]
    assert answers != [item.answer for item in told["lora"].items[:16]]


def test_what_is_large_is_not_kept(whole: tuple[Climbed, int]) -> None:
    kept = sorted(folder.name for folder in (whole[0].run / "compare").iterdir())
    assert kept == ["lora-seed1", "lora-seed2", "qlora-seed1", "qlora-seed2"]
    assert not list((whole[0].run / "checkpoints").glob("compare-*"))


def test_all_test_items_are_in_the_ledger(whole: tuple[Climbed, int]) -> None:
    with Ledger(whole[0].run.parent / ".lastresort" / "ledger.sqlite") as ledger:
        rows = ledger._database.rows("SELECT count(DISTINCT hash) AS n FROM use", ())
    assert rows[0]["n"] == 30
    assert whole[0].decision.as_json()["rungs"][0]["test"]["n_used"] < 30


def test_cut_five_times_and_resumed(finished: tuple[Path, Climbed], whole: tuple[Climbed, int], tmp_path: Path) -> None:
    path, first = finished
    run = shutil.copytree(first.run, tmp_path / "runs" / "tiny-1")
    for share in (0.1, 0.25, 0.2, 0.25, 0.2):
        with pytest.raises(Cut):
            compared(path, run, ALL, Scissors(round(share * whole[1])))
        assert decision_of(run)["compare"] == []
        assert decision_of(run)["verdict"] == "MET"
    resumed = compared(path, run)
    assert same(resumed.decision.as_json()) == same(whole[0].decision.as_json())


def test_a_limit_stops_it_and_more_lets_it_go_on(finished: tuple[Path, Climbed], tmp_path: Path) -> None:
    path, first = finished
    run, now = shutil.copytree(first.run, tmp_path / "runs" / "tiny-1"), [0.0]
    late = Stops("compare: lora-seed1 on the test set", lambda: now.__setitem__(0, 7200.0))
    asked = ComparisonRequest(("lora", "merged"), 2)
    with pytest.raises(BudgetError, match=r"time limit of 1 hours .* Raise it\.$"):
        compared(path, run, asked, late, clock=lambda: now[0], settings={"limits.hours": 1})
    assert decision_of(run)["compare"] == []
    found = compared(path, run, settings={"limits.hours": 9})
    assert [entry["way"] for entry in found.decision.as_json()["compare"]] == ["lora", "merged"]


@pytest.mark.release
def test_a_plan_that_does_not_fit_is_not_begun(finished: tuple[Path, Climbed], tmp_path: Path) -> None:
    path, first = finished
    run = shutil.copytree(first.run, tmp_path / "runs" / "tiny-1")
    found = compared(
        path, run, ComparisonRequest(("lora", "full"), 2), settings={"limits.hours": 1e-9}
    ).decision.as_json()
    assert found["compare"] == []
    assert reason_lines(found)[-1].startswith("Nothing was compared (lora, full): its plan of ")
    assert reason_lines(found)[-1].endswith("`limits.hours`; raise it and continue with --resume.")
    with pytest.raises(Cut):  # with a higher limit it begins
        compared(path, run, None, Scissors(30))
    assert not any("Nothing was compared" in reason for reason in reason_lines(compared(path, run).decision.as_json()))
    taken_back = compared(path, run, ComparisonRequest()).decision.as_json()
    assert not any("Nothing was compared" in reason for reason in reason_lines(taken_back))
