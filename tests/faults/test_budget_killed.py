"""Limits of money and time count what killed sessions spent: a kill cannot be used to spend more."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from climb_support import TEAMS, calls, scripted_task
from lastresort.app.climb import climb
from lastresort.climb.budget import NOTED_EVERY_S, Budget
from lastresort.climb.workbench import StageWriter, open_models
from lastresort.errors import BudgetError, InfrastructureError, StopRequestedError
from lastresort.evals.scorers import build_scorer
from lastresort.records.clock import clock_of, worked_s
from lastresort.records.events.run import BudgetSpent, ClimbStopped
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.records.view import fold_of
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import load_task
from lastresort.stop import StopRequest, check
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Message, SilentProgress
from processes_support import Program

PRICE = 1e6  # USD per million tokens: a token costs a dollar


def priced_task(folder: Path, usd: float, script: dict[str, Any] | None = None, **limits: float) -> Path:
    return scripted_task(
        folder,
        quality=[{"right": 0.7}],  # near the bar, so that the race goes on
        task={"use": {"prompt_price": PRICE, "output_price": 0.0}, "limits": {"usd": usd, **limits}},
        script={"delay_s": 0.003, **(script or {})},
    )


def paid(cache: Path) -> list[float]:
    """The price of every answer that was ever bought: each is in the response cache from the moment it arrives."""
    with sqlite3.connect(f"file:{cache}?mode=ro", uri=True) as database:
        return [json.loads(body)["usd"] for (body,) in database.execute("SELECT body FROM response")]


@pytest.mark.slow
def test_money_of_killed_sessions_is_counted(tmp_path: Path) -> None:
    task = priced_task(tmp_path / "task", usd=1e9)
    command = ["climb", str(task), "--run", "runs/r"]
    for kill in range(3):
        resume, before = ["--resume"] if kill else [], len(calls(tmp_path / "task"))
        climbing = Program(*command, *resume, cwd=tmp_path)
        deadline = time.monotonic() + 60
        while climbing.poll() is None and len(calls(tmp_path / "task")) < before + 90 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert climbing.poll() is None, "the climb was to be killed in the middle"
        climbing.kill()
    prices, asked = paid(tmp_path / "runs" / ".lastresort" / "responses.sqlite"), len(calls(tmp_path / "task"))
    with Record.open(tmp_path / "runs" / "r") as record:
        noted = Budget.of(load_task(task), record, time.monotonic).paid_usd
    assert abs(sum(prices) - noted) <= 3 * max(prices), "what a kill can hide is the answer that it cut"
    priced_task(tmp_path / "task", usd=noted)
    _, error = (stopped := Program(*command, "--resume", cwd=tmp_path)).communicate()
    assert stopped.returncode == 4, error
    assert "limits.usd" in error
    assert len(calls(tmp_path / "task")) == asked


def test_a_batch_that_failed_in_the_middle_is_paid_as_far_as_it_came(tmp_path: Path) -> None:
    """Its answers are in the cache, so that the resumed climb asks for them no more."""
    task = priced_task(tmp_path / "task", usd=1e9, script={"faults": {"fail_at": [21]}})
    with pytest.raises(InfrastructureError):
        climb(load_task(task), tmp_path / "runs" / "r")
    with Record.open(tmp_path / "runs" / "r") as record:
        noted = sum(spent.usd for spent in record.all(BudgetSpent))
    prices = paid(tmp_path / "runs" / ".lastresort" / "responses.sqlite")
    assert len(prices) == 20
    assert noted == pytest.approx(sum(prices))


def test_a_dear_answer_among_kept_ones_is_paid_in_full(tmp_path: Path) -> None:
    """Fifteen of a batch were answered before, and the only one that is asked costs more than all of them."""
    task = load_task(priced_task(tmp_path / "task", usd=1e9))
    short = [Example(str(n), (Message("user", f"case {n}"),), "billing") for n in range(15)]
    long = Example("long", (Message("user", "case " * 500),), "billing")
    system = System("bare", "scripted:script.json", PromptDesign(""), Decoding(8))
    payments: list[float] = []
    with ResponseCache(tmp_path / "responses.sqlite") as cache, Record.create(tmp_path / "run") as record:
        models = OpenModels(cache, base_folder=task.folder, base_name="m", tuned_name="n", prompt_price=PRICE)
        scorer, progress = build_scorer("choice", {}, choices=TEAMS), SilentProgress()
        bench = Workbench(task, (), (), scorer, record, tmp_path, models, progress, 8, str, pay=payments.append)
        kept = bench.test_scores(system, short, "kept")
        before = sum(payments)
        mixed = bench.test_scores(system, [*short, long], "one batch")
    assert before == sum(item.usd for item in kept) > 0
    assert sum(payments) - before == mixed[-1].usd > sum(item.usd for item in kept)
    assert sum(item.usd for item in mixed) == sum(payments)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_of_a_killed_session_is_counted(tmp_path: Path) -> None:
    task, clock = load_task(priced_task(tmp_path / "task", usd=1e9, hours=1)), Clock()
    with Record.create(tmp_path / "run") as record:
        first = Budget.of(task, record, clock)
        for _ in range(50):
            clock.now += NOTED_EVERY_S + 1
            check(first)
        clock.now += 10_000  # the machine was off: only what was noted counts
        second = Budget.of(task, record, clock)
        assert second.seconds == pytest.approx(50 * (NOTED_EVERY_S + 1))
        clock.now += 3600 - second.seconds + 1
        with pytest.raises(BudgetError, match=r"limits\.hours"):
            check(second)
        assert second.out_of_time()


def test_what_a_killed_session_had_shown_and_not_noted_is_counted(tmp_path: Path) -> None:
    """A step of a training may take longer than any that notes its time."""
    task, clock = load_task(priced_task(tmp_path / "task", usd=1e9, hours=1)), Clock()
    with Record.create(tmp_path / "run") as record:
        first = Budget.of(task, record, clock)
        writer = StageWriter(SilentProgress(), record, first.spent, clock=clock)
        clock.now += 900
        writer.stage("training", 10)
        assert Budget.of(task, record, clock).seconds == 900
        assert Budget.of(task, record, clock).seconds == 900, "counted once"


@pytest.mark.parametrize("ended", [KeyboardInterrupt, InfrastructureError])
def test_time_in_which_the_model_opens_is_counted_and_the_model_closed(
    ended: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where opening ends with an error: in a notebook the weights would stay loaded."""
    clock, closed = Clock(), list[OpenModels]()

    def opens(*arguments: object) -> None:
        clock.now += 80
        raise ended("the connection was cut")

    task = load_task(priced_task(tmp_path / "task", usd=1e9, hours=1))
    monkeypatch.setattr("lastresort.app.climb.open_workbench", opens)
    monkeypatch.setattr(OpenModels, "close", lambda models: closed.append(models))
    for session in (1, 2):
        with pytest.raises(ended):
            climb(task, tmp_path / "r", clock=clock)
        with Record.open(tmp_path / "r") as record:
            assert worked_s(record) == 80 * session
        assert len(closed) == session


