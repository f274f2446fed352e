"""Run lastresort commands in child processes and keep what they print."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from lastresort.app.runtime import STAGES_AS_JSON
from lastresort.errors import LastresortError
from lastresort.foreign import MiB, escaped
from lastresort.keys import without_keys
from lastresort.records.atomic import write_atomically
from lastresort.records.events.base import Stage
from lastresort.ui.processes import PrintedError, start_process
from lastresort.ui.site import Site

AT_ONCE = 2  # the others wait for their turn
LONGEST_S = 900.0
ALONE_S = 5.0  # a page that waits asks every second
KILLED_S = 5.0  # for which a killed command stays known, so that every page that waits hears of it
LOOK_S = 0.5
MOST_KEPT = 32
TAIL = 4096  # bytes of what a command writes, which are looked at while it works
MOST_PRINTED = 64 * MiB


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """What a command printed before it ended. fault: its sentence where it failed, "" where it did not. killed: it may go better
    another time.
    """

    text: str
    fault: str = ""
    killed: bool = False


@dataclass(frozen=True, slots=True)
class CommandProgress:
    """How far a command is that works. stage: None before it says one. line: what the last one on its stderr says (`said_in`), ""
    before the first and while it waits for its turn. seconds: for how long it has been at work.
    """

    line: str
    seconds: float
    stage: Stage | None = None


@dataclass(frozen=True, slots=True)
class FileToWrite:
    """A file that a command reads. It is written right before the command starts, so that another command's is never read."""

    path: Path
    text: str


@dataclass(slots=True)
class _Child:
    """asked_s: when somebody last wanted to know what it printed. kill_seen_s: when a page first heard that it was killed."""

    question: object
    arguments: tuple[str, ...]
    asked_s: float
    reads: FileToWrite | None = None
    process: subprocess.Popen[bytes] | None = None
    out: IO[bytes] | None = None
    faults: IO[bytes] | None = None
    began_s: float = 0.0
    printed: CommandOutput | None = None
    kill_seen_s: float | None = None


