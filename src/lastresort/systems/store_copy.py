"""Copying a knowledge store into the folder of a run or of a system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lastresort.records.atomic import disk_errors

LOCK = ".updating"


def copy_store(store: Path, target: Path) -> None:
    """The store at `target`, whole or not at all; nothing happens where it is there already.

    Its files are never changed once written, only replaced, so that a copy on the same disk is a second name of the same file:
    each candidate of a climb carries its store, and a store may be large. What a killed copy left is taken away first.
    Raises InfrastructureError where the disk is full or refuses.
    """
    if target.exists():
        return
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    with disk_errors(target):
        shutil.copytree(store, new, copy_function=_link, ignore=shutil.ignore_patterns(LOCK))
        new.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without such names
        shutil.copy2(source, target)
