"""What a rung will take is said before it begins, and a long one asks once, where somebody is there and no limit has answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from climb_support import scripted_task
from lastresort.app.climb import climb
from lastresort.app.terminal import consent
from lastresort.errors import StopRequestedError
from lastresort.records.events import CandidateMeasured, RungGoneOn
from lastresort.records.record import Record
from lastresort.report.words.titles import rung_begins_line
from lastresort.rungs.forecast import Forecast
from lastresort.rungs.prompting.rung import PromptingRung
from lastresort.spec.task import load_task
from tuning_support import Scissors

TWO_HOURS = Forecast(0, 0, 0, 7200.0, 0.5)


class Answers:
    def __init__(self, *answers: bool) -> None:
        self.left, self.asked = list(answers), list[str]()

    def __call__(self, question: str) -> bool:
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


def test_a_rung_of_two_hours_asks_once_and_a_no_leaves_it_for_later(tmp_path: Path) -> None:
    answers = Answers(False, True)
    with pytest.raises(StopRequestedError, match="the answer was no"):
        climbed(tmp_path, answers)
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert not record.all(CandidateMeasured)
    assert "prompting begins. Forecast: about 2 h and at most $0.50." in climbed(tmp_path, answers)
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert [one.about for one in record.all(RungGoneOn)] == ["cost"]
    climbed(tmp_path, answers)
    assert [question.replace("\u00a0", " ") for question in answers.asked] == [
        "prompting is forecast to take 2 h here. Begin it?"
    ] * 2


def test_a_limit_of_hours_answers_beforehand(tmp_path: Path) -> None:
    answers = Answers()
    assert "prompting begins. Forecast: about 2 h and at most $0.50." in climbed(tmp_path, answers, limits={"hours": 5})
    assert not answers.asked


def test_without_a_terminal_it_goes_on_and_says_so(tmp_path: Path) -> None:
    said = climbed(tmp_path, None)
    assert any(line.startswith("There is no terminal to ask whether 2 h are worth it, so it goes on.") for line in said)
    with Record.open(tmp_path / "run", read_only=True) as record:
        assert not record.all(RungGoneOn)


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert rung_begins_line("sft", None, 0.0) == ""
    assert rung_begins_line("sft", None, 0.25) == "sft begins. Forecast: at most $0.25."
    assert rung_begins_line("sft", 90.0, None).replace("\u00a0", " ") == "sft begins. Forecast: about 1 min 30 s."


@pytest.mark.parametrize(
    ("yes", "terminal", "answers"), [(True, False, True), (True, True, True), (False, False, None)]
)
def test_yes_and_a_missing_terminal_ask_nothing(
    yes: bool, terminal: bool, answers: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    ask = consent(yes=yes)
    assert (None if ask is None else ask("Begin it?")) is answers
