"""Rows of one shape in another. What the new shape cannot hold is refused, or dropped and counted where the user says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import get_args

from lastresort.data.conversion.content import RowContent, SourceShape, source_shape
from lastresort.data.conversion.writers import TRAITS, WRITERS, Part, RowWriter, traits_of
from lastresort.data.formats.rows import RawRow
from lastresort.data.preferences import are_pairs, label_of
from lastresort.data.read import shape_of
from lastresort.errors import DataError
from lastresort.types import JsonObject, Message


@dataclass(frozen=True, slots=True)
class ShapeChange:
    """to: a name of WRITERS. drop: parts and columns to leave out. columns: our name of a column -> the file's."""

    to: str
    drop: frozenset[str] = frozenset()
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def writer(self) -> RowWriter:
        return WRITERS[self.to]


@dataclass(slots=True)
class ConversionCounts:
    """read, written: rows. equal_answers: written pairs whose two answers are the same. dropped: rows that lost a part or a column,
    by its name. source: the first row's shape, in words.
    """

    read: int = 0
    written: int = 0
    equal_answers: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    source: str = ""


def row_contents(rows: Iterator[RawRow], change: ShapeChange, counts: ConversionCounts) -> Iterator[RowContent]:
    """What the rows of a file say, of the kind that the new shape has: a pair may become two labelled answers.

    Raises DataError naming row and field for what cannot be read.
    """
    renamed = (_renamed(row, change, counts) for row in rows)
    first = next(renamed)
    source = source_shape(first)
    _check_kind(source, change, first)
    counts.source = source.words
    for row in chain([first], renamed):
        counts.read += 1
        yield from _of_kind(source.content(row), change)


def in_new_shape(content: RowContent, change: ShapeChange, counts: ConversionCounts) -> JsonObject:
    """The row to write. Raises DataError naming row and field for what the new shape cannot hold."""
    counts.written += 1
    if change.writer.kind == "examples" and are_pairs(content.row):
        counts.dropped["rejected"] += 1
    content_left = _without(content, change, counts)
    counts.equal_answers += content_left.kind == "pairs" and content_left.answers[0] == content_left.answers[1]
    return _written(content_left, change)


def _renamed(row: RawRow, change: ShapeChange, counts: ConversionCounts) -> RawRow:
    if not change.columns:
        return row
    values = dict(row.values)
    for theirs in change.columns.values():
        if theirs not in row.values:
            raise DataError(
                "no such column",
                where=row.at(theirs),
                expected="a column of the file, since --columns names it",
                remedy=f"Correct --columns (this row has: {', '.join(sorted(row.values)) or 'none'}).",
            )
        values.pop(theirs, None)
    for ours, theirs in change.columns.items():
        if ours in values and ours not in change.drop:
            raise DataError(
                f'found a column "{ours}" beside the one that --columns gives this name',
                where=row.place,
                expected="one of the two",
                remedy=f"Leave it out with --drop {ours}.",
            )
        counts.dropped[ours] += ours in values
        values[ours] = row.values[theirs]
    return replace(row, values=values, names=change.columns)


def _check_kind(source: SourceShape, change: ShapeChange, first: RawRow) -> None:
    wanted, given = change.writer.kind, source.kind
    if wanted == given or (given, wanted) == ("pairs", "labels"):
        return
    if (given, wanted) == ("pairs", "examples"):
        if "rejected" in change.drop:
            return
        remedy = "Keep the chosen answers alone with --drop rejected."
    elif given == "labels":
        remedy = "Copy the rows with good answers into a new file, without the label, and convert that."
    elif wanted == "pairs":
        remedy = "Make pairs from samples with `lastresort data pairs`."
    else:
        if "label" in first.values and shape_of(frozenset(first.values) - {"label"}) is not None:
            label_of(first)  # raises: with a label that can be read, these were answers marked good or bad
        remedy = "Make pairs from samples with `lastresort data pairs`, and convert them."
    kinds = {
        "examples": "one answer a row",
        "pairs": "chosen and rejected answers",
        "labels": "answers marked good or bad",
    }
    raise DataError(
        f"found {kinds[given]}", where=first.place, expected=f"{kinds[wanted]}, as {change.to} has them", remedy=remedy
    )


def _of_kind(content: RowContent, change: ShapeChange) -> Iterator[RowContent]:
    if content.kind == change.writer.kind:
        yield content
    elif change.writer.kind == "labels":
        chosen, rejected = content.answers
        yield replace(content, answers=(chosen,), label=True)
        yield replace(content, answers=(rejected,), label=False)
    else:
        yield replace(content, answers=content.answers[:1])


