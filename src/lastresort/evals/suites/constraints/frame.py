"""What stands around an answer: a title, quotes, a postscript, a signature."""

from __future__ import annotations

import re
from random import Random

from lastresort.evals.suites.constraints.kind import Facts, Kind, lines, nothing, words

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
    found = lines(answer)
    return len(found) > 1 and bool(_TITLE.fullmatch(found[0]))


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
    found = lines(answer)
    return len(found) > 1 and bool(re.match(r"P\.?\s?S\.?:?\s+\w", found[-1], re.IGNORECASE))


def signature_holds(answer: str, facts: Facts) -> bool:
    found = lines(answer)
    return len(found) > 1 and words(found[-1]) == words(facts["name"])


def _signature(level: int, random: Random) -> Facts:
    return {"name": random.choice(SIGNATURES)}


FRAME = (
    Kind("title", nothing, lambda facts: "Put a title in double square brackets, like [[title]], alone on the first line.",
         title_holds, frozenset({"lines", "start"})),
    Kind("quoted", nothing, lambda facts: "Put your whole answer in double quotation marks and use none inside.",
         quoted_holds, frozenset({"start", "end", "lines"})),
    Kind("postscript", nothing, lambda facts: 'Add a postscript at the end, on a new line that begins with "P.S."',
         postscript_holds, frozenset({"end", "lines", "words", "letter"})),
    Kind("signature", _signature, lambda facts: f'Sign with "{facts["name"]}", alone on the last line.',
         signature_holds, frozenset({"end", "lines", "words", "letter"})),
)  # fmt: skip
