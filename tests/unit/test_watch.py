"""Any process can follow a climb: what is new, how it stands, what it is at; the view is whole at every moment."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from climb_gate_support import SAFE, gated_climb, quality, script_rungs
from climb_support import scripted_task, statement
from document_schemas import schema_of
from lastresort.app.climb import climb
from lastresort.app.console import JsonProgress, LineProgress, LiveProgress, shown_as_lines
from lastresort.app.runs import Run
from lastresort.app.watch import Snapshot, follow
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb.workbench import StageWriter
from lastresort.climb.workspace import newest_run
from lastresort.errors import BudgetError, DataError, InfrastructureError, TaskError
from lastresort.records.decision import RunView
from lastresort.records.events.after_test import WaysChosen
from lastresort.records.events.base import LOSSES, Stage
from lastresort.records.events.run import ClimbFinished, ClimbStopped, TaskRead
from lastresort.records.events.search import CandidateMeasured, RungGivenUp, RungSkipped, RungTested
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.records.view import Fold
from lastresort.report.decision import read_decision, read_view
from lastresort.report.html import write_report
from lastresort.report.markdown import markdown
from lastresort.report.notebook import ladder_html
from lastresort.report.terminal import ladder_table
from lastresort.report.words.progress import LATE, SOON, left_line, line_of, rate_line, stage_line
from lastresort.report.words.titles import headline
from lastresort.report.words.wording import NO_BREAK
from lastresort.report.words.wording import state_of as state_of_rung
from lastresort.spec.task import load_task
from lastresort.types import CountsSteps, Judgement, SilentProgress

TESTING = "prompting: testing"
QUALITY = [{"right": 0.3}, {"right": 0.97, "min_shots": 3}]

FOLLOWER = """
import sys
from pathlib import Path
from lastresort.app.watch import follow
for sight in follow(Path(sys.argv[1]), every_s=0.05):
    rungs = [] if sight.view is None else [rung.name for rung in sight.view.rungs if rung.test is not None]
    label = "" if sight.stage is None else sight.stage.label
    print(sight.state, ",".join(event.kind for event in sight.new), "+".join(rungs), label, sep="|", flush=True)
"""


def task_of(folder: Path, **script: object) -> Path:
    return scripted_task(folder / "task", quality=QUALITY, script=script or None)


class Watched(SilentProgress):
    """Starts a follower once the climb is at work, and waits in the test of the rung until it has seen that."""

    def __init__(self, run: Path) -> None:
        self.run, self.label = run, ""
        self.other: subprocess.Popen[str] | None = None
        self.heard: list[str] = []

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.label = label

    def advance(self, amount: int = 1, note: str = "") -> None:
        if self.other is None:
            command = [sys.executable, "-c", FOLLOWER, str(self.run)]
            self.other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.other.stdout is not None
        while self.label.startswith(TESTING) and not any(TESTING in line for line in self.heard):
            self.heard.append(self.other.stdout.readline())
            assert self.heard[-1], "the follower has ended"


def test_the_last_second_of_a_stage_is_said_in_words() -> None:
    assert [left_line(left_s) for left_s in (0.4, 0.0, -3.0)] == [SOON, LATE, LATE]
    assert left_line(1.0).replace(NO_BREAK, " ") == "about 1.0 s left"


def test_a_second_process_follows_a_climb_to_its_end(tmp_path: Path) -> None:
    shown = Watched(tmp_path / "run")
    decision = climb(load_task(task_of(tmp_path)), shown.run, progress=shown).decision.as_json()
    assert shown.other is not None
    rest, _ = shown.other.communicate(timeout=300)
    lines = [line.rstrip("\n").split("|") for line in (*shown.heard, *rest.splitlines())]
    kinds = [kind for line in lines for kind in line[1].split(",") if kind]
    assert (kinds[0], kinds[-1], kinds.count("rung_tested")) == ("run_began", "climb_finished", 1)
    assert {line[0] for line in lines[:-1]} == {"running"}
    assert (lines[-1][0], lines[-1][2]) == ("finished", "prompting")
    assert any(line[3].startswith(TESTING) and not line[2] for line in lines), "seen while it is tested"
    assert decision["verdict"] == "MET"


def test_while_the_bar_is_tested_the_record_holds_the_interval_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It narrows around the score."""
    stages: list[Stage] = []

    def now(record: Record, stage: Stage) -> None:
        stages.append(stage)

    monkeypatch.setattr(Record, "now", now)
    path = scripted_task(tmp_path / "task", quality=QUALITY, task={"confidence": 0.99})
    found = climb(load_task(path), tmp_path / "run").decision
    seen = [stage.test for stage in stages if stage.split == "test" and stage.test is not None]
    counts = [test.n for test in seen]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2
    widths = [test.interval[1] - test.interval[0] for test in seen]
    assert widths[-1] < widths[0]
    assert all(test.interval[0] <= test.score <= test.interval[1] and test.bar == found.bar for test in seen)
    tested = found.rungs[0].test
    assert tested is not None
    assert counts[-1] >= tested.n_used, "up to the batch that decided"
    assert not [stage for stage in stages if stage.split != "test" and stage.test is not None]


