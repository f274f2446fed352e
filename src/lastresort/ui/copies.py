"""Which files of a task's folder are copies without some rows of a file that somebody gave: kept beside the draft."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from lastresort.errors import InputError
from lastresort.foreign import read_yaml
from lastresort.records.atomic import write_atomically

KEPT = "copies.yaml"


@dataclass(frozen=True, slots=True)
class Copied:
    """source: the name of the file that was given. line: what the task's text says of the copy."""

    source: str
    line: str


def keep(folder: Path, name: str, copied: Copied) -> None:
    """name: of the copy."""
    found = {**kept_in(folder), name: copied}
    write_atomically(
        folder / KEPT, yaml.safe_dump({name: asdict(one) for name, one in found.items()}, allow_unicode=True)
    )


def kept_in(folder: Path) -> dict[str, Copied]:
    """By the names of the copies; nothing where that cannot be read."""
    path = folder / KEPT
    if path.is_symlink() or not path.is_file():
        return {}
    try:
        found = read_yaml(path)
    except InputError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: Copied(one["source"], one["line"])
        for name, one in found.items()
        if isinstance(name, str)
        and isinstance(one, dict)
        and all(isinstance(one.get(key), str) for key in ("source", "line"))
    }


def without_lines(text: str, *folders: Path) -> str:
    """A task's text without what it says of copies in these folders, for one whose examples are another file now."""
    lines = {copied.line for folder in folders for copied in kept_in(folder).values()}
    return "".join(line for line in text.splitlines(keepends=True) if line.rstrip("\n") not in lines)
