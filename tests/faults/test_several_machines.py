"""One training in processes on several machines of a real Ray cluster is that of one process, also when a machine is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_climb_processes import OURS, SFT, AtStep, processes_of, same_training, steps_seen, task

from lastresort.app.climb import climb
from lastresort.climb.laps import ClimbWorkers
from lastresort.errors import InfrastructureError
from lastresort.records.events.training import LapTrained
from lastresort.records.record import Record
from lastresort.scale.cluster import WorkerRoom, ray_cluster
from lastresort.scale.machines import RayMachines
from lastresort.spec.task import load_task
from ray_support import (
    OWN,
    SLOW_IN_PROC,
    below,
    cluster_of_nodes,
    cluster_of_two,
    end,
    eventually,
    no_two_machines,
    processes,
    two_machines,
)
from tuning_support import climbed

pytestmark = SLOW_IN_PROC


@pytest.fixture(autouse=True)
def in_float32() -> Iterator[None]:
    """In 16 bits the order of sums would show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.models.loading.processor_computes_bfloat16", lambda: False)
        for name, value in {**OWN, "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        yield


class LosesANode(AtStep):
    def __init__(self, run: Path, step: int, nodes: list[int]) -> None:
        super().__init__(run, step)
        self._nodes = nodes
        self.at_work: list[int] = []

    def act(self) -> None:
        self.at_work = [len(below(node, OURS)) for node in self._nodes]
        end([self._nodes[1], *below(self._nodes[1])])


def test_two_processes_on_two_nodes_train_what_one_trains_and_a_lost_node_leaves_a_run_that_goes_on_in_one(
    tmp_path: Path,
) -> None:
    own: dict[str, Any] = {"ladder": ["sft"]}
    whole = climbed(task(tmp_path / "alone", 1, **own), tmp_path / "alone" / "run")
    run = tmp_path / "run"
    with cluster_of_nodes(1, 1) as (address, _, nodes), ray_cluster(address) as ray:
        machines = RayMachines(ray, WorkerRoom(1), {"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
        workers = ClimbWorkers(lambda bench: bench.local_executor(), machines=machines)
        loses = LosesANode(run, 6, nodes)  # after a checkpoint
        lost = r"the machine \S+, which had process [12] of 2 that train together, is lost \("
        with pytest.raises(InfrastructureError, match=lost):
            climb(load_task(task(tmp_path, 2, **own)), run, gate="none", progress=loses, workers=workers)
        assert loses.at_work == [1, 1]
        assert eventually(lambda: not below(nodes[0], OURS), 20)
    seen = steps_seen(run)
    climbed(task(tmp_path, 1, **own), run)
    assert 6 <= seen < steps_seen(run)
    assert {1, 2} == set(processes_of(run))
    same_training(run, whole.run, "sft")


@pytest.mark.release
def test_no_process_on_any_machine_outlives_the_command(tmp_path: Path) -> None:
    path, run = task(tmp_path, 2, ladder=["sft"], sft={**SFT, "epochs": 400}), tmp_path / "run"
    with cluster_of_nodes(1, 1) as (address, _, nodes):
        words = ["climb", str(path), "--run", str(run), "--gate", "none", "--yes", "--ray", address]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [sys.executable, "-m", "lastresort", *words], stdout=pipe, stderr=pipe, text=True
        ) as driver:
            assert eventually(lambda: all_steps(run) > 2 or driver.poll() is not None, 300)
            assert driver.poll() is None, driver.communicate()[1]
            assert [len(below(node, OURS)) for node in nodes] == [1, 1]
            driver.kill()
            driver.communicate(timeout=60)
        assert eventually(lambda: not any(below(node, OURS) for node in nodes), 20)


def all_steps(run: Path) -> int:
    if not (run / "record.sqlite").is_file():
        return 0
    with Record.open(run, read_only=True) as record:
        return sum(map(len, record.curves().values()))


@pytest.mark.release
def test_a_machine_of_its_own_address_trains_with_the_driver_and_is_lost_in_the_middle(tmp_path: Path) -> None:
    """Each machine reaches the other over their cable alone."""
    if why := no_two_machines():
        pytest.skip(why)
    own: dict[str, Any] = {"ladder": ["sft"], "sft": {**SFT, "learning_rates": [0.001, 0.003], "epochs": 8}}
    whole = climbed(task(tmp_path / "alone", 1, **own), tmp_path / "alone" / "run")
    path, run = task(tmp_path / "ray", 2, **own), tmp_path / "ray" / "run"
    python = [sys.executable, "-P", "-m", "lastresort", "climb", str(path), "--gate", "none", "--yes"]
    goes_on = ("--run", str(run), "--resume")
    pipe = subprocess.PIPE
    with two_machines() as (first, second), cluster_of_two(first, second) as there:

        def started(*words: str) -> subprocess.Popen[str]:
            command = first.inside([*python, "--ray", there, *words])
            return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

        def trains(machine: Any) -> bool:
            known = processes()
            return any(OURS in known[one][1] for one in machine.processes() if one in known)

        program = started("--run", str(run))
        assert eventually(lambda: all_steps(run) > 2 or program.poll() is not None, 300)
        assert program.poll() is None, program.communicate()[1]
        assert trains(first)
        assert trains(second)
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=120)
        assert program.returncode == 4, said
        assert "a signal asked to stop, in step" in said
        assert "This process trains, with the processes of a training run on 2 machines." in said
        assert eventually(lambda: not trains(first) and not trains(second), 20)
        program, before = started(*goes_on), all_steps(run)
        assert eventually(lambda: all_steps(run) > before + 2 or program.poll() is not None, 300)
        assert program.poll() is None, program.communicate()[1]
        end(second.processes())
        _, said = program.communicate(timeout=180)
        assert program.returncode == 4, said
        assert re.search(r"the machine \S+, which had process 2 of 2 that train together, is lost \(", said)
        assert "Go on with --resume." in said
        assert eventually(lambda: not trains(first), 20)
    alone = [*python, *goes_on, "--set", "tune.processes=1"]
    done = subprocess.run(alone, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert {1} <= set(processes_of(run)) <= {1, 2}
    with Record.open(whole.run, read_only=True) as here, Record.open(run, read_only=True) as other:
        losses = [{lap.name: lap.dev_loss for lap in record.all(LapTrained)} for record in (here, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # the cluster computes in the precision of this machine
