"""`sft.select: mildest`: the checkpoint that moved least from the base among those that are likely to meet the bar."""

from __future__ import annotations

import random
import re
import shutil
import tracemalloc
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import betabinom, binom

from lastresort.app.dry_run import dry_run
from lastresort.evals.evidence.bar import FINAL_SHARE
from lastresort.evals.evidence.selection import chance_of_met, mildest
from lastresort.records.decision_parts import WeighedCheckpoint, Weighing
from lastresort.records.events.search import RungSearched
from lastresort.records.events.training import CandidateTrained, CheckpointsWeighed, DistanceMeasured
from lastresort.records.measurement import DevScore
from lastresort.records.record import Record
from lastresort.report.charts.tradeoff import distance_chart
from lastresort.report.html import write_report
from lastresort.report.markdown import markdown
from lastresort.report.words.rungs import of_selection
from lastresort.report.words.titles import checkpoint, of_weighing
from lastresort.rungs.supervised.milder import scale_system, training_of
from lastresort.rungs.supervised.sft import SftRung
from lastresort.rungs.supervised.training import KEPT_SCALES, KEPT_SHARES, SupervisedTraining
from lastresort.spec.task import load_task
from lastresort.systems.files import load_system
from tuning_support import Cut, CutAt, climbed, tiny_task, tuned_files

SFT = {"learning_rates": [0.003, 0.03], "epochs": 3, "r": 4, "replay": 0.1, "batch_size": 8}


