"""Answers and trainings from a Ray cluster, for all commands with --ray: connect, say what workers are, end what was started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lastresort.app.runtime import SETTINGS
from lastresort.climb.laps import ClimbWorkers, StartTrainers
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.workload import planned_rung, workload
from lastresort.errors import ContractError, InputError, PrerequisiteError
from lastresort.evals.measure import Executor
from lastresort.hardware.environment import cores
from lastresort.hardware.plan.fit import PlannedTraining, gib
from lastresort.hardware.plan.memory import CACHE_BYTES
from lastresort.hardware.threads import SET_BY_USER
from lastresort.ladder import trains
from lastresort.models.open import ModelOpening, parameter_count
from lastresort.models.protocol import is_endpoint
from lastresort.report.words.progress import (
    crew_line,
    laps_here_line,
    no_card_line,
    no_workers_line,
    training_workers_line,
    trains_here_line,
    workers_line,
)
from lastresort.report.words.wording import capital
from lastresort.rungs.divided import card_count, divide, refuse_more_than_cards
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.rung import MakeExecutor, Workbench
from lastresort.scale.cluster import LOCAL, Connect, RayWorkers, WorkerRoom, ray_cluster
from lastresort.scale.crew import BATCHES, TRAININGS, Crew, CrewNote, JobKind, Workers
from lastresort.scale.executor import CrewExecutor
from lastresort.scale.machines import RayMachines
from lastresort.scale.work import is_loaded
from lastresort.spec.task import Task
from lastresort.stop import Stop
from lastresort.study.at_workers import StudyWorkers
from lastresort.train.loop.spawn import Machines, Places
from lastresort.train.loop.spawned import SpawnedTraining
from lastresort.types import SILENT, Progress

OF_THIS_MACHINE = ("LASTRESORT_CACHE", "HF_ENDPOINT")  # where weights lie, or come from


@contextmanager
def climb_on_ray(address: str | None, prepared: PreparedTask, progress: Progress) -> Iterator[ClimbWorkers | None]:
    """The workers of a climb on the cluster at this address; None for this process alone. Raises as `ray_cluster` does."""
    if address is None:
        yield None
        return
    with _connected(address, loaded_models(prepared.task), progress) as cluster:
        if cluster is None:
            yield None
        else:
            yield ClimbWorkers(_measured_at(cluster), _laps_at(cluster, prepared), cluster.machines)


@contextmanager
def study_on_ray(
    address: str | None, task: Task, prepared: PreparedTask, progress: Progress, connect: Connect | None = None
) -> Iterator[StudyWorkers | None]:
    """The workers of a study on the cluster at this address; None for this process alone. task: with the ladder of the study.
    connect: None to a cluster of its own.

    Raises as `refuse_study_on_ray` and `ray_cluster` do.
    """
    if address is None:
        yield None
        return
    refuse_study_on_ray(task, prepared, progress)
    with _connected(address, loaded_models(task), progress, connect) as cluster:
        if cluster is None:
            yield None
            return

        worker_room = training_room(task, task.ladder[-1], prepared, cluster.room, progress)
        crews = _StudyCrews(cluster, worker_room)
        refuse_more_than_cards(task, cluster.machines)
        is_local = cluster.address == LOCAL  # which never grows
        taken = _taken(cluster, worker_room)
        if (is_local or taken > 1) and not crews.training.capacity():
            needs = crews.training.needs
            progress.say(trains_here_line(needs) if is_local else laps_here_line(needs, cluster.address, taken))
            yield StudyWorkers(_measured_at(cluster), None, cluster.machines)
            return
        try:
            yield StudyWorkers(crews.measured, crews.trainers, cluster.machines)
        finally:
            crews.end()


class _StudyCrews:
    """The workers that answer the prompts of a study, and those that train afterwards. They are the same where as many can train as
    can answer, so that no others have to start. worker_room: of a training.
    """

    def __init__(self, cluster: _Cluster, worker_room: WorkerRoom) -> None:
        self._cluster, self._worker_room = cluster, worker_room
        self.training = cluster.workers(worker_room)
        self._shared: Crew | None = None

    def measured(self, bench: Workbench) -> Executor:
        answering = self._cluster.answering(bench.progress)
        if self._worker_room.processes > 1 or self.training.capacity() < answering.capacity():
            return measured_by(answering, bench, bench.models)
        self._shared = Crew(self.training, lines_to(bench.progress.say))
        return CrewExecutor(bench.local_executor(), bench.models, self._shared)

    def trainers(self, progress: Progress) -> Crew:
        workers, threads = self.training, _forecast_threads(self._worker_room)
        progress.say(training_workers_line(workers.capacity(), workers.needs, self._cluster.address, threads))
        if self._shared is None:
            return _trainers(workers, progress)
        self._shared.turn_to(TRAININGS)
        return self._shared

    def end(self) -> None:
        if self._shared is not None:
            self._shared.end()


def _taken(cluster: _Cluster, worker_room: WorkerRoom) -> int:
    """How many machines the processes of a training take."""
    return 1 if cluster.machines is None else cluster.machines.taken_by(worker_room.processes) or 1


class NotConnected:
    """The machines of a cluster before anything connects to it: whether it has enough of them is checked once it is."""

    def taken_by(self, count: int) -> int | None:
        return 1

    def start(self, count: int, job: SpawnedTraining, stop: Stop, progress: Progress) -> Places:
        raise ContractError("a cluster that nothing is connected to starts nothing", where="--ray")


def machines_of(address: str | None) -> Machines | None:
    """Of the cluster that a command names, before it connects. None where this machine is all there is."""
    return None if address in (None, LOCAL) else NotConnected()


def refuse_study_on_ray(task: Task, prepared: PreparedTask, progress: Progress) -> None:
    """Before Ray starts. progress: shows what is timed. Raises PrerequisiteError where a worker has one card and that cannot hold
    the training of the study.
    """
    training_room(task, task.ladder[-1], prepared, room_of(loaded_models(task), os.environ), progress)


def _laps_at(cluster: _Cluster, prepared: PreparedTask) -> StartTrainers:
    """A cluster with room for fewer than two trainings gets none: this process is as quick. So it is where one card cannot hold
    one, whatever this process then does about it.
    """
    said_lines = set[str]()

    def start(rung: str, progress: Progress) -> Crew | None:
        line, workers = laps_of(rung)
        if line not in said_lines:
            said_lines.add(line)
            progress.say(line)
        return None if workers is None else _trainers(workers, progress)

    def laps_of(rung: str) -> tuple[str, Workers | None]:
        try:
            worker_room = training_room(prepared.task, rung, prepared, cluster.room)
        except PrerequisiteError as error:
            return no_card_line(cluster.address, error.found), None
        workers = cluster.workers(worker_room)
        room = workers.capacity()
        if room < 2:
            return laps_here_line(workers.needs, cluster.address, _taken(cluster, worker_room)), None
        threads = _forecast_threads(worker_room)
        return training_workers_line(room, workers.needs, cluster.address, threads), workers

    return start


def _forecast_threads(worker_room: WorkerRoom) -> int | None:
    """How many threads a forecast of one process counts, where a worker that trains has fewer."""
    is_set = any(os.environ.get(name) for name in SET_BY_USER)  # then both have as many
    return cores() if not worker_room.cards and not is_set and worker_room.threads < cores() else None


def _trainers(workers: Workers, progress: Progress) -> Crew:
    return Crew(workers, lines_to(progress.say), kind=TRAININGS)


@contextmanager
def crew_on_ray(
    address: str,
    progress: Progress,
    models: Sequence[ModelOpening],
    *,
    kind: JobKind = BATCHES,
    connect: Connect | None = None,
) -> Iterator[Crew | None]:
    """Workers on the cluster at this address that answer for these models; None without a model. connect: None to a cluster of its
    own. Raises as `ray_cluster` does.
    """
    with _connected(address, models, progress, connect) as cluster:
        if cluster is None:
            yield None
            return
        crew = Crew(cluster.answering(progress), lines_to(progress.say), kind=kind)
        try:
            yield crew
            crew.release()  # what follows, a study say, needs the memory
        finally:
            crew.end()


@dataclass(frozen=True, slots=True)
class _Cluster:
    """room: what a worker needs to answer with any of the models that workers load. machines: on which one training may have its
    processes, None where this one is all there is.
    """

    ray: Any
    address: str
    room: WorkerRoom
    machines: Machines | None = None

    def workers(self, room: WorkerRoom) -> Workers:
        settings = _settings_of_workers(self.address)
        return RayWorkers(self.ray, room, settings, driver_bytes=self.room.memory_bytes if self.address == LOCAL else 0)

    def answering(self, progress: Progress) -> Workers:
        """Those that answer; it is said what they are."""
        workers = self.workers(self.room)
        progress.say(workers_line(workers.capacity(), workers.needs, self.address))
        return workers


def _measured_at(cluster: _Cluster) -> MakeExecutor:
    return lambda bench: measured_by(cluster.answering(bench.progress), bench, bench.models)


@contextmanager
def _connected(
    address: str, models: Sequence[ModelOpening], progress: Progress, connect: Connect | None = None
) -> Iterator[_Cluster | None]:
    """With room for these models; None without one."""
    if not models:
        progress.say(no_workers_line())
        yield None
        return
    room = room_of(models, os.environ, most_threads=cores() if address == LOCAL else None)
    with (connect or ray_cluster)(address) as ray:
        machines = None if address == LOCAL else RayMachines(ray, room, _settings_of_workers(address))
        yield _Cluster(ray, address, room, machines)


def _settings_of_workers(address: str) -> dict[str, str]:
    settings = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}
    if address == LOCAL:
        settings |= {name: os.environ[name] for name in OF_THIS_MACHINE if name in os.environ}
    return settings


def measured_by(workers: Workers, bench: Workbench, models: OpenModels) -> Executor:
    """Measures with these workers. They end with the driver's own models: what follows then, a training say, needs the memory."""
    crew = Crew(workers, lines_to(bench.progress.say))
    models.on_close(crew.release)
    return CrewExecutor(bench.local_executor(), models, crew)


