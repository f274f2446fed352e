"""A climb that is asked to stop: at the next check, resumable, and with the decision of one that was not asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from climb_support import calls, comparable, scripted_task
from lastresort.app.climb import climb
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import StopRequestedError
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, FirstOf, StopFile, StopRequest, StopSignal, check
from lastresort.types import Silent

QUALITY = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]


class AsksAfter(Silent):
    """Somebody who asks the run to stop after so many batches."""

    def __init__(self, folder: Path, batches: int) -> None:
        self._file, self._batches = folder / "stop", batches

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._batches -= 1
        if self._batches == 0:
            self._file.touch()


@pytest.mark.parametrize("batches", [1, 7, 30])
def test_a_stop_file_ends_a_climb_that_goes_on_to_the_same_decision(batches: int, tmp_path: Path) -> None:
    whole = climb(
        load_task(scripted_task(tmp_path / "whole", quality=QUALITY)), tmp_path / "whole" / "run", gate="none"
    )
    task, run = load_task(scripted_task(tmp_path / "asked", quality=QUALITY)), tmp_path / "asked" / "run"
    with pytest.raises(StopRequestedError, match=r"stop: the file asks to stop.*--resume"):
        climb(task, run, gate="none", progress=AsksAfter(run, batches))
    assert not (run / "stop").exists()
    assert not (run / "decision.json").exists()
    asked = len(calls(tmp_path / "asked"))
    assert comparable(climb(task, run, gate="none").decision) == comparable(whole.decision)
    assert len(calls(tmp_path / "asked")) == len(calls(tmp_path / "whole")) > asked


def test_a_signal_ends_it_alike_and_a_request_that_came_too_late_is_taken_away(tmp_path: Path) -> None:
    task, run, stop = load_task(scripted_task(tmp_path, quality=QUALITY)), tmp_path / "run", StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError, match="a signal asked to stop"):
        climb(task, run, gate="none", stop=stop)
    climb(task, run, gate="none")
    (run / "stop").touch()
    climb(task, run, gate="none")
    assert not (run / "stop").exists()


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
