"""A run that somebody shared cannot send a key or an input to an endpoint that its user did not name."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import lastresort
from endpoint_support import KEY, Endpoint, completion, echo, serving
from lastresort.app.recheck import recheck_run
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import InputError
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.systems.files import save_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, SilentProgress
from recheck_support import tuned_run

ELSEWHERE = "https://models.example/v1#m"
HOSTS, ONE = "LASTRESORT_API_HOSTS", "LASTRESORT_API_KEY"


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONE, KEY)
    for name in (HOSTS, "LASTRESORT_API_KEYS", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def shared(folder: Path, model: str) -> Path:
    """A saved system as somebody might send it."""
    save_system(System("zero-shot", model, PromptDesign("Be brief."), Decoding(8)), folder)
    return folder


def lastresort_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["lastresort", *arguments])
    capsys.readouterr()
    code = guarded(app)
    out, error = capsys.readouterr()
    return code, out, error


class Terminal(io.StringIO):
    """stdin of someone who types this."""

    def isatty(self) -> bool:
        return True


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(line))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_chat_without_a_terminal_refuses_an_endpoint_that_only_the_run_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shared(tmp_path / "run", ELSEWHERE)
    code, out, error = lastresort_says(monkeypatch, capsys, "chat", str(run), "--once", "hello")
    assert (code, out) == (2, "")
    assert error.count("\n") == 1
    assert f"set {HOSTS}=models.example" in error
    assert KEY not in error
    with pytest.raises(InputError, match=HOSTS):
        lastresort.open_system(run)
    monkeypatch.setenv(HOSTS, "models.example")
    lastresort.open_system(run).close()


@pytest.mark.parametrize("line", ["", "\n", "n\n", "no\n", "yep\n", "maybe\n"])
def test_chat_at_a_terminal_takes_anything_but_yes_for_no(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shared(tmp_path / "run", f"{ELSEWHERE}\u202e\x1b[2J")
    at_a_terminal(monkeypatch, line)
    code, _, error = lastresort_says(monkeypatch, capsys, "chat", str(run), "--once", "hello")
    assert code == 2
    assert f"sends its inputs to {ELSEWHERE}" in error
    assert f"with {ONE}. Continue? [y/N]" in error
    assert not {"\x1b", "\u202e"} & set(error)


@pytest.mark.parametrize("line", ["y\n", " YES \n"])
def test_chat_at_a_terminal_asks_once_and_goes_on(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("lastresort.cli.runs.print_answer", lambda running, *_: opened.append(running.system.model))
    at_a_terminal(monkeypatch, line)
    run = shared(tmp_path / "run", ELSEWHERE)
    code, _, error = lastresort_says(monkeypatch, capsys, "chat", str(run), "--once", "hello")
    assert (code, opened) == (0, [ELSEWHERE])
    assert error.count("[y/N]") == 1


def test_a_server_on_this_machine_is_asked_without_the_key(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lastresort.types import Message

    server.otherwise = lambda handler, _: handler.send(200, completion("hi", usage={}))
    run = shared(tmp_path / "run", server.name)
    running = lastresort.open_system(run)
    assert running.answer([[Message("user", "hello")]])[0].text == "hi"
    assert KEY not in str(server.headers[0])
    monkeypatch.setenv(HOSTS, f"127.0.0.1:{server.server_port}")
    lastresort.open_system(run).answer([[Message("user", "hello")]])
    assert server.headers[1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "name",
    [
        "http://models.example/v1#m",
        "https://127.0.0.1.example/v1#m",
        "http://169.254.169.254/latest/meta-data#m",
        "https://localhost@models.example/v1#m",
        "https://models.example\\@localhost/v1#m",
    ],
)
def test_a_run_cannot_dress_its_endpoint_up(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        lastresort.open_system(shared(tmp_path / "run", name))
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def opened(tmp_path: Path, named: list[str]) -> OpenModels:
    cache = ResponseCache(tmp_path / "responses.sqlite")
    return OpenModels(cache, base_folder=tmp_path, base_name=ELSEWHERE, tuned_name=ELSEWHERE, named=named)


def test_a_candidate_of_a_climb_cannot_name_another_endpoint_than_its_task(tmp_path: Path) -> None:
    """Repairs, comparisons and resumed climbs load the systems that are in the run."""
    system = System("zero-shot", ELSEWHERE, PromptDesign("Be brief."), Decoding(8))
    models = opened(tmp_path, [ELSEWHERE])
    assert models.open(system).name == ELSEWHERE
    models.close()
    models = opened(tmp_path, ["https://gpu7.example/v1#m"])
    with pytest.raises(InputError, match=f"set {HOSTS}=models.example"):
        models.open(system)
    with pytest.raises(InputError, match=f"set {HOSTS}=models.example"):
        models.judge(ELSEWHERE, prompt_price=0.0, output_price=0.0)


def test_a_recheck_asks_before_it_sends_the_examples_elsewhere(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tuned_run(tmp_path)
    (tmp_path / "new.txt").write_text("Name the team.")
    for path in run.rglob("system.yaml"):
        if "winner" not in path.parts:
            body = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump({**body, "model": ELSEWHERE}))
    questions: list[str] = []

    def no(question: str) -> bool:
        questions.append(question)
        return False

    with pytest.raises(InputError, match=f"set {HOSTS}=models.example"):
        recheck_run(run, SilentProgress(), approve=no, prompt=tmp_path / "new.txt")
    assert len(questions) == 1
    assert ELSEWHERE in questions[0]


def test_a_recheck_with_a_model_that_its_user_names_needs_no_question(server: Endpoint, tmp_path: Path) -> None:
    run = tuned_run(tmp_path)
    server.otherwise = echo
    done = recheck_run(run, SilentProgress(), model=server.name, quick=True)
    assert done.path.is_file()
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_winner_that_the_gate_reads_names_no_endpoint(tmp_path: Path) -> None:
    """Its weights lie in its folder, and its base is the user's."""
    from lastresort.gate.sides import resolve_sides

    folder, base = shared(tmp_path / "winner", "embedded"), "http://localhost:9/v1#m"
    body = yaml.safe_load((folder / "system.yaml").read_text())
    for changed in ({"model": ELSEWHERE}, {"model": ELSEWHERE, "tuned_from": "embedded"}):
        (folder / "system.yaml").write_text(yaml.safe_dump({**body, **changed}))
        with pytest.raises(InputError):
            resolve_sides(base, str(folder), {}, tmp_path)


def test_a_document_on_stdout_and_a_table_show_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    from lastresort.app.console import SafeConsole
    from lastresort.app.terminal import print_document

    print_document({"answer": f"it is {KEY}", "list": [KEY]})
    table = Table("answer")
    table.add_row(f"it is {KEY}")
    SafeConsole(file=sys.stdout, width=200).print(table, KEY)
    out = capsys.readouterr().out
    assert KEY not in out
    assert out.count("***") == 4
    assert json.loads(out[: out.rindex("}") + 1]) == {"answer": "it is ***", "list": ["***"]}
