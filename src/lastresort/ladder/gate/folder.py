"""Where a gate is written: `gates/<name>-<n>`, or the folder of a gate with the same question that was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lastresort.errors import InputError
from lastresort.ladder.workspace import new_run, run_number
from lastresort.records import lock
from lastresort.records.atomic import write_atomically
from lastresort.report.gate import FILE_NAME

QUESTION = "question.json"


@contextmanager
def gate_folder(gates: Path, name: str, question: Mapping[str, Any], out: Path | None = None) -> Iterator[Path]:
    """Hold a folder for this question; the hold ends with the process, however it ends.

    out: this folder in place of one below `gates`. Raises InputError where that is a file, or another process writes there.
    """
    with _held(out, question) if out is not None else _begun(gates, name, question) as folder:
        yield folder


@contextmanager
def _begun(gates: Path, name: str, question: Mapping[str, Any]) -> Iterator[Path]:
    """The newest unfinished gate of the same question that nobody holds, else a new one."""
    numbered = [(number, path) for path in gates.glob(f"{name}-*") if (number := run_number(path, name)) is not None]
    unfinished = [
        folder
        for _, folder in sorted(numbered, reverse=True)
        if not (folder / FILE_NAME).exists() and _question_of(folder) == question
    ]
    with ExitStack() as stack:
        for folder in unfinished:
            with suppress(InputError):
                stack.enter_context(_held(folder, question))
                break
        else:
            folder = stack.enter_context(_held(new_run(gates, name), question))
        yield folder


def _question_of(folder: Path) -> Any:
    try:
        return json.loads((folder / QUESTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def _held(folder: Path, question: Mapping[str, Any]) -> Iterator[Path]:
    if folder.exists() and not folder.is_dir():
        raise InputError("found a file", where=str(folder), expected="a folder", remedy="Name another with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    remedy = "Wait for it, or name another with --out."
    with lock.held(folder, "another process writes a gate here", expected="one process a folder", remedy=remedy):
        write_atomically(folder / QUESTION, json.dumps(dict(question), indent=1) + "\n")
        yield folder
