"""Public data sets in their own form: they are read, and near duplicates stay few where texts are templated."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lastresort.data.duplicates import near_pairs
from lastresort.data.files import read_rows
from lastresort.data.preferences import read_preferences
from lastresort.data.read import read_examples
from lastresort.data.sources import find_sources
from lastresort.data.split import find_leaks
from lastresort.errors import DataError
from lastresort.types import Example, Message

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder shared/data is not beside the repository")


@pytest.mark.parametrize(
    ("name", "rows", "turns"),
    [
        ("ticket_classification_anthropic/train.tsv", 68, {1}),
        ("ticket_classification_anthropic/test.tsv", 68, {1}),
        ("llamafactory_demo/alpaca_en_demo.json", 999, {1}),
        ("llamafactory_demo/identity.json", 91, {1}),
        ("llamafactory_demo/v1_sft_demo.jsonl", 500, None),
        ("dolly_hhrlhf_small/dolly_hhrlhf_train_small.jsonl", 1000, {1}),
        ("gsm8k/test.jsonl", 1319, {1}),
    ],
)
def test_files_are_read_as_they_are(name: str, rows: int, turns: set[int] | None) -> None:
    examples = read_examples(SHARED / name)
    assert len(examples) == rows
    assert turns is None or {len(example.input) for example in examples} == turns
    assert all(example.output.strip() and example.input_text.strip() for example in examples)


def test_tickets_have_ten_labels_with_and_without_their_header(tmp_path: Path) -> None:
    path = SHARED / "ticket_classification_anthropic" / "train.tsv"
    named = read_examples(path)
    assert len({example.output for example in named}) == 10
    bare = tmp_path / "bare.tsv"
    bare.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    assert [(e.input_text, e.output) for e in read_examples(bare)] == [(e.input_text, e.output) for e in named]


@pytest.mark.parametrize("name", ["dpo_en_demo.json", "kto_en_demo.json", "v1_dpo_demo.jsonl"])
def test_preference_files_are_sent_where_they_belong(name: str) -> None:
    with pytest.raises(DataError, match="`preferences:`"):
        read_examples(SHARED / "llamafactory_demo" / name)


def snips(side: str) -> list[Example]:
    rows = [json.loads(line) for line in (SHARED / "snips" / f"{side}.jsonl").read_text("utf-8").splitlines()]
    return [
        Example(f"{side}-{number}", (Message("user", row["text"]),), row["intent"], row=number)
        for number, row in enumerate(rows, start=1)
    ]


def test_snips_leaks_a_handful_and_no_template_is_taken_for_a_copy() -> None:
    """Of 3,000 templated training rows 5 are flagged, all of them exact copies of one of the 700 test rows."""
    leaks = find_leaks(snips("train"), (), snips("test"))
    assert [leak.kind for leak in leaks] == ["exact"] * 5


def test_snips_near_pairs_within_train_differ_in_nothing_that_matters() -> None:
    train = snips("train")
    pairs = near_pairs([item.input_text for item in train])
    assert len(pairs) == 6
    assert all(train[a].output == train[b].output for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "folder"), [("test.jsonl", "gsm8k"), ("dolly_hhrlhf_train_small.jsonl", "dolly_hhrlhf_small")]
)
def test_word_problems_and_prompts_with_boilerplate_are_not_copies_of_each_other(name: str, folder: str) -> None:
    assert near_pairs([item.input_text for item in read_examples(SHARED / folder / name)]) == []


@pytest.mark.parametrize(
    ("name", "rows", "labels", "turns"),
    [
        ("dpo_en_demo.json", 300, {None: 300}, None),
        ("kto_en_demo.json", 300, {True: 150, False: 150}, None),
        ("v1_dpo_demo.jsonl", 10, {None: 10}, {("system", "user")}),
    ],
)
def test_preference_files_are_the_preferences_of_a_task_as_they_are(
    name: str, rows: int, labels: dict[bool | None, int], turns: set[tuple[str, ...]] | None
) -> None:
    found = read_preferences(SHARED / "llamafactory_demo" / name)
    assert len(found) == rows
    assert Counter(one.label for one in found) == labels
    assert all(turn.content.strip() for one in found for answer in one.answers for turn in answer)
    assert all(one.prompt_text.strip() for one in found)
    assert turns is None or {tuple(turn.role for turn in one.prompt) for one in found} == turns


@pytest.mark.parametrize(
    "name",
    [
        "ticket_classification_anthropic/train.tsv",
        "llamafactory_demo/alpaca_en_demo.json",
        "llamafactory_demo/identity.json",
        "llamafactory_demo/v1_sft_demo.jsonl",
        "dolly_hhrlhf_small/dolly_hhrlhf_train_small.jsonl",
        "gsm8k/test.jsonl",
    ],
)
def test_rows_of_sets_without_groups_share_no_source(name: str) -> None:
    examples = read_examples(SHARED / name)
    rows = {row.number: row.values for row in read_rows(SHARED / name)}
    assert find_sources(examples, {example.id: rows[example.row] for example in examples}) is None


def test_utterances_with_their_slots_share_no_source() -> None:
    rows = [json.loads(line) for line in (SHARED / "snips" / "train.jsonl").read_text("utf-8").splitlines()]
    assert find_sources(snips("train"), {f"train-{number}": row for number, row in enumerate(rows, start=1)}) is None


def test_questions_on_the_same_documents_share_them() -> None:
    """Each chunk of the documents with three questions of ours."""
    chunks = json.loads((SHARED / "anthropic_docs_rag" / "anthropic_docs.json").read_text("utf-8"))
    long = [chunk["text"] for chunk in chunks if len(chunk["text"]) > 400][:60]
    asked = [
        (text, question) for text in long for question in ("What is it for?", "Who may use it?", "What does it cost?")
    ]
    examples = [
        Example(str(i), (Message("user", f"{text}\n\n{question}"),), "a") for i, (text, question) in enumerate(asked)
    ]
    found = find_sources(examples, {})
    assert found is not None
    assert found.rows == len(asked)
