"""`lastresort demo`: an example from any folder."""

from pathlib import Path

import pytest

from lastresort.app.examples import example_task, example_tasks
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import InputError, PrerequisiteError
from lastresort.spec.task import load_task

NAMES = {"harbour", "tickets", "json-only", "handbook", "voice", "sums", "jargon"}


def test_every_example_is_found_and_loads() -> None:
    tasks = example_tasks()
    assert set(tasks) == NAMES
    for path in tasks.values():
        assert load_task(path).model == "embedded"


def test_a_wrong_name_is_told_with_the_near_one() -> None:
    with pytest.raises(InputError, match=r'no example "ticket".*Did you mean "tickets"'):
        example_task("ticket")


def test_a_program_without_its_examples_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lastresort.app.examples.PLACES", (tmp_path / "examples",))
    with pytest.raises(PrerequisiteError, match="no examples"):
        example_tasks()


def test_the_list_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lastresort", "demo", "--list"])
    assert guarded(app) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(":")[0] for line in lines} == NAMES
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "name", "gate", "run"),
    [([], "harbour", "full", None), (["voice", "--gate", "none", "--run", "here"], "voice", "none", Path("here"))],
)
def test_the_climb_gets_the_task_the_gate_and_the_run(
    monkeypatch: pytest.MonkeyPatch, words: list[str], name: str, gate: str, run: Path | None
) -> None:
    from lastresort.app import start

    class Caught(Exception):
        pass

    def caught(request: start.ClimbRequest, *_: object) -> None:
        assert request == start.ClimbRequest(example_task(name), gate=gate, run=run)
        raise Caught

    monkeypatch.setattr("lastresort.app.start.start_climb", caught)
    monkeypatch.setattr("sys.argv", ["lastresort", "demo", *words])
    with pytest.raises(Caught):
        app(standalone_mode=False)
