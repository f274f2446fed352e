"""A tuned system with what was trained at a fraction of its strength: of an adapter or of all weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lastresort.rungs.methods import WholeMethod, load_to_train
from lastresort.rungs.rung import Workbench
from lastresort.systems.system import System


def scaled(bench: Workbench, system: System, scale: float) -> System:
    """Written below the run, once. Raises CandidateError where the adapter has no strength that is a number."""
    name = f"{system.name}-scale{scale:g}"
    if system.adapter is not None:
        return replace(_anew(system, name), adapter=_adapter(bench, system.adapter, scale, name))
    return replace(_anew(system, name), model=str(_weights(bench, Path(system.model), scale, name).resolve()))


def _anew(system: System, name: str) -> System:
    """Not measured yet."""
    return replace(system, name=name, rendering="", fingerprint="")


def _adapter(bench: Workbench, adapter: Path, scale: float, name: str) -> Path:
    from lastresort.train.scaled import scale_adapter

    folder = bench.folder / "adapters" / name
    if not folder.is_dir():
        scale_adapter(adapter, scale, folder)
    return folder


def _weights(bench: Workbench, model: Path, scale: float, name: str) -> Path:
    from lastresort.train.scaled import scale_weights

    method = WholeMethod()
    folder = bench.folder / method.folder / name
    if not method.saved(folder):
        bench.progress.stage(f"scaling what was trained to {scale:g}", None)
        trained = load_to_train(bench, weights=model, precision="float32", quantize="no", keep_on_cpu=True)
        base = load_to_train(bench, precision="float32", quantize="no", keep_on_cpu=True)
        scale_weights(base.model, trained.model, scale)
        method.save(trained, trained.model, folder)
    return folder
