"""A supervised training done again, milder: with more replay or at a lower learning rate, and as long as the one before."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

from lastresort.rungs.methods import AdapterMethod, WholeMethod
from lastresort.rungs.milder import Training
from lastresort.rungs.rung import Workbench
from lastresort.rungs.sft_training import SupervisedTraining, trained_as
from lastresort.rungs.trained_rendering import noted_rendering
from lastresort.spec.sections import Sft
from lastresort.spec.tuning_sections import Full
from lastresort.systems.system import System


def training_of(bench: Workbench, rung: str, section: Sft | Full, name: str) -> Training:
    """Of a candidate that `SupervisedTraining.finish` named."""
    rate, epoch = trained_as(name, section.learning_rates)
    search = bench.record.last("search", rung)
    assert search is not None, "what is repaired was searched"
    kept = {
        trained_as(one["name"], section.learning_rates)[1]: one["name"]
        for one in search["candidates"]
        if "+" not in one["name"]
    }
    earlier = ((number, kept[number]) for number in sorted(kept, reverse=True) if number < epoch)
    return Training(rate, section.replay, tuple(earlier))


def trained_anew(
    bench: Workbench,
    rung: str,
    section: Sft | Full,
    method: AdapterMethod | WholeMethod,
    system: System,
    *,
    replay: float | None,
    learning_rate: float | None,
) -> System | None:
    """As `TrainsAnew.train_anew`. method: as the rung trains."""
    before, epoch = trained_as(system.name, section.learning_rates)
    rate = learning_rate or before
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
    held = "+constrained" if system.decoding.grammar is not None else ""
    made = replace(
        system,
        name=f"{name}{held}",
        rendering="",
        fingerprint="",
        trained_rendering=noted_rendering(bench.record, rung),
    )
    return replace(made, model=str(folder.resolve())) if system.tuned_from else replace(made, adapter=folder)
