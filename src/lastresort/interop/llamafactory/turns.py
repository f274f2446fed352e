"""A row of a data set -> its prompt and its answers, as LLaMA-Factory aligns them, or the reason why it drops the row.

Source: data/converter.py and the processors of the released package (0.9.5).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.data.formats.rows import RawRow, compact_json
from lastresort.interop.llamafactory.dataset_info import DataSetEntry
from lastresort.interop.llamafactory.keys import Stage

Role = Literal["user", "assistant", "function", "observation"]
# What the OpenAI converter adds where a row has no tools, and what it joins the results of several tools with.
_NO_THINKING = "detailed thinking off"
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"
_ASKS: frozenset[Role] = frozenset({"user", "observation"})
_ANSWERS: frozenset[Role] = frozenset({"assistant", "function"})


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class AlignedRow:
    """prompt: an odd number of turns, the last one asks. answers: one; chosen and rejected; none for plain text. label: for kto.
    system, tools: "" for none; tools is JSON."""

    place: str
    prompt: tuple[Turn, ...]
    answers: tuple[Turn, ...]
    label: bool | None
    system: str
    tools: str

    @property
    def uses_tools(self) -> bool:
        roles = {turn.role for turn in (*self.prompt, *self.answers)}
        return bool(self.tools) or bool(roles & {"function", "observation"})

    @property
    def ends_with_a_call(self) -> bool:
        return any(answer.role == "function" for answer in self.answers)


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that is left out. why: a clause after "n rows". there: is it dropped by LLaMA-Factory too?"""

    place: str
    why: str
    there: bool = True


def align(entry: DataSetEntry, stage: Stage, row: RawRow) -> AlignedRow | DroppedRow:
    """The row, or why it is left out."""
    found = _alpaca(entry, row) if entry.formatting == "alpaca" else _conversation(entry, row)
    if isinstance(found, DroppedRow):
        return found
    if stage == "pt":
        if not found.prompt or not found.prompt[0].text.strip():
            return DroppedRow(row.place, "without any text", there=False)
        return found
    return _checked(found, stage)


def _checked(found: AlignedRow, stage: Stage) -> AlignedRow | DroppedRow:
    """As the processors of a stage drop rows; and an answer must say something."""
    if len(found.prompt) % 2 != 1:
        return DroppedRow(found.place, "whose prompt does not end with a question")
    wanted = {"sft": 1, "dpo": 2, "kto": 1}[stage]
    if stage == "kto" and found.label is None:
        return DroppedRow(found.place, "whose label is neither true nor false")
    if len(found.answers) != wanted:
        what = "without the two answers of a pair" if stage == "dpo" else "without an answer in text"
        return DroppedRow(found.place, what)
    if not all(answer.text.strip() for answer in found.answers):
        return DroppedRow(found.place, "with an empty answer", there=False)
    if stage == "dpo" and not any(turn.text.strip() for turn in found.prompt):
        return DroppedRow(found.place, "with an empty prompt", there=False)
    return found


def _alpaca(entry: DataSetEntry, row: RawRow) -> AlignedRow:
    columns = entry.columns
    turns: list[Turn] = []
    history = _cell(row, columns.history)
    for pair in history if isinstance(history, list) else ():
        if isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2:
            turns += [Turn("user", _text(pair[0], row)), Turn("assistant", _text(pair[1], row))]
    parts = [_text(_cell(row, name), row) for name in (columns.prompt, columns.query)]
    turns.append(Turn("user", "\n".join(part for part in parts if part)))
    label = _cell(row, columns.kto_tag)
    chosen, rejected, response = (_cell(row, name) for name in (columns.chosen, columns.rejected, columns.response))
    answers: tuple[Turn, ...] = ()
    if isinstance(label, bool):
        answers = (Turn("assistant", _text(response, row)),)
    elif entry.ranking and isinstance(chosen, str) and isinstance(rejected, str):
        answers = (Turn("assistant", chosen), Turn("assistant", rejected))
    elif isinstance(response, str):
        answers = (Turn("assistant", response),)
    system = _text(_cell(row, columns.system), row)
    return AlignedRow(
        row.place, tuple(turns), answers, label if isinstance(label, bool) else None, system, _tools(entry, row)
    )


