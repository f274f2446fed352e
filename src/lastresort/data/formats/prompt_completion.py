"""{"prompt": …, "completion": …}; `response` for `completion`. Either may be a list of messages, as TRL writes it."""

from __future__ import annotations

from lastresort.data.formats.shape import Labelled, Shape, conversation, input_turns, output_text
from lastresort.data.rows import RawRow

_OUTPUTS = ("completion", "response")


def _fits(keys: frozenset[str]) -> bool:
    return "prompt" in keys and any(key in keys for key in _OUTPUTS)


def _parse(row: RawRow) -> Labelled:
    key = next(key for key in _OUTPUTS if key in row.values)
    prompt = input_turns(row, "prompt")
    value = row.values[key]
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "role" in turn for turn in value):
        return conversation(prompt + input_turns(row, key), row, key)
    return prompt, output_text(row, key)


PROMPT_COMPLETION = Shape(
    "prompt/completion", '{"prompt": …, "completion": …}', frozenset({"prompt", *_OUTPUTS}), _fits, _parse
)
