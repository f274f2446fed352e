"""What to do after a climb that ended without an answer: in the terminal, in the report and on the page."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from climb_support import rows, scripted_task, unfinish
from gate_report_support import gate_found
from lastresort.app.climb import Climbed, climb
from lastresort.app.console import paragraph
from lastresort.app.start import ClimbRequest, forecast_climb, start_climb
from lastresort.ladder import RUNGS
from lastresort.records.decision import RunView
from lastresort.records.gate import ClimbGate, LookedAt
from lastresort.report.words.next_step import TO_USE_HELD, after_hold, next_step, set_to_stop
from lastresort.rungs.forecast import Forecast
from lastresort.spec.task import load_task
from lastresort.types import SilentProgress
from scripted_rung import ScriptedRung
from train_support import lastresort
from ui_support import change_task, htmx_page_of, recorded_starts

SMALL = {"split": {"dev": 60, "test": 60}, "confidence": 0.99}
MISSES, OPEN, LEADS = 0.3, 0.62, 0.9  # of the answers are right, against a bar of 80%


@pytest.fixture(autouse=True)
def sft_in_twelve_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNGS, "sft", replace(RUNGS["sft"], path="scripted_rung:sft"))
    monkeypatch.setattr(ScriptedRung, "forecast", lambda *_: Forecast(0, 0, 0, 720.0, 0.0))


def stopped_climb(folder: Path, right: float, **task: Any) -> Climbed:
    """Of a workspace, ended by `--until prompting`, below retrieval, which does not apply, and SFT."""
    path = scripted_task(
        folder / "tasks" / "routing",
        quality=[{"right": right}],
        task={**SMALL, "ladder": ["prompting", "retrieval", "sft"], **task},
        script={"answers_from": ["rows.jsonl", "known.jsonl"]},
    )
    fresh = rows(700)[260:]
    (path.parent / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fresh))
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fresh[:40]))
    return climb(load_task(path), folder / "runs" / "routing-1", until="prompting", gate="none")


SET = "the climb was set to stop at prompting. SFT would come next, forecast to take about 12 min."
RESUME = "lastresort climb tasks/routing/task.yaml --resume runs/routing-1"


@pytest.mark.parametrize(("right", "verdict"), [(MISSES, "NOT_MET"), (OPEN, "UNDECIDED")], ids=["missed", "undecided"])
def test_a_climb_that_was_set_to_stop_says_what_comes_next_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], right: float, verdict: str
) -> None:
    """Within the width, each command in one line, so that it can be pasted; they do what is said."""
    found = stopped_climb(tmp_path, right)
    assert found.decision.verdict == verdict
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "report", "runs/routing-1") == 0
    shown = capsys.readouterr().out
    said = shown[shown.index("Next: ") : shown.index("report: ")]
    commands = re.findall("`[^`]*`", said)
    assert commands
    assert not any("\n" in command for command in commands)
    assert all(len(line) <= 80 or line.startswith("`") for line in said.splitlines())
    line = " ".join(said.split())
    assert line.startswith(f"Next: {SET} To try it: `{RESUME} --until sft`.")
    assert ("Or label about" in line) == (verdict == "UNDECIDED")
    assert "settle for the answer" not in line, "there is none"
    page = html.unescape(re.sub("<[^>]*>", "", found.report.read_text("utf-8")))
    assert f"Next: {SET} To try it: {RESUME} --until sft." in page
    assert "moves up if the score is below the bar" not in page
    assert (
        "On the score alone, the climb would go on to the next rung, but it was set to stop at prompting" in page
    ) == (verdict == "UNDECIDED")
    assert lastresort(monkeypatch, "report", "runs/routing-1", "--markdown") == 0
    assert line.replace("`", "") in capsys.readouterr().out.replace("\\", "").replace("`", "")
    assert lastresort(monkeypatch, "watch", "runs/routing-1") == 0
    assert said in capsys.readouterr().out
    command = re.findall("`(.*?)`", line)[0]
    assert lastresort(monkeypatch, *shlex.split(command)[1:]) == 0
    decision = json.loads(Path("runs/routing-1/decision.json").read_text("utf-8"))
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting", "retrieval", "sft"]


@pytest.mark.parametrize(("columns", "lines"), [("0", 1), ("12", 4)])
def test_a_paragraph_has_the_width_of_the_terminal_and_breaks_no_command(
    monkeypatch: pytest.MonkeyPatch, columns: str, lines: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    said = paragraph("Next: label items, then `lastresort climb TASK` again.")
    assert "`lastresort climb TASK`" in said
    assert said.count("\n") == lines - 1
    assert paragraph(None) == ""


@pytest.mark.parametrize("command", ["report", "watch"])
def test_a_run_that_was_moved_names_no_task_file_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    sent = tmp_path / "mail" / "colleague" / "routing-1"
    shutil.copytree(stopped_climb(tmp_path, MISSES).run, sent)
    monkeypatch.chdir(sent.parent)
    assert lastresort(monkeypatch, command, "routing-1") == 0
    assert "`lastresort climb TASK --resume routing-1 --until sft`" in capsys.readouterr().out
    unfinish(sent)
    assert lastresort(monkeypatch, command, "routing-1") == 0
    assert "To resume it: lastresort climb TASK --resume routing-1\n" in capsys.readouterr().err


def test_a_report_says_nothing_of_the_machine_and_its_command_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report in Markdown is pasted into pull requests."""
    stopped_climb(tmp_path, MISSES)
    shutil.rmtree(tmp_path / "runs")
    folder = tmp_path / "tasks" / "routing"
    (folder / "own.py").write_text("def score(answer, expected):\n    return float(answer == expected)\n")
    monkeypatch.chdir(tmp_path)
    run = ["climb", "tasks/routing/task.yaml", "--run", "runs/routing-1", "--until", "prompting", "--gate", "none"]
    score = """score={"python": "own.py:score"}"""
    assert lastresort(monkeypatch, *run, "--set", f"examples={folder / 'rows.jsonl'}", "--set", score) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path.parent)
    assert lastresort(monkeypatch, "report", str(tmp_path / "runs" / "routing-1"), "--markdown") == 0
    shown = capsys.readouterr().out.replace("\\", "")
    assert str(tmp_path) not in shown
    command = re.findall("To try it: `(.*?)`", shown)[0]
    assert command == f"{RESUME} --set '{score}' --until sft"
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, *shlex.split(command)[1:]) == 0


