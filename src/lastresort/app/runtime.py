"""What a process sets before it computes: the command line, a worker, a server, a notebook. Nothing acts at import."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from lastresort.errors import InfrastructureError
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


@contextmanager
def stop_on_sigterm() -> Iterator[Stop]:
    """Inside, SIGTERM asks to stop, so that a training first writes a checkpoint. A second SIGTERM ends the process at once.

    Nobody asks outside of the main thread, where Python allows no handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield NEVER
        return
    stop = StopSignal()

    def request(number: int, frame: FrameType | None) -> None:
        if stop.requested() is not None:
            raise KeyboardInterrupt
        stop.request()

    before = signal.signal(signal.SIGTERM, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def accept_any_text() -> None:
    """Replace characters that stdout cannot write, and bytes on stdin that are not text, instead of failing on them."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def refused_by_the_system(error: OSError | sqlite3.OperationalError) -> InfrastructureError | None:
    """What the operating system refused, as our error; None for errors that libraries raise in its name.

    It is not known here whether something was read or written; files that this program writes have errors of their own
    (records/atomic.py).
    """
    if "disk is full" in str(error):
        return InfrastructureError("the disk is full", remedy="Free some space and go on with --resume.")
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
