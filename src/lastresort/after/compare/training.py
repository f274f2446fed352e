"""One way of training with one seed: trained with the winner's settings, or made of what another way has trained."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.after.compare.names import MADE
from lastresort.errors import DataError
from lastresort.hardware.memory import PeakMemory
from lastresort.records.events import FullRateChosen, RungSearched, TrainingReached, TrainingSpent, way_key
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.methods import AdapterMethod, Method, WholeMethod
from lastresort.rungs.supervised.milder import trained_candidate
from lastresort.rungs.supervised.training import SupervisedTraining
from lastresort.spec.sections import SftSettings
from lastresort.systems.files import load_system
from lastresort.systems.system import System

RUNG = "compare"  # as which the record keeps what is trained and measured here


@dataclass(frozen=True, slots=True)
class WinnerSettings:
    """Of the winner: the system that answered on dev, its learning rate, and the epoch after which it was kept."""

    system: System
    rate: float
    epoch: int


class WayFailed(Exception):
    """This way could not be trained or made with this seed; the others go on."""


def settings_of(bench: Workbench) -> WinnerSettings:
    """Of the candidate that the rung sft froze; what a repair made of it is not trained in several ways."""
    search = bench.record.last(RungSearched, "sft")
    assert search is not None, "the winner was tuned by sft"
    system = load_system(bench.candidate_folder("sft", search.chosen))
    trained = trained_candidate(bench, system.name)
    return WinnerSettings(system, trained.learning_rate, trained.stop)


def folder_of(bench: Workbench, way: str, seed: int) -> Path:
    return bench.folder / "compare" / way_key(way, seed)


def train(bench: Workbench, way: str, seed: int, settings: WinnerSettings) -> TrainingSpent:
    """Train one of `TRAINED`, going on where it was cut. Raises Failed where it diverges, BudgetError at a limit."""
    method, folder = _method(bench.task.sft, way, seed), folder_of(bench, way, seed)
    section = bench.task.sft
    if way == "full":
        section = section.model_copy(update={"learning_rates": bench.task.full.learning_rates})
    training = SupervisedTraining(bench, RUNG, section, method, seed=seed, watched=False)
    rate = _rate_of_full(bench, training) if way == "full" else settings.rate
    bench.models.close()
    known, peak = method.saved(folder), PeakMemory()
    loss = training.to_epoch(rate, settings.epoch, folder)
    memory = None if known else peak.read_bytes()
    training.close()
    if not math.isfinite(loss):
        raise WayFailed(f"training diverged at learning rate {rate:g}")
    reached = bench.record.last(TrainingReached, training.run_name(rate))
    assert reached is not None, "a finished training is recorded"
    return TrainingSpent(
        memory_bytes=memory, seconds=reached.seconds, tokens=reached.nominal_tokens, learning_rate=rate
    )


def made(bench: Workbench, way: str, seed: int) -> None:
    """Make one of `MADE` of what its source has trained. Raises Failed where the merged model answers otherwise."""
    if way != "merged":
        return
    from lastresort.train.adapters.merge import merge_adapter

    folder = folder_of(bench, way, seed)
    if (folder / "config.json").is_file():
        return
    bench.progress.stage(f"{RUNG}: {way_key(way, seed)}, merging", None)
    bench.models.close()
    try:
        merge_adapter(bench.models.tuned_name, folder_of(bench, MADE[way], seed), folder)
    except DataError as error:
        raise WayFailed(str(error)) from error


def system_of(bench: Workbench, way: str, seed: int, settings: WinnerSettings) -> System:
    """The winner's system with what this way has trained in place of its adapter."""
    system = replace(settings.system, name=way_key(way, seed), precision="auto", rendering="", fingerprint="")
    folder = folder_of(bench, way, seed)
    if way in ("full", "merged"):
        base = bench.models.tuned_name
        return replace(system, model=str(folder.resolve()), adapter=None, tuned_from=base)
    return replace(system, adapter=folder_of(bench, MADE.get(way, way), seed))


def tidy(bench: Workbench, way: str, seed: int) -> None:
    """Once it is measured: checkpoints, and models of their own size, are only in the way; adapters stay."""
    for checkpoint in (bench.folder / "checkpoints").glob(f"{_prefix(way, seed)}*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    if way in ("full", "merged"):
        shutil.rmtree(folder_of(bench, way, seed), ignore_errors=True)


def _prefix(way: str, seed: int) -> str:
    return f"{RUNG}-{way_key(way, seed)}-"


def _method(sft: SftSettings, way: str, seed: int) -> Method:
    prefix = _prefix(way, seed)
    return WholeMethod(prefix=prefix) if way == "full" else AdapterMethod(sft, in_4_bits=way == "qlora", prefix=prefix)


def _rate_of_full(bench: Workbench, training: SupervisedTraining) -> float:
    """As the rung full finds it, by a race with the first seed; the others take it over."""
    known = bench.record.last(FullRateChosen)
    if known is not None:
        return known.rate
    try:
        rate = training.race()
    except DataError as error:
        raise WayFailed(str(error)) from error
    bench.record.append(FullRateChosen(rate=rate))
    return rate