def test_while_the_gate_looks_the_record_holds_its_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looking has shown so far; at the end the same items and scores as in the gate itself."""
    script_rungs(monkeypatch)
    stages: list[Stage] = []
    monkeypatch.setattr(Record, "now", lambda record, stage: stages.append(stage))
    climbed = gated_climb(tmp_path, quality(SAFE))
    gate = climbed.decision.gate
    assert gate is not None
    with Record.open(climbed.run, read_only=True) as record:
        events = [event for _, event in record.since()]
    begun = Fold.of(events[: [event.kind for event in events].index("gate_run")]).view()
    assert begun is not None
    assert headline(begun) == "Not decided yet: SFT reaches 96.4% against a bar of 80%, and no gate has decided so far."
    seen = [stage.gate for stage in stages if stage.gate]
    assert {stage.split for stage in stages if stage.gate} == {"gate"}
    counts = [sum(measure.n for measure in measures) for measures in seen]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    last = {measure.name: measure for measure in seen[-1]}
    for suite in gate.suites:
        if suite.verdict != "UNINFORMATIVE":
            found = last[suite.name]
            assert (found.n, found.base, found.tuned) == (
                suite.n,
                pytest.approx(suite.base),
                pytest.approx(suite.tuned),
            )
            assert found.state != "open"
            assert found.state != "loss"


def test_a_run_that_is_over_is_seen_once(tmp_path: Path) -> None:
    found = climb(load_task(task_of(tmp_path)), tmp_path / "run")
    [sight] = follow(found.run)
    assert (sight.state, len(sight.new) > 10) == ("finished", True)
    assert isinstance(sight.new[-1], ClimbFinished)
    assert sight.view is not None
    assert sight.view.as_json() == found.decision.as_json()
    with pytest.raises(DataError, match="found no record"):
        next(iter(follow(tmp_path)))


def test_the_view_is_whole_after_every_event_and_ends_in_the_decision(tmp_path: Path) -> None:
    found = climb(load_task(task_of(tmp_path)), tmp_path / "run")
    fold, answered = Fold(), 0
    with Record.open(found.run, read_only=True) as record:
        events = [event for _, event in record.since()]
    for event in events:
        fold.take(event)
        seen = fold.view()
        if seen is None:
            continue
        if isinstance(event, CandidateMeasured) and event.rung == "prompting":
            answered += event.tokens_in
            assert seen.rungs[0].cost.tokens_in == answered
        assert seen.decided == (event.kind in ("climb_decided", "climb_finished"))
    assert Fold.of(events).view() == fold.view()
    before = Fold.of(events[: [event.kind for event in events].index("climb_decided")]).view()
    assert before is not None
    ended, [rung] = found.decision.as_json()["rungs"], before.as_json()["rungs"]
    assert ended == [rung]


def test_a_climb_that_goes_on_after_its_decision_has_none_until_the_next(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path / "task", quality=[{"right": 0.3}]))
    found = climb(task, tmp_path / "run", until="prompting")
    with Record.open(found.run) as record:
        tested = record.last(RungTested)
        assert tested is not None
        record.append(tested.model_copy(update={"rung": "sft"}))
        found = standing(record)
    assert not found.decided
    assert [rung.name for rung in found.rungs] == ["prompting", "sft"]


def test_a_rung_that_is_given_up_has_no_candidates_and_one_that_had_no_time_is_taken_up_again(tmp_path: Path) -> None:
    task = load_task(task_of(tmp_path))
    item = ItemScore("a", 1.0, "x", "x", "i", "stop", None, 10, 2, 0.1, 0.0)
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task=task.resolved()))
        record.append(RungSkipped(rung="sft", reason=statement("no time")))
        record.add_measurement(Measurement("prompting", "zero-shot", "dev[0:1]", 1, (item,)))
        record.append(RungGivenUp(rung="prompting", reason=statement("out of reach")))
        prompting, sft = standing(record).rungs
        assert (prompting.applies, prompting.skipped_because, prompting.candidates) == (
            False,
            statement("out of reach"),
            (),
        )
        assert (sft.applies, sft.skipped_because) == (False, statement("no time"))
        record.add_measurement(Measurement("sft", "lr0.001", "dev[0:1]", 1, (item,)))
        sft = standing(record).rungs[1]
        assert (sft.applies, [one.name for one in sft.candidates]) == (True, ["lr0.001"])


def test_what_a_rung_without_a_test_took_is_shown_with_its_state(tmp_path: Path) -> None:
    task = load_task(task_of(tmp_path))
    item = ItemScore("a", 1.0, "x", "x", "i", "stop", None, 1234, 2, 11.0, 0.0)
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task=task.resolved() | {"ladder": ["prompting", "retrieval", "sft"]}))
        record.add_measurement(Measurement("prompting", "zero-shot", "dev[0:1]", 1, (item,)))
        record.append(RungGivenUp(rung="prompting", reason=statement("out of reach")))
        record.append(RungSkipped(rung="retrieval", reason=statement("no documents")))
        record.add_measurement(Measurement("sft", "lr0.001", "dev[0:1]", 1, (item,)))
        found = standing(record)
    states = ["given up", "skipped", "unfinished"]
    assert [state_of_rung(rung) for rung in found.rungs] == states
    costs = write_report(tmp_path / "run").read_text("utf-8").partition('<h2 id="cost">')[2].partition("</table>")[0]
    rows = [" ".join(re.sub("<[^>]+>", " ", row).split()) for row in costs.split("<tr")[2:]]
    spent = f"1,234 2 11{NO_BREAK}s $0".replace(NO_BREAK, " ")
    assert [row.partition("> ")[2].replace(NO_BREAK, " ") for row in rows] == [
        f"prompting given up {spent}",
        "retrieval skipped",
        f"sft 1 {spent}",
        "Total 2,468 4 22 s $0",
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(ladder_table(found))
    shown = console.export_text()
    assert all(state in shown for state in (*states, "Prompting was given up: out of reach."))
    assert "| prompting | | | | | out of reach | 11 s | $0 |" in markdown(found)
    assert all(state in ladder_html_text(found) for state in states)


def ladder_html_text(found: RunView) -> str:
    coded = ladder_html(found).partition("base64,")[2].partition('"')[0]
    return base64.b64decode(coded).decode()


def standing(record: Record) -> RunView:
    found = Fold.of(event for _, event in record.since()).view()
    assert found is not None
    return found


@pytest.mark.slow
def test_a_run_that_was_cut_off_has_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with pytest.raises(InfrastructureError) as failure:
        climb(load_task(task_of(tmp_path, faults={"fail_at": [150]})), run)
    cut_off = read_view(run)
    assert headline(cut_off) == "Not decided yet: prompting has not been tested."
    assert cut_off.rungs[0].candidates
    page = write_report(run).read_text("utf-8")
    assert "Not decided yet" in page
    assert "No rung has been tested yet" in page
    assert '<h2 id="why">' not in page
    for options in ((), ("--markdown",)):
        assert command("report", str(run), *options) == 0
        assert "Not decided yet" in capsys.readouterr().out
    assert command("report", str(run), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(schema_of("decision")).validate(document)
    assert (document["verdict"], document["answer"], document["winner"]) == (None, None, None)
    with pytest.raises(DataError, match="has not decided"):
        read_decision(run)
    assert command("watch", str(run)) == 0
    out, error = capsys.readouterr()
    assert "prompting: zero-shot scores" in out
    assert f"It ended with an error before it finished: {failure.value} No process is running this climb." in error


class Interrupts(SilentProgress):
    """As Ctrl-C does, after the first batch."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        raise KeyboardInterrupt


