"""Conversations of which some answers are context only (weight: 0): every export trains the same turns, or refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export_support import configuration, conversation, exported, rows_in
from lastresort.errors import InputError


def weighted(*weights: int) -> dict[str, Any]:
    """A question and an answer for each weight."""
    row = conversation(*(word for n in range(len(weights)) for word in (f"Q{n}?", f"A{n}")))
    answers = [turn for turn in row["messages"] if turn["role"] == "assistant"]
    for turn, weight in zip(answers, weights, strict=True):
        turn["weight"] = weight
    return row


MIXED = [weighted(1, 0, 1), weighted(1, 1)]
LAST = [weighted(0, 0, 1), weighted(1)]


def test_axolotl_is_told_of_each_turn(tmp_path: Path) -> None:
    found = exported(tmp_path, "axolotl", "sft", MIXED)
    [entry] = configuration(found, "axolotl.yaml")["datasets"]
    assert (entry["message_field_training"], entry["roles_to_train"]) == ("training", [])
    marks = [[turn["training"] for turn in row["messages"]] for row in rows_in(found)]
    assert marks == [[False, True, False, False, False, True], [False, True, False, True]]


@pytest.mark.parametrize(("to", "name"), [("llamafactory", "LLaMA-Factory"), ("trl", "TRL"), ("unsloth", "Unsloth")])
def test_others_would_train_them_all_and_are_refused(to: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name} has no counterpart of rows of which some answers.*--to axolotl"):
        exported(tmp_path, to, "sft", MIXED)


def test_where_only_last_answers_are_trained_all_can_say_it(tmp_path: Path) -> None:
    found = exported(tmp_path / "l", "llamafactory", "sft", LAST)
    assert configuration(found, "llamafactory.yaml")["mask_history"] is True
    rows = rows_in(exported(tmp_path / "t", "trl", "sft", LAST))
    assert [len(row["prompt"]) for row in rows] == [5, 1]
    assert [row["completion"][0]["content"] for row in rows] == ["A2", "A0"]


def test_an_answer_that_opens_the_conversation_is_not_trained(tmp_path: Path) -> None:
    """Nothing asks for it, so that `lastresort train` takes it as context."""
    row = {"messages": [{"role": "assistant", "content": "Hello."}, *weighted(1)["messages"]]}
    marks = [turn["training"] for turn in rows_in(exported(tmp_path, "axolotl", "sft", [row]))[0]["messages"]]
    assert marks == [False, False, True]
