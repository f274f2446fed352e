"""How fast a store of 100,000 chunks is built and searched, and what it costs: `python -m benchmarks.retrieval [--chunks N]`.

The store is built and searched as a user's is, but for the vectors: text is synthetic (words drawn by Zipf's law) and vectors are
random, either all directions alike or around 1,000 centres, as no text is embedded. How fast real text is embedded is
measured apart, on the project's own documents. Each measurement runs in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lastresort.knowledge.document import Document
from lastresort.knowledge.embedder import open_embedder
from lastresort.knowledge.formats.text import read_markdown
from lastresort.knowledge.search import search
from lastresort.knowledge.store import Store, StoreSettings, create_store, open_store, rows_where
from lastresort.knowledge.update import INDEX_FROM_ROWS, update

DIMENSIONS, SECTIONS, WORDS_A_CHUNK, VOCABULARY = 384, 50, 120, 30_000
QUESTIONS, WORDS_A_QUESTION, CENTRES, SPREAD = 200, 10, 1000, 0.7
ROOT = Path(__file__).resolve().parents[1]


class RandomVectors:
    """Stands in for an embedder: the hash of a text decides its vector. kind: "random" or "clustered"."""

    most_tokens, dimensions = 256, DIMENSIONS

    def __init__(self, kind: str) -> None:
        self.name = self.fingerprint = kind
        self._centres = np.random.default_rng(1).standard_normal((CENTRES, DIMENSIONS), dtype=np.float32)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def embed_passages(self, texts: Sequence[str], on_done: Callable[[int], object] | None = None) -> Any:
        vectors = np.stack([self._vector(text) for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_questions(self, texts: Sequence[str]) -> Any:
        return self.embed_passages(texts)

    def _vector(self, text: str) -> Any:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        own = np.random.default_rng(seed).standard_normal(DIMENSIONS, dtype=np.float32)
        return own if self.name == "random" else self._centres[seed % CENTRES] + SPREAD * own


def vocabulary() -> list[str]:
    letters = list("abcdefghijklmnopqrstuvwxyz")
    generator = np.random.default_rng(2)
    return ["".join(generator.choice(letters, generator.integers(3, 10))) for _ in range(VOCABULARY)]


def zipf() -> Any:
    weights = 1 / np.arange(1, VOCABULARY + 1)
    return weights / weights.sum()


def documents(chunks: int) -> list[Document]:
    """Each of SECTIONS sections, each of one chunk."""
    words, shares, generator = vocabulary(), zipf(), np.random.default_rng(3)
    made = []
    for number in range(-(-chunks // SECTIONS)):
        drawn = generator.choice(VOCABULARY, size=(SECTIONS, WORDS_A_CHUNK), p=shares)
        sections = [f"## Part {n}\n\n{' '.join(words[w] for w in row)}" for n, row in enumerate(drawn)]
        made.append(read_markdown("\n\n".join(sections).encode(), f"d{number}.md", ""))
    return made


def build(folder: Path, kind: str, chunks: int) -> dict[str, Any]:
    """Seconds of a first build without embedding, of one that finds nothing to do, and of one with one document changed."""
    material, embedder = documents(chunks), RandomVectors(kind)
    embedding = 0.0
    real = embedder.embed_passages

    def timed(texts: Sequence[str], on_done: Callable[[int], object] | None = None) -> Any:
        nonlocal embedding
        began = time.perf_counter()
        vectors = real(texts, on_done)
        embedding += time.perf_counter() - began
        return vectors

    embedder.embed_passages = timed  # type: ignore[method-assign]
    store = create_store(folder, embedder, StoreSettings())
    seconds = {"build": timed_s(lambda: update(store, material)) - embedding}
    seconds["nothing"] = timed_s(lambda: update(store, material))
    material[0] = read_markdown(material[0].text.replace(" ", " changed ", 1).encode(), material[0].id, "")
    seconds["one_document"] = timed_s(lambda: update(store, material))
    return {
        "chunks": store.manifest.chunks,
        "seconds": seconds,
        "disk_bytes": disk_bytes(folder),
        "peak_bytes": peak_bytes(),
    }


def searched(folder: Path, kind: str) -> dict[str, Any]:
    """Milliseconds a question in each mode, and the share of the ten nearest by brute force that the index gives."""
    embedder = RandomVectors(kind)
    before = resident_bytes()
    store = open_store(folder, embedder)
    questions = questions_of(store)
    found: dict[str, Any] = {"modes": {}}
    for mode in ("vector", "text", "hybrid"):
        times = [1000 * timed_s(lambda q=q, mode=mode: search(store, q, mode=mode)) for q in questions]
        found["modes"][mode] = {
            "first": times[0],
            "median": median(times[3:]),
            "p95": float(np.percentile(times[3:], 95)),
        }
    found["resident_bytes"] = resident_bytes() - before
    matrix, ids = matrix_of(store)
    vectors = embedder.embed_questions(questions)
    nearest = [{ids[place] for place in np.argsort(-(matrix @ vector))[:10]} for vector in vectors]
    given = [{hit.chunk.id for hit in search(store, question, k=10, mode="vector")} for question in questions]
    found["recall"] = sum(len(a & b) for a, b in zip(nearest, given, strict=True)) / (10 * len(questions))
    scans = [1000 * timed_s(lambda v=vector: scan(store, v)) for vector in vectors[:40]]
    found["scan"] = {"median": median(scans[3:]), "p95": float(np.percentile(scans[3:], 95))}
    products = [1000 * timed_s(lambda v=vector: np.argpartition(-(matrix @ v), 50)[:50]) for vector in vectors[:40]]
    found["in_memory"] = {"median": median(products[3:]), "p95": float(np.percentile(products[3:], 95))}
    return found


def questions_of(store: Store) -> list[str]:
    """Half drawn like the text, half its rarer words, as people ask for what is particular."""
    words, generator = vocabulary(), np.random.default_rng(4)
    return [
        " ".join(words[w] for w in generator.choice(VOCABULARY, WORDS_A_QUESTION, p=zipf() if number % 2 else None))
        for number in range(QUESTIONS)
    ]


def scan(store: Store, vector: Any) -> Any:
    """What a search costs without an index: LanceDB reads all vectors from its files."""
    query = store.table.search(vector, vector_column_name="vector").distance_type("dot").bypass_vector_index()
    return query.select(["id", "_distance"]).limit(50).to_arrow()


def matrix_of(store: Store) -> tuple[Any, list[str]]:
    rows = rows_where(store, None, ["id", "vector"]).combine_chunks()
    values = rows["vector"].combine_chunks().flatten().to_numpy()
    return np.asarray(values, np.float32).reshape(rows.num_rows, DIMENSIONS), rows["id"].to_pylist()


def embedded() -> dict[str, Any]:
    """Chunks and tokens a second of the embedded embedder on the project's own pages, and milliseconds a question."""
    from lastresort.knowledge.chunks import chunk_document
    from lastresort.knowledge.reading import read_documents

    embedder, settings = open_embedder(), StoreSettings().chunks
    seconds = {"load": timed_s(lambda: embedder.dimensions)}
    pages = read_documents(ROOT / "docs").documents
    chunks = [chunk.embedded for page in pages for chunk in chunk_document(page, settings, embedder.count_tokens)]
    seconds["chunking"] = timed_s(lambda: [chunk_document(page, settings, embedder.count_tokens) for page in pages])
    embedder.embed_passages(chunks[:32])
    seconds["embedding"] = timed_s(lambda: embedder.embed_passages(chunks))
    asked = [1000 * timed_s(lambda n=n: embedder.embed_questions([f"What is said about case {n}?"])) for n in range(60)]
    tokens = sum(embedder.count_tokens(chunk) for chunk in chunks)
    return {"chunks": len(chunks), "tokens": tokens, "seconds": seconds, "question_ms": median(asked[3:])}


