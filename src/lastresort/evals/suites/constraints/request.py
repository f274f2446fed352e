"""Requests with constraints: level 1 has one, level 2 two, level 3 three, each harder than below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from lastresort.evals.suites.constraints import GROUPS, KINDS, Kind
from lastresort.evals.suites.constraints.kind import words
from lastresort.evals.suites.constraints.requests import REQUESTS, SUBJECTS

LEVELS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Request:
    """text: what is asked. constraints: by the name of the kind, what it demands."""

    text: str
    constraints: dict[str, dict[str, Any]]


def draw_request(group: str, level: int, random: Random) -> Request:
    """A request whose first constraint is of this group; the others are of any that agree with it."""
    first = random.choice([kind for kind in GROUPS[group] if not kind.idle])
    kinds = _agreeing(first, level, random)
    constraints = {kind.name: kind.draw(level, random) for kind in kinds}
    request = random.choice(REQUESTS).format(subject=random.choice(SUBJECTS))
    demands = " ".join(kind.tell(constraints[kind.name]) for kind in kinds)
    return Request(f"{request} Keep it short. {demands}", constraints)


def _agreeing(first: Kind, n: int, random: Random) -> list[Kind]:
    kinds = [first]
    others = [kind for kind in KINDS.values() if kind is not first]
    random.shuffle(others)
    for other in others:
        if len(kinds) < n and not any(other.aspects & kind.aspects for kind in kinds):
            kinds.append(other)
    return kinds


def keeps(answer: str, constraints: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the answer says something and keeps all of the constraints."""
    return bool(words(answer)) and all(KINDS[name].holds(answer, dict(facts)) for name, facts in constraints.items())
