"""Aligned rows -> rows of our own: turns for the model's own chat template, or segments."""

from __future__ import annotations

import json
from typing import Any

from lastresort.errors import DataError
from lastresort.neighbours.llamafactory.own_text import OwnText
from lastresort.neighbours.llamafactory.stage import Stage
from lastresort.neighbours.llamafactory.templates import Segment, Writing
from lastresort.neighbours.llamafactory.turns import Aligned, Turn
from lastresort.types import Message

_ROLES = {"user": "user", "assistant": "assistant", "function": "assistant", "observation": "tool"}


def written_row(row: Aligned, stage: Stage, writing: Writing | OwnText | None) -> dict[str, Any]:
    """The row as `lastresort train` reads it. writing: None for turns, which the model's own chat template renders later."""
    if stage == "pt":
        return {"text": row.prompt[0].text}
    if writing is None:
        return _turns(row, stage)
    if stage == "sft":
        return {"segments": _completion(row, writing)}
    prompt, answers = _answered(row, writing)
    if stage == "dpo":
        return {"segments": prompt, "chosen_segments": answers[0], "rejected_segments": answers[1]}
    return {"segments": [*prompt, *answers[0]], "label": row.label}


def _completion(row: Aligned, writing: Writing | OwnText) -> list[Segment]:
    if isinstance(writing, Writing):
        return writing.completion(row)
    prompt, answers = _messages(row)
    return writing.completion(row, [_made(one) for one in prompt], _made(answers[0]))


def _answered(row: Aligned, writing: Writing | OwnText) -> tuple[list[Segment], list[list[Segment]]]:
    if isinstance(writing, Writing):
        return writing.answered(row)
    prompt, answers = _messages(row)
    return writing.answered(row, [_made(one) for one in prompt], [_made(one) for one in answers])


def _made(message: dict[str, Any]) -> Message:
    calls = {key: value for key, value in message.items() if key == "tool_calls"}
    return Message(message["role"], message["content"], calls)


def _turns(row: Aligned, stage: Stage) -> dict[str, Any]:
    prompt, answers = _messages(row)
    if stage == "sft":
        return {"messages": [*prompt, *answers]}
    if stage == "dpo":
        return {"prompt": prompt, "chosen": [answers[0]], "rejected": [answers[1]]}
    return {"messages": [*prompt, *answers], "label": row.label}


def _messages(row: Aligned) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    system = [{"role": "system", "content": row.system}] if row.system else []
    prompt = [*system, *(_message(turn, row.place) for turn in row.prompt)]
    return prompt, [_message(turn, row.place) for turn in row.answers]


def _message(turn: Turn, place: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": _ROLES[turn.role], "content": turn.text}
    return message if turn.role != "function" else message | {"content": "", "tool_calls": _calls(turn.text, place)}


def _calls(text: str, place: str) -> list[dict[str, Any]]:
    """A call, or a list of them, as JSON with name and arguments."""
    try:
        found = json.loads(text)
        calls = found if isinstance(found, list) else [found]
        functions = [{"name": call["name"], "arguments": _arguments(call["arguments"])} for call in calls]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            "found a call of a function that is no JSON with name and arguments",
            where=place,
            expected='{"name": …, "arguments": {…}}',
            remedy="Correct it, or remove the row.",
        ) from error
    return [{"type": "function", "function": function} for function in functions]


def _arguments(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
