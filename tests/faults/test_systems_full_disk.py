"""A disk that is full while a candidate is saved is one sentence, and the system is whole after the next try."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowledge_support import markdown
from lastresort.errors import InfrastructureError
from lastresort.knowledge.embedder import HashingEmbedder
from lastresort.knowledge.store import create_store
from lastresort.knowledge.update import update
from lastresort.systems.files import load_system, save_system
from lastresort.systems.system import PromptDesign, Retriever, System
from lastresort.types import Decoding


def adapter(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return {"adapter": folder}


def store(folder: Path) -> dict[str, Any]:
    update(create_store(folder, HashingEmbedder()), [markdown("a.md", "Some text.")])
    return {"retriever": Retriever(folder, 1)}


@pytest.mark.parametrize("part", [adapter, store])
def test_a_full_disk_is_one_sentence_and_the_next_try_makes_up_for_it(
    part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = replace(System("s", "embedded", PromptDesign("x"), Decoding(8)), **part(tmp_path / "part"))

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfile", full)
        broken.setattr(os, "link", full)
        with pytest.raises(InfrastructureError, match=r"the disk is full"):
            save_system(system, tmp_path / "saved")
    assert not (tmp_path / "saved" / "system.yaml").exists()
    save_system(system, tmp_path / "saved")
    loaded = load_system(tmp_path / "saved")
    for original, copy in ((system.adapter, loaded.adapter), (_store(system), _store(loaded))):
        assert _content(original) == _content(copy)


def _store(system: System) -> Path | None:
    return system.retriever.store if system.retriever is not None else None


def _content(folder: Path | None) -> dict[str, bytes]:
    """What was written, without the lock of an update."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder is not None else []
    return {str(path.relative_to(folder or "")): path.read_bytes() for path in files if path.name != ".updating"}
