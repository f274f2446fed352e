"""Checkpoints: adapter weights and optimizer state as safetensors, written whole or not at all.

A run that goes on from one ends with the same weights as a run that was never cut: the order of rows is a function of the
step, and the optimizer's state is kept exactly.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lastresort.records.atomic import replace_folder
from lastresort.train.adapters import trainable

STATE, OPTIMIZER, WEIGHTS = "state.json", "optimizer.safetensors", "weights.safetensors"


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """Where a run stands. step: optimizer steps done. run: fingerprint of settings and rows, so that no other run continues it."""

    step: int
    run: str
    computed_tokens: int
    nominal_tokens: int
    seconds: float


def save_checkpoint(folder: Path, model: torch.nn.Module, optimizer: Any, state: CheckpointState) -> None:
    """Replace the checkpoint in `folder` by the present state."""
    from safetensors.torch import save_file

    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    named = trainable(model)
    save_file({name: parameter.detach().contiguous() for name, parameter in named}, str(fresh / WEIGHTS))
    kept = {}
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            kept[f"{name}|{key}"] = torch.as_tensor(value).contiguous()
    save_file(kept, str(fresh / OPTIMIZER))
    (fresh / STATE).write_text(json.dumps({k: getattr(state, k) for k in CheckpointState.__slots__}), encoding="utf-8")
    replace_folder(fresh, folder)


def load_checkpoint(folder: Path, model: torch.nn.Module, optimizer: Any, run: str) -> CheckpointState | None:
    """Put the checkpoint's weights and optimizer state back. None if there is none, or if it belongs to another run."""
    from safetensors.torch import load_file

    if not (folder / STATE).is_file():
        return None
    state = CheckpointState(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    if state.run != run:
        return None
    weights, kept = load_file(str(folder / WEIGHTS)), load_file(str(folder / OPTIMIZER))
    with torch.no_grad():
        for name, parameter in trainable(model):
            parameter.copy_(weights[name])
            prefix = f"{name}|"
            optimizer.state[parameter] = {k[len(prefix) :]: v for k, v in kept.items() if k.startswith(prefix)}
    return state
