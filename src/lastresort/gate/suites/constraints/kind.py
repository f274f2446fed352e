"""What a kind of constraint is, and how texts are cut up to check one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConstraintKind:
    """One kind of demand on an answer, checked by program.

    draw(level, random): what is demanded, JSON-able. tell(facts): the demand in words. holds(answer, facts): whether it is met.
    aspects: what of an answer it settles; two kinds that share one are not asked together, since they could contradict.
    idle: most answers meet it without trying, so it only stands beside others.
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
    """Draws {"n": …} from what stands for the level."""
    return lambda level, random: {"n": random.choice((easy, middle, hard)[level - 1])}


def nothing(level: int, random: Random) -> Facts:
    return {}


def lines(text: str) -> list[str]:
    """Lines that are not blank, without spaces around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def words(text: str) -> list[str]:
    """Words in small letters: letters and digits, with an apostrophe or hyphen inside."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.casefold())


def sentences(text: str) -> list[str]:
    """Stretches that end in one or more of . ! ? before a space or the end; what is left over counts as one."""
    parts = re.split(r"(?<=[.!?])[\"'”’)]*\s+", text.strip())
    return [part for part in parts if words(part)]


def bare(text: str) -> str:
    """The text in small letters with single spaces, without quotes, asterisks and marks at its end."""
    return " ".join(text.casefold().split()).strip("\"'“”’*_ ").rstrip(".!?… \"'“”’*_")
