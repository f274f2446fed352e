"""A training in several processes that this one starts, on the cards or cores of this machine.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from lastresort.errors import DataError, InfrastructureError, LastresortError
from lastresort.hardware.environment import cores
from lastresort.hardware.memory import give_back_freed_memory, is_lack_of_memory
from lastresort.hardware.plan.fit import PlannedTraining, beyond_our_trainer, lowered
from lastresort.hardware.threads import SET_BY_USER
from lastresort.keys import KEYS, SECRETS
from lastresort.stop import Stop, StopRequest
from lastresort.train.loop.launch import COUNT, FSDP, LOCAL_PLACE, OTHER_TRAINERS, PLACE
from lastresort.types import Json, Progress, SilentProgress

if TYPE_CHECKING:
    from torch import Tensor

    from lastresort.records.training import TrainedSteps
    from lastresort.train.loop.batches import TrainingItem
    from lastresort.train.loop.loop import StepSeen
    from lastresort.train.loop.processes import Processes
    from lastresort.train.settings import TrainSettings

LOOK_S = 0.1  # between looks for a request to stop
OTHERS_S = 5.0  # that the other processes have to say what they know of a failure
LAST_LINES = 5  # of what a process wrote before it ended
IDLE_S = 120.0  # after which a process without a training ends, as it takes memory
FRESH_S = 60.0  # for which one may be given the next: rows take a while to travel
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# Signals of a terminal or a scheduler are for the process that started this one, also while this one imports.
_PROGRAM = (
    "import signal; [signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)]; "
    "from lastresort.train.loop.spawn import main; main()"
)


@dataclass(frozen=True, slots=True)
class Division:
    """How a training is divided over processes. sharded: each holds a share of the frozen base."""

    count: int = 1
    sharded: bool = False


def divide(wanted: int | Literal["auto"], planned: PlannedTraining | None, cards: int) -> Division:
    """wanted: processes; auto takes all cards where one is not enough. planned: the training on one card, None where there is no
    plan. cards: that torch sees, 0 on a processor, where shards save nothing. The base goes into shards where one card is not
    enough for the training, and our trainer can cut it. What samples as it trains (GRPO) does so in one process.
    """
    if planned is not None and planned.setup.learning == "grpo":
        return Division()
    if cards == 0 or planned is None or is_enough(planned, planned.cards.card.memory_bytes):
        return Division(1 if wanted == "auto" else wanted)
    count = cards if wanted == "auto" else wanted
    shards = beyond_our_trainer(planned.setup, replace(planned.cards, count=count, sharing="fsdp")) is None
    if wanted == "auto" and not shards:
        return Division()
    return Division(count, count > 1 and shards)


def is_enough(planned: PlannedTraining, room_bytes: int) -> bool:
    """Whether the training fits there, at the least with smaller passes."""
    found = lowered(planned, room_bytes)
    return found is not None and found.same_run


@dataclass(frozen=True, slots=True)
class ModelToTrain:
    """A model as the process that starts others has it in memory. name: by which an adapter calls its base. start: the adapter that
    is trained further, None for what the settings say. fingerprint: of what is loaded. weights: by name those that are trained, as
    they are before the first step; None where the settings give them, as where all weights are trained.
    """

    folder: Path
    name: str
    precision: str
    quantize: Literal["nf4", "no"]
    start: Path | None
    template_kwargs: Mapping[str, Json]
    fingerprint: str
    weights: Mapping[str, Tensor] | None


@dataclass(frozen=True, slots=True)
class SpawnedTraining:
    """One call of `train` for several processes. folder: of the checkpoint, absolute. share: of the machine, by which seconds
    count. Everything else: as of `train`.
    """

    model: ModelToTrain
    items: tuple[TrainingItem, ...]
    settings: TrainSettings
    folder: Path
    until: int
    checkpoint_every_s: float
    keeps_threads: bool
    share: float
    sharded: bool


@dataclass(frozen=True, slots=True)
class _Shown:
    """A call of the progress in the first process."""

    call: Literal["stage", "advance", "say"]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """What a training came to in one process: exactly one of the fields is set, or, of a fault, its text and kind."""

    trained: TrainedSteps | None = None
    error: LastresortError | None = None
    fault: str = ""
    lacks_memory: bool = False


class TrainingProcesses:
    """Those that train together. They start with the first training, and `close` ends them; another number of them, or the end of
    one, starts new ones.
    """

    def __init__(self) -> None:
        self._started: _Started | None = None

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
        training after the present step, with a checkpoint.

        Raises what `train` raises in any of them; MemoryError where one ran out of memory; InfrastructureError where one ended.
        """
        try:
            if self._started is None or not self._started.ready(count):
                self.close()
                progress.stage(f"starting {count} processes", None)
                self._started = _Started(count)
            return self._started.train(job, on_step, stop, progress)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._started is not None:
            self._started.end()
        self._started = None


