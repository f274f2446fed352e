"""What a row says, whatever its shape: its turns, its answers, and the columns that its shape does not read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lastresort.data.formats import SHAPES, RowShape
from lastresort.data.formats.chat import turn_of
from lastresort.data.formats.rows import RawRow
from lastresort.data.formats.shape import input_turns, is_turns
from lastresort.data.preferences import (
    CHOSEN,
    LOOKS,
    REJECTED,
    are_pairs,
    columns_of_pair,
    label_of,
    pairs_of,
    prompt_key,
)
from lastresort.data.read import shape_of
from lastresort.errors import DataError
from lastresort.types import JsonObject, Message

RowKind = Literal["examples", "pairs", "labels"]
Turns = tuple[Message, ...]
_KEYS_OF_TURNS = (
    "messages",
    "conversations",
    "prompt",
    "question",
    "instruction",
    "completion",
    "response",
    *CHOSEN,
    *REJECTED,
)
_CONVERSATIONS = {"messages": "messages", "sharegpt": "conversations"}  # shape -> the key of its turns


@dataclass(frozen=True, slots=True)
class RowContent:
    """prompt: the turns before the answers. answers: the turns of the one answer, or of chosen and rejected. label: whether the
    answer is good, None where the row does not say. further: the columns that the shape of the row does not read.
    """

    prompt: Turns
    answers: tuple[Turns, ...]
    label: bool | None
    further: JsonObject
    row: RawRow

    @property
    def kind(self) -> RowKind:
        return "labels" if self.label is not None else "pairs" if len(self.answers) == 2 else "examples"

    @property
    def turns(self) -> Turns:
        """All of them."""
        return (*self.prompt, *(turn for answer in self.answers for turn in answer))


@dataclass(frozen=True, slots=True)
class SourceShape:
    """How the rows of a file are written. shape: of the row without its label, None for pairs."""

    kind: RowKind
    shape: RowShape | None

    def content(self, row: RawRow) -> RowContent:
        """Raises DataError where the row cannot be read, or has another shape."""
        if source_shape(row) != self:
            raise DataError(
                f"found {source_shape(row).words}",
                where=row.place,
                expected=f"{self.words}, as in the first row",
                remedy="Write all rows of a file in one shape.",
            )
        _refuse_calls_in_text(row)
        if self.shape is None:
            (pair,) = pairs_of([row])
            return RowContent(
                pair.prompt, (pair.chosen, pair.rejected), None, _others(row, columns_of_pair(row.values)), row
            )
        label = label_of(row) if self.kind == "labels" else None
        bare = row if label is None else replace(row, values={k: v for k, v in row.values.items() if k != "label"})
        prompt, answer = _labelled(bare, self.shape)
        return RowContent(prompt, (answer,), label, _others(bare, self.shape.columns(bare.values)), row)

    @property
    def words(self) -> str:
        if self.shape is None:
            return "preference pairs"
        return f"the shape {self.shape.name}{' with a label' if self.kind == 'labels' else ''}"


def source_shape(row: RawRow) -> SourceShape:
    """How a row is written, by its keys. Raises DataError where no shape fits."""
    if are_pairs(row):
        return SourceShape("pairs", None)
    keys = frozenset(row.values)
    bare = shape_of(keys - {"label"}) if "label" in keys else None
    if bare is not None and str(row.values["label"]).strip().lower() in ("true", "false", "1", "0"):
        return SourceShape("labels", bare)
    shape = shape_of(keys)
    if shape is None:
        kinds = list if prompt_key(row.values) is None else (str, list)  # a conversation has its prompt in it
        answers = [key for key in (*CHOSEN, *REJECTED) if isinstance(row.values.get(key), kinds)]
        if answers:  # both would be a pair
            lacks = "rejected" if answers[0] in CHOSEN else "chosen"
            raise DataError(
                f'found "{answers[0]}" without "{lacks}"',
                where=row.place,
                expected=f"both answers of a pair, as in {LOOKS}",
                remedy=f"Add the missing answers, or name their column: --columns {lacks}=COLUMN.",
            )
        raise DataError(
            f"found the keys {', '.join(sorted(keys)) or 'none'}",
            where=row.place,
            expected="one of " + ", ".join([*(shape.looks for shape in SHAPES.values()), LOOKS]),
            remedy="Name the columns: `lastresort data convert FILE --to SHAPE --columns input=COLUMN,output=COLUMN`.",
        )
    return SourceShape("examples", shape)


def _labelled(row: RawRow, shape: RowShape) -> tuple[Turns, Turns]:
    """The turns before the answer, and those of the answer with all that they hold."""
    prompt, output = shape.parse(row)
    if shape.name in _CONVERSATIONS:
        key = _CONVERSATIONS[shape.name]
        return prompt, (turn_of(row.values[key][-1], row, key),)
    cells = shape.cells(frozenset(row.values))
    answer = None if cells is None else row.values[cells[1]]
    if shape.name == "prompt/completion" and cells is not None and is_turns(answer):
        return input_turns(row, cells[0]), input_turns(row, cells[1])
    return prompt, (Message("assistant", output),)


def _others(row: RawRow, read: Collection[str]) -> JsonObject:
    return {key: value for key, value in row.values.items() if key not in read}


def _refuse_calls_in_text(row: RawRow) -> None:
    """The turn of a call would be read as an answer in words."""
    for key in _KEYS_OF_TURNS:
        turns = row.values.get(key)
        for turn in turns if isinstance(turns, list) else [turns]:
            if isinstance(turn, Mapping) and turn.get("from") == "function_call":
                raise DataError(
                    "found a turn of function_call, the call written as text",
                    where=row.at(key),
                    expected="turns of people and of the assistant",
                    remedy="Write the call as tool_calls of a turn in messages.",
                )
