"""The border: whatever a command raises becomes one sentence on stderr and an exit code (DESIGN part 13)."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lastresort.errors import InfrastructureError, LastresortError
from lastresort.records.atomic import disk_error

INTERRUPTED = 130


def guarded(command: Callable[..., Any]) -> int:
    """Run a typer app; return the exit code. A user's mistake shows no traceback; our own fault does (it is worth reporting)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin for long while they wait make every small product a hundred times slower as soon as another process
    # wants the cores; threads that never spin cost a third of the speed (docs/log.md). Read when torch is first imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        result = command(standalone_mode=False)
    except LastresortError as error:
        return _say(error)
    except KeyboardInterrupt:
        print("Interrupted. Nothing finished is lost; go on with --resume.", file=sys.stderr)
        return INTERRUPTED
    except (sqlite3.OperationalError, OSError) as error:
        refused = _refused_by_the_system(error)
        return _unexpected(error) if refused is None else _say(refused)
    except Exception as error:  # noqa: BLE001  typer's own usage errors carry their exit code; the rest is our fault
        return _unexpected(error)
    return int(result) if isinstance(result, int) else 0


def _say(error: LastresortError) -> int:
    print(f"Error: {error}", file=sys.stderr)
    return error.exit_code


def _refused_by_the_system(error: OSError | sqlite3.OperationalError) -> InfrastructureError | None:
    """The sentence for what the operating system refused; None for errors that libraries raise in its name."""
    if "disk is full" in str(error):
        return InfrastructureError("the disk is full", remedy="Free some space and go on with --resume.")
    if not isinstance(error, OSError) or error.errno is None:
        return None
    return disk_error(
        error, Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else Path.cwd()
    )


def _unexpected(error: Exception) -> int:
    show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(exit_code, int):  # click's UsageError and its kin
        show()
        return exit_code
    traceback.print_exc()
    print("Error: this is a fault of lastresort, please report it with the lines above.", file=sys.stderr)
    return 1
