"""A training in several processes, which this one starts on the cards or cores of this machine, or has started on several.

They import once what they need and then do one training after the other. In each, every process opens the model for itself, trains
as one of those that torchrun starts, and lets the model go. Rows and settings travel to them, steps come back, and the weights lie
in the checkpoint. They hold the cards only while they train, so that this process can answer in between.

They end with this process, however that ends: each reads from a pipe that closes with it.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

from lastresort.errors import InfrastructureError
from lastresort.hardware.environment import cores
from lastresort.hardware.threads import SET_BY_USER
from lastresort.keys import KEYS, SECRETS
from lastresort.stop import Stop
from lastresort.train.loop.launch import COUNT, FSDP, LOCAL_PLACE, OTHER_TRAINERS, PLACE
from lastresort.train.loop.spawned import NOTED, ProgressCall, SpawnedTraining, TrainingEnd
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.records.training import TrainedSteps
    from lastresort.train.loop.loop import StepSeen

LOOK_S = 0.1  # between looks for a request to stop
OTHERS_S = 5.0  # that the other processes have to say what they know of a failure
LAST_LINES = 5  # of what a process wrote before it ended
CUT = "pickle data was truncated"  # as the library says of a message whose process ended as it wrote it
FRESH_S = 60.0  # of IDLE_S, for which one may be given the next training: rows take a while to travel
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
HERE, LOOPBACK = "127.0.0.1", "lo0" if sys.platform == "darwin" else "lo"
# Signals of a terminal or a scheduler are for the process that started this one, also while this one imports.
_PROGRAM = (
    "import signal; [signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)]; "
    "from lastresort.train.loop.spawned import main; main()"
)


@dataclass(frozen=True, slots=True)
class PlaceEnd:
    """How a process ended. code: None where that is not known. lines: the last that it wrote. machine: where it ran, "" for here.
    lost: why nobody answers there any more, "" where somebody does.
    """

    code: int | None = None
    lines: str = ""
    machine: str = ""
    lost: str = ""


class Places(Protocol):
    """Processes that train together, each at a place from 0 on, wherever they run.

    kept: whether they wait for the next training. silence_s: how long it may take until it is known that a process is gone.
    """

    kept: bool
    silence_s: float

    def ready(self, count: int) -> bool:
        """Whether these can train, and are so many."""

    def write(self, place: int, message: bytes) -> None:
        """Nothing where it has ended, as its own news say."""

    def next(self, timeout_s: float) -> tuple[int, Any] | None:
        """A place and what it says, at last None; no pair where nothing came in time."""

    def ended(self, place: int) -> PlaceEnd: ...

    def end(self) -> None:
        """All of them, at once."""


class Machines(Protocol):
    """Those of a cluster, this one among them, on which the processes of one training can start."""

    def taken_by(self, count: int) -> int | None:
        """How many of them so many processes take: the fewest, with as many on each. None where there are not that many."""

    def start(self, count: int, job: SpawnedTraining, stop: Stop, progress: Progress) -> Places:
        """Start so many for this training, here where this machine alone is enough. Raises PrerequisiteError for a machine that
        cannot be used, InfrastructureError where none has room, that of a request to stop.
        """


class TrainingProcesses:
    """Those that train together. They start with the first training, and `close` ends them; another number of them, or the end of
    one, starts new ones. machines: on which they may start, None for this one alone.
    """

    def __init__(self, machines: Machines | None = None) -> None:
        self.machines = machines
        self._started: Places | None = None

    def train(
        self,
        job: SpawnedTraining,
        count: int,
        *,
        on_step: Callable[[StepSeen], None],
        stop: Stop,
        progress: Progress,
    ) -> TrainedSteps:
        """Train in so many processes. on_step: done with a step before its checkpoint is written. stop: its request ends the
        training after the present step, with a checkpoint, and at once where none of them has said anything yet.

        Raises what `train` raises in any of them; MemoryError where one ran out of memory; InfrastructureError where one ended.
        """
        try:
            if self._started is None or not self._started.ready(count):
                self.close()
                progress.stage(f"starting {count} processes", None)
                start = LocalPlaces.alone if self.machines is None else self.machines.start
                self._started = start(count, job, stop, progress)
            found = _trained_at(self._started, count, job, on_step, stop, progress)
        except BaseException:
            self.close()
            raise
        if not self._started.kept:
            self.close()
        return found

    def close(self) -> None:
        if self._started is not None:
            self._started.end()
        self._started = None


def _trained_at(
    places: Places,
    count: int,
    job: SpawnedTraining,
    on_step: Callable[[StepSeen], None],
    stop: Stop,
    progress: Progress,
) -> TrainedSteps:
    # Packed twice: the thread that listens there imports nothing, while the other one does.
    content = pickle.dumps(pickle.dumps(job))
    for place in range(count):
        places.write(place, content)
    ends: dict[int, TrainingEnd | None] = {}
    asked, began, until = False, False, float("inf")
    while len(ends) < count and time.monotonic() < until:
        stepped = False
        news = places.next(LOOK_S)
        began = began or news is not None
        place, found = news or (0, ())
        if isinstance(found, ProgressCall):
            getattr(progress, found.call)(*found.arguments)
        elif found is None or isinstance(found, TrainingEnd):
            ends.setdefault(place, found)
            if found is None or found.trained is None:
                wait_s = OTHERS_S if _is_cause(places, place, found) else places.silence_s
                until = min(until, time.monotonic() + wait_s)
        elif found:
            on_step(found)
            stepped = True
        if not asked and (request := stop.requested()) is not None:
            if not began:  # they are looking for each other, which may take an hour, and have nothing to save
                raise request.error()
            asked = True
            places.write(0, pickle.dumps(request))
        if stepped:  # after a request to stop, which ends the training with this step
            places.write(0, pickle.dumps(NOTED))
    return outcome(ends, lambda gone: _lost(places, count, gone))


def _is_cause(places: Places, place: int, end: TrainingEnd | None) -> bool:
    """Whether it did not end for want of another process, whose machine may be lost."""
    from lastresort.train.loop.processes import ProcessLost

    if end is not None:
        return not isinstance(end.error, ProcessLost)
    found = places.ended(place)
    return bool(found.lost) or found.code == -signal.SIGKILL


def _lost(places: Places, count: int, gone: Sequence[int]) -> InfrastructureError:
    """Of the first, or of one that was killed: others end for want of that one."""
    found = {place: places.ended(place) for place in gone}
    first = [place for place, end in found.items() if end.lost] or [
        place for place, end in found.items() if end.code == -signal.SIGKILL
    ]
    place = (first or gone)[0]
    end = found[place]
    name = f"process {place + 1} of {count} that train together"
    if end.lost:
        return InfrastructureError(
            f"the machine {end.machine}, which had {name}, is lost ({end.lost})",
            where="training",
            expected="all of them to run to the end",
            remedy="Check the cluster, or train in fewer processes (tune.processes).",
        )
    code, lines = end.code, end.lines
    how = "" if code is None else f" ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
    if code == -signal.SIGKILL:  # which leaves no last word
        lines, remedy = "", "Free some memory, if the system ended it for taking too much."
    else:
        remedy = f"{'Mend what it names, or train' if lines else 'Train'} in one process (tune.processes: 1)."
    ended = f"{name} ended{f' on {end.machine}' if end.machine else ''}{how}"
    return InfrastructureError(
        f"{ended}: {lines}" if lines else ended,
        where="training",
        expected="all of them to run to the end",
        remedy=remedy,
    )


class Meeting:
    """Where processes find each other, as torchrun has it, but at one address alone."""

    def __init__(self, address: str = HERE) -> None:
        import torch

        self._listening = socket.create_server((address, 0))
        self.address, self.port = address, int(self._listening.getsockname()[1])
        self.store: Any = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            address,
            self.port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=os.dup(self._listening.fileno()),
            use_libuv=False,  # which takes no such socket in torch 2.6
        )

    def close(self) -> None:
        del self.store
        self._listening.close()


class LocalPlaces:
    """Processes of this machine. places: theirs among all. environment: what they start with. meeting: closed with them."""

    kept, silence_s = True, OTHERS_S

    def __init__(self, places: range, environment: Mapping[str, str], meeting: Meeting | None = None) -> None:
        self._places, self.meeting = places, meeting
        self._said = [tempfile.TemporaryFile() for _ in places]  # noqa: SIM115  closed in `end`
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM],
                env={**environment, "RANK": str(place), "LOCAL_RANK": str(own)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
            for own, (place, said) in enumerate(zip(places, self._said, strict=True))
        ]
        self._news: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        for place, process in zip(places, self.processes, strict=True):
            threading.Thread(target=_read, args=(place, process.stdout, self._news), daemon=True).start()
        self._used_at = time.monotonic()
        self._kill = weakref.finalize(self, _kill, self.processes, os.getpid())

    @classmethod
    def alone(cls, count: int, *_: object) -> LocalPlaces:
        """All of a training, whichever that is."""
        meeting = Meeting()
        return cls(range(count), training_environment(os.environ, count, meeting.port), meeting)

    def ready(self, count: int) -> bool:
        fresh = time.monotonic() - self._used_at < FRESH_S
        return fresh and len(self.processes) == count and all(process.poll() is None for process in self.processes)

    def write(self, place: int, message: bytes) -> None:
        pipe = self._process(place).stdin
        assert pipe is not None
        with suppress(OSError):  # it has ended, as its own pipe says
            pipe.write(message)
            pipe.flush()

    def next(self, timeout_s: float) -> tuple[int, Any] | None:
        try:
            found = self._news.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._used_at = time.monotonic()
        return found

    def ended(self, place: int) -> PlaceEnd:
        process = self._process(place)
        with suppress(subprocess.TimeoutExpired):
            process.wait(OTHERS_S)
        return PlaceEnd(process.returncode, self._last_lines(place))

    def end(self) -> None:
        self._kill()
        for process, said in zip(self.processes, self._said, strict=True):
            process.wait()
            said.close()
            assert process.stdin is not None
            with suppress(OSError):  # what it did not read
                process.stdin.close()
        if self.meeting is not None:
            self.meeting.close()

    def _process(self, place: int) -> subprocess.Popen[bytes]:
        return self.processes[place - self._places.start]

    def _last_lines(self, place: int) -> str:
        said = self._said[place - self._places.start]
        said.seek(max(0, said.seek(0, os.SEEK_END) - 4096))
        lines = said.read().decode(errors="replace").split("\n")
        return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])


class ProcessFaultError(Exception):
    """A fault of ours in another process, with its traceback there. Not a RuntimeError, whose words are searched for a lack of
    memory.
    """


def outcome(ends: Mapping[int, TrainingEnd | None], lost: Callable[[Sequence[int]], Exception]) -> TrainedSteps:
    """What the first process says, where none failed. Of failures the cause is raised, which one process knows: others know only
    that one is gone. ends: by place, in the order in which they came, None of a process that ended without a word. lost: what to
    raise of such ones.
    """
    from lastresort.train.loop.processes import ProcessLost

    found = [ends[place] for place in sorted(ends)]
    for one in found:
        if one is not None and one.fault:
            raise MemoryError(one.fault) if one.lacks_memory else ProcessFaultError(one.fault)
    errors = [one.error for one in found if one is not None and one.error is not None]
    for error in errors:
        if not isinstance(error, ProcessLost):
            raise error
    if gone := [place for place, one in ends.items() if one is None]:
        raise lost(gone)
    if errors:
        raise errors[0]
    first = ends[0]
    assert first is not None
    assert first.trained is not None, "a training without a failure has a result"
    return first.trained


def training_environment(
    own: Mapping[str, str],
    count: int,
    port: int,
    *,
    here: int | None = None,
    address: str = HERE,
    interface: str | None = LOOPBACK,
) -> dict[str, str]:
    """As torchrun sets it, without what another launcher has set, and without keys, which no training needs. here: how many of them
    this machine has, None for all. port, address: where they meet. interface: on which they talk unless the user names one: by
    default they would at the address of the host's name, as with None.
    """
    here = count if here is None else here
    launched = {*PLACE, *COUNT, *LOCAL_PLACE, *OTHER_TRAINERS, FSDP}
    known = {name: value for name, value in own.items() if name not in {*launched, *SECRETS, KEYS}}
    if not any(known.get(name, "").isdigit() for name in SET_BY_USER):
        known["OMP_NUM_THREADS"] = str(max(1, cores() // here))
    interfaces = {} if interface is None else dict.fromkeys(INTERFACES, interface)
    return {**interfaces, **known} | {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(here),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


def _read(place: int, pipe: IO[bytes], news: queue.SimpleQueue[tuple[int, Any]]) -> None:
    """Pass on what a process says, at last None, whatever ends it."""
    try:
        with pipe, suppress(EOFError, OSError):
            while True:
                news.put((place, pickle.load(pipe)))
    except Exception as error:  # noqa: BLE001  shown by who reads the news
        if str(error) != CUT:
            news.put((place, TrainingEnd(fault=traceback.format_exc())))
    finally:
        news.put((place, None))


def _kill(processes: Sequence[subprocess.Popen[bytes]], owner: int) -> None:
    """owner: the process that started them. A copy of that has nothing to end."""
    if os.getpid() == owner:
        for process in processes:
            process.kill()
