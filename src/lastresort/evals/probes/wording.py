"""The files of `texts/`: a line an entry, fields apart by " | ", lines that begin with # are for people."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files


@lru_cache
def entries(name: str) -> tuple[str, ...]:
    """The lines of texts/<name>.txt that are neither empty nor for people."""
    text = files("lastresort.evals.probes").joinpath("texts", f"{name}.txt").read_text("utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


@lru_cache
def table(name: str) -> tuple[tuple[str, ...], ...]:
    """The fields of every entry."""
    return tuple(tuple(field.strip() for field in entry.split(" | ")) for entry in entries(name))


def listed(field: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in field.split(","))