@pytest.mark.parametrize(("right", "task"), [(LEADS, {}), (MISSES, {"ladder": ["prompting", "retrieval"]})])
def test_nothing_comes_next_where_the_climb_would_have_ended_there_anyway(
    tmp_path: Path, right: float, task: dict[str, Any]
) -> None:
    decision = stopped_climb(tmp_path, right, **task).decision
    assert "would come next" not in (next_step(decision) or "")
    if task:  # it missed the bar, and what is left of the ladder does not apply
        changes = [change.text for change in decision.would_change]
        assert any(change.startswith("Retrieval, if it became possible. It is skipped: ") for change in changes)
        assert not any(change.startswith("Rungs not tried") for change in changes)
    _, page = htmx_page_of(tmp_path)
    assert "Go on to the next rung" not in page.get("/runs/routing-1/now").text


def test_a_record_that_names_no_rung_makes_no_command(tmp_path: Path) -> None:
    decision = stopped_climb(tmp_path, MISSES).decision.as_json()
    reason = next(one for one in decision["reasons"] if one["code"] == "stopped")
    for ahead in ({"rung": "sft; reboot"}, {"rung": 3}, "sft"):
        reason["figures"]["ahead"] = ahead
        found = RunView.model_validate(decision)
        assert (stopped := set_to_stop(found)) is None or stopped.ahead is None
        assert next_step(found) is None


def test_the_page_goes_on_to_the_next_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_climb(tmp_path, MISSES)
    started = recorded_starts(monkeypatch)
    _, page = htmx_page_of(tmp_path)
    shown = html.unescape(page.get("/runs/routing-1/now").text)
    assert SET[1:] in shown
    assert f"<code>{RESUME} --until sft</code>" in shown
    assert "Go on to the next rung" in shown
    assert page.post("/runs/routing-1/resume", data={"until": "full"}).headers["hx-redirect"] == "/runs/routing-1"
    assert started == [], "only what is offered"
    assert page.post("/runs/routing-1/resume", data={"until": "sft"}).headers["hx-redirect"] == "/runs/routing-1"
    ((job, _),) = started
    assert job.arguments[2:] == ("--resume", str(tmp_path / "runs" / "routing-1"), "--until", "sft")


