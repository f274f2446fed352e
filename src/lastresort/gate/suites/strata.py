"""Strata, families at a level, and their sequences of different items, which end where a family has no more facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from random import Random
from typing import Any

from lastresort.errors import ContractError
from lastresort.gate.suites.constraints import GROUPS
from lastresort.gate.suites.constraints.request import CHANCE, LEVELS, draw_request
from lastresort.gate.suites.families import FAMILIES
from lastresort.gate.suites.suite import SuiteItem

REPEATS = 500  # in a row: the stratum has no more items, or facts
WRITTEN, FACT = "written_", "fact"
CONSTRAINTS = {f"constraints_{group}": group for group in GROUPS}


@dataclass(frozen=True, slots=True)
class Stratum:
    """What scores of the general suite are counted under.

    family: of choice questions; the same after "written_", where they are answered in words; or a group of constraints after
    "constraints_".
    """

    family: str
    level: int

    @property
    def name(self) -> str:
        return f"{self.family}/{self.level}"

    @property
    def kin(self) -> str:
        """The family whose questions these are, however they are answered."""
        return self.family.removeprefix(WRITTEN)

    @property
    def chance(self) -> float:
        """The score of guessing; of constraints, of answers that ignore them (constraints/ignoring.py)."""
        if self.family in CONSTRAINTS:
            return CHANCE[CONSTRAINTS[self.family]][self.level - 1]
        return FAMILIES[self.kin].chance


CHOSEN_STRATA = tuple(Stratum(family.name, level) for family in FAMILIES.values() for level in family.levels)
CONSTRAINT_STRATA = tuple(Stratum(family, level) for family in CONSTRAINTS for level in LEVELS)
WRITTEN_STRATA = tuple(Stratum(WRITTEN + stratum.family, stratum.level) for stratum in CHOSEN_STRATA)
STRATA = {stratum.name: stratum for stratum in (*CHOSEN_STRATA, *CONSTRAINT_STRATA, *WRITTEN_STRATA)}


@dataclass(slots=True)
class StratumItems:
    """The different items of a stratum and a seed, in order, made as far as they were asked for; no two about the same fact.

    So an item is known by its id: it is the n-th different one of the stratum's random numbers of that seed.
    """

    stratum: Stratum
    seed: int
    random: Random = field(init=False)
    items: list[SuiteItem] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    ended: bool = False

    def __post_init__(self) -> None:
        self.random = Random(f"{self.stratum.name}/{self.seed}")

    def __getitem__(self, number: int) -> SuiteItem:
        """Raises ContractError where the stratum has fewer different items."""
        for item in islice(self, number, None):
            return item
        raise ContractError(f"there are only {len(self.items)} different items", where=self.stratum.name)

    def __iter__(self) -> Iterator[SuiteItem]:
        for number in count():
            if number == len(self.items) and not self._add():
                return
            yield self.items[number]

    def _add(self) -> bool:
        """Whether there was another."""
        for _ in range(0 if self.ended else REPEATS):
            text, facts = _MAKE[_way(self.stratum)](self.stratum, self.random)
            fact = str(facts.get(FACT, text))
            if fact not in self.known:
                self.known.add(fact)
                name = f"{self.stratum.name}/{self.seed}/{len(self.items)}"
                self.items.append(SuiteItem(name, self.stratum.family, self.stratum.level, text, facts))
                return True
        self.ended = True
        return False


Made = tuple[str, dict[str, Any]]


def _chosen(stratum: Stratum, random: Random) -> Made:
    choice = FAMILIES[stratum.kin].make(stratum.level, random)
    about = {FACT: f"{stratum.kin}: {choice.fact}"} if choice.fact else {}
    return choice.question, {"options": list(choice.options), "right": choice.right, **about}


def _written(stratum: Stratum, random: Random) -> Made:
    """The options are told, so that an answer can be found among them by program."""
    question, facts = _chosen(stratum, random)
    told = "\n".join(f"- {option}" for option in facts["options"])
    return f"{question}\nChoose one of these answers and write nothing else:\n{told}", {**facts, "written": True}


def _constrained(stratum: Stratum, random: Random) -> Made:
    request = draw_request(CONSTRAINTS[stratum.family], stratum.level, random)
    return request.text, {"constraints": request.constraints}


def _way(stratum: Stratum) -> str:
    if stratum.family in CONSTRAINTS:
        return "constrained"
    return "chosen" if stratum.family == stratum.kin else "written"


_MAKE: dict[str, Callable[[Stratum, Random], Made]] = {
    "chosen": _chosen,
    "written": _written,
    "constrained": _constrained,
}
