"""Preferences: pairs of a better and a worse answer, and answers labelled good or bad, in the shapes in which they come.

A pair: {"prompt": …, "chosen": …, "rejected": …}, each a text or a list of messages. chosen and rejected may hold the whole
conversation, with or without a prompt column; the prompt is then all that both begin with. `prompt` may also be called
`question`, `instruction` (with `input`), `messages` or `conversations`, and may come with a `system` text.
A labelled answer: any shape of a labelled example, plus `label`: true or false, 1 or 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lastresort.data.duplicates import normalised
from lastresort.data.files import read_rows
from lastresort.data.formats.chat import turn_of
from lastresort.data.formats.rows import RawRow, kind_of, row_json
from lastresort.data.formats.shape import input_text, input_turns, message_of
from lastresort.data.read import examples_of
from lastresort.data.split import find_leaks
from lastresort.errors import DataError
from lastresort.types import Example, Message

CHOSEN, REJECTED = ("chosen", "chosen_messages"), ("rejected", "rejected_messages")
_PROMPTS = ("prompt", "question", "instruction", "messages", "conversations")
_LABELS = {"true": True, "false": False, "1": True, "0": False}
LOOKS = '{"prompt": …, "chosen": …, "rejected": …}'


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One preference. prompt: the turns that both answers follow. chosen, rejected: the turns after it, an assistant's first.

    place: file and row, for errors. row: 1-based.
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    place: str
    row: int


def are_pairs(row: RawRow) -> bool:
    return any(key in row.values for key in CHOSEN) and any(key in row.values for key in REJECTED)


def columns_of_pair(values: Mapping[str, Any]) -> frozenset[str]:
    """The columns of a pair that are read; others are of no meaning to it."""
    prompt = prompt_key(values)
    answers = (next(key for key in names if key in values) for names in (CHOSEN, REJECTED))
    context = ["input"] if prompt == "instruction" else []
    return frozenset({"system", *([] if prompt is None else [prompt]), *context, *answers})


def pairs_of(rows: Sequence[RawRow]) -> list[PreferencePair]:
    """The pairs of the rows, in their order. Raises DataError naming file, row and key."""
    return [_pair(row) for row in rows]


def labelled_of(rows: Sequence[RawRow], path: Path) -> list[tuple[Example, bool]]:
    """The labelled answers of the rows, in their order. path: their file. Raises DataError naming file, row and key."""
    if are_pairs(rows[0]):
        raise DataError(
            "found preference pairs",
            where=rows[0].place,
            expected='answers with "label": true or false',
            remedy="Write pairs_as_labels: true to train on both answers of each, or take another objective.",
        )
    labels = [label_of(row) for row in rows]
    bare = [replace(row, values={k: v for k, v in row.values.items() if k not in ("label", "id")}) for row in rows]
    return list(zip(examples_of(bare, path), labels, strict=True))


def as_labelled(pairs: Sequence[PreferencePair]) -> list[tuple[PreferencePair, bool]]:
    """Each pair as a good and as a bad answer, one after the other."""
    return [(pair, label) for pair in pairs for label in (True, False)]


def label_of(row: RawRow) -> bool:
    """Whether the answer of a labelled row is good. Raises DataError for any other label."""
    value = row.values.get("label")
    if isinstance(value, bool):
        return value
    found = _LABELS.get(str(value).strip().lower()) if isinstance(value, int | str) else None
    if found is None:
        what = kind_of(value) if "label" in row.values else "nothing"
        shown = f' ("{value}")' if isinstance(value, str) and value.strip() else ""
        raise DataError(
            f"found {what}{shown}",
            where=row.at("label"),
            expected="true or false (or 1 or 0)",
            remedy="Say whether the answer is good.",
        )
    return found


def _pair(row: RawRow) -> PreferencePair:
    if not are_pairs(row):
        raise DataError(
            f"found the keys {', '.join(sorted(row.values)) or 'none'}",
            where=row.place,
            expected=LOOKS,
            remedy="Rename the columns, or use an objective for what this file holds.",
        )
    prompt = _prompt(row)
    chosen, rejected = _answer(row, CHOSEN), _answer(row, REJECTED)
    if chosen[0].role != "assistant" or rejected[0].role != "assistant":
        prompt, chosen, rejected = _conversations(row, prompt, chosen, rejected)
    if not prompt:
        raise DataError(
            "found no prompt",
            where=row.at("prompt"),
            expected="the turns that both answers follow",
            remedy="Add the column prompt, or write chosen and rejected as whole conversations.",
        )
    if not any(turn.role in ("user", "tool") and turn.content.strip() for turn in prompt):
        raise DataError("found an empty prompt", where=row.at("prompt"), expected="text", remedy="Fill it in.")
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        _check_answer(row, name, turns)
    return PreferencePair(prompt, chosen, rejected, row.place, row.number)


def _check_answer(row: RawRow, name: str, turns: Sequence[Message]) -> None:
    if not turns or turns[0].role != "assistant" or turns[-1].role != "assistant":
        found = (
            f"a turn of the {(turns[0] if turns[0].role != 'assistant' else turns[-1]).role}" if turns else "nothing"
        )
        raise DataError(
            f"found {found} where the answer should be",
            where=row.at(name),
            expected="turns that begin and end with the assistant's",
            remedy="Add the answer.",
        )
    if not all(turn.content.strip() or turn.extra.get("tool_calls") for turn in turns if turn.role == "assistant"):
        raise DataError(
            "found an empty answer", where=row.at(name), expected="text", remedy="Fill it in or remove the row."
        )


def prompt_key(values: Mapping[str, Any]) -> str | None:
    return next((key for key in _PROMPTS if values.get(key) not in (None, "", [])), None)


def _prompt(row: RawRow) -> tuple[Message, ...]:
    key = prompt_key(row.values)
    system = () if row.values.get("system") in (None, "") else (Message("system", input_text(row, "system")),)
    if key is None:
        return system
    if key == "instruction" and row.values.get("input") not in (None, ""):
        text = f"{input_text(row, 'instruction')}\n\n{input_text(row, 'input')}"
        return (*system, Message("user", text))
    value = row.values[key]
    if key in ("messages", "conversations") and isinstance(value, list):
        return (*system, *(turn_of(turn, row, f"{key}[{index}]") for index, turn in enumerate(value)))
    return (*system, *input_turns(row, key))


def _answer(row: RawRow, names: Sequence[str]) -> tuple[Message, ...]:
    """The turns of one answer; a text is one turn of the assistant."""
    key = next(name for name in names if name in row.values)
    value = row.values[key]
    if isinstance(value, str) and value.lstrip().startswith("[{") and row.in_table:
        value = row_json(value, row.at(key))  # a cell of a table that holds messages
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        return tuple(_turn(turn, row, f"{key}[{index}]") for index, turn in enumerate(value))
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"found {kind_of(value)}", where=row.at(key), expected="an answer", remedy="Fill it in or remove the row."
        )
    return (Message("assistant", value),)


def _turn(value: Any, row: RawRow, key: str) -> Message:
    return turn_of(value, row, key) if "from" in value else message_of(value, row, key)


def _conversations(
    row: RawRow, prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Prompt and answers of two whole conversations: they part at the first turn that differs, an assistant's."""
    shared = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    while shared and (shared == min(len(chosen), len(rejected)) or chosen[shared].role != "assistant"):
        shared -= 1  # equal conversations part at their last answer
    if shared == 0 or rejected[shared].role != "assistant":
        raise DataError(
            "chosen and rejected begin with different prompts",
            where=row.at("rejected"),
            expected="the same turns up to the answer",
            remedy="Pair only answers to the same prompt.",
        )
    before = chosen[:shared]
    system = () if before[0].role == "system" else tuple(turn for turn in prompt[:1] if turn.role == "system")
    if not any(_holds(turns, prompt[len(system) :]) for turns in (chosen, rejected)):
        key = prompt_key(row.values) or "system"
        raise DataError(
            "the prompt is not in the conversations of chosen and rejected",
            where=row.at(key),
            expected="all of its turns in them, in the same order",
            remedy=f"Remove the column {key}, or correct the row.",
        )
    return (*system, *before), chosen[shared:], rejected[shared:]


