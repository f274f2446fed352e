"""What a model's files say of themselves, read with limits before any library reads them: settings, sizes, the head of a GGUF.

A library builds every layer that a config.json asks for and every element of a GGUF's lists before it looks at a weight.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lastresort.errors import DataError, InputError, TaskError
from lastresort.foreign import DOCUMENT, SETTINGS, opened, read_json
from lastresort.tokenizer_file import FILE as TOKENIZER
from lastresort.tokenizer_file import check_tokenizer

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
_OTHER_SETTINGS = ("generation_config.json", "tokenizer_config.json")
_MOST_BYTES = {".json": DOCUMENT, ".jinja": SETTINGS, ".txt": DOCUMENT, ".model": DOCUMENT}
_MAPPED = (".safetensors", ".gguf")  # of any size
MOST_LAYERS = 1_000  # 126 are the most of a model that is in use
MOST_EXPERTS = 10_000
MOST_WIDTH = 10**8  # of any size; the largest vocabularies are 0.3 million
_LIMITS = (
    (re.compile(r"(^|_)n?_?(layers?|blocks?)$"), MOST_LAYERS),
    (re.compile(r"experts?$"), MOST_EXPERTS),
    (re.compile(r"(_size|_dim|_heads|_groups|_positions|^n_embd|^n_inner|^d_model|^d_ff)$"), MOST_WIDTH),
)


def check_model_files(folder: Path, raised: type[InputError] = TaskError) -> None:
    """Raise `raised` for files in a model's folder that a library would read without end, and for sizes that no model has."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix in (*_MOST_BYTES, *_MAPPED) and not path.is_dir():
            with opened(path, _MOST_BYTES.get(path.suffix), raised=raised):
                pass
    if (folder / CONFIG).is_file():
        model_config(folder / CONFIG, raised)
    for name in _OTHER_SETTINGS:
        if (folder / name).is_file():
            _refuse_length(_settings(folder / name, raised), folder / name, raised)
    if (folder / TOKENIZER).is_file():
        check_tokenizer(folder / TOKENIZER, raised)


def model_config(path: Path, raised: type[InputError] = DataError) -> Mapping[str, Any]:
    """A config.json. Raises `raised` where it is none, and for sizes that no model has."""
    found = _settings(path, raised)
    _refuse_sizes(found, str(path), raised)
    return found


def _settings(path: Path, raised: type[InputError]) -> Mapping[str, Any]:
    found: Any = read_json(path, DOCUMENT, lenient=True, raised=raised)
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise raised(f"found {kind}", where=str(path), expected="an object", remedy="Save the model again.")
    return found


def _refuse_length(settings: Mapping[str, Any], path: Path, raised: type[InputError]) -> None:
    """A tokenizer compares it with the length of every text."""
    key = "model_max_length"
    if not isinstance(settings.get(key, 0), int | float | None):
        raise raised("found no number", where=f'{path}, key "{key}"', expected="a number", remedy="Correct it.")


def _refuse_sizes(config: Mapping[str, Any], where: str, raised: type[InputError]) -> None:
    for key, value in config.items():
        if isinstance(value, dict):
            _refuse_sizes(value, where, raised)
        most = next((most for pattern, most in _LIMITS if pattern.search(key)), None)
        if most is not None and isinstance(value, int | float) and not value <= most:
            expected = f"at most {most:,}"
            raise raised(f"found {value:g}", where=f'{where}, key "{key}"', expected=expected, remedy="Correct it.")


MOST_FIELDS, MOST_TENSORS = 100_000, 1_000_000
MOST_ELEMENTS = 5_000_000  # of all lists; a vocabulary of 0.3 million has 1.5 million, with scores, types and merges
LONGEST_TEXT = 64 * 2**20
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class GgufHead:
    """What a GGUF says of itself but for its lists (the vocabulary), and the shape of every tensor, innermost first."""

    fields: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]


def gguf_head(path: Path) -> GgufHead:
    """No weight is read. Raises DataError for what is no GGUF, is cut short, or has longer lists than a library could read."""
    try:
        with opened(path, raised=DataError) as file:
            return _Head(file, path.stat().st_size).read()
    except _NotGguf as error:
        raise DataError(
            f"no GGUF of a language model ({error})", where=str(path), remedy="Download it again, or name another."
        ) from None


class _NotGguf(Exception):
    pass


class _Head:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._order = "<"
        self._elements = 0

    def read(self) -> GgufHead:
        if self._take(4) != b"GGUF":
            raise _NotGguf("it does not begin with GGUF")
        version = self._number("I")
        if version & 0xFFFF == 0:
            self._order, version = ">", version >> 24
        if version not in (2, 3):
            raise _NotGguf(f"version {version}, expected 2 or 3")
        tensors, fields = self._count("Q", MOST_TENSORS, "tensors"), self._count("Q", MOST_FIELDS, "fields")
        found: dict[str, object] = {}
        for _ in range(fields):
            name, kind = self._text(), self._number("I")
            value = self._value(kind)
            if kind != _ARRAY:
                found[name] = value
        return GgufHead(found, dict(self._tensor() for _ in range(tensors)))

    def _tensor(self) -> tuple[str, tuple[int, ...]]:
        name = self._text()
        shape = tuple(self._number("Q") for _ in range(self._count("I", 8, "dimensions")))
        self._take(4 + 8)  # type and place
        return name, shape

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._pass_over_list()
        if kind not in _SCALARS:
            raise _NotGguf(f"a value of the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _pass_over_list(self) -> None:
        kind, count = self._number("I"), self._number("Q")
        self._elements += count
        if self._elements > MOST_ELEMENTS:
            raise _NotGguf(f"lists of more than {MOST_ELEMENTS:,} elements")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._count("Q", LONGEST_TEXT, "bytes of text"))
        elif kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
        else:
            raise _NotGguf("a list of lists" if kind == _ARRAY else f"a list of the unknown type {kind}")

    def _text(self) -> str:
        try:
            return self._take(self._count("Q", LONGEST_TEXT, "bytes of text")).decode()
        except UnicodeDecodeError:
            raise _NotGguf("text that is not UTF-8") from None

    def _count(self, kind: str, most: int, what: str) -> int:
        found = int(self._number(kind))
        if found > most:
            raise _NotGguf(f"{found:,} {what}")
        return found

    def _number(self, kind: str) -> Any:
        packed = struct.Struct(self._order + kind)
        return packed.unpack(self._take(packed.size))[0]

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise _NotGguf("it is cut short")
        return data

    def _skip(self, count: int) -> None:
        if self._file.seek(count, 1) > self._size:
            raise _NotGguf("it is cut short")
