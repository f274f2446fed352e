"""Workers on a Ray cluster. Ray is imported here alone, and only where a cluster is asked for."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import Any

from lastresort.errors import InputError, PrerequisiteError
from lastresort.foreign import reason_of
from lastresort.hardware.environment import cores
from lastresort.keys import KEYS, PASSED, SECRETS, code_environment
from lastresort.scale.crew import REMEDY, AnyJob, ClusterLostError, JobBack, News, WorkerLost, WorkerReady
from lastresort.scale.work import (
    AnsweringWorker,
    JobAnswers,
    JobTrained,
    K,
    R,
    TrainingJob,
    TrainingWorker,
    V,
    WorkerFacts,
    WorkerJob,
    refuse_unlike,
)
from lastresort.version import __version__

LOCAL, AUTO = "local", "auto"
OBJECTS_BYTES = 100 * 2**20  # jobs and answers are text
CONNECT_S, HEAD_EVERY_S = 5.0, 2.0
ENDED_EVERY_S, ENDED_S = 0.02, 10.0  # a worker that is killed ends a moment later
HEAD_LOST_S = 30.0  # Ray itself ends a process whose head is silent for a minute
_HOST = r"[\w.-]+|\[[0-9a-fA-F:]+\]"
_ADDRESS = re.compile(rf"(?:{_HOST}):(?P<port>[0-9]{{1,5}})")
HEAD_PORT, LAST_PORT = 6379, 65535  # of a head that is started without naming one; of any address
_LONGEST_FOLDER = 40  # characters: a socket's path below it has at most 107
# It reports to nobody, and prints nothing on stdout, where a decision may be a document.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}
ADDRESS, AUTH_MODE, AUTH_TOKEN = "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
Connect = Callable[[str], AbstractContextManager[Any]]
"""(address) -> Ray, connected to the cluster there, as `ray_cluster` gives it."""


def checked_address(text: str) -> str:
    """`local`, `auto` or HOST:PORT. Raises InputError for anything else."""
    if text in (LOCAL, AUTO):
        return text
    return _checked(text, "--ray", others="local, auto or ", remedy=", or write local for the cores of this machine")


def _checked(text: str, where: str, *, others: str = "", remedy: str = "") -> str:
    """HOST:PORT. others: what may stand there besides. remedy: what else to do, after a comma."""
    address = _ADDRESS.fullmatch(text)
    if address is not None and 1 <= int(address["port"]) <= LAST_PORT:
        return text
    is_host = re.fullmatch(_HOST, text) and any(mark in text for mark in (".", "[", "localhost"))
    raise InputError(
        f'found "{text}"',
        where=where,
        expected=f"{others}HOST:PORT with a port from 1 to {LAST_PORT}",
        remedy=f"Name the head of the cluster ({text if is_host else 'HOST'}:{HEAD_PORT} if it uses Ray's default port){remedy}.",
    )


@contextmanager
def ray_cluster(address: str) -> Iterator[Any]:
    """Ray itself, connected to a cluster of its own on this machine (local), the one that runs here (auto) or one at HOST:PORT.

    A local cluster ends with the block. Raises PrerequisiteError without Ray or without a cluster there.
    """
    named = os.environ.get(ADDRESS, "")
    folder = _short_folder() if address == LOCAL else None
    try:
        with _own_signals(), _environment(environment_for_ray(address, os.environ)):
            ray = _imported()
            try:
                _connect(ray, address, named, folder)
            except BaseException:
                ray.shutdown()  # of what had started
                raise
        try:
            yield ray
        finally:
            with _own_signals():
                ray.shutdown()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def one_cluster() -> Iterator[Connect]:
    """For a command of several parts: what the first of them connects to serves the others, and ends with this block."""
    with ExitStack() as stack:
        found = dict[str, object]()

        @contextmanager
        def connect(address: str) -> Iterator[Any]:
            if address not in found:
                found[address] = stack.enter_context(ray_cluster(address))
            yield found[address]

        yield connect


def environment_for_ray(address: str, own: Mapping[str, str]) -> dict[str, str]:
    """What Ray reads while it connects, and what all processes of a local cluster start with: no key but a token of the cluster's
    own, so that it obeys nobody else.
    """
    if address == LOCAL:
        token = {AUTH_MODE: "token", AUTH_TOKEN: secrets.token_hex(32)}
        return {**code_environment({**own, PASSED: ""}), **SETTINGS, **token}
    return {name: value for name, value in own.items() if name != ADDRESS} | SETTINGS  # it would overrule HOST:PORT


@contextmanager
def _environment(inside: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(inside)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise PrerequisiteError(
            "Ray is not installed", where="--ray", remedy="Install the extra: pip install 'lastresort[scale]'."
        ) from error
    core: Any = import_module("ray._raylet")
    core.Config.initialize("")  # Ray keeps the settings and the token of this process's last cluster
    core.AuthenticationTokenLoader.instance().reset_cache()
    return ray


def _short_folder() -> str | None:
    """For the sockets and logs of a local cluster; None for Ray's own, where that of this process has too long a name."""
    folder = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="ray-", dir=folder) if len(folder) + 13 <= _LONGEST_FOLDER else None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; here it asks a climb to stop."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _NoClusterError(ConnectionError):
    """Nobody listens there, so the token is not the cause."""


