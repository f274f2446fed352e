"""Text from outside cannot act on the terminal, and no key is shown there."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

import lastresort
from lastresort.app.console import SafeConsole
from lastresort.app.console import progress as on_stderr
from lastresort.app.terminal import UNSAFE, escaped, print_answer, print_document
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import TaskError
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.types import Answer

SOURCE = Path(lastresort.__file__).parent
HOSTILE = "a\x1b]0;gotcha\x07\x1b[2J\x9b31m\x7f\b\r\u202eb\u2066c"
KEY = "sk-a-key-that-must-not-be-seen"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_become_readable_and_text_stays() -> None:
    assert escaped("\x1b[2J\x9b\x7f\x00") == "\\x1b[2J\\x9b\\x7f\\x00"
    assert escaped("\u202eabc\u2069") == "\\u202eabc\\u2069"
    plain = "Grüße\tan\n条 😀 👩‍👩‍👧 עברית \u200f81.3\u00a0%"
    assert escaped(plain) == plain
    assert escaped("one\r\ntwo\rthree") == "one\ntwo\\rthree"
    assert escaped("half \ud83d") == "half \\ud83d"


def fails(error: Exception) -> Any:
    def command(**_: Any) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"), [(TaskError(f"found {HOSTILE} {KEY}"), 2), (KeyError(f"{HOSTILE} {KEY}"), 70)]
)
def test_an_error_shows_neither_control_characters_nor_keys(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LASTRESORT_API_KEY", KEY)
    assert guarded(fails(error)) == code
    said = capsys.readouterr().err
    assert "gotcha" in said
    assert "***" in said
    assert KEY not in said
    assert not UNSAFE.search(said)


def test_a_wrong_command_shows_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lastresort", "climb", f"--{HOSTILE}"])
    assert guarded(app) == 2
    said = capsys.readouterr().err
    assert "gotcha" in said
    assert not UNSAFE.search(said)


def test_a_logged_warning_shows_neither_control_characters_nor_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LASTRESORT_API_KEY", KEY)
    log = logging.getLogger("lastresort.records.responses")
    assert guarded(lambda **_: log.warning("%s %s", HOSTILE, KEY)) == 0
    said = capsys.readouterr().err
    assert said == f"{escaped(HOSTILE)} ***\n"


def test_a_table_shows_no_control_characters() -> None:
    table, out = Table("label", "score"), io.StringIO()
    table.add_row(HOSTILE, "1")
    SafeConsole(file=out, width=200).print(table, HOSTILE)
    assert out.getvalue().count("gotcha") == 2
    assert not UNSAFE.search(out.getvalue())


@pytest.mark.parametrize("screen", [Screen(), io.StringIO()], ids=["terminal", "pipe"])
def test_progress_shows_nothing_of_what_a_label_holds(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with on_stderr() as progress:
        progress.stage(f"stage {HOSTILE}", 3)
        progress.advance(1, note=f"note {HOSTILE}")
        progress.say(f"said {HOSTILE}")
    drawn = screen.getvalue()
    assert f"said {escaped(HOSTILE)}" in drawn
    assert f"stage {escaped(HOSTILE)}" in drawn
    assert "\x1b]0;" not in drawn
    assert not set("\x07\x7f\x9b\u202e\u2066\b") & set(drawn)


def test_an_answer_in_a_chat_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    class Running:
        def stream(self, _: Any, *, on_answer: Any) -> Iterator[str]:
            text = f"line\n{HOSTILE}"
            yield from text  # cut everywhere, as a stream may be
            on_answer(0, Answer(text, 1, 1, "stop", passages=(HOSTILE,)))

    print_answer(Running(), "a", AnswerForm())  # type: ignore[arg-type]
    out, said = capsys.readouterr()
    assert out == f"line\n{escaped(HOSTILE)}\n"
    assert said == f"[1] {escaped(HOSTILE)}\n"


def test_a_document_is_the_same_to_who_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    document = {HOSTILE: [HOSTILE, "Grüße\t条\n"]}
    print_document(document)
    out = capsys.readouterr().out
    assert json.loads(out) == document
    assert not UNSAFE.search(out)


PRINTING = {
    "print",
    "Console",
    "echo",
    "secho",
    "typer.echo",
    "typer.secho",
    "stdout.write",
    "stderr.write",
    "os.write",
}
MAY_PRINT = {
    "app/terminal.py": {"print"},
    "app/runtime.py": {
        "os.write"
    },  # the last words of a command, which are ours, and a byte to the process that watches it
    "cli/main.py": {"typer.echo"},  # the version
    "report/notebook.py": {"Console"},  # into a text, whose lines a notebook gets as HTML
    "evals/user_code/process.py": {"stderr.write"},  # what test_scorer_faults.py looks at
}


def prints(tree: ast.Module) -> set[str]:
    """The calls that write to the terminal."""
    found = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute):
            owner = getattr(call.func, "value", None)
            name = getattr(owner, "attr", getattr(owner, "id", ""))  # sys.stdout.write, and os.write
            found.add(f"{name}.{call.func.attr}" if isinstance(call.func, ast.Attribute) else call.func.id)
    return found & PRINTING


@pytest.mark.slow
def test_nothing_is_printed_past_the_place_that_escapes() -> None:
    printed = {
        path.relative_to(SOURCE).as_posix(): calls
        for path in sorted(SOURCE.rglob("*.py"))
        if (calls := prints(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert printed == MAY_PRINT


@pytest.mark.parametrize(
    "line", ["print(a)", "sys.stdout.write(a)", "typer.echo(a)", "stderr.write(a)", "os.write(2, a)"]
)
def test_such_a_line_is_noticed(line: str) -> None:
    assert prints(ast.parse(line))
