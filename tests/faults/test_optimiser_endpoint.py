"""Optimising a prompt over HTTP: one server answers and reflects, is cut off in the middle, and gets no request twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from climb_support import comparable, rows, scripted_task
from endpoint_support import Endpoint, Handler, completion, serving
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.evals.measure import CountedAnswers
from lastresort.models.api.requests import THINKING_TOKENS, RequestBuilder
from lastresort.models.protocol import Prompt
from lastresort.records.events.run import BudgetSpent
from lastresort.records.events.search import PromptOptimised, ReflectionLate, RungSearched
from lastresort.records.record import Record
from lastresort.report.words.progress import line_of
from lastresort.rungs.prompting.spending import REFLECTION_TOKENS, SHOWN
from lastresort.spec.task import load_task
from tuning_support import Cut, CutAt, cut_after_the_search

RULE = "Count the weeks before you answer."
TEAM = {row["input"]: row["output"] for row in rows()}


def answers_and_reflects(handler: Handler, request: dict[str, Any]) -> None:
    """Right in three cases of ten, in nine once the instruction holds the rule, which it knows when it is asked to reflect."""
    turns = request["messages"]
    asked = turns[-1]["content"]
    if "better instruction" in asked:
        text = f"Here it is:\n```\n{RULE}\n```"
    else:
        row = next(text for text in TEAM if text in asked)  # the structured prompt puts tags around it
        number = int(row.split("case ")[1].split()[0])
        ruled = any(RULE in turn["content"] for turn in turns)
        shown = sum(turn["role"] == "assistant" for turn in turns)
        right = number % 10 < 9 if ruled else number % 10 < (5 if shown else 3)
        text = TEAM[row] if right else "some team"
    answers(handler, request, text)


def answers(handler: Handler, request: dict[str, Any], text: str, finish: str = "stop") -> None:
    turns = request["messages"]
    usage = {"prompt_tokens": sum(len(turn["content"]) for turn in turns) // 4, "completion_tokens": 4}
    handler.send(200, {**completion(text, finish=finish, usage=usage), "model": request["model"]})


def task(folder: Path, server: Endpoint, **prompting: Any) -> Path:
    keys = {
        "model": server.name,
        "ladder": ["prompting"],
        "bar": 0.7,
        "prompting": {"reflect": server.name, "calls": 120, **prompting},
        "use": {"prompt_price": 1, "output_price": 2},
        "limits": {"usd": 5},
    }
    return scripted_task(folder, quality=[], task=keys)


def climbed(path: Path, **arguments: Any) -> dict[str, Any]:
    found = climb(load_task(path), path.parent / "runs" / "run", gate="none", **arguments)
    decision: dict[str, Any] = found.decision.as_json()
    return decision


def bodies(server: Endpoint) -> Counter[str]:
    return Counter(json.dumps(request, sort_keys=True) for request in server.requests)


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 12])
def test_a_prompt_is_optimised_over_http_and_no_call_is_paid_twice(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountedAnswers, "arrived", lambda *_: None)  # a slow batch would be cut within
    with serving() as server:
        server.otherwise = answers_and_reflects
        whole = climbed(task(tmp_path / "whole", server))
        asked_whole = bodies(server)
        server.requests.clear()
        path = task(tmp_path / "cut", server)
        with pytest.raises(Cut):
            climbed(path, progress=CutAt("prompting: optimising the prompt", steps))
        before = len(server.requests)
        again = climbed(path)
        asked_again = bodies(server)
    rung = whole["rungs"][0]
    assert rung["optimised"]["best"] == RULE
    assert rung["chosen"].startswith("optimised")
    assert whole["verdict"] == "MET"
    assert comparable(again) == comparable(whole)
    assert 0 < before < sum(asked_whole.values())
    assert asked_again == asked_whole
    assert set(asked_again.values()) == {1}


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("needed", [10_000, 100_000])
def test_a_model_whose_thoughts_need_the_room_of_its_text_gets_more_room(tmp_path: Path, needed: int) -> None:
    """And is not paid for more than three texts that are cut all the same."""

    def thinks(handler: Handler, request: dict[str, Any]) -> None:
        if "better instruction" in request["messages"][-1]["content"] and request["max_tokens"] < needed:
            answers(handler, request, "", "length")
        else:
            answers_and_reflects(handler, request)

    with serving() as server:
        server.otherwise = thinks
        path = task(tmp_path, server)
        climbed(path)
        reflections = [one for one in server.requests if "better instruction" in one["messages"][-1]["content"]]
    with Record.open(path.parent / "runs" / "run", read_only=True) as record:
        found, search = record.last(PromptOptimised, "prompting"), record.last(RungSearched, "prompting")
    assert found is not None
    assert search is not None
    assert [one["max_tokens"] for one in reflections[:2]] == [2048, 16_384]
    if needed == 10_000:
        assert (found.best, found.cut) == (RULE, 1)
        return
    assert (found.stopped, found.cut, len(reflections)) == ("cut", 3, 3)
    assert "GEPA tried no instruction by" in search.in_words
    assert "(3 more were cut at the token limit)" in search.in_words


@pytest.mark.release
def test_a_model_without_room_to_think_is_asked_again_for_no_more_than_a_text(tmp_path: Path) -> None:
    """Its context is shorter than a text with thoughts: that is no reason to end the search after one text that was cut."""
    cut = list[bool]()

    def short(handler: Handler, request: dict[str, Any]) -> None:
        if "better instruction" not in request["messages"][-1]["content"]:
            answers_and_reflects(handler, request)
        elif request["max_tokens"] > REFLECTION_TOKENS:
            handler.send(400, {"error": {"message": "no room", "code": "context_length_exceeded"}})
        elif len(cut) < 2:
            cut.append(True)
            answers(handler, request, "", "length")
        else:
            answers_and_reflects(handler, request)

    with serving() as server:
        server.otherwise = short
        path = task(tmp_path, server)
        climbed(path)
        reflections = [one for one in server.requests if "better instruction" in one["messages"][-1]["content"]]
    with Record.open(path.parent / "runs" / "run", read_only=True) as record:
        found = record.last(PromptOptimised, "prompting")
    assert found is not None
    assert [one["max_tokens"] for one in reflections[:4]] == [2048, 16_384, 2048, 2048]
    assert (found.best, found.cut) == (RULE, 2)
    assert found.reflections == len(reflections) - 1  # one was refused


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("effort", [{}, {"reasoning_effort": "low"}], ids=["none named", "low"])
def test_rows_that_are_too_long_to_reflect_on_are_said_to_be(tmp_path: Path, effort: dict[str, Any]) -> None:
    def too_short(handler: Handler, request: dict[str, Any]) -> None:
        if "better instruction" in request["messages"][-1]["content"]:
            error = {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}
            handler.send(400, {"error": error})
        else:
            answers_and_reflects(handler, request)

    with serving() as server:
        server.otherwise = too_short
        path = task(tmp_path, server, **effort)
        climbed(path)
    with Record.open(path.parent / "runs" / "run", read_only=True) as record:
        found = record.last(PromptOptimised, "prompting")
    assert found is not None
    assert found.stopped == "no room"


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("late", [{1}, {1, 2, 3}], ids=["the first", "three in a row"])
def test_a_reflection_that_times_out_has_failed_and_is_not_asked_for_again(
    tmp_path: Path, late: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text of 2,048 tokens can take a slow server longer than the ten minutes of such a request, which ended the climb."""
    gate, build = threading.Event(), RequestBuilder.build
    asked = list[int]()

    def hurried(self: RequestBuilder, prompt: Prompt, *rest: Any, **named: Any) -> Any:
        request = build(self, prompt, *rest, **named)
        if "better instruction" in prompt[-1].content and request["seed"] in late:
            return {**request, "timeout": 0.2}
        return request

    def slow(handler: Handler, request: dict[str, Any]) -> None:
        if "better instruction" in request["messages"][-1]["content"]:
            asked.append(request["seed"])
            if request["seed"] in late:
                gate.wait(30)
        answers_and_reflects(handler, request)

    monkeypatch.setattr(RequestBuilder, "build", hurried)
    cut_after_the_search(monkeypatch)
    with serving() as server:
        server.otherwise = slow
        path = task(tmp_path, server)
        with pytest.raises(Cut):
            climbed(path)
        before = len(server.requests)
        found = climbed(path)
        again = [one for one in server.requests[before:] if "better instruction" in one["messages"][-1]["content"]]
        gate.set()
    with Record.open(path.parent / "runs" / "run", read_only=True) as record:
        optimised, search = record.last(PromptOptimised, "prompting"), record.last(RungSearched, "prompting")
        noted = record.all(ReflectionLate)
        paid = [event.usd for event in record.all(BudgetSpent) if event.usd]
    assert optimised is not None
    assert search is not None
    assert not again
    assert len(asked) == len(set(asked)) == optimised.reflections  # none is tried twice: each may be paid for
    assert [one.number for one in noted] == sorted(late)
    assert (optimised.late, optimised.cut) == (len(late), 0)
    assert found["verdict"] in ("MET", "NOT_MET", "UNDECIDED")
    most = 2 * REFLECTION_TOKENS / 1e6
    assert optimised.usd > most * len(late)  # what it cost is not known: the most that it can be
    assert sum(usd > most for usd in paid) == len(late)
    if len(late) == 1:
        assert optimised.best == RULE
        assert "(1 more timed out)" in search.in_words
    else:
        assert optimised.stopped == "late"
        assert "its texts kept timing out" in search.in_words
    assert "a reflection timed out after 0.2 s" in str(line_of(noted[0]))


