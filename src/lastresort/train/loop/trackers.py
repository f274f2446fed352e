"""Trackers of a run (TensorBoard, MLflow, Weights & Biases, Trackio) through accelerate: each figure of each step."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.errors import PrerequisiteError

MODULES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}
PROJECT = "lastresort"


def require_trackers(names: Sequence[str]) -> None:
    """Raise PrerequisiteError for the first tracker whose package is not here."""
    for name in names:
        if not any(importlib.util.find_spec(module) for module in MODULES[name]):
            raise PrerequisiteError(
                f"{name} is not installed", where="track", remedy=f"Run: pip install {name}, or remove it from track."
            )


class Trackers:
    """Open trackers; none of them is no trouble. names: of `MODULES`, or trackers of accelerate's own type.

    folder: where those that write files put them. settings: shown as the run's configuration.
    """

    def __init__(self, names: Sequence[Any], folder: Path, settings: Mapping[str, Any]) -> None:
        self._accelerator: Any = None
        if not names:
            return
        require_trackers([name for name in names if isinstance(name, str)])
        import torch
        from accelerate import Accelerator

        self._accelerator = Accelerator(
            log_with=list(names), project_dir=str(folder / "trackers"), cpu=not torch.cuda.is_available()
        )
        if len(self._accelerator.log_with) < len(names):  # accelerate leaves out, without a word, what it finds unfit
            told = ", ".join(str(name) for name in names)
            raise PrerequisiteError(
                f"accelerate cannot use one of {told} here",
                where="track",
                remedy="Install its whole package, or remove it.",
            )
        self._accelerator.init_trackers(PROJECT, config=_flat(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self._accelerator is not None:
            self._accelerator.log(dict(values), step=step)

    def close(self) -> None:
        """Not by accelerate's end_training, which also cuts the connection to the other processes of the run."""
        for tracker in self._accelerator.trackers if self._accelerator is not None else ():
            tracker.finish()


def _flat(settings: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Plain values as they are, all else as JSON: trackers take nothing else."""
    plain = (str, int, float, bool)
    return {
        key: value if isinstance(value, plain) else json.dumps(value)
        for key, value in settings.items()
        if value is not None
    }
