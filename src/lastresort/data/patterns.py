"""Patterns that others wrote, searched for within a limit of time: Python's `re` can take longer than the universe for 60 letters.

A search that may take long runs in a process of its own, for at most `MOST_S` seconds of computing.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque

from lastresort.apart import TooMuch, answer_apart
from lastresort.errors import TaskError

MOST_S = 2  # a search of a few kilobytes takes a thousandth
_SHORT = 10_000  # characters that a plain pattern searches in well under a second, also where it takes their square
_BRANCHES = re.compile(r"[*+?{|]|\\[1-9]|\(\?(?:P=|\()")  # with one of them, time cannot grow faster than the square
_SEARCH = """
import re
def answer(question):
    last = None
    for last in re.finditer(*question): pass
    return last and [last[0], *last.groups()[:1]]
"""
LastMatch = tuple[str | None, ...]  # the whole match, and its first group where the pattern has one


def last_match(pattern: str, text: str) -> LastMatch | None:
    """The last match of a pattern that compiles. Raises TaskError where finding it takes too long."""
    if os.name != "posix" or (len(text) <= _SHORT and len(_BRANCHES.findall(pattern)) <= 1):
        last = next(iter(deque(re.finditer(pattern, text), maxlen=1)), None)
        return None if last is None else (last[0], *last.groups()[:1])
    try:
        found = answer_apart(_SEARCH, [pattern, text], most_s=MOST_S)
    except TooMuch as error:
        raise TaskError(
            f"the pattern {json.dumps(pattern, ensure_ascii=False)} takes more than {MOST_S} s to search a text of "
            f"{len(text):,} characters",
            expected="a pattern without a repeat in a repeat, such as (a+)+",
            remedy="Write the pattern more plainly.",
        ) from error
    return None if found is None else tuple(found)
