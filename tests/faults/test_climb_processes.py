"""A climb that trains in two processes decides as one process does; killed, stopped and resumed it ends the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lastresort.app.climb import Climbed, climb
from lastresort.errors import InfrastructureError, StopRequestedError
from lastresort.records.clock import worked_s
from lastresort.records.events.training import LapTrained, TrainingReached
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from lastresort.types import SilentProgress
from ray_support import OWN, SLOW_IN_PROC, below, cluster, eventually
from tuning_support import climbed, pairs, steps_of, tiny_task

pytestmark = SLOW_IN_PROC

OURS = "lastresort.train.loop.spawned"  # in the command line of a started process
SFT = {"learning_rates": [0.003], "epochs": 2, "r": 4, "replay": 0.0}


@pytest.fixture(scope="module", autouse=True)
def in_float32() -> Iterator[None]:
    """In 16 bits the order of sums would show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.models.loading.processor_computes_bfloat16", lambda: False)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def task(folder: Path, processes: int, **keys: Any) -> Path:
    own = {"sft": SFT, "preference": {"learning_rates": [0.001], "epochs": 1}, "tune": {"processes": processes}}
    return tiny_task(folder, score={"python": "score.py:vowels"}, **{**own, **keys})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    folder = tmp_path_factory.mktemp("alone")
    return climbed(task(folder, 1, preferences=pairs()), folder / "run")


def decided(found: Climbed) -> list[Any]:
    """Of each rung."""
    rungs = found.decision.as_json()["rungs"]
    return [(one["name"], one["chosen"], one["test"]["verdict"], one["test"]["score"]) for one in rungs]


def same_training(run: Path, other: Path, rung: str) -> None:
    """Of the same steps with the same losses, to the same weights, up to rounding."""
    records = []
    for folder in (run, other):
        with Record.open(folder, read_only=True) as record:
            curves = {name: steps_of(record, name) for name in record.curves()}
            laps = {lap.name: lap.dev_loss for lap in record.all(LapTrained)}
        prefix = "lr" if rung == "sft" else "dpo"
        records.append(({name: curve for name, curve in curves.items() if name.startswith(prefix)}, laps))
    (curves, laps), (others, other_laps) = records
    assert curves.keys() == others.keys() != set()
    for name, curve in curves.items():
        assert [point["step"] for point in curve] == [point["step"] for point in others[name]]
        losses, expected = [point["loss"] for point in curve], [point["loss"] for point in others[name]]
        assert losses == pytest.approx(expected, rel=1e-5)
    assert laps == pytest.approx(other_laps, rel=1e-5)
    begins = "lora" if rung == "sft" else "dpo"
    ours, theirs = (
        sorted((folder / "adapters").glob(f"{begins}*/adapter_model.safetensors")) for folder in (run, other)
    )
    assert [path.parent.name for path in ours] == [path.parent.name for path in theirs] != []
    for own, expected in zip(ours, theirs, strict=True):
        for name, weight in load_file(own).items():
            assert torch.allclose(weight, load_file(expected)[name], atol=1e-5), f"{own.parent.name}, {name}"


def processes_of(run: Path) -> list[int]:
    with Record.open(run, read_only=True) as record:
        return [one.processes for one in record.all(TrainingReached)]


@pytest.mark.release
def test_sft_and_dpo_in_two_processes_decide_as_in_one(alone: Climbed, tmp_path: Path) -> None:
    looks = list[float]()

    def clock() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    own = load_task(task(tmp_path, 2, preferences=pairs()))
    found = climb(own, tmp_path / "run", gate="none", clock=clock)
    assert decided(found) == decided(alone)
    with Record.open(found.run, read_only=True) as record:  # by which limits.hours goes
        assert worked_s(record) == pytest.approx(looks[-1] - looks[0], abs=1e-6), "once, however many processes train"
    for rung in ("sft", "preference"):
        same_training(found.run, alone.run, rung)
    assert set(processes_of(found.run)) == {2}
    assert set(processes_of(alone.run)) == {1}
    assert not below(os.getpid(), OURS)


class AtStep(SilentProgress):
    """Does something once the climb has trained so many steps in this session."""

    def __init__(self, run: Path, step: int) -> None:
        self._run, self._left, self._here = run, step, False

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._here = ": training" in label

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._left -= self._here
        if self._here and self._left == 0:
            self.act()

    def act(self) -> None:
        """Somebody asks the run to stop."""
        (self._run / "stop").touch()


