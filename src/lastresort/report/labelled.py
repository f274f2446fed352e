"""Nested values whose shape other folders own, as labelled lines: what is not known in advance is still shown whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.report.wording import count

MOST_LINES = 12


def labelled(body: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Each key with one or more lines of text; keys without content are left out."""
    return [(label(key), lines) for key, value in body.items() if (lines := _lines(value))]


def label(key: str) -> str:
    """`near_duplicates` -> "near duplicates"."""
    return str(key).replace("_", " ")


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        flat = all(not isinstance(part, Mapping | list) for part in value.values())
        if flat:
            return [
                ", ".join(f"{label(key)} {_plain(part)}" for key, part in value.items() if part is not None)
            ] * bool(value)
        return [f"{label(key)}: {line}" for key, part in value.items() for line in _lines(part)][:MOST_LINES]
    if isinstance(value, Sequence) and not isinstance(value, str):
        lines = [line for part in value[:MOST_LINES] for line in _lines(part)]
        return [*lines, f"and {count(len(value) - MOST_LINES)} more"] if len(value) > MOST_LINES else lines
    return [] if value is None or value == "" else [_plain(value)]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
