"""Options that take one of a few words."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TypeVar

from lastresort.errors import InputError

Word = TypeVar("Word", bound=str)


def one_of(flag: str, found: str, names: tuple[Word, ...]) -> Word:
    """The word as one of the names. Raises InputError where it is none."""
    for name in names:
        if found == name:
            return name
    near = get_close_matches(found, names, 1)
    remedy = f'Did you mean "{near[0]}"?' if near else "Name one of them."
    raise InputError(f'found "{found}"', where=flag, expected=", ".join(names), remedy=remedy)
