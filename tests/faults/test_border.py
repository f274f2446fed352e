"""What a user sees when a command is interrupted, its output goes nowhere, or its terminal knows ASCII only."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from climb_support import calls, scripted_task
from lastresort.app.runtime import ERROR_FILE, STAGES_AS_JSON
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import InputError
from lastresort.ui.children import said_in
from processes_support import Program

QUALITY = [{"right": 0.97}]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lastresort", *arguments]


def lastresort(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *arguments])
    return guarded(app)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGINT, 130, "Interrupted. Finished work is kept; resume with --resume."),
        (signal.SIGTERM, 4, "Stopped: a signal asked to stop. Go on with --resume."),
    ],
)
def test_an_interrupted_climb_says_how_to_go_on(number: signal.Signals, code: int, last: str, tmp_path: Path) -> None:
    task = scripted_task(tmp_path / "task", quality=QUALITY, script={"delay_s": 0.05})
    climbing = Program("climb", str(task), "--run", "r", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(calls(tmp_path / "task")) < 3 and climbing.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    climbing.send_signal(number)
    out, error = climbing.communicate(timeout=60)
    assert climbing.returncode == code
    assert error.splitlines()[-1] == last
    assert "Traceback" not in error
    assert not out


def test_an_interrupted_chat_just_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted(**_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["lastresort", "chat", "r"])
    assert guarded(interrupted) == 130
    assert "--resume" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("climbed")
    task = scripted_task(folder / "task", quality=QUALITY, task={"about": "Führe jeden Fall zum Team – 条."})
    _, error = (done := Program("climb", str(task), "--run", "r", cwd=folder)).communicate()
    assert done.returncode == 0, error
    return folder / "r"


@pytest.fixture
def finished(climbed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run "r" in the current folder."""
    monkeypatch.chdir(climbed.parent)
    return climbed


@pytest.mark.slow
def test_a_pipe_that_closes_is_met_in_silence(finished: Path) -> None:
    for arguments in (["report", "r", "--json"], ["report", "r"], ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                command(*arguments), cwd=finished.parent, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
            )
        finally:
            os.close(writing)
        assert done.stderr == "", arguments
        assert done.returncode == 141, arguments


@pytest.mark.slow
def test_a_terminal_that_knows_ascii_only(finished: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    def shown(*arguments: str) -> str:
        done = subprocess.run(
            command(*arguments), cwd=finished.parent, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("ascii")

    assert "prompting" in shown("report", "r")
    assert "prompting" in shown("report", "r", "--markdown")
    assert json.loads(shown("report", "r", "--json")) == json.loads((finished / "decision.json").read_text())
    assert shown("climb", "task/task.yaml", "--dry-run")
    assert json.loads(shown("data", "check", "task/task.yaml", "--json"))


def test_a_file_is_no_run(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("report", "chat"):
        assert lastresort(monkeypatch, name, "task/task.yaml") == 2
        error = capsys.readouterr().err
        assert "task.yaml" in error
        assert "expected" in error
        assert "could not be written" not in error


def test_a_gate_that_is_none_is_told_and_the_near_one_named(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, "climb", "task/task.yaml", "--gate", "quik") == 2
    error = capsys.readouterr().err
    assert error == 'Error: --gate: found "quik", expected quick, full, none. Did you mean "quick"?\n'


def test_both_forms_of_a_report_at_once_are_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, "report", "r", "--json", "--markdown") == 2
    out, error = capsys.readouterr()
    assert not out
    assert "--markdown" in error


def test_what_cannot_be_read_is_not_said_to_be_unwritten(capsys: pytest.CaptureFixture[str]) -> None:
    def unreadable(**_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "model/config.json")

    assert guarded(unreadable) == 4
    assert capsys.readouterr().err.startswith("Error: model/config.json: the system refused it (Permission denied).")


def test_a_page_gets_an_error_as_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, also where it has several lines."""

    def refused(**_: object) -> None:
        raise InputError('found "Error: a\nb"', where="x.yaml", remedy="Mend it.")

    assert guarded(refused) == 2
    sentence = capsys.readouterr().err
    monkeypatch.setenv(STAGES_AS_JSON, "yes")
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "error.json"))
    assert guarded(refused) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"Error: {said_in(line)}\n" == sentence == 'Error: x.yaml: found "Error: a\nb". Mend it.\n'
    assert (tmp_path / "error.json").read_text() == line
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "error.json").stat().st_mode) == 0o600, "it may quote rows, as the log may"
    assert (said_in("killed"), said_in('{"label": "loading"}')) == ("killed", "")


@pytest.mark.parametrize("shown", ["-3", "x"])
def test_rows_to_show_are_a_count(shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    task = scripted_task(tmp_path / "task", quality=QUALITY)
    assert lastresort(monkeypatch, "data", "check", str(task), "--show", shown) == 2
    assert "--show" in capsys.readouterr().err


SCORER = """\
print("loading")
def score(answer, expected) -> bool:
    print("scoring", answer)
    return answer == expected
"""


def test_a_scorer_that_prints_leaves_one_document_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    task = scripted_task(tmp_path / "task", quality=QUALITY, task={"score": {"python": "metrics.py:score"}})
    (tmp_path / "task" / "metrics.py").write_text(SCORER)
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--json") == 0
    out, error = capfd.readouterr()
    assert json.loads(out)["verdict"] == "MET"
    assert "loading" in error
    assert "scoring" in error


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("text", "answers"),
    [("invoice lost in Oslo\n\n\nkettle gone\n", 2), ("\n\ninvoice lost\n", 1), ("", 0), ("no line end", 1)],
)
def test_chat_answers_every_piped_line(text: str, answers: int, finished: Path) -> None:
    done = subprocess.run(
        command("chat", "r"), cwd=finished.parent, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == answers


def test_chat_takes_bytes_that_are_no_text(finished: Path) -> None:
    done = subprocess.run(command("chat", "r"), cwd=finished.parent, input=b"a\xff\n", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_a_tokenizer_that_gives_up_on_a_text_ends_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """The library panics, which is no Exception of Python's."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    assert guarded(lambda standalone_mode: split.pre_tokenize_str("a" * 40 + "!")) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.startswith("Error: a library gave up on a text (PanicException: ")