@pytest.mark.sampled_slow(3)
@pytest.mark.slow
@pytest.mark.parametrize(("cut", "stopped"), [(0, "late"), (2, "cut or late"), (3, "cut or late")])
def test_a_gateway_that_times_out_on_every_reflection_does_not_end_the_climb(
    tmp_path: Path, cut: int, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives a model a minute or so, far less than the ten minutes of such a request. cut: the reflection whose text is cut."""
    monkeypatch.setattr("lastresort.models.api.refusals._LATE_S", 0.0)
    asked = list[int]()

    def timed_out(handler: Handler, request: dict[str, Any]) -> None:
        if "better instruction" in request["messages"][-1]["content"]:
            asked.append(request["seed"])
            if request["seed"] == cut:
                answers(handler, request, "", "length")
            else:
                handler.send(504, {"error": {"message": "upstream timed out"}})
        else:
            answers_and_reflects(handler, request)

    with serving() as server:
        server.otherwise = timed_out
        found = climbed(task(tmp_path, server))
    with Record.open(tmp_path / "runs" / "run", read_only=True) as record:
        optimised = record.last(PromptOptimised, "prompting")
    assert optimised is not None
    assert optimised.stopped == stopped
    assert found["verdict"] in ("MET", "NOT_MET", "UNDECIDED")
    assert asked == [1, 2, 3]


@pytest.mark.slow
def test_a_late_reflection_is_no_reason_not_to_ask_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed search with other limits keeps other rows to choose on, so that its first reflection reads others too."""
    asked, times_out = list[str](), [True]

    def late_at_first(handler: Handler, request: dict[str, Any]) -> None:
        content = request["messages"][-1]["content"]
        if "better instruction" not in content:
            answers_and_reflects(handler, request)
            return
        asked.append(content)
        if times_out[0] and request["seed"] == 1:
            handler.send(504, {"error": {"message": "upstream timed out"}})
        else:
            answers_and_reflects(handler, request)

    cut_after_the_search(monkeypatch)
    monkeypatch.setattr("lastresort.models.api.refusals._LATE_S", 0.0)
    with serving() as server:
        server.otherwise = late_at_first
        with pytest.raises(Cut):
            climbed(task(tmp_path, server))
        before, times_out[0] = len(asked), False
        climbed(task(tmp_path, server, calls=300))
    with Record.open(tmp_path / "runs" / "run", read_only=True) as record:
        optimised, noted = record.last(PromptOptimised, "prompting"), record.all(ReflectionLate)
    assert optimised is not None
    assert (optimised.late, optimised.best) == (0, RULE)
    assert optimised.reflections == len(asked) - before
    assert [one.number for one in noted] == [1]
    assert asked[before] != asked[0]


def test_a_forecast_counts_what_reflections_may_think(tmp_path: Path) -> None:
    """As the limit of money does, so that a search which is forecast to fit does not refuse to begin."""
    efforts = ({}, {"reasoning_effort": "high"})
    with serving() as server:
        paths = [task(tmp_path / str(number), server, **effort) for number, effort in enumerate(efforts)]
        found = [dry_run(load_task(path)).rungs[0].forecast for path in paths]
    plain, high = [forecast.usd for forecast in found if forecast is not None and forecast.usd is not None]
    reflections = (120 - 12) // (SHOWN + 1)
    assert high - plain == pytest.approx(reflections * THINKING_TOKENS["high"] * 2 / 1e6)


@pytest.mark.release
def test_a_reflecting_model_thinks_as_long_as_the_task_says_and_what_that_may_cost_counts(tmp_path: Path) -> None:
    with serving() as server:
        server.otherwise = answers_and_reflects
        climbed(task(tmp_path / "low", server, reasoning_effort="low"))
        reflections = [one for one in server.requests if "better instruction" in one["messages"][-1]["content"]]
        others = [one for one in server.requests if one not in reflections]
        server.requests.clear()
        found = climbed(task(tmp_path / "poor", server, reasoning_effort="low", usd=0.02))
        asked = [one for one in server.requests if "better instruction" in one["messages"][-1]["content"]]
    room = REFLECTION_TOKENS + THINKING_TOKENS["low"]
    assert {(one["reasoning_effort"], one["max_tokens"]) for one in reflections} == {("low", room)}
    assert reflections
    assert not any("reasoning_effort" in one for one in others)
    assert not asked
    assert "is too small for one step" in json.dumps(found)
    assert 2 * REFLECTION_TOKENS / 1e6 < 0.01 < 0.02 < 2 * room / 1e6  # what a reflection may cost
