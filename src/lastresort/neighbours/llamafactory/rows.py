"""Aligned rows -> rows of our own: turns for the model's own chat template, or segments of a named one."""

from __future__ import annotations

import json
from typing import Any

from lastresort.errors import DataError
from lastresort.neighbours.llamafactory.stage import Stage
from lastresort.neighbours.llamafactory.templates import Writing
from lastresort.neighbours.llamafactory.turns import Aligned, Turn

_ROLES = {"user": "user", "assistant": "assistant", "function": "assistant", "observation": "tool"}


def written_row(row: Aligned, stage: Stage, writing: Writing | None) -> dict[str, Any]:
    """The row as `lastresort train` reads it. writing: None for the model's own chat template."""
    if stage == "pt":
        return {"text": row.prompt[0].text}
    return _turns(row, stage) if writing is None else _segments(row, stage, writing)


def _segments(row: Aligned, stage: Stage, writing: Writing) -> dict[str, Any]:
    if stage == "sft":
        return {"segments": writing.completion(row)}
    prompt, answers = writing.answered(row)
    if stage == "dpo":
        return {"segments": prompt, "chosen_segments": answers[0], "rejected_segments": answers[1]}
    return {"segments": [*prompt, *answers[0]], "label": row.label}


def _turns(row: Aligned, stage: Stage) -> dict[str, Any]:
    system = [{"role": "system", "content": row.system}] if row.system else []
    prompt = [*system, *(_message(turn, row.place) for turn in row.prompt)]
    answers = [_message(turn, row.place) for turn in row.answers]
    if stage == "sft":
        return {"messages": [*prompt, *answers]}
    if stage == "dpo":
        return {"prompt": prompt, "chosen": [answers[0]], "rejected": [answers[1]]}
    return {"messages": [*prompt, *answers], "label": row.label}


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
