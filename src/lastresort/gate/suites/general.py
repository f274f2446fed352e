"""The general suite: choice questions and requests with constraints, from seeded templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import mean

from lastresort.errors import ContractError
from lastresort.gate.suites.constraints.request import keeps
from lastresort.gate.suites.strata import (
    CHOSEN_STRATA,
    CONSTRAINT_STRATA,
    FACT,
    STRATA,
    WRITTEN_STRATA,
    Stratum,
    StratumItems,
)
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

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]:
        if seed not in self._sequences:
            self._sequences[seed] = [], in_turn([self._of(stratum, seed) for stratum in self.strata])
        items, rest = self._sequences[seed]
        items += islice(rest, max(0, stop - len(items)))
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
    left = [iter(items) for items in strata]
    while left:
        for items in tuple(left):
            item = next((item for item in items if item.facts.get(FACT) not in facts), None)
            if item is None:
                left.remove(items)
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
    found = [(match.start(), match.end(), option) for option in options for match in _found(option, text)]
    whole = [
        one for one in found if not any(other[0] <= one[0] and one[1] <= other[1] and other != one for other in found)
    ]
    if not whole:
        return None
    first, last = min(whole), max(whole)
    return first[2] if not re.search(r"\w", text[: first[0]]) else last[2]


def _found(option: str, text: str) -> Iterator[re.Match[str]]:
    body = re.escape(option.casefold().rstrip("."))
    return re.finditer(rf"(?<!\w)(?<!\w-)(?<!\d[.,:]){body}(?!\w)(?!-\w)(?![.,:]\d)", text.casefold())
