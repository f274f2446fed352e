"""The list of runs and the page of a run, live and afterwards."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from typing import Any, cast

import pytest

from climb_support import rows, scripted_task, unfinish
from lastresort.after.recheck.recheck import recheck
from lastresort.app.child_environment import CACHES, environment
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.app.runs import Run
from lastresort.cli.options import parse_settings
from lastresort.climb.budget import Budget
from lastresort.climb.workspace import noted_stop
from lastresort.embedded import cache_folder
from lastresort.errors import DataError, InputError
from lastresort.records.atomic import held
from lastresort.records.clock import clock_of, worked_s
from lastresort.records.decision import RunView
from lastresort.records.events.after_test import GateChosen
from lastresort.records.events.base import Stage
from lastresort.records.events.run import (
    BudgetSpent,
    ClimbFinished,
    ClimbResumed,
    ClimbStopped,
    OptionsChosen,
    StoppedBy,
    StudyBegan,
    TaskPlaced,
    TaskRead,
)
from lastresort.records.events.search import SystemFrozen
from lastresort.records.events.training import LapTrained
from lastresort.records.record import Record
from lastresort.records.view import Fold
from lastresort.report.charts.runs import A_LETTER, APART, NARROW, WIDE, RunPoint, runs_chart
from lastresort.report.commands import set_options
from lastresort.report.decision import read_decision, read_view, view_in
from lastresort.report.forecast import head
from lastresort.report.html import body
from lastresort.report.html import page as html_page
from lastresort.report.run_settings import DifferingSetting, differing, not_known_yet
from lastresort.report.story import gather
from lastresort.report.words.progress import LATE, SOON
from lastresort.report.words.titles import SPARED, TOOK
from lastresort.report.words.wording import round_percent
from lastresort.spec.task import load_task
from lastresort.stop import stop_file
from lastresort.ui import jobs
from lastresort.ui import site as site_module
from lastresort.ui import workspace as workspace_module
from lastresort.ui.jobs import last_words
from lastresort.ui.pages.run import _events, now
from lastresort.ui.pages.runs import figures, row_of, spared
from lastresort.ui.pages.task_editor import BegunClimbs
from lastresort.ui.processes import start_process
from lastresort.ui.site import PAGES, Site
from lastresort.ui.start import serve_page
from lastresort.ui.workspace import NotThere, Workspace, safe_name
from record_support import edit
from ui_support import (
    MET,
    Working,
    change_task,
    command,
    end,
    events_of,
    finished_run,
    htmx_page_of,
    page_of,
    recorded_starts,
    slow_task,
    until,
)


def test_a_workspace_without_runs_says_how_to_start_one(tmp_path: Path) -> None:
    _, client = page_of(tmp_path)
    assert "There are no runs yet" in client.get("/").text


def test_a_workspace_whose_runs_lie_next_to_their_folder_says_where_they_belong(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    _, client = page_of(tmp_path)
    run.rename(tmp_path / "from-a-colleague")
    said = " ".join(client.get("/").text.split())
    assert "There are no runs yet" not in said
    began = StudyBegan(study="crossover", task="../task.yaml", options=(), keys=None, workers=False)
    Record.create(tmp_path / "of-prompts", began).close()
    assert said == " ".join(client.get("/").text.split()), "a study is no run"
    assert (
        "1 run lies next to it: <code>from-a-colleague</code>. Move it into <code>runs</code> to see it here." in said
    )


def test_a_run_is_no_workspace(tmp_path: Path) -> None:
    run = finished_run(tmp_path)

    def said(folder: Path) -> str:
        with pytest.raises(InputError) as refused:
            serve_page(folder, "127.0.0.1", 0, on_ready=print)
        return str(refused.value)

    around = f"Run `lastresort ui {tmp_path}`."
    began = StudyBegan(study="crossover", task="../task.yaml", options=(), keys=None, workers=False)
    Record.create(tmp_path / "of-prompts", began).close()
    assert said(tmp_path / "of-prompts").endswith(
        f"this is a study, expected the folder that holds `runs`. Read it with `lastresort report {tmp_path / 'of-prompts'}`."
    )
    assert said(run) == f"{run}: this is a run, expected the folder that holds `runs`. {around}"
    assert (
        said(run.parent) == f"{run.parent}: this is a folder of runs, expected the folder that holds `runs`. {around}"
    )
    alone = run.rename(tmp_path / "alone")
    assert said(alone).endswith(
        f"Move it into a folder {tmp_path / 'runs'} and run `lastresort ui {tmp_path}`, or read it with "
        "`lastresort report`."
    )


def test_the_list_shows_what_the_decision_holds(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    decision = read_decision(run)
    test = decision.rungs[0].test
    assert test is not None
    _, client = page_of(tmp_path)
    text = client.get("/").text
    assert "routing-1" in text
    assert f"{100 * test.score:.1f}%" in text
    assert 'class="badge MET"' in text
    assert f'<td class="number" data-label="Bar">{round_percent(decision.bar)}</td>' in text, (
        "what the score is measured against"
    )
    assert "TEST ITEMS REUSED" not in text


def test_the_list_says_where_test_items_were_used_before(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    climb(load_task(tmp_path / "tasks" / "routing" / "task.yaml"), run.parent / "routing-2", until="prompting")
    _, client = page_of(tmp_path)
    rows = client.get("/").text.split('<tr id="run-')
    assert ["TEST ITEMS REUSED" in row for row in rows if row.startswith("routing")] == [True, False]
    assert [row.count(' title="') for row in rows if row.startswith("routing")] == [1, 0], (
        "the badge says what it means"
    )
    compared = client.get("/compare?run=routing-1&run=routing-2").text
    cells = re.findall(r'data-label="([^"]+)"[^<]*>((?:(?!</td>).)*)', compared)
    assert [label for label, cell in cells if "TEST ITEMS REUSED" in cell] == ["Verdict"], "before the score"


def test_a_run_that_goes_on_up_still_says_that_its_test_items_were_used_before(tmp_path: Path) -> None:
    first = finished_run(tmp_path)
    second = first.parent / "routing-2"
    climb(load_task(tmp_path / "tasks" / "routing" / "task.yaml"), second, until="prompting")
    with Record.open(second) as record:
        record.append(SystemFrozen(rung="prompting", name="few-shot-4", sha256="0" * 64))
    assert not read_view(second).decided
    _, client = page_of(tmp_path)
    runs = client.get("/").text
    assert "TEST ITEMS REUSED" in runs
    assert "<small>prompting: MET</small>" in runs
    page = client.get("/runs/routing-2").text
    assert "too high: test items reused" in page
    assert "have already been used in an earlier run" in page


def test_a_run_took_as_long_wherever_a_page_says_it(tmp_path: Path) -> None:
    """Neither what its work adds up to, nor the time that it lay stopped."""
    run = finished_run(tmp_path)
    unfinish(run)
    with Record.open(run) as record:
        record.append(BudgetSpent(seconds=754 - worked_s(record), usd=0.0))
        record.append(ClimbFinished())
    said = "12\u00a0min 34\u00a0s"
    _, client = page_of(tmp_path)
    assert f'<span class="took">{said}</span>' in client.get("/").text
    text = client.get("/runs/routing-1").text
    assert f"<dt>Took</dt><dd><span data-took>{said}</span>" in text
    assert f"The climb took {said}" in text
    assert f"The climb took {said}: {TOOK}." in text
    assert row_of(Workspace(tmp_path).state("routing-1")).run.took_s == pytest.approx(754)


def test_the_clock_of_a_run_goes_on_only_while_it_is_at_work(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with Record.open(run) as record:
        noted = worked_s(record)
        clock = clock_of(record)
        assert clock.at(clock.noted_at + timedelta(hours=1)) == noted, "somebody holds a run that has finished"
        record.append(BudgetSpent(seconds=0.0, usd=0.0, left=True))
        clock = clock_of(record)
        assert clock.at(clock.noted_at + timedelta(hours=1)) == noted, "who took it up was refused"
        record.append(ClimbResumed())
        record.append(BudgetSpent(seconds=0.0, usd=0.0))
        clock = clock_of(record)
    assert clock.at(clock.noted_at + timedelta(hours=1)) == pytest.approx(noted + 3600)
    assert clock.at(clock.noted_at - timedelta(seconds=5)) == noted, "a clock that was set back"
    assert Workspace(tmp_path).state("routing-1").took_s == noted
    _, client = page_of(tmp_path)
    assert "data-took-s" not in client.get("/").text
    with held(run, "held", expected="", remedy=""):
        assert Workspace(tmp_path).state("routing-1").took_s > noted
        assert "data-took-s" in client.get("/").text
        assert "data-took-s" in client.get("/runs/routing-1/now").text


def test_the_clock_of_a_finished_run_goes_on_while_a_gate_is_made_up_for(tmp_path: Path) -> None:
    """Which puts nothing into the record before its end but the time that it takes."""
    run = finished_run(tmp_path)
    with Record.open(run) as record:
        took_s = worked_s(record)
        record.append(ClimbResumed())
        record.append(GateChosen(mode="full"))
        for _ in range(3):
            record.append(BudgetSpent(seconds=600.0, usd=0.0))
        clock = clock_of(record)
    assert clock.at(clock.noted_at + timedelta(seconds=5)) == pytest.approx(took_s + 1805)
    assert Workspace(tmp_path).state("routing-1").took_s == took_s, "nothing came of it, if its process died"
    with Record.open(run) as record:
        record.append(BudgetSpent(seconds=0.0, usd=0.0, left=True))
        clock = clock_of(record)
    assert clock.at(clock.noted_at) == took_s


def test_a_run_at_work_says_once_how_far_it_is_and_what_time_is_left_by_now(tmp_path: Path) -> None:
    """What was left when the stage was written an hour ago is left no more."""
    run = finished_run(tmp_path)
    _, client = page_of(tmp_path)
    said = {}
    for ago_s in (0, 3600):
        with Record.open(run) as record:
            record.append(ClimbResumed())
            times = {"eta_s": 900.0, "spent_s": worked_s(record) - ago_s}
            record.now(Stage(label="testing", done=3, total=9, read=2.0, **times))
        with held(run, "held", expected="", remedy=""):
            said[ago_s] = client.get("/runs/routing-1/now").text
    assert said[0].count("3 of 9") == 1
    assert '<progress max="9" value="4.0"' in said[0]
    assert "2 prompts read and not answered yet" in said[0]
    left = {ago_s: [float(one) for one in re.findall(r'data-left-s="([-\d.]+)"', text)] for ago_s, text in said.items()}
    assert left[0] == pytest.approx([900], abs=60)
    assert left[3600] == pytest.approx([-2700], abs=60)
    assert f">{LATE}<" in said[3600]
    assert f'data-soon="{SOON}"' in said[0]
    assert "this stage: <span" in said[0]
    assert "in all" not in said[0], "nobody can tell how long the whole climb still takes"


@pytest.mark.parametrize(
    "lost",
    [
        "''",
        "'climb_finished'",
        "'climb_finished', 'climb_decided'",
        "'climb_finished', 'climb_decided', 'budget_spent'",
    ],
)
def test_the_time_that_a_run_lay_dead_or_finished_does_not_count_from_the_moment_that_it_is_held(
    tmp_path: Path, lost: str
) -> None:
    """Where its process was killed, nothing says that it stopped, nor, before its first note, how long it took."""
    run = finished_run(tmp_path)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="milliseconds")
    edit(run, f"DELETE FROM event WHERE kind IN ({lost})", f"UPDATE event SET at = '{yesterday}'", rechain=True)
    with stop_file(run) as file, Record.open(run) as record, noted_stop(record, file, begins=False):
        before = worked_s(record)
        assert clock_of(record).at(datetime.now(UTC)) < before + 60
        Budget.of(load_task(tmp_path / "tasks" / "routing" / "task.yaml"), record, time.monotonic)
        assert clock_of(record).at(datetime.now(UTC)) < before + 60
        assert not clock_of(record).ended


def test_a_recheck_of_a_run_that_died_does_not_make_its_clock_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, running = finished_run(tmp_path), list[bool]()
    unfinish(run)
    with Record.open(run, read_only=True) as record:
        assert clock_of(record).runs

    def opened_finished(_run: Path, record: Record, _task_file: Path | None) -> Any:
        running.append(clock_of(record).runs)
        raise DataError("it was looked at")

    monkeypatch.setattr("lastresort.after.recheck.recheck.open_finished", opened_finished)
    with pytest.raises(DataError, match="it was looked at"):
        recheck(run)
    assert running == [False]


def test_the_time_that_a_run_lay_dead_does_not_count(tmp_path: Path) -> None:
    """Its process was killed, so that nothing says that it stopped: the next one notes when it starts."""
    run = finished_run(tmp_path)
    with Record.open(run) as record:
        before = worked_s(record)
        yesterday = datetime.now(UTC) - timedelta(days=1)
    edit(run, f"UPDATE event SET at = '{yesterday.isoformat(timespec='milliseconds')}'", rechain=True)
    with Record.open(run) as record:
        Budget.of(load_task(tmp_path / "tasks" / "routing" / "task.yaml"), record, time.monotonic)
        assert clock_of(record).at(datetime.now(UTC)) < before + 60


def test_compared_runs_show_the_settings_that_differ_and_no_other(tmp_path: Path) -> None:
    finished_run(tmp_path)
    shutil.copytree(tmp_path / "runs" / "routing-1", tmp_path / "runs" / "routing-2")
    _, client = page_of(tmp_path)
    address = "/compare?run=routing-1&run=routing-2&run=routing-3"
    assert "No setting differs" in client.get(address.rpartition("&")[0]).text
    task = tmp_path / "tasks" / "other" / "task.yaml"
    scripted_task(
        task.parent,
        quality=MET,
        task={"ladder": ["prompting"], "bar": 0.7, "split": {"dev": 60, "test": 120, "seed": 4}},
    )
    (task.parent / "rows.jsonl").open("a").write(json.dumps({"input": "one more", "output": "billing"}) + "\n")
    climb(load_task(task, {"limits.hours": 3}), tmp_path / "runs" / "routing-3", settings={"limits.hours": 3})
    shown = client.get(address).text.partition("Settings that differ")[2]
    rows_shown = re.findall(r"<tr><td><b>(.+?)</b><small>(.+?)</small></td>\n(.*?)</tr>", shown, re.DOTALL)
    differ = {name: (group, re.findall(r"<td[^>]*>(.*?)</td>", cells)) for name, group, cells in rows_shown}
    assert differ["bar"] == ("task file", ["0.8", "0.8", "0.7"])
    assert differ["split.seed"] == ("task file", ["0", "0", "4"])
    assert differ["set limits.hours"] == ("options", ["–", "–", "3"])
    group, (one, two, three) = differ["rows.jsonl"]
    assert (group, one == two, one == three) == ("data", True, False)
    assert not any("seed of" in name for name in differ), "it is said once"
    assert differ.keys() <= {"bar", "split.seed", "set limits.hours", "rows.jsonl", "weights"}


def test_where_a_task_keeps_the_same_rows_is_no_difference(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    shutil.copytree(run, run.with_name("routing-2"))
    moved = "UPDATE event SET body = replace(body, '\"rows.jsonl\"', '\"../other/rows.jsonl\"')"
    edit(run.with_name("routing-2"), f"{moved} WHERE kind IN ('task_read', 'files_read')", rechain=True)
    with Record.open(run.with_name("routing-2"), read_only=True) as record:
        read = record.last(TaskRead)
        assert read is not None
        assert "../other/rows.jsonl" in json.dumps(read.task)
    _, client = page_of(tmp_path)
    assert "No setting differs" in client.get("/compare?run=routing-1&run=routing-2").text


def test_what_only_some_runs_know_is_no_difference() -> None:
    """A run that has not decided says nothing of versions, and one whose task lacks a key differs in it."""
    decided = {("versions", "torch"): "2.9", ("task file", "bar"): "0.8", ("data", "docs.md"): "ab"}
    assert differing([decided, {("task file", "bar"): "0.8"}]) == [DifferingSetting("data", "docs.md", ("ab", "–"))]
    assert differing([decided, decided]) == []
    assert not_known_yet({("task file", "bar"): "0.8", ("model", "weights"): "ab"}) == ("versions", "machine")


def test_a_run_that_has_not_decided_may_differ_in_what_it_does_not_know_yet(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    shutil.copytree(run, run.with_name("routing-2"))
    edit(run, "DELETE FROM event WHERE kind IN ('climb_decided', 'climb_finished')", rechain=True)
    _, client = page_of(tmp_path)
    shown = client.get("/compare?run=routing-1&run=routing-2").text
    assert "No known setting differs" in shown
    assert "Not known yet of routing-1: versions, machine." in shown
    assert "versions and machine are the same" not in shown


def test_fewer_items_than_rows_say_why(tmp_path: Path) -> None:
    """Where the smaller number stands: at the head of the run, next to its data, and in the forecast."""
    path = scripted_task(tmp_path / "tasks" / "routing", quality=MET, task={"ladder": ["prompting"]})
    made = rows()
    parts = {"train": made[:80], "dev": made[80:140], "test": [*made[140:], *made[140:144]]}
    for side, part in parts.items():
        (path.parent / f"{side}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in part))
    change_task(path, examples={side: f"{side}.jsonl" for side in parts}, split=None)
    task = load_task(path)
    climb(task, tmp_path / "runs" / "routing-1")
    _, client = page_of(tmp_path)
    text = client.get("/runs/routing-1").text.replace("\u00a0", " ")
    why = "4 test items repeated an input of test and were left out: each input counts once."
    assert "<dt>Test set</dt><dd>120 items <small>4 of 124 rows left out: each input counts once</small>" in text
    assert "<dt>examples</dt><dd>80 train, 60 dev, 124 test</dd>" in text
    assert "<dt>in the climb</dt><dd>80 train, 60 dev, 120 test</dd>" in text
    assert f"<dt>left out</dt><dd>{why}" in text
    assert f"60 dev, 120 test. {why}" in head(dry_run(task)).replace("\u00a0", " ")


@pytest.mark.slow
def test_the_first_page_loads_no_torch(tmp_path: Path) -> None:
    finished_run(tmp_path)
    code = (
        "import sys; from pathlib import Path; from ui_support import page_of\n"
        f"_, client = page_of(Path({str(tmp_path)!r}))\n"
        "assert client.get('/').status_code == 200 and client.get('/runs/routing-1').status_code == 200\n"
        "print([name for name in ('torch', 'transformers', 'pandas') if name in sys.modules])"
    )
    # ui_support climbs, so that what it imports must not count
    code = code.replace("from ui_support import page_of", _PAGE_ALONE)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "[]", found.stderr


_PAGE_ALONE = """
from starlette.testclient import TestClient
from lastresort.ui.guard import PageGuard
from lastresort.ui.site import Site, create_site
from lastresort.ui.workspace import Workspace
def page_of(folder):
    site = Site(Workspace(folder))
    return site, TestClient(PageGuard(create_site(site), site.secrets), base_url="http://127.0.0.1")