def test_a_climb_that_was_interrupted_did_not_die(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until it goes on: if it is killed then, it has died."""
    run, task = tmp_path / "run", load_task(task_of(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        climb(task, run, progress=Interrupts())
    assert command("watch", str(run)) == 0
    watched = capsys.readouterr().err
    assert "A signal to its process (such as Ctrl-C) stopped it before it finished." in watched
    assert command("report", str(run)) == 0
    assert watched in capsys.readouterr().err, "it also says how to resume"
    with pytest.raises(ZeroDivisionError):
        climb(task, run, progress=Breaks())
    assert command("watch", str(run)) == 0
    assert (
        "It died before it finished: it crashed, was killed, or did not end soon enough after a signal (such as Ctrl-C). No process"
        in capsys.readouterr().err
    )


class Breaks(SilentProgress):
    def advance(self, amount: int = 1, note: str = "") -> None:
        raise ZeroDivisionError


def test_a_climb_that_reached_a_limit_did_not_die(tmp_path: Path) -> None:
    task = load_task(task_of(tmp_path))
    task = task.model_copy(update={"limits": task.limits.model_copy(update={"hours": 1e-9})})
    with pytest.raises(BudgetError):
        climb(task, tmp_path / "run")
    [sight] = follow(tmp_path / "run")
    assert (sight.state, sight.stopped) == ("stopped", ClimbStopped(by="limit"))


def test_watching_a_finished_run_prints_its_ladder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = climb(load_task(task_of(tmp_path)), tmp_path / "run")
    assert command("watch", str(found.run)) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert headline(found.decision) in out
    assert "prompting: few-shot" in out


def test_a_folder_of_runs_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("old", "new")):
        with Record.create(tmp_path / "runs" / name):
            pass
        os.utime(tmp_path / "runs" / name / "record.sqlite", (number, number))
    assert command("watch", str(tmp_path / "runs")) == 2
    runs = tmp_path / "runs"
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(f"Name a run in it, the newest first: {runs / 'new'}, {runs / 'old'}.")


def command(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lastresort", *words])
        return guarded(app)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_stage_says_where_the_climb_is_and_how_long_it_takes(tmp_path: Path) -> None:
    clock = Clock()
    with Record.create(tmp_path) as record:
        record._clock = clock
        writer = StageWriter(SilentProgress(), record, lambda: (clock.now, 0.5), clock=clock)
        writer.at("sft")
        clock.now += 1
        writer.stage("sft: training", 100)
        clock.now += 10
        writer.at("sft", "lr0.001", "train", 0.412)
        writer.advance(20)
        clock.now += 1
        writer.at("sft", "lr0.001", "train")
        stage = record.stage()
        assert stage == Stage(
            label="sft: training",
            rung="sft",
            candidate="lr0.001",
            split="train",
            done=20,
            total=100,
            loss=0.412,
            losses=(0.412,),
            eta_s=40.0,
            spent_s=112.0,
            spent_usd=0.5,
        )
        assert stage_line(stage).replace(NO_BREAK, " ") == "sft: training: 20 of 100, about 40 s left, loss 0.412"
        writer.stage("sft: measuring")
        clock.now += 1
        writer.advance()
        place = {"rung": "sft", "candidate": "lr0.001", "split": "train"}
        assert record.stage() == Stage(label="sft: measuring", **place, done=1, spent_s=113.0, spent_usd=0.5)


class Showing(SilentProgress):
    def __init__(self) -> None:
        self.shown: list[tuple[RunView | None, Stage]] = []

    def show(self, view: RunView | None, stage: Stage) -> None:
        self.shown.append((view, stage))


def test_progress_that_can_show_a_run_gets_its_view_with_every_stage(tmp_path: Path) -> None:
    clock, shown = Clock(), Showing()
    task = load_task(task_of(tmp_path))
    item = ItemScore("a", 1.0, "x", "x", "i", "stop", None, 10, 2, 0.1, 0.0)
    with Record.create(tmp_path / "run") as record:
        writer = StageWriter(shown, record, lambda: (clock.now, 0.0), clock=clock)
        writer.stage("reading")
        record.append(TaskRead(task=task.resolved()))
        record.add_measurement(Measurement("prompting", "zero-shot", "dev[0:1]", 1, (item,)))
        writer.stage("testing", 9)
        assert record.stage() == shown.shown[-1][1]
    (before, first), (after, second) = shown.shown
    assert (before, first.label, second.label) == (None, "reading", "testing")
    assert after is not None
    assert [rung.name for rung in after.rungs] == ["prompting"]


def test_a_command_that_is_no_climb_counts_prompts_that_are_read_too() -> None:
    """The first answers of a batch come after all its prompts were read: alone they would promise 99 times what they took."""
    clock = Clock()
    shown = LiveProgress(Console(file=io.StringIO()), clock)
    shown.stage("testing", 100)
    clock.now += 20
    shown.read(9.0)
    assert shown._work.stage.eta_s is None
    clock.now += 20
    shown.read(50.0)
    assert shown._work.stage.eta_s == 120.0
    shown.advance()
    assert shown._work.stage.eta_s == pytest.approx(40 / 25.5 * 74.5)


def test_prompts_that_are_read_count_before_the_first_answer_comes(tmp_path: Path) -> None:
    """One answer of a batch that was read as a whole says little of the time that the others take."""
    clock, shown = Clock(), Showing()
    with Record.create(tmp_path / "run") as record:
        writer = StageWriter(shown, record, lambda: (clock.now, 0.0), clock=clock)
        writer.stage("measuring", 24)
        clock.now += 5
        writer.read(2.0)
        assert (shown.shown[-1][1].worked, shown.shown[-1][1].eta_s) == (1.0, None), "the first ones say little"
        clock.now += 5
        writer.read(12.0)
        stage = shown.shown[-1][1]
        assert (stage.done, stage.worked, stage.eta_s) == (0, 6.0, 30.0)
        said = "0 of 24 · 12 prompts read and not answered yet"
        assert rate_line(stage).replace(NO_BREAK, " ") == f"{said} · about 30 s left"
        assert rate_line(stage, 31.0) == f"{said} · taking longer than expected"
        writer.read(13.0)
        assert shown.shown[-1][1].worked == 6.0, "written a moment ago"
        clock.now += 10
        writer.read(24.0)
        clock.now += 1
        writer.advance(1)
        stage = shown.shown[-1][1]
        assert (stage.done, stage.read, stage.worked) == (1, 23.0, 12.5)
        assert stage.eta_s == pytest.approx(21 * 11.5 / 12.5)
        writer.advance(23)
        assert (shown.shown[-1][1].worked, shown.shown[-1][1].eta_s) == (24, 0.0)
        writer.stage("loading")
        writer.read(3.0)
        assert shown.shown[-1][1].worked == 0, "of an unknown number"
        writer.stage("training", 90)
        writer.at("sft", "lr", "train")
        clock.now += 1
        writer.read(24.0)
        assert shown.shown[-1][1].worked == 0, "what a training asks between its steps is no step"


def test_lines_of_a_climb_say_what_its_stage_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    lines = LineProgress()
    lines.stage("testing", 99)
    clock.now += 70
    lines.show_stage(Stage(label="testing", done=1, read=63.0, total=99, eta_s=2312.0))
    lines.advance(1, "mean 93.8%")
    clock.now += 20
    lines.advance(1)
    lines.stage("training", 18)
    lines.count_steps()
    clock.now += 22
    lines.advance(2)
    lines.stage("checking files", 4)
    clock.now += 20
    lines.advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "testing ...",
        "testing: 1 of 99 · 63 prompts read and not answered yet · 35 s an item · about 38 min 32 s left",
        "training ...",
        "training: 2 of 18 · 11 s a step · about 2 min 56 s left",
        "checking files ...",
        "checking files: 1 of 4 · 20 s an item · about 1 min left",
    ]


def test_a_page_is_given_how_far_a_stage_is_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    shown = JsonProgress(clock)
    shown.stage("training", 4)
    clock.now += 2
    shown.advance(1, "loss 1.5")
    shown.advance(1)
    assert not isinstance(shown, CountsSteps)
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == [
        {"label": "training", "total": 4},
        {"label": "training", "done": 1, "total": 4, "eta_s": 6.0},
    ]


def test_lines_say_once_a_minute_how_far_each_training_at_a_worker_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a climb itself, and of `watch`, where neither has a terminal."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    lines = LineProgress()
    label = "2 training runs on workers"

    def watched() -> Iterator[Snapshot]:
        lines.stage(label)
        yield Snapshot((), None, Stage(label=label), "running")
        for second in range(0, 200, 5):
            clock.now += 5
            step = min(second // 50, 2)
            stage = Stage(label=label, note=f"sft, seed 0: step {step} of 60" if second > 10 else "")
            lines.advance(0, stage.note)
            lines.show_stage(stage)
            yield Snapshot((), None, stage, "running")

    assert shown_as_lines(watched()) is not None
    found = capsys.readouterr()
    expected = [f"{label} ...", *(f"{label}: sft, seed 0: step {step} of 60" for step in (0, 1, 2))]
    assert found.out.splitlines() == expected
    assert found.err.splitlines() == expected


def test_losses_of_a_training_are_kept_for_its_stage(tmp_path: Path) -> None:
    shown = Showing()
    with Record.create(tmp_path / "run") as record:
        writer = StageWriter(shown, record, lambda: (1.0, 0.0))
        writer.stage("training", 200)
        for step in range(100):
            writer.at("sft", "lr0.001", "train", float(step))
        assert shown.shown[-1][1].losses == tuple(map(float, range(100 - LOSSES, 100)))
        writer.stage("training", 200)
        assert shown.shown[-1][1].losses == ()


def drawn(live: LiveProgress) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(live.drawn())
    return console.export_text().replace(NO_BREAK, " ")


def test_a_live_display_shows_a_command_without_a_run_and_a_climb_as_watch_does(tmp_path: Path) -> None:
    clock = Clock()
    live = LiveProgress(Console(file=io.StringIO()), clock)
    live.stage("training \x1b[2J", 10)
    live.count_steps()
    clock.now += 4
    live.advance(2, note="loss 1.5")
    assert "training \\x1b[2J\n━━━━──────────────── 2 of 10 · 0.5 steps a second · about 16 s left · loss 1.5" in drawn(
        live
    )
    view = read_view(climb(load_task(task_of(tmp_path)), tmp_path / "run").run)
    live.show(view, Stage(label="testing", done=3, total=9, eta_s=12.0, spent_s=100.0))
    clock.now += 5
    assert "3 of 9 · 0.5 items a second · about 7.0 s left" in drawn(live)  # time goes on between two reports
    clock.now += 15
    text = drawn(live)
    assert headline(view) in " ".join(text.split())
    assert "3 of 9 · 0.5 items a second · taking longer than expected" in text
    assert "2 min so far · $0 spent" in text


def test_a_race_and_a_test_say_which_candidate_is_measured(tmp_path: Path) -> None:
    run, seen = tmp_path / "run", set[tuple[str, str, str]]()

    class Looking(SilentProgress):
        def advance(self, amount: int = 1, note: str = "") -> None:
            with Record.open(run, read_only=True) as record:
                stage = record.stage()
            assert stage is not None
            seen.add((stage.label.partition(",")[0], stage.candidate, stage.split))

    climb(load_task(task_of(tmp_path)), run, progress=Looking())
    raced = {place for place in seen if place[2] == "dev"}
    assert {"zero-shot", "few-shot-3"} <= {candidate for _, candidate, _ in raced}
    assert all(label == f"prompting: {candidate}" for label, candidate, _ in raced)
    assert {split for _, _, split in seen} == {"dev", "test"}


def test_a_finished_run_that_goes_on_and_is_killed_is_unfinished(tmp_path: Path) -> None:
    """So says whoever asks: the run, whoever follows it, and a bare --resume."""
    few = [{"right": 0.3}, {"right": 0.6, "contains": "(?s).*"}]
    task = load_task(scripted_task(tmp_path / "task", quality=few, task={"ladder": ["prompting", "sft"]}))
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft")
        run = climb(task, tmp_path / "runs" / "routing-1", until="prompting").run
    assert (Run(run).finished, state_of(run)) == (True, "finished")
    with pytest.raises(TaskError, match="no unfinished run"):
        newest_run(run.parent, "routing", unfinished=True)
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft")
        patch.setattr("lastresort.climb.loop.run_test", _killed)
        with pytest.raises(KeyboardInterrupt):
            climb(task, run, until="sft", gate="none")
    assert (Run(run).finished, state_of(run), newest_run(run.parent, "routing", unfinished=True)) == (
        False,
        "stopped",
        run,
    )
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft")
        climb(task, run, until="sft", gate="none")
    assert (Run(run).finished, state_of(run)) == (True, "finished")


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_has_decided_and_is_to_be_compared_is_unfinished(tmp_path: Path) -> None:
    found = climb(load_task(task_of(tmp_path)), tmp_path / "run")
    with Record.open(found.run) as record:
        record.append(WaysChosen(names=("lora", "qlora"), seeds=2))
        assert standing(record).decided
    assert (Run(found.run).finished, state_of(found.run)) == (False, "stopped")


def state_of(run: Path) -> str:
    return [sight.state for sight in follow(run)][-1]


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("dev[0:64]", "sft: a scores 100.0% on 64 dev items"),
        ("test", "sft: a scores 100.0% on 64 test items"),
        ("rest of test[64:128]", "sft: a scores 100.0% on 64 more test items for the gate"),
    ],
)
def test_what_a_candidate_was_measured_for_is_said(split: str, said: str) -> None:
    item = ItemScore("a", 1.0, "x", "x", "i", "stop", None, 10, 2, 0.1, 0.0)
    assert line_of(CandidateMeasured.of(Measurement("sft", "a", split, 64, (item,) * 64))) == said


@pytest.mark.parametrize(
    ("used", "said"), [(1, "on 1 test item"), (47, "on the first 47 test items"), (64, "on all 64 test items")]
)
def test_a_verdict_says_which_of_the_answered_items_it_took(used: int, said: str) -> None:
    event = RungTested(rung="sft", system="a", judgement=Judgement("MET", 1.0, used, 64, (0.9, 1.0)))
    assert line_of(event) == f"sft: a meets the bar with 100.0% {said}"
