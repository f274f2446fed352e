"""Python functions that a file names as `module.function`, importable there from the current folder: which file, which name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lastresort.data.rows import RawRow
from lastresort.errors import DataError, TaskError
from lastresort.neighbours.places import found_place


def function_of(name: str, beside: Path, where: str) -> tuple[Path, str]:
    """The file and the function. Raises TaskError where no such file is, as for a reward that is a model."""
    module, _, function = name.rpartition(".")
    file = module.replace(".", "/") + ".py"
    importable = bool(module) and all(part.isidentifier() for part in name.split("."))
    path = found_place(file, beside) if importable else None
    if path is None:
        raise TaskError(
            f'found "{name}", which is no function here',
            where=where,
            expected="module.function of a Python file in the current folder; a reward that is a model is not asked",
            remedy=f"Write the file {file if importable else 'rewards.py'}, or correct the name.",
        )
    return path, function


def prompt_reader(name: str, beside: Path, cfg: Mapping[str, Any], where: str) -> Callable[[RawRow], dict[str, Any]]:
    """What makes a row with `prompt` of a row, by the file's own function, which is run as it is there: called with the
    settings it returns a function of a row. Raises TaskError for one that does not, DataError for a row on which it fails.
    """
    path, function = function_of(name, beside, where)
    made: list[Callable[[dict[str, Any]], Any]] = []

    def read(row: RawRow) -> dict[str, Any]:
        if not made:  # the user's code runs when rows are wanted, not when the file is read
            made.append(_made(path, function, cfg, where))
        try:
            with _beside(path):  # for what it imports only now
                found = made[0](dict(row.values))
        except Exception as error:
            raise DataError(
                f"{path.name}:{function} raised {type(error).__name__} ({error})",
                where=row.place,
                expected="a row with prompt",
                remedy="Correct the function, or the row.",
            ) from error
        if not isinstance(found, Mapping) or "prompt" not in found:
            raise DataError(
                f"{path.name}:{function} returned no prompt", where=row.place, remedy="Return a mapping with prompt."
            )
        return {**row.values, **found}

    return read


def _made(path: Path, function: str, cfg: Mapping[str, Any], where: str) -> Callable[[dict[str, Any]], Any]:
    try:
        with _beside(path):
            made = getattr(_module(path), function)(dict(cfg))
    except Exception as error:
        raise TaskError(
            f"{path.name}:{function} raised {type(error).__name__} ({error})",
            where=where,
            expected="a function of the settings that returns a function of a row",
            remedy="Correct it.",
        ) from error
    found: Callable[[dict[str, Any]], Any] = made[0] if isinstance(made, tuple) else made
    return found


def _module(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location(f"lastresort_neighbour_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    sys.path.insert(0, str(path.parent))
    try:
        yield
    finally:
        sys.path.remove(str(path.parent))
