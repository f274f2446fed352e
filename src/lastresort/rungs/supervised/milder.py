"""Milder variants of a tuned system, for repairs after a gate: trained weights at a fraction of their strength, or a second
training of the same length with more replay or a lower learning rate.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from lastresort.records.events.training import CandidateTrained, TrainingReached
from lastresort.rungs.rung import Rung, Workbench
from lastresort.rungs.supervised.methods import Method, WholeMethod, load_to_train
from lastresort.rungs.supervised.training import SupervisedTraining
from lastresort.rungs.tuning import (
    constrain,
    earlier_checkpoints,
    record_candidate,
    recorded_rendering,
    scaled_name,
)
from lastresort.spec.sections import FullSettings, SftSettings
from lastresort.systems.system import System


@dataclass(frozen=True, slots=True)
class RepeatableTraining:
    """The training behind a system. replay: the share of general rows, None if its rung takes no other. earlier: kept checkpoints
    before this one, the latest first: epoch or step, and name of the candidate.
    """

    learning_rate: float
    replay: float | None
    earlier: tuple[tuple[int, str], ...] = ()


@runtime_checkable
class Retrainable(Rung, Protocol):
    """A rung that can repeat the training behind its systems. takes_more_replay: with another share of replay, too."""

    takes_more_replay: bool

    def retrain(
        self, bench: Workbench, system: System, *, replay: float | None = None, learning_rate: float | None = None
    ) -> System | None:
        """The system from the same training, as long as that of `system`, with this share of replay or this learning rate; None if
        it diverges. What is finished is read from the record, what was interrupted resumes from its checkpoint.
        """


def scale_system(bench: Workbench, system: System, scale: float) -> System:
    """The system with its trained weights at this scale, saved below the run. Raises CandidateError if the adapter has no alpha."""
    name = scaled_name(system.name, scale)
    training = bench.record.last(CandidateTrained, system.name)
    if system.adapter is not None:
        scaled = replace(_unmeasured(system, name), adapter=_adapter(bench, system.adapter, scale, name))
    else:
        scaled = replace(
            _unmeasured(system, name), model=str(_weights(bench, Path(system.model), scale, name).resolve())
        )
    if training is not None:
        record_candidate(bench.record, training.model_copy(update={"candidate": name, "scale": scale * training.scale}))
    return scaled


def _unmeasured(system: System, name: str) -> System:
    """Under another name, without what it was measured with."""
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
        tuned = load_to_train(bench, weights=model, precision="float32", quantize="no", keep_on_cpu=True)
        base = load_to_train(bench, precision="float32", quantize="no", keep_on_cpu=True)
        scale_weights(base.model, tuned.model, scale)
        method.save(tuned, tuned.model, folder)
    return folder


def training_of(bench: Workbench, rung: Retrainable, name: str) -> RepeatableTraining:
    """The training behind a candidate that the rung's search kept."""
    candidate = trained_candidate(bench, name)
    replay = candidate.replay if rung.takes_more_replay else None
    return RepeatableTraining(candidate.learning_rate, replay, earlier_checkpoints(bench.record, candidate))


def trained_candidate(bench: Workbench, name: str) -> CandidateTrained:
    """The record of a candidate that was trained in this run."""
    candidate = bench.record.last(CandidateTrained, name)
    assert candidate is not None, f"{name} was trained in this run"
    return candidate


def retrain(
    bench: Workbench,
    rung: str,
    section: SftSettings | FullSettings,
    method: Method,
    system: System,
    *,
    replay: float | None,
    learning_rate: float | None,
) -> System | None:
    """As `Retrainable.retrain`. method: of the rung."""
    candidate = trained_candidate(bench, system.name)
    rate = learning_rate or candidate.learning_rate
    if replay is not None:
        section = section.model_copy(update={"replay": replay})
        method = replace(method, prefix=f"{method.prefix}replay{100 * replay:g}-")
    training = SupervisedTraining(bench, rung, section, method)
    reached = bench.record.last(TrainingReached, candidate.run)
    stop = training.stop_at(candidate.unit, candidate.stop, of_steps=None if reached is None else reached.steps)
    replay_part = "" if replay is None else f"replay{100 * replay:g}-"
    name = f"{method.name}-{replay_part}lr{rate:g}-{stop.unit}{stop.number}"
    folder = bench.folder / method.folder / name
    loss = training.to_stop(rate, stop, folder)
    training.close()
    if isinstance(method, WholeMethod):  # three times the model; what is kept is in models/
        shutil.rmtree(bench.folder / "checkpoints" / training.run_name(rate), ignore_errors=True)
    if not math.isfinite(loss):
        return None
    retrained = _system(bench, rung, system, name, folder)
    return retrained if candidate.scale == 1 else scale_system(bench, retrained, candidate.scale)


def _system(bench: Workbench, rung: str, system: System, name: str, folder: Path) -> System:
    """With constrained decoding if the system before has it."""
    retrained = replace(
        system, name=name, rendering="", fingerprint="", trained_rendering=recorded_rendering(bench.record, rung)
    )
    retrained = (
        replace(retrained, model=str(folder.resolve())) if system.tuned_from else replace(retrained, adapter=folder)
    )
    grammar = system.decoding.grammar
    return retrained if grammar is None else constrain(bench.record, retrained, grammar)
