"""What a rung will take is said before it begins, and a long one asks once, where somebody is there and no limit has answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from climb_support import scripted_task
from lastresort.app.climb import climb
from lastresort.app.start import ClimbRequest, start_climb
from lastresort.app.terminal import consent
from lastresort.cli.main import app
from lastresort.errors import StopRequestedError
from lastresort.records.events.search import CandidateMeasured, RungGoneOn
from lastresort.records.record import Record
from lastresort.report.words.progress import rung_begins_line, rung_continues_line
from lastresort.rungs.forecast import Forecast
from lastresort.rungs.prompting.rung import PromptingRung
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, Stop, StopFile
from tuning_support import Cut, CutAt, Scissors

TWO_HOURS = Forecast(0, 0, 0, 7200.0, 0.5)


class Answers:
    def __init__(self, *answers: bool | None) -> None:
        self.left, self.asked = list(answers), list[str]()

    def __call__(self, question: str, stop: Stop) -> bool | None:
        self.asked.append(question)
        return self.left.pop(0)


def climbed(folder: Path, go_on: Answers | None, **task: Any) -> list[str]:
    """What was said. The scripted model climbs as far as prompting."""
    path, shown = scripted_task(folder / "task", quality=[{"right": 0.95}], task=task), Scissors()
    climb(load_task(path), folder / "run", until="prompting", progress=shown, go_on=go_on)
    return [line.replace("\u00a0", " ") for line in shown.said]


@pytest.fixture(autouse=True)
def two_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptingRung, "forecast", lambda *_: TWO_HOURS)


@pytest.mark.slow
def test_a_rung_of_two_hours_asks_once_and_a_no_leaves_it_for_later(tmp_path: Path) -> None:
    answers = Answers(False, True)
    with pytest.raises(StopRequestedError, match="the answer was no"):
        climbed(tmp_path, answers)
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert not record.all(CandidateMeasured)
    assert "prompting begins. Forecast: about 2 h and $0.50." in climbed(tmp_path, answers)
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert [one.about for one in record.all(RungGoneOn)] == ["cost"]
    climbed(tmp_path, answers)
    assert [question.replace("\u00a0", " ") for question in answers.asked] == [
        "prompting is forecast to take about 2 h and $0.50. Start it?"
    ] * 2


def test_after_a_no_resume_goes_on_with_that_run_and_not_with_an_earlier_one(tmp_path: Path) -> None:
    path, runs = scripted_task(tmp_path / "task", quality=[{"right": 0.95}]), tmp_path / "runs"
    request = ClimbRequest(path, until="prompting", runs=runs, gate="none")
    with pytest.raises(Cut):
        start_climb(request, CutAt("prompting: zero-shot", 40), go_on=None)
    with pytest.raises(StopRequestedError, match="--resume"):
        start_climb(replace(request, settings={"bar": 0.9}), Scissors(), go_on=Answers(False))
    found = start_climb(replace(request, resume=True), Scissors(), go_on=Answers(True))
    assert (found.run, found.decision.bar) == (runs / "routing-2", 0.9)


def test_a_limit_of_hours_answers_beforehand(tmp_path: Path) -> None:
    answers = Answers()
    assert "prompting begins. Forecast: about 2 h and $0.50." in climbed(tmp_path, answers, limits={"hours": 5})
    assert not answers.asked


@pytest.mark.parametrize(
    ("limits", "usd", "asks"),
    [({"usd": 1000}, 5.01, False), ({"hours": 5}, 5.01, True), ({"hours": 5}, 5.0, False), ({"hours": 5}, None, False)],
)
def test_paid_calls_ask_above_five_dollars_unless_a_limit_of_usd_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], usd: float | None, asks: bool
) -> None:
    """The seconds of an endpoint are not known. A limit of one kind does not answer for the other."""
    monkeypatch.setattr(PromptingRung, "forecast", lambda *_: Forecast(0, 0, 0, None, usd))
    prices = {"prompt_price": 0.01, "output_price": 0.01}
    answers = Answers(True)
    climbed(tmp_path, answers, limits=limits, use=prices)
    assert answers.asked == (["prompting is forecast to take about $5.01. Start it?"] if asks else [])


def test_a_limit_of_usd_does_not_answer_for_the_time(tmp_path: Path) -> None:
    answers = Answers(True)
    climbed(tmp_path, answers, limits={"usd": 1000}, use={"prompt_price": 0.01, "output_price": 0.01})
    assert len(answers.asked) == 1


def test_without_a_terminal_it_goes_on_and_says_so(tmp_path: Path) -> None:
    said = climbed(tmp_path, None)
    assert any(line.startswith("No terminal to ask, so the climb continues (about 2 h and $0.50).") for line in said)
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert not record.all(RungGoneOn)


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert rung_begins_line("sft", None, 0.0) == ""
    assert rung_begins_line("sft", None, 0.25) == "sft begins. Forecast: about $0.25."
    assert rung_begins_line("sft", 90.0, None).replace("\u00a0", " ") == "sft begins. Forecast: about 1 min 30 s."
    assert rung_begins_line("sft", None, 0.25, ("judge_time", "judge_price")) == (
        "sft begins. Forecast: about $0.25, without the judge's time and the judge's price, which are not known."
    )


@pytest.mark.parametrize(
    ("yes", "terminal", "answers"), [(True, False, True), (True, True, True), (False, False, None)]
)
def test_yes_and_a_missing_terminal_ask_nothing(
    yes: bool, terminal: bool, answers: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    ask = consent(yes=yes)
    assert (None if ask is None else ask("Start it?", NEVER)) is answers


def test_a_question_that_nobody_answers_goes_on_and_is_recorded_as_such(tmp_path: Path) -> None:
    answers = Answers(None)
    climbed(tmp_path, answers)
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert [(one.about, one.answered) for one in record.all(RungGoneOn)] == [("cost", False)]
    climbed(tmp_path, answers)
    assert len(answers.asked) == 1


def test_a_rung_that_has_begun_continues_without_any_question(tmp_path: Path) -> None:
    """Cut after the first of its candidates was measured."""
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.95}], task={"limits": {"hours": 1}})
    with pytest.raises(Cut):
        climb(load_task(path), tmp_path / "run", until="prompting", progress=CutAt("prompting: zero-shot", 40))
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert record.all(CandidateMeasured)
    answers, shown = Answers(), Scissors()
    climb(load_task(path), tmp_path / "run", until="prompting", progress=shown, go_on=answers)
    said = "prompting continues. Forecast of the whole rung: about 2 h and $0.50. What is done is kept."
    assert said in [line.replace("\u00a0", " ") for line in shown.said]
    assert not answers.asked
    assert not any("limit" in line or "may take" in line for line in shown.said)
    assert rung_continues_line("sft", None, 0.0) == "sft continues."


def asked_at_a_terminal(monkeypatch: pytest.MonkeyPatch, typed: bytes = b"", stop: Stop = NEVER) -> bool | None:
    other, own = os.openpty()
    try:
        os.write(other, typed)
        with os.fdopen(own, encoding="utf-8") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
            monkeypatch.setattr("lastresort.app.terminal.ANSWER_S", 1.0)
            ask = consent(yes=False)
            assert ask is not None
            return ask("Start it?", stop)
    finally:
        os.close(other)


def test_a_terminal_is_asked_and_goes_on_where_nobody_answers_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [asked_at_a_terminal(monkeypatch, typed) for typed in (b"Y\n", b"\n", b"")] == [True, False, None]
    said = capsys.readouterr().err.replace("\u00a0", " ").splitlines()
    assert said[0] == "Start it? [y/N] Without an answer in 1.0 s the climb continues."
    assert said[-1] == "No answer, so the climb continues."


def test_a_question_sees_the_stop_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with pytest.raises(StopRequestedError, match="the file asks to stop"):
        asked_at_a_terminal(monkeypatch, stop=StopFile(tmp_path / "stop"))


IN_BACKGROUND = """
import fcntl, os, sys, termios
from lastresort.app.terminal import consent

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    print(consent(yes=False))
    sys.exit(0)
