"""One training on several machines of a cluster: on each, an actor starts the processes of its machine, as this process does where
they are on one, and carries what is said to them and what they say.

The actors hold their part of the machines only while a training is under way: those that answer come next.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lastresort.errors import InfrastructureError, PrerequisiteError
from lastresort.records.atomic import disk_errors
from lastresort.rungs.divided import card_count
from lastresort.scale.cluster import (
    ClusterHead,
    WorkerRoom,
    answers,
    cause_of,
    lost_reason,
    see_own_cards,
    worker_environment,
)
from lastresort.scale.crew import LOOK_S, PATIENCE_S, REMEDY
from lastresort.scale.work import (
    AnsweringWorker,
    WorkerFacts,
    new_proof,
    refuse_another_disk,
    refuse_unlike,
    remove_proofs,
)
from lastresort.stop import Stop, check
from lastresort.train.loop.spawn import OTHERS_S, LocalPlaces, Meeting, PlaceEnd, Places, training_environment
from lastresort.train.loop.spawned import SpawnedTraining
from lastresort.types import Progress

EXCHANGE_S = 0.5  # that an actor waits for news, and a request to stop for the actor
END_S = 5.0  # for the processes of a machine to end
SILENCE_S = 60.0  # until Ray says at the latest that a machine is gone
_ADDRESS_OF = 0x8915  # SIOCGIFADDR of Linux


def interface_of(address: str) -> str | None:
    """The interface of this machine that has this IPv4 address, None where that is not known."""
    if sys.platform != "linux":
        return None
    import fcntl

    for _, name in socket.if_nameindex():
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            found = fcntl.ioctl(any_socket.fileno(), _ADDRESS_OF, struct.pack("256s", name.encode()))
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None


class MachineActor:
    """The processes of one machine, within Ray. cards: whether they compute on those that Ray gave it; otherwise they see none."""

    def __init__(self, cards: bool) -> None:
        see_own_cards(cards)
        self._places: LocalPlaces | None = None

    def about(self) -> tuple[WorkerFacts, str]:
        """And its node of the cluster."""
        import ray

        return AnsweringWorker().about(), ray.get_runtime_context().get_node_id()

    def start(self, proof: Path, model: Path, places: range, count: int, address: str, port: int) -> None:
        """proof: a file that the driver has made. address, port: where the processes meet. Everything else: as of a training.

        Raises PrerequisiteError where this machine sees another folder than the driver, or no model, or does not reach the driver.
        """
        host = socket.gethostname()
        remedy = "Put the run on such a disk, or train on one machine (tune.processes)."
        refuse_another_disk(proof, remedy, machine=host)
        if not (model / "config.json").is_file():
            raise PrerequisiteError(
                "the model is not here",
                where=f"{model} on {host}",
                expected="the same path on every machine",
                remedy="Put it on a disk that all of them share, or download it there, too.",
            )
        if not answers(f"{address}:{port}"):  # the processes would try for an hour
            raise PrerequisiteError(
                f"nobody answers at {address}:{port}, where the processes of a training meet",
                where=f"--ray, on {host}",
                expected="the driver's machine to be reached from all machines, at any port",
                remedy="Open the ports between the machines, or train on one (tune.processes).",
            )
        import ray

        known = training_environment(
            os.environ,
            count,
            port,
            here=len(places),
            address=address,
            interface=interface_of(ray.util.get_node_ip_address()),
        )
        self._places = LocalPlaces(places, known)

    def exchange(self, messages: Sequence[tuple[int, bytes]]) -> list[tuple[int, Any]]:
        """Give these to the processes, and wait a moment for what they say."""
        places, found = self._started(), list[tuple[int, Any]]()
        for place, message in messages:
            places.write(place, message)
        news = places.next(EXCHANGE_S)
        while news is not None:
            found.append(news)
            news = places.next(0)
        return found

    def ended(self, place: int) -> PlaceEnd:
        return self._started().ended(place)

    def end(self) -> None:
        if self._places is not None:
            self._places.end()

    def _started(self) -> LocalPlaces:
        assert self._places is not None, "started first"
        return self._places


@dataclass(slots=True, eq=False)
class _Machine:
    """awaited: the exchange that is under way. messages: for the next one. lost: why nobody answers, "" while somebody does."""

    actor: Any
    host: str
    places: range
    awaited: Any = None
    messages: list[tuple[int, bytes]] = field(default_factory=list)
    lost: str = ""


class RayPlaces:
    """Processes on machines of a cluster."""

    kept, silence_s = False, SILENCE_S

    def __init__(self, ray: Any, head: ClusterHead, group: Any, machines: Sequence[_Machine], meeting: Meeting) -> None:
        self._ray, self._head, self._group = ray, head, group
        self._machines, self._meeting = machines, meeting
        self._news: deque[tuple[int, Any]] = deque()

    def ready(self, count: int) -> bool:
        return sum(len(one.places) for one in self._machines) == count and not any(one.lost for one in self._machines)

    def write(self, place: int, message: bytes) -> None:
        self._of(place).messages.append((place, message))

    def next(self, timeout_s: float) -> tuple[int, Any] | None:
        if not self._news:
            self._exchange(timeout_s)
        return self._news.popleft() if self._news else None

    def ended(self, place: int) -> PlaceEnd:
        machine = self._of(place)
        if not machine.lost:
            try:
                found: PlaceEnd = self._ray.get(machine.actor.ended.remote(place), timeout=2 * OTHERS_S)
                return replace(found, machine=machine.host)
            except self._ray.exceptions.RayError as error:
                machine.lost = lost_reason(error)
        return PlaceEnd(machine=machine.host, lost=machine.lost)

    def end(self) -> None:
        if self._head.is_there:  # else all of them end with this process
            end_actors(self._ray, [one.actor for one in self._machines if not one.lost], self._group)
        self._meeting.close()

    def _of(self, place: int) -> _Machine:
        return next(one for one in self._machines if place in one.places)

    def _exchange(self, timeout_s: float) -> None:
        self._head.look()
        for one in self._machines:
            if one.awaited is None and not one.lost:
                one.awaited, one.messages = one.actor.exchange.remote(one.messages), []
        awaited = {one.awaited: one for one in self._machines if one.awaited is not None}
        if not awaited:
            time.sleep(timeout_s)
            return
        done, left = self._ray.wait([*awaited], num_returns=1, timeout=timeout_s)
        if done and left:  # one that says much must not hide another
            done = [*done, *self._ray.wait(left, num_returns=len(left), timeout=0)[0]]
        for ref in done:
            machine = awaited[ref]
            machine.awaited = None
            try:
                self._news += self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                raise cause_of(error) from error
            except self._ray.exceptions.RayError as error:
                machine.lost = lost_reason(error)
                self._news += [(place, None) for place in machine.places]


class RayMachines:
    """Those of a cluster. room: of a worker, of which the threads of a process and whether it has a card count. settings: as of
    `RayWorkers`. clock: seconds from any origin.
    """

    def __init__(
        self, ray: Any, room: WorkerRoom, settings: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ray, self._threads, self._cards, self._clock = ray, room.threads, room.cards > 0, clock
        self._settings = worker_environment(settings, room.threads)
        self._head = ClusterHead(ray, clock, time.sleep)

    def taken_by(self, count: int) -> int | None:
        if count <= self._here():
            return 1
        sizes = sorted(self._sizes().values(), reverse=True)
        return next((n for n, least in enumerate(sizes, 1) if count % n == 0 and count // n <= least), None)

    def start(self, count: int, job: SpawnedTraining, stop: Stop, progress: Progress) -> Places:
        here = self._here()
        machines = None if count <= here else self.taken_by(count)
        if machines is None:  # cores are shared as without a cluster
            if count > here:
                progress.stage(
                    f"starting {count} processes on this machine, since the cluster has too little room", None
                )
            return LocalPlaces.alone(count)
        return self._started(count, machines, job, stop, progress)

    def _started(self, count: int, machines: int, job: SpawnedTraining, stop: Stop, progress: Progress) -> RayPlaces:
        from ray.util.placement_group import placement_group

        on_each = count // machines
        bundle = {"CPU": float(on_each * self._threads), **({"GPU": float(on_each)} if self._cards else {})}
        self._head.wait()
        group = placement_group([bundle] * machines, strategy="STRICT_SPREAD")
        actors: list[Any] = []
        meeting: Meeting | None = None
        try:
            if not group.wait(1):
                progress.stage(f"waiting for {_room(machines, bundle)}, at most {PATIENCE_S / 60:.0f} minutes", None)
                self._await(lambda: group.wait(1), stop, bundle, machines)
            progress.stage(f"starting {count} processes on {_counted(machines)} of the cluster", None)
            actors = [self._actor(group, number, bundle) for number in range(machines)]
            facts: list[tuple[WorkerFacts, str]] = self._results([one.about.remote() for one in actors], stop, bundle)
            for found, _ in facts:
                refuse_unlike(found)
            meeting = _meeting_at(self._ray.util.get_node_ip_address())
            own = self._ray.get_runtime_context().get_node_id()
            # The main process, which writes, is on the driver's machine if any is there.
            pairs = sorted(zip(actors, facts, strict=True), key=lambda pair: pair[1][1] != own)
            found_machines = [
                _Machine(actor, found.host, range(n * on_each, (n + 1) * on_each))
                for n, (actor, (found, _)) in enumerate(pairs)
            ]
            self._start_each(found_machines, count, job, meeting, stop, bundle)
        except BaseException:
            if self._head.is_there:
                end_actors(self._ray, actors, group)
            if meeting is not None:
                meeting.close()
            raise
        return RayPlaces(self._ray, self._head, group, found_machines, meeting)

    def _actor(self, group: Any, number: int, bundle: Mapping[str, float]) -> Any:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        options = {
            "num_cpus": bundle["CPU"],
            "num_gpus": bundle.get("GPU", 0),
            "max_restarts": 0,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group, number),
            "runtime_env": {"env_vars": self._settings},
        }
        return self._ray.remote(MachineActor).options(**options).remote(self._cards)

    def _start_each(
        self,
        machines: Sequence[_Machine],
        count: int,
        job: SpawnedTraining,
        meeting: Meeting,
        stop: Stop,
        bundle: Mapping[str, float],
    ) -> None:
        folder = job.folder.parent
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            given = (new_proof(folder).resolve(), job.model.folder)
            met = (count, meeting.address, meeting.port)
            self._results([one.actor.start.remote(*given, one.places, *met) for one in machines], stop, bundle)
        finally:
            remove_proofs(folder)

    def _results(self, refs: Sequence[Any], stop: Stop, bundle: Mapping[str, float]) -> list[Any]:
        def are_done() -> bool:
            return len(self._ray.wait([*refs], num_returns=len(refs), timeout=LOOK_S)[0]) == len(refs)

        self._await(are_done, stop, bundle, len(refs))
        try:
            return list(self._ray.get([*refs]))
        except self._ray.exceptions.RayTaskError as error:
            raise cause_of(error) from error
        except self._ray.exceptions.RayError as error:
            found = f"a machine of the cluster is lost ({lost_reason(error)})"
            raise InfrastructureError(found, where="--ray", remedy=REMEDY) from error

    def _await(self, holds: Callable[[], bool], stop: Stop, bundle: Mapping[str, float], machines: int) -> None:
        until = self._clock() + PATIENCE_S
        while not holds():
            check(stop)
            self._head.look()
            if self._clock() > until:
                raise InfrastructureError(
                    f"the processes of a training could not start within {PATIENCE_S / 60:.0f} minutes",
                    where="--ray",
                    expected=_room(machines, bundle),
                    remedy=REMEDY,
                )

    def _here(self) -> int:
        """How many processes this machine has room for."""
        if self._cards:
            return card_count()
        return self._sizes().get(self._ray.get_runtime_context().get_node_id(), 0)

    def _sizes(self) -> dict[str, int]:
        """How many processes each machine has room for, by its node."""
        self._head.wait()
        return {node["NodeID"]: self._fit_on(node["Resources"]) for node in self._ray.nodes() if node["Alive"]}

    def _fit_on(self, has: Mapping[str, float]) -> int:
        by_threads = int(has.get("CPU", 0.0) // self._threads)
        return min(by_threads, int(has.get("GPU", 0.0))) if self._cards else by_threads


def _meeting_at(address: str) -> Meeting:
    """Raises PrerequisiteError where no interface of this machine has the address."""
    try:
        return Meeting(address)
    except OSError as error:
        raise PrerequisiteError(
            f"no process can meet others at the Ray address of the driver's machine ({error.strerror})",
            where=f"--ray, at {address}",
            expected="an IPv4 address of one of its interfaces",
            remedy="Start Ray there with such a --node-ip-address, or train on one machine (tune.processes).",
        ) from error


def end_actors(ray: Any, actors: Sequence[Any], group: Any) -> None:
    """With the processes that they started, and give back what they held."""
    from ray.util.placement_group import remove_placement_group

    with suppress(Exception):  # what is gone has ended
        refs = [actor.end.remote() for actor in actors]
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=END_S)
    for actor in actors:
        with suppress(Exception):
            ray.kill(actor)
    with suppress(Exception):
        remove_placement_group(group)


def _counted(machines: int) -> str:
    return f"{machines} machine{'s' if machines > 1 else ''}"


def _room(machines: int, bundle: Mapping[str, float]) -> str:
    on_each = WorkerRoom(int(bundle["CPU"]), cards=int(bundle.get("GPU", 0))).words
    return f"{_counted(machines)} of the cluster with {on_each} free on each"