@dataclass(slots=True)
class Children:
    """One process a question and state of what it reads. Of a question, an older one ends when nobody asks for it any more."""

    folder: Path
    _known: dict[tuple[object, object], _Child] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _watching: threading.Thread | None = None

    def printed(
        self,
        question: object,
        state: object,
        arguments: Sequence[str],
        *,
        begin: bool = True,
        only: bool = False,
        reads: FileToWrite | None = None,
    ) -> CommandOutput | None:
        """What the command printed, None while it works or waits. state: of all that it reads. begin: whether to start it where it
        is not known yet, or was killed KILLED_S ago. only: end the commands of other states of this question at once, as no page
        shows them. reads: written before it starts; commands that read the same path need `only`.
        """
        with self._lock:
            child, now = self._known.get((question, state)), time.monotonic()
            if begin and child is not None and child.kill_seen_s is not None and now - child.kill_seen_s >= KILLED_S:
                del self._known[question, state]
                child = None
            if child is None:
                if not begin or self._over.is_set():
                    return None
                child = self._known[question, state] = _Child(question, tuple(arguments), now, reads)
                self._forget()
            child.asked_s = now
            for key in [key for key in self._known if only and begin and key[0] == question and key[1] != state]:
                if self._known[key].printed is None:
                    self._drop(key)
            self._go_on()
            self._watch()
            if child.printed is not None and child.printed.killed and child.kill_seen_s is None:
                child.kill_seen_s = now
            return child.printed

    def progress(self, question: object, state: object) -> CommandProgress | None:
        """None of a command that does not work."""
        with self._lock:
            child = self._known.get((question, state))
            if child is None or child.printed is not None:
                return None
            if child.faults is None:
                return CommandProgress("", 0.0)
            line = _last_line(without_keys(_tail(child.faults)))  # a bar that is drawn again is a line
            return CommandProgress(said_in(line), time.monotonic() - child.began_s, _stage_in(line))

    def forget(self, question: object, state: object) -> None:
        """What it printed: the next who asks starts it again."""
        with self._lock:
            child = self._known.get((question, state))
            if child is not None and child.printed is not None:
                del self._known[question, state]

    def knows(self, question: object, state: object) -> bool:
        """Whether the command was started in this state, or waits to be."""
        with self._lock:
            return (question, state) in self._known

    def close(self) -> None:
        self._over.set()
        with self._lock:
            for child in self._known.values():
                _end(child)

    def _watch(self) -> None:
        """Whoever asked may never ask again: the limits hold all the same."""
        if self._watching is None:
            self._watching = threading.Thread(target=self._look_again, name="children", daemon=True)
            self._watching.start()

    def _look_again(self) -> None:
        while not self._over.wait(LOOK_S):
            with self._lock:
                self._go_on()
                if all(child.printed is not None for child in self._known.values()):
                    self._watching = None
                    return

    def _go_on(self) -> None:
        for child in self._known.values():
            self._look(child)
        newest = {child.question: child for child in self._known.values()}
        now = time.monotonic()
        for key, child in list(self._known.items()):
            if child is not newest[child.question] and child.printed is None and now - child.asked_s > ALONE_S:
                self._drop(key)
        working = sum(one.process is not None and one.printed is None for one in self._known.values())
        for child in sorted(self._known.values(), key=lambda one: one is not newest[one.question]):
            if working < AT_ONCE and child.process is None and child.printed is None and not self._over.is_set():
                self._start(child)
                working += 1

    def _drop(self, key: tuple[object, object]) -> None:
        child = self._known.pop(key)
        _end(child)
        _let_go(child)

    def _start(self, child: _Child) -> None:
        child.out, child.faults = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed once it has ended
        child.began_s = time.monotonic()
        try:
            if child.reads is not None:
                write_atomically(child.reads.path, child.reads.text)
            child.process = start_process(
                child.arguments,
                folder=self.folder,
                out=child.out,
                faults=child.faults,
                bound=True,
                more={STAGES_AS_JSON: "yes"},
            )
        except OSError as error:  # such as a folder that is gone
            child.printed = CommandOutput("", f"It could not be started ({error.strerror}).")
        except LastresortError as error:  # such as a disk that is full
            child.printed = CommandOutput("", str(error))
        if child.printed is not None:
            _let_go(child)

    def _look(self, child: _Child) -> None:
        if child.process is None or child.printed is not None:
            return
        assert child.out is not None
        assert child.faults is not None
        if time.monotonic() - child.began_s > LONGEST_S:
            child.process.kill()
        code = child.process.poll()
        if code is None:
            return
        text, fault = _read(child.out), ""
        if code < 0:
            fault = "Its process was killed: there may not be enough memory, or it took too long."
        elif code and not text:
            fault = said_in(_last_line(without_keys(_read(child.faults)))) or f"It exited with code {code}."
        child.printed = CommandOutput(text, fault, killed=code < 0)
        _let_go(child)

    def _forget(self) -> None:
        done = [key for key, child in self._known.items() if child.printed is not None]
        for key in done[: max(0, len(self._known) - MOST_KEPT)]:
            del self._known[key]


def _end(child: _Child) -> None:
    if child.process is not None and child.printed is None:
        child.process.kill()
        child.process.wait()


def _let_go(child: _Child) -> None:
    for file in (child.out, child.faults, None if child.process is None else child.process.stdin):
        if file is not None:
            file.close()


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MOST_PRINTED).decode("utf-8", "replace")


def _tail(file: IO[bytes]) -> str:
    """The last whole lines of what a command that works has written. Its own place in the file stays, which on Windows no read
    leaves as it is: there, none.
    """
    if sys.platform == "win32":
        return ""
    at = file.fileno()
    begin = max(0, os.fstat(at).st_size - TAIL)
    lines = os.pread(at, TAIL, begin).decode("utf-8", "replace").splitlines(keepends=True)
    return "".join(lines[1:] if begin else lines)  # the first may be cut


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def said_in(line: str) -> str:
    """What a line of a command's stderr says: the error itself where it is one as JSON, "" where it is a stage."""
    try:
        return escaped(PrintedError.model_validate_json(line).error)
    except ValidationError:
        return escaped(line) if _stage_in(line) is None else ""


def _stage_in(line: str) -> Stage | None:
    """What `JsonProgress` wrote, None for any other line."""
    try:
        return Stage.model_validate_json(line)
    except ValidationError:
        return None


def children_of(site: Site) -> Children:
    """Those of a site; they end with it."""
    return site.own(Children, lambda: Children(site.workspace.folder), Children.close)
