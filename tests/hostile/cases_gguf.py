"""GGUF files: the head, its fields and lists, and the list of tensors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from corpus import Case
from model_files import TEXTS, cut, fifo, kept, lay, linked

STRING, ARRAY = 8, 9


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def field(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def listed(kind: int, count: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + values


def number(value: int) -> bytes:
    return struct.pack("<I", value)


def head(*fields: bytes, tensors: bytes = b"", count: int = 0, version: int = 3, named: int | None = None) -> bytes:
    start = b"GGUF" + struct.pack("<IQQ", version, count, len(fields) if named is None else named)
    return start + b"".join(fields) + tensors


def tensor(name: str, *shape: int, kind: int = 0, at: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)


NAMED = field("general.architecture", STRING, text("llama"))
SIZES = [
    field(f"llama.{name}", 4, number(value))
    for name, value in {
        "embedding_length": 32,
        "block_count": 2,
        "attention.head_count": 4,
        "feed_forward_length": 64,
        "context_length": 64,
    }.items()
]


def sized(**changes: bytes) -> bytes:
    """A GGUF of a language model with one field that is changed."""
    fields = [NAMED, *SIZES, *(field(f"llama.{name}", *_typed(value)) for name, value in changes.items())]
    return head(*fields, tensors=tensor("token_embd.weight", 32, 100), count=1)


def _typed(value: bytes) -> tuple[int, bytes]:
    return value[0], value[1:]


def planned(data: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "x.gguf").write_bytes(data)
        return ["plan", "--model", "x.gguf", "--gpu", "24GB"]

    return make


def merged(data: bytes) -> Callable[[Path], list[str]]:
    """As the base of a merge, for which the file is converted."""

    def make(folder: Path) -> list[str]:
        lay(folder, "adapter")
        (folder / "x.gguf").write_bytes(data)
        return ["merge", "adapter", "--base", "x.gguf", "--out", "merged"]

    return make


def changed(change: Callable[[Path], None]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        lay(folder, "tiny.gguf")
        change(folder)
        return ["plan", "--model", "tiny.gguf", "--gpu", "24GB"]

    return make


def nested(levels: int) -> bytes:
    return field("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * levels + listed(4, 1, number(1)))


HEADS: dict[str, bytes] = {
    "nothing": b"",
    "four letters": b"GGUF",
    "another mark": b"GGML" + bytes(100),
    "zeros": bytes(4096),
    "version 1": head(NAMED, version=1),
    "version 99": head(NAMED, version=99),
    "a version of the other byte order": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "2^62 tensors": head(NAMED, count=2**62),
    "2^62 fields": head(NAMED, named=2**62),
    "100 million fields": head(NAMED, named=10**8),
    "more fields than there are": head(NAMED, named=7),
    "a name of 2^63 bytes": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63),
    "a name of a gigabyte": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**30),
    "a name that is not UTF-8": head(field(b"\xff\xfe", 4, number(1))),
    "a text of 2^62 bytes": head(field("a", STRING, struct.pack("<Q", 2**62))),
    "an unknown type": head(field("a", 77, number(1))),
    "a list of 2^62 numbers": head(field("a", ARRAY, listed(4, 2**62))),
    "a list of 2^40 numbers": head(field("a", ARRAY, listed(4, 2**40))),
    "a list of 2^40 texts": head(field("a", ARRAY, listed(STRING, 2**40))),
    "a list of 2^62 bytes": head(field("a", ARRAY, listed(0, 2**62))),
    "a list of an unknown type": head(field("a", ARRAY, listed(77, 3))),
    "ten million true bytes": head(field("a", ARRAY, listed(7, 10**7, bytes(10**7)))),
    "a list of lists": head(nested(1)),
    "5,000 nested lists": head(nested(5_000)),
    "no architecture": head(*SIZES),
    "an architecture that is a number": head(field("general.architecture", 4, number(1)), *SIZES),
    "an architecture that is a list": head(field("general.architecture", ARRAY, listed(4, 1, number(1))), *SIZES),
    "an unknown architecture": head(field("general.architecture", STRING, text("evil")), *SIZES),
    "no tensor": head(NAMED, *SIZES),
    "a tensor of 2^32 dimensions": head(NAMED, tensors=text("a") + struct.pack("<I", 2**32 - 1), count=1),
    "embeddings of one dimension": head(NAMED, *SIZES, tensors=tensor("token_embd.weight", 32), count=1),
    "embeddings of 2^63 rows": head(NAMED, *SIZES, tensors=tensor("token_embd.weight", 32, 2**63), count=1),
    "no rows": head(NAMED, *SIZES, tensors=tensor("token_embd.weight", 32, 0), count=1),
    "a billion layers": sized(block_count=bytes([4]) + number(10**9)),
    "no layer": sized(block_count=bytes([4]) + number(0)),
    "layers of text": sized(block_count=bytes([STRING]) + text("many")),
    "endless layers": sized(block_count=bytes([6]) + struct.pack("<f", float("inf"))),
    "layers that are not a number": sized(block_count=bytes([12]) + struct.pack("<d", float("nan"))),
    "a negative width": sized(embedding_length=bytes([5]) + struct.pack("<i", -32)),
    "a width of 2^63": sized(embedding_length=bytes([10]) + struct.pack("<Q", 2**63)),
    "no heads": sized(**{"attention.head_count": bytes([4]) + number(0)}),
}


def _fifo(folder: Path) -> None:
    fifo("tiny.gguf")(folder)


CASES: dict[str, Case] = {
    "as it is": Case(changed(lambda folder: None), "accepted"),
    **{f"{what}, planned": Case(planned(data)) for what, data in HEADS.items()},
    **{f"{what}, as a base": Case(merged(data)) for what, data in HEADS.items()},
    **{
        f"a file of {what}": Case(planned(data if isinstance(data, bytes) else data.encode()))
        for what, data in TEXTS.items()
    },
    **{
        f"cut at {share:.0%}, planned": Case(changed(cut("tiny.gguf", share)), "either")
        for share in (0.001, 0.01, 0.1, 0.5, 0.99)
    },
    **{
        f"cut at {share:.0%}, as a base": Case(
            lambda folder, share=share: merged((data := (kept() / "tiny.gguf").read_bytes())[: int(share * len(data))])(
                folder
            )
        )
        for share in (0.01, 0.1, 0.5, 0.99)
    },
    "a FIFO": Case(changed(_fifo)),
    "a device": Case(changed(linked("tiny.gguf", "/dev/zero"))),
    "the environment": Case(changed(linked("tiny.gguf", "/proc/self/environ"))),
}
