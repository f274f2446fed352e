"""Whole climbs on the scripted model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from climb_support import calls, comparable, reason_lines, scripted_task
from decision_support import validate_decision
from lastresort.app.climb import Climbed, climb
from lastresort.climb.identity import changed_keys, changed_values, merged_settings, settle_options
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.room import longer_answers, max_new_tokens
from lastresort.climb.workspace import earlier_use, run_lock
from lastresort.errors import InfrastructureError, StopRequestedError, TaskError
from lastresort.evals.evidence.outlook import needed_to_go_on
from lastresort.ladder import RUNGS
from lastresort.records.clock import clock_of
from lastresort.records.events.after_test import GateChosen, WayMeasured
from lastresort.records.events.run import ClimbResumed, ClimbStopped, OptionsChosen
from lastresort.records.events.search import CandidateMeasured, RungSkipped
from lastresort.records.record import Record
from lastresort.records.rungs import TooLarge
from lastresort.records.view import fold_of, last_finish
from lastresort.report.story import Story, gather
from lastresort.report.words.progress import line_of
from lastresort.report.words.rungs import of_skip
from lastresort.rungs.forecast import Forecast
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.prompting.rung import PromptingRung
from lastresort.spec.task import load_task
from lastresort.stop import StopRequest
from lastresort.systems.files import load_system
from lastresort.systems.running import open_answerer
from lastresort.types import Message, SilentProgress
from report_support import make, remade, stated
from scripted_rung import ScriptedRung
from train_support import lastresort

GOOD_SHOTS = [{"right": 0.3}, {"right": 0.97, "min_shots": 5}]
BAD = [{"right": 0.3}, {"right": 0.45, "min_shots": 3}]


def run(tmp_path: Path, quality: list[dict[str, Any]], name: str = "run", **arguments: Any) -> Climbed:
    path = scripted_task(tmp_path / "task", quality=quality, **arguments)
    return climb(load_task(path), tmp_path / "runs" / name)


def test_five_shots_meet_the_bar_and_the_climb_stops_there(tmp_path: Path) -> None:
    found = run(tmp_path, GOOD_SHOTS)
    decision = found.decision.as_json()
    validate_decision(decision)
    assert (decision["verdict"], decision["stopped_at"], decision["winner"]["kind"]) == ("MET", "prompting", "prompt")
    assert decision["rungs"][0]["chosen"] in ("few-shot-5", "nearest-5")
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting"]
    assert decision["answer"].startswith("No: prompting reaches ")
    test = decision["rungs"][0]["test"]
    assert decision["answer_code"] == "bar_met"
    figures = {"rung": "prompting", "score": test["score"], "bar": 0.8}
    assert decision["answer_figures"] == {
        **figures,
        "tuned": False,
        "provisional": False,
        "held": False,
        "ungated": False,
    }
    assert " against a bar of 80%" in decision["answer"]
    assert decision["rungs"][0]["test"]["n_used"] < 120  # a clear case stops early
    assert json.loads((found.run / "decision.json").read_text()) == decision
    assert found.report.is_file()


def test_when_prompting_fails_the_next_rung_is_tried_and_its_skip_is_explained(tmp_path: Path) -> None:
    decision = run(tmp_path, BAD).decision.as_json()
    validate_decision(decision)
    assert (decision["verdict"], decision["stopped_at"], decision["winner"]["kind"]) == ("NOT_MET", None, "none")
    prompting, sft = decision["rungs"]
    assert prompting["test"]["verdict"] == "NOT_MET"
    assert sft["applies"] is False
    assert "weights of" in sft["skipped_because"]["text"]
    chosen = next(c for c in prompting["candidates"] if c["name"] == prompting["chosen"])
    wrong = round(
        chosen["dev"]["n"] * (1 - chosen["dev"]["score"])
    )  # "unknown" is no team, so every failure is one of format
    assert prompting["failures"] == {"format": wrong, "knowledge": None, "other": 0}
    assert wrong > 10


def test_alpha_is_shared_by_the_rungs_that_the_task_leaves_whatever_until_says(tmp_path: Path) -> None:
    """The weights are not here and the task has no knowledge: only prompting may be tested, and has it all."""
    path = scripted_task(
        tmp_path / "task", quality=BAD, task={"ladder": ["prompting", "retrieval", "sft", "preference"]}
    )
    decision = climb(load_task(path), tmp_path / "runs" / "run", until="prompting").decision.as_json()
    assert (decision["r"], decision["alpha_per_rung"], decision["shares"]) == (1, 0.05, {"prompting": 0.05})
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting"]
    assert "were not tried" in decision["answer"]


def test_the_search_never_sees_a_test_item(tmp_path: Path) -> None:
    """All that is asked before the test begins are dev items; train items only ever stand in prompts as shots."""
    found = run(tmp_path, GOOD_SHOTS)
    with Record.open(found.run, read_only=True) as record:
        tests = [m for m in record.measurements() if m.split == "test"]
        devs = [m for m in record.measurements() if m.split.startswith("dev")]
    assert len(tests) == 1
    test_ids = {item.id for item in tests[0].items}
    assert not test_ids & {item.id for m in devs for item in m.items}


def test_the_winner_answers_as_it_was_measured(tmp_path: Path) -> None:
    found = run(tmp_path, GOOD_SHOTS)
    winner = found.run / "winner"
    system = load_system(winner)
    with Record.open(found.run, read_only=True) as record:
        measured = record.measurement("prompting", system.name, "test")
    assert measured is not None
    answerer = open_answerer(system, winner)
    for item in measured.items[:5]:
        assert answerer.answer([(Message("user", item.input),)])[0].text == item.answer


def test_a_second_climb_calls_nothing_again_and_says_that_the_test_set_was_used(tmp_path: Path) -> None:
    first = run(tmp_path, GOOD_SHOTS, "routing-1")
    before = len(calls(tmp_path / "task"))
    second = climb(load_task(tmp_path / "task" / "task.yaml"), tmp_path / "runs" / "routing-2")
    assert len(calls(tmp_path / "task")) == before
    assert comparable(second.decision.as_json()) == comparable(first.decision.as_json())
    assert "None of the" in first.decision.as_json()["test_reuse"]["text"]
    assert "already been used in" in second.decision.as_json()["test_reuse"]["text"]


def test_an_endpoint_that_fails_stops_the_climb_and_resuming_gives_the_same_decision(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", GOOD_SHOTS).decision.as_json()
    path = scripted_task(tmp_path / "cut" / "task", quality=GOOD_SHOTS, script={"faults": {"fail_at": [30, 100, 260]}})
    folder = tmp_path / "cut" / "runs" / "run"
    stops = 0
    for _ in range(5):
        try:
            decision = climb(load_task(path), folder).decision.as_json()
            break
        except InfrastructureError:
            stops += 1
    assert stops == 3
    assert comparable(decision)["rungs"] == comparable(whole)["rungs"]
    assert "I do not know" not in json.dumps(decision)


def test_a_changed_task_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path, GOOD_SHOTS)
    path = tmp_path / "task" / "task.yaml"
    path.write_text(path.read_text().replace("bar: 0.8", "bar: 0.7"), encoding="utf-8")
    with pytest.raises(TaskError, match=r"differs from the one this run began with, in bar.*without --resume"):
        climb(load_task(path), tmp_path / "runs" / "run")


def test_a_run_of_a_version_with_other_defaults_is_not_resumed_and_the_key_to_set_is_named(tmp_path: Path) -> None:
    """Of its section alone nobody would know what to write, who changed nothing."""
    run(tmp_path, GOOD_SHOTS)
    task, folder = load_task(tmp_path / "task" / "task.yaml"), tmp_path / "runs" / "run"
    sft = task.sft.model_copy(update={"replay_weight": 2.0, "epochs": 4})
    was = r"sft\.epochs \(was 3\), sft\.replay_weight \(was 1\.0\).*Set these keys to what they were"
    with pytest.raises(TaskError, match=was):
        climb(task.model_copy(update={"sft": sft}), folder)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (
            {"facts": 1, "a": 1},
            {"facts": 2, "a": 2},
            [("chat_template_kwargs.a", 1), ("chat_template_kwargs.facts", 1)],
        ),
        ({"tune": {"processes": 1}}, {"tune": {"processes": 2}}, [("chat_template_kwargs.tune", {"processes": 1})]),
        ({"thinks": None}, {}, [("chat_template_kwargs", {"thinks": None})]),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_what_may_change_in_a_task_may_not_under_the_same_name_in_a_section(
    before: dict[str, Any], after: dict[str, Any], changed: list[tuple[str, Any]]
) -> None:
    """A chat template takes keys of any name. What differs at all has a name, or nothing would be refused."""
    known, now = ({"chat_template_kwargs": one, "facts": number} for number, one in enumerate((before, after)))
    assert list(changed_values(known, now)) == changed
    assert bool(changed) == bool(changed_keys(known, now))


def after_refused_resumes(path: Path, folder: Path) -> Iterator[Record]:
    """The record of the run after each: of a changed task, and of another model."""
    changed = {path: ("bar: 0.8", "bar: 0.7"), path.with_name("script.json"): ('"unknown"', '"no idea"')}
    for file, (old, new) in changed.items():
        before = file.read_text()
        file.write_text(before.replace(old, new), encoding="utf-8")
        with pytest.raises(TaskError, match="began with"):
            climb(load_task(path), folder)
        with Record.open(folder) as record:
            yield record
        file.write_text(before, encoding="utf-8")


def test_a_resume_that_is_refused_leaves_a_run_that_was_stopped_as_it_was(tmp_path: Path) -> None:
    """It is not called one that died: nothing went on with it."""
    folder, path = tmp_path / "run", scripted_task(tmp_path / "task", quality=GOOD_SHOTS)
    stop = SimpleNamespace(requested=lambda: StopRequest("signal", "a signal asks to stop"))
    with pytest.raises(StopRequestedError):
        climb(load_task(path), folder, stop=stop)
    for record in after_refused_resumes(path, folder):
        assert fold_of(record).stopped == ClimbStopped(by="signal")
        assert record.last(ClimbResumed) is None
    with pytest.raises(StopRequestedError):
        climb(load_task(path), folder, stop=stop)
    with Record.open(folder) as record:
        assert len(record.all(ClimbResumed)) == 1


class Fails(SilentProgress):
    """Ends the climb at its first answer."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def advance(self, amount: int = 1, note: str = "") -> None:
        raise self._error


