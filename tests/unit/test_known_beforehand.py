"""Dev and test that stand in the documents: refused as a file, told where single inputs do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from climb_support import reason_lines
from lastresort.app.climb import climb
from lastresort.climb.reasons import inputs_held
from lastresort.errors import TaskError
from lastresort.knowledge.reading import is_document
from lastresort.spec.task import load_task
from lastresort.types import Example, Message
from retrieval_support import NAMES, QUESTION, handbook_task


@pytest.mark.parametrize(
    "task",
    [
        {"knowledge": "."},
        {"knowledge": "questions.jsonl"},
        {
            "knowledge": "docs",
            "examples": {"train": "questions.jsonl", "test": "docs/test.jsonl"},
            "split": {"dev": 60},
        },
        {
            "knowledge": "docs",
            "examples": {"train": "questions.jsonl", "dev": "docs/test.jsonl"},
            "split": {"test": 60},
        },
    ],
)
def test_examples_among_the_documents_are_refused(tmp_path: Path, task: dict[str, Any]) -> None:
    path = handbook_task(tmp_path, task=task)
    (tmp_path / "docs" / "test.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(TaskError, match=r'key "knowledge".*found the examples \(".*\.jsonl"\) among the documents'):
        load_task(path)


def test_what_is_no_document_or_only_trained_on_may_stand_there(tmp_path: Path) -> None:
    sources = {"train": "docs/solved.jsonl", "dev": "questions.jsonl", "test": "docs/.hidden/test.jsonl"}
    path = handbook_task(tmp_path, task={"examples": sources, "split": {"seed": 0}})
    for name in ("solved.jsonl", ".hidden/test.jsonl"):
        (tmp_path / "docs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_text("{}\n", encoding="utf-8")
    assert load_task(path).knowledge == tmp_path / "docs"
    assert is_document(tmp_path / "docs", tmp_path / "docs" / "a.MD")
    assert not is_document(tmp_path / "docs", tmp_path / "docs" / "rows.parquet")
    assert not is_document(tmp_path / "docs", tmp_path / "docs-2" / "a.md")


def test_inputs_are_found_whatever_their_case_and_space() -> None:
    asked = [
        "How long may a lamp be returned to the desk?",
        "how long  may a LAMP be\nreturned to the desk",
        "How long may a chair be returned to the desk?",
        "Returns?",
    ]
    examples = [Example(str(i), (Message("user", text),), "x") for i, text in enumerate(asked)]
    assert inputs_held(["Q: How long may a lamp be returned to the desk? A: 30 days. Returns?"], examples) == 2


@pytest.mark.slow
def test_a_decision_says_how_many_test_inputs_stand_in_the_knowledge(tmp_path: Path) -> None:
    """Every fifth question stands in a document, one of them where a chunk ends and the next begins."""
    path = handbook_task(
        tmp_path / "task", task={"retrieval": {"embedder": "hashing", "chunk_tokens": 16, "overlap_tokens": 0}}
    )
    told = [f"Please. {QUESTION.format(name=name)}" for name in NAMES]
    (tmp_path / "task" / "docs" / "asked.txt").write_text(" ".join(told), encoding="utf-8")
    found = climb(load_task(path), tmp_path / "runs" / "run")
    rows = [json.loads(line) for line in (tmp_path / "task" / "questions.jsonl").read_text().splitlines()]
    assert len(rows) == 5 * len(told)
    (reason,) = [
        reason for reason in reason_lines(found.decision.as_json()) if "word for word in the documents" in reason
    ]
    held, n = int(reason.split(" of ")[0]), int(reason.split(" of ")[1].split(" ")[0])
    assert n >= 80
    assert 0.1 * n < held < 0.35 * n
