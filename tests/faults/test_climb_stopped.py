"""A climb or a gate that is asked to stop: at the next check, resumable, with the result of one that was not asked."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from climb_gate_support import SAFE, gated_climb, quality, script_rungs
from climb_support import calls, comparable, scripted_task
from gate_support import SUITES, gated_task
from lastresort.app import console
from lastresort.app.climb import climb
from lastresort.app.gate import GateRequest, GateResult, start_gate
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import InfrastructureError, StopRequestedError
from lastresort.gate import built_in
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, FirstOf, Stop, StopFile, StopRequest, StopSignal, check
from lastresort.types import Progress, SilentProgress

QUALITY = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]


ONE_SUITE = {"keep": {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}, "split": {"dev": 20, "test": 60}}


class AsksIn(SilentProgress):
    """Somebody who asks the run to stop after the first batch of a stage."""

    def __init__(self, folder: Path, stage: str) -> None:
        self._file, self._stage, self._here = folder / "stop", stage, False

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        assert not self._file.exists(), "it goes on after the batch"
        self._here = label.startswith(self._stage)

    def advance(self, amount: int = 1, note: str = "") -> None:
        assert not self._file.exists(), "it goes on after the batch"
        if self._here:
            self._file.touch()


class AsksAfter(SilentProgress):
    """Somebody who asks the run to stop after so many batches."""

    def __init__(self, folder: Path, batches: int) -> None:
        self._file, self._batches = folder / "stop", batches

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._batches -= 1
        if self._batches == 0:
            self._file.touch()


class Removes(SilentProgress):
    """Somebody who deletes the folder of the run after the first batch. stages: that began after it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.stages = folder, list[str]()

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        if not self._folder.exists():
            self.stages.append(label)

    def advance(self, amount: int = 1, note: str = "") -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)


def test_a_climb_whose_folder_is_deleted_ends_at_its_next_write(tmp_path: Path) -> None:
    task, run = load_task(scripted_task(tmp_path / "task", quality=QUALITY)), tmp_path / "run"
    deleted = Removes(run)
    with pytest.raises(InfrastructureError, match=r"run: moved or deleted while the run was at work\. Put it back"):
        climb(task, run, gate="none", progress=deleted)
    assert len(deleted.stages) <= 1
    assert not run.exists()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("batches", [1, 7, 30])
def test_a_stop_file_ends_a_climb_that_goes_on_to_the_same_decision(batches: int, tmp_path: Path) -> None:
    whole = climb(
        load_task(scripted_task(tmp_path / "whole", quality=QUALITY)), tmp_path / "whole" / "run", gate="none"
    )
    task, run = load_task(scripted_task(tmp_path / "asked", quality=QUALITY)), tmp_path / "asked" / "run"
    with pytest.raises(StopRequestedError, match=r"stop: the file asks to stop\.$"):
        climb(task, run, gate="none", progress=AsksAfter(run, batches))
    assert not (run / "stop").exists()
    assert not (run / "decision.json").exists()
    asked = len(calls(tmp_path / "asked"))
    assert comparable(climb(task, run, gate="none").decision.as_json()) == comparable(whole.decision.as_json())
    assert len(calls(tmp_path / "asked")) == len(calls(tmp_path / "whole")) > asked


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["gate: general: a pilot", "gate: base: general", "gate: tuned: general"])
def test_a_stop_file_ends_a_gate_after_a_batch_of_which_nothing_is_asked_again(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_rungs(monkeypatch, "sft")
    how: dict[str, Any] = {"gate": "quick", "task": ONE_SUITE}
    whole = gated_climb(tmp_path / "whole", quality(SAFE), **how)
    progress = AsksIn(tmp_path / "asked" / "runs" / "routing-1", stage)
    with pytest.raises(StopRequestedError):
        gated_climb(tmp_path / "asked", quality(SAFE), progress=progress, **how)
    assert comparable(gated_climb(tmp_path / "asked", [], **how).decision.as_json()) == comparable(
        whole.decision.as_json()
    )
    assert len(calls(tmp_path / "asked" / "task")) == len(calls(tmp_path / "whole" / "task"))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "stage",
    ["general: a pilot", "base: general", "base: the task's test set", "tuned: general", "tuned: the task's test set"],
)
def test_a_stop_file_ends_a_gate_alone_after_a_batch_of_which_nothing_is_asked_again(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built_in, "SUITES", SUITES)
    whole = gate_alone(tmp_path / "whole", SilentProgress())
    folder = tmp_path / "asked" / "gates" / "routing-1"
    with pytest.raises(StopRequestedError, match=r"stop: the file asks to stop\. Give the same command again"):
        gate_alone(tmp_path / "asked", AsksIn(folder, stage))
    assert not (folder / "stop").exists()
    assert not (folder / "gate.json").exists()
    again = gate_alone(tmp_path / "asked", SilentProgress())
    assert again.path.parent == folder
    assert compared(again) == compared(whole)
    for side in ("calls.jsonl", "calls of tuned.jsonl"):
        asked = [len((tmp_path / where / side).read_text().splitlines()) for where in ("whole", "asked")]
        assert asked[0] == asked[1] > 0, side


