"""Shapes with a column for the question and one for the answer.

{"input": …, "output": …}, and its common synonyms such as text/label and question/answer.

{"prompt": …, "completion": …}; `response` for `completion`. Either may be a list of messages, as TRL writes it.

{"instruction": …, "input": …, "output": …}; `input` may be empty, `context` and `response` are Dolly's names.
LLaMA-Factory's `system` and `history` (pairs of question and answer) are read as turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.data.formats.shape import (
    Labelled,
    RowShape,
    conversation,
    input_text,
    input_turns,
    is_turns,
    output_text,
)
from lastresort.errors import DataError
from lastresort.types import Message

_INPUTS = ("input", "text", "question", "query", "sentence")
_OUTPUTS_OF_INPUT = ("output", "label", "answer", "target")


def _columns(keys: frozenset[str]) -> tuple[str, str] | None:
    """input and output win over their synonyms; a synonym counts only where it is the only one on its side."""
    inputs = ["input"] if "input" in keys else [key for key in _INPUTS if key in keys]
    outputs = ["output"] if "output" in keys else [key for key in _OUTPUTS_OF_INPUT if key in keys]
    return (inputs[0], outputs[0]) if len(inputs) == 1 and len(outputs) == 1 else None


def _input_output(row: RawRow) -> Labelled:
    columns = _columns(frozenset(row.values))
    assert columns is not None
    return input_turns(row, columns[0]), output_text(row, columns[1])


INPUT_OUTPUT = RowShape(
    "input/output",
    '{"input": …, "output": …}',
    frozenset(_INPUTS) | frozenset(_OUTPUTS_OF_INPUT),
    lambda keys: _columns(keys) is not None,
    _input_output,
    _columns,
)


_COMPLETIONS = ("completion", "response")


def _completion_cells(keys: frozenset[str]) -> tuple[str, str]:
    return "prompt", next(key for key in _COMPLETIONS if key in keys)


def _prompt_completion(row: RawRow) -> Labelled:
    _, key = _completion_cells(frozenset(row.values))
    prompt = input_turns(row, "prompt")
    value = row.values[key]
    if is_turns(value):
        return conversation(prompt + input_turns(row, key), row, key)
    return prompt, output_text(row, key)


PROMPT_COMPLETION = RowShape(
    "prompt/completion",
    '{"prompt": …, "completion": …}',
    frozenset({"prompt", *_COMPLETIONS}),
    lambda keys: "prompt" in keys and not keys.isdisjoint(_COMPLETIONS),
    _prompt_completion,
    _completion_cells,
)


_CONTEXTS = ("input", "context")
_OUTPUTS_OF_ALPACA = ("output", "response")


def _alpaca_cells(keys: frozenset[str]) -> tuple[str, str]:
    return "instruction", next(key for key in _OUTPUTS_OF_ALPACA if key in keys)


def _alpaca(row: RawRow) -> Labelled:
    parts = [input_text(row, "instruction")]
    context = _context(row.values)
    if context is not None and str(row.values[context]).strip():
        parts.append(input_text(row, context))
    turns = [*_system(row), *_history(row), Message("user", "\n\n".join(parts))]
    return tuple(turns), output_text(row, _alpaca_cells(frozenset(row.values))[1])


def _context(values: Mapping[str, Any]) -> str | None:
    return next((key for key in _CONTEXTS if values.get(key) not in (None, "", [], {})), None)


def _alpaca_reads(values: Mapping[str, Any]) -> frozenset[str]:
    context = _context(values)
    empty = {key for key in _CONTEXTS if key in values and values[key] in (None, "", [], {})}
    return frozenset(
        {"system", "history", *_alpaca_cells(frozenset(values)), *empty, *([] if context is None else [context])}
    )


def _system(row: RawRow) -> Iterator[Message]:
    if row.values.get("system"):
        yield Message("system", input_text(row, "system"))


def _history(row: RawRow) -> Iterator[Message]:
    history = row.values.get("history") or []
    if not isinstance(history, list):
        raise DataError(
            f"found {kind_of(history)}",
            where=row.at("history"),
            expected="a list of pairs [question, answer]",
            remedy="Write the earlier turns as a list, or leave the key out.",
        )
    for index, pair in enumerate(history):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise DataError(
                f"found {kind_of(pair)}",
                where=row.at(f"history[{index}]"),
                expected="a pair [question, answer]",
                remedy="Write each earlier turn as a pair of texts.",
            )
        yield Message("user", pair[0])
        yield Message("assistant", pair[1])


ALPACA = RowShape(
    "alpaca",
    '{"instruction": …, "input": …, "output": …}',
    frozenset({"instruction", "system", "history", *_CONTEXTS, *_OUTPUTS_OF_ALPACA}),
    lambda keys: "instruction" in keys and not keys.isdisjoint(_OUTPUTS_OF_ALPACA),
    _alpaca,
    _alpaca_cells,
    _alpaca_reads,
)
