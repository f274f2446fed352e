"""Patterns that others wrote, searched for within a limit of time: Python's `re` can take longer than the universe for 60 letters.

A search that may take long runs in a process of its own, which the system ends after `MOST_S` seconds of computing. It answers a
call in about 50 microseconds, and ends with this one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from functools import cache

from lastresort.errors import TaskError

MOST_S = 2  # a search of a few kilobytes takes a thousandth
_SHORT = 10_000  # characters that a plain pattern searches in well under a second, also where it takes their square
_BRANCHES = re.compile(r"[*+?{|]|\\[1-9]|\(\?(?:P=|\()")  # with one of them, time cannot grow faster than the square
_CHILD = """
import json, re, signal, sys
for line in sys.stdin:
    pattern, text = json.loads(line)
    signal.setitimer(signal.ITIMER_PROF, {most_s})
    last = None
    for last in re.finditer(pattern, text): pass
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps(last and [last[0], *last.groups()[:1]]), flush=True)
"""
LastMatch = tuple[str | None, ...]  # the whole match, and its first group where the pattern has one


def last_match(pattern: str, text: str) -> LastMatch | None:
    """The last match of a pattern that compiles. Raises TaskError where finding it takes too long."""
    if os.name != "posix" or (len(text) <= _SHORT and len(_BRANCHES.findall(pattern)) <= 1):
        last = next(iter(deque(re.finditer(pattern, text), maxlen=1)), None)
        return None if last is None else (last[0], *last.groups()[:1])
    found = _searcher(os.getpid()).reply(pattern, text)
    return None if found is None else tuple(found)


@cache
def _searcher(process: int) -> _Searcher:
    """One for this process: one that forks has another."""
    return _Searcher()


class _Searcher:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child = self._started()

    def reply(self, pattern: str, text: str) -> list[str | None] | None:
        with self._lock:
            if self._child.poll() is not None:
                self._child = self._started()
            child = self._child
            assert child.stdin is not None
            assert child.stdout is not None
            said = ""
            try:
                with suppress(BrokenPipeError):
                    child.stdin.write(json.dumps([pattern, text]) + "\n")
                    child.stdin.flush()
                    said = child.stdout.readline()
            finally:
                if not said:
                    # Also where it was interrupted: its answer must not be taken for that to the next question.
                    child.kill()
                    child.wait()
            if not said:
                raise TaskError(
                    f"the pattern {json.dumps(pattern, ensure_ascii=False)} takes more than {MOST_S} s to search a text of "
                    f"{len(text):,} characters",
                    expected="a pattern without a repeat in a repeat, such as (a+)+",
                    remedy="Write the pattern more plainly.",
                )
            found: list[str | None] | None = json.loads(said)
            return found

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD.format(most_s=MOST_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,
        )