"""


def test_a_run_is_the_report_with_a_panel_above_it(tmp_path: Path) -> None:
    """They cannot disagree: it is the same text."""
    run = finished_run(tmp_path)
    with Record.open(run, read_only=True) as record:
        report = body(gather(record, read_decision(run)))
    _, client = page_of(tmp_path)
    text = client.get("/runs/routing-1").text
    assert report in text
    assert "lastresort handoff runs/routing-1 --to SERVER" in text
    assert " style=" not in text, "the policy forbids inline styles"


@pytest.mark.parametrize(
    ("address", "title", "mark"),
    [
        ("/", "Runs", "page"),
        ("/runs/a-1", "Runs", "true"),
        ("/runs/a-1/items", "Runs", "true"),
        ("/compare", "Runs", "true"),
        ("/new", "New task", "page"),
        ("/new/a", "New task", "true"),
        ("/newer", None, ""),
        ("/plan", "Plan", "page"),
        ("/train/a/train-2", "Train", "true"),
        ("/docs/task", "This machine", "true"),
    ],
)
def test_the_navigation_marks_the_entry_of_a_page(address: str, title: str | None, mark: str) -> None:
    marked = {page.title: page.marks(address) for page in PAGES if page.title and page.marks(address)}
    assert marked == ({} if title is None else {title: mark})


def test_the_navigation_shows_its_mark(tmp_path: Path) -> None:
    finished_run(tmp_path)
    _, client = page_of(tmp_path)
    assert '<a href="/" aria-current="true">Runs</a>' in client.get("/runs/routing-1").text
    assert '<a href="/" aria-current="page">Runs</a>' in client.get("/").text


def test_a_run_that_was_changed_says_so(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    decision = json.loads((run / "decision.json").read_text())
    (run / "decision.json").write_text(json.dumps({**decision, "verdict": "NOT_MET"}))
    _, client = page_of(tmp_path)
    answer = client.get("/runs/routing-1")
    assert answer.status_code == 422
    assert "decision.json" in answer.text


def test_a_record_that_was_changed_is_shown_nowhere_as_true(tmp_path: Path) -> None:
    """Also not where only a part of it is looked at, and also not what its verdict offers."""
    run = finished_run(tmp_path)
    edit(run, "UPDATE item SET score = 1.0, answer = 'made up'")
    _, client = page_of(tmp_path)
    for path in ("items", "items/1/0", "items/gate", "rate"):
        answer = client.get(f"/runs/routing-1/{path}")
        assert answer.status_code == 422, path
        assert "was changed" in answer.text
        assert "made up" not in answer.text
    text = client.get("/runs/routing-1").text
    assert "was changed" in text
    assert "Use it:" not in text
    assert "Resume" not in text
    assert "was changed" in client.get("/").text
    assert "badge MET" not in client.get("/").text


def test_a_run_that_died_says_so_with_its_last_words_and_how_to_go_on(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    unfinish(run)
    print_last(tmp_path, "first\n\x1b[31mError: the disk is full <b>\x1b[0m\n")
    _, client = page_of(tmp_path)
    text = client.get("/runs/routing-1").text
    assert "It died before it finished" in text
    assert "Error: the disk is full &lt;b&gt;" in text
    assert "\x1b" not in text
    assert "--resume runs/routing-1" in text
    assert "stopped" in client.get("/").text


def test_a_run_that_ended_with_an_error_says_it_instead_of_that_it_died(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    unfinish(run)
    with Record.open(run) as record:
        record.append(ClimbStopped(by="error", error="the worker is <gone>, expected one. Start it."))
    _, client = page_of(tmp_path)
    text = client.get("/runs/routing-1/now").text
    assert "It ended with an error before it finished: the worker is &lt;gone&gt;, expected one. Start it." in text
    assert "died" not in text


@pytest.mark.parametrize(
    ("by", "says"),
    [
        ("file", "You stopped it before it finished."),
        ("signal", "A signal to its process (such as Ctrl-C) stopped it before it finished."),
        ("limit", "It reached a limit of its task (limits.hours or limits.usd) before it finished."),
    ],
)
def test_a_run_that_was_stopped_did_not_die_until_it_goes_on(tmp_path: Path, by: StoppedBy, says: str) -> None:
    run = stopped_run(tmp_path, by)
    _, client = page_of(tmp_path)
    text = client.get("/runs/routing-1/now").text
    assert says in text
    assert "asks to stop" not in text
    with Record.open(run) as record:
        record.append(ClimbResumed())
    text = client.get("/runs/routing-1/now").text
    assert "It died before it finished" in text
    assert "asks to stop" not in text, "another process said so, before this one died"
    print_last(tmp_path, "Error: no memory\n")
    assert "Error: no memory" in client.get("/runs/routing-1/now").text


def test_a_stopped_run_has_a_report_as_one_file(tmp_path: Path) -> None:
    run = stopped_run(tmp_path, "file")
    Run(run).report.unlink()
    _, client = page_of(tmp_path)
    assert 'href="/runs/routing-1/report.html"' in client.get("/runs/routing-1/now").text
    found = client.get("/runs/routing-1/report.html")
    assert found.status_code == 200
    assert "sandbox" in found.headers["content-security-policy"]
    with Record.open(run, read_only=True) as record:
        assert found.text == html_page(gather(record, view_in(record)))
    assert not Run(run).report.exists(), "looking at it writes nothing"


def test_a_run_that_was_stopped_in_training_shows_how_far_it_came(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    unfinish(run)
    with Record.open(run) as record:
        for name, rate, step, loss in (("a", 1e-4, 20, 0.9), ("b", 3e-4, 20, None), ("c", 1e-4, 40, 0.512)):
            record.append(LapTrained(rung="sft", name=name, rate=rate, step=step, dev_loss=loss))
        losses = (2.31, float("nan"), 0.412)
        record.now(
            Stage(
                label="sft: training", rung="sft", split="train", done=48, total=90, loss=0.412, losses=losses, eta_s=9
            )
        )
        record.append(ClimbStopped(by="file"))
    text = re.sub(r"\s", " ", page_of(tmp_path)[1].get("/runs/routing-1/now").text)
    assert "When it stopped: sft: training: 48 of 90, loss 0.412." in text
    assert "Loss of the last 3 steps: 2.310 to 0.412" in text
    assert "<polyline" in text
    assert (
        "Trained so far: learning rate 0.0001, step 40: loss on dev 0.512; learning rate 0.0003, step 20: diverged."
        in text
    )


def print_last(folder: Path, text: str) -> None:
    """As a process that the page started, after what earlier ones have printed."""
    log = folder / "runs" / ".lastresort" / "jobs" / "routing-1.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(text)


def stopped_run(folder: Path, by: StoppedBy) -> Path:
    """With the last words of its process."""
    run = finished_run(folder)
    unfinish(run)
    with Record.open(run) as record:
        record.append(ClimbStopped(by=by))
    print_last(folder, "Stopped: the file asks to stop. Go on with --resume.\n")
    return run


def test_the_last_words_are_shown_of_a_process_that_died_while_it_took_up_a_stopped_run(tmp_path: Path) -> None:
    run = stopped_run(tmp_path, "signal")
    site, _ = page_of(tmp_path)
    assert now(site, run.name).last == ()
    with Record.open(run) as record:
        record.append(BudgetSpent(usd=0.0, seconds=2.0))
    time.sleep(0.02)  # the clock of files is up to 10 ms behind
    print_last(tmp_path, "error: the card has no memory left\n")
    site, client = page_of(tmp_path)
    assert "error: the card has no memory left" in now(site, run.name).last
    assert "This run did not go on" in client.get(f"/runs/{run.name}/now").text, (
        "it is more than a run that was stopped"
    )


def test_a_run_that_is_removed_while_it_is_followed_ends_the_stream(tmp_path: Path) -> None:
    site, _ = page_of(tmp_path)

    async def followed() -> list[tuple[str | None, object]]:
        return [(event.event, event.data) async for event in _events(site, "gone-1")]

    assert asyncio.run(followed()) == [("over", '""')]


def test_a_stopped_run_that_cannot_be_resumed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ends before it writes anything."""
    stopped_run(tmp_path, "file")
    recorded_starts(monkeypatch)
    _, client = htmx_page_of(tmp_path)
    assert client.post("/runs/routing-1/resume").status_code == 204
    print_last(tmp_path, "Error: the task has changed.\n")
    text = client.get("/runs/routing-1/now").text
    assert "You stopped it before it finished." in text
    assert "Error: the task has changed." in text


