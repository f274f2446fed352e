"""Files that this program did not write, read with limits: what is opened, how much of it, how deep, how wide.

A file is opened here alone, so that a device, a FIFO, a bomb or a name that is no text gets one sentence. Here alone, too, a
text of a user or a model becomes a JSON value. Task files have a YAML of their own (`spec.document`); `read_yaml` is for those of
others.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from lastresort.errors import InputError
from lastresort.types import JsonObject

MiB = 2**20
SETTINGS = 4 * MiB  # what people write by hand; a thousand times what they need
DOCUMENT = 256 * MiB  # one document that a program writes: a tokenizer, a decision with its examples
ROWS = 2048 * MiB  # unpacked; a data set for which one would write a loader, and what fits into the memory of a laptop
_UNREAL = ("/proc/", "/sys/")  # these look like files, but may hold a key, have no end, or wait for ever
_NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC if os.name == "posix" else os.O_BINARY  # type: ignore[attr-defined,unused-ignore]
_CHUNK = MiB
_FREELY = 64 * MiB  # of gzip, unpacked at any ratio
_MOST_PACKED = 100  # the ratio beyond that: rows reach 5 to 20, a bomb 1,000
MOST_NODES = 50_000  # values of a YAML file; PyYAML takes about 2 s to read so many


def read_content(path: Path, most: int = SETTINGS, *, raised: type[InputError] = InputError) -> bytes:
    """The bytes of a regular file. Raises `raised` for anything else and for more than `most` bytes.

    FileNotFoundError and IsADirectoryError pass: each caller knows what was expected there.
    """
    with opened(path, most, raised=raised) as file:
        read = file.read(most + 1)
    if len(read) > most:  # it grew
        raise _too_large_file(printable(path), len(read), most, raised)
    return read


@contextmanager
def opened(path: Path, most: int | None = None, *, raised: type[InputError] = InputError) -> Iterator[BinaryIO]:
    """A regular file of at most `most` bytes, open to be read. Raises as `read_content` does, also while it is read."""
    name = printable(path)
    if name != str(path):
        raise raised("found a file name that is not UTF-8", where=name, remedy="Rename the file.")
    try:
        real = os.path.realpath(path)
        if real.startswith(_UNREAL):
            raise raised("found a file of the operating system", where=name, remedy="Name another file.")
        with os.fdopen(os.open(path, os.O_RDONLY | _NONBLOCKING), "rb") as file:
            if not stat.S_ISREG((found := os.fstat(file.fileno())).st_mode):
                if stat.S_ISDIR(found.st_mode):
                    raise IsADirectoryError(name)
                raise raised(
                    "found something that is not a file", where=name, remedy="Write it to a file and name that."
                )
            if most is not None and found.st_size > most:
                raise _too_large_file(name, found.st_size, most, raised)
            yield file
    except (FileNotFoundError, IsADirectoryError):
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(name) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise raised(
            f"the file cannot be read ({reason})", where=name, remedy="Check its name and permissions."
        ) from error


def everything_below(folder: Path, *, hidden: bool = False) -> Iterator[Path]:
    """All files and folders below a folder, sorted in each, except what is below a link or, unless `hidden`, a hidden folder.

    Raises OSError for a folder that cannot be read. Without recursion: folders may be deeper than Python's stack.
    """
    waiting = [folder]
    while waiting:
        entry = waiting.pop()
        if entry is not folder:
            yield entry
            if not entry.is_dir() or entry.is_symlink() or (entry.name.startswith(".") and not hidden):
                continue
        waiting += sorted(entry.iterdir(), reverse=True)


def gunzipped(packed: bytes, most: int, *, where: str, raised: type[InputError] = InputError) -> bytes:
    """The content of a gzip file, of one member or more. Raises `raised` where it is broken or larger than `most` bytes, and where
    it is larger than any rows could be that were packed so small."""
    most = min(most, max(_FREELY, _MOST_PACKED * len(packed)))
    parts: list[bytes] = []
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacking:
            while part := unpacking.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise _too_large_file(where, size, most, raised, "or more when unpacked")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise raised(f"found a broken gzip file ({error})", where=where, remedy="Write it again.") from error
    return b"".join(parts)


def read_text(path: Path, most: int = SETTINGS, *, raised: type[InputError] = InputError) -> str:
    """The text of a file in UTF-8, without a byte order mark. Raises as `read_content` does, and `raised` for other bytes."""
    data = read_content(path, most, raised=raised)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise raised(
            f"found the byte 0x{data[error.start]:02x}, which is not UTF-8",
            where=f"{path}, line {data.count(bytes([10]), 0, error.start) + 1}",
            expected="text in UTF-8",
            remedy="Save the file as UTF-8.",
        ) from None


def holds(path: Path, text: str) -> bool:
    """Whether this is a regular file, and no link, that holds this text in UTF-8 and nothing else."""
    wanted = text.encode()
    try:
        same_size = not path.is_symlink() and path.is_file() and path.stat().st_size == len(wanted)
        return same_size and read_content(path, len(wanted)) == wanted
    except (OSError, InputError):
        return False


def read_json(path: Path, most: int = SETTINGS, *, lenient: bool = False, raised: type[InputError] = InputError) -> Any:
    """The value of a JSON file. Raises as `read_text` does, and `raised`, with line and column, for what `parse_json` refuses."""
    try:
        return parse_json(read_text(path, most, raised=raised), lenient=lenient)
    except NotJson as error:
        place = f"{path}, line {error.line}, column {error.column}" if error.line is not None else str(path)
        raise raised(
            f"found {error.reason if error.line is None else f'invalid JSON ({error.reason})'}",
            where=place,
            expected="valid JSON",
            remedy=error.remedy,
        ) from error


def read_yaml(path: Path, most: int = SETTINGS, *, raised: type[InputError] = InputError) -> Any:
    """The value of a YAML 1.1 file, with aliases, as PyYAML's safe loader has it. Raises as `read_text` and `parse_yaml` do."""
    return parse_yaml(read_text(path, most, raised=raised), where=str(path), raised=raised)


