"""The files of `texts/`: a line an entry, fields apart by " | ", lines that begin with # are for people.

Sentences with slots, and every way to fill them, in a drawn order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import product
from random import Random
from string import Formatter


@lru_cache
def entries(name: str) -> tuple[str, ...]:
    """The lines of texts/<name>.txt that are neither empty nor for people."""
    text = files("lastresort.data").joinpath("texts", f"{name}.txt").read_text("utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


@lru_cache
def table(name: str) -> tuple[tuple[str, ...], ...]:
    """The fields of every entry."""
    return tuple(tuple(field.strip() for field in entry.split(" | ")) for entry in entries(name))


def split_list(field: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in field.split(","))


def filled(name: str, seed: int, number: int) -> str:
    """The text at a place of the seed's sequence: each sentence of texts/<name>.txt once, then each with other words.

    A sentence is skipped once all its fillings are used; when the last sentence is done, all start again.
    """
    order = _order(name, seed)
    sentence, way = order[number % len(order)]
    return _ways(name, sentence)[way]


def how_many(name: str) -> int:
    """Number of texts before they repeat."""
    return len(_order(name, 0))


@lru_cache(maxsize=16)
def _order(name: str, seed: int) -> Sequence[tuple[int, int]]:
    """(sentence, filling) of every text."""
    sentences = shuffled(len(entries(name)), f"{name} {seed}")
    ways = {place: shuffled(len(_ways(name, place)), f"{name} {seed} {place}") for place in sentences}
    longest = max(map(len, ways.values()))
    return [(place, ways[place][row]) for row in range(longest) for place in sentences if row < len(ways[place])]


@lru_cache(maxsize=1024)
def shuffled(length: int, seed: str) -> Sequence[int]:
    places = list(range(length))
    Random(seed).shuffle(places)
    return tuple(places)


@lru_cache
def _ways(name: str, sentence: int) -> tuple[str, ...]:
    text = entries(name)[sentence]
    words = {row[0]: _words(row) for row in table(f"{name}_words")}
    slots = list(dict.fromkeys(slot for _, slot, _, _ in Formatter().parse(text) if slot))
    return tuple(
        text.format(**dict(zip(slots, chosen, strict=True))) for chosen in product(*(words[slot] for slot in slots))
    )


def _words(row: Sequence[str]) -> tuple[str, ...]:
    """Sentences of their own end in a full stop, and may hold commas."""
    return (
        tuple(part.strip().rstrip(".") + "." for part in row[1].split(".,")) if "., " in row[1] else split_list(row[1])
    )
