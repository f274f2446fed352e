"""What a command writes beside its text: `--json`, one document on stdout, and files of the user's choice."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lastresort.cli.terminal import UNSAFE
from lastresort.errors import InputError


def print_document(document: Any) -> None:
    """Print it as JSON; letters are escaped where stdout cannot write all of them, control characters everywhere."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("_", "-")
    text = json.dumps(document, ensure_ascii=encoding not in ("utf-8", "utf8"), indent=2)
    # They occur within strings alone, and are the same to who reads the document.
    print(UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def refuse_unwritable(option: str, path: Path | None) -> None:
    """Before hours are spent on what is to be written there. Folders that are missing are made later."""
    if path is None:
        return
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if path.is_dir():
        found = "found a folder"
    elif there != path.absolute() and not there.is_dir():
        found = f"found a file at {there}"
    elif not os.access(there, os.W_OK):
        found = f"{there} may not be written to"
    else:
        return
    raise InputError(found, where=f"{option} {path}", expected="a file that can be written", remedy="Name another.")