def _holds(turns: Sequence[Message], some: Sequence[Message]) -> bool:
    """Whether the latter stand in the former, one after the other."""
    whole, part = ([(turn.role, turn.content.strip()) for turn in one] for one in (turns, some))
    return any(whole[first : first + len(part)] == part for first in range(len(whole)))


Kind = Literal["pairs", "labels"]
LEAST_HELD_TEXT = 32  # characters; a shorter input may be in a prompt by chance


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """One preference. prompt: the turns before the answers. answers: chosen and rejected, or the labelled one, each the turns
    of one answer. label: None for a pair. ends: whether the end of each answer is trained. place: for errors.
    """

    prompt: tuple[Message, ...]
    answers: tuple[tuple[Message, ...], ...]
    place: str
    label: bool | None = None
    ends: tuple[bool, ...] = (True, True)

    @property
    def prompt_text(self) -> str:
        """The text of the prompt without system turns."""
        return "\n".join(turn.content for turn in self.prompt if turn.role != "system")


def kind_of_preferences(preferences: Sequence[PreferenceRow]) -> Kind:
    return "pairs" if preferences[0].label is None else "labels"


def read_preferences(path: Path) -> tuple[PreferenceRow, ...]:
    """The pairs or the labelled answers of a file, by what its first row holds. Raises DataError naming file, row and key."""
    rows = read_rows(path)
    if are_pairs(rows[0]):
        return tuple(PreferenceRow(pair.prompt, (pair.chosen, pair.rejected), pair.place) for pair in pairs_of(rows))
    if "label" not in rows[0].values:
        raise DataError(
            f"found the keys {', '.join(sorted(rows[0].values)) or 'none'}",
            where=rows[0].place,
            expected='{"prompt", "chosen", "rejected"} or {"prompt", "completion", "label"}',
            remedy="Rename the columns.",
        )
    return tuple(
        PreferenceRow(
            example.input,
            ((Message("assistant", example.output),),),
            example.place,
            label,
            (True,),
        )
        for example, label in labelled_of(rows, path)
    )


def without_leaks(
    preferences: Sequence[PreferenceRow], dev: Sequence[Example], test: Sequence[Example]
) -> tuple[tuple[PreferenceRow, ...], int]:
    """Those whose prompt neither is nor contains a dev or test input, and how many were left out."""
    asked = [
        Example(str(number), (Message("user", preferred.prompt_text),), "")
        for number, preferred in enumerate(preferences)
    ]
    leaking = {int(leak.train.id) for leak in find_leaks(asked, dev, test)}
    held = {normalised(example.input_text) for example in (*dev, *test)}
    long = [text for text in held if len(text) >= LEAST_HELD_TEXT]
    for number, example in enumerate(asked):
        text = normalised(example.input_text)
        if number not in leaking and any(other in text for other in long):
            leaking.add(number)
    kept = tuple(preferred for number, preferred in enumerate(preferences) if number not in leaking)
    return kept, len(leaking)
