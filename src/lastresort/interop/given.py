"""The keys of another framework's file, read one by one, so that what nobody read is known at the end.

What the two importers read alike, so that one file of each says the same here.

An adapter that is trained further, and the base that it was trained on.

Where a file that a neighbour names is: there, relative names start from the current folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

from lastresort.errors import TaskError
from lastresort.interop.imported import ImportRemark, Kind
from lastresort.spec.values import NumberBounds, describe, listed
from lastresort.types import JsonObject

_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


class ForeignKeys:
    """name: the file, for errors. remarks: what was said about its keys, in order.

    A key without a value counts as not given. Every reader raises TaskError for a value that is none of what it reads.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self.name = name
        self.remarks: list[ImportRemark] = []
        self._values = {key: value for key, value in values.items() if value is not None}
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def any(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return self._values.get(key, default)

    def text(self, key: str) -> str | None:
        value = self.any(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return None if value is None else value.strip()
        return self.refuse(key, describe(value), expected="text", remedy="Write a name.")

    def choice(self, key: str, options: Sequence[str], default: str) -> str:
        value = str(self.any(key, default)).strip()
        if value in options:
            return value
        return self.refuse(key, f'"{value}"', expected=listed(options, "or", most=len(options)), remedy="Correct it.")

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.any(key, default)
        value = _WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value
        if isinstance(value, bool):
            return value
        return self.refuse(key, describe(value), expected="true or false", remedy="Write true or false.")

    def number(self, key: str, default: float, bounds: NumberBounds = NumberBounds()) -> float:  # noqa: B008 - frozen
        value = self.any(key, default)
        try:
            return bounds.check(value)
        except PydanticCustomError as error:
            detail = dict(error.context or {})
            found = str(detail["found"]).removeprefix("found ")
            return self.refuse(key, found, expected=str(detail["expected"]), remedy=str(detail["remedy"]))

    def count(self, key: str, default: int, least: int = 0) -> int:
        return int(self.number(key, default, NumberBounds(at_least=least, whole=True)))

    def names(self, key: str) -> list[str]:
        """Names as a list, or in one text between commas."""
        value = self.any(key, [])
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) and part.strip() for part in parts):
            self.refuse(key, describe(value), expected="names", remedy="Write them in a list, or between commas.")
        return [part.strip() for part in parts]

    def remark(self, key: str, kind: Kind, sentence: str) -> None:
        self.remarks.append(ImportRemark(key, kind, sentence))

    def refuse(self, key: str, found: str, *, expected: str, remedy: str) -> NoReturn:
        raise TaskError(f"found {found}", where=self.where(key), expected=expected, remedy=remedy)

    def where(self, key: str) -> str:
        return f'{self.name}, key "{key}"'

    def asked(self) -> frozenset[str]:
        """Every key that some reader has asked for, whether or not the file has it."""
        return frozenset(self._read)

    def unread(self) -> JsonObject:
        """The keys with a value that no reader has asked for, in the file's order."""
        return {key: value for key, value in self._values.items() if key not in self._read}


NO_CLIPPING = 1e9
"""The norm of gradients for a file whose 0 clips nothing."""
PAGED_8BIT = "paged_adamw_8bit"
NO_REMOTE_CODE = "No code of a model is run here: a model that needs some is refused when it is loaded."


def few_bits(given: ForeignKeys, key: str, name: str, *, full: bool) -> str:
    """Our optimizer for an AdamW that keeps its state in few bits, but not paged. full: whether all weights are trained."""
    if full:
        given.remark(key, "differs", f"{name} keeps its state in few bits; {PAGED_8BIT} does so here.")
        return PAGED_8BIT
    sentence = f"{name} keeps its state in few bits; that of an adapter is small, and torch's AdamW is taken here."
    given.remark(key, "differs", sentence)
    return "adamw"


def lora_plus(given: ForeignKeys, *, full: bool) -> JsonObject:
    """Our key for LoRA+, where it is asked for. full: whether all weights are trained."""
    key = "loraplus_lr_ratio"
    ratio = given.number(key, 1.0, NumberBounds(at_least=1))
    if ratio == 1:
        return {}
    if full:
        given.refuse(key, f"{ratio:g} beside a training of all weights", expected="an adapter", remedy="Remove it.")
    return {key: ratio}


NOT_IN_4_BITS = (
    "The base is loaded in 16 bits: an adapter that is trained further is so on the base that it was trained on, and only one "
    "that this program trained says that it was in 4 bits."
)


def says_its_base(adapter: Path) -> bool:
    """Whether it was trained here on a base in 4 bits, which is then loaded so again."""
    from lastresort.models.quantized import read_quantized_base

    return read_quantized_base(adapter) is not None


def found_place(name: str, beside: Path) -> Path | None:
    """The absolute path of what exists under this name, seen from the current folder or else from that of `beside`; None for
    nothing such.
    """
    for folder in (Path.cwd(), beside.absolute().parent):
        path = Path(os.path.abspath(folder / Path(name).expanduser()))  # noqa: PTH100 - resolve() would follow links
        if path.exists():
            return path
    return None


def new_place(name: str) -> Path:
    """The absolute path of what will be written under this name, seen from the current folder."""
    return Path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100
