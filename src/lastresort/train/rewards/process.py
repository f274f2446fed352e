"""A reward function of the user's in a process of its own, with limits of time and memory; started again after a fault.

JSON lines travel both ways, never pickled objects. The process is ended when it is closed, dropped, or the program ends;
should the program be killed, it ends by itself. That, the limit of memory, and the end of what the function itself started need
POSIX: elsewhere the limit of time alone holds.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Timer
from typing import Any, TypedDict

from lastresort.errors import DataError, TaskError
from lastresort.train.rewards import child as reward_child
from lastresort.train.settings import RewardLimits
from lastresort.types import Json, JsonObject

LATE = "took longer than"


class RewardFault(DataError):
    """One call gave no reward: it raised, hung, took too much memory, ended its process, or returned no finite number."""


class _Ready(TypedDict, total=False):
    """The first line of the process: how the function is called, or why it could not be loaded."""

    plural: bool
    needs: list[str]
    failed: str


class _Reply(TypedDict, total=False):
    """A line for each call, of which one key is there; see `child`."""

    values: list[float | str]
    found: str
    raised: str
    memory: bool


class RewardProcess:
    """FILE:FUNCTION, called with prompt, completion, expected and the row's columns as keyword arguments; see
    `child.manner_of` for the ways in which a function may take them. Started by its first call."""

    def __init__(self, file: Path, function: str, limits: RewardLimits | None = None) -> None:
        self._file, self._function, self._limits = file, function, limits or RewardLimits()
        self.place = f"{file.name}, {function}()"
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._ready: _Ready = {}

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that the function cannot do without. Raises TaskError where it cannot be loaded."""
        self._started()
        return tuple(self._ready["needs"])

    def values(self, rows: Sequence[Mapping[str, Json]], *, to_first_fault: bool = False) -> list[float | RewardFault]:
        """The reward of each row's answer, or why there is none; a function of lists that fails gives none to all.

        rows: keyword arguments, of which values that JSON lacks travel as text. to_first_fault: after it nothing more is called,
        and the others' reward is that fault too: one that hangs would hang for each. Raises TaskError where it cannot be loaded.
        """
        if not rows:
            return []
        self._started()
        if self._ready["plural"]:
            return self._call(rows)
        found: list[float | RewardFault] = []
        for row in rows:
            found += self._call([row])
            if to_first_fault and isinstance(found[-1], RewardFault):
                return [*found, *[found[-1]] * (len(rows) - len(found))]
        return found

    def close(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _call(self, rows: Sequence[Mapping[str, Json]]) -> list[float | RewardFault]:
        process = self._started()
        line, fault = _exchange(process, {"rows": list(rows)}, self._limits.time_s)
        reply: _Reply = {} if fault is not None else json.loads(line)
        if fault is None and reply.get("memory"):
            limit = self._limits.memory_bytes or 0
            fault = f"ran out of memory (limit {limit / (1 << 30):g} GiB)" if limit else "ran out of memory"
        if fault is not None:
            self.close()
        elif "raised" in reply:
            fault = f"raised {reply['raised']}"
        elif "found" in reply:
            fault = f"returned {reply['found']} for {len(rows)} answers"
        elif len(reply["values"]) != len(rows):
            fault = f"returned {len(reply['values'])} rewards for {len(rows)} answers"
        if fault is not None:
            limit_hit = "time_s" if fault.startswith(LATE) else "memory_gib" if reply.get("memory") else ""
            return [self._fault(fault, limit_hit)] * len(rows)
        return [self._checked(value) for value in reply["values"]]

    def _checked(self, value: float | str) -> float | RewardFault:
        if isinstance(value, str) or not math.isfinite(value):
            return self._fault(f"returned {value}")
        return float(value)

    def _fault(self, found: str, limit_hit: str = "") -> RewardFault:
        limit = f" raise limits.{limit_hit}," if limit_hit else ""
        remedy = f"Correct the function,{limit} or count such answers as 0 with on_error: zero."
        return RewardFault(found, where=self.place, expected="a finite number for each answer", remedy=remedy)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        # -P keeps the script's folder, whose names are ours, off the path of the user's imports.
        arguments = [str(self._file.resolve()), self._function, str(self._limits.memory_bytes or 0)]
        process = subprocess.Popen(
            [sys.executable, "-P", reward_child.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._process, self._end = process, weakref.finalize(self, _ended, process)
        line, fault = _exchange(process, None, self._limits.load_s)
        self._ready = {} if fault is not None else json.loads(line)
        fault = fault or self._ready.get("failed")
        if fault is not None:
            self.close()
            remedy = "Run it with python to see."
            if fault.startswith(LATE):
                remedy = "Run it with python to see, or raise limits.load_s."
            raise TaskError(f"it cannot be loaded ({fault})", where=self.place, expected="a function", remedy=remedy)
        return process


def _exchange(process: subprocess.Popen[bytes], request: JsonObject | None, limit_s: float) -> tuple[bytes, str | None]:
    """One line in, one line out; or why there was none. A process that is late is killed, which ends the reading too."""
    assert process.stdin is not None
    assert process.stdout is not None
    late = Event()

    def stop() -> None:
        late.set()
        _kill(process)

    timer = Timer(limit_s, stop)
    timer.daemon = True
    timer.start()
    try:
        if request is not None:
            with suppress(BrokenPipeError):  # it has ended, which the missing reply tells
                process.stdin.write(json.dumps(request, default=str).encode() + b"\n")
                process.stdin.flush()
        line = process.stdout.readline()
    except KeyboardInterrupt:
        _kill(process)  # or its reply would be taken for the next call's
        raise
    finally:
        timer.cancel()
        timer.join()
    if late.is_set():
        return b"", f"{LATE} {limit_s:g} seconds"
    if not line.endswith(b"\n"):
        _kill(process)  # what it started may live on; its own exit code is settled
        return b"", f"ended its process ({_how(process.wait())})"
    return line, None


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and whatever it started; nothing once it was waited for, since its number may be another's by then."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _ended(process: subprocess.Popen[bytes]) -> None:
    _kill(process)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