def test_a_record_that_cannot_be_read_hides_no_other_run(tmp_path: Path) -> None:
    finished_run(tmp_path)
    broken = tmp_path / "runs" / "broken-1"
    broken.mkdir()
    (broken / "record.sqlite").write_bytes(b"no database" * 100)
    _, client = page_of(tmp_path)
    text = client.get("/").text
    assert "routing-1" in text
    assert "broken-1" in text
    shown = client.get("/runs/broken-1")
    assert shown.status_code == 200
    assert "record.sqlite" in shown.text


def test_a_record_that_makes_no_sense_hides_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path)
    finished_run(tmp_path, "other-1", task="other")
    read = workspace_module.view_of

    def fails_of_other(fold: Fold) -> RunView | None:
        found = read(fold)
        if found is not None and found.task == "other":
            raise ValueError("not enough values to unpack")
        return found

    monkeypatch.setattr(workspace_module, "view_of", fails_of_other)
    _, client = page_of(tmp_path)
    text = client.get("/").text
    assert 'class="badge MET"' in text
    assert "what no run writes (ValueError)" in text


def test_a_plus_in_a_name_is_no_space(tmp_path: Path) -> None:
    finished_run(tmp_path).rename(tmp_path / "runs" / "a+b-1")
    (tmp_path / "tasks" / "a+b").mkdir()
    _, client = page_of(tmp_path)
    [link] = re.findall(r'href="(/new\?from=[^"]*)"', client.get("/runs/a+b-1").text)
    assert 'value="a+b-1"' in client.get(link).text
    site, client = htmx_page_of(tmp_path)
    site.own(BegunClimbs, BegunClimbs)["c+d-1"] = cast("Popen[bytes]", Working())
    waiting = client.get("/new/a+b/starting?run=c%2Bd-1").text
    [link] = re.findall(r'hx-get="([^"]*)"', waiting)
    assert client.get(link).text == waiting


