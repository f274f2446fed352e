"""A training in processes that this one starts is that of one process: each step, the weights, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lastresort.errors import InfrastructureError, StopRequestedError
from lastresort.models.loading import Loaded, load_local
from lastresort.records.training import TrainedSteps
from lastresort.stop import NEVER, Stop, StopSignal
from lastresort.train.adapters.adapters import attach_adapter, trainable
from lastresort.train.loop.batches import TrainingItem, completions, pairs, replayed, training_rows
from lastresort.train.loop.checkpoints import load_weights
from lastresort.train.loop.loop import Diverged, StepSeen, train
from lastresort.train.loop.spawn import LocalPlaces, TrainingProcesses
from lastresort.train.loop.spawned import ModelToTrain, SpawnedTraining
from lastresort.train.settings import AdapterSettings, Objective, TrainSettings
from lastresort.types import Example, Message, SilentProgress
from tiny_model import save_tiny_model
from tuning_support import COLOURS, THINGS

pytestmark = pytest.mark.slow

LORA = AdapterSettings(r=4, alpha=8)
SFT = TrainSettings(learning_rate=1e-3, epochs=2, batch_size=3, adapter=LORA, seed=3)
"""Seven items: the third batch of an epoch holds a single one."""
RUNS = {
    "sft": SFT,
    "dpo": replace(SFT, objective=Objective("dpo")),
    "full": replace(SFT, adapter=AdapterSettings(kind="none"), epochs=1),
    "sharded": replace(SFT, objective=Objective("dpo"), epochs=1),
    "full, sharded": replace(SFT, adapter=AdapterSettings(kind="none"), epochs=1),
    "sft, held": replace(SFT, learning_rate=1e-2),
    "dpo, held": replace(SFT, learning_rate=1e-2, objective=Objective("dpo"), epochs=1),
    "sharded, held": replace(SFT, learning_rate=1e-2, epochs=1),
}
STEPS = {
    "sft": 6,
    "dpo": 6,
    "full": 3,
    "sharded": 3,
    "full, sharded": 3,
    "sft, held": 8,
    "dpo, held": 4,
    "sharded, held": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("spawned") / "model")


@pytest.fixture(scope="module")
def processes() -> Iterator[TrainingProcesses]:
    started = TrainingProcesses()
    yield started
    started.close()


def loaded_and_items(folder: Path, name: str) -> tuple[Loaded, list[TrainingItem]]:
    loaded = load_local(folder, precision="float32")

    def rows(answers: tuple[str, ...]) -> list[Any]:
        examples = [
            Example(f"{n}", (Message("user", f"{THINGS[n]} {n}?"),), answers[n % len(answers)]) for n in range(7)
        ]
        return training_rows(loaded.tokenizer, examples, lambda turns: turns, context_tokens=2048)

    chosen = rows(COLOURS)
    items = pairs(chosen, rows(("no idea",))) if RUNS[name].objective.name == "dpo" else completions(chosen)
    if name.endswith("held"):  # replay that a KL keeps near the base: some batches have three rows of it, some none
        items += replayed(rows(("a general answer", "ok"))[:3], held=True, weight=5)
    return loaded, items


class Trained:
    """What a training of this name came to, in this process or in two: steps, weights."""

    def __init__(self, model_folder: Path, name: str, checkpoint: Path) -> None:
        self.name, self.settings, self._checkpoint = name, RUNS[name], checkpoint
        self.loaded, self.items = loaded_and_items(model_folder, name)
        self.model = attach_adapter(self.loaded.model, self.settings.adapter, base_name="tiny", seed=3)
        if name == "dpo":  # as after a training of which nothing is saved
            with torch.no_grad():
                for _, one in trainable(self.model):
                    one.add_(0.01)
        self.seen: list[StepSeen] = []

    def here(self, until: int | None = None) -> Trained:
        train(
            self.model,
            self.items,
            self.settings,
            folder=self._checkpoint,
            base=self.loaded.fingerprint,
            until=until,
            on_step=self.seen.append,
        )
        return self

    def in_two(
        self,
        processes: TrainingProcesses,
        until: int | None = None,
        stop: Stop = NEVER,
        on_step: Callable[[StepSeen], None] | None = None,
        rate: float | None = None,
    ) -> TrainedSteps:
        first = None
        if self.settings.adapter.kind != "none":
            first = {name: one.detach().clone() for name, one in trainable(self.model)}
        opened = ModelToTrain(self.loaded.folder, "tiny", "float32", "no", None, {}, self.loaded.fingerprint, first)
        job = SpawnedTraining(
            opened,
            tuple(self.items),
            self.settings if rate is None else replace(self.settings, learning_rate=rate),
            folder=self._checkpoint,
            until=until or STEPS[self.name],
            checkpoint_every_s=1000.0,
            keeps_threads=True,
            share=1.0,
            sharded="sharded" in self.name,
        )

        def step(seen: StepSeen) -> None:
            self.seen.append(seen)
            if on_step is not None:
                on_step(seen)

        found = processes.train(job, 2, on_step=step, stop=stop, progress=SilentProgress())
        load_weights(self._checkpoint, self.model)
        return found

    @property
    def steps(self) -> list[tuple[float, ...]]:
        return [(one.step, one.loss, one.grad_norm, one.learning_rate, one.nominal_tokens) for one in self.seen]

    @property
    def distances(self) -> dict[int, float]:
        """From the base, in nats a token, by steps that hold replay to it."""
        return {one.step: one.figures["kl_to_base"] for one in self.seen if "kl_to_base" in one.figures}

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([one.detach().flatten() for _, one in trainable(self.model)])


def same(one: Trained, other: Trained) -> None:
    assert len(one.steps) == len(other.steps) == STEPS[one.name]
    for own, others in zip(one.steps, other.steps, strict=True):
        assert own == pytest.approx(others, rel=1e-5)
    assert one.distances == pytest.approx(other.distances, rel=1e-5, abs=1e-6)
    moved = (one.weights - Trained(one.loaded.folder, one.name, Path()).weights).abs().max()
    assert (one.weights - other.weights).abs().max() <= 1e-3 * moved  # Adam divides by tiny gradients, too


def started_here(processes: TrainingProcesses) -> LocalPlaces:
    assert isinstance(processes._started, LocalPlaces)
    return processes._started


def listening_at(port: int) -> set[str]:
    """The addresses at which this machine listens there, by Linux."""
    found = set[str]()
    for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in path.read_text().splitlines()[1:]:
            address, at = line.split()[1].split(":")
            if int(at, 16) == port and line.split()[3] == "0A":
                found.add("127.0.0.1" if address == "0100007F" else address)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_what_one_trains(
    name: str, folder: Path, processes: TrainingProcesses, tmp_path: Path
) -> None:
    both = Trained(folder, name, tmp_path / "both")
    found = both.in_two(processes)
    assert (found.processes, found.sharded, found.step) == (2, "sharded" in name, STEPS[name])
    meeting = started_here(processes).meeting
    assert meeting is not None
    if sys.platform == "linux":
        assert listening_at(meeting.port) == {"127.0.0.1"}, "for this machine alone"
    assert not meeting.store.libuvBackend, "torch 2.6 would refuse its socket"
    same(both, Trained(folder, name, tmp_path / "here").here())
    if name.endswith("held"):
        assert max(both.distances.values()) > 1e-3, "it moves, and is held"


def test_two_go_on_from_one_and_one_from_two(folder: Path, processes: TrainingProcesses, tmp_path: Path) -> None:
    mixed = Trained(folder, "dpo", tmp_path / "mixed")
    before = Trained(folder, "dpo", tmp_path / "before")
    mixed.in_two(processes, until=2)
    mixed.model = before.model  # a new session opens it as it was
    mixed.here(until=4).in_two(processes)
    same(mixed, Trained(folder, "dpo", tmp_path / "here").here())


@pytest.mark.release
def test_a_stop_is_heard_by_both_after_their_step(folder: Path, tmp_path: Path) -> None:
    processes, stop = TrainingProcesses(), StopSignal()
    asked = Trained(folder, "sft", tmp_path / "asked")
    with pytest.raises(StopRequestedError, match="a signal asked to stop, in step 3 of 6"):
        asked.in_two(processes, stop=stop, on_step=lambda seen: stop.request() if seen.step == 2 else None)
    asked.here()
    same(asked, Trained(folder, "sft", tmp_path / "here").here())


@pytest.mark.release
def test_a_loss_that_is_not_finite_is_told_as_by_one_process(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged) as alone:
        train(
            (model := Trained(folder, "sft", tmp_path / "here")).model,
            model.items,
            replace(SFT, learning_rate=1e20),
            folder=tmp_path / "here",
        )
    processes = TrainingProcesses()
    with pytest.raises(Diverged) as together:
        Trained(folder, "sft", tmp_path / "both").in_two(processes, rate=1e20)
    assert str(together.value) == str(alone.value)


@pytest.mark.release
def test_a_process_that_is_killed_ends_the_training_which_then_goes_on(folder: Path, tmp_path: Path) -> None:
    processes = TrainingProcesses()
    killed = Trained(folder, "sft", tmp_path / "killed")
    killed.in_two(processes, until=2)
    second = started_here(processes).processes[1]

    def kill(seen: StepSeen) -> None:
        if seen.step == 4:
            os.kill(second.pid, signal.SIGKILL)

    with pytest.raises(InfrastructureError, match=r"process 2 of 2 that train together ended \(SIGKILL\)"):
        killed.in_two(processes, on_step=kill)
    assert processes._started is None
    del killed.seen[2:]
    killed.in_two(processes)
    processes.close()
    same(killed, Trained(folder, "sft", tmp_path / "here").here())
