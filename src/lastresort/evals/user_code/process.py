"""A function of the user's in a process of its own, with limits of time, memory and processes; started again after a fault.

JSON lines travel both ways, never pickled objects. The process and all that it started are ended when it is closed, dropped, or the
program ends, however that ends. Limits of memory and processes, and the end of what the function itself started, need POSIX:
elsewhere the limit of time alone holds.
"""

from __future__ import annotations

import codecs
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread, Timer
from typing import IO, Any, Literal

from lastresort.errors import TaskError
from lastresort.evals.user_code import child
from lastresort.foreign import escaped
from lastresort.keys import code_environment, known_keys, redacted_stream
from lastresort.types import Json, JsonObject

GIB = 1 << 30
LONGEST_POLL_S = 86_400.0  # what a poll can wait
END_S = 2.0  # for the process that watches to end what it watches, before it is killed


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """time_s: of one call, which is one answer, or all answers of a step where the function takes lists. memory_bytes: of
    the process, None for no limit. load_s: of loading the file."""

    time_s: float = 10.0
    memory_bytes: int | None = 4 << 30
    load_s: float = 120.0


LIMIT_KEYS = ("time_s", "memory_gib", "load_s")


def limits_in(parameters: Mapping[str, Json], usual: CodeLimits) -> CodeLimits:
    """The limits that the keys of a function give, else the usual ones. memory_gib may be "none"."""
    memory, found = parameters.get("memory_gib"), {"time_s": usual.time_s, "load_s": usual.load_s}
    found |= {
        name: float(value) for name, value in parameters.items() if name in found and isinstance(value, int | float)
    }
    if memory is None:
        return CodeLimits(memory_bytes=usual.memory_bytes, **found)
    return CodeLimits(memory_bytes=max(1, round(memory * GIB)) if isinstance(memory, int | float) else None, **found)


def without_limits(written: Json) -> Json:
    """A scorer or a reward as a file writes it, or a list of them, without the limits of its function: they may be raised while a
    run waits."""
    if isinstance(written, list):
        return [without_limits(one) for one in written]
    if not isinstance(written, Mapping) or not isinstance(python := written.get("python"), Mapping):
        return written
    kept = {key: value for key, value in python.items() if key not in LIMIT_KEYS}
    return {**written, "python": kept["function"] if set(kept) == {"function"} else kept}


@dataclass(frozen=True, slots=True)
class CallFault:
    """Why a call gave nothing. key: of the limit that was hit. text: a clause."""

    text: str
    key: Literal["time_s", "memory_gib", "load_s", ""] = ""

    @property
    def or_raise(self) -> str:
        """What may be done besides correcting the function."""
        return f"raise {self.key} next to the function" if self.key else ""


