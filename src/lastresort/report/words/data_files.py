"""What was written by `lastresort data convert` and `data mix`, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lastresort.report.words.wording import counted, listed

if TYPE_CHECKING:
    from lastresort.report.data_files import ConvertedFile

_DROPPED = {
    "system": "system prompts",
    "turns": "earlier turns",
    "keys": "further keys of turns",
    "tools": "lists of tools",
    "rejected": "rejected answers",
}


def convert_lines(found: ConvertedFile) -> list[str]:
    return [
        f"{counted(found.written, 'row')} in {found.path}, from {counted(found.read, 'row')} of {found.source}.",
        *dropped_lines(found.dropped),
        *([f"Nothing to drop: no row has {listed(found.unused, 'or')}."] if found.unused else []),
    ]


def dropped_lines(dropped: Mapping[str, int]) -> list[str]:
    """What rows lost, by the name that --drop gives it."""
    return [
        f"Dropped: {_DROPPED.get(name, f'the column {name}')} in {counted(n, 'row')}." for name, n in dropped.items()
    ]
