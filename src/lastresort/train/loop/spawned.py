"""What a process does that `spawn` has started: it takes one training after the other, says each step and how each ended.

Also what travels between it and the process that started it.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lastresort.errors import DataError, LastresortError
from lastresort.hardware.memory import give_back_freed_memory, is_lack_of_memory
from lastresort.stop import StopRequest
from lastresort.types import SILENT, Json, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from lastresort.records.training import TrainedSteps
    from lastresort.train.loop.batches import TrainingItem
    from lastresort.train.loop.loop import StepSeen
    from lastresort.train.loop.processes import Processes
    from lastresort.train.settings import TrainSettings

IDLE_S = 120.0  # after which a process without a training ends, as it takes memory


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
class ProgressCall:
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


NOTED = "noted"  # the reply to a step


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
        self.send(ProgressCall("stage", (label, total, done)))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.send(ProgressCall("advance", (amount, note)))

    def say(self, text: str) -> None:
        self.send(ProgressCall("say", (text,)))

    def _listen(self) -> None:
        code = 1
        try:
            while True:
                found = pickle.load(sys.stdin.buffer)
                if isinstance(found, StopRequest):
                    self._request = found
                elif found == NOTED:
                    self._noted.put(NOTED)
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
    from lastresort.train.loop.processes import into_shards

    progress: Progress = wire if processes.main else SILENT
    with processes.together(), processes.connected():
        progress.stage("loading the model", None)
        model = _opened(job, processes)
        processes.each(lambda: None)  # all are ready
        return train(
            into_shards(model, processes),
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


def _opened(job: SpawnedTraining, processes: Processes) -> Any:
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
        keep_on_cpu=processes.sharded,
        without_weights=processes.sharded
        and job.settings.adapter.kind == "none"
        and wanted.start is None
        and not processes.main,
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
    """What is freed on a GPU is for the process that started this one."""
    give_back_freed_memory(gpu=True)
