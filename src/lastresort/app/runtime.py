"""What a process sets before it computes: the command line, a worker, a server, a notebook.

Nothing acts at import.
"""

from __future__ import annotations

import io
import math
import os
import select
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lastresort.errors import RESUME, DiskError, InfrastructureError, OutOfMemoryError, StoppedError
from lastresort.records.atomic import FULL, disk_error
from lastresort.stop import NEVER, Stop, StopSignal
from lastresort.types import Progress

SETTINGS = {
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that spin for long while they wait make every small product a hundred times slower as soon as another process
    # wants the cores; threads that never spin cost a third of the speed (docs/log.md). Read when torch is first imported.
    "GOMP_SPINCOUNT": "20000",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# Set by the page, whatever to, for the commands whose stages and errors it shows.
STAGES_AS_JSON = "LASTRESORT_STAGES_AS_JSON"
ERROR_FILE = "LASTRESORT_ERROR_FILE"  # set by the page for a job: the file that gets its error
JOB_FOLDER = "lastresort-job-"  # how the name of a job's folder begins
JOB_PID = "pid"  # the file with its process's number


def set_environment() -> None:
    """Settings that libraries read when they are first imported. What the user has set stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def computing(progress: Progress | None) -> AbstractContextManager[Progress]:
    """Prepare this process to compute. Returns the progress to use, by default on stderr."""
    set_environment()
    if progress is not None:
        return nullcontext(progress)
    from lastresort.app.console import progress as on_stderr

    return on_stderr()


def interrupt_on_sigterm() -> None:
    """Make SIGTERM end the process as Ctrl-C does, so that a stopped run says how to resume it.

    Does nothing outside of the main thread, where Python allows no handler.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


ASKED_S = 120  # from a signal that asks to stop: for a batch, or a step and its checkpoint, and for the end
_AFTER_S = 15  # from the end of the work that could stop: for what comes after it, such as the end of a cluster
INTERRUPTED_S = 4.5  # to end once interrupted: with a margin below the 5 s of a signal
_QUIET_S = 2.0  # an end that comes sooner needs no word
_TIME = 128  # a byte from here on is no signal (there are 64): the next one says how many seconds a signal leaves
_LEAVES = 0  # no signal either: all is said, and only the system's part of the end is to come


@contextmanager
def stop_on_sigterm(*others: signal.Signals, within_s: int = ASKED_S) -> Iterator[Stop]:
    """Inside, SIGTERM asks to stop, so that a batch or a training step ends first. A second SIGTERM ends the process at once.

    others: signals that do the same. within_s: how long the process then has where it is watched, at most 255 s. Nobody asks
    outside of the main thread, where Python allows no handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield NEVER
        return
    stop = StopSignal()

    def request(number: int, frame: FrameType | None) -> None:
        if stop.requested() is not None:
            raise KeyboardInterrupt
        stop.request()

    numbers = (signal.SIGTERM, *others)
    _tell_watcher(*(byte for number in numbers for byte in (_TIME | number, within_s)))
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _tell_watcher(*(byte for number in numbers for byte in (_TIME | number, 0)))


def _tell_watcher(*message: int) -> None:
    wake = signal.set_wakeup_fd(-1)
    if wake >= 0:
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        with suppress(OSError):  # a watcher that has gone
            os.write(wake, bytes(message))


def end_soon_after_a_signal(last_words: Callable[[], str], stopping: Callable[[int], str]) -> None:
    """From here on SIGTERM and SIGINT end this process within seconds, whatever it is doing. A signal that asks to stop
    (`stop_on_sigterm`) leaves it the time that was given there, up to the next signal.

    What is written is written whole or not at all, so ending anywhere loses nothing that is finished. The folder of a job goes
    when it has ended, however that was.

    Python's own handlers wait for C code to return, and threads for it to let go of the interpreter. So a process of its own
    watches, which the system tells of each signal. last_words: what to say where this one does not end by itself. stopping: what
    to say while it has so many seconds left. Call it before there are threads. Does nothing where the system cannot fork.
    """
    if not hasattr(os, "fork"):
        return
    arrived, wake = os.pipe()
    watched = os.getpid()
    if os.fork() == 0:
        os.close(wake)
        for number in (signal.SIGINT, signal.SIGTERM):  # those of a terminal go to all of its processes
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError):
            with suppress(EOFError, ProcessLookupError):  # it has ended
                _end_after_signal(arrived, watched, last_words, stopping)
            _remove_job_folder(watched)
        os._exit(0)
    os.close(arrived)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def forget() -> None:  # in a copy of this process, whose signals are not its own
        signal.set_wakeup_fd(-1)
        os.close(wake)

    os.register_at_fork(after_in_child=forget)


def _end_after_signal(
    arrived: int, watched: int, last_words: Callable[[], str], stopping: Callable[[int], str]
) -> None:
    seconds_of: dict[int, int] = {}
    number, seconds = _next_message(arrived)
    while seconds is not None:
        seconds_of[number] = seconds
        number, seconds = _next_message(arrived)
    if (asked_s := seconds_of.get(number, 0)) and not _hurried(arrived, number, asked_s, stopping):
        os.kill(watched, signal.SIGTERM)  # which interrupts what did not stop when it was asked to
    end = time.monotonic() + INTERRUPTED_S
    with suppress(TimeoutError):
        while True:
            _next_message(arrived, end)
    _say(last_words())
    os.kill(watched, signal.SIGKILL)
    while os.read(arrived, 64):  # until it has let go of its files
        pass


def _hurried(arrived: int, asked_by: int, within_s: int, stopping: Callable[[int], str]) -> bool:
    """Whether another signal came before the time was over. It is soon over where the work that could stop has ended."""
    now = time.monotonic()
    speak, end = now + _QUIET_S, now + within_s
    while True:
        try:
            number, seconds = _next_message(arrived, min(speak, end))
        except TimeoutError:
            if end <= speak:
                return False
            _say(stopping(round(end - speak)))
            speak = math.inf
            continue
        if seconds is None:
            return True
        if number == asked_by:
            speak, end = math.inf, min(end, time.monotonic() + (seconds or _AFTER_S))


def _say(words: str) -> None:
    with suppress(OSError):  # a disk that is full, a pipe that is closed
        if words and select.select([], [2], [], 0)[1]:  # a stderr that nobody reads keeps nobody
            os.write(2, f"{words}\n".encode())


def _remove_job_folder(process: int) -> None:
    """Remove the folder for temporary files that was made for this process alone, where it has one."""
    own = Path(os.environ.get("TMPDIR", ""))
    with suppress(OSError, ValueError):
        if own.name.startswith(JOB_FOLDER) and int((own / JOB_PID).read_text("ascii")) == process:
            shutil.rmtree(own, ignore_errors=True)


def _next_message(arrived: int, end: float | None = None) -> tuple[int, int | None]:
    """(a signal, None), or (a signal, how many seconds it leaves). Raises TimeoutError at the end, EOFError once the process has
    ended.

    One that has said its last words needs no others, and may take seconds to give back its memory.
    """
    while select.select([arrived], [], [], None if end is None else max(0.0, end - time.monotonic()))[0]:
        if not (read := os.read(arrived, 1)):
            raise EOFError
        if read[0] == _LEAVES:
            while os.read(arrived, 64):
                pass
            raise EOFError
        if read[0] >= _TIME:
            return read[0] - _TIME, os.read(arrived, 1)[0]
        if read[0] in (signal.SIGTERM, signal.SIGINT):
            return read[0], None
    raise TimeoutError


def leave_at_once(code: int) -> NoReturn:
    """Without the ends of libraries, which take seconds where the machine is busy."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _tell_watcher(_LEAVES)
    os._exit(code)


def accept_any_text() -> None:
    """Replace characters that stdout cannot write, and bytes on stdin that are not text, instead of failing on them."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def resumable(kept: Path) -> Iterator[None]:
    """What stops the work inside says to go on with --resume, unless it says another way on or no memory is enough. kept: the file
    of the run that --resume needs; without it there is nothing to go on with.
    """
    try:
        yield
    except StoppedError as error:
        if error.resume or isinstance(error, OutOfMemoryError) or not kept.is_file():
            raise
        raise error.going_on(RESUME) from error


def refused_by_the_system(error: OSError | sqlite3.OperationalError) -> InfrastructureError | None:
    """What the operating system refused, as our error; None for errors that libraries raise in its name.

    It is not known here whether something was read or written; files that this program writes have errors of their own
    (records/atomic.py).
    """
    if "disk is full" in str(error):
        return DiskError("the disk is full", remedy="Free some space.")
    if not isinstance(error, OSError) or error.errno is None:
        return None
    named = isinstance(error.filename, str | bytes)
    if error.errno in FULL:
        return disk_error(error, Path(os.fsdecode(error.filename)) if named else Path.cwd())
    if not named:
        return None
    return InfrastructureError(
        f"the system refused it ({error.strerror or error})",
        where=os.fsdecode(error.filename),
        remedy="Check the path and its permissions.",
    )
