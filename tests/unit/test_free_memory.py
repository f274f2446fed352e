"""What a program could still get, in a container: its limit less what is used, where files that were read do not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.hardware import memory

GIB = 1 << 30


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, *, says: bool = True) -> int | None:
    """With 16 GiB free on the machine; 6 GiB used in the container, 4 of them files."""
    files = {
        "_SYSTEM": f"MemTotal: {32 << 20} kB\nMemAvailable: {16 << 20} kB\nSwapTotal: 0 kB\n",
        "_CONTAINER": limit,
        "_CONTAINER_USES": str(6 * GIB),
        "_CONTAINER_SAYS": f"anon {2 * GIB}\ninactive_file {3 * GIB}\nactive_file {1 * GIB}\n" if says else None,
    }
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text, encoding="ascii")
        monkeypatch.setattr(memory, name, folder / name)
    monkeypatch.setattr(memory, "has_gpu", lambda: False)
    return memory.free_memory_bytes()


@pytest.mark.parametrize(
    ("limit", "says", "free"),
    [(str(8 * GIB), True, 6), (str(8 * GIB), False, 2), (str(64 * GIB), True, 16), ("max", True, 16)],
)
def test_files_that_were_read_make_room(
    limit: str, says: bool, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(tmp_path, monkeypatch, limit, says=says) == free * GIB


def test_what_torch_keeps_of_freed_tensors_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver counts it as used: 30 GiB of which torch has given out 12."""
    import torch

    monkeypatch.setattr(memory, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (50 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 30 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 12 * GIB)
    assert memory.free_memory_bytes() == 68 * GIB
