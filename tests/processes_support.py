"""A script run by two processes that know of each other, as torchrun starts them, and what both said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Ended = tuple[int, str, str]
"""Exit code, stdout and stderr of a process."""


def started(arguments: list[str], count: int = 2, **environment: str) -> list[subprocess.Popen[str]]:
    """`python ARGUMENTS` in each of `count` processes, one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**known, "RANK": str(place), "LOCAL_RANK": str(place), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in range(count)
    ]


def ended(processes: list[subprocess.Popen[str]], timeout_s: float = 120) -> list[Ended]:
    """Wait for all of them, reading all at once, since one that cannot write waits. One that hangs is killed and fails the test."""
    with ThreadPoolExecutor(len(processes)) as readers:
        try:
            told = list(readers.map(lambda process: process.communicate(timeout=timeout_s), processes))
        finally:
            for process in processes:
                process.kill()
    return [(process.returncode, *texts) for process, texts in zip(processes, told, strict=True)]