def test_the_page_asks_before_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """About code of the task, as at any start."""
    stopped_climb(tmp_path, MISSES)
    task = tmp_path / "tasks" / "routing" / "task.yaml"
    (task.parent / "score.py").write_text("def score(answer, expected): return answer == expected\n")
    change_task(task, score={"python": "score.py:score"})
    started = recorded_starts(monkeypatch)
    _, page = htmx_page_of(tmp_path)
    asked = page.post("/runs/routing-1/resume", data={"until": "sft"})
    assert asked.headers["hx-redirect"] == "/runs/routing-1/confirm?until=sft"
    shown = page.get("/runs/routing-1/confirm?until=sft").text
    assert '<input type="hidden" name="until" value="sft">' in shown
    yes = shown.partition('name="yes" value="')[2].partition('"')[0]
    page.post("/runs/routing-1/resume", data={"yes": yes, "until": "sft"})
    ((job, _),) = started
    assert job.arguments[-2:] == ("--until", "sft")


@pytest.mark.slow
def test_fresh_items_are_in_the_commands_that_make_the_run_again(tmp_path: Path) -> None:
    """After the climb itself, as they were given."""
    found = stopped_climb(tmp_path, OPEN)
    path = tmp_path / "tasks" / "routing" / "task.yaml"
    request = ClimbRequest(path, run=found.run, resume=True, more=tmp_path / "more.jsonl")
    again = start_climb(request, SilentProgress()).report.read_text("utf-8")
    climbed = "lastresort climb tasks/routing/task.yaml"
    commands = [
        f"{climbed} --until prompting --gate none",
        f"{climbed} --resume --more more.jsonl",
        "lastresort report runs/routing-1",
    ]
    assert "\n".join(commands) in html.unescape(again)


def test_a_dry_run_of_a_run_forecasts_what_its_options_leave(tmp_path: Path) -> None:
    """As the climb itself would go on: no gate and no rung that it was told to leave out."""
    run = stopped_climb(tmp_path, MISSES).run
    request = ClimbRequest(tmp_path / "tasks" / "routing" / "task.yaml", run=run, resume=True)
    found = forecast_climb(request, SilentProgress())
    assert ([rung.name for rung in found.rungs], found.gate) == (["prompting"], None)
    further = forecast_climb(replace(request, until="sft"), SilentProgress())
    assert ([rung.name for rung in further.rungs], further.gate) == (["prompting", "retrieval", "sft"], None)


def test_a_hold_says_how_to_settle_it_as_far_as_its_cause_allows() -> None:
    gate = ClimbGate.model_validate(gate_found())
    says = after_hold(gate, "runs/routing-1")
    assert (
        "`lastresort gate TASK --tuned runs/routing-1 --seed 2` (a full gate uses more of them; its own error is 5%)"
        in says
    )
    assert "more rows or more `replay`" in says
    assert "accept a larger loss under `keep`" in says
    assert "leave out what says nothing about this base model" in says
    assert says.endswith(TO_USE_HELD)
    assert "`--allow-held`" in TO_USE_HELD
    looked = LookedAt(items=400, most=400, fixed=400, given_up=False, looks=())
    general, *others = gate.suites
    whole = gate.replaced(mode="full", suites=(general.replaced(looked_at=looked), *others))
    assert (
        "(as many as this gate had, which decide only if the loss on them is clearly smaller or larger; "
        in after_hold(whole)
    )
    kept = gate.replaced(suites=(general.replaced(verdict="NON_INFERIOR", n_needed=None), *others))
    assert "gate it on fresh items" not in after_hold(kept)
    missed = gate.replaced(suites=(others[-1],), target=gate.target.replaced(passed=False, better=False))
    assert after_hold(missed).startswith(
        "To settle the HOLD: climb again with more test items and `--gate full`, which uses all of them, to show the gain over"
    )
    assert "climb again with more test items, to show the gain over" in after_hold(missed.replaced(mode="full"))
