"""A kind of constraint, and how texts are split to check one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConstraintKind:
    """One kind of constraint on an answer, checked by program.

    draw(level, random): the constraint, as JSON. tell(facts): in words. holds(answer, facts): whether it is met. aspects: what it
    fixes about an answer; two kinds that share one could contradict and are not combined. idle: most answers meet it anyway, so it
    never comes first.
    """

    name: str
    draw: Callable[[int, Random], Facts]
    tell: Callable[[Facts], str]
    holds: Callable[[str, Facts], bool]
    aspects: frozenset[str]
    idle: bool = False


def count_by_level(
    easy: tuple[int, ...], middle: tuple[int, ...], hard: tuple[int, ...]
) -> Callable[[int, Random], Facts]:
    """Draws {"n": …} from the numbers of the level."""
    return lambda level, random: {"n": random.choice((easy, middle, hard)[level - 1])}


def nothing(level: int, random: Random) -> Facts:
    return {}


def lines(text: str) -> list[str]:
    """Lines that are not blank, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def words(text: str) -> list[str]:
    """Words in lower case: letters and digits, with an apostrophe or hyphen inside."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.casefold())


def sentences(text: str) -> list[str]:
    """Parts that end in one or more of . ! ? before a space or the end; the rest counts as one."""
    parts = re.split(r"(?<=[.!?])[\"'”’)]*\s+", text.strip())
    return [part for part in parts if words(part)]


def bare(text: str) -> str:
    """The text in lower case with single spaces, without quotes, asterisks and final punctuation."""
    return " ".join(text.casefold().split()).strip("\"'“”’*_ ").rstrip(".!?… \"'“”’*_")
