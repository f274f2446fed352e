"""The folder of a study is not taken for that of a climb: `watch`, `report` and whoever opens it say what is so, and what to do."""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from climb_support import scripted_task
from lastresort.app.climb import climb
from lastresort.app.runs import Run
from lastresort.app.study import StudyRequest, ready_study, run_study
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb.workspace import newest_run
from lastresort.errors import BudgetError, DataError, InfrastructureError, InputError, StopRequestedError, TaskError
from lastresort.records.atomic import disk_error, held
from lastresort.spec.task import given_task, load_task
from lastresort.stop import StopSignal
from lastresort.study.cells import CellBench, WantedCell
from lastresort.study.grid import Cell
from lastresort.study.rows import CellRow
from lastresort.systems.running import open_system
from lastresort.types import SilentProgress
from lastresort.ui.workspace import Workspace
from study_support import row_of
from tuning_support import COLOURS, Cut, CutAt, tiny_task

QUIET = SilentProgress()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRequest:
    """Whose cells are those of a table, so that nothing is trained."""
    path = tiny_task(tmp_path / "task", output={"choices": list(COLOURS)}, score="choice")

    def prompts(
        shared: CellBench, wanted: Sequence[WantedCell], begin: Any, keep: Callable[[CellRow], None], _: Any
    ) -> None:
        for one in wanted:
            begin(one)
            keep(training(shared, one))

    def training(shared: CellBench, wanted: WantedCell, *_: Any) -> CellRow:
        return _row(wanted.cell, wanted.key, len(shared.bench.dev))

    monkeypatch.setattr("lastresort.study.run.run_prompts", prompts)
    monkeypatch.setattr("lastresort.study.run.run_training", training)
    monkeypatch.chdir(tmp_path)
    return StudyRequest("min-data", path, {"sft.epochs": 1}, (16, 40), 2, tmp_path / "studies" / "own")


def _row(cell: Cell, key: str, items: int) -> CellRow:
    found = row_of(cell, 0.2 if cell.way == "zero-shot" else 0.9, key=key)
    parts = ("scores", "format_ok", "prompt_tokens", "answer_tokens", "answer_s")
    return found.replaced(**{name: getattr(found, name)[:items] for name in parts})


def command(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["lastresort", *words])
        return guarded(app)


