"""Ray clusters of the tests' own: small, without a dashboard, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SLOW_IN_PROC = [  # marks of a file of tests
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="finds processes in /proc"),
]
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
    with cluster_of_nodes(cpus) as (address, head, [node]):
        yield address, head, node


@contextmanager
def cluster_of_nodes(*cpus: int) -> Iterator[tuple[str, int, list[int]]]:
    """As `cluster`, with so many nodes, all on this machine. cpus: of each."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    port = 20000 + os.getpid() % 20000
    address = f"127.0.0.1:{port}"
    head_words = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
    nodes: list[int] = []
    mine: list[int] = []
    try:
        for number, count in enumerate(cpus):
            own = head_words if not number else [f"--address={address}"]
            start = [
                str(Path(sys.executable).parent / "ray"), "start", *own, f"--num-cpus={count}", "--num-gpus=0",
                "--object-store-memory=100000000", "--disable-usage-stats", "--node-ip-address=127.0.0.1",
            ]  # fmt: skip
            done = subprocess.run(
                start, capture_output=True, text=True, check=False, cwd="/", env={**os.environ, **OWN}
            )
            assert done.returncode == 0, done.stderr
            mine = [process for process, (_, words) in processes().items() if folder in words]
            raylets = [process for process in mine if "raylet/raylet" in processes()[process][1]]
            nodes += [process for process in raylets if process not in nodes]
        [head] = [process for process in mine if "gcs_server" in processes()[process][1]]
        assert len(nodes) == len(cpus)
        yield address, head, nodes
    finally:
        mine += [child for process in mine for child in below(process)]
        end(mine)
        shutil.rmtree(folder, ignore_errors=True)


def no_two_machines() -> str | None:
    """Why this machine cannot stand for two, None where it can."""
    if shutil.which("ip") is None:
        return "ip is missing"
    name = f"lr{os.getpid()}"
    if (made := ip("netns", "add", name)).returncode != 0:
        return f"network namespaces are not permitted ({made.stderr.strip()})"
    ip("netns", "del", name)
    return None


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """A network namespace: processes in it have an address and ports of their own."""

    namespace: str
    address: str

    def inside(self, words: Sequence[str]) -> list[str]:
        """The command that runs these words there."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def processes(self) -> list[int]:
        return [int(process) for process in ip("netns", "pids", self.namespace).stdout.split()]


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Joined by a cable. All that still runs there in the end is ended."""
    names = [f"lr{os.getpid()}{side}" for side in "ab"]
    first, second = (Machine(name, f"10.213.7.{number}") for number, name in enumerate(names, 1))
    try:
        for name in names:
            assert ip("netns", "add", name).returncode == 0
        ends = [f"v{name}" for name in names]
        assert ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1]).returncode == 0
        for machine, cable in zip((first, second), ends, strict=True):
            ip("link", "set", cable, "netns", machine.namespace)
            for own in (["addr", "add", f"{machine.address}/24", "dev", cable], ["link", "set", cable, "up"]):
                assert ip("-n", machine.namespace, *own).returncode == 0
            assert ip("-n", machine.namespace, "link", "set", "lo", "up").returncode == 0
        yield first, second
    finally:
        for machine in (first, second):
            end(machine.processes())
            eventually(lambda of=machine: not of.processes(), 10)  # type: ignore[misc]
            ip("netns", "del", machine.namespace)  # and the cable


@contextmanager
def cluster_of_two(first: Machine, second: Machine) -> Iterator[str]:
    """The address of its head, which is at the first machine. Each has one CPU."""
    folder, port = tempfile.mkdtemp(prefix="r", dir="/tmp"), 6379
    there = f"{first.address}:{port}"
    common = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000", "--disable-usage-stats"]
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
    try:
        for machine, own in ((first, head), (second, [f"--address={there}"])):
            ray = str(Path(sys.executable).parent / "ray")
            start = [ray, "start", *own, f"--node-ip-address={machine.address}", *common]
            known = {**os.environ, **OWN}
            done = subprocess.run(
                machine.inside(start), capture_output=True, text=True, check=False, cwd="/", env=known
            )
            assert done.returncode == 0, done.stderr
        yield there
    finally:
        for machine in (first, second):
            end(machine.processes())
        shutil.rmtree(folder, ignore_errors=True)
