"""The page under test: in this process for its routes, as a server of its own for a browser."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from climb_support import scripted_task
from lastresort.app.climb import climb
from lastresort.records.measurement import ItemScore, Measurement
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from lastresort.ui import jobs
from lastresort.ui.guard import CSRF_HEADER, PageGuard, PageSecrets
from lastresort.ui.site import Site, create_site
from lastresort.ui.workspace import Workspace
from processes_support import Program

HERE = "http://127.0.0.1"
MET = [{"right": 0.3}, {"right": 0.97, "min_shots": 3}]
PATIENCE_S = 120


def page_of(folder: Path, token: str = "") -> tuple[Site, TestClient]:
    """A client that sends what a browser with the page open sends."""
    site = Site(Workspace(folder), PageSecrets(token))
    client = TestClient(PageGuard(create_site(site), site.secrets), base_url=HERE)
    client.headers.update({CSRF_HEADER: site.secrets.csrf})
    return site, client


def htmx_page_of(folder: Path) -> tuple[Site, TestClient]:
    """A client that asks as htmx does, and follows no redirection by itself."""
    site, client = page_of(folder.resolve())
    client.headers.update({"hx-request": "true"})
    client.follow_redirects = False
    return site, client


class Ended:
    """Of a process that was not started: it has ended at once."""

    def poll(self) -> int:
        return 2


class Working:
    """Of a process that was not started: it is at work."""

    def poll(self) -> None:
        return None

    def wait(self) -> int:
        return 0


def recorded_starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[jobs.Command, tuple[str, ...]]]:
    """While the test lasts no process is started; what would have been, with the endpoints and trackers whose keys it would get."""
    found: list[tuple[jobs.Command, tuple[str, ...]]] = []

    def start(job: jobs.Command, reaches: Sequence[str] = ()) -> Ended:
        found.append((job, tuple(reaches)))
        return Ended()

    monkeypatch.setattr(jobs, "start", start)
    return found


def finished_run(folder: Path, name: str = "routing-1", **task: Any) -> Path:
    """A climb of the scripted model in a workspace, to its decision."""
    if not task:
        shutil.copytree(_climbed(name), folder, dirs_exist_ok=True)
        return folder / "runs" / name
    return _climb(folder, name, task)


def _climb(folder: Path, name: str, task: dict[str, Any]) -> Path:
    path = scripted_task(folder / "tasks" / "routing", quality=MET, task={"ladder": ["prompting"], **task})
    return climb(load_task(path), folder / "runs" / name).run


@cache
def _climbed(name: str) -> Path:
    """A workspace with one run, made once: whoever needs it gets a copy."""
    folder = Path(tempfile.mkdtemp(prefix="ui-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _climb(folder, name, {})
    return folder


def slow_task(folder: Path, *, delay_s: float, **task: Any) -> Path:
    """A task whose climb takes a while: so many seconds a call."""
    path = folder / "tasks" / "routing"
    return scripted_task(path, quality=MET, task={"ladder": ["prompting"], **task}, script={"delay_s": delay_s})


def change_task(path: Path, **keys: Any) -> None:
    """None takes a key away."""
    changed = {key: value for key, value in (yaml.safe_load(path.read_text()) | keys).items() if value is not None}
    path.write_text(yaml.safe_dump(changed, sort_keys=False))


def command(folder: Path, *arguments: str) -> Program:
    """`lastresort` in a process of its own, in this folder."""
    return Program(*arguments, cwd=folder, own_session=True)


@contextmanager
def served_page(folder: Path, port: int = 0) -> Iterator[tuple[str, Program]]:
    """The page as a process, and its link; it is ended afterwards."""
    process = command(folder, "ui", ".", "--port", str(port))
    link = process.first_line()
    try:
        assert link.startswith("http"), process.communicate()[1]
        yield link, process
    finally:
        end(process)


def end(process: Program, number: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        os.kill(process.pid, number)
        process.communicate(timeout=PATIENCE_S)


def until(seen: Callable[[], Any], what: str) -> Any:
    """What `seen` returns once it is true."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if found := seen():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


def events_of(client: TestClient, path: str) -> list[tuple[str, str]]:
    """Kind and data of every server-sent event, to the end of the stream."""
    found: list[tuple[str, str]] = []
    kind = ""
    for line in client.get(path).text.splitlines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            found.append((kind, value))
    return found


def row(**keys: Any) -> str:
    return json.dumps(keys) + "\n"


def item(name: str, score: float, answer: str, **keys: Any) -> ItemScore:
    """An answer to a message of this name."""
    made = ItemScore(name, score, answer, "spam", f"message {name}", "stop", True, 40, 2, 0.1, 0.0)
    return replace(made, **keys)


def recorded(run: Path, *measured: tuple[str, str, list[ItemScore]]) -> Path:
    """A record with these answers: (candidate, split, items) of the rung prompting."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with Record.create(run) as record:
        for candidate, split, items in measured:
            record.add_measurement(Measurement("prompting", candidate, split, len(items), tuple(items)))
    return run
