"""{"input": …, "output": …}, and its common synonyms such as text/label and question/answer."""

from __future__ import annotations

from lastresort.data.formats.shape import Labelled, Shape, input_turns, output_text
from lastresort.data.rows import RawRow

_INPUTS = ("input", "text", "question", "query", "sentence")
_OUTPUTS = ("output", "label", "answer", "target")


def _columns(keys: frozenset[str]) -> tuple[str, str] | None:
    """input and output win over their synonyms; a synonym counts only where it is the only one on its side."""
    inputs = ["input"] if "input" in keys else [key for key in _INPUTS if key in keys]
    outputs = ["output"] if "output" in keys else [key for key in _OUTPUTS if key in keys]
    return (inputs[0], outputs[0]) if len(inputs) == 1 and len(outputs) == 1 else None


def _fits(keys: frozenset[str]) -> bool:
    return _columns(keys) is not None


def _parse(row: RawRow) -> Labelled:
    columns = _columns(frozenset(row.values))
    assert columns is not None
    return input_turns(row, columns[0]), output_text(row, columns[1])


INPUT_OUTPUT = Shape(
    "input/output", '{"input": …, "output": …}', frozenset(_INPUTS) | frozenset(_OUTPUTS), _fits, _parse
)