@pytest.mark.slow
def test_runs_of_one_task_are_compared_in_one_picture(tmp_path: Path) -> None:
    finished_run(tmp_path)
    finished_run(tmp_path, "routing-2")
    finished_run(tmp_path, "other-1", task="other", bar=0.5)
    _, client = page_of(tmp_path)
    text = client.get("/compare?run=routing-1&run=routing-2&run=other-1").text
    assert text.count("<figure") == 2
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == ["routing, bar 80%", "other, bar 50%"]
    assert text.count('<div class="scroll"><figure') == 2, "the picture scrolls, not the page"
    assert "routing-2: " in text
    assert "Select two or more" in client.get("/compare").text
    assert client.get("/compare?run=none").status_code == 404


def test_runs_are_compared_by_money_only_where_all_of_one_task_spent_some(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    for name in ("paid-1", "paid-2"):
        shutil.copytree(run, tmp_path / "runs" / name)
    workspace = Workspace(tmp_path)

    def compared(**spent_usd: float) -> str:
        rows = []
        for name, usd in spent_usd.items():
            state = workspace.state(name.replace("_", "-"))
            assert state.stage is not None
            rows.append(
                row_of(replace(state, stage=state.stage.model_copy(update={"spent_usd": usd, "spent_s": 7200.0})))
            )
        return str(figures(rows)[0].wide)

    assert "money spent" in compared(paid_1=1.0, paid_2=2.0)
    assert "time spent" in compared(paid_1=1.0, routing_1=0.0)


def test_the_name_of_a_run_stays_in_the_picture(tmp_path: Path) -> None:
    def chart(*spent: float) -> str:
        points = [RunPoint(f"run-{seconds:g}", seconds, 0.9, (0.8, 0.95), 0.8, "MET") for seconds in spent]
        return str(runs_chart(points, in_money=False))

    sides = dict(re.findall(r'text-anchor="(\w+)">(run-\d+)<', chart(2, 98)))
    assert sides == {"start": "run-2", "end": "run-98"}


def test_names_and_bars_that_are_close_are_not_drawn_over_each_other() -> None:
    points = [RunPoint(f"run-{n}", 50 + n / 10, 0.9, (0.8, 0.95), 0.8 - n / 50, "MET") for n in range(4)]
    points.append(RunPoint("run-of-a-long-name", 99, 0.9, (0.8, 0.95), 0.8, "MET"))
    for size in (WIDE, NARROW):
        text = str(runs_chart(points, in_money=False, size=size))
        names = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]*)', text)
        shown = [name for *_, name in names]
        assert shown == ([point.name for point in points] if size.named else ["1", "2", "3", "4", "5"])
        assert f"{'' if size.named else '5 '}run-of-a-long-name: 90.0%" in text, "read aloud, a number has its name"
        places = [(float(x), float(y), side, len(name) * A_LETTER) for x, y, side, name in names]
        boxes = [(x - width if side == "end" else x, y, width) for x, y, side, width in places]
        for at, (x, y, width) in enumerate(boxes):
            for other_x, other_y, other_width in boxes[:at]:
                assert x >= other_x + other_width or other_x >= x + width or abs(y - other_y) >= APART - 0.1
        bars = [float(y) for y in re.findall(r'y="([\d.]+)">bar', text)]
        assert min(abs(one - other) for at, one in enumerate(bars) for other in bars[:at]) > 8


