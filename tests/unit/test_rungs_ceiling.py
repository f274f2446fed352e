"""The ceiling of retrieval: what is shown, what counts as out of reach, and what counts as missing knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from climb_support import comparable, reason_lines
from knowledge_support import SMALL, CountingEmbedder, markdown
from lastresort.app.climb import Climbed, climb
from lastresort.errors import CandidateError
from lastresort.evals.measure import JobFailure
from lastresort.knowledge.store import create_store
from lastresort.knowledge.update import update
from lastresort.records.measurement import ItemScore
from lastresort.rungs.retrieval.ceiling import MOST_PASSAGES, Ceiling, measure_ceiling, right_passages
from lastresort.spec.task import load_task
from lastresort.systems.compose import Passages, conversation
from lastresort.systems.system import PromptDesign, Retriever, System
from lastresort.types import Decoding, Example, Grammar, Message, SilentProgress
from retrieval_support import handbook_task, questions

N = 60
LOST_AMONG_PASSAGES = [{"right": 1.0}, {"right": 0.1, "contains": r"\[2\] "}]  # as small models are


def turns(*said: str) -> tuple[Message, ...]:
    return tuple(Message("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(said))


def retrieval_of(found: Climbed) -> dict[str, Any]:
    return next(rung for rung in found.decision.as_json()["rungs"] if rung["name"] == "retrieval")


def labelled_by_document() -> list[dict[str, Any]]:
    return [{**row, "passages": [row["passages"][0].split("#")[0]]} for row in questions()]


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("labels", ["no labels", "whole documents"])
def test_a_model_that_is_lost_among_passages_is_not_out_of_reach(
    tmp_path: Path, labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several passages at once stay far below the bar, one alone is far above: retrieval is to be tried."""
    named = labels == "whole documents"
    if named:
        monkeypatch.setattr("retrieval_support.questions", lambda labelled: labelled_by_document())
    path = handbook_task(tmp_path / "task", labelled=named, script={"quality": LOST_AMONG_PASSAGES})
    found = climb(load_task(path), tmp_path / "runs" / "run")
    retrieval, ceiling = retrieval_of(found), found.decision.as_json()["retrieval"]["ceiling"]
    several = "right-passage" if named else "likeliest-passages"
    verdicts = {system["name"]: system["verdict"] for system in ceiling["systems"]}
    assert verdicts[f"zero-shot+{several}"] == "NOT_MET"
    assert verdicts["zero-shot+likeliest-passage"] == "MET"
    assert (retrieval["applies"], retrieval["test"]["verdict"]) == (True, "MET")
    assert retrieval["chosen"].endswith("+1-passage")
    assert 0.7 < ceiling["knowledge"] / ceiling["n"] <= 1


@pytest.mark.slow
def test_without_labels_a_skip_speaks_of_the_likeliest_passages_and_is_kept(tmp_path: Path) -> None:
    path = handbook_task(tmp_path / "task", labelled=False, script={"quality": [{"right": 0.2}]})
    found = climb(load_task(path), tmp_path / "runs" / "run")
    told = retrieval_of(found)["skipped_because"]["text"]
    assert "even with the likeliest passages in the prompt, the bar of 70.0% is out of reach" in told
    assert "zero-shot+likeliest-passages scored" in told
    assert "zero-shot+likeliest-passage scored" in told
    assert any("with the likeliest passages" in reason for reason in reason_lines(found.decision.as_json()))
    again = climb(load_task(path), found.run)
    assert comparable(again.decision.as_json()) == comparable(found.decision.as_json())


@pytest.mark.slow
def test_prompts_that_fit_no_passages_skip_the_rung_and_not_the_climb(tmp_path: Path) -> None:
    task = {"retrieval": {"embedder": "hashing", "k": [50]}, "ladder": ["prompting", "retrieval", "sft"]}
    path = handbook_task(tmp_path / "task", task=task, script={"context_tokens": 500})
    found = climb(load_task(path), tmp_path / "runs" / "run")
    assert retrieval_of(found)["skipped_because"]["text"].startswith(
        "none of the ways of using passages can be measured: "
    )
    assert [rung["name"] for rung in found.decision.as_json()["rungs"]] == ["prompting", "retrieval", "sft"]