def lines_to(say: Callable[[str], None]) -> Callable[[CrewNote], None]:
    """Says what a user hears of workers."""
    return lambda note: say(crew_line(note))


def loaded_models(task: Task) -> list[ModelOpening]:
    """Those that the task's systems answer with and workers can load."""
    prices = {task.model: (task.use.prompt_price or 0.0, task.use.output_price or 0.0)}
    if any(map(trains, task.ladder)):
        prices.setdefault(task.tuned_model, (0.0, 0.0))
    return [ModelOpening(name, task.folder) for name, price in prices.items() if is_loaded(name, price)]


def training_room(
    task: Task, rung: str, prepared: PreparedTask, answering: WorkerRoom, progress: Progress = SILENT
) -> WorkerRoom:
    """What a worker needs to train this rung and to answer with what it trained. answering: for the answers alone. progress: shows
    what is timed.

    Cards are held whole, one by each process of a training; on CPUs the memory is what the plan says, with a worker's own copy next
    to several processes. Raises PrerequisiteError where as many cards as a worker has cannot hold it.
    """
    planned = planned_rung(task, rung, workload(prepared, rung, progress))
    division = divide(task.tune.processes, planned, card_count() if answering.cards else 0)
    count = division.count
    room = replace(answering, processes=count, cards=count if answering.cards else 0)
    if planned is None:
        return room
    if answering.cards:
        if not division.sharded:
            _refuse_more_than_a_card(planned)
        return room
    loaded_bytes = planned.loaded_bytes if count > 1 else 0
    return replace(room, memory_bytes=max(room.memory_bytes, count * planned.needed_bytes + loaded_bytes))


