"""Climbs on real Ray clusters: workers are killed, heads are lost, climbs are stopped, and each decides as it would have alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from climb_support import calls, comparable, scripted_task
from endpoint_support import serving
from ray_support import OWN, answering, below, cluster, end, eventually, processes
from tiny_model import save_tiny_model

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="finds processes in /proc")
QUALITY = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]
SLOW = {"delay_s": 0.01}  # so that a batch takes long enough to be cut


def started(task: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "lastresort",
        "climb",
        str(task),
        "--run",
        str(task.parent / "run"),
        "--gate",
        "none",
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, "--json", *arguments], stdout=pipe, stderr=pipe, text=True, env={**os.environ, **OWN}
    )


def ended(climb: subprocess.Popen[str], code: int = 0) -> tuple[dict[str, Any], str]:
    """Its decision, empty without one, and what it said."""
    out, said = climb.communicate(timeout=240)
    assert climb.returncode == code, said
    return (comparable(json.loads(out)) if code == 0 else {}), said


def asked(folder: Path) -> Counter[str]:
    return Counter(call["key"] for call in calls(folder))


def worker_killed(climb: subprocess.Popen[str]) -> None:
    """Once the climb has a worker that is at a batch."""
    assert eventually(lambda: answering(climb.pid) or climb.poll() is not None)
    end(answering(climb.pid)[:1])


def test_a_worker_killed_at_its_batch_changes_nothing_but_that_batch(tmp_path: Path) -> None:
    alone, _ = ended(started(scripted_task(tmp_path / "alone", quality=QUALITY)))
    climb = started(scripted_task(tmp_path / "ray", quality=QUALITY, script=SLOW), "--ray", "local")
    worker_killed(climb)
    helpers = set(below(climb.pid))
    found, said = ended(climb)
    assert found == alone
    assert "A worker was lost" in said
    assert "up to 2 workers with 1 CPU each" in said or (os.cpu_count() or 1) != 2
    again = asked(tmp_path / "ray") - asked(tmp_path / "alone")
    assert asked(tmp_path / "alone") - asked(tmp_path / "ray") == Counter()
    assert sum(again.values()) <= 64, "at most the killed batch"
    assert eventually(lambda: not processes().keys() & helpers)


@pytest.mark.slow
def test_weights_decide_the_same_to_the_digit_also_when_a_worker_is_killed(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    task = {"model": str(model), "ladder": ["prompting"]}
    alone, _ = ended(started(scripted_task(tmp_path / "alone", quality=[], task=task)))
    climb = started(scripted_task(tmp_path / "ray", quality=[], task=task), "--ray", "local")
    worker_killed(climb)
    assert ended(climb)[0] == alone


@pytest.mark.slow
def test_an_endpoint_is_asked_by_workers_and_as_often(tmp_path: Path) -> None:
    found = []
    for name, arguments in (("alone", ()), ("ray", ("--ray", "local"))):
        with serving() as server:
            task = {"model": server.name, "ladder": ["prompting"]}
            decision, _ = ended(started(scripted_task(tmp_path / name, quality=[], task=task), *arguments))
            found.append((decision["rungs"], len(server.requests)))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("then", [(), ("--ray", "local")])
def test_a_lost_head_leaves_a_run_that_resumes_with_ray_or_without(then: tuple[str, ...], tmp_path: Path) -> None:
    alone, _ = ended(started(scripted_task(tmp_path / "alone", quality=QUALITY)))
    task = scripted_task(tmp_path / "ray", quality=QUALITY, script=SLOW)
    with cluster() as (address, head, node):
        climb = started(task, "--ray", address)
        assert eventually(lambda: answering(node) or climb.poll() is not None, 120)
        end([head, node])
        _, said = ended(climb, 4)
    assert "the head of the cluster is lost" in said
    assert "Go on with --resume, with --ray or without." in said
    assert ended(started(task, "--resume", *then))[0] == alone


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_climb_that_is_stopped_leaves_no_worker_and_resumes(number: signal.Signals, tmp_path: Path) -> None:
    alone, _ = ended(started(scripted_task(tmp_path / "alone", quality=QUALITY)))
    task = scripted_task(tmp_path / "ray", quality=QUALITY, script=SLOW)
    climb = started(task, "--ray", "local")
    assert eventually(lambda: answering(climb.pid) or climb.poll() is not None)
    helpers, workers = set(below(climb.pid)), set(below(climb.pid, "ray::RayActor"))
    climb.send_signal(number)
    ended(climb, {signal.SIGTERM: 4, signal.SIGINT: 130, signal.SIGKILL: -9}[number])
    awaited = workers if number == signal.SIGKILL else helpers  # Ray's own agents take minutes to see that all is over
    assert eventually(lambda: not processes().keys() & awaited)
    end([*processes().keys() & helpers])
    assert ended(started(task, "--resume"))[0] == alone


@pytest.mark.slow
def test_where_no_cluster_is_one_sentence_says_so(tmp_path: Path) -> None:
    task = scripted_task(tmp_path, quality=QUALITY)
    for address, words in (("127.0.0.1:1", "nobody answers there"), ("auto", "no Ray cluster runs on this machine")):
        _, said = ended(started(task, "--ray", address), 3)
        assert f"--ray {address}: " in said
        assert words in said
        assert "ray start --head" in said
        assert not (tmp_path / "run").exists()
