"""Hashes of model files, remembered, so that a start does not read gigabytes to name what it already knows."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from lastresort.embedded import cache_folder
from lastresort.errors import InfrastructureError
from lastresort.records.atomic import write_atomically

_log = logging.getLogger("lastresort")
_DECIDING = (".safetensors", ".json", ".jinja", ".model", ".txt")
_NOT_DECIDING = {"converted.json", "README.md", "trainer_state.json", "training_args.json"}


def folder_hash(folder: Path) -> str:
    """sha256 over names and contents of the files that decide what a model or adapter in this folder says."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _DECIDING and path.name not in _NOT_DECIDING:
            whole.update(f"{path.name}\0{file_hash(path)}\n".encode())
    return whole.hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of the content, kept in the user's cache under path, size and time of change."""
    real = path.resolve()
    state = real.stat()
    entry = hashlib.sha256(f"{real}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()
    note = cache_folder() / "hashes" / entry
    if note.is_file():
        known = note.read_text(encoding="ascii")
        if len(known) == 64:
            return known
    with real.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        write_atomically(note, digest)
    except InfrastructureError as error:  # only slower the next time
        _log.debug("hash not remembered: %s", error)
    return digest