def test_a_question_is_known_by_its_whole_conversation(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store", CountingEmbedder(), SMALL)
    update(store, [markdown(f"{name}.md", f"# {name}\n\nThe {name} is blue.") for name in ("lamp", "kettle")])
    examples = [
        Example(name, turns(f"I have a {name}.", "And?", "Which colour?"), "blue", passages=(f"{name}.md",))
        for name in ("lamp", "kettle")
    ]
    found = right_passages(store, examples)
    assert [found[conversation(example.input)][0].document for example in examples] == ["lamp.md", "kettle.md"]


def test_passages_are_few_and_the_likeliest_stands_last(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store", CountingEmbedder(), SMALL)
    pages = [markdown(f"{n:02d}.md", f"# part {n}\n\nThe lamp of part {n} is blue.") for n in range(30)]
    update(store, [*pages, markdown("all.md", "".join(f"## lamp {n}\n\nThe lamp {n} is blue.\n\n" for n in range(9)))])
    unnamed, many = (
        Example("a", turns("Which lamp is part 7?"), "x"),
        Example("b", turns("Which colour has lamp 7?"), "x", passages=("all.md",)),
    )
    found = right_passages(store, [unnamed, many])
    for example, first in ((unnamed, "07.md"), (many, "all.md")):
        chunks = found[conversation(example.input)]
        assert len({chunk.id for chunk in chunks}) == len(chunks) == MOST_PASSAGES
        assert chunks[-1].document == first
    assert found[conversation(many.input)][-1].headings[-1] == "lamp 7"


def scores(right: set[int]) -> list[ItemScore]:
    return [ItemScore(str(i), float(i in right), "", "", "", "stop", None, 1, 1, 0.0, 0.0) for i in range(N)]


def ceiling(
    answers: dict[str, set[int] | None], closed: set[int], *, passages: int = 1, grammar: Grammar | None = None
) -> Ceiling:
    """answers: of each system the items that it answers rightly with its passages, None for one that does not fit."""
    dev = tuple(Example(str(i), turns(f"question {i}"), "x", passages=("a",)) for i in range(N))

    def result(system: System, passages_shown: Passages) -> list[ItemScore] | JobFailure:
        right = answers[system.name]
        if right is None:
            return JobFailure.of(CandidateError("too long"))
        assert {len(chunks) for chunks in passages_shown.values()} == {1 if "likeliest" in system.name else passages}
        return scores(right)

    def dev_results(rung: str, systems: Sequence[System], start: int, stop: int, **how: Any) -> dict[str, Any]:
        assert (start, stop) == (0, N)
        return {system.name: result(system, how["passages"]) for system in systems}

    bench: Any = SimpleNamespace(
        dev=dev,
        progress=SilentProgress(),
        models=SimpleNamespace(check=lambda system: None),
        dev_results=dev_results,
        dev_groups=lambda: None,
        task=SimpleNamespace(bar=0.8),
        alpha_of_rung=lambda rung: 0.02,
        missed_below=0.8,
        scorer=SimpleNamespace(binary=True),
    )
    bases = [System(name, "m", PromptDesign(""), Decoding(1)) for name in sorted({n.split("+")[0] for n in answers})]
    shown: Any = {conversation(example.input): tuple(range(passages)) for example in dev}
    return measure_ceiling(bench, "retrieval", bases, Retriever(Path("s"), 1), shown, scores(closed), grammar)


def test_missing_knowledge_is_what_the_best_system_answers_beyond_the_closed_book() -> None:
    """What any of several prompts happens to get right would grow with their number."""
    found = ceiling({"a+right-passage": set(range(40)), "b+right-passage": set(range(30, 60))}, set(range(10)))
    assert found.knowledge == {str(i) for i in range(10, 40)}


def test_one_way_that_is_not_shown_to_fail_or_could_not_be_tried_keeps_the_rung() -> None:
    low, fair = set(range(10)), {i for i in range(N) if i % 5}
    assert ceiling({"a+right-passage": low, "b+right-passage": low}, set()).below_the_bar
    assert not ceiling({"a+right-passage": low, "b+right-passage": fair}, set()).below_the_bar
    assert not ceiling({"a+right-passage": low, "b+right-passage": None}, set()).below_the_bar
    nothing = ceiling({"a+right-passage": None}, set())
    assert not nothing.below_the_bar
    assert (nothing.systems, nothing.knowledge, list(nothing.dropped)) == ({}, frozenset(), ["a+right-passage"])


def test_the_likeliest_passage_alone_is_tried_only_where_several_fail() -> None:
    low, fair = set(range(10)), {i for i in range(N) if i % 5}
    assert list(ceiling({"a+right-passage": fair}, set(), passages=3).systems) == ["a+right-passage"]
    found = ceiling({"a+right-passage": low, "a+likeliest-passage": fair}, set(), passages=3)
    assert list(found.systems) == ["a+right-passage", "a+likeliest-passage"]
    assert not found.below_the_bar
    assert found.knowledge == {str(i) for i in fair}
    assert ceiling({"a+right-passage": low, "a+likeliest-passage": low}, set(), passages=3).below_the_bar


def test_giving_up_takes_more_than_the_test_does() -> None:
    """41 of 60 at a bar of 80%: P(41 or fewer) is .02, which 5% would take for a failure and 1% does not."""
    right = {i for i in range(N) if (i * 41) % N < 41}
    assert len(right) == 41
    assert {judged.outcome for judged in ceiling({"a+right-passage": right}, set()).systems.values()} == {"UNDECIDED"}
