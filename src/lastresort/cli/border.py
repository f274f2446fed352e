"""The border: what a command found goes to stdout; what it raises becomes one sentence on stderr and an exit code.

Also how long work reports and is stopped.
"""

from __future__ import annotations

import io
import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from lastresort.app import runtime
from lastresort.app.terminal import print_document, print_error, print_note, print_text, warnings_on_stderr
from lastresort.errors import AGAIN, DiskError, InputError, LastresortError, StopRequestedError
from lastresort.foreign import reason_of
from lastresort.libraries import PANIC

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lastresort.records.document import JsonDocument
    from lastresort.stop import Stop
    from lastresort.types import Progress

Document = TypeVar("Document", bound="JsonDocument")

INTERRUPTED, PIPE_CLOSED = 130, 141
_REPEAT = " Answers are kept; run the same command again to resume."
GO_ON = {
    "climb": " Finished work is kept; resume with --resume.",
    "demo": " Finished work is kept; the command at the top resumes it.",
    "train": " --resume continues from the last checkpoint, or starts over if there is none yet.",
    "gate": _REPEAT,
    "recheck": _REPEAT,
    "verify": _REPEAT,
    "data pairs": _REPEAT,
    "data synth": _REPEAT,
    "study crossover": _REPEAT,
    "study min-data": _REPEAT,
    "study orpo-vs-dpo": _REPEAT,
    "study synthetic": _REPEAT,
}


def guarded(command: Callable[..., Any]) -> int:
    """Run a typer app; return the exit code. A user's mistake shows no traceback; our own fault does (it is worth reporting)."""
    runtime.set_environment()
    runtime.interrupt_on_sigterm()
    runtime.accept_any_text()
    try:
        with warnings_on_stderr():
            result = command(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, so that a full disk or a closed pipe behind it is still met
    except LastresortError as error:
        return _say(error)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        return _pipe_closed()
    except SystemExit as error:  # typer's own answer to a closed pipe
        return _pipe_closed() if isinstance(error.__context__, BrokenPipeError) else int(error.code or 0)
    except (sqlite3.OperationalError, OSError) as error:
        refused = runtime.refused_by_the_system(error)
        return _unexpected(error) if refused is None else _say(refused)
    except Exception as error:  # noqa: BLE001  typer's own usage errors carry their exit code; the rest is our fault
        return _unexpected(error)
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        return _say(_gave_up(error))
    if result == INTERRUPTED:  # typer makes this of a KeyboardInterrupt
        return _interrupted()
    return int(result) if isinstance(result, int) else 0


def _gave_up(error: BaseException) -> InputError:
    """Tokenizers raise it where a pattern of theirs needs too many steps in a text."""
    return InputError(
        f"a library gave up on a text ({reason_of(error)})",
        expected="a model whose tokenizer reads any text",
        remedy="Name another model, or shorten the text.",
    )


def _say(error: LastresortError) -> int:
    if isinstance(error, DiskError) and not error.resume and _way_on() in ("", _REPEAT):
        error = error.going_on(AGAIN)
    print_error(str(error), kind="Stopped" if isinstance(error, StopRequestedError) else "Error")
    return error.exit_code


def _interrupted() -> int:
    print_note(last_words())
    return INTERRUPTED


def last_words() -> str:
    """Of a command that was interrupted."""
    return f"Interrupted.{_way_on()}"


def stopping(seconds: int) -> str:
    """While a command that was asked to stop finishes what it is doing. "" where that is said: a server says it itself, and of
    several processes the first.
    """
    from lastresort.app.train import leads

    if sys.argv[1:2] == ["serve"] or not leads():
        return ""
    return f"Stopping: finishing what is under way, for at most {seconds} s. A second signal interrupts it."


def _way_on() -> str:
    command = " ".join(sys.argv[1 : 3 if sys.argv[1:2] in (["data"], ["study"]) else 2])
    keeps = "--dry-run" not in sys.argv and (command != "data pairs" or "--model" in " ".join(sys.argv))
    return GO_ON.get(command, "") if keeps else ""


def _pipe_closed() -> int:
    """Whoever read our output has left; what is still to be flushed at exit goes nowhere, in silence."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return PIPE_CLOSED


def _unexpected(error: Exception) -> int:
    show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(exit_code, int):  # click's UsageError and its kin
        said = io.StringIO()
        show(file=said)
        print_note(said.getvalue(), end="")
        return exit_code
    print_note("".join(traceback.format_exception(error)), end="")
    print_error("this is a fault of lastresort, please report it with the lines above.")
    return LastresortError.exit_code


def show_document(
    document: Document, draw: Callable[[Document], RenderableType], *, as_json: bool, last_line: str | None = None
) -> None:
    """Print what a command found on stdout. last_line: below what is drawn."""
    from lastresort.app.console import SafeConsole

    if as_json:
        print_document(document.as_json())
        return
    SafeConsole(file=sys.stdout).print(draw(document))
    if last_line is not None:
        print_text(last_line)


@contextmanager
def stoppable() -> Iterator[tuple[Progress, Stop]]:
    """The progress of a command that takes long, and the stop that a first SIGTERM asks for."""
    from lastresort.app.console import progress

    with progress() as shown, runtime.stop_on_sigterm() as stop:
        yield shown, stop
