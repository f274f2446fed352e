"""A rung, a scorer, an objective, a suite, an export target, a data format: one file and one line in one table, and all know it.

Here the file is this one, and the line is put into the table while the test lasts.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from climb_support import scripted_task
from lastresort.advice.advise import advise
from lastresort.advice.task_facts import facts_of
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.ladder import RUNGS, RungFacts
from lastresort.report.html import write_report
from lastresort.spec.task import load_task
from scripted_rung import ScriptedRung

rehearsal = functools.partial(ScriptedRung, "rehearsal")
ROW = RungFacts(
    f"{__name__}:rehearsal",
    winner="prompt",
    learns="nothing",
    purpose="It rehearses the answer before it is given.",
    worth_it_if="a second look mends most answers",
)
QUALITY = [{"right": 0.3}, {"right": 0.99, "contains": "rehearsal-way"}]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task on whose ladder the new rung stands above prompting, and alone meets the bar."""
    monkeypatch.setitem(RUNGS, "rehearsal", ROW)
    return scripted_task(tmp_path / "task", quality=QUALITY, task={"ladder": ["prompting", "rehearsal"]})


def test_a_climb_tries_a_new_rung_lets_it_win_and_reports_it(task: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    decision = climb(load_task(task), run).decision
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting", "rehearsal"]
    assert (decision["stopped_at"], decision["winner"]["kind"]) == ("rehearsal", "prompt")
    assert "rehearsal" in write_report(run).read_text(encoding="utf-8")


def test_a_dry_run_and_the_advice_know_a_new_rung(task: Path) -> None:
    found = load_task(task)
    assert [(rung["name"], rung["applies"]) for rung in dry_run(found)["rungs"]] == [
        ("prompting", True),
        ("rehearsal", True),
    ]
    [step] = [step for step in advise(facts_of(found).facts).path if step.rung == "rehearsal"]
    assert (step.stance, step.reasons) == ("ONLY_IF", (ROW.purpose,))
    assert str(step.condition).endswith(ROW.worth_it_if)
