"""What a tuned system came of, and how a milder one is had: for repairs after a gate.

A tuned system with what was trained at a fraction of its strength: of an adapter or of all weights.

A supervised training done again, milder: with more replay or at a lower learning rate, and as long as the one before.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from lastresort.records.events import CandidateTrained
from lastresort.rungs.rung import Rung, Workbench
from lastresort.rungs.supervised.methods import AdapterMethod, WholeMethod, load_to_train
from lastresort.rungs.supervised.training import SupervisedTraining
from lastresort.rungs.tuning import (
    constrain,
    earlier_checkpoints,
    record_candidate,
    recorded_rendering,
)
from lastresort.spec.sections import FullSettings, SftSettings
from lastresort.systems.system import System


@dataclass(frozen=True, slots=True)
class RepeatableTraining:
    """replay: the share of general rows, None where the training has none. earlier: checkpoints of the same training that were kept
    before this one, the latest first: epoch or step, and the name of the candidate.
    """

    learning_rate: float
    replay: float | None
    earlier: tuple[tuple[int, str], ...] = ()


@runtime_checkable
class Retrainable(Rung, Protocol):
    """A rung that can tell what a system of its own came of, and train it anew."""

    def training_of(self, bench: Workbench, name: str) -> RepeatableTraining:
        """name: of a system that the rung's search kept."""

    def train_anew(
        self, bench: Workbench, system: System, *, replay: float | None = None, learning_rate: float | None = None
    ) -> System | None:
        """The system that the same training ends in with this share of replay or this learning rate, as long as that of `system`;
        None where it diverges. What is finished is read from the record, what was cut goes on from its checkpoint.
        """


def scale_system(bench: Workbench, system: System, scale: float) -> System:
    """Written below the run, once. Raises CandidateError where the adapter has no strength that is a number."""
    name = f"{system.name}-scale{scale:g}"
    trained = bench.record.last(CandidateTrained, system.name)
    if system.adapter is not None:
        made = replace(_anew(system, name), adapter=_adapter(bench, system.adapter, scale, name))
    else:
        made = replace(_anew(system, name), model=str(_weights(bench, Path(system.model), scale, name).resolve()))
    if trained is not None:
        record_candidate(bench.record, trained.model_copy(update={"candidate": name, "scale": scale}))
    return made


def _anew(system: System, name: str) -> System:
    """Not measured yet."""
    return replace(system, name=name, rendering="", fingerprint="")


def _adapter(bench: Workbench, adapter: Path, scale: float, name: str) -> Path:
    from lastresort.train.adapters.adapters import scale_adapter

    folder = bench.folder / "adapters" / name
    if not folder.is_dir():
        scale_adapter(adapter, scale, folder)
    return folder


def _weights(bench: Workbench, model: Path, scale: float, name: str) -> Path:
    from lastresort.train.adapters.adapters import scale_weights

    method = WholeMethod()
    folder = bench.folder / method.folder / name
    if not method.saved(folder):
        bench.progress.stage(f"scaling what was trained to {scale:g}", None)
        trained = load_to_train(bench, weights=model, precision="float32", quantize="no", keep_on_cpu=True)
        base = load_to_train(bench, precision="float32", quantize="no", keep_on_cpu=True)
        scale_weights(base.model, trained.model, scale)
        method.save(trained, trained.model, folder)
    return folder


def training_of(bench: Workbench, name: str) -> RepeatableTraining:
    """Of a candidate that the rung's search kept."""
    trained = trained_candidate(bench, name)
    return RepeatableTraining(trained.learning_rate, trained.replay, earlier_checkpoints(bench.record, trained))


def trained_candidate(bench: Workbench, name: str) -> CandidateTrained:
    """Of a candidate that was trained in this run."""
    found = bench.record.last(CandidateTrained, name)
    assert found is not None, f"{name} was trained in this run"
    return found


def retrain(
    bench: Workbench,
    rung: str,
    section: SftSettings | FullSettings,
    method: AdapterMethod | WholeMethod,
    system: System,
    *,
    replay: float | None,
    learning_rate: float | None,
) -> System | None:
    """As `Retrainable.train_anew`. method: as the rung trains."""
    before = trained_candidate(bench, system.name)
    rate, epoch = learning_rate or before.learning_rate, before.stop
    if replay is not None:
        section = section.model_copy(update={"replay": replay})
        method = replace(method, prefix=f"{method.prefix}replay{100 * replay:g}-")
    name = f"{method.name}-{'' if replay is None else f'replay{100 * replay:g}-'}lr{rate:g}-epoch{epoch}"
    folder = bench.folder / method.folder / name
    training = SupervisedTraining(bench, rung, section, method)
    loss = training.to_epoch(rate, epoch, folder)
    training.close()
    if isinstance(method, WholeMethod):  # three times the model; what is kept of it is in models/
        shutil.rmtree(bench.folder / "checkpoints" / training.run_name(rate), ignore_errors=True)
    return _system(bench, rung, system, name, folder) if math.isfinite(loss) else None


def _system(bench: Workbench, rung: str, system: System, name: str, folder: Path) -> System:
    """Held to the form of the output where the one before is."""
    made = replace(
        system, name=name, rendering="", fingerprint="", trained_rendering=recorded_rendering(bench.record, rung)
    )
    made = replace(made, model=str(folder.resolve())) if system.tuned_from else replace(made, adapter=folder)
    grammar = system.decoding.grammar
    return made if grammar is None else constrain(bench.record, made, grammar)