def scores(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


@pytest.mark.parametrize(("right", "n"), [(95, 100), (90, 100), (84, 100), (20, 20)])
def test_the_chance_of_met_is_the_tail_of_a_beta_binomial(right: int, n: int) -> None:
    """The last item's exact test needs `needed` of 150; looking on the way adds little. 400 draws err by 0.075 at three sigma."""
    bar, alpha, n_test = 0.8, 0.05, 150
    needed = next(k for k in range(n_test + 1) if binom.sf(k - 1, n_test, bar) <= FINAL_SHARE * alpha)
    exact = float(betabinom.sf(needed - 1, n_test, 1 + right, 1 + n - right))
    found = chance_of_met(scores(right, n), n_test, bar=bar, alpha=alpha, binary=True, seed=1)
    assert exact - 0.075 <= found <= exact + 0.1


def test_a_larger_test_set_meets_a_bar_that_is_passed_more_surely() -> None:
    small, large = (chance_of_met(scores(90, 100), n, bar=0.8, alpha=0.05, binary=True, seed=1) for n in (60, 600))
    assert small < large - 0.1


@pytest.mark.slow
def test_large_test_sets_are_not_all_held_at_once() -> None:
    """400 of 20,000 scores: 64 MB as floats."""
    tracemalloc.start()
    try:
        chance_of_met(scores(90, 100), 20_000, bar=0.8, alpha=0.05, binary=True, seed=1)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def test_groups_count_as_one_item_each() -> None:
    """Ten groups of ten alike say less than a hundred items."""
    found = [score for score in scores(9, 10) for _ in range(10)]
    groups = [str(number // 10) for number in range(100)]
    single = chance_of_met(found, 200, bar=0.7, alpha=0.05, binary=True, seed=1)
    grouped = chance_of_met(found, 20, bar=0.7, alpha=0.05, binary=True, seed=1, groups=groups)
    assert grouped < single - 0.2


def test_the_mildest_of_the_likely_is_taken() -> None:
    chances = {"early": 0.79, "middle": 0.8, "last": 0.99}
    assert mildest(chances, {"early": 0.1, "middle": 0.2, "last": 0.3}) == "middle"
    assert mildest(chances, {"early": 0.1, "middle": 0.4, "last": 0.3}) == "last"
    assert mildest(chances, {"early": 0.1, "middle": 0.2, "last": 0.2}) == "last", "of equals the likelier"
    assert mildest({"early": 0.5}, {"early": 0.0}) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A climb whose bar is low enough for some checkpoints."""
    folder = tmp_path_factory.mktemp("mildest")
    sft = {**SFT, "learning_rates": [0.03], "select": "mildest"}
    return climbed(tiny_task(folder / "task", ladder=["sft"], bar=0.05, sft=sft), folder / "run").run


def weighing_of(run: Path) -> Weighing:
    with Record.open(run, read_only=True) as record:
        found = record.last(CheckpointsWeighed, "sft")
    assert found is not None
    return found.weighing


def test_checkpoints_are_kept_by_shares_of_the_run_and_the_last_at_scales(run: Path) -> None:
    found = weighing_of(run)
    whole = [one for one in found.checkpoints if one.scale == 1]
    last = whole[-1]
    assert [one.stop for one in whole] == [round(share * last.stop) for share in KEPT_SHARES]
    assert [(one.scale, one.stop) for one in found.checkpoints if one.scale != 1] == [
        (scale, last.stop) for scale in KEPT_SCALES
    ]
    distance = {one.scale: one.distance for one in found.checkpoints if one.stop == last.stop}
    assert 0 < distance[0.5] < distance[0.75] < distance[1.0]
    assert all(one.dev.n == 20 for one in found.checkpoints)
    with Record.open(run, read_only=True) as record:
        measured = record.last(DistanceMeasured, last.candidate)
    assert measured is not None
    assert measured.kl_per_token == pytest.approx(last.distance)


def test_the_frozen_system_moved_least_of_the_likely(run: Path) -> None:
    found = weighing_of(run)
    likely = [one for one in found.checkpoints if one.met_chance >= found.least_chance]
    assert found.predicted
    assert len(likely) > 0
    assert found.chosen == min(likely, key=lambda one: one.distance).candidate
    with Record.open(run, read_only=True) as record:
        search = record.last(RungSearched)
    assert search is not None
    assert search.chosen == found.chosen
    assert search.why.rule == "MILDEST"
    assert "it moved least from the base" in of_selection(search.why)


def test_the_decision_and_the_report_show_the_trade_off(run: Path) -> None:
    from lastresort.report.decision import read_view

    decision, found = read_view(run), weighing_of(run)
    assert decision.rungs[0].weighed == found
    text, page = markdown(decision), write_report(run).read_text(encoding="utf-8")
    chosen = next(one for one in found.checkpoints if one.candidate == found.chosen)
    assert f"| **{checkpoint(chosen)}** |" in text
    assert text.count("| step ") + text.count("| **step ") == len(found.checkpoints)
    assert of_weighing(found) in page
    assert "KL from the base on general requests" in page


@pytest.mark.slow
def test_where_none_is_likely_the_dev_score_decides(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task", ladder=["sft"], bar=0.7, sft={**SFT, "select": "mildest"})
    run = climbed(path, tmp_path / "run").run
    found = weighing_of(run)
    best = max(one.dev.score for one in found.checkpoints)
    assert not found.predicted
    assert next(one for one in found.checkpoints if one.candidate == found.chosen).dev.score == best
    assert of_weighing(found).startswith("No checkpoint is likely to meet the bar")


@pytest.mark.slow
def test_the_best_is_chosen_as_ever_and_nothing_is_measured_for_it(tmp_path: Path) -> None:
    run = climbed(tiny_task(tmp_path / "task", ladder=["sft"], bar=0.3, sft=SFT), tmp_path / "run").run
    with Record.open(run, read_only=True) as record:
        assert not record.all(CheckpointsWeighed)
        assert not record.all(DistanceMeasured)
        assert {one.unit for one in record.all(CandidateTrained)} == {"epoch"}
    assert not any("scale" in name for name in tuned_files(run))


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "after"),
    [("sft: answers of the base, to measure the distance", 1), ("sft: how far lora-lr0.03-step30", 2)],
)
def test_a_climb_that_is_cut_goes_on_and_chooses_the_same(label: str, after: int, run: Path, tmp_path: Path) -> None:
    path = run.parent / "task" / "task.yaml"
    with pytest.raises(Cut):
        climbed(path, tmp_path / "run", CutAt(label, after))
    climbed(path, tmp_path / "run")
    assert weighing_of(tmp_path / "run") == weighing_of(run)
    assert tuned_files(tmp_path / "run") == tuned_files(run)


def test_a_repair_of_a_scaled_checkpoint_starts_from_its_scale_and_its_step(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    last = [one for one in weighing_of(run).checkpoints if one.scale == 1][-1]
    earlier = [one.stop for one in weighing_of(run).checkpoints if one.scale == 1 and one.stop < last.stop]
    half = load_system(run / "candidates" / "sft" / f"{last.candidate}-scale0.5")
    with Record.open(tmp_path / "run") as record:
        bench: Any = SimpleNamespace(record=record, folder=tmp_path / "run")
        training = training_of(bench, SftRung(), half.name)
        quarter = scale_system(bench, half, 0.5)
        trained = record.last(CandidateTrained, quarter.name)
    assert [stop for stop, _ in training.earlier] == earlier[::-1]
    assert trained is not None
    assert trained.scale == 0.25


def test_a_step_of_a_longer_training_is_the_same_share_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """More replay makes more steps: a checkpoint at 12 of 30 becomes one at 16 of 40."""
    monkeypatch.setattr(SupervisedTraining, "_steps", lambda self: 40)
    training = object.__new__(SupervisedTraining)
    assert training.stop_at("step", 12, of_steps=30).step == 16
    assert training.stop_at("step", 12).step == 12


def test_the_dry_run_counts_the_further_checkpoints(tmp_path: Path) -> None:
    def passes(**more: str) -> str:
        path = tiny_task(tmp_path / f"{len(more)}", ladder=["sft"], sft={**SFT, **more})
        (rung,) = dry_run(load_task(path)).as_json()["rungs"]
        return next(line for line in rung["forecast"]["lines"] if line.startswith("checkpoints on dev"))

    assert passes() != passes(select="mildest")


def made(*points: tuple[float, float, float]) -> Weighing:
    """stop 10, 20, …; each with distance, dev score and chance."""
    return Weighing(
        checkpoints=tuple(
            WeighedCheckpoint(
                candidate=f"lora-step{10 * number}",
                stop=10 * number,
                unit="step",
                scale=1.0,
                constrained=False,
                dev=DevScore(score=dev, n=100),
                distance=distance,
                met_chance=chance,
            )
            for number, (distance, dev, chance) in enumerate(points, 1)
        ),
        least_chance=0.8,
        chosen="lora-step20",
        predicted=True,
    )


def test_the_picture_has_each_checkpoint_at_its_place_and_names_the_chosen_one() -> None:
    svg = str(distance_chart(made((0.1, 0.7, 0.0), (0.2, 0.9, 0.9), (0.4, 0.95, 1.0)), 0.85, "label"))
    places = [(float(x), float(y)) for x, y in re.findall(r'<circle class="[^"]*" cx="([\d.]+)" cy="([\d.]+)"', svg)]
    (one, low), (two, middle), (four, high) = places
    assert two - one == pytest.approx((four - two) / 2, abs=0.2)
    assert low - middle == pytest.approx(4 * (middle - high), abs=0.4)
    assert svg.count('<circle class="dev"') == 1
    assert re.findall(r'class="name front"[^>]*>([^<]*)<', svg) == ["step 20"]
    assert distance_chart(made((0.1, 0.7, 0.0)), 0.85, "label") is None


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    drawn = random.Random(2)
    points = [(0.2 + drawn.random() / 100, 0.9, 1.0) for _ in range(6)]
    svg = str(distance_chart(made(*points), 0.85, "label"))
    found = re.findall(r'<text class="name[^"]*" x="[\d.]+" y="([\d.]+)" text-anchor="(start|end)"', svg)
    assert len(found) == 6
    for side in ("start", "end"):
        heights = sorted(float(y) for y, anchor in found if anchor == side)
        assert all(b - a >= 12.9 for a, b in pairwise(heights))