class _Started:
    """Processes that are connected with each other."""

    def __init__(self, count: int) -> None:
        import torch

        # Where they find each other, as torchrun has it, but for this machine alone.
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self._store: Any = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1",
            port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=os.dup(self._listening.fileno()),
            use_libuv=False,  # which takes no such socket in torch 2.6
        )
        known = training_environment(os.environ, count, port)
        self._said = [tempfile.TemporaryFile() for _ in range(count)]  # noqa: SIM115  closed in `end`
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM],
                env={**known, "RANK": str(place), "LOCAL_RANK": str(place)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
            for place, said in enumerate(self._said)
        ]
        self._news: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        for place, process in enumerate(self._processes):
            threading.Thread(target=_read, args=(place, process.stdout, self._news), daemon=True).start()
        self._used_at = time.monotonic()
        self._kill = weakref.finalize(self, _kill, self._processes, os.getpid())

    def ready(self, count: int) -> bool:
        """Whether these can train, and are so many."""
        fresh = time.monotonic() - self._used_at < FRESH_S
        return fresh and len(self._processes) == count and all(process.poll() is None for process in self._processes)

    def train(
        self, job: SpawnedTraining, on_step: Callable[[StepSeen], None], stop: Stop, progress: Progress
    ) -> TrainedSteps:
        # Packed twice: the thread that listens there imports nothing, while the other one does.
        content = pickle.dumps(pickle.dumps(job))
        for place in range(len(self._processes)):
            self._write(place, content)
        ends: dict[int, TrainingEnd | None] = {}
        asked, until = False, float("inf")
        while len(ends) < len(self._processes) and time.monotonic() < until:
            stepped = False
            try:
                place, found = self._news.get(timeout=LOOK_S)
            except queue.Empty:
                found = ()
            if isinstance(found, _Shown):
                getattr(progress, found.call)(*found.arguments)
            elif found is None or isinstance(found, TrainingEnd):
                ends.setdefault(place, found)
                if found is None or found.trained is None:
                    until = min(until, time.monotonic() + OTHERS_S)
            elif found:
                on_step(found)
                stepped = True
            if not asked and (request := stop.requested()) is not None:
                asked = True
                self._write(0, pickle.dumps(request))
            if stepped:  # after a request to stop, which ends the training with this step
                self._write(0, pickle.dumps(_NOTED))
        self._used_at = time.monotonic()
        return outcome(ends, self._lost)

    def _lost(self, places: Sequence[int]) -> InfrastructureError:
        """Of the first, or of one that was killed: others end for want of that one."""
        for place in places:
            with suppress(subprocess.TimeoutExpired):
                self._processes[place].wait(OTHERS_S)
        killed = [place for place in places if self._processes[place].returncode == -signal.SIGKILL]
        place = (killed or places)[0]
        code = self._processes[place].returncode
        how = "" if code is None else f" ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
        lines = "" if code == -signal.SIGKILL else self._last_lines(place)  # which leaves no last word
        told = f": {lines}" if lines else ""
        return InfrastructureError(
            f"process {place + 1} of {len(self._processes)} that train together ended{how}{told}",
            where="training",
            expected="all of them to the end",
            remedy="Free some memory, if the system ended it for taking too much."
            if code == -signal.SIGKILL
            else "Mend what it names, or train in one process (tune.processes: 1).",
        )

    def _last_lines(self, place: int) -> str:
        said = self._said[place]
        said.seek(max(0, said.seek(0, os.SEEK_END) - 4096))
        lines = said.read().decode(errors="replace").split("\n")
        return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])

    def _write(self, place: int, content: bytes) -> None:
        pipe = self._processes[place].stdin
        assert pipe is not None
        with suppress(OSError):  # it has ended, as its own pipe says
            pipe.write(content)
            pipe.flush()

    def end(self) -> None:
        self._kill()
        for process, said in zip(self._processes, self._said, strict=True):
            process.wait()
            said.close()
            assert process.stdin is not None
            with suppress(OSError):  # what it did not read
                process.stdin.close()
        del self._store
        self._listening.close()


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


