"""A kind of constraint, how texts are split to check one, and all kinds by group.

WORDING: words that must or must not stand in an answer, and where. FRAME: what stands around it: a title, quotes, a postscript,
a signature. LENGTH: how long it is. LETTERS: its case, marks, digits and letters. SHAPE: lists, paragraphs, JSON, one line, two
parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from lastresort.foreign import NotJson, parse_json

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConstraintKind:
    """One kind of constraint on an answer, checked by program.

    draw(level, random): the constraint, as JSON. tell(facts): in words. holds(answer, facts): whether it is met. aspects: what it
    fixes about an answer; two kinds that share one could contradict and are not combined. idle: most answers meet it anyway, so it
    never comes first.
    """

    name: str
    draw: Callable[[int, Random], Facts]
    tell: Callable[[Facts], str]
    holds: Callable[[str, Facts], bool]
    aspects: frozenset[str]
    idle: bool = False


def count_by_level(
    easy: tuple[int, ...], middle: tuple[int, ...], hard: tuple[int, ...]
) -> Callable[[int, Random], Facts]:
    """Draws {"n": …} from the numbers of the level."""
    return lambda level, random: {"n": random.choice((easy, middle, hard)[level - 1])}


def nothing(level: int, random: Random) -> Facts:
    return {}


def lines(text: str) -> list[str]:
    """Lines that are not blank, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def words(text: str) -> list[str]:
    """Words in lower case: letters and digits, with an apostrophe or hyphen inside."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.casefold())


def sentences(text: str) -> list[str]:
    """Parts that end in one or more of . ! ? before a space or the end; the rest counts as one."""
    parts = re.split(r"(?<=[.!?])[\"'”’)]*\s+", text.strip())
    return [part for part in parts if words(part)]


def bare(text: str) -> str:
    """The text in lower case with single spaces, without quotes, asterisks and final punctuation."""
    return " ".join(text.casefold().split()).strip("\"'“”’*_ ").rstrip(".!?… \"'“”’*_")


SIGNATURES = (
    "Your neighbour",
    "The editor",
    "A friend",
    "Old Martin",
    "The night guard",
    "Aunt Helen",
    "Nora",
    "The gardener",
)
_TITLE = re.compile(r"\[\[[^\[\]]*\w[^\[\]]*\]\]")


def title_holds(answer: str, facts: Facts) -> bool:
    answer_lines = lines(answer)
    return len(answer_lines) > 1 and bool(_TITLE.fullmatch(answer_lines[0]))


def quoted_holds(answer: str, facts: Facts) -> bool:
    text = answer.strip()
    return (
        len(words(text)) > 0
        and len(text) > 2
        and text[0] in '"“'
        and text[-1] in '"”'
        and not re.search('["“”]', text[1:-1])
    )


def postscript_holds(answer: str, facts: Facts) -> bool:
    """The last line begins with P.S. and goes on; something stands before it."""
    answer_lines = lines(answer)
    return len(answer_lines) > 1 and bool(re.match(r"P\.?\s?S\.?:?\s+\w", answer_lines[-1], re.IGNORECASE))


def signature_holds(answer: str, facts: Facts) -> bool:
    answer_lines = lines(answer)
    return len(answer_lines) > 1 and words(answer_lines[-1]) == words(facts["name"])


FRAME = (
    ConstraintKind("title", nothing,
         lambda facts: "Put a title in double square brackets, like [[title]], alone on the first line.",
         title_holds, frozenset({"lines", "start"})),
    ConstraintKind("quoted", nothing, lambda facts: "Put your whole answer in double quotation marks and use none inside.",
         quoted_holds, frozenset({"start", "end", "lines"})),
    ConstraintKind("postscript", nothing, lambda facts: 'Add a postscript at the end, on a new line that begins with "P.S."',
         postscript_holds, frozenset({"end", "lines", "words", "letter"})),
    ConstraintKind("signature", lambda level, random: {"name": random.choice(SIGNATURES)},
         lambda facts: f'Sign with "{facts["name"]}", alone on the last line.',
         signature_holds, frozenset({"end", "lines", "words", "letter"})),
)  # fmt: skip


_SENTENCES = {2: "two sentences", 3: "three sentences", 4: "four sentences", 5: "five sentences"}
_LENGTH = frozenset({"length"})


LENGTH = (
    ConstraintKind("words_at_most", count_by_level((12, 15, 18), (8, 10, 12), (5, 6, 7)),
         lambda facts: f"Use at most {facts['n']} words.",
         lambda answer, facts: len(words(answer)) <= facts["n"], _LENGTH),
    ConstraintKind("words_at_least", count_by_level((25, 30), (35, 40), (45, 50)),
         lambda facts: f"Use at least {facts['n']} words.",
         lambda answer, facts: len(words(answer)) >= facts["n"], _LENGTH),
    ConstraintKind("sentences", count_by_level((2,), (3,), (4, 5)),
         lambda facts: f"Answer in exactly {_SENTENCES[facts['n']]}.",
         lambda answer, facts: len(sentences(answer)) == facts["n"], _LENGTH),
    ConstraintKind("characters_at_most", count_by_level((90, 100), (80,), (60, 70)),
         lambda facts: f"The answer may have at most {facts['n']} characters.",
         lambda answer, facts: len(answer.strip()) <= facts["n"], _LENGTH),
    ConstraintKind("exact_words", count_by_level((1, 2), (3, 4), (6, 7, 8)),
         lambda facts: f"Answer with exactly {facts['n']} word{'s' if facts['n'] > 1 else ''}.",
         lambda answer, facts: len(words(answer)) == facts["n"], frozenset({"length", "lines", "words"})),
)  # fmt: skip


RARE = ("jqxz", "kvw", "bp")  # letters, the rarest first
LETTERS = (
    ConstraintKind("lower_case", nothing, lambda facts: "Write everything in small letters, without a single capital letter.",
         lambda answer, facts: answer == answer.lower(), frozenset({"case"})),
    ConstraintKind("upper_case", nothing, lambda facts: "Write everything in CAPITAL LETTERS, without a single small letter.",
         lambda answer, facts: answer == answer.upper(), frozenset({"case"})),
    ConstraintKind("no_comma", nothing, lambda facts: "Do not use any comma.",
         lambda answer, facts: "," not in answer, frozenset({"comma"}), idle=True),
    ConstraintKind("forbidden_letter", lambda level, random: {"letter": random.choice(RARE[level - 1])},
         lambda facts: f'Do not use the letter "{facts["letter"]}" anywhere.',
         lambda answer, facts: facts["letter"] not in answer.casefold(), frozenset({"letter"}), idle=True),
    ConstraintKind("no_digits", nothing, lambda facts: "Do not use any digits.",
         lambda answer, facts: not any(letter.isdigit() for letter in answer), frozenset({"digits"}), idle=True),
    ConstraintKind("exclaimed", lambda level, random: {"n": level},
         lambda facts: f"Use the exclamation mark exactly {('once', 'twice', 'three times')[facts['n'] - 1]}.",
         lambda answer, facts: answer.count("!") == facts["n"], frozenset({"marks", "end"})),
)  # fmt: skip


KEYS = ("name", "reason", "place", "season", "colour", "price", "rating", "title", "author", "size", "material", "hint")
_COUNT = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_BULLET = re.compile(r"[-*•]\s+\S")
_NUMBER = re.compile(r"(\d+)[.)]\s+\S")
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)


def numbered_holds(answer: str, facts: Facts) -> bool:
    numbers = [match[1] for line in lines(answer) if (match := _NUMBER.match(line))]
    return numbers == [str(n) for n in range(1, facts["n"] + 1)]


def paragraphs_hold(answer: str, facts: Facts) -> bool:
    parts = [part for part in re.split(r"\n\s*\n", answer.strip()) if words(part)]
    return bool(len(parts) == facts["n"])


def _tell_keys(facts: Facts) -> str:
    keys = ", ".join(f'"{key}"' for key in facts["keys"])
    return f"Answer with one JSON object and nothing else; it has exactly these keys: {keys}."


def json_holds(answer: str, facts: Facts) -> bool:
    """A fence of Markdown around the object is let pass."""
    text = answer.strip()
    fenced = _FENCE.match(text)
    try:
        value = parse_json(fenced[1] if fenced else text, lenient=True)
    except NotJson:
        return False
    return isinstance(value, dict) and sorted(value) == sorted(facts["keys"])


def separator_holds(answer: str, facts: Facts) -> bool:
    """Exactly one line of three asterisks, with words before and after."""
    parts = re.split(r"(?m)^[ \t]*\*\*\*[ \t]*$", answer)
    return len(parts) == 2 and all(words(part) for part in parts)


SHAPE = (
    ConstraintKind("bullets", count_by_level((2, 3), (3, 4), (4, 5, 6)),
         lambda facts: f'Answer with a list of exactly {_COUNT[facts["n"]]} bullet points; each begins with "- " on a new line.',
         lambda answer, facts: sum(bool(_BULLET.match(line)) for line in lines(answer)) == facts["n"],
         frozenset({"lines", "start", "length"})),
    ConstraintKind("numbered", count_by_level((2, 3), (3, 4), (4, 5, 6)),
         lambda facts: f"Answer with a numbered list of exactly {_COUNT[facts['n']]} points, beginning with 1.",
         numbered_holds, frozenset({"lines", "start", "length", "digits"})),
    ConstraintKind("paragraphs", count_by_level((2,), (2, 3), (3, 4)),
         lambda facts: f"Write exactly {_COUNT[facts['n']]} short paragraphs with an empty line between them.",
         paragraphs_hold, frozenset({"lines", "length"})),
    ConstraintKind("one_line", nothing, lambda facts: "Answer in a single line, without any line break.",
         lambda answer, facts: len(lines(answer)) == 1, frozenset({"lines"}), idle=True),
    ConstraintKind("json_keys", lambda level, random: {"keys": random.sample(KEYS, level + 1)},
         _tell_keys, json_holds,
         frozenset({"lines", "start", "end", "case", "comma", "length", "words", "letter"})),
    ConstraintKind("separator", nothing,
         lambda facts: "Write two parts and put a line with nothing but three asterisks (***) between them.",
         separator_holds, frozenset({"lines"})),
)  # fmt: skip


_TIMES = ("once", "twice", "three times")
NEEDED = ("morning", "garden", "silent", "distant", "gentle", "corner", "summer", "forest", "letter", "mirror", "harbour",
          "shadow", "lantern", "mountain", "ladder", "thread", "orange", "island", "ribbon", "feather")  # fmt: skip
BANNED = (  # what an answer hardly needs, what it likes to use, and what it can hardly do without
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


def needed_hold(answer: str, facts: Facts) -> bool:
    answer_words = words(answer)
    return all(word in answer_words for word in facts["words"])


WORDING = (
    ConstraintKind("needed_words", lambda level, random: {"words": random.sample(NEEDED, level)},
         lambda facts: "Use " + " and ".join(f'the word "{word}"' for word in facts["words"]) + " somewhere.",
         needed_hold, frozenset({"words", "letter"})),
    ConstraintKind("repeated_word", lambda level, random: {"word": random.choice(NEEDED), "n": level},
         lambda facts: f'Use the word "{facts["word"]}" exactly {_TIMES[facts["n"] - 1]}.',
         lambda answer, facts: words(answer).count(facts["word"]) == facts["n"], frozenset({"words", "letter"})),
    ConstraintKind("banned_word", lambda level, random: {"word": random.choice((BANNED[:5], BANNED[5:10], BANNED[10:])[level - 1])},
         lambda facts: f'Do not use the word "{facts["word"]}".',
         lambda answer, facts: facts["word"] not in words(answer), frozenset({"words"}), idle=True),
    ConstraintKind("start_word", lambda level, random: {"word": random.choice(STARTS)},
         lambda facts: f'Begin your answer with the word "{facts["word"]}".',
         lambda answer, facts: words(answer)[:1] == [facts["word"].casefold()], frozenset({"start", "letter"})),
    ConstraintKind("ending", lambda level, random: {"phrase": random.choice(ENDINGS)},
         lambda facts: f'End your answer with exactly this sentence: "{facts["phrase"]}"',
         lambda answer, facts: bare(answer).endswith(bare(facts["phrase"])), frozenset({"end", "words", "letter"})),
)  # fmt: skip
