"""Is it the same artefact? Hashes of a saved system, by which what was gated, what was written and what is served are compared.

Every byte is read each time: a size and a date do not prove that nothing changed. The files are those that are read to answer, so
that the disk's cache has them; what is left is about a second for each gigabyte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from lastresort.systems.files import as_dict, load_system, shot_row
from lastresort.systems.system import System


def artefact_sha256(folder: Path) -> str:
    """Hash of what answers: system.yaml without the paths of other models, shots, adapter and own weights, by content.

    The same for a copy of the folder, and after the folder or the base has moved. Of another base or store, the system has other
    fingerprints. Raises DataError as `load_system` does.
    """
    system = load_system(folder)
    told = {key: value for key, value in as_dict(system).items() if key not in ("schema", "tuned_from")}
    if system.fingerprint:
        del told["model"]  # its name may lead elsewhere by now, and its weights are in the fingerprint
    parts = [told, [shot_row(shot) for shot in system.prompt.shots], {p.name: folder_sha256(p) for p in _parts(system)}]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def folder_sha256(folder: Path) -> str:
    """Hash over the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape") + b"\x00")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _parts(system: System) -> Iterator[Path]:
    """Folders of weights that belong to the system; of a store it holds the hash of the contents."""
    if system.adapter is not None:
        yield system.adapter
    if system.tuned_from:
        yield Path(system.model)
