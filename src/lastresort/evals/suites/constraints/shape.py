"""The shape of the whole: lists, paragraphs, JSON, one line, two parts."""

from __future__ import annotations

import json
import re
from random import Random

from lastresort.evals.suites.constraints.kind import Facts, Kind, count_by_level, lines, nothing, words

KEYS = ("name", "reason", "place", "season", "colour", "price", "rating", "title", "author", "size", "material", "hint")
_COUNT = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_BULLET = re.compile(r"[-*•]\s+\S")
_NUMBER = re.compile(r"(\d+)[.)]\s+\S")
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)


def bullets_hold(answer: str, facts: Facts) -> bool:
    return bool(sum(bool(_BULLET.match(line)) for line in lines(answer)) == facts["n"])


def numbered_holds(answer: str, facts: Facts) -> bool:
    found = [match[1] for line in lines(answer) if (match := _NUMBER.match(line))]
    return found == [str(n) for n in range(1, facts["n"] + 1)]


def paragraphs_hold(answer: str, facts: Facts) -> bool:
    parts = [part for part in re.split(r"\n\s*\n", answer.strip()) if words(part)]
    return bool(len(parts) == facts["n"])


def one_line_holds(answer: str, facts: Facts) -> bool:
    return len(lines(answer)) == 1


def _keys(level: int, random: Random) -> Facts:
    return {"keys": random.sample(KEYS, level + 1)}


def _tell_keys(facts: Facts) -> str:
    keys = ", ".join(f'"{key}"' for key in facts["keys"])
    return f"Answer with one JSON object and nothing else; it has exactly these keys: {keys}."


def json_holds(answer: str, facts: Facts) -> bool:
    """A fence of Markdown around the object is let pass."""
    text = answer.strip()
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and sorted(value) == sorted(facts["keys"])


def separator_holds(answer: str, facts: Facts) -> bool:
    """Exactly one line of three asterisks, with words before and after."""
    parts = re.split(r"(?m)^[ \t]*\*\*\*[ \t]*$", answer)
    return len(parts) == 2 and all(words(part) for part in parts)


SHAPE = (
    Kind("bullets", count_by_level((2, 3), (3, 4), (4, 5, 6)),
         lambda facts: f'Answer with a list of exactly {_COUNT[facts["n"]]} bullet points; each begins with "- " on a new line.',
         bullets_hold, frozenset({"lines", "start", "length"})),
    Kind("numbered", count_by_level((2, 3), (3, 4), (4, 5, 6)),
         lambda facts: f"Answer with a numbered list of exactly {_COUNT[facts['n']]} points, beginning with 1.",
         numbered_holds, frozenset({"lines", "start", "length", "digits"})),
    Kind("paragraphs", count_by_level((2,), (2, 3), (3, 4)),
         lambda facts: f"Write exactly {_COUNT[facts['n']]} short paragraphs with an empty line between them.",
         paragraphs_hold, frozenset({"lines", "length"})),
    Kind("one_line", nothing, lambda facts: "Answer in a single line, without any line break.",
         one_line_holds, frozenset({"lines"}), idle=True),
    Kind("json_keys", _keys, _tell_keys, json_holds,
         frozenset({"lines", "start", "end", "case", "comma", "length", "words", "letter"})),
    Kind("separator", nothing,
         lambda facts: "Write two parts and put a line with nothing but three asterisks (***) between them.",
         separator_holds, frozenset({"lines"})),
)  # fmt: skip