os.waitpid(child, 0)
print(consent(yes=False) is not None)
"""


def test_a_climb_in_the_background_of_a_terminal_asks_nothing_and_is_not_stopped() -> None:
    other, own = os.openpty()
    command = [sys.executable, "-c", IN_BACKGROUND]
    try:
        done = subprocess.run(
            command, stdin=own, stdout=subprocess.PIPE, stderr=own, text=True, timeout=60, start_new_session=True
        )
    finally:
        os.close(own)
        os.close(other)
    assert done.stdout.split() == ["None", "True"]


ASKING = {
    "lastresort.app.recheck.recheck_run": (["recheck", "run"], 3),
    "lastresort.app.verify.verify_server": (["verify", "run", "http://127.0.0.1:1"], 4),
    "lastresort.app.synth.synth_data": (["data", "synth", "task.yaml"], 3),
    "lastresort.app.data_pairs.pair_samples": (["data", "pairs", "task.yaml"], 3),
}


@pytest.mark.parametrize("use_case", ASKING)
def test_a_question_of_any_command_heeds_sigterm(use_case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that is typed would answer it."""
    words, place = ASKING[use_case]

    def asked(*given: Any, **_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        given[place]("Start it?", *([given[2]] if words[0] == "data" else []))
        pytest.fail("it was answered")

    monkeypatch.setattr(use_case, asked)
    other, own = os.openpty()
    os.write(other, b"y\n")
    try:
        with os.fdopen(own, encoding="utf-8") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
            with pytest.raises(StopRequestedError, match="a signal asked to stop"):
                app(words, standalone_mode=False)
    finally:
        os.close(other)


def test_a_signal_as_the_last_row_is_written_keeps_the_study_from_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows are whole and said; the same command begins the study."""

    def made(*_: object) -> SimpleNamespace:
        os.kill(os.getpid(), signal.SIGTERM)
        return SimpleNamespace(ended="rows", lines=lambda: ["12 rows"])

    ablation = SimpleNamespace(studied=lambda *_: pytest.fail("it began"))
    monkeypatch.setattr("lastresort.app.ablation.planned_ablation", lambda *_: ablation)
    monkeypatch.setattr("lastresort.app.synth.synth_data", made)
    with pytest.raises(StopRequestedError, match="a signal asked to stop"):
        app(["data", "synth", "task.yaml", "--ablate"], standalone_mode=False)
    assert capsys.readouterr().out == "12 rows\n"