@pytest.mark.parametrize("bars", [[0.8, 0.79, 0.78], [0.8] * 12, [0.8 - n / 200 for n in range(20)]])
def test_a_pile_of_names_and_bars_is_apart_and_above_the_axis(bars: list[float]) -> None:
    points = [RunPoint(f"run-{n}", 50, 0.9, (0.8, 0.95), bar, "MET") for n, bar in enumerate(bars)]
    for size in (WIDE, NARROW):
        text = str(runs_chart(points, in_money=False, size=size))
        for name in (r'y="([\d.]+)">bar', r'class="name" x="[\d.]+" y="([\d.]+)" text-anchor'):
            places = sorted(map(float, re.findall(name, text)))
            assert all(low - high >= APART - 0.1 for high, low in pairwise(places))
            [axis] = set(re.findall(r'y="([\d.]+)" text-anchor="middle">\d', text))
            assert places[-1] <= float(axis) - 12
        [height] = re.findall(r'viewBox="0 0 \d+ (\d+)"', text)
        assert float(axis) < int(height)


@pytest.mark.slow
def test_a_verdict_whose_interval_includes_the_bar_says_what_its_test_showed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path, "plain-1", bar=0.5)
    client = page_of(tmp_path)[1]
    assert "although its interval includes the bar" not in client.get("/").text
    monkeypatch.setattr("ui_support.MET", [{"right": 0.88}])
    run = finished_run(tmp_path, "close-1", bar=0.82)
    test = read_view(run).rungs[0].test
    assert test is not None
    assert (test.verdict, test.interval[0] < 0.82) == ("MET", True)
    for address in ("/", "/compare?run=close-1&run=plain-1"):
        text = client.get(address).text
        assert text.count("although its interval includes the bar") == 1, address
        assert text.count("<small>test: 83.9% or more</small>") == 1, "once, for the run of which it is true"
    assert "<small>test: 83.9% or more</small>" in client.get("/runs/close-1").text, "also in its ladder"


