"""Measure a climb with a Ray cluster: connect, say what the workers are, and end what was started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lastresort.app.climb import MakeExecutor
from lastresort.app.runtime import SETTINGS
from lastresort.evals.measure import Executor
from lastresort.hardware.plan.memory import CACHE_BYTES
from lastresort.hardware.threads import SET_BY_USER
from lastresort.models.open import parameter_count
from lastresort.models.protocol import is_endpoint
from lastresort.report.words.progress import workers_line
from lastresort.rungs.rung import Workbench
from lastresort.scale.cluster import RayWorkers, WorkerRoom, ray_cluster
from lastresort.scale.crew import Crew
from lastresort.scale.executor import CrewExecutor
from lastresort.spec.task import Task


@contextmanager
def measured_on_ray(address: str | None) -> Iterator[MakeExecutor | None]:
    """How a climb measures on the cluster at this address; None for this process alone. Raises as `ray_cluster` does."""
    if address is None:
        yield None
        return
    with ray_cluster(address) as ray:

        def make(bench: Workbench) -> Executor:
            settings = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}
            workers = RayWorkers(ray, room_of(bench.task), settings, os.environ)
            bench.progress.say(workers_line(workers.capacity(), workers.needs, address))
            crew = Crew(workers, bench.progress.say)
            return CrewExecutor(bench.local_executor(), bench.models, crew, bench.models.on_lost, os.environ)

        yield make


def room_of(task: Task) -> WorkerRoom:
    """What a worker needs for the models of the task: a card where the driver computes on one, and memory for the largest.

    Threads: as many as the user has set, else one, as several workers on one thread each answer most.
    """
    threads = next((int(os.environ[name]) for name in SET_BY_USER if os.environ.get(name, "").isdigit()), 1)
    local = [name for name in (task.model, task.tuned_model) if not is_endpoint(name)]
    if not local:
        return WorkerRoom(threads)
    from lastresort.models.loading import chosen_device, chosen_dtype

    device = chosen_device()
    size = chosen_dtype("auto", device).itemsize
    sizes = [count * size for name in local if (count := parameter_count(name, task.folder)) is not None]
    if device.type == "cuda":
        return WorkerRoom(threads, cards=1, memory_bytes=max(sizes, default=0))
    return WorkerRoom(threads, memory_bytes=max(sizes) + CACHE_BYTES if sizes else 0)
