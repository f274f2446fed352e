"""Where a file that a neighbour names is: there, relative names start from the current folder."""

from __future__ import annotations

import os
from pathlib import Path


def found_place(name: str, beside: Path) -> Path | None:
    """The absolute path of what exists under this name, seen from the current folder or else from that of `beside`; None for
    nothing such.
    """
    for folder in (Path.cwd(), beside.absolute().parent):
        path = Path(os.path.abspath(folder / Path(name).expanduser()))  # noqa: PTH100 - resolve() would follow links
        if path.exists():
            return path
    return None


def new_place(name: str) -> Path:
    """The absolute path of what will be written under this name, seen from the current folder."""
    return Path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100