def test_a_signal_ends_a_gate_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_in, "SUITES", SUITES)
    stop = StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError, match="a signal asked to stop"):
        gate_alone(tmp_path, SilentProgress(), stop)
    assert gate_alone(tmp_path, SilentProgress()).verdict == "SHIP"


def gate_alone(folder: Path, progress: Progress, stop: Stop = NEVER) -> GateResult:
    path = folder / "task.yaml" if (folder / "task.yaml").exists() else gated_task(folder)
    request = GateRequest(
        path,
        f"scripted:{folder / 'tuned.json'}",
        base=f"scripted:{folder / 'script.json'}",
        quick=True,
        gates=folder / "gates",
        runs=folder / "runs",
    )
    return start_gate(request, progress, stop)


def compared(result: GateResult) -> dict[str, Any]:
    """What a gate found, without where and when."""
    kept = ("verdict", "reasons", "target", "suites", "failure_modes", "fingerprints")
    found = result.document.as_json()
    return {name: found[name] for name in kept}


def test_a_signal_ends_it_alike_and_a_request_that_came_too_late_is_taken_away(tmp_path: Path) -> None:
    task, run, stop = load_task(scripted_task(tmp_path, quality=QUALITY)), tmp_path / "run", StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError, match="a signal asked to stop"):
        climb(task, run, gate="none", stop=stop)
    climb(task, run, gate="none")
    (run / "stop").touch()
    climb(task, run, gate="none")
    assert not (run / "stop").exists()


def test_a_request_to_a_process_that_was_killed_does_not_stop_the_next_one(tmp_path: Path) -> None:
    task, run, stop = load_task(scripted_task(tmp_path, quality=QUALITY)), tmp_path / "run", StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError):
        climb(task, run, gate="none", stop=stop)
    (run / "stop").touch()
    climb(task, run, gate="none")
    assert (run / "decision.json").is_file()


def test_on_the_command_line_it_is_a_run_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = scripted_task(tmp_path, quality=QUALITY), tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lastresort", "climb", str(path), "--run", str(run), "--gate", "none"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopFile, "requested", lambda self: StopRequest("file", "the file asks to stop", str(self.path)))
        assert guarded(app) == 4
    assert "stop: the file asks to stop. Go on with --resume." in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--resume"])
    assert guarded(app) == 0


class Terminates(SilentProgress):
    """SIGTERM after so many batches."""

    def __init__(self, batches: int) -> None:
        self._batches = batches

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._batches -= 1
        if self._batches == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def lastresort(patch: pytest.MonkeyPatch, progress: Progress, *arguments: str) -> int:
    patch.setattr(sys, "argv", ["lastresort", *arguments])
    patch.setattr(console, "progress", lambda: nullcontext(progress))
    return guarded(app)


def test_sigterm_ends_a_climb_after_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = scripted_task(tmp_path, quality=QUALITY), tmp_path / "run"
    words = ["climb", str(path), "--run", str(run), "--gate", "none"]
    assert lastresort(monkeypatch, Terminates(7), *words) == 4
    assert "Stopped: a signal asked to stop. Go on with --resume." in capsys.readouterr().err
    assert len(calls(tmp_path)) > 0
    assert lastresort(monkeypatch, SilentProgress(), *words, "--resume") == 0


def test_sigterm_ends_a_gate_alone_after_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(built_in, "SUITES", SUITES)
    monkeypatch.chdir(tmp_path)
    path = gated_task(tmp_path)
    words = ["gate", str(path), "--tuned", "scripted:tuned.json", "--base", "scripted:script.json", "--quick"]
    assert lastresort(monkeypatch, Terminates(2), *words) == 4
    assert "Stopped: a signal asked to stop. Give the same command again" in capsys.readouterr().err
    assert not list(tmp_path.glob("gates/*/gate.json"))
    assert lastresort(monkeypatch, SilentProgress(), *words) == 0
    assert len(list(tmp_path.glob("gates/*/gate.json"))) == 1


def test_a_second_sigterm_ends_a_climb_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class TerminatesTwice(SilentProgress):
        def advance(self, amount: int = 1, note: str = "") -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)

    path, run = scripted_task(tmp_path, quality=QUALITY), tmp_path / "run"
    assert lastresort(monkeypatch, TerminatesTwice(), "climb", str(path), "--run", str(run), "--gate", "none") == 130
    assert "Interrupted. Finished work is kept; resume with --resume." in capsys.readouterr().err


def test_the_first_request_counts_and_none_lets_work_go_on(tmp_path: Path) -> None:
    file, signal = StopFile(tmp_path / "stop"), StopSignal()
    both = FirstOf((NEVER, signal, file))
    check(both)
    file.path.touch()
    assert (found := both.requested()) is not None
    assert found.reason == "file"
    signal.request()
    assert (found := both.requested()) is not None
    assert found.reason == "signal"
