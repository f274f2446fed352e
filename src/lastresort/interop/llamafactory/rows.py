"""Aligned rows -> rows of our own: turns for the model's own chat template, or segments.

Segments are also written with the model's own template, where a training file cannot express the rows: each with its own tools,
or a tool call as the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.data.chat_template import ChatTemplate, accepted_turns, rendered_text, template_of
from lastresort.data.rendering import turn_end_ids
from lastresort.errors import DataError
from lastresort.interop.llamafactory.keys import Stage
from lastresort.interop.llamafactory.templates import RowWriting, Segment
from lastresort.interop.llamafactory.turns import AlignedRow, Turn
from lastresort.types import JsonObject, Message, Role


@dataclass(frozen=True, slots=True)
class TokenizerWriting:
    """arguments: of the chat template, beside the tools. last_turn: mask_history."""

    tokenizer: Any
    arguments: Mapping[str, Any]
    last_turn: bool = False

    def completion(self, row: AlignedRow) -> list[Segment]:
        """Of sft: every answer is trained with its end token, or the last alone."""
        prompt, answers = _messages(row)
        return self._segments(row, (*prompt, answers[0]), last_only=self.last_turn)

    def answered(self, row: AlignedRow) -> tuple[list[Segment], list[list[Segment]]]:
        """Of dpo and kto: the prompt, and each answer behind it."""
        prompt, answers = _messages(row)
        found = [self._segments(row, (*prompt, answer), last_only=True) for answer in answers]
        if any(segments[0] != found[0][0] for segments in found):
            raise DataError(
                "the prompt is written otherwise before chosen than before rejected",
                where=row.place,
                expected="the same prompt",
                remedy="Remove the row.",
            )
        return found[0][:1], [segments[1:] for segments in found]

    def _segments(self, row: AlignedRow, turns: Sequence[Message], *, last_only: bool) -> list[Segment]:
        tools = {"tools": json.loads(row.tools)} if row.tools else {}
        template = template_of(self.tokenizer, {**self.arguments, **tools})
        turns = accepted_turns(self.tokenizer, template, turns)
        whole = rendered_text(self.tokenizer, template, turns, prompt=False)
        answers = [number for number, turn in enumerate(turns) if turn.role == "assistant" and number > 0]
        segments: list[Segment] = []
        at = 0
        for number in answers[-1:] if last_only else answers:
            start, stop = self._span(template, turns, number, whole, row.place)
            segments += [{"text": whole[at:start]}, {"text": whole[start:stop], "train": True}]
            at = stop
        return [*segments, {"text": whole[at:]}] if whole[at:] else segments

    def _span(
        self, template: ChatTemplate, turns: Sequence[Message], number: int, whole: str, place: str
    ) -> tuple[int, int]:
        """Where an answer begins in the whole text, and where its end token ends."""
        before = rendered_text(self.tokenizer, template, turns[:number], prompt=True)
        done = rendered_text(self.tokenizer, template, turns[: number + 1], prompt=False)
        ends = turn_end_ids(self.tokenizer, template_kwargs=dict(template.arguments))
        end = str(self.tokenizer.decode(list(ends))) if ends else ""
        stop = done.rfind(end, len(before)) + len(end) if end and end in done[len(before) :] else len(done)
        if not whole.startswith(before) or not whole.startswith(done[:stop]):
            raise DataError(
                f"the model's chat template writes turn {number + 1} otherwise once others follow",
                where=place,
                expected="a conversation that is only added to",
                remedy="Write mask_history: true, or name a template.",
            )
        return len(before), stop


_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "observation": "tool"}


def written_row(row: AlignedRow, stage: Stage, writing: RowWriting | TokenizerWriting | None) -> JsonObject:
    """The row as `lastresort train` reads it. writing: None for turns, which the model's own chat template renders later."""
    if stage == "pt":
        return {"text": row.prompt[0].text}
    if writing is None:
        return _turns(row, stage)
    if stage == "sft":
        return {"segments": writing.completion(row)}
    prompt, answers = writing.answered(row)
    if stage == "dpo":
        return {"segments": prompt, "chosen_segments": answers[0], "rejected_segments": answers[1]}
    return {"segments": [*prompt, *answers[0]], "label": row.label}


def _turns(row: AlignedRow, stage: Stage) -> JsonObject:
    prompt, answers = ([message.as_dict() for message in messages] for messages in _messages(row))
    if stage == "dpo":
        return {"prompt": prompt, "chosen": [answers[0]], "rejected": [answers[1]]}
    return {"messages": [*prompt, *answers], **({"label": row.label} if stage == "kto" else {})}


def _messages(row: AlignedRow) -> tuple[list[Message], list[Message]]:
    """The prompt, and the answers."""
    system = [Message("system", row.system)] if row.system else []
    prompt = [*system, *(_message(turn, row.place) for turn in row.prompt)]
    return prompt, [_message(turn, row.place) for turn in row.answers]


def _message(turn: Turn, place: str) -> Message:
    if turn.role == "function":
        return Message("assistant", "", {"tool_calls": _calls(turn.text, place)})
    return Message(_ROLES[turn.role], turn.text)


def _calls(text: str, place: str) -> list[JsonObject]:
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
