"""Ray clusters of the tests' own: small, without a dashboard, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OWN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of all that run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if state != "Z":
                    found[int(entry.name)] = (int(parent), words)
    return found


def below(root: int, word: str = "") -> list[int]:
    """The processes that this one started, and those that they started, with this word in their command line."""
    known, found, waiting = processes(), list[int](), [root]
    while waiting:
        parent = waiting.pop()
        children = [process for process, (of, _) in known.items() if of == parent]
        waiting += children
        found += [process for process in children if word in known[process][1]]
    return found


def answering(root: int) -> list[int]:
    """Workers below this process that are at a batch."""
    return below(root, "ray::RayActor.answer")


def eventually(holds: Callable[[], object], within_s: float = 60.0) -> bool:
    end = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def end(found: list[int]) -> None:
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@contextmanager
def cluster(cpus: int = 2) -> Iterator[tuple[str, int, int]]:
    """A head of its own, started elsewhere: its address, its process, and that of its node, whose children are the workers."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    port = 20000 + os.getpid() % 20000
    start = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", f"--port={port}", f"--num-cpus={cpus}", "--num-gpus=0",
        "--object-store-memory=100000000", "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}",
        "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    mine: list[int] = []
    try:
        done = subprocess.run(start, capture_output=True, text=True, check=False, cwd="/", env={**os.environ, **OWN})
        assert done.returncode == 0, done.stderr
        mine = [process for process, (_, words) in processes().items() if folder in words]
        [head] = [process for process in mine if "gcs_server" in processes()[process][1]]
        [node] = [process for process in mine if "raylet/raylet" in processes()[process][1]]
        yield f"127.0.0.1:{port}", head, node
    finally:
        mine += [child for process in mine for child in below(process)]
        end(mine)
        shutil.rmtree(folder, ignore_errors=True)
