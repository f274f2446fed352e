"""Names of people and things that questions are about, and how words are invented."""

from __future__ import annotations

from random import Random

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

# Without f, g and z no word comes out that one would rather not read.
_ONSETS = ("b", "d", "k", "l", "m", "n", "p", "r", "s", "t", "v", "br", "dr", "kl", "pl", "tr", "bl", "pr")
_VOWELS = "aeiou"
_CONSONANTS = "bdklmnprstv"
_LAST = "nrlsmt"
_ENDS: tuple[str, ...] = ("", *_LAST)


def syllables(random: Random, n: int) -> str:
    """An invented word in small letters, such as "brolina"."""
    parts = [random.choice(_ONSETS) + random.choice(_VOWELS) for _ in range(n)]
    return "".join(parts) + random.choice(_ENDS)


def invented(random: Random, n: int, count: int = 2) -> list[str]:
    """n different invented words."""
    words: list[str] = []
    while len(words) < n:
        word = syllables(random, count)
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
    """The other letters that invented words have at such places: vowels for a vowel, consonants for a consonant."""
    consonants = _LAST if last else _CONSONANTS
    return [other for other in (_VOWELS if letter in _VOWELS else consonants) if other != letter]
