"""An update that is killed or fails at any moment leaves whole documents, and the next one ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from knowledge_support import SMALL, CountingEmbedder, markdown
from lastresort.errors import DataError, InfrastructureError
from lastresort.knowledge import update as updating
from lastresort.knowledge.document import Document
from lastresort.knowledge.search import search
from lastresort.knowledge.store import Store, content_hash, create_store, open_store, rows_where
from lastresort.knowledge.update import update


def documents(edition: int) -> list[Document]:
    """Some that change from edition to edition, some that stay, one that goes and one that comes."""
    changing = [markdown(f"c{n}.md", f"# C{n}\n\nEdition {edition}.\n\n## Kept\n\nKept {n}.") for n in range(6)]
    staying = [markdown(f"s{n}.md", f"# S{n}\n\nStays {n}.") for n in range(3)]
    return [*changing, *staying, markdown(f"only-{edition}.md", f"Only in edition {edition}.")]


def expected(folder: Path) -> str:
    fresh = create_store(folder, CountingEmbedder(), SMALL)
    update(fresh, documents(2))
    return content_hash(fresh)


def editions(store: Store) -> dict[str, set[str]]:
    """Of each document whose chunks name an edition, which."""
    found: dict[str, set[str]] = {}
    rows = rows_where(store, None, ["document", "document_hash"])
    for document, state in zip(rows["document"].to_pylist(), rows["document_hash"].to_pylist(), strict=True):
        found.setdefault(document, set()).add(state)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = create_store(tmp_path / "store", CountingEmbedder(), SMALL)
    update(made, documents(1))
    return made


STEPS = ["write_manifest", "_replace", "_rows", "_remove", "_index"]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_step_that_fails_is_made_up_for(
    step: str, when: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "COMMIT_CHUNKS", 3)
    real, calls = getattr(updating, step), 0

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "before" and calls == (2 if step == "_rows" else 1):
            raise KeyboardInterrupt
        done = real(*arguments, **named)
        if when == "after":
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(updating, step, failing)
    with pytest.raises(KeyboardInterrupt):
        update(store, documents(2))
    monkeypatch.setattr(updating, step, real)
    embedder = CountingEmbedder()
    again = open_store(store.folder, embedder)
    assert all(len(states) == 1 for states in editions(again).values()), "no document is half old and half new"
    if (step, when) != ("write_manifest", "before"):
        with pytest.raises(DataError, match="did not finish"):
            search(again, "kept")
    done = update(again, documents(2))
    assert content_hash(again) == expected(tmp_path / "fresh")
    assert done.embedded == len(embedder.embedded) <= 7
    assert not [text for text in embedder.embedded if "Kept" in text.split("\n")[-1]], (
        "what was there is not embedded again"
    )
    assert update(again, documents(2)).embedded == 0
    assert search(again, "edition 1", mode="text", k=20) != ()


def test_what_was_committed_before_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updating, "COMMIT_CHUNKS", 3)
    embedder = CountingEmbedder()
    cut = open_store(store.folder, embedder)
    real = embedder.embed_passages

    def failing(texts: Any, on_done: Any = None) -> Any:
        if len(embedder.embedded) >= 4:
            raise OSError("cut")
        return real(texts, on_done)

    monkeypatch.setattr(embedder, "embed_passages", failing)
    with pytest.raises(OSError, match="cut"):
        update(cut, documents(2))
    rest = CountingEmbedder()
    update(open_store(store.folder, rest), documents(2))
    assert len(embedder.embedded) + len(rest.embedded) == 7
    assert not set(embedder.embedded) & set(rest.embedded)


CODE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from faults.test_knowledge_killed import documents
from knowledge_support import CountingEmbedder
from lastresort.knowledge import update as updating
from lastresort.knowledge.store import open_store
updating.COMMIT_CHUNKS = 2
print("began", flush=True)
updating.update(open_store(Path(sys.argv[1]), CountingEmbedder()), documents(2))
print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_process_killed_at_any_moment(store: Store, tmp_path: Path) -> None:
    wanted, seconds = expected(tmp_path / "fresh"), 0.0
    tests = str(Path(__file__).parent.parent)
    for seed in range(4):
        folder = tmp_path / f"killed-{seed}"
        subprocess.run(["cp", "-r", str(store.folder), str(folder)], check=True)
        with subprocess.Popen(
            [sys.executable, "-c", CODE, str(folder), tests], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "began\n"
            began = time.monotonic()
            if seed:
                time.sleep(random.Random(seed).uniform(0, seconds))
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            seconds = seconds or time.monotonic() - began
        again = open_store(folder, CountingEmbedder())
        assert all(len(states) == 1 for states in editions(again).values())
        update(again, documents(2))
        assert content_hash(again) == wanted
        assert json.loads((folder / "store.json").read_text())["complete"]


def test_two_processes_do_not_update_at_once(store: Store) -> None:
    with updating._only_writer(store.folder), pytest.raises(DataError, match="another process is updating this store"):
        update(store, documents(2))
    update(store, documents(2))


def test_a_full_disk_is_no_traceback(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(type(store.table), "merge_insert", full)
    with pytest.raises(InfrastructureError, match="the disk is full"):
        update(store, documents(2))


def test_a_table_cut_short_is_told(store: Store) -> None:
    for path in (store.folder / "chunks.lance" / "data").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="the store cannot be read or written"):
        search(open_store(store.folder, CountingEmbedder()), "kept", mode="vector")
