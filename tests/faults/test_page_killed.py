"""The page killed with SIGKILL: the run that it started goes on, whatever else it started ends, and the next page opens."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from climb_support import comparable, scripted_task
from lastresort.app.climb import climb
from lastresort.records.atomic import is_held
from lastresort.spec.task import load_task
from ui_support import MET, finished_run, served_page, until


def asked(address: str, body: bytes | None = None, **headers: str) -> str:
    with urlopen(Request(address, body, headers), timeout=60) as answer:
        found: str = answer.read().decode()
        return found


def children(process: int) -> dict[int, str]:
    """The processes that it started, by their command lines."""
    found = {}
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        for pid in map(int, listed.read_text().split()):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def has_ended(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_run_goes_on_and_nothing_else_does(tmp_path: Path) -> None:
    finished_run(tmp_path)
    task = scripted_task(
        tmp_path / "tasks" / "slow",
        quality=MET,
        task={"task": "slow", "about": "Which team is it?", "ladder": ["prompting"]},
    )
    undisturbed = climb(load_task(task), tmp_path / "elsewhere" / "slow-1").decision.as_json()
    script = task.parent / "script.json"
    script.write_text(json.dumps(json.loads(script.read_text()) | {"delay_s": 0.04}))
    run = tmp_path / "runs" / "slow-1"
    with served_page(tmp_path) as (link, page):
        found = re.search(r'"x-csrf": "([^"]+)"', asked(link))
        assert found is not None
        own = {"x-csrf": found[1], "hx-request": "true"}
        asked(f"{link}runs/routing-1/talk/open", b"", **own)
        asked(f"{link}new/slow/start", b"", **own)
        until(lambda: is_held(run), "the run is at work")
        started = children(page.pid)
        (at_work,) = (pid for pid, words in started.items() if " climb " in words)
        (talking,) = (pid for pid, words in started.items() if " serve " in words)
        os.kill(page.pid, signal.SIGKILL)
        page.communicate(timeout=60)
        until(lambda: has_ended(talking), "the model that the page opened has ended")
        assert not has_ended(at_work)
    with served_page(tmp_path) as (link, _):
        asked(f"{link}runs/slow-1")
        until(lambda: has_ended(at_work), "the run has ended")
        assert "finished" in asked(f"{link}runs/slow-1")
    assert comparable(json.loads((run / "decision.json").read_text("utf-8"))) == comparable(undisturbed)
    assert not is_held(run)
    assert not list(tmp_path.rglob("*.new"))
