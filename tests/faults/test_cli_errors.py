"""What a user's mistake looks like at the command line: one sentence, the exit code, nothing half-written, no traceback."""

from __future__ import annotations

import errno
import json
import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from climb_support import TEAMS, rows, scripted_task
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import AGAIN, RESUME, DiskError, InfrastructureError
from lastresort.records.atomic import disk_error, disk_errors
from lastresort.records.decision import PROVISIONAL, RunView
from lastresort.systems.running import no_winner

QUALITY = [{"right": 0.97}]


def lastresort(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *arguments])
    return guarded(app)


def task_with(folder: Path, **changes: Any) -> Path:
    return scripted_task(folder, quality=QUALITY, task=changes)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def broken_rows(folder: Path, content: str | bytes) -> Path:
    path = task_with(folder)
    write(folder / "rows.jsonl", content)
    return path


CASES: dict[str, tuple[Any, str]] = {
    "no such file": (lambda f: f / "nothing.yaml", "nothing.yaml"),
    "a folder": (lambda f: f, "folder"),
    "empty": (lambda f: write(f / "t.yaml", ""), "empty"),
    "not yaml": (lambda f: write(f / "t.yaml", "task: [unclosed"), "t.yaml"),
    "not utf-8": (lambda f: write(f / "t.yaml", b"task: \xff\xfe"), "UTF-8"),
    "misspelt key": (lambda f: task_with(f, confidense=0.9), "confidence"),
    "bar in percent": (lambda f: task_with(f, bar=85), "0.85"),
    "unknown rung": (lambda f: task_with(f, ladder=["prompting", "magic"]), "magic"),
    "examples missing": (lambda f: task_with(f, examples="none.jsonl"), "none.jsonl"),
    "rows empty": (lambda f: broken_rows(f, ""), "empty"),
    "row without output": (lambda f: broken_rows(f, '{"input": "a"}\n' * 3), "output"),
    "row not json": (lambda f: broken_rows(f, '{"input": "a", "output": "billing"}\n{"input": '), "row 2"),
    "rows not utf-8": (lambda f: broken_rows(f, b'{"input": "\xff", "output": "b"}\n'), "UTF-8"),
    "too few rows": (lambda f: broken_rows(f, '{"input": "a", "output": "billing"}\n'), "rows.jsonl"),
    "test set too small": (lambda f: task_with(f, split={"dev": 60, "test": 5}), "at least"),
    "model missing": (lambda f: task_with(f, model="./no-model"), "no-model"),
    "model misspelt": (lambda f: task_with(f, model="embeded"), 'Did you mean "embedded"'),
    "script missing": (lambda f: task_with(f, model="scripted:none.json"), "none.json"),
    "group column missing": (lambda f: task_with(f, split={"dev": 60, "test": 120, "group_by": "client"}), "client"),
    "scorer with wrong labels": (lambda f: task_with(f, output={"choices": ["x", "y"]}), "choices"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_sentence(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, named = CASES[case]
    (tmp_path / "task").mkdir()
    monkeypatch.chdir(tmp_path)
    code = lastresort(monkeypatch, "climb", str(make(tmp_path / "task")))
    out, error = capsys.readouterr()
    assert code == 2, error
    told = [line for line in error.splitlines() if line.startswith("Error:")]
    assert len(told) == 1
    assert named in told[0]
    assert "Traceback" not in error
    assert not out
    assert not (tmp_path / "runs").exists()


def test_a_model_that_cannot_be_opened_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_with(tmp_path / "task", model="model")
    (tmp_path / "task" / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task)) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []
    assert lastresort(monkeypatch, "climb", str(task), "--resume") == 2
    assert "no unfinished run" in capsys.readouterr().err


def test_a_missing_key_exits_3_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_with(tmp_path / "task", model="openai:some-model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert lastresort(monkeypatch, "climb", str(task)) == 3
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_arguments_that_an_endpoint_does_not_take_leave_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_with(tmp_path / "task", model="openai:some-model", chat_template_kwargs={"enable_thinking": False})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert lastresort(monkeypatch, "climb", str(task)) == 2
    assert "takes no chat_template_kwargs" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["climb", "TASK", "--until", "retrieval"], "prompting, sft"),
        (["climb", "TASK", "--set", "split.seed"], "KEY=VALUE"),
        (["climb", "TASK", "--set", "bar=2"], "bar"),
        (["climb", "TASK", "--resume"], "no unfinished run"),
        (["climb", "TASK", "--resume", "--run", "nowhere"], "record.sqlite"),
        (["climb", "TASK", "--resume", "nowhere"], "record.sqlite"),
        (["climb", "TASK", "--resume=nowhere"], "record.sqlite"),
        (["climb", "--resume", "nowhere", "TASK"], "record.sqlite"),
        (["climb", "--resume", "TASK"], "no unfinished run"),
        (["climb", "TASK", "--resume", "a", "--run", "b"], "name the run once"),
        (["climb", "TASK", "--run", "TASK"], "found a file"),
        (["climb", "TASK", "--resume", "--run", "TASK"], "found a file"),
        (["report", "nowhere"], "nowhere"),
        (["check", "TASK"], "there is no command check. Did you mean `lastresort data check TASK`?\n"),
        (["runs"], "Did you mean `lastresort ui`?"),
        (["chat", "nowhere"], "nowhere"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = task_with(tmp_path / "task")
    monkeypatch.chdir(tmp_path)
    code = lastresort(monkeypatch, *[str(task) if word == "TASK" else word for word in arguments])
    error = capsys.readouterr().err
    assert code == 2, error
    assert named in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_what_the_system_refuses_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_with(tmp_path / "task")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs", "a file where a folder should be")
    assert lastresort(monkeypatch, "climb", str(task)) == 4
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.startswith("Error: runs")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "runs/a-1"), "runs/a-1: the system refused it (Permission"),
        (OSError(errno.EROFS, "Read-only file system", b"runs"), "runs: the system refused it (Read-only"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
    ],
)
def test_the_border_puts_the_system_in_words(error: Exception, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(error)) == 4
    shown = capsys.readouterr().err
    assert told in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "way"),
    [("merge", AGAIN), ("export", AGAIN), ("data convert", AGAIN), ("gate", AGAIN), ("climb", ""), ("train", "")],
)
def test_a_full_disk_says_how_to_go_on(
    command: str, way: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing nearer to the work said it: a climb without a record of its run has nothing to resume."""
    monkeypatch.setattr("sys.argv", ["lastresort", *command.split(), "x"])
    full = disk_error(OSError(errno.ENOSPC, "No space left on device"), Path("out"))
    for error, end in (full, way), (full.going_on(RESUME), RESUME), (InfrastructureError("lost", remedy="Wait."), ""):
        assert guarded(raising(error)) == 4
        remedy = "Free some space; nothing finished is lost." if isinstance(error, DiskError) else "Wait."
        assert " ".join(capsys.readouterr().err.split()).endswith(f"{remedy} {end}".strip())


@pytest.mark.parametrize("name", ["a" * 300, "file/x"])
def test_what_no_repetition_mends_is_not_to_be_repeated(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is too long, and a file where a folder should be."""
    monkeypatch.setattr("sys.argv", ["lastresort", "merge", "x"])
    write(tmp_path / "file", "")

    def refused(**_: Any) -> None:
        with disk_errors(tmp_path / name):
            (tmp_path / name).mkdir()

    assert guarded(refused) == 4
    assert " ".join(capsys.readouterr().err.split()).endswith("Check the disk and the permissions of the folder.")


def test_our_own_fault_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """Also an OSError that a library raises without the system having refused anything."""
    for error in (OSError("not a model"), sqlite3.OperationalError("no such table"), ValueError("x")):
        assert guarded(raising(error)) == 70
        shown = capsys.readouterr().err
        assert "Traceback" in shown
        assert "please report" in shown


def raising(error: Exception) -> Callable[..., Any]:
    def command(**_: Any) -> None:
        raise error

    return command


def test_resume_names_a_run_or_takes_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = str(scripted_task(tmp_path / "task", quality=QUALITY, script={"faults": {"fail_first": 2}}))
    monkeypatch.chdir(tmp_path)
    assert [lastresort(monkeypatch, "climb", task) for _ in range(2)] == [4, 4]
    assert lastresort(monkeypatch, "climb", task, "--resume", "runs/routing-1", "--json") == 0
    assert (tmp_path / "runs" / "routing-1" / "report.html").is_file()
    assert not (tmp_path / "runs" / "routing-2" / "report.html").exists()
    assert lastresort(monkeypatch, "climb", "--resume", task) == 0
    assert (tmp_path / "runs" / "routing-2" / "report.html").is_file()
    assert lastresort(monkeypatch, "climb", task, "--resume") == 2
    assert not (tmp_path / "runs" / "routing-3").exists()


def test_chat_brings_a_winner_back_that_was_being_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_with(tmp_path / "task")
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--run", "r") == 0
    (tmp_path / "r" / "winner").rename(tmp_path / "r" / ".winner.old")
    assert lastresort(monkeypatch, "chat", "r", "--once", "invoice lost in Oslo") == 0
    assert (tmp_path / "r" / "winner" / "system.yaml").is_file()


def test_a_leftover_of_a_killed_climb_is_no_part_of_the_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_with(tmp_path / "task")
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--run", "r") == 0
    (tmp_path / "r" / "winner.new" / "adapter").mkdir(parents=True)
    assert lastresort(monkeypatch, "climb", str(task), "--run", "r", "--resume") == 0
    assert not (tmp_path / "r" / "winner" / "adapter").exists()
    assert not (tmp_path / "r" / "winner.new").exists()


def test_a_failing_endpoint_exits_4_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = scripted_task(tmp_path / "task", quality=QUALITY, script={"faults": {"fail_first": 1}})
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--run", "r") == 4
    assert "--resume" in capsys.readouterr().err
    assert lastresort(monkeypatch, "climb", str(task), "--run", "r", "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "MET"


def test_json_puts_one_document_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from decision_support import validate_decision

    task = task_with(tmp_path / "task")
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--json") == 0
    decision = json.loads(capsys.readouterr().out)
    validate_decision(decision)
    assert lastresort(monkeypatch, "report", "runs/routing-1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == decision


def test_the_ladder_ends_with_the_report_and_how_to_use_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_with(tmp_path / "task")
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task)) == 0
    out = capsys.readouterr().out
    assert "MET" in out
    assert out.splitlines()[-2:] == [
        "report: runs/routing-1/report.html",
        "use it: lastresort chat runs/routing-1, serve runs/routing-1, or handoff runs/routing-1 --to SERVER",
    ]


def test_an_undecided_winner_is_called_provisional_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = scripted_task(
        tmp_path / "task", quality=[{"right": 0.9}], task={"split": {"dev": 60, "test": 60}, "confidence": 0.99}
    )
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--until", "prompting", "--run", "r") == 0
    *_, said, use = capsys.readouterr().out.splitlines()
    assert (said, use.split(":")[0]) == (PROVISIONAL, "use it")
    assert lastresort(monkeypatch, "chat", "r", "--once", "something that nobody knows") == 0
    out, error = capsys.readouterr()
    assert PROVISIONAL in error
    assert out == "\n"
    assert error.splitlines()[-1] == "This is none of the task's labels."
    assert lastresort(monkeypatch, "chat", "r", "--once", rows()[0]["input"]) == 0
    out, error = capsys.readouterr()
    assert out.strip() in TEAMS
    assert "labels" not in error


def test_a_run_without_a_winner_says_so_where_one_is_wanted_and_calls_nothing_provisional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = scripted_task(
        tmp_path / "task",
        quality=[{"right": 0.7}],
        task={"split": {"dev": 60, "test": 60}, "confidence": 0.99, "ladder": ["prompting"]},
    )
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--run", "r") == 0
    decision = json.loads(Path("r/decision.json").read_text("utf-8"))
    assert (decision["verdict"], decision["winner"]["path"]) == ("UNDECIDED", None)
    capsys.readouterr()
    commands = (
        ("chat", "--once", "x"),
        ("serve",),
        ("handoff", "--to", "vllm"),
        ("gate", str(task), "--tuned"),
        ("verify", "http://127.0.0.1:9/v1"),
        ("recheck",),
    )
    for name, *more in commands:
        for place in ("r", "r/winner"):
            arguments = [*more, place] if name == "gate" else [place, *more]
            assert lastresort(monkeypatch, name, *arguments) == 2
        said = capsys.readouterr().err
        assert said.count("r: this run has no winner (UNDECIDED), expected a run with one") == 2, said
        assert re.search(
            r"`lastresort report (/\S+/)?r` says what would decide it; the best that it tested opens by its own folder",
            said,
        )
    (best,) = re.findall(r"folder, (\S+)\.$", " ".join(said.split()))
    assert lastresort(monkeypatch, "chat", best, "--once", "invoice lost in Oslo") == 0
    assert lastresort(monkeypatch, "chat", best, "--once", " ") == 2
    assert "--once: found no text, expected an input to answer" in capsys.readouterr().err
    assert decision["provisional"] is False
    untested = RunView.model_validate(decision | {"rungs": []})
    assert no_winner(Path("r"), untested).remedy == "`lastresort report r` says why, and what may help."
    page = re.sub("<[^>]*>", "", Path("r/report.html").read_text("utf-8"))
    assert "PROVISIONAL" not in page
    assert "Nothing won, and a test is UNDECIDED. No rung is left to try." in page


def test_a_dry_run_asks_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_with(tmp_path / "task", use={"prompt_price": 1.0, "output_price": 2.0})
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "climb", str(task), "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [rung["name"] for rung in found["rungs"]] == ["prompting", "sft"]
    assert found["total"]["tokens_in"] > 1000
    assert lastresort(monkeypatch, "climb", str(task), "--dry-run") == 0
    assert "prompting" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "task" / "calls.jsonl").exists()


def test_help_loads_no_torch() -> None:
    import subprocess

    heavy = ("torch", "transformers", "scipy", "pandas")
    code = f"import sys; from lastresort.cli import main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A first sentence that is too long for the list of commands is cut there."""
    monkeypatch.setenv("COLUMNS", "80")
    assert lastresort(monkeypatch, "--help") == 0
    listed = capsys.readouterr().out.split("Commands:")[1].strip().splitlines()
    assert len(listed) >= len(app.registered_commands)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_the_help_of_a_climb_shows_that_a_resume_takes_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, "climb", "--help") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "--resume" in line)
    assert line.split()[:2] == ["--resume", "[RUN]"]