def _refuse_more_than_a_card(planned: PlannedTraining) -> None:
    """By a process, which has one card. No pass size changes the least that a training takes."""
    least, there = planned.least_bytes, planned.cards.card.memory_bytes
    if least > there:
        smaller = "" if planned.setup.method == "qlora" else "set tune.method to qlora, "
        raise PrerequisiteError(
            f"weights, gradients and the optimizer's state take {gib(least)}, and the GPU here has {gib(there)}",
            where="--ray",
            expected="a training that fits one GPU or is divided over several by tune.processes",
            remedy=capital(
                f"{smaller}name a smaller model, or set tune.processes to auto on a machine of several GPUs."
            ),
        )


def room_of(
    models: Sequence[ModelOpening], environment: Mapping[str, str], *, most_threads: int | None = None
) -> WorkerRoom:
    """What a worker needs for any of these models: a card where the driver computes on one, and memory for the largest.

    Threads: as many as the user has set, else one, as several workers on one thread each answer most. most_threads: that there is
    room for, None if unknown. Raises InputError for other numbers.
    """
    threads = 1
    name = next((name for name in SET_BY_USER if environment.get(name, "").isdigit()), None)
    if name is not None:
        threads = int(environment[name])
        if threads < 1 or (most_threads is not None and threads > most_threads):
            raise InputError(
                f"found {threads}",
                where=name,
                expected="1 or more" if most_threads is None else f"1 to {most_threads}, the cores of this machine",
                remedy="Set it to the number of threads of each worker, such as 1.",
            )
    weights = [one for one in models if not is_endpoint(one.name)]
    if not weights:
        return WorkerRoom(threads)
    from lastresort.models.loading import chosen_device, chosen_dtype

    device = chosen_device()
    sizes = [
        count * chosen_dtype(one.precision, device).itemsize
        for one in weights
        if (count := parameter_count(one.name, one.base_folder)) is not None
    ]
    if device.type == "cuda":
        return WorkerRoom(threads, cards=1, memory_bytes=max(sizes, default=0))
    return WorkerRoom(threads, memory_bytes=max(sizes) + CACHE_BYTES if sizes else 0)
