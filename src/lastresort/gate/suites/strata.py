"""Strata (families at a level) and their sequences of different items, which end when a family has no more facts."""

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

REPEATS = 500  # so many repeated facts in a row end a stratum
WRITTEN, FACT = "written_", "fact"
CONSTRAINTS = {f"constraints_{group}": group for group in GROUPS}


@dataclass(frozen=True, slots=True)
class Stratum:
    """A row in the tables of the general suite.

    family: of choice questions; with "written_" before it if they are answered in words; or a group of constraints after
    "constraints_".
    """

    family: str
    level: int

    @property
    def name(self) -> str:
        return f"{self.family}/{self.level}"

    @property
    def kin(self) -> str:
        """The family of the questions, however they are answered."""
        return self.family.removeprefix(WRITTEN)

    @property
    def chance(self) -> float:
        """The score of guessing; for constraints, of answers that ignore them (constraints/request.py)."""
        if self.family in CONSTRAINTS:
            return CHANCE[CONSTRAINTS[self.family]][self.level - 1]
        return FAMILIES[self.kin].chance


CHOSEN_STRATA = tuple(Stratum(family.name, level) for family in FAMILIES.values() for level in family.levels)
CONSTRAINT_STRATA = tuple(Stratum(family, level) for family in CONSTRAINTS for level in LEVELS)
WRITTEN_STRATA = tuple(Stratum(WRITTEN + stratum.family, stratum.level) for stratum in CHOSEN_STRATA)
STRATA = {stratum.name: stratum for stratum in (*CHOSEN_STRATA, *CONSTRAINT_STRATA, *WRITTEN_STRATA)}


@dataclass(slots=True)
class StratumItems:
    """The items of a stratum and a seed, made on demand; no two about the same fact.

    An id fixes its item: the n-th different one that the stratum's random numbers of that seed give.
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
        """Raises ContractError if the stratum has fewer items."""
        for item in islice(self, number, None):
            return item
        raise ContractError(f"there are only {len(self.items)} different items", where=self.stratum.name)

    def __iter__(self) -> Iterator[SuiteItem]:
        for number in count():
            if number == len(self.items) and not self._add():
                return
            yield self.items[number]

    def _add(self) -> bool:
        """Whether there is another item."""
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


ItemContent = tuple[str, dict[str, Any]]  # text and facts of an item


def _chosen(stratum: Stratum, random: Random) -> ItemContent:
    choice = FAMILIES[stratum.kin].make(stratum.level, random)
    about = {FACT: f"{stratum.kin}: {choice.fact}"} if choice.fact else {}
    return choice.question, {"options": list(choice.options), "right": choice.right, **about}


def _written(stratum: Stratum, random: Random) -> ItemContent:
    """With the options in the question, so that a program can find the answer among them."""
    question, facts = _chosen(stratum, random)
    options = "\n".join(f"- {option}" for option in facts["options"])
    return f"{question}\nChoose one of these answers and write nothing else:\n{options}", {**facts, "written": True}


def _constrained(stratum: Stratum, random: Random) -> ItemContent:
    request = draw_request(CONSTRAINTS[stratum.family], stratum.level, random)
    return request.text, {"constraints": request.constraints}


def _way(stratum: Stratum) -> str:
    if stratum.family in CONSTRAINTS:
        return "constrained"
    return "chosen" if stratum.family == stratum.kin else "written"


_MAKE: dict[str, Callable[[Stratum, Random], ItemContent]] = {
    "chosen": _chosen,
    "written": _written,
    "constrained": _constrained,
}
