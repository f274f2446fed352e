"""A climb killed with SIGKILL at random moments goes on with --resume to the same decision, repeating no finished measurement."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from climb_support import calls, comparable, scripted_task
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from processes_support import Program

QUALITY = [{"right": 0.3}, {"right": 0.97, "min_shots": 5}]
SLOW = {"delay_s": 0.004}  # so that the climb's own work, not its start, is what is cut


def command(task: Path, *arguments: str) -> list[str]:
    return ["climb", str(task), "--json", *arguments]


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], float, int]:
    """The decision of a climb that nobody kills, how long it took, and how many calls it made."""
    folder = tmp_path_factory.mktemp("uncut")
    task = scripted_task(folder / "task", quality=QUALITY, script=SLOW)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        began = time.monotonic()
        assert here(command(task), patch) == 0
    return comparable(json.loads(out.getvalue())), time.monotonic() - began, len(calls(folder / "task"))


def here(words: list[str], patch: pytest.MonkeyPatch) -> int:
    """The command in this process: starting one takes three times as long as the climb."""
    patch.setattr(sys, "argv", ["lastresort", *words])
    return guarded(app)


def resume(task: Path, tmp_path: Path) -> str:
    words = [sys.executable, "-m", "lastresort", *command(task, "--run", "runs/r", "--resume")]
    resumed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    return resumed.stdout


def resume_here(task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    code = here(command(task, "--run", "runs/r", "--resume"), monkeypatch)
    out, error = capsys.readouterr()
    assert code == 0, error
    return out


@pytest.mark.sampled_slow(3)
@pytest.mark.sampled(10)
@pytest.mark.parametrize("seed", range(10))
def test_killed_and_resumed(
    seed: int,
    tmp_path: Path,
    uncut: tuple[dict[str, object], float, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    decision, seconds, n_calls = uncut
    task = scripted_task(tmp_path / "task", quality=QUALITY, script=SLOW)
    climbing = Program(*command(task, "--run", "runs/r"), cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "runs" / "r" / "record.sqlite").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, seconds))
    climbing.kill()
    finished = (tmp_path / "runs" / "r" / "decision.json").exists()
    before = len(calls(tmp_path / "task"))
    said = resume(task, tmp_path) if seed == 0 else resume_here(task, monkeypatch, capsys)
    assert comparable(json.loads(said)) == decision
    asked = calls(tmp_path / "task")
    repeated = sum(count - 1 for count in Counter(json.dumps(call["key"]) for call in asked).values())
    assert repeated <= 1, "at most the call that was under way when it was killed"
    assert len(asked) - repeated == n_calls
    if finished:
        assert len(asked) == before
