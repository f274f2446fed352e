"""Repairs that train anew, with the tiny model: every rung that trains has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from climb_support import comparable
from decision_support import validate_decision
from gate_support import SUITES
from lastresort.after.repair import phase
from lastresort.app.climb import climb
from lastresort.gate import built_in as suites
from lastresort.gate.verdict.decide import KINDS, RepairNeed
from lastresort.records.decision_parts import RepairFinding
from lastresort.records.events.training import TrainingReached
from lastresort.records.record import Record
from lastresort.spec.sections import SuiteFacts
from lastresort.spec.task import load_task
from lastresort.train.loop.checkpoints import Checkpoints
from tuning_support import Cut, Scissors, pairs, tiny_task, tuned_files

pytestmark = pytest.mark.slow

KEYS: dict[str, Any] = {
    "bar": 0.05,  # what is tried here is that repairs are trained, not what the tiny model learns
    "keep": {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"},
    "sft": {"learning_rates": [0.03], "epochs": 2, "r": 4, "replay": 0.0},
    "preference": {"learning_rates": [0.03], "epochs": 2},
    "full": {"learning_rates": [0.01], "epochs": 2, "replay": 0.0},
}


@pytest.fixture
def nothing_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the gate says, repairs are called for, and none is ever good: all are tried."""
    monkeypatch.setattr(suites, "SUITES", {**SUITES, "general": SuiteFacts("gate_support:steady", 0.03)})
    monkeypatch.setattr(phase, "repairs_after", lambda gate: RepairNeed(("general",), costly=False, kinds=KINDS))
    monkeypatch.setattr(phase, "findings_on", lambda *_, **__: (RepairFinding(kind="BELOW_BAR", value=0.0, limit=1.0),))


@pytest.mark.parametrize(
    "rung", ["sft", *(pytest.param(rung, marks=pytest.mark.release) for rung in ("preference", "full"))]
)
def test_what_was_trained_is_trained_anew_milder(tmp_path: Path, nothing_good: None, rung: str) -> None:
    path = tiny_task(tmp_path / "task", preferences=pairs() if rung == "preference" else None, ladder=[rung], **KEYS)
    found = climb(load_task(path), tmp_path / "run", gate="full")
    validate_decision(found.decision.as_json())
    tried = {(one["kind"], one["setting"]): one for one in found.decision.as_json()["repairs"]}
    assert all(one["dev"]["n"] == 20 and one["measures"] for one in tried.values())
    wanted = {"scale", "learning_rate"} | ({"replay"} if rung != "preference" else set())
    assert (
        wanted <= {kind for kind, _ in tried} <= wanted | {"fewer_epochs"}
    )  # where the first checkpoint was chosen, none is earlier
    rate = KEYS[rung]["learning_rates"][0] / 3
    assert [setting for kind, setting in tried if kind == "learning_rate"] == [pytest.approx(rate, rel=1e-2)]
    with Record.open(found.run, read_only=True) as record:
        rates = {one.settings.learning_rate for one in record.all(TrainingReached) if one.rung == rung}
        shares = {one.replay_rows for one in record.all(TrainingReached) if one.replay_rows is not None}
    assert len(rates) == 2
    assert rung == "preference" or len(shares) == 3  # none, 10% and 25%
    files = tuned_files(found.run)
    trained = [content for name, content in files.items() if "-scale" not in name]
    assert len(set(trained)) == len(trained)


class CutInTraining(Scissors):
    """Ends the process three signs of life after the n-th training that is not resumed began. begun: how many did."""

    def __init__(self, number: int | None = None) -> None:
        super().__init__()
        self._number, self.begun = number, 0

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        if label.endswith(": training"):
            self.begun += 1
            if self.begun == self._number:
                self.left = self.seen + 4
        super().stage(label, total)


@pytest.mark.release
def test_a_climb_cut_in_the_middle_of_each_repairs_training_goes_on_from_there(
    tmp_path: Path, nothing_good: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoints, "due", property(lambda self: True))
    path, uncut = tiny_task(tmp_path / "task", ladder=["sft"], **KEYS), CutInTraining()
    whole = climb(load_task(path), tmp_path / "whole", gate="full", progress=uncut)
    assert uncut.begun == 4  # the rung's, two with replay, one at a lower rate
    run = tmp_path / "cut"
    for session, number in enumerate((2, 1, 1)):  # the first session has the rung's own training, too
        with pytest.raises(Cut):
            climb(load_task(path), run, gate="full", progress=(scissors := CutInTraining(number)))
        assert session == 0 or any("training continues from step" in label for label in scissors.labels)
    found = climb(load_task(path), run, gate="full", progress=(last := Scissors()))
    assert any("training continues from step" in label for label in last.labels)
    assert comparable(found.decision.as_json()) == comparable(whole.decision.as_json())
    assert tuned_files(run) == tuned_files(whole.run)
