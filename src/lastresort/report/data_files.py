"""What `lastresort data convert` and `data mix` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lastresort.report.words import data_files as words


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """read, written: rows; a pair can become two. source: the shape that was read, in words. dropped: rows that lost a part or a
    column, by its name. unused: names of --drop that no row has.
    """

    path: Path
    source: str
    to: str
    read: int
    written: int
    dropped: Mapping[str, int]
    unused: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data convert --json` prints it."""
        return {**asdict(self), "path": str(self.path), "unused": list(self.unused)}

    def lines(self) -> list[str]:
        return words.convert_lines(self)