def parse_yaml(source: str, *, where: str, raised: type[InputError] = InputError) -> Any:
    """Raises `raised`, with line and column, for what is not YAML or beyond the limits: depth, aliases written out, digits."""
    try:
        loader = CountingLoader(source)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_bomb(node, where, raised)
        return loader.construct_document(node)
    except TooManyValues as error:
        raise _too_many_values(f"{where}, line {error.line}", raised) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark is not None else where
        raise raised(_not_yaml(error.problem), where=place, expected="`key: value` lines", remedy="Fix it.") from None
    except yaml.reader.ReaderError as error:
        line = source.count("\n", 0, error.position) + 1
        raise raised(
            f"found the control character #x{error.character:04x}", where=f"{where}, line {line}", remedy="Remove it."
        ) from None
    except RecursionError:
        raise raised("found YAML nested too deeply", where=where, remedy="Write it flat.") from None
    except (
        ValueError,
        OverflowError,
        TypeError,
        AttributeError,
    ) as error:  # a month of 13, 5,000 digits, a list as a key
        raise raised(_not_yaml(str(error)), where=where, remedy="Put such values in quotes.") from None


class TooManyValues(yaml.YAMLError):
    """More than MOST_NODES. line: of the first that is too many, from 1."""

    def __init__(self, line: int) -> None:
        self.reason = f"more than {MOST_NODES:,} values"
        super().__init__(self.reason)
        self.line = line


class CountingLoader(yaml.SafeLoader):
    """Raises TooManyValues at the first value beyond MOST_NODES: a file of 4 MiB may hold forty times as many."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._composed += 1
        if self._composed > MOST_NODES:
            raise TooManyValues(self.line + 1)
        return super().compose_node(parent, index)


def _too_many_values(where: str, raised: type[InputError]) -> InputError:
    return raised(f"found more than {MOST_NODES:,} values, aliases written out", where=where, remedy="Write less.")


def _not_yaml(problem: str | None) -> str:
    return f"found text that is not YAML ({problem or 'unknown'})"


def _refuse_bomb(root: yaml.Node, where: str, raised: type[InputError]) -> None:
    """Count nodes as if every alias were written out; a node that holds itself has no end."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, level: int) -> int:
        if level > DEEPEST:
            raise RecursionError
        known = sizes.get(id(node))
        if known is not None:
            if known == 0:
                raise raised(_not_yaml("an alias within its own anchor"), where=_line(node), remedy="Write it out.")
            return known
        sizes[id(node)] = 0
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > LONGEST_DIGITS:
            raise raised(f"found a number of {len(node.value):,} digits", where=_line(node), remedy="Put it in quotes.")
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        total = 1 + sum(size(child, level + 1) for child in children)
        if total > MOST_NODES:
            raise _too_many_values(_line(node), raised)
        sizes[id(node)] = total
        return total

    def _line(node: yaml.Node) -> str:
        return f"{where}, line {node.start_mark.line + 1}"

    size(root, 1)