def _connect(ray: Any, address: str, named: str, folder: str | None) -> None:
    """named: the address that RAY_ADDRESS gives for auto, "" without one."""
    # As a client's job, else workers would import from the driver's current folder first, where somebody else's files may lie.
    quiet = {
        "log_to_driver": False,
        "configure_logging": False,
        "job_config": ray.job_config.JobConfig(_client_job=True),
    }
    notes = StringIO()  # on tokens and on what other programs may do
    try:
        if address == LOCAL:
            own = {} if folder is None else {"_temp_dir": folder}
            size = {"num_cpus": cores(), "object_store_memory": OBJECTS_BYTES}
            with redirect_stderr(notes):
                ray.init(address="local", include_dashboard=False, **size, **own, **quiet)
            return
        with redirect_stderr(notes):
            there = _address_here(named) if address == AUTO else address
            if not answers(there):
                raise _NoClusterError(f"nobody answers at {there}")
            ray.init(address=there, **quiet)
    except Exception as error:  # a bare one where a node is slow to start
        known = (OSError, RuntimeError, ValueError, ray.exceptions.RayError)
        if not isinstance(error, known) and type(error) is not Exception:
            raise
        bare = isinstance(error, ConnectionError) or type(error) is Exception
        found = str(error).rstrip(".") if bare else reason_of(error)
        expected = "room for a cluster here" if address == LOCAL else "a cluster that this machine can join"
        remedy = f"Start one with `ray start --head`, set {AUTH_MODE}=token if it wants a token, or use --ray local."
        if address == LOCAL:
            remedy = "Free some memory, wait until the machine is less busy, or leave --ray out."
        elif os.environ.get(AUTH_MODE) == "token" and not isinstance(error, _NoClusterError):
            remedy = f"Check that {AUTH_TOKEN} is the cluster's token."
        raise PrerequisiteError(found, where=f"--ray {address}", expected=expected, remedy=remedy) from error


def _address_here(named: str) -> str:
    """HOST:PORT of the cluster that this machine belongs to. Raises _NoClusterError where Ray knows of none, or of several."""
    if named:
        return _checked(named, ADDRESS)
    from ray._private.services import find_gcs_addresses

    running = sorted(find_gcs_addresses())
    if not running:
        raise _NoClusterError("no Ray cluster runs on this machine")
    if len(running) > 1:
        raise _NoClusterError(f"{len(running)} Ray clusters run on this machine, expected one; name it with HOST:PORT")
    found: str = running[0]
    return found


