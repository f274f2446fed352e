"""The general suite: choice questions and requests with constraints, from seeded templates.

Its strata (families at a level) are sequences of different items, which end when a family has no more facts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from random import Random
from statistics import mean
from typing import Any

from lastresort.errors import ContractError
from lastresort.gate.suites.constraints import GROUPS
from lastresort.gate.suites.constraints.request import CHANCE, LEVELS, draw_request, keeps
from lastresort.gate.suites.families import FAMILIES
from lastresort.gate.suites.suite import (
    ChoiceRequest,
    Question,
    ScorePair,
    SuiteItem,
    SuiteMeasure,
    SuiteReply,
    TextRequest,
    Transcript,
)
from lastresort.types import Decoding, Message

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
_ALL = (*CHOSEN_STRATA, *CONSTRAINT_STRATA, *WRITTEN_STRATA)
STRATA = {stratum.name: stratum for stratum in _ALL}
SUBJECTS = {stratum.family: CONSTRAINTS.get(stratum.family, stratum.kin) for stratum in _ALL}  # by family


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
                self.items.append(
                    SuiteItem(name, self.stratum.family, self.stratum.level, text, facts, len(self.items))
                )
                return True
        self.ended = True
        return False


ItemContent = tuple[str, dict[str, Any]]  # text and facts of an item


def _chosen(stratum: Stratum, random: Random) -> ItemContent:
    choice = FAMILIES[stratum.kin].make(stratum.level, random)
    fact = {FACT: f"{stratum.kin}: {choice.fact}"} if choice.fact else {}
    return choice.question, {"options": list(choice.options), "right": choice.right, **fact}


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


VERSION = 2  # 2: no fact comes twice in a draw
KEY = "answer"
OPTION_TOKENS = 32
CONSTRAINED_TOKENS = 128


def every_stratum(*, written: bool) -> tuple[Stratum, ...]:
    """All strata: choice questions and constraints; with `written` also the choice questions in words."""
    return (*CHOSEN_STRATA, *CONSTRAINT_STRATA, *(WRITTEN_STRATA if written else ()))


class General:
    """The suite over the given strata in turn, so that every prefix of the sequence is balanced.

    No two items are about the same fact, at any level and in any wording, so items are independent. A stratum that runs out of
    facts is left out from there on. strata: by default all. written: whether these include the choice questions in words. Raises
    ContractError for no strata, an unknown one, or one named twice.
    """

    name = "general"
    version = VERSION

    def __init__(self, strata: Sequence[Stratum] | None = None, *, written: bool = False) -> None:
        self.strata = every_stratum(written=written) if strata is None else tuple(strata)
        if (
            not self.strata
            or len(set(self.strata)) < len(self.strata)
            or any(s.name not in STRATA for s in self.strata)
        ):
            raise ContractError(f"found the strata {[s.name for s in self.strata]}", where="General")
        self.measures: tuple[SuiteMeasure, ...] = (Accuracy(mean(stratum.chance for stratum in self.strata)),)
        self._drawn: dict[tuple[Stratum, int], StratumItems] = {}
        self._sequences: dict[int, tuple[list[SuiteItem], Iterator[SuiteItem]]] = {}

    def __reduce__(self) -> tuple[type[General], tuple[tuple[Stratum, ...]]]:
        """For another process, without what was drawn: that is drawn the same there."""
        return General, (self.strata,)

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]:
        if seed not in self._sequences:
            self._sequences[seed] = [], in_turn([self._of(stratum, seed) for stratum in self.strata])
        items, sequence = self._sequences[seed]
        items += islice(sequence, max(0, stop - len(items)))
        return items[start:stop]

    def of_stratum(self, stratum: Stratum, seed: int, start: int, stop: int) -> list[SuiteItem]:
        """Items [start, stop) of one stratum."""
        return list(islice(self._of(stratum, seed), start, stop))

    def _of(self, stratum: Stratum, seed: int) -> StratumItems:
        return self._drawn.setdefault((stratum, seed), StratumItems(stratum, seed))

    def ask(self, item: SuiteItem, transcript: Transcript) -> Sequence[Question]:
        if transcript:
            return ()
        prompt = (Message("user", item.text),)
        if "constraints" in item.facts:
            return (TextRequest(KEY, prompt, Decoding(max_new_tokens=CONSTRAINED_TOKENS)),)
        if "written" in item.facts:
            return (TextRequest(KEY, prompt, Decoding(max_new_tokens=OPTION_TOKENS)),)
        return (ChoiceRequest(KEY, prompt, tuple(item.facts["options"])),)


def in_turn(strata: Iterable[Iterable[SuiteItem]]) -> Iterator[SuiteItem]:
    """One item of each stratum in turn, always about a new fact; a stratum without one is left out from then on."""
    facts: set[str] = set()
    open_strata = [iter(items) for items in strata]
    while open_strata:
        for items in tuple(open_strata):
            item = next((item for item in items if item.facts.get(FACT) not in facts), None)
            if item is None:
                open_strata.remove(items)
                continue
            facts |= {item.facts[FACT]} if FACT in item.facts else set()
            yield item


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of right answers, or of answers that keep their constraints. chance: the mean over the strata."""

    chance: float | None
    name: str = "general"
    binary: bool = True
    margin_factor: float = 1.0

    def pair(self, item: SuiteItem, base: Transcript, tuned: Transcript) -> ScorePair | None:
        stratum = f"{item.family}/{item.level}"
        return ScorePair(item.id, score(item, base[KEY]), score(item, tuned[KEY]), stratum)


def score(item: SuiteItem, reply: SuiteReply) -> float:
    """1 for the right option or for kept constraints, else 0. A truncated answer keeps none."""
    if "constraints" in item.facts:
        return float(reply.finish == "stop" and keeps(reply.text, item.facts["constraints"]))
    options: list[str] = item.facts["options"]
    right = options[item.facts["right"]]
    return float((find_option(reply.text, options) if "written" in item.facts else reply.text) == right)


def find_option(text: str, options: Sequence[str]) -> str | None:
    """The option that an answer names: the one it begins with, else the last one in it; None if there is none.

    So "57, since 57 > 34" and "Between 34 and 57 the larger is 57" both name 57. An option inside a longer word, number or option
    does not count.
    """
    mentions = [(match.start(), match.end(), option) for option in options for match in _mentions(option, text)]
    longest = [
        mention
        for mention in mentions
        if not any(other[0] <= mention[0] and mention[1] <= other[1] and other != mention for other in mentions)
    ]
    if not longest:
        return None
    first, last = min(longest), max(longest)
    return first[2] if not re.search(r"\w", text[: first[0]]) else last[2]


def _mentions(option: str, text: str) -> Iterator[re.Match[str]]:
    body = re.escape(option.casefold().rstrip("."))
    return re.finditer(rf"(?<!\w)(?<!\w-)(?<!\d[.,:]){body}(?!\w)(?!-\w)(?![.,:]\d)", text.casefold())