def test_a_stopped_climb_goes_on_once_its_model_is_open_and_what_that_took_is_noted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the clock of its page never goes back, and an error as the judge is checked is what the run ended with."""
    task, clock, run = load_task(priced_task(tmp_path / "task", usd=1e9, hours=1)), Clock(), tmp_path / "r"
    with pytest.raises(StopRequestedError):
        climb(task, run, clock=clock, stop=SimpleNamespace(requested=lambda: StopRequest("signal", "stop")))

    def opens(*arguments: Any) -> OpenModels:
        clock.now += 80
        return open_models(*arguments)

    def fails(*arguments: object) -> None:
        raise InfrastructureError("the judge does not answer")

    monkeypatch.setattr("lastresort.app.climb.open_models", opens)
    monkeypatch.setattr("lastresort.app.climb.check_agreement", fails)
    with pytest.raises(InfrastructureError):
        climb(task, run, clock=clock)
    with Record.open(run, read_only=True) as record:
        events = [event for _, event in record.since()]
        before = events[[event.kind for event in events].index("climb_resumed") - 1]
        assert before == BudgetSpent(seconds=80, usd=0.0)
        assert worked_s(record) == 80
        assert fold_of(record).stopped == ClimbStopped(by="error", error="the judge does not answer.")
        assert clock_of(record).ended


def test_money_is_noted_batch_by_batch(tmp_path: Path) -> None:
    task, clock = load_task(priced_task(tmp_path / "task", usd=2)), Clock()
    with Record.create(tmp_path / "run") as record:
        Budget.of(task, record, clock).pay(1.5)
        assert Budget.of(task, record, clock).paid_usd == 1.5
        Budget.of(task, record, clock).pay(0.5)
        with pytest.raises(BudgetError, match=r"limits\.usd: 2\.00 USD are spent"):
            check(Budget.of(task, record, clock))


def test_local_answers_write_no_event_each(tmp_path: Path) -> None:
    task = load_task(priced_task(tmp_path / "task", usd=2))
    with Record.create(tmp_path / "run") as record:
        budget = Budget.of(task, record, Clock())
        for _ in range(100):
            budget.pay(0.0)
            check(budget)
        assert record.all(BudgetSpent) == []