def timed_s(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def disk_bytes(folder: Path) -> dict[str, int]:
    """All files, and those of the indexes."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return {
        "all": sum(sizes.values()),
        "indexes": sum(size for path, size in sizes.items() if "_indices" in path.parts),
    }


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(*arguments: str) -> dict[str, Any]:
    print(f"  {' '.join(arguments)} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.retrieval", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def headline(kind: str, built: dict[str, Any], found: dict[str, Any]) -> str:
    """In a sentence what a user waits for."""
    vector, text, hybrid = (found["modes"][mode]["median"] for mode in ("vector", "text", "hybrid"))
    return (
        f"**{built['chunks']:,} chunks are indexed in {built['seconds']['build']:.0f} s (without embedding) and searched in "
        f"{text:.0f} ms by keyword, {vector:.0f} ms by meaning and {hybrid:.0f} ms by both** (medians, {kind} vectors), with a "
        f"recall@10 of {found['recall']:.2f}."
    )


def report(kinds: Sequence[str], chunks: int) -> tuple[str, list[str]]:
    """The headline, of the first kind, and the table."""
    head, lines = "", ["| what | value |", "|---|---|"]
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            store = str(Path(folder) / "store")
            built = measured("build", store, kind, str(chunks))
            found = measured("search", store, kind)
        head = head or headline(kind, built, found)
        seconds, disk = built["seconds"], built["disk_bytes"]
        what = f"{built['chunks']:,} chunks, {kind} vectors"
        lines += [
            f"| {what}: build without embedding | {seconds['build']:.1f} s, peak {built['peak_bytes'] / 1e9:.2f} GB |",
            f"| {what}: update with nothing to do; with one document of {SECTIONS} chunks changed | "
            f"{seconds['nothing']:.2f} s; {seconds['one_document']:.2f} s |",
            f"| {what}: disk, of it both indexes | {disk['all'] / 1e6:.0f} MB, {disk['indexes'] / 1e6:.0f} MB |",
        ]
        for mode, times in found["modes"].items():
            shown = f"{times['median']:.1f} ms, {times['p95']:.1f} ms, {times['first']:.0f} ms"
            lines.append(f"| {what}: {mode}, median, 95th percentile, first question | {shown} |")
        lines += [
            f"| {what}: recall@10 against brute force | {found['recall']:.4f} |",
            f"| {what}: memory for opening and searching, libraries included | {found['resident_bytes'] / 1e6:.0f} MB |",
            f"| {what}: for comparison, LanceDB without its index, median and 95th percentile | "
            f"{found['scan']['median']:.1f} ms, {found['scan']['p95']:.1f} ms |",
            f"| {what}: for comparison, all vectors in memory (numpy), median and 95th percentile | "
            f"{found['in_memory']['median']:.1f} ms, {found['in_memory']['p95']:.1f} ms |",
        ]
    real = measured("embed")
    rate = real["seconds"]["embedding"]
    lines += [
        f"| embedding real text, {real['chunks']} chunks of {real['tokens'] / real['chunks']:.0f} tokens on average | "
        f"{real['chunks'] / rate:.1f} chunks/s, {real['tokens'] / rate:.0f} tokens/s |",
        f"| embedding one question | {real['question_ms']:.1f} ms |",
        f"| loading the embedder; chunking the same text | {real['seconds']['load']:.1f} s; {real['seconds']['chunking']:.2f} s |",
    ]
    return head, lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument(
        "part", nargs="*", help="build FOLDER KIND CHUNKS | search FOLDER KIND | embed: one measurement as JSON"
    )
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="*", default=["random", "clustered"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "retrieval.md")
    chosen = parser.parse_args()
    if chosen.part:
        part, rest = chosen.part[0], chosen.part[1:]
        if part == "build":
            print(json.dumps(build(Path(rest[0]), rest[1], int(rest[2]))))
        else:
            print(json.dumps(searched(Path(rest[0]), rest[1]) if part == "search" else embedded()))
        return
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("lancedb", "sentence-transformers", "torch"))
    title, rows = report(chosen.kinds, chosen.chunks)
    head = [
        "# Retrieval measured",
        "",
        title,
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}; {versions}. An index over the vectors from "
        f"{INDEX_FROM_ROWS:,} chunks on. Synthetic text; vectors are random, in all directions or around {CENTRES:,} centres; "
        "search times do not include embedding the question.",
        "",
        "Command: `" + " ".join(["python -m benchmarks.retrieval", *sys.argv[1:]]) + "`",
        "",
    ]
    text = "\n".join(head + rows) + "\n"
    print(text)
    chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
