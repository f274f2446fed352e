"""Whether a reply keeps the voice of Orrel Repairs, an invented workshop whose owner knows her voice when she sees it.

What she cannot put into words, a program can watch for: see `habits`. A reply that lacks one of them is not sent.
"""

from __future__ import annotations

import re

MOST_WORDS = 25
FUSS = re.compile(
    r"\b(thank\w*|please\w*|sorry|apolog\w*|unfortunately|happy|glad|looking forward|hope)\b|!", re.IGNORECASE
)


def habits(reply: str, expected: str) -> dict[str, bool]:
    """Which of the house's habits a reply has. expected: the facts, as "thing; name; day; price in words", and any more."""
    text = reply.strip()
    thing, name, day, *facts = expected.split("; ")
    return {
        "the thing comes first": text.startswith(f"Your {thing} "),
        "amounts are words": not re.search(r"\d", text),
        "no fuss": FUSS.search(text) is None,
        "it parts until the day": text.endswith(f" Until {day}, {name}."),
        "it is short": len(text.split()) <= MOST_WORDS,
        "nothing is left out": all(f" {fact}" in text for fact in facts),
    }


def score(reply: str, expected: str) -> bool:
    return all(habits(reply, expected).values())
