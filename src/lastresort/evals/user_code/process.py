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
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from typing import Any, Literal, TypedDict

from lastresort.errors import DataError, TaskError
from lastresort.evals.user_code import child
from lastresort.types import Json, JsonObject


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """time_s: of one call, which is one answer, or all answers of a step where the function takes lists. memory_bytes: of
    the process, None for no limit. load_s: of loading the file."""

    time_s: float = 10.0
    memory_bytes: int | None = 4 << 30
    load_s: float = 120.0


@dataclass(frozen=True, slots=True)
class CallFault:
    """Why a call gave nothing. kind: the limit that was hit, "other" for none. text: a clause."""

    kind: Literal["time", "memory", "other"]
    text: str


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

    def __init__(self, file: Path, function: str, limits: CodeLimits | None = None) -> None:
        self._file, self._function, self._limits = file, function, limits or CodeLimits()
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
        replied = _exchange(process, {"rows": list(rows)}, self._limits.time_s)
        reply: _Reply | CallFault = replied if isinstance(replied, CallFault) else json.loads(replied)
        if not isinstance(reply, CallFault) and reply.get("memory"):
            limit = self._limits.memory_bytes or 0
            of = f" (limit {limit / (1 << 30):g} GiB)" if limit else ""
            reply = CallFault("memory", f"ran out of memory{of}")
        if isinstance(reply, CallFault):
            self.close()
            return [self._fault(reply)] * len(rows)
        if (told := _unfit(reply, len(rows))) is not None:
            return [self._fault(CallFault("other", told))] * len(rows)
        return [self._checked(value) for value in reply["values"]]

    def _checked(self, value: float | str) -> float | RewardFault:
        if isinstance(value, str) or not math.isfinite(value):
            return self._fault(CallFault("other", f"returned {value}"))
        return float(value)

    def _fault(self, fault: CallFault) -> RewardFault:
        limit = {"time": " raise limits.time_s,", "memory": " raise limits.memory_gib,", "other": ""}[fault.kind]
        remedy = f"Correct the function,{limit} or count such answers as 0 with on_error: zero."
        return RewardFault(fault.text, where=self.place, expected="a finite number for each answer", remedy=remedy)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        # -P keeps the script's folder, whose names are ours, off the path of the user's imports.
        arguments = [str(self._file.resolve()), self._function, str(self._limits.memory_bytes or 0)]
        process = subprocess.Popen(
            [sys.executable, "-P", child.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._process, self._end = process, weakref.finalize(self, _ended, process)
        replied = _exchange(process, None, self._limits.load_s)
        self._ready = {} if isinstance(replied, CallFault) else json.loads(replied)
        failed = self._ready.get("failed")
        fault = replied if isinstance(replied, CallFault) else None if failed is None else CallFault("other", failed)
        if fault is not None:
            self.close()
            raised = ", or raise limits.load_s" if fault.kind == "time" else ""
            remedy = f"Run it with python to see{raised}."
            raise TaskError(
                f"it cannot be loaded ({fault.text})", where=self.place, expected="a function", remedy=remedy
            )
        return process


def _unfit(reply: _Reply, answers: int) -> str | None:
    """Why a reply holds no reward for each answer, None where it does."""
    if "raised" in reply:
        return f"raised {reply['raised']}"
    if "found" in reply:
        return f"returned {reply['found']} for {answers} answers"
    if len(reply["values"]) != answers:
        return f"returned {len(reply['values'])} rewards for {answers} answers"
    return None


def _exchange(process: subprocess.Popen[bytes], request: JsonObject | None, limit_s: float) -> bytes | CallFault:
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
        return CallFault("time", f"took longer than {limit_s:g} seconds")
    if not line.endswith(b"\n"):
        _kill(process)  # what it started may live on; its own exit code is settled
        return CallFault("other", f"ended its process ({_how(process.wait())})")
    return line


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
