"""Which points of a training's curve say what more examples would do, and for which rungs that is asked."""

from __future__ import annotations

import random
from pathlib import Path

from lastresort.climb.decide import RungOutcome
from lastresort.climb.reasons import more_examples
from lastresort.records.events.training import CandidateTrained
from lastresort.records.reasons import ExamplesForecast
from lastresort.records.record import Record
from lastresort.types import CannotTell, Judgement, MoreExamples, Outcome
from report_support import training_reached

EPOCH, STEPS, FINAL = 200, 600, "lr0.001-epoch3"


def trained(run: Path, *, rows: int = 1600) -> Record:
    """Three epochs of 200 batches of 8: the loss falls along the first, and jumps down where rows come again."""
    record, rng = Record.create(run), random.Random(0)
    for step in range(1, STEPS + 1):
        seen = 8 * max(1, step - 1)
        loss = (0.3 + 6 * seen**-0.5) * (1 + rng.gauss(0, 0.05)) if step <= EPOCH else 0.1
        record.add_curve_point("lr0.001", step, {"loss": loss, "grad_norm": 1.0})
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


def test_the_first_epoch_after_the_warm_up_is_the_curve(tmp_path: Path) -> None:
    with trained(tmp_path / "run") as record:
        for outcome in ("NOT_MET", "UNDECIDED"):
            (reason,) = more_examples(record, outcome_of(outcome, FINAL), 0.85)
            assert isinstance(reason, ExamplesForecast)
            assert (reason.rung, reason.score, reason.bar) == ("sft", 0.7, 0.85)
            assert isinstance(reason.found, MoreExamples)
            assert reason.found.n == 8 * (EPOCH - 1)
            assert reason.replay == 0.25
            now = 0.3 + 6 * (8 * EPOCH) ** -0.5
            assert abs(reason.found.loss - now) < 0.02
            low, high = reason.found.after[1].interval
            assert low < (0.3 + 6 * (32 * EPOCH) ** -0.5) / now < high
        assert more_examples(record, outcome_of("UNDECIDED", "lr0.001-epoch3+constrained"), 0.85)


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