def reason_of(error: BaseException) -> str:
    """The type of a library's error and its first line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:200]}" if line else type(error).__name__


def printable(path: Path | str) -> str:
    """A path that can be written as UTF-8: what is no character is escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


# C0 without tab and line break, DEL, C1, what reverses the direction in which a line is read, and halves of surrogate pairs, which
# no terminal's encoding has.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """The text with control characters as Python writes them, such as \\x1b."""
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def _too_large_file(name: str, size: int, most: int, raised: type[InputError], more: str = "") -> InputError:
    found = f"found {size / MiB:,.0f} MiB{' ' if more else ''}{more}"
    return raised(found, where=name, expected=f"at most {most // MiB:,} MiB", remedy="Check what it holds.")


DEEPEST = 100
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_OR_BARE_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
LONGEST_DIGITS = 310  # no float is longer; beyond 4,300 digits int() itself refuses


class NotJson(ValueError):
    """The text is not one JSON document, or would lose something when read.

    remedy: what to do where the fault is in a user's file. line, column: from 1, None where the fault is not one of syntax.
    position: of the first character that is not JSON, from 0.
    """

    def __init__(self, reason: str, remedy: str, at: json.JSONDecodeError | None = None) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy
        self.line = at.lineno if at is not None else None
        self.column = at.colno if at is not None else None
        self.position = at.pos if at is not None else 0


def parse_json(text: str, *, lenient: bool = False, number: Callable[[str], Any] | None = None) -> Any:
    """The value of a text that is one JSON document and nothing else; whitespace around it is allowed.

    Raises NotJson for a ```json fence or words around the document, for what would be lost or changed silently (a repeated key,
    NaN, numbers too large for a float, half of a surrogate pair, which no tokenizer takes), and for more than 100 levels. Programs
    that call a model for JSON do not strip a fence either.

    lenient: read what Python's own reader does, within the limits of depth and digits: configurations of models hold Infinity.
    number: makes the value of a number from how it is written.
    """
    strict: Mapping[str, Any] = {"object_pairs_hook": _unique, "parse_constant": _constant, "parse_float": _fraction}
    try:
        own: Mapping[str, Any] = {} if number is None else {"parse_int": number, "parse_float": number}
        value = json.loads(text, **{"parse_int": _whole, **({} if lenient else strict), **own})
    except json.JSONDecodeError as error:
        raise NotJson(error.msg, "Fix it.", error) from error
    except RecursionError as error:
        raise _too_deep() from error
    if json_depth(value) > DEEPEST:
        raise _too_deep()
    if not lenient and _ESCAPED_OR_BARE_HALF.search(text):
        _refuse_halves(value)
    return value


def lone_surrogate(text: str) -> str | None:
    """The first lone half of a surrogate pair, escaped; None where there is none."""
    found = None if text.isascii() else _HALF.search(text)
    return None if found is None else f"\\u{ord(found[0]):04x}"


def is_json(text: str) -> bool:
    try:
        parse_json(text)
    except NotJson:
        return False
    return True


def _too_deep() -> NotJson:
    return NotJson(f"JSON nested too deeply, in more than {DEEPEST} levels", "Flatten it.")


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise NotJson(f'the key "{twice}" twice in one object', "Keep one of the two.")
    return found


def _constant(name: str) -> Any:
    raise NotJson(f"{name}, which is no JSON number", "Write null or leave the key out.")


def _fraction(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _too_large(text)
    return value


def _whole(text: str) -> int:
    if len(text) > LONGEST_DIGITS:
        raise _too_large(text)
    try:
        float(value := int(text))
    except OverflowError as error:
        raise _too_large(text) from error
    return value


def _refuse_halves(value: Any) -> None:
    """value: at most DEEPEST levels."""
    if isinstance(value, str) and (half := lone_surrogate(value)) is not None:
        raise NotJson(f"half of a surrogate pair ({half}), which is no character", "Remove it or write the whole pair.")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_halves(key)
            _refuse_halves(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_halves(inner)


def _too_large(text: str) -> NotJson:
    shown = text if len(text) <= 24 else f"{text[:12]}…, {len(text)} characters"
    return NotJson(f"a number too large for a float ({shown})", "Write it as text.")


def json_depth(value: Any) -> int:
    """Levels of a JSON value, itself included, counted without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        containers = [v for v in level if isinstance(v, dict | list)]
        level = [inner for v in containers for inner in (v.values() if isinstance(v, dict) else v)]
    return depth