def answers(address: str) -> bool:
    """Where nobody does, Ray itself would try for a minute or more, and then end this process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class WorkerRoom:
    """What a worker needs of its machine. threads: of each of its processes. cards: GPUs. memory_bytes: for weights and what they
    work on, 0 if unknown. processes: that train together at the worker.
    """

    threads: int
    cards: int = 0
    memory_bytes: int = 0
    processes: int = 1

    @property
    def cpus(self) -> int:
        return self.threads * self.processes

    @property
    def words(self) -> str:
        found = [f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"]
        found += [f"{self.cards} GPU{'s' if self.cards > 1 else ''}"] if self.cards else []
        found += [f"{self.memory_bytes / 1e9:.1f} GB of memory"] if self.memory_bytes else []
        return ", ".join(found)


def see_own_cards(cards: bool) -> None:
    """Of an actor, before torch looks: those that Ray gave it, or none."""
    import ray

    ids = ray.get_runtime_context().get_accelerator_ids().get("GPU", []) if cards else []
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(ids)


def worker_environment(settings: Mapping[str, str], threads: int) -> dict[str, str]:
    """Without the keys that whoever started a cluster may have left in its environment."""
    without_keys = dict.fromkeys((*SECRETS, KEYS), "")
    return {**settings, **without_keys, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


class ClusterHead:
    """Whether it answers is seen before any call of Ray's that needs it: Ray would block this process, and end it after a
    minute.
    """

    def __init__(self, ray: Any, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.address, self._clock, self._sleep = ray.get_runtime_context().gcs_address, clock, sleep
        self._seen, self._lost = clock(), False

    @property
    def is_there(self) -> bool:
        return not self._lost and answers(self.address)

    def look(self) -> None:
        """Now and then, as `wait`."""
        if self._clock() - self._seen > HEAD_EVERY_S:
            self.wait()

    def wait(self) -> None:
        """Raises ClusterLostError where the head is silent for HEAD_LOST_S."""
        until = self._clock() + HEAD_LOST_S
        while not answers(self.address):
            if self._clock() > until:
                self._lost = True
                found = f"the head of the cluster is lost (nobody answers at {self.address})"
                raise ClusterLostError(found, where="--ray", remedy=REMEDY)
            self._sleep(HEAD_EVERY_S)
        self._seen = self._clock()


class RayActor:
    """A worker within Ray. cards: whether it computes on those that Ray gave it; otherwise it sees none."""

    def __init__(self, cards: bool) -> None:
        see_own_cards(cards)
        self._answering, self._training = AnsweringWorker(), TrainingWorker()

    def about(self) -> WorkerFacts:
        return self._answering.about()

    def answer(self, job: WorkerJob[K, V]) -> JobAnswers[K, V]:
        return self._answering.answer(job)

    def train(self, job: TrainingJob[R]) -> JobTrained[R]:
        self._answering.close()
        return self._training.train(job)


class RayWorkers:
    """Workers as actors. settings: environment variables of every worker, before it imports anything; nothing secret.
    driver_bytes: what the driver's own copy of a model needs on the one machine of the cluster, 0 where it is elsewhere. clock:
    seconds from any origin.
    """

    def __init__(
        self,
        ray: Any,
        room: WorkerRoom,
        settings: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        driver_bytes: int = 0,
    ) -> None:
        self._ray, self._room, self._driver_bytes = ray, room, driver_bytes
        self._settings = worker_environment(settings, room.threads)
        self._actors: dict[int, Any] = {}
        self._processes: dict[int, int] = {}  # of workers on this machine
        self._ending: list[int] = []  # processes
        self._refs: dict[Any, tuple[int, int]] = {}  # of what is awaited, its worker and its job, 0 while it starts
        self._head, self._clock = ClusterHead(ray, clock, sleep), clock
        self._sleep, self.per_machine = sleep, 1.0

    @property
    def needs(self) -> str:
        return self._room.words

    def capacity(self) -> int:
        self._head.wait()
        counts = [self._fit_on(node.get("Resources", {})) for node in self._ray.nodes() if node.get("Alive")]
        used = [count for count in counts if count]
        self.per_machine = 1.0 if self._room.cards or not used else sum(used) / len(used)
        return sum(used)

    def _fit_on(self, has: Mapping[str, float]) -> int:
        needs = {"CPU": self._room.cpus, "GPU": self._room.cards, "memory": self._room.memory_bytes}
        copies = {name: int(has.get(name, 0.0) // amount) for name, amount in needs.items() if amount}
        if copies.get("memory", 0) > 1:  # the first one has its room even if the driver's copy leaves less
            beside = max(0.0, has.get("memory", 0.0) - self._driver_bytes)
            copies["memory"] = max(1, int(beside // self._room.memory_bytes))
        return min(copies.values())

    def start(self, worker: int) -> None:
        self._head.wait()
        actor = (
            self._ray.remote(RayActor)
            .options(
                num_cpus=self._room.cpus,
                num_gpus=self._room.cards,
                memory=self._room.memory_bytes or None,
                max_restarts=0,  # a lost one is replaced here
                runtime_env={"env_vars": self._settings},
            )
            .remote(self._room.cards > 0)
        )
        self._actors[worker] = actor
        self._refs[actor.about.remote()] = (worker, 0)

    def send(self, worker: int, number: int, job: AnyJob) -> None:
        actor = self._actors[worker]
        done = actor.train if isinstance(job, TrainingJob) else actor.answer
        self._refs[done.remote(job)] = (worker, number)

    def end(self, worker: int) -> None:
        self._refs = {ref: of for ref, of in self._refs.items() if of[0] != worker}
        actor = self._actors.pop(worker)
        if self._head.is_there:  # else it ends with this process
            with suppress(Exception):  # it is gone
                self._ray.kill(actor)
                self._ending += [self._processes[worker]] if worker in self._processes else []
        self._processes.pop(worker, None)

    def await_ended(self) -> None:
        until = self._clock() + ENDED_S
        while (left := [process for process in self._ending if _runs(process)]) and self._clock() < until:
            self._ending = left
            self._sleep(ENDED_EVERY_S)
        self._ending = []

    def next(self, timeout_s: float) -> News | None:
        self._head.look()
        done, _ = self._ray.wait([*self._refs], num_returns=1, timeout=timeout_s) if self._refs else ([], [])
        if not done:
            if not self._refs:
                self._sleep(timeout_s)
            return None
        worker, number = self._refs.pop(done[0])
        errors = self._ray.exceptions
        try:
            found = self._ray.get(done[0])
        except errors.RayTaskError as error:  # a fault in the worker's own code, as it would have been here
            raise cause_of(error) from error
        except errors.RayError as error:
            why = lost_reason(error)
            self.end(worker)
            return WorkerLost(worker, why)
        if number:
            return JobBack(worker, number, found)
        refuse_unlike(found)
        if found.host == socket.gethostname():
            self._processes[worker] = found.process
        return WorkerReady(worker)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, as on a cluster that another user started
        pass
    return True


def cause_of(error: Any) -> BaseException:
    """What was raised in a worker, as it would have been here."""
    cause: BaseException = error.cause
    return cause


def lost_reason(error: Exception) -> str:
    """Why a worker is lost, by the last of Ray's lines on it: no memory, or a machine that is gone.

    Raises PrerequisiteError where its machine has no package of ours.
    """
    if "No module named 'lastresort" in str(error):  # Ray gives the cause in words alone
        raise PrerequisiteError(
            f"a machine of the cluster has no lastresort {__version__}",
            where="--ray",
            expected="the driver's version on all of them",
            remedy=f"Install it there: pip install lastresort=={__version__}.",
        ) from error
    if type(error).__name__ == "ActorUnavailableError":  # Ray says "temporarily", and repeats a number
        return "it does not answer"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
