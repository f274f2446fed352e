"""`lastresort recheck` at the command line: exit codes, one JSON document, one sentence for a mistake."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.models.scripted import ScriptedModel
from lastresort.types import Answer
from recheck_support import asked, copied, newer, right, scripted, tuned_run


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory.mktemp("tuned"))


@pytest.fixture
def run(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copied(tuned, tmp_path)


def lastresort(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *arguments])
    with scripted("sft"):
        return guarded(app)


@pytest.mark.parametrize(
    ("share", "code", "verdict"), [(0.3, 0, "STILL_NEEDED"), (0.98, 1, "NO_LONGER_NEEDED"), (0.76, 0, "CANNOT_TELL")]
)
def test_exit_code_1_says_no(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    share: float,
    code: int,
    verdict: str,
) -> None:
    newer(run.parent.parent, **right(share, answers_from=["task/rows.jsonl"]))
    assert lastresort(monkeypatch, "recheck", str(run), "--model", "scripted:newer.json", "--json") == code
    out, error = capsys.readouterr()
    document = json.loads(out)
    assert document["verdict"] == verdict
    assert document == json.loads((run / "recheck-1.json").read_text())
    assert "testing" in error  # progress goes there


def test_the_terminal_shows_answer_systems_and_reasons(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    newer(run.parent.parent, **right(0.3, answers_from=["task/rows.jsonl"]))
    assert lastresort(monkeypatch, "recheck", str(run), "--model", "scripted:newer.json") == 0
    out, _ = capsys.readouterr()
    flat = " ".join(out.split())
    assert "Yes, the tuned model is still needed" in flat
    assert "× NOT MET" in flat
    assert "sft (the run's winner)" in flat
    assert "This is look 1 at the frozen test set since the climb." in flat
    assert "written: " in out
    assert max(map(len, out.splitlines()[:-1])) <= 80


def test_a_prompt_is_read_from_its_file(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = run.parent.parent / "prompt.txt"
    prompt.write_text("Say which team it is.\n", encoding="utf-8")
    assert lastresort(monkeypatch, "recheck", str(run), "--prompt", str(prompt), "--quick", "--json") == 0
    assert json.loads(capsys.readouterr()[0])["new"]["prompt"] == "Say which team it is."
    prompt.write_text("\n", encoding="utf-8")
    assert lastresort(monkeypatch, "recheck", str(run), "--prompt", str(prompt)) == 2
    assert "the file is empty, expected an instruction" in capsys.readouterr()[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["RUN"], 2, "names no knowledge that could have changed"),
        (["nowhere", "--model", "x"], 2, "found no record.sqlite"),
        (["RUN", "--model", "scripted:none.json"], 2, "none.json"),
        (["RUN", "--model", "./none"], 2, "nothing on disk"),
        (["RUN", "--model", "scripted:task/script.json"], 2, "is the model of the run"),
        (["RUN", "--model", "x", "--knowledge", "task"], 2, "one change at a time"),
        (["RUN", "--prompt-price", "1"], 2, "a price without --model"),
        (["RUN", "--prompt", "none.txt"], 2, "found no file, expected a file with an instruction"),
        (["RUN", "--model", "x", "--task", "none.yaml"], 2, "no such file"),
    ],
)
def test_a_mistake_is_one_sentence(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    found = lastresort(monkeypatch, "recheck", *(str(run) if word == "RUN" else word for word in arguments))
    out, error = capsys.readouterr()
    assert found == code
    assert says in error
    assert "Traceback" not in error
    assert not out
    assert not list(run.glob("recheck-*.json"))


def test_an_endpoint_that_fails_is_exit_code_4(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    newer(run.parent.parent, **right(0.3, answers_from=["task/rows.jsonl"], faults={"fail_at": [20]}))
    words = ("recheck", str(run), "--model", "scripted:newer.json")
    assert lastresort(monkeypatch, *words) == 4
    assert "Give the same command again: what was answered is kept." in capsys.readouterr()[1]
    assert lastresort(monkeypatch, *words) == 0


def answering(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something while the newer model answers its second batch."""
    generate, batches = ScriptedModel.generate, []

    def generate_and_act(model: ScriptedModel, *arguments: Any) -> list[Answer]:
        if "newer" in model.name:
            batches.append(1)
            if len(batches) == 2:
                act()
        return generate(model, *arguments)

    monkeypatch.setattr(ScriptedModel, "generate", generate_and_act)


@pytest.mark.parametrize("how", ["SIGTERM", "file"])
def test_a_recheck_that_is_asked_to_stop_is_resumed_by_the_same_command(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    folder = run.parent.parent
    newer(folder, **right(0.3, answers_from=["task/rows.jsonl"]))
    words = ("recheck", str(run), "--model", "scripted:newer.json")
    stop, found = run / "stop", "a signal asked to stop"
    with monkeypatch.context() as patch:
        if how == "file":
            answering(patch, stop.touch)
            found = f"{stop}: the file asks to stop"
        else:
            answering(patch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert lastresort(patch, *words) == 4
    assert f"Stopped: {found}. Give the same command again: what was answered is kept." in capsys.readouterr()[1]
    assert not stop.exists()
    assert not list(run.glob("recheck-*.json"))
    answered = asked(folder)
    assert lastresort(monkeypatch, *words) == 0
    whole = copied(run, folder / "whole")
    newer(whole.parent.parent, **right(0.3, answers_from=["task/rows.jsonl"]))
    assert lastresort(monkeypatch, "recheck", str(whole), "--model", f"scripted:{folder}/whole/newer.json") == 0
    assert 0 < answered < asked(folder) == asked(folder / "whole")
