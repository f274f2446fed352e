"""The bytes of a task file, or of a training file, as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lastresort.errors import TaskError
from lastresort.spec.wording import nearest_file


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is meant to be, as errors speak of it. least: what to write into an empty one. line: one of its lines."""

    noun: str
    holds: str
    least: str
    line: str


TASK = Kind("task file", "a task", "Write at least task, about, examples, score and bar.", "bar: 0.85")
LARGEST_BYTES = 4 * 2**20
_BINARY_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a zip archive", b"\x1f\x8b": "gzip"}


def read_text(path: Path, kind: Kind = TASK) -> str:
    """The file's text without its byte order mark. Raises TaskError where it holds no text, and says what it holds."""
    name = str(path)
    try:
        _refuse_other_than_file(path, name, kind)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TaskError(
            f"found a file that cannot be read ({reason})", where=name, remedy="Check its name and its permissions."
        ) from None
    binary = next((what for mark, what in _BINARY_MARKS.items() if data.startswith(mark)), None)
    if binary or b"\0" in data:
        raise TaskError(
            f"found {binary or 'binary data'}", where=name, expected="YAML in UTF-8", remedy="Save it as UTF-8 text."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"found a byte (0x{data[error.start]:02x}) that is not UTF-8",
            where=f"{name}, line {data.count(bytes([10]), 0, error.start) + 1}",
            expected="YAML in UTF-8",
            remedy="Save the file as UTF-8.",
        ) from None
    if not text.strip():
        raise TaskError(
            "found an empty file",
            where=name,
            expected=kind.holds,
            remedy=kind.least,
        )
    return text


def _refuse_other_than_file(path: Path, name: str, kind: Kind) -> None:
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.y*ml"))
        hint = (
            f'Name the file: "{path / inside[0]}".'
            if inside
            else f"Name a {kind.noun}, such as {kind.noun.split()[0]}.yaml."
        )
        raise TaskError("found a folder", where=name, expected=f"a {kind.noun}", remedy=hint)
    if not path.exists():
        beside = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        close = nearest_file(path.name, beside) or (beside[0] if len(beside) == 1 else None)
        hint = f'Did you mean "{path.parent / close}"?' if close else "Check the name."
        raise TaskError("found no such file", where=name, expected=f"a {kind.noun}", remedy=hint)
    if not path.is_file():
        raise TaskError(
            "found something that is not a file", where=name, expected=f"a {kind.noun}", remedy="Name a file."
        )
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise TaskError(
            f"found {size / 2**20:.0f} MiB",
            where=name,
            expected=f"a {kind.noun} of a few kilobytes",
            remedy=f"Name the {kind.noun}, not the data.",
        )
