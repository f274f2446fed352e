"""A function in a process of its own, for foreign content that no limit bounds beforehand: patterns, compressed files.

The process answers one question after another, in about 50 microseconds for small ones, and ends with this one. The system ends it
where an answer takes more seconds of the processor than allowed. Windows has no such clock: there, it has no end.

Patterns that others wrote are searched for here: Python's `re` can take longer than the universe for 60 letters.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from functools import cache
from typing import Any, Literal

from lastresort.errors import TaskError

_MAIN = """
import json, signal, sys
sys.path[:] = json.loads(sys.argv[2]) or sys.path
exec(sys.argv[1])
def limit(most_s, most_bytes):
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, most_s)
    if most_bytes and sys.platform == "linux":
        import resource
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard), hard))
for line in sys.stdin:
    most_s, most_bytes, question = json.loads(line)
    limit(most_s, most_bytes)
    try:
        said = [answer(question)]
    except MemoryError:
        said = []
    limit(0, None)
    print(json.dumps(said), flush=True)
"""

_LATE = -signal.SIGPROF if os.name == "posix" else None  # how the process ends then


class TooMuch(Exception):
    """why: "time" or "memory" where the answer takes more than allowed, "crash" where the process ended by itself."""

    def __init__(self, why: Literal["time", "memory", "crash"]) -> None:
        super().__init__(why)
        self.why = why


def spent(error: TooMuch, most_s: float, most_bytes: int) -> str:
    """Why there is no answer, as the end of a sentence."""
    match error.why:
        case "time":
            return f"takes more than {most_s:,.0f} s"
        case "memory":
            return f"takes more than {most_bytes / 2**30:,.0f} GiB of memory"
        case "crash":
            return "ends the process"


def answer_apart(
    program: str, question: object, *, most_s: float, most_bytes: int | None = None, imports: bool = False
) -> Any:
    """What a function returns for a question; both are JSON values. program: Python that defines it as `answer`. imports: whether
    it needs more than the standard library.

    most_bytes: of address space, None for any. Raises TooMuch where there is no answer.
    """
    return _process(os.getpid(), program, imports).answer(question, most_s, most_bytes)


@cache
def _process(owner: int, program: str, imports: bool) -> _Process:
    """One a program for this process: one that forks has others."""
    return _Process(program, imports)


class _Process:
    def __init__(self, program: str, imports: bool) -> None:
        self._program, self._imports = program, imports
        self._lock = threading.Lock()
        self._child = self._started()

    def answer(self, question: object, most_s: float, most_bytes: int | None) -> Any:
        with self._lock:
            if self._child.poll() is not None:
                self._child = self._started()
            child = self._child
            assert child.stdin is not None
            assert child.stdout is not None
            line = ""
            try:
                with suppress(BrokenPipeError):
                    child.stdin.write(json.dumps([most_s, most_bytes, question]) + "\n")
                    child.stdin.flush()
                    line = child.stdout.readline()
            finally:
                if not line.endswith("\n"):
                    # Also where it was interrupted: its answer must not be taken for that to the next question.
                    child.kill()
                    child.wait()
            if not line.endswith("\n"):
                raise TooMuch("time" if child.returncode == _LATE else "crash")
            said: list[Any] = json.loads(line)
            if not said:
                child.kill()  # it may hold all of that memory still
                child.wait()
                raise TooMuch("memory")
            return said[0]

    def _started(self) -> subprocess.Popen[str]:
        alone, path = (["-P"], sys.path) if self._imports else (["-I", "-S"], [])
        return subprocess.Popen(
            [sys.executable, *alone, "-c", _MAIN, self._program, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,
        )


MOST_SEARCH_S = 2  # a search of a few kilobytes takes a thousandth
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
        found = answer_apart(_SEARCH, [pattern, text], most_s=MOST_SEARCH_S)
    except TooMuch as error:
        raise TaskError(
            f"the pattern {json.dumps(pattern, ensure_ascii=False)} takes more than {MOST_SEARCH_S} s to search a text of "
            f"{len(text):,} characters",
            expected="a pattern without a repeat in a repeat, such as (a+)+",
            remedy="Write the pattern more plainly.",
        ) from error
    return None if found is None else tuple(found)