@pytest.mark.slow
def test_a_comparison_says_that_a_run_was_spared_work_where_one_was(tmp_path: Path) -> None:
    for name in ("one-1", "two-1"):
        finished_run(tmp_path, name)
    site, client = page_of(tmp_path)
    assert SPARED not in client.get("/compare?run=one-1&run=two-1").text
    row = row_of(site.workspace.state("one-1"))
    assert row.view is not None
    assert row.run.stage is not None
    [rung] = row.view.rungs
    for spent, said in (
        ({"seconds": 0.5}, ""),
        ({"seconds": 100.0}, SPARED),
        ({"usd": 0.5}, ""),
        ({"usd": 0.6}, SPARED),
    ):
        view = row.view.replaced(rungs=(rung.model_copy(update={"cost": rung.cost.model_copy(update=spent)}),))
        run = replace(row.run, view=view, stage=row.run.stage.model_copy(update={"spent_usd": 0.5}))
        assert spared([row, replace(row, run=run)]) == said, spent


def test_every_run_that_is_compared_is_counted_and_listed_and_the_others_are_named(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    for number in range(2, 11):
        shutil.copytree(run, tmp_path / "runs" / f"routing-{number}")
    (tmp_path / "runs" / "routing-2" / "record.sqlite").write_bytes(b"damaged")
    _, client = page_of(tmp_path)

    def compared(*numbers: int) -> str:
        return client.get("/compare", params={"run": [f"routing-{number}" for number in numbers]}).text

    assert "<h1>Compare runs</h1>" in compared(1, 1)
    text = compared(1, 2)
    assert "<h1>2 runs compared</h1>" in text
    assert text.count("<tr><td><a href=") == 2
    assert "left out" not in text
    text = compared(1, *range(1, 11))
    assert "<h1>8 runs compared</h1>" in text
    assert "At most 8 runs are compared: 2 runs left out." in text


def test_runs_of_one_task_with_other_bars_share_a_picture_with_a_line_for_each(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    finished_run(tmp_path, "routing-2", bar=0.5)
    _, client = page_of(tmp_path)
    text = client.get("/compare?run=routing-1&run=routing-2").text
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == ["routing, bars 50% and 80%"]
    assert text.count('<line class="bar"') == 2 * 2, "in the picture of each width"
    test, reuse = read_decision(run).rungs[0].test, read_decision(tmp_path / "runs" / "routing-2").test_reuse
    assert test is not None
    assert f'<td class="number" data-label="Test items">{test.n_used}</td>' in text
    assert text.count("TEST ITEMS REUSED") == (reuse is not None and reuse.used > 0)


@pytest.mark.slow
def test_a_run_at_work_is_followed_to_its_end(tmp_path: Path) -> None:
    """The stream says when to draw again; what is drawn comes from the record."""
    task = slow_task(tmp_path, delay_s=0.01)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    site, client = page_of(tmp_path)
    try:
        until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
        until(lambda: site.workspace.state("routing-1").state == "running", "the run is at work")
        assert 'data-mark="running' in client.get("/runs/routing-1").text
        events = events_of(client, "/runs/routing-1/live")
    finally:
        process.communicate(timeout=120)
    kinds = [kind for kind, _ in events]
    assert kinds.count("now") > 1
    assert "found" in kinds
    assert kinds[-1] == "over"
    assert f'data-mark="{json.loads(events[-1][1])}"' in client.get("/runs/routing-1").text, (
        "so it is not drawn once more"
    )
    assert "finished" in client.get("/runs/routing-1/now").text


def test_a_refusal_leaves_what_it_is_about_on_the_page() -> None:
    """State, last words and buttons of a run, a training and a talk stay: a refusal is shown below them."""
    templates = {path.name: path.read_text() for path in Path(site_module.__file__).with_name("templates").glob("*.j2")}
    posts = [(name, tag) for name, text in templates.items() for tag in re.findall(r"<[^>]*hx-post=[^>]*>", text)]
    assert len(posts) > 20
    assert [one for one in posts if re.search('hx-target="#(now|talk|exchanges)"', one[1])] == []
    for name in ("run", "training", "talk"):
        assert '<div id="refused"></div>' in templates[f"{name}.html.j2"]


@pytest.mark.slow
def test_a_run_is_stopped_and_resumed_in_the_page(tmp_path: Path) -> None:
    task = slow_task(tmp_path, delay_s=0.05)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    site, client = page_of(tmp_path)
    try:
        until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
        until(lambda: site.workspace.state("routing-1").stage, "the run has a stage")
        stopping = client.post("/runs/routing-1/stop")
        assert "Stopping at the next check" in stopping.text
        assert (stopping.headers["hx-retarget"], stopping.headers["hx-reswap"]) == ("#now", "innerHTML")
        assert process.wait(timeout=120) == 4
    finally:
        end(process)
    assert site.workspace.state("routing-1").state == "stopped"
    assert "You stopped it before it" in client.get("/runs/routing-1/now").text
    script = task.parent / "script.json"
    script.write_text(json.dumps(json.loads(script.read_text()) | {"delay_s": 0}))
    assert client.post("/runs/routing-1/resume").status_code == 204
    until(lambda: site.workspace.state("routing-1").state == "finished", "the run has finished")
    assert read_decision(tmp_path / "runs/routing-1").verdict == "MET"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "says"),
    [(signal.SIGKILL, "It died before it"), (signal.SIGTERM, "A signal to its process (such as Ctrl-C) stopped it")],
)
def test_a_run_that_is_ended_by_a_signal_is_not_shown_as_at_work(tmp_path: Path, number: int, says: str) -> None:
    task = slow_task(tmp_path, delay_s=0.05)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    site, client = page_of(tmp_path)
    until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
    until(lambda: site.workspace.state("routing-1").state == "running", "the run is at work")
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert events_of(client, "/runs/routing-1/live")[-1][0] == "over"
    assert says in client.get("/runs/routing-1/now").text


def test_a_task_file_outside_of_the_workspace_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be somebody else's, and name any file of this machine."""
    run = finished_run(tmp_path / "here")
    unfinish(run)
    elsewhere = (tmp_path / "here" / "tasks" / "routing").rename(tmp_path / "elsewhere")
    with Record.open(run) as record:
        record.append(TaskPlaced(path="../../../elsewhere/task.yaml", run=".."))
    (elsewhere / "own.py").write_text("open('ran', 'w')\ndef score(answer, expected):\n    return 1.0\n")
    change_task(elsewhere / "task.yaml", score={"python": "own.py:score"})
    started = recorded_starts(monkeypatch)
    _, client = htmx_page_of(tmp_path / "here")
    for answer in (client.post("/runs/routing-1/resume"), client.get("/runs/routing-1/confirm")):
        assert answer.status_code == 422
        assert "Resume it in a terminal" in answer.text
    assert not started
    assert not list(tmp_path.rglob("ran"))


