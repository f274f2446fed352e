"""Families of choice questions, and options that do not give the right one away.

Words: the options are drawn first, then which of them is right. Numbers and spellings: they form a square {x, x + a, x + b, x + a +
b} with the right one at any corner, so it is neither the middle one nor the one most like the others. The options of a question
have about the same length, so that summed log-probabilities are fair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from lastresort.errors import ContractError
from lastresort.report.words.wording import listed

T = TypeVar("T")
TRIES = 1000


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """One question. options: as the assistant would answer. right: index of the right one. hardness: by the family's measure.

    question: complete, so two items with the same question are the same item. fact: what one has to know, if questions differ only
    in wording and wrong options; "" if every question is about something else.
    """

    question: str
    options: tuple[str, ...]
    right: int
    hardness: float
    fact: str = ""


Make = Callable[[int, Random], ChoiceQuestion]


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
) -> ChoiceQuestion:
    """The question with its options in random order."""
    options = [right, *wrong]
    random.shuffle(options)
    return ChoiceQuestion(question, tuple(options), options.index(right), hardness, fact)


def around(random: Random, right: int, steps: Sequence[int]) -> list[int]:
    """Three wrong numbers that form a square with `right`, with the same number of digits. steps: lengths of the square's sides."""
    for _ in range(TRIES):
        a, b = random.sample(list(steps), 2)
        square = (0, a, b, a + b)
        origin = right - random.choice(square)
        numbers = [origin + step for step in square]
        if min(numbers) >= 0 and len({len(str(number)) for number in numbers}) == 1:
            return [number for number in numbers if number != right]
    raise ContractError(f"no numbers around {right} with steps {list(steps)}", where="around")


def has_room(right: int, steps: Sequence[int]) -> bool:
    """Whether there is room for wrong numbers on both sides; else `right` would be the smallest or largest too often."""
    far = sum(sorted(steps)[-2:])
    return right >= far and len(str(right - far)) == len(str(right + far))


def number_choice(
    question: str, right: int, steps: Sequence[int], hardness: float, random: Random, fact: str = ""
) -> ChoiceQuestion:
    wrong = [str(number) for number in around(random, right, steps)]
    return shuffled(question, str(right), wrong, hardness, random, fact)


def alike(random: Random, pool: Sequence[T], text: Callable[[T], str], n: int = 4, spread: int = 2) -> list[T]:
    """n entries of the pool in random order, whose texts differ in length from one of them by at most `spread`."""
    for _ in range(TRIES):
        first = random.choice(pool)
        near = [other for other in pool if other != first and abs(len(text(other)) - len(text(first))) <= spread]
        if len(near) >= n - 1:
            drawn = [first, *random.sample(near, n - 1)]
            if len({text(thing) for thing in drawn}) == n:
                random.shuffle(drawn)
                return drawn
    raise ContractError(f"the pool of {len(pool)} has no {n} entries of similar length", where="alike")


def one_of(words: Sequence[str]) -> str:
    """red, blue or green"""
    return listed(words, "or")


PEOPLE = (
    "Anna", "Bruno", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karin", "Leo", "Maria",
    "Niklas", "Olga", "Paul", "Rosa", "Samuel", "Tessa", "Viktor", "Wanda", "Yusuf", "Zoe", "Amir", "Bella", "Cyril",
    "Dora", "Emil", "Fatima", "Georg", "Hanna", "Ivan", "Judith", "Kofi", "Lena", "Marco", "Nadia", "Oscar", "Petra",
    "Ravi", "Sofia", "Tomas", "Ursula", "Walter", "Xenia", "Youssef", "Zelda", "Agnes",
)  # fmt: skip
THINGS = (
    "apples", "pears", "plums", "lemons", "nuts", "buttons", "coins", "stamps", "pencils", "candles", "shells", "cards",
    "books", "stones", "bottles", "tickets", "eggs", "ribbons", "marbles", "keys", "cups", "plates", "onions", "beads",
)  # fmt: skip
EVENTS = (
    "concert", "lesson", "exam", "wedding", "visit", "match", "meeting", "market", "flight", "party", "interview", "race",
    "lecture", "rehearsal", "appointment", "picnic", "auction", "tour", "reading", "festival", "class", "dinner",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "white", "black", "brown", "yellow", "grey", "pink", "purple", "orange", "silver")
TOWNS = (
    "Arden", "Belmore", "Corvale", "Dunstow", "Elmsby", "Farholt", "Glenmoor", "Hartwick", "Islesby", "Kelding",
    "Lorwick", "Marstow", "Norvale", "Oxmoor", "Penholt", "Quarley", "Rosdale", "Stanwick", "Thornby", "Ulverton",
)  # fmt: skip
JOBS = (
    "baker", "doctor", "farmer", "painter", "teacher", "singer", "lawyer", "sailor", "tailor", "pilot", "nurse", "writer",
    "cook", "judge", "barber", "dancer",
)  # fmt: skip
PETS = ("cat", "dog", "parrot", "rabbit", "horse", "goat", "turtle", "hamster", "canary", "duck", "mouse", "pony")

# Without f, g and z no offensive word comes out.
_ONSETS = ("b", "d", "k", "l", "m", "n", "p", "r", "s", "t", "v", "br", "dr", "kl", "pl", "tr", "bl", "pr")
_VOWELS = "aeiou"
_CONSONANTS = "bdklmnprstv"
_LAST = "nrlsmt"
_ENDS: tuple[str, ...] = ("", *_LAST)


def syllables(random: Random, n: int) -> str:
    """An invented word in lower case, such as "brolina"."""
    parts = [random.choice(_ONSETS) + random.choice(_VOWELS) for _ in range(n)]
    return "".join(parts) + random.choice(_ENDS)


def invented(random: Random, n: int) -> list[str]:
    """n different invented words."""
    words: list[str] = []
    while len(words) < n:
        word = syllables(random, 2)
        if word not in words:
            words.append(word)
    return words


def of_length(random: Random, length: int) -> str:
    """An invented word of exactly this many letters, 3 or more."""
    while True:
        word = syllables(random, random.randint((length + 1) // 3, length // 2))
        if len(word) == length:
            return word


def same_class(letter: str, *, last: bool = False) -> list[str]:
    """The other letters that can replace it in an invented word: vowels for a vowel, consonants for a consonant."""
    consonants = _LAST if last else _CONSONANTS
    return [other for other in (_VOWELS if letter in _VOWELS else consonants) if other != letter]
