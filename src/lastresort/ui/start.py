"""`lastresort ui`: bind, say where, answer until a signal."""

from __future__ import annotations

import logging
import secrets
import shlex
import socket
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from lastresort.app.terminal import print_note
from lastresort.errors import InputError, LastresortError, PrerequisiteError
from lastresort.records.record import FILE_NAME
from lastresort.ui.workspace import RUNS, Workspace, is_study

OPENED_S = 2.0
AHEAD_S = 1.0  # at most, for which the link waits until the runs are read: a hundred take a third of that
_NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "sse_starlette": "sse-starlette",
    "multipart": "python-multipart",
}


def serve_page(folder: Path, host: str, port: int, *, on_ready: Callable[[str], None]) -> None:
    """Serve the page until SIGINT or SIGTERM. folder: the workspace, which holds `runs`. port: 0 for any that is free. on_ready:
    gets the link to open.

    Other machines may reach it only by a link with a token. Raises InputError for a folder or an address that cannot be used,
    PrerequisiteError where the extra is missing.
    """
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise PrerequisiteError(
            f"{missing[0]} is not installed, and the page needs it", remedy="Run: pip install 'lastresort[ui]'"
        )
    if not folder.is_dir():
        raise InputError(
            "there is no such folder", where=str(folder), expected="the folder that holds runs", remedy="Make it."
        )
    _refuse_runs(folder.resolve())
    import uvicorn

    from lastresort.app.marks import MarkFiles
    from lastresort.libraries import quiet_logger
    from lastresort.serve.guard import is_loopback
    from lastresort.serve.transport import address_of, bound
    from lastresort.ui.guard import LINK_KEY, PageGuard, PageSecrets
    from lastresort.ui.site import Site, create_site

    with bound(host, port) as listening:
        alone = is_loopback(host) and is_loopback(listening.getsockname()[0])
        token = "" if alone else secrets.token_urlsafe(32)
        workspace = Workspace(folder.resolve(), checks_later=True)
        workspace.remove_left_over()
        read = threading.Event()
        threading.Thread(target=_read_and_check, args=(workspace, read), name="read-ahead", daemon=True).start()
        for task in workspace.task_folders():
            with suppress(LastresortError):  # which the page says where the marks are looked at
                MarkFiles(task).complete()
        site = Site(workspace, PageSecrets(token))
        config = uvicorn.Config(
            PageGuard(create_site(site), site.secrets), log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        listening.listen()  # whoever opens the link at once waits for the first answer, and is not refused
        read.wait(AHEAD_S)
        on_ready(f"http://{reached_at(address_of(listening))}/" + (f"?{LINK_KEY}={token}" if token else ""))
        try:
            with quiet_logger("uvicorn.error", logging.CRITICAL):
                uvicorn.Server(config).run(sockets=[listening])
        finally:
            site.close()


def _refuse_runs(folder: Path) -> None:
    """Raises InputError for a study, for a run, and for the folder of all runs, which people name for the one around it."""
    expected = f"the folder that holds `{RUNS}`"
    if is_study(folder):
        remedy = f"Read it with `{shlex.join(['lastresort', 'report', str(folder)])}`."
        raise InputError("this is a study", where=str(folder), expected=expected, remedy=remedy)
    if (folder / FILE_NAME).is_file():
        found, runs = "this is a run", folder.parent
    elif folder.name == RUNS and not (folder / RUNS).exists() and any(folder.glob(f"*/{FILE_NAME}")):
        found, runs = "this is a folder of runs", folder
    else:
        return
    remedy = f"Run `{shlex.join(['lastresort', 'ui', str(runs.parent)])}`."
    if runs.name != RUNS:
        inside = shlex.join(["lastresort", "ui", str(runs)])
        remedy = f"Move it into a folder {runs / RUNS} and run `{inside}`, or read it with `lastresort report`."
    raise InputError(found, where=str(folder), expected=expected, remedy=remedy)


def _read_and_check(workspace: Workspace, read: threading.Event) -> None:
    """As long as the process lives. read: set once every run is read. What the user opens at once is not slowed by the check."""
    workspace.read_ahead()
    read.set()
    time.sleep(OPENED_S)
    while True:
        try:
            workspace.check_next()
        except Exception as error:  # noqa: BLE001 - the border of this thread: the other records are checked all the same
            print_note("".join(traceback.format_exception(error)))


def reached_at(address: str) -> str:
    """What a browser is given: a socket may listen on every address of this machine, which is none to open."""
    host, colon, port = address.rpartition(":")
    return f"{socket.gethostname() if host in ('0.0.0.0', '[::]') else host}{colon}{port}"