def carried(folder: Path, **keys: object) -> Path:
    """A stopped run of somebody else, put into the workspace with its task in its own folder."""
    run = finished_run(folder)
    unfinish(run)
    task = (folder / "tasks" / "routing").rename(run / "carried") / "task.yaml"
    with Record.open(run) as record:
        record.append(TaskPlaced(path="carried/task.yaml", run=".."))
    change_task(task, **keys)
    return task


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({"score": {"python": "own.py:score"}}, "open(&#39;ran&#39;"),
        ({"model": "http://elsewhere.example/v1#theirs"}, "http://elsewhere.example/v1#theirs"),
    ],
)
def test_what_a_run_would_run_or_send_is_agreed_to_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, object], shown: str
) -> None:
    """Also where its task lies in the workspace: whoever copies a run into it copies what it names."""
    task = carried(tmp_path.resolve(), **keys)
    (task.parent / "own.py").write_text("open('ran', 'w')\ndef score(answer, expected):\n    return 1.0\n")
    started = recorded_starts(monkeypatch)
    _, client = htmx_page_of(tmp_path)
    assert client.post("/runs/routing-1/resume").headers["hx-redirect"] == "/runs/routing-1/confirm"
    assert client.post("/runs/routing-1/resume", data={"yes": "guessed"}).headers["hx-redirect"].endswith("/confirm")
    assert not started
    text = client.get("/runs/routing-1/confirm").text
    assert shown in text
    mark = re.findall(r'name="yes" value="(\w+)"', text)[0]
    assert client.post("/runs/routing-1/resume", data={"yes": mark}).headers["hx-redirect"] == "/runs/routing-1"
    job, reaches = started[0]
    assert job.arguments == ("climb", str(task), "--resume", str(task.parent.parent))
    assert reaches == ((shown,) if "model" in keys else ())


def test_settings_that_a_run_was_started_with_are_agreed_to_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process takes an endpoint of the record from nobody: the page names it, after a yes."""
    run = finished_run(tmp_path)
    unfinish(run)
    with Record.open(run) as record:
        record.append(OptionsChosen(settings={"model": "openai:gpt-5", "bar": 0.9}, until=None))
    started = recorded_starts(monkeypatch)
    _, client = htmx_page_of(tmp_path)
    options = ["--set", "model=openai:gpt-5", "--set", "bar=0.9"]
    shown = html.unescape(client.get("/runs/routing-1/now").text)
    assert f"--resume runs/routing-1 {' '.join(options)}</code>" in shown
    assert client.post("/runs/routing-1/resume").headers["hx-redirect"] == "/runs/routing-1/confirm"
    asked = client.get("/runs/routing-1/confirm").text
    assert "<code>openai:gpt-5</code>" in asked
    mark = re.findall(r'name="yes" value="(\w+)"', asked)[0]
    client.post("/runs/routing-1/resume", data={"yes": mark})
    job, reaches = started[0]
    assert list(job.arguments[-4:]) == options
    assert reaches == ("openai:gpt-5",)


@pytest.mark.parametrize(
    "value",
    [
        "openai:gpt-5", "http://localhost:8000/v1#a", "models/a", "0.9", "yes", "a: b", "a`b", "ENDPOINT#m", "Off", "1/2", "12:30",
        "", 3, 0.5, None, True, ["a", "#b"], {"c": "d'"},
    ],
)  # fmt: skip
def test_a_setting_reads_as_it_was_when_it_is_named_again(value: object) -> None:
    assert parse_settings([*set_options({"key.of": value})][1:]) == {"key.of": value}


NEEDED = (
    "PATH",
    "HOME",
    "LC_ALL",
    "HF_TOKEN",
    "HF_HOME",
    "CUDA_VISIBLE_DEVICES",
    "TOKENIZERS_PARALLELISM",
    "https_proxy",
)


def test_a_process_gets_what_it_needs_and_nothing_that_may_be_a_key() -> None:
    """What is needed for a base model that is not open to all is none of them: no endpoint gets it."""
    kept = dict.fromkeys((*NEEDED, "LASTRESORT_CACHE"), "1")
    secret = (
        "LASTRESORT_API_KEY LASTRESORT_API_KEYS LASTRESORT_SERVE_KEY AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID GITHUB_PAT "
        "DB_PASS PGPASSWORD SSH_PRIVATE_KEY AZURE_CREDENTIALS GITHUB_TOKEN OPENAI_APIKEY WANDB_API_KEY Some_Secret MYSQL_PWD "
        "DATABASE_URL SSH_AUTH_SOCK SENTRY_DSN REDIS_AUTH CI_JOB_JWT NPM_CONFIG__AUTH HF_AUTH PYTHON_API_KEY"
    ).split()
    own = kept | dict.fromkeys(secret, "k")
    assert environment(own) == kept
    named = own | {"LASTRESORT_PASS_ENV": "REDIS_AUTH, NOT_THERE"}
    assert environment(named) == kept | {"LASTRESORT_PASS_ENV": "REDIS_AUTH, NOT_THERE", "REDIS_AUTH": "k"}


@pytest.mark.parametrize(
    ("reaches", "gets"),
    [
        (["openai:gpt-5"], {"OPENAI_API_KEY": "o", "OPENAI_ORG_ID": "org"}),
        (["http://localhost:8000/v1#m"], {"LASTRESORT_API_KEY": "k"}),
        (["https://a.example.org/v1#m"], {"LASTRESORT_API_KEY": "k", "LASTRESORT_API_KEYS": "a.example.org=1"}),
        (["wandb"], {"WANDB_API_KEY": "w", "WANDB_PROJECT": "p"}),
        (["tensorboard"], {}),
    ],
)
def test_a_process_gets_the_keys_of_what_it_reaches_alone(reaches: list[str], gets: dict[str, str]) -> None:
    own = {
        "OPENAI_API_KEY": "o", "OPENAI_ORG_ID": "org", "OPENAI_ADMIN_KEY": "a", "LASTRESORT_API_KEY": "k", "AWS_SESSION_TOKEN": "s",
        "LASTRESORT_API_KEYS": "a.example.org=1,b.example.org:8443=2", "WANDB_API_KEY": "w", "WANDB_PROJECT": "p", "MLFLOW_X": "m",
    }  # fmt: skip
    assert environment(own, reaches) == gets


@pytest.mark.parametrize("bound", [True, False])
def test_a_process_runs_no_module_of_the_workspace(tmp_path: Path, bound: bool) -> None:
    (tmp_path / "yaml.py").write_text("open('ran', 'w')\n")
    process = start_process(["--version"], folder=tmp_path, out=subprocess.PIPE, faults=subprocess.STDOUT, bound=bound)
    with process:
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"lastresort")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("linked", [".lastresort", ".lastresort/jobs", ".lastresort/jobs/a-1.log"])
def test_a_log_is_written_through_no_link(tmp_path: Path, linked: str) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "runs" / linked
    link.parent.mkdir(parents=True)
    elsewhere.write_text("mine\n") if linked.endswith("log") else elsewhere.mkdir()
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match="found a link"):
        jobs.start(jobs.climb_job(tmp_path / "runs", tmp_path / "runs" / "a-1", ["x.yaml"]))
    assert elsewhere.read_text() == "mine\n" if elsewhere.is_file() else not list(elsewhere.iterdir())
    with pytest.raises(NotThere) if not linked.endswith(("log", "jobs")) else nullcontext():
        Workspace(tmp_path).own_folder("plans")


def test_a_job_that_has_ended_is_no_zombie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nobody looks at it."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    process = jobs.start(jobs.climb_job(tmp_path / "runs", tmp_path / "runs" / "a-1", ["x.yaml"]))
    until(lambda: process.returncode is not None, "it is waited for")


def test_a_job_writes_what_nobody_needs_into_a_folder_of_its_own_which_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models and answers that others can use stay where everybody has them, and a cache that is named is used."""
    program = tmp_path / "program"
    program.write_text(
        '#!/bin/sh\ntouch "$TMPDIR/left"\nls "$TMPDIR" > there\nenv > got.new\nmv got.new got\ncat fifo\n'
    )
    program.chmod(0o700)
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/everybodys")
    for name in ("HF_HOME", *CACHES):  # torch names its own once it is loaded
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/named")
    jobs.start(jobs.climb_job(tmp_path / "runs", tmp_path / "runs" / "a-1", ["x.yaml"]))
    until((tmp_path / "got").is_file, "it runs")
    [own] = tmp_path.glob("lastresort-job-*")
    got = dict(line.split("=", 1) for line in (tmp_path / "got").read_text().splitlines() if "=" in line)
    assert "left" in (tmp_path / "there").read_text()
    assert [got[name] for name in ("TMPDIR", "XDG_CACHE_HOME")] == [str(own), str(own / "cache")]
    assert got["TORCHINDUCTOR_CACHE_DIR"].startswith(str(own))
    shared = {
        "TRITON_CACHE_DIR": "/named",
        "HF_HOME": "/everybodys/huggingface",
        "LASTRESORT_CACHE": str(cache_folder()),
    }
    assert {name: got[name] for name in shared} == shared
    (tmp_path / "fifo").write_text("end\n")
    until(lambda: not own.exists(), "its folder goes when it ends")


