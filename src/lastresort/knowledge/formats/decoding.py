"""From bytes to text: UTF-8, or what a page declares."""

from __future__ import annotations

import codecs

from lastresort.errors import DataError
from lastresort.knowledge.document import tidy

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decoded(content: bytes, where: str, *, declared: str = "utf-8") -> str:
    """The text, tidied. A byte order mark says which UTF it is, else `declared`. Raises DataError for any other bytes."""
    encoding = declared
    for mark, name in _MARKS:
        if content.startswith(mark):
            content, encoding = content[len(mark) :], name
    try:
        return tidy(content.decode(encoding))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"found byte 0x{content[error.start]:02x} at offset {error.start}, which is not {encoding.upper()}",
            where=f"{where}, line {line}",
            expected="text in UTF-8",
            remedy="Save the file as UTF-8.",
        ) from error
    except LookupError as error:
        raise DataError(
            f'found the encoding "{declared}", which is not known here',
            where=where,
            expected="text in UTF-8",
            remedy="Save the file as UTF-8.",
        ) from error
