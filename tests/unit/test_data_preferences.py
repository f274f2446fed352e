"""Preference pairs, labelled answers and plain text, in the shapes in which they come, and what is said of bad rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_support import word_tokenizer
from lastresort.data.files import read_rows
from lastresort.data.plain_text import TextDocument, packed_rows, read_documents
from lastresort.data.preferences import PreferencePair, as_labelled, labelled_of, pairs_of
from lastresort.errors import DataError
from lastresort.types import Example

U, A = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
B = {"role": "assistant", "content": "bye"}
SYSTEM = {"role": "system", "content": "be brief"}


def rows(folder: Path, *values: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def read_pairs(path: Path) -> list[PreferencePair]:
    return pairs_of(read_rows(path))


def read_labelled(path: Path) -> list[tuple[Example, bool]]:
    return labelled_of(read_rows(path), path)


def spoken(turns: Any) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in turns]


SHAPES = {
    "texts": {"prompt": "hi", "chosen": "yo", "rejected": "bye"},
    "messages": {"prompt": [U], "chosen": [A], "rejected": [B]},
    "one message": {"prompt": [U], "chosen": A, "rejected": B},
    "whole conversations": {"chosen": [U, A], "rejected": [U, B]},
    "whole conversations beside a prompt": {"prompt": "hi", "chosen": [U, A], "rejected": [U, B]},
    "question": {"question": "hi", "chosen": "yo", "rejected": "bye"},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "hi"}],
        "chosen": {"from": "gpt", "value": "yo"},
        "rejected": {"from": "gpt", "value": "bye"},
    },
    "chosen_messages": {"prompt": "hi", "chosen_messages": [A], "rejected_messages": [B]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_of_every_shape_say_the_same(shape: str, tmp_path: Path) -> None:
    (pair,) = read_pairs(rows(tmp_path, SHAPES[shape]))
    assert spoken(pair.prompt) == [("user", "hi")]
    assert (spoken(pair.chosen), spoken(pair.rejected)) == ([("assistant", "yo")], [("assistant", "bye")])


def test_instruction_with_input_and_system(tmp_path: Path) -> None:
    row = {"system": "be brief", "instruction": "hi", "input": "there", "chosen": "yo", "rejected": "bye"}
    (pair,) = read_pairs(rows(tmp_path, row))
    assert spoken(pair.prompt) == [("system", "be brief"), ("user", "hi\n\nthere")]


def test_conversations_part_at_the_first_answer_that_differs(tmp_path: Path) -> None:
    again = {"role": "user", "content": "again"}
    (pair,) = read_pairs(rows(tmp_path, {"chosen": [SYSTEM, U, A, again, A], "rejected": [SYSTEM, U, A, again, B]}))
    assert [role for role, _ in spoken(pair.prompt)] == ["system", "user", "assistant", "user"]
    assert (spoken(pair.chosen), spoken(pair.rejected)) == ([("assistant", "yo")], [("assistant", "bye")])


def test_a_system_text_without_a_prompt_stands_before_whole_conversations(tmp_path: Path) -> None:
    (pair,) = read_pairs(rows(tmp_path, {"system": "be brief", "chosen": [U, A], "rejected": [U, B]}))
    assert spoken(pair.prompt) == [("system", "be brief"), ("user", "hi")]


def test_equal_conversations_part_at_their_last_answer(tmp_path: Path) -> None:
    (pair,) = read_pairs(rows(tmp_path, {"chosen": [U, A], "rejected": [U, A]}))
    assert pair.chosen == pair.rejected
    assert spoken(pair.prompt) == [("user", "hi")]


BAD_PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "no rejected": ({"prompt": "hi", "chosen": "yo"}, "found the keys chosen, prompt"),
    "no prompt": ({"chosen": "yo", "rejected": "bye"}, 'key "prompt": found no prompt'),
    "empty prompt": ({"prompt": " ", "chosen": "yo", "rejected": "bye"}, 'key "prompt": found empty text'),
    "empty prompt turn": ({"prompt": [{**U, "content": ""}], "chosen": "yo", "rejected": "b"}, "found an empty prompt"),
    "empty answer": ({"prompt": "hi", "chosen": "yo", "rejected": ""}, 'key "rejected": found empty text'),
    "empty turn": ({"prompt": "hi", "chosen": [A], "rejected": [{**B, "content": " "}]}, "found an empty answer"),
    "a number": ({"prompt": "hi", "chosen": 3, "rejected": "bye"}, 'key "chosen": found a number (3)'),
    "no answer": ({"prompt": [U], "chosen": [U], "rejected": [B]}, "begin with different prompts"),
    "other prompts": ({"chosen": [U, A], "rejected": [{**U, "content": "ho"}, B]}, "begin with different prompts"),
    "a system prompt beside another": (
        {"system": "be long", "chosen": [SYSTEM, U, A], "rejected": [SYSTEM, U, B]},
        'key "system": the prompt is not in the conversations',
    ),
    "a turn that the conversations lack": (
        {"prompt": [{**U, "content": "ho"}, A, U], "chosen": [U, A], "rejected": [U, B]},
        'key "prompt": the prompt is not in the conversations',
    ),
    "a stranger's prompt": ({"prompt": "ho", "chosen": [U, A], "rejected": [U, B]}, "is not in the conversations"),
    "unknown role": ({"prompt": "hi", "chosen": [{"role": "bot", "content": "x"}], "rejected": [B]}, 'role "bot"'),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_bad_pairs_name_file_row_and_key(case: str, tmp_path: Path) -> None:
    row, said = BAD_PAIRS[case]
    path = rows(tmp_path, SHAPES["texts"], row)
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    assert f"{path}, row 2" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("answer", ["completion", "response"])
def test_labelled_answers(answer: str, tmp_path: Path) -> None:
    path = rows(tmp_path, *({"prompt": "hi", answer: "yo", "label": label} for label in (True, 0, "False", 1, "1")))
    found = read_labelled(path)
    assert [label for _, label in found] == [True, False, False, True, True]
    assert {example.output for example, _ in found} == {"yo"}


def test_labelled_conversations_may_share_an_id(tmp_path: Path) -> None:
    path = rows(tmp_path, *({"id": "same", "messages": [U, A], "label": label} for label in (True, False)))
    assert [label for _, label in read_labelled(path)] == [True, False]


def test_labels_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion,label\nhi,yo,TRUE\nhi,bye,0\n", encoding="utf-8")
    assert [label for _, label in read_labelled(tmp_path / "rows.csv")] == [True, False]


@pytest.mark.parametrize(
    ("label", "said"),
    [("good", 'found text ("good")'), (2, "found a number (2)"), (0.5, "found a number (0.5)"), (None, "found null")],
)
def test_what_is_no_label(label: Any, said: str, tmp_path: Path) -> None:
    path = rows(tmp_path, {"prompt": "hi", "completion": "yo", "label": label})
    with pytest.raises(DataError) as caught:
        read_labelled(path)
    assert f'row 1, key "label": {said}, expected true or false' in str(caught.value)


def test_a_label_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='key "label": found nothing'):
        read_labelled(rows(tmp_path, {"prompt": "hi", "completion": "yo"}))


def test_pairs_become_labels_only_by_choice(tmp_path: Path) -> None:
    path = rows(tmp_path, SHAPES["texts"])
    with pytest.raises(DataError, match="pairs_as_labels: true"):
        read_labelled(path)
    found = as_labelled(read_pairs(path))
    assert [(spoken(pair.chosen if label else pair.rejected)[0][1], label) for pair, label in found] == [
        ("yo", True),
        ("bye", False),
    ]


def test_documents_of_files_rows_and_folders(tmp_path: Path) -> None:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "b.txt").write_text("hi yo", encoding="utf-8")
    (tmp_path / "docs" / "deep" / "a.md").write_text("ok now", encoding="utf-8")
    (tmp_path / "docs" / "c.bin").write_bytes(b"\xff")
    assert [document.text for document in read_documents(tmp_path / "docs")] == ["hi yo", "ok now"]
    assert [d.text for d in read_documents(rows(tmp_path, {"text": "hi"}, {"text": "yo", "url": "x"}))] == ["hi", "yo"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b" \n", "found an empty document"), (b"caf\xe9", "found the byte 0xe9, which is not UTF-8")],
)
def test_bad_documents(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_documents(tmp_path / "a.txt")


def test_rows_without_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'row 2, key "text": found the keys body'):
        read_documents(rows(tmp_path, {"text": "hi"}, {"body": "yo"}))
    with pytest.raises(DataError, match=r'row 1, key "text": found empty text'):
        read_documents(rows(tmp_path, {"text": ""}))


@pytest.mark.parametrize("row_tokens", [2, 3, 5, 100])
def test_every_token_of_a_text_is_trained_once(row_tokens: int) -> None:
    tokenizer = word_tokenizer(None)
    texts = ["hi yo", "bye", "ok now be brief"]
    packed = packed_rows(tokenizer, [TextDocument(text, "") for text in texts], row_tokens)
    trained = [token for row in packed for token, target in zip(row.ids, row.targets, strict=True) if target]
    whole = [token for text in texts for token in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)]
    assert trained == whole[1:]
    assert all(len(row.ids) <= row_tokens and not row.targets[0] for row in packed)


def test_a_model_without_an_end_token_has_nothing_to_put_between_documents() -> None:
    with pytest.raises(DataError, match="no end-of-text token"):
        packed_rows(word_tokenizer(None, eos_token=None), [TextDocument("hi", "")], 8)
