"""How a value, a key and a near miss are named in an error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any

Key = tuple[str | int, ...]


def dotted(key: Key) -> str:
    """("sft", "learning_rates", 0) -> `sft.learning_rates[0]`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(value: Any) -> str:
    """A value as an error names it: kind first, then the value, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a truth value)"
    if isinstance(value, int | float):
        return f"a number ({value!r})"
    if isinstance(value, str):
        return f"text ({shortened(value)})" if value.strip() else "empty text"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return f"a mapping with {listed(value)}" if value else "an empty mapping"
    return f"a value of type {type(value).__name__}"


def shortened(text: str, longest: int = 60) -> str:
    """Text in quotes on one line, cut after `longest` characters."""
    return json.dumps(text if len(text) <= longest else text[: longest - 1] + "…", ensure_ascii=False)


def listed(names: Iterable[Any], joint: str = "and", most: int = 12) -> str:
    """`a, b and c`; the rest beyond `most` is left out."""
    words = [str(name) for name in names]
    if len(words) > most:
        words = [*words[: most - 1], "more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}" if words else "nothing"


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known name that `name` was probably meant to be, None where none is as near as `likeness` (0 to 1)."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    begun = [known_name for lower, known_name in by_lower.items() if len(name) > 2 and lower.startswith(name.lower())]
    if len(begun) == 1:
        return begun[0]
    close = get_close_matches(name.lower().replace("-", "_"), by_lower, n=1, cutoff=likeness)
    return by_lower[close[0]] if close else None


def nearest_file(name: str, beside: Iterable[str]) -> str | None:
    """The file that `name` was probably meant to be: by its stem, so that a common ending does not count."""
    by_stem: dict[str, str] = {}
    for candidate in sorted(beside, key=lambda other: PurePath(other).suffix == PurePath(name).suffix):
        by_stem[PurePath(candidate).stem] = candidate
    close = nearest(PurePath(name).stem, by_stem, likeness=0.75)
    return by_stem[close] if close else None