def test_watch_and_report_of_a_finished_study_say_what_it_found(
    own: StudyRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_study(own, QUIET)
    found.report.unlink()
    for name in ("watch", "report"):
        assert command(name, "studies/own") == 0
        out, error = capsys.readouterr()
        assert found.answer in " ".join(out.split())
        assert ("report: " in out, error) == (name == "report", ""), "none that is not there"
    assert found.report.is_file(), "report draws it again"
    found.report.unlink()
    assert command("report", "studies/own", "--json") == 0
    assert not found.report.exists(), "which writes nothing"
    assert json.loads(capsys.readouterr().out) == found.document.as_json()
    assert command("report", "studies/own", "--markdown") == 2
    assert "--markdown for a study" in capsys.readouterr().err


def test_what_a_study_found_is_printed_where_its_page_cannot_be_written(
    own: StudyRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_study(own, QUIET)
    found.report.unlink()

    def refused(path: Path, _: str) -> None:
        raise disk_error(OSError(errno.EROFS, os.strerror(errno.EROFS)), path)

    monkeypatch.setattr("lastresort.records.atomic.write_atomically", refused)
    assert command("report", "studies/own") == 0
    out, error = capsys.readouterr()
    assert found.answer in " ".join(out.split())
    assert "report: " not in out
    assert error.startswith(f"{found.report.name} was not redrawn. ")


def test_a_study_that_stopped_names_its_own_command_and_that_goes_on(
    own: StudyRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = CutAt("opening the model", 3)
    with pytest.raises(Cut):
        run_study(own, progress)
    for name in ("watch", "report"):
        assert command(name, "studies/own") == 0
        out, error = capsys.readouterr()
        assert "The min-data study has not finished: 0 of 5 cells done" in out
        assert "It ended before it finished: it was refused, failed, was killed" in error
        assert "climb" not in out + error
    again = error.strip().partition("To resume it, run: ")[2]
    assert (
        again == "lastresort study min-data task/task.yaml --out studies/own --sizes 16,40 --seeds 2 --set sft.epochs=1"
    )
    assert command("report", "studies/own", "--json") != 0
    assert "the study has not finished" in capsys.readouterr().err
    assert command(*shlex.split(again)[1:]) == 0
    assert command("watch", "studies/own") == 0
    assert "has not finished" not in capsys.readouterr().out


def test_a_study_that_ended_with_an_error_says_it_and_goes_on(
    own: StudyRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = InfrastructureError("no worker could start", where="--ray", remedy="Check the cluster.")
    with monkeypatch.context() as patched:
        patched.setattr("lastresort.study.run.run_prompts", Mock(side_effect=failure))
        with pytest.raises(InfrastructureError):
            run_study(own, SilentProgress())
    assert command("watch", "studies/own") == 0
    said = f"It ended with an error before it finished: {failure} No process is running this study. To resume it, run: "
    assert said in capsys.readouterr().err
    run_study(own, SilentProgress())
    assert command("watch", "studies/own") == 0
    assert "error" not in "".join(capsys.readouterr())


def test_a_folder_that_is_being_opened_is_a_studys(
    own: StudyRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr("lastresort.study.run.ResponseCache", killed)
        with pytest.raises(Cut):
            run_study(own, QUIET)
    for name in ("watch", "report"):
        assert command(name, "studies/own") == 0
        out, error = capsys.readouterr()
        assert "The min-data study has not finished" in out
        assert "To resume it, run: lastresort study min-data" in error


@pytest.mark.slow
def test_a_rerun_that_is_refused_leaves_the_end_as_it_was(
    own: StudyRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise InputError("found a row that is too long")

    stop = StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError):
        run_study(own, QUIET, stop)
    for end in ("A signal to its process", ""):
        with monkeypatch.context() as patch:
            patch.setattr("lastresort.study.run.refuse_what_fits_no_prompt", refused)
            with pytest.raises(InputError, match="too long"):
                run_study(replace(own, seeds=3), QUIET)
        assert command("report", "studies/own") == 0
        out, error = capsys.readouterr()
        assert error.startswith(end) if end else error == ""
        found = run_study(own, QUIET)
    assert found.answer in " ".join(out.split())


@pytest.mark.slow
def test_a_rerun_that_is_refused_leaves_a_study_that_died_as_it_was(
    own: StudyRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    too_long = InputError("found a row that is too long")
    for name, end in (("run_prompts", Cut()), ("refuse_what_fits_no_prompt", too_long)):
        with monkeypatch.context() as patch:
            patch.setattr(f"lastresort.study.run.{name}", Mock(side_effect=end))
            with pytest.raises(type(end)):
                run_study(own, QUIET)
    assert command("report", "studies/own") == 0
    assert "It ended before it finished: it was refused, failed, was killed" in capsys.readouterr().err


def test_a_new_study_that_is_refused_as_its_model_opens_says_why(
    own: StudyRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder stays, and no earlier end is there to be kept."""
    refused = Mock(side_effect=InputError("found a row that is too long"))
    monkeypatch.setattr("lastresort.study.run.refuse_what_fits_no_prompt", refused)
    with pytest.raises(InputError):
        run_study(own, QUIET)
    assert command("report", "studies/own") == 0
    assert "It ended with an error before it finished: found a row that is too long" in capsys.readouterr().err


def test_a_folder_holds_one_kind_of_study(own: StudyRequest) -> None:
    with pytest.raises(Cut):
        run_study(own, CutAt("opening the model", 3))
    with pytest.raises(InputError, match=r"--out .*: found a study \(min-data\), expected a new folder"):
        run_study(replace(own, kind="crossover"), QUIET)


def test_workers_are_asked_for_again(
    own: StudyRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.app.spread.study_on_ray", lambda *_: nullcontext())
    with pytest.raises(Cut):
        run_study(replace(own, ray="auto"), CutAt("opening the model", 3))
    assert command("report", "studies/own") == 0
    assert capsys.readouterr().err.endswith(
        "--set sft.epochs=1 (it runs on this machine alone: add --ray, as before, for workers)\n"
    )


def test_no_page_and_no_resume_takes_it_for_a_run(own: StudyRequest) -> None:
    with pytest.raises(Cut):
        run_study(replace(own, out=Path("runs/tiny-1")), CutAt("opening the model", 3))
    with pytest.raises(TaskError, match="no unfinished run of task tiny"):
        newest_run(Path("runs"), "tiny", unfinished=True)
    assert "found a study (min-data)" in str(Workspace(Path.cwd()).state("tiny-1").fault)


@pytest.mark.slow
def test_it_says_who_stopped_it_and_a_later_session_counts(
    own: StudyRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(own, QUIET)
    stop = StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError):
        run_study(replace(own, sizes=(16, 30, 40)), QUIET, stop)
    assert command("watch", "studies/own") == 0
    out, error = capsys.readouterr()
    assert "5 of 7 cells done" in out
    assert "A signal to its process (such as Ctrl-C) stopped it" in error
    with pytest.raises(BudgetError):
        run_study(replace(own, sizes=(16, 30, 40), settings={"limits.hours": 1e-9, "sft.epochs": 2}), QUIET)
    assert command("watch", "studies/own") == 0
    assert "0 of 7 cells done" in capsys.readouterr().out, "of other epochs"
    assert command("report", "studies/own") == 0
    assert "To resume it, raise the limit and run: lastresort study" in capsys.readouterr().err
    with held(Path("studies/own"), "held", expected="", remedy=""):
        assert command("report", "studies/own") == 0
    out, error = capsys.readouterr()
    assert ("The min-data study is running" in out, error) == (True, "")


def test_a_study_of_another_command_is_not_said_to_have_died(
    own: StudyRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """`data synth --ablate` opens the folder before the rows are made."""
    ready_study(
        replace(own, kind="synthetic", task=given_task(own.task, {}), settings={}, sizes=None, seeds=None), QUIET
    )
    assert command("watch", "studies/own") == 0
    error = capsys.readouterr().err
    assert "If the command that started it is no longer running, run it again" in error
    assert "died" not in error


@pytest.mark.slow
def test_no_command_takes_one_for_the_other(own: StudyRequest, tmp_path: Path) -> None:
    run_study(own, QUIET)
    folder = Path("studies/own")
    for read in (
        lambda run: run.view,
        lambda run: run.decision,
        lambda run: run.task_file(),
        lambda run: open_system(run.folder),
    ):
        with pytest.raises(
            DataError, match=r"found a study \(min-data\), expected the run of a climb. `lastresort report"
        ):
            read(Run(folder))
    task = load_task(scripted_task(tmp_path / "scripted", quality=[{"right": 0.97}]))
    with pytest.raises(DataError, match=r"found a study \(min-data\)"):
        climb(task, folder)
    assert command("watch", "studies/own") == 0, "the attempt left no trace"
    with pytest.raises(InputError, match=r"--out .*: found the run of a climb"):
        run_study(replace(own, out=climb(task, tmp_path / "run").run), QUIET)
