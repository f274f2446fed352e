"""Checkpoints: adapter weights and optimizer state as safetensors, written whole or not at all.

A run that goes on from one ends with the same weights as a run that was never cut: the order of rows is a function of the
step, and the optimizer's state is kept exactly.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lastresort.engine.support import FirstBatchCheck
from lastresort.errors import DataError, InputError
from lastresort.foreign import opened, read_json
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.records.atomic import disk_errors, replace_folder, settle_folder
from lastresort.train.adapters.adapters import trainable
from lastresort.train.loop.processes import Processes
from lastresort.types import Progress

STATE, OPTIMIZER, WEIGHTS = "state.json", "optimizer.safetensors", "weights.safetensors"
NUMBER = "|number"
TRAINED_FOR_SAVED = 9  # seconds of training for each that a checkpoint takes: saving is at most a tenth of the time


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """How far a run is. step: optimizer steps done. run: fingerprint of settings and items, so that no other run continues
    it. check: what the first batch showed, so that a run goes on by the path it began with. threads: that compute it, on a
    processor, since their number changes sums by rounding."""

    step: int
    run: str
    computed_tokens: int
    nominal_tokens: int
    seconds: float
    check: FirstBatchCheck | None = None
    threads: int | None = None

    def after(
        self, computed_tokens: int, nominal_tokens: int, seconds: float, check: FirstBatchCheck | None
    ) -> CheckpointState:
        """One step later; the tokens are those of the step."""
        computed, nominal = self.computed_tokens + computed_tokens, self.nominal_tokens + nominal_tokens
        return CheckpointState(self.step + 1, self.run, computed, nominal, seconds, check, self.threads)


class Checkpoints:
    """The checkpoint of one run in `folder`, renewed every so many seconds, or less often where it takes long to save; with 0 after
    each step. The main process writes it, and all read it.
    """

    def __init__(
        self,
        folder: Path,
        model: torch.nn.Module,
        optimizer: Any,
        run: str,
        processes: Processes,
        every_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._folder, self._model, self._optimizer, self._run = folder, model, optimizer, run
        self._processes, self._every_s, self._clock = processes, every_s, clock
        self._saved_at, self._rest_s = clock(), every_s

    def load(self, progress: Progress) -> CheckpointState:
        """How far the run is, its weights and its optimizer's state restored; step 0 without a checkpoint. A checkpoint of another
        run is reported, since this run will replace it.

        Raises DataError where its files are cut short, or where the processes see different ones.
        """
        found = self._processes.main_first(
            lambda: load_checkpoint(self._folder, self._model, self._optimizer, self._run)
        )
        if found is None and self._processes.main and (self._folder / STATE).is_file():
            progress.say(f"{self._folder} holds a checkpoint of other settings, data or weights: training starts over")
        state = found or CheckpointState(0, self._run, 0, 0, 0.0)
        steps = self._processes.each(lambda: state.step)
        if len(set(steps)) > 1:
            raise DataError(
                f"the processes found checkpoints of steps {', '.join(map(str, steps))}",
                where=str(self._folder),
                expected="one folder that all of them see",
                remedy="Put the output on a disk that all machines share.",
            )
        self._saved_at = self._clock()
        return state

    @property
    def due(self) -> bool:
        return self._clock() - self._saved_at > self._rest_s

    def save(self, state: CheckpointState) -> None:
        began = self._clock()
        if self._processes.main:
            save_checkpoint(self._folder, self._model, self._optimizer, state)
            give_back_freed_memory()
        self._saved_at = self._clock()
        if self._every_s:
            self._rest_s = max(self._every_s, TRAINED_FOR_SAVED * (self._saved_at - began))


def save_checkpoint(folder: Path, model: torch.nn.Module, optimizer: Any, state: CheckpointState) -> None:
    """Replace the checkpoint in `folder` by the present state. Raises InfrastructureError when the disk refuses: what was written
    by then, up to a whole model, is then removed, so that it does not keep the disk full.
    """
    from safetensors.torch import save_file

    fresh = _fresh(folder)
    shutil.rmtree(fresh, ignore_errors=True)
    named = trainable(model)
    weights = {name: parameter.detach().contiguous() for name, parameter in named}
    try:
        with disk_errors(folder):
            fresh.mkdir(parents=True)
            save_file(weights, str(fresh / WEIGHTS))
            save_file(_optimizer_state(optimizer, named), str(fresh / OPTIMIZER))
            (fresh / STATE).write_text(json.dumps(asdict(state)), encoding="utf-8")
        replace_folder(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _fresh(folder: Path) -> Path:
    return folder.with_name(folder.name + ".new")


def _optimizer_state(optimizer: Any, named: Sequence[tuple[str, torch.nn.Parameter]]) -> dict[str, torch.Tensor]:
    """By the parameter's name and the value's own. An optimizer of 8 bits counts its steps by a plain number, and its parameters
    share the tables of what 8 bits mean, which safetensors refuses to write twice.
    """
    kept: dict[str, torch.Tensor] = {}
    written: set[int] = set()
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, torch.Tensor):
                kept[f"{name}|{key}{NUMBER}"] = torch.tensor(value)
                continue
            tensor = value.contiguous()
            kept[f"{name}|{key}"] = tensor.clone() if tensor.data_ptr() in written else tensor
            written.add(tensor.data_ptr())
    return kept


def load_checkpoint(folder: Path, model: torch.nn.Module, optimizer: Any, run: str) -> CheckpointState | None:
    """Put the checkpoint's weights and optimizer state back. None if there is none, or if it belongs to another run.

    A `save_checkpoint` that was killed half way is undone first. Raises DataError where its files are cut short.
    """
    with disk_errors(folder):
        settle_folder(folder)
    shutil.rmtree(_fresh(folder), ignore_errors=True)
    if not (folder / STATE).is_file():
        return None
    state = _read_state(folder / STATE)
    if state.run != run:
        return None
    kept = _read_tensors(folder / OPTIMIZER)
    load_weights(folder, model)
    _restore(optimizer, trainable(model), kept)
    return state


def load_weights(folder: Path, model: torch.nn.Module) -> None:
    """Put the weights of the checkpoint into the model. Raises DataError where their file is cut short."""
    weights = _read_tensors(folder / WEIGHTS)
    with torch.no_grad():
        for name, parameter in trainable(model):
            parameter.copy_(weights[name])


def _read_state(path: Path) -> CheckpointState:
    try:
        fields = read_json(path, lenient=True)  # a loss may be NaN
        check = fields.pop("check", None)
        return CheckpointState(**fields, check=None if check is None else FirstBatchCheck(**check))
    except (InputError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path) from error


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with opened(path):  # a FIFO would be waited for
            found: dict[str, torch.Tensor] = load_file(str(path))
    except (SafetensorError, InputError, OSError) as error:
        raise _damaged(path) from error
    return found


def _damaged(path: Path) -> DataError:
    return DataError(
        "the checkpoint is cut short or damaged",
        where=str(path),
        expected="the file that training wrote",
        remedy=f"Copy it again, or remove the folder {path.parent} to train from the start.",
    )


def _restore(optimizer: Any, named: Sequence[tuple[str, torch.nn.Parameter]], kept: Mapping[str, torch.Tensor]) -> None:
    """Hand the state to the optimizer, which puts each value where it needs it: a fused one its step on the device too. On a
    processor it would keep what safetensors maps of the file, which then takes room on the disk after the next checkpoint, too.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Any]] = {}
    for name, parameter in named:
        prefix = f"{name}|"
        own = {
            key.removeprefix(prefix): value.clone() if parameter.device.type == "cpu" else value
            for key, value in kept.items()
            if key.startswith(prefix)
        }
        if own:
            state[numbers[id(parameter)]] = {
                key.removesuffix(NUMBER): value.item() if key.endswith(NUMBER) else value for key, value in own.items()
            }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
