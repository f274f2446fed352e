"""The rows of a training as conversations with their answers, whatever shape they came in.

sft: {"messages"}; text: {"text"}; pairs: {"prompt", "chosen", "rejected"}, each a list of messages; labels: {"messages", "label"};
groups: {"prompt", "completion" where a right answer is known, further columns}. Segments stay as they are. `lastresort train` reads
all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.data.chat_template import accepted_turns, template_of
from lastresort.data.plain_text import read_documents
from lastresort.data.read import read_prompts
from lastresort.data.segments import CHOSEN, REJECTED, SEGMENTS, Segments
from lastresort.errors import DataError
from lastresort.interop.exporting.job import EXPECTED, Row
from lastresort.train.files.items import Conversation, TrainingUnit, read_units, split_of
from lastresort.train.settings import TrainingFile
from lastresort.types import Example, JsonObject, Message

# Keys of a row of prompts that its messages and its right answer already say.
_SAID = frozenset(
    {"prompt", "completion", "messages", "conversations", "instruction", "input", "output", "question", "query"}
)


def rows_of(file: TrainingFile) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out. Raises DataError for what cannot be read, naming file and row."""
    if file.need == "text":
        return _texts(file.data.train), _texts(file.data.eval)
    if file.need == "groups":
        return [row for path in file.data.train for row in _prompts(path)], []
    train, held = split_of(file, read_units(file, file.data.train), read_units(file, file.data.eval))
    return [unit_row(unit) for unit in train], [unit_row(unit) for unit in held]


def unit_row(unit: TrainingUnit) -> Row:
    """A unit as a row."""
    first = unit.texts[0]
    if not isinstance(first, Conversation):
        return _segments_row(unit)
    if unit.label is not None:
        return {"messages": messages(first.messages), "label": unit.label}
    if len(unit.texts) == 1:
        return {"messages": messages(first.messages)}
    sides = [one for one in unit.texts if isinstance(one, Conversation)]
    prompt = first.messages[: len(first.messages) - int(first.turns)]
    chosen, rejected = (one.messages[len(one.messages) - int(one.turns) :] for one in sides)
    return pair_row(prompt, chosen, rejected)


def pair_row(prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message]) -> Row:
    return {"prompt": messages(prompt), "chosen": messages(chosen), "rejected": messages(rejected)}


def prompt_row(turns: Sequence[Message], example: Example, columns: JsonObject) -> Row:
    """A prompt with its right answer, and the columns that reward functions may ask for."""
    answer = {"completion": example.output} if example.output else {}
    return {"prompt": messages(turns), **answer, **{key: value for key, value in columns.items() if key not in _SAID}}


def accepted_rows(rows: Sequence[Row], tokenizer: Any, template_kwargs: Mapping[str, Any]) -> tuple[Row, ...]:
    """The rows as this template renders them here: a system turn that it refuses stands in the next turn of the user."""
    template = template_of(tokenizer, template_kwargs)

    def accepted(turns: list[JsonObject]) -> list[JsonObject]:
        if not any(turn["role"] == "system" for turn in turns):
            return turns
        return messages(accepted_turns(tokenizer, template, [message_from(turn) for turn in turns]))

    kept = ("messages", "prompt")
    return tuple({key: accepted(value) if key in kept else value for key, value in row.items()} for row in rows)


def message_from(turn: Mapping[str, Any]) -> Message:
    """A turn as `messages` wrote it."""
    extra = {key: value for key, value in turn.items() if key not in ("role", "content")}
    return Message(turn["role"], turn["content"], extra)


def with_expected(row: Row) -> Row:
    """The right answer as the column that rewards read: TRL keeps `completion` for itself."""
    kept = {key: value for key, value in row.items() if key != "completion"}
    return {EXPECTED: row["completion"], **kept} if "completion" in row else kept


def pair_texts(row: Row) -> Row:
    """A pair in segments as three texts."""
    sides = {"prompt": SEGMENTS, "chosen": CHOSEN, "rejected": REJECTED}
    return {name: joined(row[key]) for name, key in sides.items()}


def joined(segments: Sequence[Mapping[str, Any]]) -> str:
    return "".join(segment["text"] for segment in segments)


def cannot_hold(number: int, found: str, expected: str) -> DataError:
    """The error for a row that a framework has no shape for. number: from 1."""
    return DataError(
        f"found {found}",
        where=f"row {number} of those to export",
        expected=expected,
        remedy="Export it --to trl, or train it with `lastresort train`.",
    )


def messages(turns: Sequence[Message]) -> list[JsonObject]:
    return [turn.as_dict() for turn in turns]


def _texts(paths: Sequence[Path]) -> list[Row]:
    return [{"text": document.text} for path in paths for document in read_documents(path)]


def _prompts(path: Path) -> list[Row]:
    examples, columns = read_prompts(path)
    return [prompt_row(example.input, example, dict(columns[example.id])) for example in examples]


def _segments_row(unit: TrainingUnit) -> Row:
    whole = [text for text in unit.texts if not isinstance(text, Conversation)]
    if len(whole) == 2:
        start = next(n for n, segment in enumerate(whole[0]) if segment.train)
        sides = (_plain(side[start:]) for side in whole)
        return {SEGMENTS: _plain(whole[0][:start]), **dict(zip((CHOSEN, REJECTED), sides, strict=True))}
    label = {} if unit.label is None else {"label": unit.label}
    return {SEGMENTS: _plain(whole[0]), **label}


def _plain(segments: Segments) -> list[JsonObject]:
    return [
        {"text": one.text, **({"train": True} if one.train else {}), **({"end": True} if one.end else {})}
        for one in segments
    ]