class KillsOne(AtStep):
    def act(self) -> None:
        os.kill(max(below(os.getpid(), OURS)), signal.SIGKILL)


def test_killed_with_two_stopped_with_one_and_stopped_with_two_it_ends_as_uncut(alone: Climbed, tmp_path: Path) -> None:
    run, two, one = tmp_path / "run", {"ladder": ["sft"]}, {"ladder": ["sft"]}
    with pytest.raises(InfrastructureError, match=r"that train together ended \(SIGKILL\)"):
        climbed(task(tmp_path, 2, **two), run, KillsOne(run, 3))
    assert not below(os.getpid(), OURS)
    with pytest.raises(StopRequestedError) as first:
        climbed(task(tmp_path, 1, **one), run, AtStep(run, 4))
    with pytest.raises(StopRequestedError) as second:
        climbed(task(tmp_path, 2, **two), run, AtStep(run, 1))
    assert stopped_in(second) == stopped_in(first) + 1, "it goes on, though in another number"
    assert not below(os.getpid(), OURS)
    climbed(task(tmp_path, 2, **two), run)
    same_training(run, alone.run, "sft")


def stopped_in(stop: pytest.ExceptionInfo[StopRequestedError]) -> int:
    found = re.search(r"the file asks to stop, in step (\d+) of 10", str(stop.value))
    assert found is not None, stop.value
    return int(found[1])


@pytest.mark.release
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_climb_that_started_it(number: signal.Signals, tmp_path: Path) -> None:
    path = task(tmp_path, 2, ladder=["sft"], sft={**SFT, "epochs": 400})
    command = [sys.executable, "-m", "lastresort", "climb", str(path), "--run", str(tmp_path / "run"), "--gate", "none"]
    with subprocess.Popen([*command, "--yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as climb:
        begun = tmp_path / "run" / "checkpoints" / "lr0.003"
        assert eventually(lambda: steps_seen(tmp_path / "run") > 2 or climb.poll() is not None, 300), begun
        started = below(climb.pid, OURS)
        climb.send_signal(number)
        _, said = climb.communicate(timeout=60)
    assert len(started) == 2
    assert climb.returncode == (4 if number == signal.SIGTERM else -9), said
    assert eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in started), 20)
    if number == signal.SIGTERM:
        assert "a signal asked to stop, in step" in said
        assert "Go on with --resume." in said
        assert (begun / "state.json").is_file()


def steps_seen(run: Path) -> int:
    if not (run / "record.sqlite").is_file():
        return 0
    with Record.open(run, read_only=True) as record:
        return len(record.curve("lr0.003"))


@pytest.mark.release
def test_workers_of_a_cluster_train_in_two_processes_each(tmp_path: Path) -> None:
    """A race of two rates at two workers, of which one then trains to the end in two processes of the driver."""

    own = {"ladder": ["sft"], "sft": {**SFT, "learning_rates": [0.001, 0.003]}}
    whole = climbed(task(tmp_path / "alone", 1, **own), tmp_path / "alone" / "run")
    path = task(tmp_path / "ray", 2, **own)
    with cluster(cpus=4) as (address, _, node):
        words = [
            "climb",
            str(path),
            "--run",
            str(tmp_path / "ray" / "run"),
            "--gate",
            "none",
            "--yes",
            "--ray",
            address,
        ]
        climb = subprocess.Popen(
            [sys.executable, "-m", "lastresort", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **OWN},
        )
        assert eventually(lambda: len(below(node, OURS)) == 4 or climb.poll() is not None, 300)
        _, said = climb.communicate(timeout=300)
        assert climb.returncode in (0, 1), said
        assert eventually(lambda: not below(node, OURS))
    assert "up to 2 training runs at once with 2 CPUs" in said
    assert set(processes_of(tmp_path / "ray" / "run")) == {2}
    with Record.open(whole.run, read_only=True) as here, Record.open(tmp_path / "ray" / "run", read_only=True) as there:
        losses = [{lap.name: lap.dev_loss for lap in record.all(LapTrained)} for record in (here, there)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # the cluster computes in the precision of this machine
