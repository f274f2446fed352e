"""The keys of another framework's file, read one by one, so that what nobody read is known at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

from lastresort.errors import TaskError
from lastresort.neighbours.imported import Kind, Remark
from lastresort.spec.values import Number
from lastresort.spec.wording import describe, listed

_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


class Given:
    """name: the file, for errors. remarks: what was said about its keys, in order.

    A key without a value counts as not given. Every reader raises TaskError for a value that is none of what it reads.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self.name = name
        self.remarks: list[Remark] = []
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

    def number(self, key: str, default: float, bounds: Number = Number()) -> float:  # noqa: B008 - frozen
        value = self.any(key, default)
        try:
            return bounds.check(value)
        except PydanticCustomError as error:
            detail = dict(error.context or {})
            found = str(detail["found"]).removeprefix("found ")
            return self.refuse(key, found, expected=str(detail["expected"]), remedy=str(detail["remedy"]))

    def count(self, key: str, default: int, least: int = 0) -> int:
        return int(self.number(key, default, Number(at_least=least, whole=True)))

    def names(self, key: str) -> list[str]:
        """Names as a list, or in one text between commas."""
        value = self.any(key, [])
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) and part.strip() for part in parts):
            self.refuse(key, describe(value), expected="names", remedy="Write them in a list, or between commas.")
        return [part.strip() for part in parts]

    def remark(self, key: str, kind: Kind, sentence: str) -> None:
        self.remarks.append(Remark(key, kind, sentence))

    def refuse(self, key: str, found: str, *, expected: str, remedy: str) -> NoReturn:
        raise TaskError(f"found {found}", where=self.where(key), expected=expected, remedy=remedy)

    def where(self, key: str) -> str:
        return f'{self.name}, key "{key}"'

    def asked(self) -> frozenset[str]:
        """Every key that some reader has asked for, whether or not the file has it."""
        return frozenset(self._read)

    def unread(self) -> dict[str, Any]:
        """The keys with a value that no reader has asked for, in the file's order."""
        return {key: value for key, value in self._values.items() if key not in self._read}
