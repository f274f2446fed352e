"""{"instruction": …, "input": …, "output": …}; `input` may be empty, `context` and `response` are Dolly's names.

LLaMA-Factory's `system` and `history` (pairs of question and answer) are read as turns.
"""

from __future__ import annotations

from collections.abc import Iterator

from lastresort.data.formats.shape import Labelled, Shape, input_text, output_text
from lastresort.data.rows import RawRow, kind_of
from lastresort.errors import DataError
from lastresort.types import Message

_CONTEXTS = ("input", "context")
_OUTPUTS = ("output", "response")


def _fits(keys: frozenset[str]) -> bool:
    return "instruction" in keys and any(key in keys for key in _OUTPUTS)


def _parse(row: RawRow) -> Labelled:
    parts = [input_text(row, "instruction")]
    context = next((key for key in _CONTEXTS if row.values.get(key) not in (None, "", [], {})), None)
    if context is not None and str(row.values[context]).strip():
        parts.append(input_text(row, context))
    turns = [*_system(row), *_history(row), Message("user", "\n\n".join(parts))]
    return tuple(turns), output_text(row, next(key for key in _OUTPUTS if key in row.values))


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


ALPACA = Shape(
    "alpaca",
    '{"instruction": …, "input": …, "output": …}',
    frozenset({"instruction", "system", "history", *_CONTEXTS, *_OUTPUTS}),
    _fits,
    _parse,
)
