"""Which points of a training's curve say what more examples would do, and for which rungs that is asked."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lastresort.climb.decide import RungOutcome
from lastresort.climb.reasons import more_examples
from lastresort.records.events.training import CandidateTrained
from lastresort.records.reasons import ExamplesForecast
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from lastresort.study import cells
from lastresort.study.grid import Cell
from lastresort.types import CannotTell, Judgement, MoreExamples, Outcome
from report_support import training_reached
from tuning_support import tiny_task

EPOCH, STEPS, FINAL = 200, 600, "lr0.001-epoch3"


def trained(run: Path, *, rows: int = 1600, held: bool = False) -> Record:
    """Three epochs of 200 batches of 8: the loss falls along the first, and jumps down where rows come again. held: replay is, so
    that a quarter of each batch adds next to nothing to its loss; every twentieth batch holds nothing else.
    """
    record, rng = Record.create(run), random.Random(0)
    for step in range(1, STEPS + 1):
        seen = 8 * max(1, step - 1)
        loss = (0.3 + 6 * seen**-0.5) * (1 + rng.gauss(0, 0.05)) if step <= EPOCH else 0.1
        point = {"loss": loss, "grad_norm": 1.0}
        if held:
            point |= {"loss": 0.75 * loss, "kl_to_base": 0.01, "task_loss": loss}
        if held and step % 20 == 0:
            point = {"loss": 0.01, "grad_norm": 1.0, "kl_to_base": 0.01}
        record.add_curve_point("lr0.001", step, point)
    record.add_curve_point("lr0.001", EPOCH, {"dev_loss": 9.0})
    reached = training_reached("sft", "lr0.001", steps=STEPS)
    settings = reached.settings.model_copy(update={"batch_size": 8})
    record.append(
        reached.model_copy(update={"rows": rows, "replay_rows": rows // 4, "steps": STEPS, "settings": settings})
    )
    for name in ("lr0.001-epoch3", "lr0.001-epoch3+constrained"):
        record.append(
            CandidateTrained(rung="sft", candidate=name, run="lr0.001", learning_rate=0.001, stop=3, unit="epoch")
        )
    return record


def outcome_of(outcome: Outcome, system: str) -> RungOutcome:
    return RungOutcome("sft", Judgement(outcome, 0.7, 100, 100, (0.6, 0.8)), system)


@pytest.mark.parametrize("held", [False, True])
def test_the_first_epoch_after_the_warm_up_is_the_curve(tmp_path: Path, held: bool) -> None:
    with trained(tmp_path / "run", held=held) as record:
        for outcome in ("NOT_MET", "UNDECIDED"):
            (reason,) = more_examples(record, outcome_of(outcome, FINAL), 0.85)
            assert isinstance(reason, ExamplesForecast)
            assert (reason.rung, reason.score, reason.bar) == ("sft", 0.7, 0.85)
            assert isinstance(reason.found, MoreExamples)
            assert reason.found.n == 8 * (EPOCH - (2 if held else 1))
            assert reason.replay == 0.25
            now = 0.3 + 6 * (8 * EPOCH) ** -0.5
            assert abs(reason.found.loss - now) < 0.02
            low, high = reason.found.after[1].interval
            assert low < (0.3 + 6 * (32 * EPOCH) ** -0.5) / now < high
        assert more_examples(record, outcome_of("UNDECIDED", "lr0.001-epoch3+constrained"), 0.85)


@pytest.mark.parametrize("held", [False, True])
def test_the_training_loss_of_a_study_leaves_held_rows_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    stop = SimpleNamespace(step=STEPS)
    training = SimpleNamespace(
        stop_at=lambda *_, **__: stop, to_stop=lambda *_: 0.5, close=lambda: None, run_name=lambda rate: f"lr{rate:g}"
    )
    monkeypatch.setattr(cells, "SupervisedTraining", lambda *_, **__: training)
    monkeypatch.setattr(cells, "tuned_system", lambda *_: None)
    task = load_task(tiny_task(tmp_path / "task"))
    with trained(tmp_path / "run", held=held) as record:
        bench: Any = SimpleNamespace(task=task, record=record, folder=tmp_path)
        _, found = cells.train_by_sft(bench, Cell("sft", 40, 0), 0.001, "")
    assert found.train_loss == pytest.approx(0.1)


def test_a_rung_that_meets_the_bar_or_trained_nothing_is_not_asked(tmp_path: Path) -> None:
    with trained(tmp_path / "run") as record:
        assert more_examples(record, outcome_of("MET", FINAL), 0.85) == []
        assert more_examples(record, outcome_of("NOT_MET", "zero-shot"), 0.85) == []


def test_a_small_training_cannot_tell(tmp_path: Path) -> None:
    """160 rows are 20 batches an epoch, all of them within the warm-up of 5% of 600 steps."""
    with trained(tmp_path / "run", rows=160) as record:
        (reason,) = more_examples(record, outcome_of("NOT_MET", FINAL), 0.85)
        assert isinstance(reason, ExamplesForecast)
        assert reason.found == CannotTell("FEW_BATCHES", 0)
