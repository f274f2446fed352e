"""A store embeds what is new and nothing else, forgets what is gone, and says when it is not the one that was asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from knowledge_support import SMALL, CountingEmbedder, markdown
from lastresort.errors import ContractError, DataError
from lastresort.knowledge.chunks import ChunkSettings
from lastresort.knowledge.document import Document
from lastresort.knowledge.search import search
from lastresort.knowledge.store import (
    FILE,
    Store,
    StoreSettings,
    chunks_named,
    content_hash,
    create_store,
    open_or_create_store,
    open_store,
    rows_where,
)
from lastresort.knowledge.update import UpdateCounts, update

RETURNS = markdown("returns.md", "# Returns\n\nA lamp may come back.\n\n## Label\n\nAsk the desk.\n")
REPAIRS = markdown("repairs.md", "# Repairs\n\nTwo weeks.\n")
ODD = markdown("it's.md", "# It's\n\nA 'quoted' name.\n")
CHANGED = markdown("returns.md", "# Returns\n\nA lamp may come back.\n\n## Label\n\nPrint it yourself.\n")


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def store(tmp_path: Path, embedder: CountingEmbedder) -> Store:
    made = create_store(tmp_path / "store", embedder, SMALL)
    update(made, [RETURNS, REPAIRS, ODD])
    embedder.embedded.clear()
    return made


def ids(store: Store) -> list[str]:
    return sorted(rows_where(store, None, ["id"])["id"].to_pylist())


def test_all_chunks_are_embedded_once(tmp_path: Path, embedder: CountingEmbedder) -> None:
    store = create_store(tmp_path / "store", embedder, SMALL)
    twice = markdown("copy.md", "# Repairs\n\nTwo weeks.\n")
    done = update(store, [RETURNS, REPAIRS, twice])
    assert done == UpdateCounts(added=3, changed=0, removed=0, unchanged=0, embedded=3, reused=1)
    assert len(embedder.embedded) == 3
    assert ids(store) == ["copy.md#repairs:1", "repairs.md#repairs:1", "returns.md#label:1", "returns.md#returns:1"]
    assert (store.manifest.documents, store.manifest.chunks, store.manifest.complete) == (3, 4, True)


def test_an_unchanged_store_is_not_touched(store: Store, embedder: CountingEmbedder) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.name != ".updating"}

    before, embedder.counted = state(), 0
    assert update(store, [ODD, REPAIRS, RETURNS]) == UpdateCounts(0, 0, 0, 3, 0, 0)
    assert state() == before
    assert (embedder.embedded, embedder.counted) == ([], 0)


def test_a_changed_document_embeds_its_changed_chunks_only(store: Store, embedder: CountingEmbedder) -> None:
    assert update(store, [CHANGED, REPAIRS, ODD]) == UpdateCounts(0, 1, 0, 2, embedded=1, reused=1)
    assert embedder.embedded == ["Returns > Label\n## Label\n\nPrint it yourself."]
    assert [hit.chunk.id for hit in search(store, "print", mode="text")] == ["returns.md#label:1"]
    assert search(store, "desk", mode="text") == ()


def test_a_deleted_document_disappears_from_search_and_from_the_disk(store: Store, embedder: CountingEmbedder) -> None:
    assert update(store, [REPAIRS, RETURNS]) == UpdateCounts(0, 0, 1, 2, 0, 0)
    assert search(store, "quoted", mode="text") == ()
    assert "it's.md#its:1" not in ids(store)
    assert embedder.embedded == []
    written = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert b"Two weeks" in written
    assert b"'quoted'" not in written


def test_a_moved_document_keeps_its_vectors(store: Store, embedder: CountingEmbedder) -> None:
    moved = markdown("old/repairs.md", REPAIRS.text)
    assert update(store, [RETURNS, moved, ODD]) == UpdateCounts(
        added=1, changed=0, removed=1, unchanged=2, embedded=0, reused=1
    )
    assert "old/repairs.md#repairs:1" in ids(store)


def test_a_section_that_moves_to_a_document_updated_later_keeps_its_vector(
    store: Store, embedder: CountingEmbedder
) -> None:
    shorter = markdown("returns.md", "# Returns\n\nA lamp may come back.\n")
    longer = markdown("z.md", "# Returns\n\n## Label\n\nAsk the desk.\n")
    update(store, [shorter, longer, REPAIRS, ODD])
    assert [text.splitlines()[0] for text in embedder.embedded] == ["Returns > Label"]
    assert "# Returns" in embedder.embedded[0], (
        "the heading without text now stands in the chunk, so it is another text"
    )


def test_however_it_came_about_the_same_documents_make_the_same_store(store: Store, tmp_path: Path) -> None:
    update(store, [CHANGED])
    update(store, [])
    update(store, [ODD, RETURNS])
    update(store, [RETURNS, REPAIRS, ODD])
    fresh = create_store(tmp_path / "fresh", CountingEmbedder(), SMALL)
    update(fresh, [ODD, REPAIRS, RETURNS])
    assert content_hash(store) == content_hash(fresh)
    for question in ("desk label", "two weeks for a lamp"):
        for mode in ("vector", "text", "hybrid"):
            assert search(store, question, mode=mode) == search(fresh, question, mode=mode)  # type: ignore[arg-type]


def test_the_content_hash_follows_texts_names_and_settings(store: Store, tmp_path: Path) -> None:
    whole = content_hash(store)
    update(store, [CHANGED, REPAIRS, ODD])
    assert content_hash(store) != whole
    update(store, [RETURNS, markdown("repair.md", REPAIRS.text), ODD])
    assert content_hash(store) != whole
    for number, settings in enumerate([StoreSettings(ChunkSettings(40, 4)), StoreSettings(SMALL.chunks, "German")]):
        other = create_store(tmp_path / str(number), CountingEmbedder(), settings)
        update(other, [RETURNS, REPAIRS, ODD])
        assert content_hash(other) != whole


def test_a_store_is_a_folder_that_can_be_copied(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "winner #1 %20ü" / "store"
    shutil.copytree(store.folder, copy)
    shutil.rmtree(store.folder)
    opened = open_store(copy, CountingEmbedder())
    assert content_hash(opened) == content_hash(opened)
    assert [hit.chunk.id for hit in search(opened, "Ask the desk", k=1)] == ["returns.md#label:1"]
    update(opened, [REPAIRS])
    assert ids(opened) == ["repairs.md#repairs:1"]


def test_a_store_finds_its_embedder_by_name(tmp_path: Path) -> None:
    from lastresort.knowledge.embedder import HashingEmbedder

    update(create_store(tmp_path / "store", HashingEmbedder(), SMALL), [REPAIRS])
    assert len(search(open_store(tmp_path / "store"), "two weeks")) == 1


def test_another_embedder_or_other_settings_are_refused(store: Store) -> None:
    with pytest.raises(
        DataError, match=r"embedded by hashing \(fingerprint hashing-64-2\), expected hashing \(hashing-32-2\)"
    ):
        open_store(store.folder, CountingEmbedder(32))
    with pytest.raises(
        DataError, match="chunks of 40 tokens, 8 of overlap, language English, expected chunks of 250 tokens"
    ):
        open_or_create_store(store.folder, CountingEmbedder())
    assert open_or_create_store(store.folder, CountingEmbedder(), SMALL).manifest == store.manifest


def test_chunks_longer_than_the_embedder_reads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="chunks of 300 tokens, expected at most the 256 that the embedder hashing reads"
    ):
        create_store(tmp_path / "store", CountingEmbedder(), StoreSettings(ChunkSettings(300, 0)))
    assert not (tmp_path / "store").exists()


def test_a_folder_in_use_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(DataError, match="the folder is not empty"):
        create_store(tmp_path, CountingEmbedder())
    with pytest.raises(DataError, match="no knowledge store in this folder"):
        open_store(tmp_path)
    with pytest.raises(DataError, match="no knowledge store in this folder"):
        open_store(tmp_path / "notes.md")


def test_other_versions_and_damage_are_told(store: Store) -> None:
    path = store.folder / FILE
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {"schema": 99}))
    with pytest.raises(DataError, match="a store of schema 99, expected schema 1"):
        open_store(store.folder, CountingEmbedder())
    path.write_text(whole[:40])
    with pytest.raises(DataError, match=r"store\.json, line \d+, column \d+: found invalid JSON"):
        open_store(store.folder, CountingEmbedder())
    path.write_text(json.dumps(json.loads(whole) | {"chunks": 7}))
    with pytest.raises(DataError, match=r"4 chunks, expected 7, as store\.json says"):
        open_store(store.folder, CountingEmbedder())
    path.write_text(whole)
    shutil.rmtree(store.folder / "chunks.lance")
    with pytest.raises(DataError, match="the store cannot be read or written"):
        open_store(store.folder, CountingEmbedder())


def test_documents_need_ids_of_their_own(store: Store) -> None:
    with pytest.raises(DataError, match=r'two documents with the id "repairs\.md"'):
        update(store, [REPAIRS, REPAIRS])
    with pytest.raises(ContractError):
        Document("a#b", "", ())


def test_languages_that_have_no_stems_here_are_refused() -> None:
    with pytest.raises(ContractError, match='the language "Klingon", expected one of'):
        StoreSettings(language="Klingon")


def test_chunks_are_found_by_their_ids(store: Store) -> None:
    found = chunks_named(store, ["returns.md#label:1", "it's.md#its:1", "nowhere"])
    assert [(chunk.id, chunk.headings) for chunk in found] == [
        ("it's.md#its:1", ("It's",)),
        ("returns.md#label:1", ("Returns", "Label")),
    ]
    assert found[1].text == "## Label\n\nAsk the desk."
    assert RETURNS.text[found[1].start : found[1].end] == found[1].text