def _conversation(entry: DataSetEntry, row: RawRow) -> AlignedRow | DroppedRow:
    """sharegpt and openai: turns that ask and turns that answer must alternate."""
    messages = _cell(row, entry.columns.messages)
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        return DroppedRow(row.place, "without a list of turns")
    tags = entry.tags
    system = _text(_cell(row, entry.columns.system), row)
    if messages and tags.system_tag and messages[0].get(tags.role_tag) == tags.system_tag:
        system, messages = _text(messages[0].get(tags.content_tag), row), messages[1:]
    turns = _openai_turns(entry, messages, row) if entry.formatting == "openai" else _turns(entry, messages, row)
    if isinstance(turns, DroppedRow):
        return turns
    for number, turn in enumerate(turns):
        if turn.role not in (_ANSWERS if number % 2 else _ASKS):
            return DroppedRow(row.place, "in which question and answer do not alternate")
    if len(turns) % 2 != int(entry.ranking):
        return DroppedRow(row.place, "that end with an answer" if entry.ranking else "that do not end with an answer")
    tools = _tools(entry, row)
    if entry.formatting == "openai":
        system = _openai_system(system, tools)
    label = _cell(row, entry.columns.kto_tag)
    label = label if isinstance(label, bool) else None
    if not entry.ranking:
        return AlignedRow(row.place, turns[:-1], turns[-1:], label, system, tools)
    sides = [_cell(row, name) for name in (entry.columns.chosen, entry.columns.rejected)]
    if not all(isinstance(side, Mapping) for side in sides):
        return DroppedRow(row.place, "whose chosen and rejected are no turns with a role")
    answers = _turns(entry, sides, row)
    if isinstance(answers, DroppedRow):
        return answers
    if any(answer.role not in _ANSWERS for answer in answers):
        return DroppedRow(row.place, "whose chosen or rejected is no answer")
    return AlignedRow(row.place, turns, answers, label, system, tools)


def _turns(entry: DataSetEntry, messages: Sequence[Mapping[str, Any]], row: RawRow) -> tuple[Turn, ...] | DroppedRow:
    roles, found = _roles(entry), []
    for message in messages:
        spoken = message.get(str(entry.tags.role_tag))
        role = roles.get(str(spoken))
        if role is None:
            return DroppedRow(row.place, f'with a turn of "{spoken}", which tags does not name')
        found.append(Turn(role, _text(message.get(str(entry.tags.content_tag)), row)))
    return tuple(found)


def _roles(entry: DataSetEntry) -> dict[str, Role]:
    tags = entry.tags
    named: tuple[tuple[str | None, Role], ...] = (
        (tags.user_tag, "user"),
        (tags.assistant_tag, "assistant"),
        (tags.observation_tag, "observation"),
        (tags.function_tag, "function"),
    )
    return {tag: role for tag, role in named if tag is not None}


def _openai_turns(
    entry: DataSetEntry, messages: Sequence[Mapping[str, Any]], row: RawRow
) -> tuple[Turn, ...] | DroppedRow:
    """Calls become text, and the results of several tools one turn; results that nothing follows are lost there."""
    turns: list[Turn] = []
    waiting: list[str] = []
    for message in messages:
        calls = message.get("tool_calls")
        if calls and message.get(str(entry.tags.role_tag)) in (entry.tags.assistant_tag, entry.tags.function_tag):
            if not isinstance(calls, list) or not all(
                isinstance(call, Mapping) and "function" in call for call in calls
            ):
                return DroppedRow(row.place, "with tool_calls that are no list of functions", there=False)
            text = json.dumps([call["function"] for call in calls], ensure_ascii=False)
            found: tuple[Turn, ...] | DroppedRow = (Turn("function", text),)
        else:
            found = _turns(entry, [message], row)
        if isinstance(found, DroppedRow):
            return found
        if found[0].role == "observation":
            waiting.append(found[0].text)
            continue
        if waiting:
            turns.append(Turn("observation", _BETWEEN_RESULTS.join(waiting)))
            waiting = []
        turns.append(found[0])
    return tuple(turns)


def _openai_system(system: str, tools: str) -> str:
    if tools:
        return f"{system}\n" if system else ""
    if not system:
        return _NO_THINKING
    return system if "detailed thinking o" in system else f"{system}\n{_NO_THINKING}"


def _tools(entry: DataSetEntry, row: RawRow) -> str:
    value = _cell(row, entry.columns.tools)
    text = value if isinstance(value, str) else "" if not value else compact_json(value, row.place)
    return "" if text.strip() in ("", "[]", "{}") else text


def _cell(row: RawRow, column: str | None) -> Any:
    """None where the row has no such column; the readers of tables write known columns in small letters."""
    return None if column is None else row.values.get(column, row.values.get(column.lower()))


def _text(value: Any, row: RawRow) -> str:
    """Text as it is, parts of text joined, all else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value)
    ):
        return "".join(str(part.get("text", part.get("value", ""))) for part in value)
    return compact_json(value, row.place)
