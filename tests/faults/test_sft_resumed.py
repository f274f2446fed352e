"""A climb that trains, cut at many moments and resumed, ends with the same adapter and the same decision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from climb_support import comparable, rows
from lastresort.app.climb import Climbed, climb
from lastresort.records.events.training import TrainingReached
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from tiny_model import save_tiny_model
from tuning_support import early_figures

pytestmark = pytest.mark.slow


class Cut(BaseException):
    """Stands for the end of the process: nothing in the program catches it."""


Moment = tuple[int, int]
"""How many stages and sentences there were, and how much of the last one is done."""


class Scissors:
    """Progress that ends the process at a moment. Answers that are not kept come in two calls, kept ones in one: calls would not
    be the same in every climb.
    """

    def __init__(self, at: Moment | None) -> None:
        self.at, self.seen = at, [(0, 0)]

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._reach((self.seen[-1][0] + 1, 0))

    def advance(self, amount: int = 1, note: str = "") -> None:
        stages, done = self.seen[-1]
        self._reach((stages, done + amount))

    def say(self, text: str) -> None:
        self._reach((self.seen[-1][0] + 1, 0))

    def _reach(self, moment: Moment) -> None:
        self.seen.append(moment)
        if self.at is not None and moment >= self.at:
            raise Cut


@pytest.fixture(scope="module")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder / "model")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(150)), encoding="utf-8")
    task: dict[str, Any] = {
        "task": "tiny",
        "about": "Route it.",
        "model": "model",
        "ladder": ["prompting", "sft"],
        "examples": "rows.jsonl",
        "split": {"dev": 24, "test": 40},
        "score": "exact",
        "bar": 0.5,
        "sft": {"learning_rates": [0.003, 0.01], "epochs": 2, "r": 4, "replay": 0.1},
        "decode": {"max_new_tokens": 10},
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return folder / "task.yaml"


@pytest.fixture(scope="module")
def uncut(task_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Climbed, list[Moment]]:
    """The climb, and the moments of one like it that finds its answers in the response cache, as each that is cut does."""
    scissors = Scissors(None)
    found = climb(load_task(task_file), tmp_path_factory.mktemp("uncut") / "run", gate="none")
    climb(load_task(task_file), tmp_path_factory.mktemp("again") / "run", progress=scissors, gate="none")
    return found, scissors.seen


def adapters(run: Path) -> dict[str, bytes]:
    return {
        path.parent.name: path.read_bytes() for path in sorted((run / "adapters").glob("*/adapter_model.safetensors"))
    }


def test_the_climb_trains_and_measures_what_it_trained(uncut: tuple[Climbed, list[Moment]]) -> None:
    found, _ = uncut
    sft = found.decision.as_json()["rungs"][1]
    assert sft["test"] is not None
    assert sft["chosen"].startswith("lora-lr")
    assert adapters(found.run)
    with Record.open(found.run, read_only=True) as record:
        curves, training = record.curves(), record.all(TrainingReached)
    assert {"lr0.003", "lr0.01"} == set(curves)
    assert all(one.path == "packed" and one.check is not None and one.check.ok for one in training)
    assert (training[-1].replay_rows or 0) > 0
    assert training[-1].computed_tokens < training[-1].nominal_tokens


@pytest.mark.sampled_slow(3)
@pytest.mark.parametrize("share", [0.5, 0.6, 0.7, 0.8, 0.9, 0.97])
def test_cut_and_resumed(share: float, uncut: tuple[Climbed, list[Moment]], task_file: Path, tmp_path: Path) -> None:
    whole, moments = uncut
    with pytest.raises(Cut):
        climb(
            load_task(task_file),
            tmp_path / "run",
            progress=Scissors(moments[round(share * (len(moments) - 1))]),
            gate="none",
        )
    resumed = climb(load_task(task_file), tmp_path / "run", gate="none")
    assert comparable(resumed.decision.as_json()) == comparable(whole.decision.as_json())
    assert adapters(resumed.run) == adapters(whole.run)
    assert early_figures(resumed.run) == early_figures(whole.run)