class UserFunction:
    """FILE:FUNCTION. kind: how it is called, see `child`. Started by its first use."""

    def __init__(self, file: Path, function: str, kind: Literal["reward", "score"], limits: CodeLimits) -> None:
        self._file, self._function, self._kind, self._limits = file, function, kind, limits
        self.place = f"{file.name}, {function}()"
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._manner: Mapping[str, Any] = {}

    @property
    def manner(self) -> Mapping[str, Any]:
        """How it is called, as the process says. Raises TaskError where it cannot be loaded."""
        self._started()
        return self._manner

    def call(self, rows: Sequence[JsonObject]) -> list[float | str] | CallFault:
        """One call. For each row a number, or what it returned in place of one; or why there is none.

        Raises TaskError where it cannot be loaded.
        """
        replied = _exchange(self._started(), {"rows": list(rows)}, self._limits.time_s, "time_s")
        if isinstance(replied, CallFault):
            self.close()
            return replied
        if "memory" in replied:
            self.close()
            limit = self._limits.memory_bytes
            return CallFault(
                f"ran out of memory (limit {limit / GIB:g} GiB)" if limit else "ran out of memory", "memory_gib"
            )
        if "raised" in replied:
            return CallFault(f"raised {replied['raised']}")
        if "found" in replied:
            return CallFault(f"returned {replied['found']} for {len(rows)} answers")
        values: list[float | str] = replied["values"]
        if len(values) != len(rows):
            return CallFault(f"returned {len(values)} rewards for {len(rows)} answers")
        return values

    def close(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        # -P keeps the script's folder, whose names are ours, off the path of the user's imports.
        process = subprocess.Popen(
            [sys.executable, "-P", child.__file__],
            env=code_environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        printing = Thread(target=_pass_on, args=(process.stderr,), daemon=True)
        printing.start()
        self._process, self._end = process, weakref.finalize(self, _ended, process, printing, os.getpid())
        asked: JsonObject = {
            "file": str(self._file.resolve()),
            "function": self._function,
            "kind": self._kind,
            "memory_bytes": self._limits.memory_bytes or 0,
            "path": sys.path,
        }
        replied = _exchange(process, asked, self._limits.load_s, "load_s")
        if isinstance(replied, CallFault):
            self.close()
            remedy = f"Run it with python to see{', or ' if replied.key else ''}{replied.or_raise}."
            raise TaskError(f"it cannot be loaded ({replied.text})", where=self.place, remedy=remedy)
        self._manner = replied
        if "failed" in self._manner:
            self.close()
            found, expected, remedy = (str(self._manner[name]) for name in ("failed", "expected", "remedy"))
            raise TaskError(found, where=self.place, expected=expected, remedy=remedy)
        return process


def _pass_on(prints: IO[bytes]) -> None:
    """What the function prints goes to stderr like all other notes: without keys and control characters. It may print answers."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    with prints:
        pieces = (decoder.decode(data) for data in iter(lambda: os.read(prints.fileno(), 1 << 16), b""))
        for text in redacted_stream(pieces, known_keys(os.environ)):
            with suppress(OSError, ValueError, AttributeError):  # nobody reads it
                sys.stderr.write(escaped(text))
                sys.stderr.flush()


def _exchange(
    process: subprocess.Popen[bytes], request: JsonObject, limit_s: float, limit: Literal["time_s", "load_s"]
) -> Mapping[str, Any] | CallFault:
    """One line in, one line out; or why there was none, and then the process is ended. See `child` for what the lines hold."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(BrokenPipeError):  # it has ended, which the missing reply tells
            process.stdin.write(json.dumps(request, default=str).encode() + b"\n")
            process.stdin.flush()
        line = _line(process, process.stdout, limit_s)
    except BaseException:
        _end(process)  # or its reply would be taken for the next call's
        raise
    if line is None:
        return CallFault(f"took longer than {limit_s:g} seconds", limit)
    if not line.endswith(b"\n"):
        return CallFault(_how(process.wait()))
    try:
        replied = json.loads(line)
    except (ValueError, RecursionError):
        replied = None
    if not isinstance(replied, dict):
        _end(process)
        return CallFault("wrote into the pipe for its results")
    return replied


def _line(process: subprocess.Popen[bytes], replies: IO[bytes], limit_s: float) -> bytes | None:
    """The reply, without a line end where the process has ended; None where it was late, and was ended."""
    if (
        sys.platform == "win32"
    ):  # whose pipes cannot be waited for: a thread for every call, which costs more than the call
        late = Event()
        timer = Timer(limit_s, lambda: (late.set(), _end(process)))
        timer.daemon = True
        timer.start()
        line = replies.readline()
        timer.cancel()
        return None if late.is_set() else line
    waiting, line, end = select.poll(), b"", time.monotonic() + limit_s
    waiting.register(replies, select.POLLIN)
    while not line.endswith(b"\n"):
        left_s = end - time.monotonic()
        if left_s <= 0:
            _end(process)
            return None
        if not waiting.poll(min(left_s, LONGEST_POLL_S) * 1000):
            continue
        piece = os.read(replies.fileno(), 1 << 16)
        if not piece:
            break
        line += piece
    return line


def _how(code: int) -> str:
    if code == child.TOO_MANY:
        return f"started more than {child.PROCESSES} processes"
    return f"ended its process ({f'exit code {code}' if code >= 0 else signal.Signals(-code).name})"


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started; nothing once it was waited for, since its number may be another's by then."""
    if process.returncode is not None:
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
        return
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _ended(process: subprocess.Popen[bytes], printing: Thread, owner: int) -> None:
    """printing: passes on what it printed. owner: the process that started it. A copy of that has nothing to end."""
    if os.getpid() != owner:
        return
    _end(process)
    process.wait()
    printing.join(END_S)  # what left the process's group may still hold the pipe
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
