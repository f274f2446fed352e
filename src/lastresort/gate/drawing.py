"""The items of a gate, in the order of their suite, without those too similar to a training row.

Another seed alone does not give independent items: families with few facts reach the same facts with every seed. If one draw
selects the system that a second draw tests, the facts are split between the two.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as counting
from itertools import islice
from random import Random
from typing import Literal, Protocol

from lastresort.climb.prepare import PreparedTask
from lastresort.data.duplicates import near_pairs, normalised
from lastresort.errors import DataError
from lastresort.gate.suites.general import FACT
from lastresort.gate.suites.suite import SuiteItem


def without_duplicates(items: Sequence[SuiteItem], training_texts: Sequence[str]) -> list[SuiteItem]:
    """The items, in their order, whose text is neither equal nor nearly equal to a training text (data/duplicates.py).

    training_texts: the turns of the training rows, one text each, because an item is a single turn. Another number or name makes a
    text different, so a row of the same template does not remove an item.
    """
    exact = {normalised(text) for text in training_texts}
    remaining = [item for item in items if normalised(item.text) not in exact]
    border = len(training_texts)
    texts = [*training_texts, *(item.text for item in remaining)]
    near_places = {second - border for _, second in near_pairs(texts, border=border)}
    # Of items that are equal when normalised the first stands for all of them in the pairs.
    duplicates = {normalised(remaining[place].text) for place in near_places}
    return [item for item in remaining if normalised(item.text) not in duplicates]


TRIES = 4  # so many times the wanted number of items may be looked at
PARTS, STEP = 4, 64

Facts = Literal["all", "few", "most"]  # few: one in four, by hash; most: the others, so that no fact is in both


@dataclass(frozen=True, slots=True)
class DrawnItems:
    """passed_over: how many items were skipped because a training row says the same."""

    items: tuple[SuiteItem, ...]
    passed_over: int


def in_proportion(items: Sequence[SuiteItem]) -> list[SuiteItem]:
    """The items in an order, fixed by their ids, in which every beginning has each family and level in proportion to all of them.

    The i-th of n items of a stratum comes at a random point of the i-th n-th of the way. So what was seen at a look stands for all.
    """
    sizes = Counter((item.family, item.level) for item in items)
    counts: Counter[tuple[str, int]] = Counter()
    places: dict[str, float] = {}
    for item in items:
        stratum = item.family, item.level
        places[item.id] = (counts[stratum] + Random(f"order {item.id}").random()) / sizes[stratum]
        counts[stratum] += 1
    return sorted(items, key=lambda item: places[item.id])


def look_order(items: Sequence[SuiteItem], fixed: int) -> tuple[SuiteItem, ...]:
    """The items up to the test of a fixed size in proportion, then the rest. So nothing that comes up to it depends on how many may
    come later, which the speed of a machine may decide.
    """
    return (*in_proportion(items[:fixed]), *in_proportion(items[fixed:]))


class Drawable(Protocol):
    """A suite, or anything else with a sequence of items."""

    @property
    def name(self) -> str: ...

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]: ...


def draw(suite: Drawable, seed: int, count: int, training_texts: Sequence[str], facts: Facts = "all") -> DrawnItems:
    """The first `count` items of the seed's sequence that are in no training text; fewer if the sequence ends.

    facts: which facts an item may be about; a suite without facts is split by its texts. Raises DataError if hardly any are left.
    """
    sequence = (item for item in _sequence(suite, seed) if is_among(item, facts))
    items: list[SuiteItem] = []
    n_seen = 0
    while len(items) < count:
        if n_seen > TRIES * count:
            raise DataError(
                f"{n_seen - len(items)} of the first {n_seen} items of the suite {suite.name} are in the training rows",
                expected="items that were not trained on",
                remedy=f"Take them out of training, or set keep.{suite.name}: skip.",
            )
        fresh = list(islice(sequence, count - len(items)))
        if not fresh:
            break
        items += without_duplicates(fresh, training_texts)
        n_seen += len(fresh)
    return DrawnItems(tuple(items), n_seen - len(items))


def _sequence(suite: Drawable, seed: int) -> Iterator[SuiteItem]:
    for start in counting(0, STEP):
        items = suite.draw(seed, start, start + STEP)
        yield from items
        if len(items) < STEP:
            return


def is_among(item: SuiteItem, facts: Facts) -> bool:
    """Whether the item is about one of these facts, the same for every seed."""
    digest = hashlib.sha256(str(item.facts.get(FACT, item.text)).encode("utf-8", "surrogatepass"))
    return facts == "all" or (int(digest.hexdigest(), 16) % PARTS == 0) is (facts == "few")


def training_texts(prepared: PreparedTask) -> list[str]:
    """The user turns of the training rows and of the preferences."""
    conversations = [example.input for example in prepared.split.train]
    conversations += [preferred.prompt for preferred in prepared.preferences or ()]
    return [turn.content for turns in conversations for turn in turns if turn.role == "user"]
