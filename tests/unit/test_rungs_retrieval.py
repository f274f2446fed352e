"""The rung retrieval: when it is skipped and why, what it measures by itself, its ceiling, its winner with its store."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from climb_support import calls, comparable, in_words, reason_lines
from decision_support import validate_decision
from lastresort.app.climb import Climbed, climb
from lastresort.app.dry_run import dry_run
from lastresort.errors import DataError, StopRequestedError
from lastresort.records.atomic import locked
from lastresort.records.events.search import RungSearched, StoreBuilt
from lastresort.records.record import Record
from lastresort.records.rung_view import facts_in
from lastresort.rungs.retrieval.rung import RetrievalRung
from lastresort.spec.task import load_task
from lastresort.stop import StopSignal
from lastresort.systems.files import load_system
from lastresort.systems.running import load_winner, open_answerer
from lastresort.types import Message, SilentProgress
from retrieval_support import NAMES, QUESTION, code, handbook_task


def run(tmp_path: Path, name: str = "run", **arguments: Any) -> Climbed:
    path = handbook_task(tmp_path / "task", **arguments)
    return climb(load_task(path), tmp_path / "runs" / name)


def entry(found: Climbed, rung: str) -> dict[str, Any]:
    return next(one for one in found.decision.as_json()["rungs"] if one["name"] == rung)


@pytest.fixture
def climbed(handbook: Climbed) -> Climbed:
    return handbook


def test_closed_book_fails_and_passages_meet_the_bar(climbed: Climbed) -> None:
    validate_decision(climbed.decision.as_json())
    assert entry(climbed, "prompting")["test"]["verdict"] == "NOT_MET"
    assert entry(climbed, "retrieval")["test"]["verdict"] == "MET"
    assert climbed.decision.as_json()["winner"]["kind"] == "retrieval"
    assert climbed.decision.as_json()["answer"].startswith("No: retrieval reaches ")


def test_candidates_differ_in_passages_and_prompt(climbed: Climbed) -> None:
    names = {candidate["name"] for candidate in entry(climbed, "retrieval")["candidates"]}
    assert {f"zero-shot+{k}" for k in ("1-passage", "3-passages", "5-passages")} <= names
    assert any(name.startswith("few-shot-3+") for name in names)


def test_failures_are_for_want_of_knowledge(climbed: Climbed) -> None:
    ceiling = climbed.decision.as_json()["retrieval"]["ceiling"]
    n = ceiling["n"]  # of the 60 a few repeat others and were left out
    assert n >= 45
    assert (ceiling["labelled"], ceiling["closed_book"], ceiling["knowledge"]) == (n, 0.0, n)
    # The race of prompts ended after 24 items; the closed book asks all.
    assert {candidate["dev"]["n"] for candidate in entry(climbed, "prompting")["candidates"]} == {24}
    assert entry(climbed, "prompting")["failures"] == {"format": 0, "knowledge": 24, "other": 0}
    assert {system["score"] for system in ceiling["systems"]} == {1.0}
    assert any(
        f"{n} of {n} dev items were wrong closed book" in reason for reason in reason_lines(climbed.decision.as_json())
    )


def test_the_search_is_measured_by_itself(climbed: Climbed) -> None:
    searches = climbed.decision.as_json()["retrieval"]["searches"]
    assert [search["mode"] for search in searches] == ["hybrid", "vector", "text"]
    for search in searches:
        assert search["questions"] == climbed.decision.as_json()["retrieval"]["ceiling"]["n"]
        assert search["recall"]["1"] <= search["recall"]["3"] <= search["recall"]["5"] <= 1
    assert max(search["recall"]["5"] for search in searches) > 0.9
    assert "recall@1" in _search(climbed).in_words


def test_the_record_says_what_was_built_and_shown(climbed: Climbed) -> None:
    with Record.open(climbed.run, read_only=True) as record:
        store = record.last(StoreBuilt)
        assert store is not None
        chosen = entry(climbed, "retrieval")["chosen"]
        tested = record.measurement("retrieval", chosen, "test")
    assert (store.documents, store.chunks, store.embedded) == (len(NAMES), 2 * len(NAMES), 2 * len(NAMES))
    assert store.seconds > 0
    assert store.vector_bytes == store.chunks * 64 * 4
    assert store.disk_bytes > store.vector_bytes
    assert tested is not None
    shown = load_system(climbed.run / "winner").retriever
    assert shown is not None
    for item in tested.items:
        assert len(item.passages) == shown.k
        if item.score:
            name = item.input.split(" the ")[1].rstrip("?")
            assert f"{name}.md#code:1" in item.passages


def test_the_report_shows_it(climbed: Climbed) -> None:
    page = climbed.report.read_text(encoding="utf-8")
    assert "With the right passage, dev scores" in page
    assert "hybrid search" in page
    assert "Passages in the prompt, in order: " in page


def test_the_winner_stands_alone_and_answers_with_its_sources(climbed: Climbed, tmp_path: Path) -> None:
    shutil.copytree(climbed.run / "winner", tmp_path / "moved")
    system = load_system(tmp_path / "moved")
    assert system.retriever is not None
    assert system.retriever.store == tmp_path / "moved" / "store"
    answerer = open_answerer(system, tmp_path / "moved")
    turns = (Message("user", f"Please. {QUESTION.format(name=NAMES[7])}"),)
    answer = answerer.answer([turns])[0]
    assert answer.text == code(7)
    assert answer.passages == tuple(chunk.id for chunk in answerer.passages(turns))
    assert answer.passages[-1] == f"{NAMES[7]}.md#code:1"  # the best stands next to the question


def test_answering_leaves_the_winner_as_its_decision_says(climbed: Climbed) -> None:
    winner = climbed.run / "winner"
    for _ in range(2):  # what reading a store writes there would be found the second time
        assert open_answerer(load_winner(winner), winner).answer([(Message("user", QUESTION.format(name=NAMES[0])),)])


def test_another_store_in_its_place_is_refused(climbed: Climbed, tmp_path: Path) -> None:
    from lastresort.knowledge.embedder import HashingEmbedder
    from lastresort.knowledge.reading import read_documents
    from lastresort.knowledge.store import open_store
    from lastresort.knowledge.update import update
    from retrieval_support import handbook

    shutil.copytree(climbed.run / "winner", tmp_path / "winner")
    handbook(tmp_path, NAMES[:5])
    store = open_store(tmp_path / "winner" / "store", HashingEmbedder())
    update(store, read_documents(tmp_path / "docs").documents)
    with pytest.raises(DataError, match="other passages than the system was measured with"):
        open_answerer(load_system(tmp_path / "winner"), tmp_path / "winner")


@pytest.mark.slow
def test_a_second_climb_embeds_nothing_and_asks_nothing(climbed: Climbed) -> None:
    task = climbed.run.parent.parent / "task"
    before = len(calls(task))
    again = climb(load_task(task / "task.yaml"), climbed.run.parent / "again")
    assert comparable(again.decision.as_json())["rungs"] == comparable(climbed.decision.as_json())["rungs"]
    assert len(calls(task)) == before
    with Record.open(again.run, read_only=True) as record:
        store = record.last(StoreBuilt)
    assert store is not None
    assert (store.embedded, store.unchanged) == (0, len(NAMES))


@pytest.mark.slow
def test_runs_that_want_the_same_store_take_turns(climbed: Climbed, tmp_path: Path) -> None:
    task = climbed.run.parent.parent / "task"
    (lock,) = (climbed.run.parent / ".lastresort" / "stores").glob("*.lock")
    waits, ended = threading.Event(), threading.Event()

    class Watching(SilentProgress):
        def stage(self, name: str, total: int | None, done: int = 0) -> None:
            if "waiting for another run" in name:
                waits.set()

    def second() -> None:
        climb(load_task(task / "task.yaml"), climbed.run.parent / "waits", until="retrieval", progress=Watching())
        ended.set()

    with locked(lock):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        assert not ended.is_set()
    thread.join(60)
    assert ended.is_set()


@pytest.mark.release
def test_a_run_that_waits_for_the_store_of_another_can_be_stopped(climbed: Climbed) -> None:
    """The other one may hang, and hours are limited."""
    task = climbed.run.parent.parent / "task"
    (lock,) = (climbed.run.parent / ".lastresort" / "stores").glob("*.lock")
    stop = StopSignal()

    class Stopping(SilentProgress):
        def stage(self, name: str, total: int | None, done: int = 0) -> None:
            if "waiting for another run" in name:
                stop.request()

    run = climbed.run.parent / "stopped"
    with locked(lock), pytest.raises(StopRequestedError):
        climb(load_task(task / "task.yaml"), run, until="retrieval", progress=Stopping(), stop=stop)
    ended = climb(load_task(task / "task.yaml"), run, until="retrieval")
    assert comparable(ended.decision.as_json())["rungs"][1]["test"]["verdict"] == "MET"


@pytest.mark.slow
def test_a_run_keeps_the_documents_that_it_began_with(tmp_path: Path) -> None:
    path = handbook_task(tmp_path / "task", script={"faults": {"fail_at": [330]}})
    with pytest.raises(Exception, match="the scripted endpoint is down"):
        climb(load_task(path), tmp_path / "runs" / "run")
    assert (tmp_path / "runs" / "run" / "store").is_dir()
    for page in (tmp_path / "task" / "docs").iterdir():
        page.write_text("# Nothing\n\nis left.\n", encoding="utf-8")
    assert entry(climb(load_task(path), tmp_path / "runs" / "run"), "retrieval")["test"]["verdict"] == "MET"


@pytest.mark.slow
def test_a_ceiling_below_the_bar_skips_the_rung_with_its_figures(tmp_path: Path) -> None:
    found = run(tmp_path, script={"quality": [{"right": 0.3}]})
    retrieval = entry(found, "retrieval")
    assert (retrieval["applies"], retrieval["test"], retrieval["candidates"]) == (False, None, [])
    assert (
        "even with the right passages in the prompt, the bar of 70.0% is out of reach"
        in retrieval["skipped_because"]["text"]
    )
    assert "zero-shot+right-passage scored" in retrieval["skipped_because"]["text"]
    ceiling = found.decision.as_json()["retrieval"]["ceiling"]
    assert {system["verdict"] for system in ceiling["systems"]} == {"NOT_MET"}
    with Record.open(found.run, read_only=True) as record:
        facts = facts_in(record, "retrieval", "zero-shot+right-passage")
    assert facts is not None
    assert (facts.prompt.given, facts.prompt.passages) == ("right", None)
    asked = len(calls(tmp_path / "task"))
    again = climb(load_task(tmp_path / "task" / "task.yaml"), found.run)
    assert comparable(again.decision.as_json()) == comparable(found.decision.as_json())
    assert len(calls(tmp_path / "task")) == asked


@pytest.mark.release
def test_a_ceiling_that_may_reach_the_bar_does_not_skip(tmp_path: Path) -> None:
    """A point estimate below the bar is no verdict."""
    found = run(tmp_path, script={"quality": [{"right": 0.62}]})
    ceiling = found.decision.as_json()["retrieval"]["ceiling"]
    assert {system["verdict"] for system in ceiling["systems"]} == {"UNDECIDED"}
    assert max(system["score"] for system in ceiling["systems"]) < 0.7
    assert entry(found, "retrieval")["applies"]


@pytest.mark.slow
def test_without_labels_the_union_of_what_is_found_is_the_ceiling(tmp_path: Path) -> None:
    found = run(tmp_path, labelled=False)
    retrieved = found.decision.as_json()["retrieval"]
    assert retrieved["searches"] == []
    assert (retrieved["ceiling"]["labelled"], retrieved["ceiling"]["knowledge"]) == (0, retrieved["ceiling"]["n"])
    assert found.decision.as_json()["winner"]["kind"] == "retrieval"
    assert "was not measured on its own" in _search(found).in_words


def test_a_wrong_label_is_refused_by_name(tmp_path: Path) -> None:
    path = handbook_task(tmp_path / "task")
    rows = [json.loads(line) for line in (path.parent / "questions.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "passages": [row["passages"][0].replace("code", "cods")]}) for row in rows]
    (path.parent / "questions.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r'no passage ".*#cods"'):
        climb(load_task(path), tmp_path / "runs" / "run")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ({"knowledge": None}, "names no knowledge to retrieve from"),
        ({"use": {"context": "forbidden"}}, r"may not go into the prompt \(`use.context: forbidden`\)"),
    ],
)
def test_skip_reasons_of_the_task(tmp_path: Path, task: dict[str, Any], reason: str) -> None:
    import re

    found = in_words(RetrievalRung().skip_reason(load_task(handbook_task(tmp_path, task=task)), ()))
    assert found is not None
    assert re.search(reason, found)


def test_weights_are_refused_for_what_changes_faster_than_they_are_trained(climbed: Climbed, tmp_path: Path) -> None:
    path = handbook_task(
        tmp_path, task={"model": "embedded", "knowledge_changes": "weekly", "retrain_every": "monthly"}
    )
    from lastresort.rungs.rung import find_rung

    sft = find_rung("sft")
    assert sft is not None
    reason = in_words(sft.skip_reason(load_task(path), [None] * 500))  # type: ignore[list-item]
    assert reason is not None
    assert "changes weekly and the model would be retrained only monthly" in reason
    assert "use retrieval" in reason
    path = handbook_task(
        tmp_path, task={"model": "embedded", "knowledge_changes": "monthly", "retrain_every": "weekly"}
    )
    assert sft.skip_reason(load_task(path), [None] * 500) is None  # type: ignore[list-item]


def test_the_forecast_counts_the_passages(tmp_path: Path) -> None:
    without = {"ladder": ["prompting"], "knowledge": None}
    few = {"retrieval": {"embedder": "hashing", "k": [1]}}
    forecasts = []
    for task in (few, {}):
        rungs = {
            rung["name"]: rung for rung in dry_run(load_task(handbook_task(tmp_path, task=task))).as_json()["rungs"]
        }
        assert rungs["retrieval"]["applies"]
        forecasts.append(rungs["retrieval"]["forecast"]["tokens_in"])
    assert forecasts[0] < forecasts[1] / 2
    assert [rung["name"] for rung in dry_run(load_task(handbook_task(tmp_path, task=without))).as_json()["rungs"]] == [
        "prompting"
    ]


def _search(found: Climbed) -> RungSearched:
    with Record.open(found.run, read_only=True) as record:
        search = record.last(RungSearched, "retrieval")
    assert search is not None
    return search
