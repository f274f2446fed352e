"""One trial: a way trained with one seed by the winner's settings, or made of what another way has trained."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lastresort.after.compare.ways import Trial
from lastresort.errors import DataError
from lastresort.hardware.memory import PeakMemory
from lastresort.ladder import COMPARED_RUNG
from lastresort.records.events.after_test import FullRateChosen, TrainingSpent
from lastresort.records.events.search import RungSearched
from lastresort.records.events.training import TrainingReached
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.methods import AdapterMethod, Method, WholeMethod
from lastresort.rungs.supervised.milder import trained_candidate
from lastresort.rungs.supervised.training import SupervisedTraining
from lastresort.systems.files import load_system
from lastresort.systems.system import System

RUNG = "compare"  # under which the record keeps what is trained and measured here


@dataclass(frozen=True, slots=True)
class WinnerSettings:
    """Of the winner: the system that answered on dev, its learning rate, and the epoch or step after which it was kept."""

    system: System
    rate: float
    stop: int
    unit: Literal["epoch", "step"]
    scale: float = 1.0


class WayFailed(Exception):
    """This way could not be trained or made with this seed; the others go on."""


def settings_of(bench: Workbench) -> WinnerSettings:
    """Of the candidate that the rung sft froze. Where a repair of it won, the settings before the repair."""
    search = bench.record.last(RungSearched, COMPARED_RUNG)
    assert search is not None, "the winner was tuned by sft"
    system = load_system(bench.candidate_folder(COMPARED_RUNG, search.chosen))
    trained = trained_candidate(bench, system.name)
    return WinnerSettings(system, trained.learning_rate, trained.stop, trained.unit, trained.scale)


def train(bench: Workbench, trial: Trial, settings: WinnerSettings) -> TrainingSpent:
    """Train a way, resuming where it was cut. Raises WayFailed where it diverges, BudgetError at a limit."""
    method, folder = _method(bench, trial), trial.folder(bench.folder)
    training = _training(bench, trial, method)
    rate = _rate_of_full(bench, training) if trial.way.trains_all_weights else settings.rate
    bench.models.close()
    finished_before, peak = method.saved(folder), PeakMemory()
    loss = training.to_stop(rate, training.stop_at(settings.unit, settings.stop), folder)
    memory = None if finished_before else peak.read_bytes()
    training.close()
    if not math.isfinite(loss):
        raise WayFailed(f"training diverged at learning rate {rate:g}")
    reached = bench.record.last(TrainingReached, training.run_name(rate))
    assert reached is not None, "a finished training is recorded"
    return TrainingSpent(
        memory_bytes=memory, seconds=reached.seconds, tokens=reached.nominal_tokens, learning_rate=rate
    )


def training_names(bench: Workbench, trial: Trial, settings: WinnerSettings) -> Sequence[str]:
    """The trainings of a trial in the record, races included; none for a way that uses what another one trained."""
    if not trial.way.trains:
        return ()
    rates = bench.task.full.learning_rates if trial.way.trains_all_weights else (settings.rate,)
    training = _training(bench, trial, _method(bench, trial))
    return [training.run_name(rate) for rate in rates]


def merge(bench: Workbench, trial: Trial) -> None:
    """Merge the adapter that the trial's source has trained. Raises WayFailed where the merged model answers differently."""
    from lastresort.train.adapters.merge import merge_adapter

    folder = trial.folder(bench.folder)
    if (folder / "config.json").is_file():
        return
    bench.progress.stage(f"{RUNG}: merging {trial.key}", None)
    bench.models.close()
    try:
        merge_adapter(bench.models.tuned_name, trial.source.folder(bench.folder), folder)
    except DataError as error:
        raise WayFailed(str(error)) from error


def system_of(bench: Workbench, trial: Trial, settings: WinnerSettings) -> System:
    """The winner's system with what this trial gives in place of its adapter."""
    system = replace(settings.system, name=trial.key, precision="auto", rendering="", fingerprint="")
    if trial.way.whole_model:
        model = str(trial.folder(bench.folder).resolve())
        return replace(system, model=model, adapter=None, tuned_from=bench.models.tuned_name)
    return replace(system, adapter=trial.source.folder(bench.folder))


def tidy(bench: Workbench, trial: Trial, settings: WinnerSettings) -> None:
    """Delete checkpoints and whole models once they are measured. Adapters stay."""
    for name in training_names(bench, trial, settings):
        shutil.rmtree(bench.folder / "checkpoints" / name, ignore_errors=True)
    if trial.way.whole_model:
        shutil.rmtree(trial.folder(bench.folder), ignore_errors=True)


def _method(bench: Workbench, trial: Trial) -> Method:
    prefix = f"{RUNG}-{trial.key}-"
    if trial.way.trains_all_weights:
        return WholeMethod(prefix=prefix)
    return AdapterMethod(bench.task.sft, in_4_bits=trial.way.four_bits, prefix=prefix)


def _training(bench: Workbench, trial: Trial, method: Method) -> SupervisedTraining:
    section, full = bench.task.sft, bench.task.full
    if trial.way.trains_all_weights:  # the loss of its own rung: to be held, it would take memory that nobody planned
        changed = {"learning_rates": full.learning_rates, "replay_loss": full.replay_loss}
        section = section.model_copy(update=changed)
    return SupervisedTraining(bench, RUNG, section, method, seed=trial.seed, watched=False)


def _rate_of_full(bench: Workbench, training: SupervisedTraining) -> float:
    """As the rung full finds it: by a race with the first seed, which the other seeds take over."""
    known = bench.record.last(FullRateChosen)
    if known is not None:
        return known.rate
    try:
        rate = training.race()
    except DataError as error:
        raise WayFailed(str(error)) from error
    bench.record.append(FullRateChosen(rate=rate))
    return rate
