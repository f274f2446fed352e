"""The example jargon: made again alike; every document states every fact and asks nothing, no two sides ask for the same fact."""

from __future__ import annotations

import json
import re
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

from climb_support import in_words
from examples_support import EXAMPLES, module_of
from lastresort.climb.prepare import prepare
from lastresort.rungs.retrieval.rung import RetrievalRung
from lastresort.rungs.supervised.full import FullRung, pretraining_reason
from lastresort.rungs.supervised.sft import SftRung
from lastresort.spec.task import load_task

FOLDER = EXAMPLES / "jargon"
Asked = dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return module_of(FOLDER / "make_jargon.py")


@pytest.fixture(scope="module")
def made(maker: ModuleType) -> tuple[dict[str, str], dict[str, list[dict[str, str]]]]:
    pages, sides = maker.made()
    return pages, sides


@pytest.fixture(scope="module")
def asked(maker: ModuleType, made: Any) -> Asked:
    """Tool and kind of fact of every row, by side."""
    kinds = {
        maker.Fact(tool, kind, "").in_words(question): (tool, kind.name)
        for tool in maker.TOOLS
        for kind in maker.KINDS
        for question in kind.questions
    }
    return {side: [kinds[row["input"]] for row in rows] for side, rows in made[1].items()}


def test_all_can_be_made_again_byte_for_byte(made: Any) -> None:
    pages, sides = made
    for side, rows in sides.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        assert lines.encode() == (FOLDER / f"{side}.jsonl").read_bytes()
    assert {page.name: page.read_text(encoding="utf-8") for page in (FOLDER / "docs").iterdir()} == pages


def test_every_document_states_every_fact_once_and_asks_nothing(made: Any, asked: Asked) -> None:
    """What a row's answer is, the document says in the one line that is about its tool and its kind of fact."""
    pages, sides = made
    words = {"material": "ma[dt]e", "colour": "colour|mark", "month": "renew|month", "keeper": "keep|kept"}
    for text in pages.values():
        assert "?" not in text
        for side, rows in sides.items():
            for (tool, kind), row in zip(asked[side], rows, strict=True):
                about = [line for line in text.splitlines() if tool in line and re.search(words[kind], line)]
                assert len(about) == 1, (tool, kind, about)
                assert row["output"] in re.findall(r"\w+", about[0])


def test_each_fact_is_asked_for_on_one_side_only(maker: ModuleType, asked: Asked) -> None:
    sides = {side: set(facts) for side, facts in asked.items()}
    assert sum(map(len, sides.values())) == len(set.union(*sides.values())) == len(maker.TOOLS) * len(maker.KINDS)
    assert len(asked["train"]) == 2 * len(sides["train"])
    for facts in sides.values():
        assert {kind for _, kind in facts} == {kind.name for kind in maker.KINDS}


def test_guessing_does_not_pay(made: Any, asked: Asked) -> None:
    """Not even for whoever knows of each kind of fact which value the test has most often."""
    outputs = [row["output"] for row in made[1]["test"]]
    by_kind = {kind: Counter[str]() for _, kind in asked["test"]}
    for (_, kind), output in zip(asked["test"], outputs, strict=True):
        by_kind[kind][output] += 1
    assert sum(max(counts.values()) for counts in by_kind.values()) / len(outputs) < 0.3


def test_no_tool_is_hidden_in_another(maker: ModuleType) -> None:
    assert len(set(maker.TOOLS)) == len(maker.TOOLS)
    assert not [(a, b) for a in maker.TOOLS for b in maker.TOOLS if a != b and (a in b or a[:4] == b[:4])]


def test_the_task_leads_to_pretraining_and_past_retrieval() -> None:
    task = load_task(FOLDER / "task.yaml")
    prepared = prepare(task)
    assert (prepared.leaks, prepared.notes) == (0, ())
    assert "may not go into the prompt" in str(in_words(RetrievalRung().skip_reason(task, prepared.split.train)))
    assert SftRung().skip_reason(task, prepared.split.train) is None
    assert FullRung().skip_reason(task, prepared.split.train) is None
    assert pretraining_reason(task, None) == "it may not go into the prompt"