def test_a_resume_that_is_refused_leaves_a_run_that_died_as_it_was(tmp_path: Path) -> None:
    """By a changed task at once, by another model as it is opened. An error of one that goes on is noted."""
    folder, path = tmp_path / "run", scripted_task(tmp_path / "task", quality=GOOD_SHOTS)
    with pytest.raises(ZeroDivisionError):
        climb(load_task(path), folder, progress=Fails(ZeroDivisionError()))
    for record in after_refused_resumes(path, folder):
        assert fold_of(record).stopped is None
    with pytest.raises(InfrastructureError):
        climb(load_task(path), folder, progress=Fails(InfrastructureError("the endpoint is gone")))
    with Record.open(folder) as record:
        assert fold_of(record).stopped == ClimbStopped(by="error", error="the endpoint is gone.")


@pytest.mark.parametrize("began", ["new", "died", "stopped", "failed"])
@pytest.mark.parametrize("step", ["with_workers", "check_agreement"])
def test_a_climb_that_fails_before_its_first_rung_has_ended_with_an_error(
    step: str, began: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model is open, so nothing refuses it any more, however the session before ended."""
    ends = {
        "died": ZeroDivisionError(),
        "stopped": KeyboardInterrupt(),
        "failed": InfrastructureError("a node is gone"),
    }
    folder, path = tmp_path / "run", scripted_task(tmp_path / "task", quality=GOOD_SHOTS)
    if began != "new":
        with pytest.raises(type(ends[began])):
            climb(load_task(path), folder, progress=Fails(ends[began]))
    monkeypatch.setattr(f"lastresort.app.climb.{step}", Mock(side_effect=InfrastructureError("nobody answers")))
    closed = Mock()
    monkeypatch.setattr(OpenModels, "close", closed)
    with pytest.raises(InfrastructureError):
        climb(load_task(path), folder)
    closed.assert_called_once()
    with Record.open(folder) as record:
        assert fold_of(record).stopped == ClimbStopped(by="error", error="nobody answers.")


def test_a_test_set_that_cannot_decide_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"split\.test.*a test set of 20.*at least 31"):
        run(tmp_path, GOOD_SHOTS, task={"split": {"dev": 60, "test": 20}, "bar": 0.9})
    assert not calls(tmp_path / "task")


def test_undecided_is_provisional_and_says_how_many_items_would_settle_it(tmp_path: Path) -> None:
    decision = run(tmp_path, [{"right": 0.84}], task={"split": {"dev": 60, "test": 60}}).decision.as_json()
    assert decision["verdict"] == "UNDECIDED"
    assert decision["provisional"] is True
    test = decision["rungs"][0]["test"]
    assert test["n_needed"] is None or test["n_needed"] > 60


def test_undecided_says_how_far_it_is(tmp_path: Path) -> None:
    found = run(tmp_path, [{"right": 0.9}], task={"split": {"dev": 60, "test": 60}, "confidence": 0.99})
    decision = found.decision.as_json()
    validate_decision(decision)
    test, far = decision["rungs"][0]["test"], decision["rungs"][0]["test"]["outlook"]
    assert test["verdict"] == "UNDECIDED"
    assert far["seen_share"] == 60 / test["n_needed"]
    right = round(60 * test["score"])
    scores = [1.0] * right + [0.0] * (60 - right)
    assert test["n_needed"] == needed_to_go_on([scores], bar=decision["bar"], alpha=decision["alpha_per_rung"])
    assert sorted(more["n"] for more in far["after"]) == sorted((60, test["n_needed"] - 60))
    fewer, more = far["after"]
    assert 0 < fewer["met"] < more["met"] < 1
    assert test["interval"][0] < far["claimable"] < decision["bar"]
    assert far["error"] == decision["alpha_per_rung"]
    assert "of the way" in found.report.read_text(encoding="utf-8")


def test_a_verdict_has_no_outlook(tmp_path: Path) -> None:
    assert run(tmp_path, GOOD_SHOTS).decision.as_json()["rungs"][0]["test"]["outlook"] is None


def test_a_verdict_says_which_rule_gave_it(tmp_path: Path) -> None:
    decision = run(tmp_path, GOOD_SHOTS).decision.as_json()
    test = decision["rungs"][0]["test"]
    assert test["decided"]["by"] == "sequence"
    assert test["decided"]["limit"] >= decision["bar"]
    assert "the sequential test after each item puts the true score at" in reason_lines(decision)[0]


def test_groups_count_as_units(tmp_path: Path) -> None:
    path = scripted_task(
        tmp_path / "task", quality=GOOD_SHOTS, task={"split": {"dev": 60, "test": 120, "group_by": "client"}}
    )
    rows = [json.loads(line) for line in (tmp_path / "task" / "rows.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "client": f"client {i // 2}"}) for i, row in enumerate(rows)]
    (tmp_path / "task" / "rows.jsonl").write_text("\n".join(lines) + "\n")
    decision = climb(load_task(path), tmp_path / "runs" / "run").decision.as_json()
    assert decision["rungs"][0]["test"]["n_available"] <= 70


def test_reuse_is_known_after_the_first_run_was_deleted(tmp_path: Path) -> None:
    """The same folder name again is another run: what it sees of the test set was seen before."""
    run(tmp_path, GOOD_SHOTS, "routing-1")
    shutil.rmtree(tmp_path / "runs" / "routing-1")
    again = climb(load_task(tmp_path / "task" / "task.yaml"), tmp_path / "runs" / "routing-1")
    assert "already been used in an earlier run." in again.decision.as_json()["test_reuse"]["text"]


def test_a_run_that_was_moved_does_not_count_itself(tmp_path: Path) -> None:
    found = run(tmp_path, GOOD_SHOTS, "routing-1")
    (found.run / "decision.json").unlink()
    moved = found.run.rename(tmp_path / "runs" / "renamed")
    again = climb(load_task(tmp_path / "task" / "task.yaml"), moved)
    assert "None of the" in again.decision.as_json()["test_reuse"]["text"]


def test_a_run_that_still_goes_on_is_no_earlier_one(tmp_path: Path) -> None:
    found = run(tmp_path, GOOD_SHOTS, "routing-1")
    prepared = prepare(load_task(tmp_path / "task" / "task.yaml"))
    with run_lock(found.run):
        assert earlier_use(found.run.parent, prepared.split.test) is None
    used = earlier_use(found.run.parent, prepared.split.test)
    assert used is not None
    assert used.most == 1


class Counting:
    """Counts a number as so many tokens."""

    def count_tokens(self, prompt: tuple[Message, ...]) -> int:
        return 1 + int(prompt[0].content or 0)


def prepared_with(answers: Sequence[int]) -> PreparedTask:
    task = SimpleNamespace(decode=SimpleNamespace(max_new_tokens="auto"))
    train = tuple(SimpleNamespace(output=str(tokens)) for tokens in answers)
    return SimpleNamespace(task=task, split=SimpleNamespace(train=train))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("lengths", "limit"),
    [
        ([30] * 100, 60),
        ([3] * 100, 16),  # the least
        ([30] * 99 + [1000], 60),  # one of a hundred is not among 99%
        ([30] * 98 + [100] * 2, 2 * 90),  # within three times what 95% need
        ([40] * 59 + [1000], 2 * 120),  # one of sixty is more than 1%
        ([40] * 11 + [3000], 2 * 120),  # one of twelve is more than 5%
        ([50], 100),
        ([40] * 90 + [100] * 10, 200),  # a tenth that is long has room
        ([], 16),
    ],
)
def test_the_room_for_an_answer_follows_what_most_training_answers_need(lengths: list[int], limit: int) -> None:
    assert max_new_tokens(prepared_with(lengths), Counting()) == limit  # type: ignore[arg-type]


def test_the_room_for_an_answer_is_the_same_in_every_order() -> None:
    """More answers than are counted, many of one length in letters: which are counted must not follow their order."""
    lengths = [1000 + i for i in range(3000)]
    shuffled = lengths[1::2] + lengths[::2]
    limit = max_new_tokens(prepared_with(lengths), Counting())  # type: ignore[arg-type]
    assert limit == max_new_tokens(prepared_with(shuffled), Counting())  # type: ignore[arg-type]
    assert 2 * 3960 <= limit <= 2 * 3980


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_climb_says_how_many_answers_are_cut_and_how_many_training_answers_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.rungs.prompting.prompts.REASONING_TOKENS", 0)
    path = scripted_task(tmp_path / "task", quality=GOOD_SHOTS, task={"decode": {"max_new_tokens": 1}})
    heard = Heard()
    found = climb(load_task(path), tmp_path / "run", until="prompting", gate="none", progress=heard)
    assert sum("answers were cut at the limit of 1 token (decode.max_new_tokens)" in line for line in heard.said) == 1
    assert sum("longer than the limit of 1 token" in line for line in heard.said) == 1
    with Record.open(found.run) as record:
        lines = [line_of(event) or "" for event in record.all(CandidateMeasured)]
    assert lines
    assert all(line.endswith("answers were cut at the token limit") for line in lines)


def test_training_answers_beyond_the_limit_are_counted() -> None:
    prepared = prepared_with([40] * 59 + [1000])
    assert longer_answers(prepared, Counting(), 240) == (1, 60)  # type: ignore[arg-type]
    assert longer_answers(prepared, Counting(), 1000) == (0, 60)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_rung_with_a_result_keeps_it_on_a_machine_on_which_it_would_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, BAD)
    monkeypatch.setattr(PromptingRung, "skip_reason", lambda *_: TooLarge(10**9, 16 * 10**9, 8 * 10**9))
    again = climb(load_task(tmp_path / "task" / "task.yaml"), first.run)
    assert again.decision.as_json() == first.decision.as_json()


def test_a_rung_that_does_not_fit_the_time_is_recorded_as_skipped_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNGS, "sft", replace(RUNGS["sft"], path="scripted_rung:sft"))
    monkeypatch.setattr(ScriptedRung, "forecast", lambda *_: Forecast(0, 0, 0, 1e6, 0.0))
    first = run(tmp_path, BAD, task={"limits": {"hours": 1}})
    again = climb(load_task(tmp_path / "task" / "task.yaml"), first.run)
    assert again.decision.as_json() == first.decision.as_json()
    with Record.open(first.run, read_only=True) as record:
        assert [event.rung for event in record.all(RungSkipped)] == ["sft"]


def test_a_finished_run_that_is_resumed_took_no_longer(tmp_path: Path) -> None:
    """Each look at the clock is a minute later."""
    minutes = count(0.0, 60.0)
    path = scripted_task(tmp_path / "task", quality=GOOD_SHOTS)

    def climbed() -> tuple[Story, float, str]:
        found = climb(load_task(path), tmp_path / "run", clock=lambda: next(minutes))
        with Record.open(tmp_path / "run", read_only=True) as record:
            story, page = gather(record, found.decision), found.report.read_text(encoding="utf-8")
            return story, clock_of(record).noted_s, page.partition(">Took<")[2].partition("</dd>")[0]

    first, again, third = climbed(), climbed(), climbed()
    assert first[0].ran_s
    assert first[0].ran_s == first[1] == again[0].ran_s == again[1] == third[0].ran_s
    assert first[0].ended == again[0].ended == third[0].ended
    assert first[2] == again[2] == third[2]


def test_a_resumed_climb_keeps_its_options_and_the_report_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scripted_task(tmp_path / "routing", quality=BAD)
    monkeypatch.chdir(tmp_path)
    place = ["--run", "runs/routing-1"]
    first = ["climb", str(path), "--set", "bar=0.7", "--until", "prompting", "--gate", "quick"]
    assert lastresort(monkeypatch, *first, *place) == 0
    page = Path("runs/routing-1/report.html").read_text(encoding="utf-8")
    assert "lastresort climb routing/task.yaml --set bar=0.7 --until prompting --gate quick\n" in page
    assert "lastresort report runs/routing-1<" in page
    again = ["climb", str(path), "--resume", *place]
    assert lastresort(monkeypatch, *again) == 0
    decision = json.loads(Path("runs/routing-1/decision.json").read_text(encoding="utf-8"))
    assert ([rung["name"] for rung in decision["rungs"]], decision["bar"]) == (["prompting"], 0.7)
    capsys.readouterr()
    assert lastresort(monkeypatch, *again, "--gate", "none") == 0
    told = capsys.readouterr().err
    assert "prompting: NOT MET: few-shot-3 scored" in told
    assert "Nothing was left to do: this run had finished. It keeps the options" in told
    assert "--until prompting --gate quick\n" in Path("runs/routing-1/report.html").read_text(encoding="utf-8")
    with Record.open(Path("runs/routing-1")) as record:  # as a session that is killed leaves it
        record.append(GateChosen(mode="none"))
        record.append(OptionsChosen(settings={"bar": 0.7, "limits.hours": 9}, until="prompting"))
    assert lastresort(monkeypatch, "report", "runs/routing-1") == 0
    page = Path("runs/routing-1/report.html").read_text(encoding="utf-8")
    assert "--set bar=0.7 --until prompting --gate quick\n" in page
    work = (
        RungSkipped(rung="prompting", reason=of_skip(TooLarge(10**9, 16 * 10**9, 8 * 10**9))),
        WayMeasured(way="full", seed=0, training=None, answering=None, failed="it diverged"),
    )
    for one in work:
        worked = Path("runs") / one.kind
        shutil.copytree("runs/routing-1", worked)
        with Record.open(worked) as record:
            record.append(one)
        assert lastresort(monkeypatch, "report", str(worked)) == 0
        page = (worked / "report.html").read_text(encoding="utf-8")
        assert "--set bar=0.7 --set limits.hours=9 --until prompting --gate none\n" in page
    assert lastresort(monkeypatch, *again) == 0
    assert "It keeps the options" in capsys.readouterr().err
    page = Path("runs/routing-1/report.html").read_text(encoding="utf-8")
    assert "--set bar=0.7 --until prompting --gate quick\n" in page
    assert lastresort(monkeypatch, *again, "--until", "sft") == 0
    decision = json.loads(Path("runs/routing-1/decision.json").read_text(encoding="utf-8"))
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting", "sft"]


def test_a_finish_is_recognised_in_other_words_and_with_figures_that_only_a_later_version_notes(tmp_path: Path) -> None:
    with Record.open(make(tmp_path / "run", "sft-met"), read_only=True) as record:
        finish = last_finish(record)
    assert finish is not None

    def said(word: str, **figures: object) -> Any:
        return {"code": "a_reason", "rung": "sft", "figures": {"why": stated(word), **figures}, "text": word}

    until = {"until": "prompting"}  # of several kinds of obstacle, which the figures do not name
    before = remade(finish.decision, answer_figures={"rung": "sft"}, reasons=[said("before", n=1, obstacle=until)])
    after = {"answer": "In other words.", "answer_figures": {"rung": "sft", "ungated": False}}
    finish = replace(finish, decision=before)
    assert finish.decided_as(remade(before, **after, reasons=[said("after", n=1, obstacle=until, share=0.5)]))
    others: list[dict[str, Any]] = [
        {"reasons": [said("before", n=2, obstacle=until)]},
        {"reasons": [said("before", n=1, obstacle={"rung": "sft", "why": {"rows": 3}})]},
        {"reasons": []},
        {"answer_figures": {"rung": "full"}},
        {"provisional": not before.provisional},
    ]
    assert not any(finish.decided_as(remade(before, **other)) for other in others)


def test_settings_given_later_are_applied_last_and_replace_what_lies_below_them() -> None:
    earlier = {"limits.hours": 1, "bar": 0.9}
    assert list(merged_settings(earlier, {"limits": {"hours": 5}}).items()) == [("bar", 0.9), ("limits", {"hours": 5})]
    later = merged_settings({"limits": {"hours": 5, "usd": 2}}, {"limits.hours": 9})
    assert list(later.items()) == [("limits", {"hours": 5, "usd": 2}), ("limits.hours", 9)]
    assert merged_settings({"barrier": 1}, {"bar": 2}) == {"barrier": 1, "bar": 2}


def test_settings_that_are_not_given_again_stay_in_the_record(tmp_path: Path) -> None:
    with Record.create(tmp_path / "run") as record:
        assert settle_options(record, {"bar": 0.9, "limits.hours": 2}, "sft") == "sft"
        assert settle_options(record, {"limits.hours": 4}, None) == "sft"
        assert settle_options(record, {}, "prompting") == "prompting"
        chosen = record.last(OptionsChosen)
        assert chosen == OptionsChosen(settings={"bar": 0.9, "limits.hours": 4}, until="prompting")
        assert len(record.all(OptionsChosen)) == 3
        assert settle_options(record, {}, None) == "prompting"
        assert len(record.all(OptionsChosen)) == 3
