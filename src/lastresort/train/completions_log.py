"""The sampled answers of a run with their rewards: one JSON line an answer, steps in their order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.records.atomic import disk_errors


class CompletionsLog:
    """A file that holds each step once, whatever was done twice: a resumed run repeats the steps after its checkpoint, and
    their earlier lines, like one that was cut half way, go before they are written again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: int | None = None

    def append(self, step: int, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines of one step, each of which gets the key "step" first. Raises InfrastructureError when the disk
        refuses."""
        texts = [json.dumps({"step": step, **line}, ensure_ascii=False, default=str) + "\n" for line in lines]
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._last is None or step <= self._last:
                self._cut_from(step)
            with self._path.open("ab") as file:
                file.write("".join(texts).encode("utf-8", "backslashreplace"))
        self._last = step

    def _cut_from(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = 0
        with self._path.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n") or _step_of(line) >= step:
                    break
                kept += len(line)
            file.seek(kept)
            file.truncate()


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
