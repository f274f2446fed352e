"""What a family of choice questions is, and how options are made from which the right one cannot be told.

Two rules keep options silent. Words: the group of options is drawn first, and which of them is right afterwards. Numbers and
spellings: they form a square {x, x + a, x + b, x + a + b} in which the right one has any corner, so it is not the middle one,
nor the one most like the others. Options of a question have about the same length, so that summed log-probabilities are fair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from lastresort.errors import ContractError

T = TypeVar("T")
TRIES = 1000


@dataclass(frozen=True, slots=True)
class Choice:
    """One question. options: as the assistant would answer. right: place of the right one. hardness: by the family's measure.

    question: all that a reader needs, so two items with the same question are the same item. fact: the one thing that has to be
    known, where questions differ by their wording and their wrong options only; "" where every question is about something else.
    """

    question: str
    options: tuple[str, ...]
    right: int
    hardness: float
    fact: str = ""


Make = Callable[[int, Random], Choice]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of question in levels 1, 2 and 3. make(level, random) draws a question. measure: what hardness counts."""

    name: str
    make: Make
    measure: str
    options: int = 4
    levels: tuple[int, ...] = (1, 2, 3)

    @property
    def chance(self) -> float:
        return 1 / self.options


def shuffled(
    question: str, right: str, wrong: Sequence[str], hardness: float, random: Random, fact: str = ""
) -> Choice:
    """The question with its options in random order."""
    options = [right, *wrong]
    random.shuffle(options)
    return Choice(question, tuple(options), options.index(right), hardness, fact)


def around(random: Random, right: int, steps: Sequence[int]) -> list[int]:
    """Three wrong numbers that form a square with `right`, all of as many digits. steps: lengths of the square's sides."""
    for _ in range(TRIES):
        a, b = random.sample(list(steps), 2)
        square = (0, a, b, a + b)
        origin = right - random.choice(square)
        numbers = [origin + step for step in square]
        if min(numbers) >= 0 and len({len(str(number)) for number in numbers}) == 1:
            return [number for number in numbers if number != right]
    raise ContractError(f"no numbers stand around {right} with steps {list(steps)}", where="around")


def has_room(right: int, steps: Sequence[int]) -> bool:
    """Whether numbers stand around `right` on both sides alike: if not, it would be the smallest or largest too often."""
    far = sum(sorted(steps)[-2:])
    return right >= far and len(str(right - far)) == len(str(right + far))


def number_choice(
    question: str, right: int, steps: Sequence[int], hardness: float, random: Random, fact: str = ""
) -> Choice:
    wrong = [str(number) for number in around(random, right, steps)]
    return shuffled(question, str(right), wrong, hardness, random, fact)


def alike(random: Random, pool: Sequence[T], text: Callable[[T], str], n: int = 4, spread: int = 2) -> list[T]:
    """n entries of the pool, in random order, whose texts differ from one of them by at most `spread` letters."""
    for _ in range(TRIES):
        first = random.choice(pool)
        near = [one for one in pool if one != first and abs(len(text(one)) - len(text(first))) <= spread]
        if len(near) >= n - 1:
            drawn = [first, *random.sample(near, n - 1)]
            if len({text(one) for one in drawn}) == n:
                random.shuffle(drawn)
                return drawn
    raise ContractError(f"the pool of {len(pool)} has no {n} entries of similar length", where="alike")


def listed(words: Sequence[str], joint: str = "or") -> str:
    """red, blue or green"""
    return f"{', '.join(words[:-1])} {joint} {words[-1]}"