def _without(content: RowContent, change: ShapeChange, counts: ConversionCounts) -> RowContent:
    """Without what is to be dropped, which is counted."""
    drop = change.drop
    if not drop:
        return content
    _refuse_drop_of_what_is_read(content, change)
    lost = {key for key in content.further if key in drop}
    further = {key: value for key, value in content.further.items() if key not in drop}
    prompt, answers, traits = content.prompt, content.answers, set(traits_of(content))
    if "system" in drop and "system" in traits:
        prompt = tuple(turn for turn in prompt if turn.role != "system")
        lost.add("system")
    if "turns" in drop and traits & {"turns", "order"}:
        last = next((turn for turn in reversed(prompt) if turn.role != "system"), None)
        if last is None or last.role != "user":
            raise DataError(
                f"found a turn of the {'system' if last is None else last.role} right before the answer",
                where=content.row.place,
                expected="a question of the user, which stays with --drop turns",
                remedy="Write a shape that holds several turns, or remove the row.",
            )
        turns_left = (*(turn for turn in prompt if turn.role == "system"), last)
        if len(turns_left) < len(prompt):
            lost.add("turns")
        prompt = turns_left
    if "keys" in drop and traits & {"keys", "answer keys"}:
        prompt = tuple(_bare(turn, content) for turn in prompt)
        answers = tuple(tuple(_bare(turn, content) for turn in answer) for answer in answers)
        lost.add("keys")
    counts.dropped.update(sorted(lost))
    return replace(content, prompt=prompt, answers=answers, further=further)


def _refuse_drop_of_what_is_read(content: RowContent, change: ShapeChange) -> None:
    """Whoever drops a column must not find it in the new file, as a part of the prompt or under another name."""
    parts = set(get_args(Part)) - ({"rejected"} if content.kind != "examples" else set())
    read = content.row.values.keys() - content.further.keys() - parts - content.row.names.keys()
    read_key = next((name for name in sorted(change.drop) if name in read), None)
    if read_key is not None:
        raise DataError(
            "found a column of --drop that the prompt or the answer is made of",
            where=content.row.at(read_key),
            expected=f"{', '.join(get_args(Part))}, or a column that is neither",
            remedy="Take it out of --drop, or remove the column from the file.",
        )


def _bare(turn: Message, content: RowContent) -> Message:
    if turn.extra.get("tool_calls"):
        raise DataError(
            "found a call of a tool, without which its turn says nothing",
            where=content.row.place,
            expected="turns of text",
            remedy="Write messages or one of the chat shapes, or remove the row.",
        )
    return Message(turn.role, turn.content)


def _written(content: RowContent, change: ShapeChange) -> JsonObject:
    writer, traits = change.writer, tuple(traits_of(content))
    for trait in traits:
        if trait not in writer.holds:
            part: Part | None = TRAITS[trait].part
            others = [
                name for name, other in WRITERS.items() if other.kind == writer.kind and other.holds.issuperset(traits)
            ]
            instead = f"Write {_either(others)}" if others else "Remove the row"
            raise DataError(
                f"found {TRAITS[trait].words}",
                where=f"{content.row.place}, {_field(content, trait)}",
                expected=f"what {change.to} can hold ({writer.looks})",
                remedy=f"{instead}, or leave it out with --drop {part}." if part else f"{instead}.",
            )
    nothing = (None, "")  # in a table an empty cell is no value
    further = {
        key: value for key, value in content.further.items() if value not in nothing or writer.can_hold_column(key)
    }
    taken = next((key for key in further if not writer.can_hold_column(key)), None)
    if taken is not None:
        raise DataError(
            "found a column that would mean something else in the new shape",
            where=content.row.at(taken),
            expected=f"a name of no meaning in {change.to}",
            remedy=f"Rename it in the file, or leave it out with --drop {taken}.",
        )
    return {**writer.write(content), **further}


def _either(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _field(content: RowContent, trait: str) -> str:
    """Where the row has it: its own key, where one of these is there."""
    if trait == "tools":
        return 'key "tools"'
    values = content.row.values
    in_answer = trait in ("answer keys", "answers")
    names = ("completion", "response", "output", "chosen", "messages", "conversations")
    own_keys = {"system": ("system",), "turns": ("history",), "order": ("history",)}.get(trait, ())
    prompts = ("messages", "conversations", "prompt", "input", "instruction", "chosen")
    key_of_trait = next((key for key in (*own_keys, *(names if in_answer else prompts)) if values.get(key)), None)
    return content.row.called(key_of_trait) if key_of_trait is not None else "its turns"