def test_what_a_job_left_that_outlived_its_page_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    over, working, begun = (tmp_path / f"lastresort-job-{name}" for name in ("over", "working", "begun"))
    for folder, process in ((over, ended.pid), (working, os.getpid()), (begun, None)):
        folder.mkdir()
        if process is not None:
            (folder / "pid").write_text(str(process))
    jobs.remove_left_over()
    assert [folder.exists() for folder in (over, working, begun)] == [False, True, True]


def test_a_run_is_not_read_again_because_somebody_reads_it(tmp_path: Path) -> None:
    """A page of items reads the record of a run, and its state meanwhile."""
    run, workspace = finished_run(tmp_path), Workspace(tmp_path)
    before, mark = workspace.state("routing-1"), workspace.mark("routing-1")
    with Record.open(run, read_only=True) as record:
        assert record.newest()
        assert workspace.state("routing-1") is before
        assert workspace.mark("routing-1") == mark
    with Record.open(run) as record:
        record.append(ClimbResumed())
    assert workspace.state("routing-1") is not before


@pytest.mark.parametrize("linked", ["runs/.lastresort", "runs/.lastresort/jobs", "runs/.lastresort/jobs/routing-1.log"])
def test_no_log_is_read_through_a_link(tmp_path: Path, linked: str) -> None:
    """A workspace may be somebody else's."""
    print_last(tmp_path, "secret\n")
    (tmp_path / linked).rename(tmp_path / "elsewhere")
    (tmp_path / linked).symlink_to(tmp_path / "elsewhere")
    assert last_words(tmp_path / "runs", tmp_path / "runs" / "routing-1") == ()


def test_last_words_are_few_lines_of_a_long_log(tmp_path: Path) -> None:
    print_last(tmp_path, "".join(f"line {n}\n" for n in range(100_000)))
    words = last_words(tmp_path / "runs", tmp_path / "runs" / "routing-1")
    assert len(words) == 12
    assert words[-1] == "line 99999"


def test_what_a_site_owns_is_made_once_and_ends_with_it(tmp_path: Path) -> None:
    class Owned(list[str]): ...

    site = Site(Workspace(tmp_path))
    owned = site.own(Owned, Owned, lambda one: one.append("ended"))
    assert site.own(Owned, lambda: pytest.fail("made again")) is owned
    assert owned == []
    site.close()
    assert owned == ["ended"]


def test_what_is_slow_to_make_is_made_once_a_state_and_the_oldest_goes(tmp_path: Path) -> None:
    site, made = Site(Workspace(tmp_path)), list[int]()

    def of(state: int) -> str:
        return site.once("figures", state, lambda: made.append(state) or str(state), most=2)

    assert [of(state) for state in (1, 2, 1, 3, 2, 1)] == ["1", "2", "1", "3", "2", "1"]
    assert made == [1, 2, 3, 1]


@pytest.mark.parametrize(("text", "name"), [("My data.csv", "My-data.csv"), ("../../etc", "etc"), ("a/b", "a-b")])
def test_a_name_is_made_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_a_record_is_read_again_only_once_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path)
    workspace = Workspace(tmp_path)
    first = workspace.state("routing-1")
    monkeypatch.setattr(Record, "open", lambda *arguments, **more: pytest.fail("read again"))
    assert workspace.state("routing-1") is first


def test_what_is_kept_of_a_run_goes_into_the_folder_of_its_task_file(tmp_path: Path) -> None:
    """Copies of a task share its name; a task file elsewhere leaves only that."""
    finished_run(tmp_path, task="other")
    elsewhere = scripted_task(tmp_path / "elsewhere", quality=MET, task={"task": "other", "ladder": ["prompting"]})
    climb(load_task(elsewhere), tmp_path / "runs" / "other-1")
    workspace = Workspace(tmp_path)
    assert [workspace.state(name).home for name in ("routing-1", "other-1")] == ["routing", "other"]


def test_a_screen_reader_hears_of_a_stage_and_not_of_its_figures(tmp_path: Path) -> None:
    finished_run(tmp_path)
    _, client = page_of(tmp_path)
    text = client.get("/runs/routing-1").text
    assert 'data-says="finished"' in text
    assert '<p id="told" class="visually-hidden" role="status"></p>' in text
    assert "aria-live" not in text.partition('<div id="report"')[0]
