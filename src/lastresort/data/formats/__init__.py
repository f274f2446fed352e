"""The shapes in which rows come. The first whose keys fit takes the row; a new shape is one file and one line here."""

from __future__ import annotations

from lastresort.data.formats.chat import MESSAGES, SHAREGPT
from lastresort.data.formats.columns import ALPACA, INPUT_OUTPUT, PROMPT_COMPLETION
from lastresort.data.formats.shape import RowShape

SHAPES: dict[str, RowShape] = {
    shape.name: shape for shape in (MESSAGES, SHAREGPT, ALPACA, PROMPT_COMPLETION, INPUT_OUTPUT)
}
COMMON_COLUMNS = frozenset({"id", "group", "passages", "synthetic"})
KNOWN_COLUMNS = COMMON_COLUMNS.union(*(shape.keys for shape in SHAPES.values()))

__all__ = ["COMMON_COLUMNS", "KNOWN_COLUMNS", "SHAPES", "RowShape"]
