"""Words that must or must not stand in an answer, and where."""

from __future__ import annotations

from random import Random

from lastresort.evals.suites.constraints.kind import Facts, Kind, bare, words

_TIMES = ("once", "twice", "three times")
NEEDED = ("morning", "garden", "silent", "distant", "gentle", "corner", "summer", "forest", "letter", "mirror", "harbour",
          "shadow", "lantern", "mountain", "ladder", "thread", "orange", "island", "ribbon", "feather")  # fmt: skip
BANNED = (
    "very",
    "good",
    "great",
    "many",
    "important",
    "people",
    "also",
    "can",
    "often",
    "most",
    "is",
    "and",
    "the",
    "a",
)
STARTS = ("Certainly", "Listen", "Honestly", "First", "Today", "Imagine", "Perhaps", "Indeed", "Friends", "Once")
ENDINGS = ("That is all for now.", "Ask me again later.", "This is the end.", "More on this another day.",
           "Thanks for reading.", "So it is.", "Let us see.", "I rest here.")  # fmt: skip


def _needed(level: int, random: Random) -> Facts:
    return {"words": random.sample(NEEDED, level)}


def needed_hold(answer: str, facts: Facts) -> bool:
    found = words(answer)
    return all(word in found for word in facts["words"])


def _repeated(level: int, random: Random) -> Facts:
    return {"word": random.choice(NEEDED), "n": level}


def repeated_holds(answer: str, facts: Facts) -> bool:
    return bool(words(answer).count(facts["word"]) == facts["n"])


def _banned(level: int, random: Random) -> Facts:
    """Words that an answer hardly needs, words it likes to use, and words it can hardly do without."""
    return {"word": random.choice((BANNED[:5], BANNED[5:10], BANNED[10:])[level - 1])}


def banned_holds(answer: str, facts: Facts) -> bool:
    return facts["word"] not in words(answer)


def start_holds(answer: str, facts: Facts) -> bool:
    return words(answer)[:1] == [facts["word"].casefold()]


def ending_holds(answer: str, facts: Facts) -> bool:
    return bare(answer).endswith(bare(facts["phrase"]))


WORDING = (
    Kind("needed_words", _needed,
         lambda facts: "Use " + " and ".join(f'the word "{word}"' for word in facts["words"]) + " somewhere.",
         needed_hold, frozenset({"words", "letter"})),
    Kind("repeated_word", _repeated,
         lambda facts: f'Use the word "{facts["word"]}" exactly {_TIMES[facts["n"] - 1]}.',
         repeated_holds, frozenset({"words", "letter"})),
    Kind("banned_word", _banned, lambda facts: f'Do not use the word "{facts["word"]}".', banned_holds,
         frozenset({"words"}), idle=True),
    Kind("start_word", lambda level, random: {"word": random.choice(STARTS)},
         lambda facts: f'Begin your answer with the word "{facts["word"]}".', start_holds,
         frozenset({"start", "letter"})),
    Kind("ending", lambda level, random: {"phrase": random.choice(ENDINGS)},
         lambda facts: f'End your answer with exactly this sentence: "{facts["phrase"]}"', ending_holds,
         frozenset({"end", "words", "letter"})),
)  # fmt: skip