def training_environment(own: Mapping[str, str], count: int, port: int) -> dict[str, str]:
    """As torchrun sets it, without what another launcher has set, and without keys, which no training needs. Unless the user names
    an interface, the processes listen on loopback: by default they would at the address of the host's name.
    """
    launched = {*PLACE, *COUNT, *LOCAL_PLACE, *OTHER_TRAINERS, FSDP}
    known = {name: value for name, value in own.items() if name not in {*launched, *SECRETS, KEYS}}
    if not any(known.get(name, "").isdigit() for name in SET_BY_USER):
        known["OMP_NUM_THREADS"] = str(max(1, cores() // count))
    return {"GLOO_SOCKET_IFNAME": LOOPBACK, "NCCL_SOCKET_IFNAME": LOOPBACK, **known} | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


def _read(place: int, pipe: IO[bytes], news: queue.SimpleQueue[tuple[int, Any]]) -> None:
    """Pass on what a process says, at last None, whatever ends it."""
    try:
        with pipe, suppress(EOFError, OSError):
            while True:
                news.put((place, pickle.load(pipe)))
    except Exception:  # noqa: BLE001  shown by who reads the news
        news.put((place, TrainingEnd(fault=traceback.format_exc())))
    finally:
        news.put((place, None))


def _kill(processes: Sequence[subprocess.Popen[bytes]], owner: int) -> None:
    """owner: the process that started them. A copy of that has nothing to end."""
    if os.getpid() == owner:
        for process in processes:
            process.kill()


_NOTED = "noted"  # the reply to a step


class _Wire:
    """The pipes of a started process: trainings, replies and a request to stop come in, what happens goes out."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what libraries print is no message
        self._jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._noted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._request: StopRequest | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def next_job(self) -> SpawnedTraining:
        try:
            packed = self._jobs.get(timeout=IDLE_S)
        except queue.Empty:
            os._exit(0)
        job: SpawnedTraining = pickle.loads(packed)
        return job

    def requested(self) -> StopRequest | None:
        return self._request

    def send(self, message: object) -> None:
        try:
            pickle.dump(message, self._out)
            self._out.flush()
        except OSError:
            os._exit(1)  # nobody listens any more

    def step(self, seen: StepSeen) -> None:
        """Wait until the step is in the record, so that it never lacks one that a checkpoint has."""
        self.send(seen)
        self._noted.get()

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.send(_Shown("stage", (label, total, done)))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.send(_Shown("advance", (amount, note)))

    def say(self, text: str) -> None:
        self.send(_Shown("say", (text,)))

    def _listen(self) -> None:
        code = 1
        try:
            while True:
                found = pickle.load(sys.stdin.buffer)
                if isinstance(found, StopRequest):
                    self._request = found
                elif found == _NOTED:
                    self._noted.put(_NOTED)
                else:
                    self._request = None  # one that came too late was for the training before
                    self._jobs.put(found)
        except EOFError:  # whoever started this one has ended
            code = 0
        except Exception:  # noqa: BLE001  whoever started this one reads it there
            traceback.print_exc()
        finally:
            os._exit(code)


def main() -> None:
    """A started process."""
    wire = _Wire()
    from lastresort.libraries import quiet_transformers
    from lastresort.models.quantized import import_bitsandbytes
    from lastresort.train.loop.processes import Processes, join

    joined = join()
    import_bitsandbytes()
    while True:
        job = wire.next_job()
        with quiet_transformers():
            end_training(job, wire, Processes(joined.place, joined.count, sharded=job.sharded))
        del job


def end_training(job: SpawnedTraining, wire: _Wire, processes: Processes) -> None:
    """Train and say how it ended, once the memory is free: who hears it takes the card back at once. After some faults of a card
    freeing it fails, too, which must not hide the first.
    """
    end = _ended(job, wire, processes)
    try:
        _let_go()
    finally:
        wire.send(end)


def _ended(job: SpawnedTraining, wire: _Wire, processes: Processes) -> TrainingEnd:
    try:
        return TrainingEnd(_trained(job, wire, processes))
    except LastresortError as error:
        error.__traceback__ = error.__cause__ = error.__context__ = None  # their frames hold the model
        return TrainingEnd(error=error)
    except Exception as error:  # noqa: BLE001  the process that started this one shows it
        lacks = is_lack_of_memory(error)
        return TrainingEnd(fault=str(error) or "no memory" if lacks else traceback.format_exc(), lacks_memory=lacks)


def _trained(job: SpawnedTraining, wire: _Wire, processes: Processes) -> TrainedSteps:
    from lastresort.train.loop.loop import train
    from lastresort.train.loop.processes import shard_base

    progress: Progress = wire if processes.main else SilentProgress()
    with processes.together(), processes.connected():
        progress.stage("loading the model", None)
        model = _opened(job, keep_on_cpu=processes.sharded)
        processes.each(lambda: None)  # all are ready
        return train(
            shard_base(model, processes),
            job.items,
            job.settings,
            folder=job.folder,
            base=job.model.fingerprint,
            until=job.until,
            on_step=wire.step if processes.main else None,
            stop=wire,
            progress=progress,
            processes=processes,
            checkpoint_every_s=job.checkpoint_every_s,
            clock=lambda: job.share * time.monotonic(),
            keeps_threads=job.keeps_threads,
        )


def _opened(job: SpawnedTraining, *, keep_on_cpu: bool) -> Any:
    """As the process that started this one opened it. Raises DataError where it is not the same any more."""
    from lastresort.models.loading import load_local
    from lastresort.train.adapters.adapters import attach_adapter, unfreeze_adapter
    from lastresort.train.loop.optimizers import StartWeights

    wanted = job.model
    loaded = load_local(
        wanted.folder,
        precision=wanted.precision,
        adapter=wanted.start,
        template_kwargs=dict(wanted.template_kwargs),
        quantize=wanted.quantize,
        keep_on_cpu=keep_on_cpu,
    )
    if loaded.fingerprint != wanted.fingerprint:
        raise DataError(
            "the model has changed since it was opened",
            where=str(wanted.folder),
            expected="the same weights, adapter and template until the training ends",
            remedy="Put back the earlier ones.",
        )
    if wanted.start is not None:
        model = unfreeze_adapter(loaded.model, wanted.name)
    else:
        model = attach_adapter(loaded.model, job.settings.adapter, base_name=wanted.name, seed=job.settings.seed)
    if wanted.weights is not None:
        StartWeights(model, dict(wanted.weights)).restore()
    return model


def _let_go() -> None:
    """What is freed on a card is for the process that started this one."""
    give_back_freed_memory()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
