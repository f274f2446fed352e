"""What the page costs: `python -m benchmarks.page RUN [--runs 100] [--items 100000] [--seconds 30]` prints one JSON line.

RUN: a finished run, copied to be listed and to be followed. Seconds of the list and of a page of items, the first time and again;
the share of a core that the page takes for a browser that follows a run, while its record changes twice a second and while it does
not, from SETTLED_S after the start: by then the page has checked the records that it lists.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
from starlette.testclient import TestClient

from lastresort.records.atomic import held
from lastresort.records.events.base import Stage
from lastresort.records.measurement import ItemScore, Measurement
from lastresort.records.record import Record
from lastresort.ui.site import Site, create_site
from lastresort.ui.workspace import Workspace

AGAIN = 5
SETTLED_S = 10.0
ITEM = ItemScore(
    "", 1.0, "an answer of some words", "spam", "a message of some more words", "stop", True, 40, 2, 0.1, 0.0
)
PARTS = {"now": "now", "found": "body", "over": "now"}  # what a browser asks for after each event


def seconds_of(folder: Path, address: str) -> tuple[float, float]:
    """Of the first request to a page that has just started, and the best of a few more."""
    site = Site(Workspace(folder, checks_later=True))  # as `lastresort ui` has it, without its head start
    client, spent = TestClient(create_site(site)), list[float]()
    for _ in range(1 + AGAIN):
        began = time.perf_counter()
        assert client.get(address).status_code == 200
        spent.append(time.perf_counter() - began)
    return spent[0], min(spent[1:])


def with_items(folder: Path, count: int) -> None:
    run = folder / "runs" / "items-1"
    run.mkdir(parents=True)
    with Record.create(run) as record:
        items = tuple(replace(ITEM, id=f"e{number}") for number in range(count))
        record.add_measurement(Measurement("prompting", "zero-shot", "dev", count, items))


@contextmanager
def at_work(run: Path, every_s: float) -> Iterator[None]:
    """A run at work, as its record says. every_s: after how long another item is done."""
    over = threading.Event()

    def work() -> None:
        with Record.open(run) as record:
            done = 0
            while not over.wait(every_s if done else 0.0):
                done += 1
                record.now(Stage(label="testing", done=done, total=10_000))

    thread = threading.Thread(target=work)
    with held(run, "somebody works on it", expected="nobody", remedy="Wait."):
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def followed_share(folder: Path, run: str, seconds: float, every_s: float) -> float:
    """Of a core, by the process of the page, for one browser that follows the run. every_s: see `at_work`."""
    command = [sys.executable, "-m", "lastresort", "ui", str(folder), "--port", "0"]
    with at_work(folder / "runs" / run, every_s), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        link = f"{page.stdout.readline().strip()}runs/{run}"
        try:
            with httpx.Client(timeout=30) as client, client.stream("GET", f"{link}/live") as stream:
                process, before, began_s = psutil.Process(page.pid), None, time.monotonic() + SETTLED_S
                for line in stream.iter_lines():
                    kind = line.partition("event: ")[2]
                    if kind in PARTS:
                        assert client.get(f"{link}/{PARTS[kind]}").status_code == 200
                    now_s = time.monotonic()
                    if before is None and kind and now_s > began_s:
                        before, began_s = sum(process.cpu_times()[:2]), now_s
                    if before is not None and now_s > began_s + seconds:
                        return (sum(process.cpu_times()[:2]) - before) / (now_s - began_s)
        finally:
            page.terminate()
    raise SystemExit("the page stopped following the run")


def main(run: Path, runs: int, items: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(1, runs + 1):
            shutil.copytree(run, folder / "listed" / "runs" / f"run-{number}")
        with_items(folder / "items", items)
        listed, listed_again = seconds_of(folder / "listed", "/")
        shown, shown_again = seconds_of(folder / "items", "/runs/items-1/items")
        busy, idle = (followed_share(folder / "listed", "run-1", seconds, every_s) for every_s in (0.5, 3600.0))
    return {
        "runs": runs, "list_first_s": listed, "list_s": listed_again,
        "items": items, "items_first_s": shown, "items_s": shown_again,
        "followed_share_of_a_core": busy, "followed_idle_share_of_a_core": idle,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    print(json.dumps(main(given.run, given.runs, given.items, given.seconds)))
