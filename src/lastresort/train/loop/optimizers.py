"""Optimizers and schedules by name, and the weights at the start of a training, to restore or compare with."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.parts import whole
from lastresort.errors import PrerequisiteError
from lastresort.train.adapters.adapters import trainable
from lastresort.train.settings import Optimizer, TrainSettings

_PAGED = "paged_adamw_8bit"
_TIMES = "times"  # how many times the schedule's rate a group of parameters learns at


def require_optimizer(name: Optimizer) -> None:
    """Raise PrerequisiteError where paged_adamw_8bit has no CUDA device or no bitsandbytes: known before anything is loaded."""
    if name != _PAGED:
        return
    where = f"optimizer {_PAGED}"
    if not torch.cuda.is_available():
        raise PrerequisiteError("no CUDA device here", where=where, remedy="Take adamw.")
    try:
        importlib.import_module("bitsandbytes.optim")
    except ImportError as error:
        raise PrerequisiteError(
            "bitsandbytes is not installed", where=where, remedy="Run: pip install 'lastresort[qlora]'"
        ) from error


def build_optimizer(parameters: Sequence[tuple[str, torch.nn.Parameter]], settings: TrainSettings) -> Any:
    """adamw: torch's fused AdamW. paged_adamw_8bit: bitsandbytes', whose state is 8 bits wide and moves out of the GPU's way.

    parameters: with their names, as PEFT gives them. Raises PrerequisiteError as `require_optimizer` does.
    """
    groups, rate, decay = _groups(parameters, settings.loraplus_lr_ratio), settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)
    require_optimizer(settings.optimizer)
    from bitsandbytes.optim import PagedAdamW8bit

    return PagedAdamW8bit(groups, lr=rate, weight_decay=decay)


def _groups(parameters: Sequence[tuple[str, torch.nn.Parameter]], ratio: float) -> list[dict[str, Any]]:
    """One group, or with a ratio a second one of what LoRA+ speeds up: every B, and vectors such as DoRA's magnitudes."""
    if ratio == 1:
        return [{"params": [parameter for _, parameter in parameters], _TIMES: 1.0}]
    slow: list[torch.nn.Parameter] = []
    fast: list[torch.nn.Parameter] = []
    for name, parameter in parameters:
        (fast if "lora_B" in name or parameter.ndim == 1 else slow).append(parameter)
    return [{"params": slow, _TIMES: 1.0}, {"params": fast, _TIMES: ratio}]


def learning_rate_at(step: int, steps: int, settings: TrainSettings) -> float:
    """Learning rate of step `step` (0-based) of `steps`: a linear warm-up, then linear or cosine to 0 at `steps`, or constant."""
    warm = round(settings.warmup * steps) if settings.warmup < 1 else round(settings.warmup)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    left = max(0.0, (steps - step) / max(1, steps - warm))
    if settings.schedule == "linear":
        return settings.learning_rate * left
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (1 - left)))
    return settings.learning_rate


def take_step(optimizer: Any, rate: float, max_grad_norm: float) -> float:
    """One step at learning rate `rate`, the gradients clipped and then emptied; returns their norm before that.

    Where the norm is no finite number the weights stay as they are: clipping would make every one of them nan.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_TIMES]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)))
    if math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad()
    return norm


def trainable_copies(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone().contiguous() for name, parameter in trainable(model)}


class StartWeights:
    """The trainable parameters of `model` at its start. weights: read back, None to copy those that it has now."""

    def __init__(self, model: Any, weights: dict[str, Tensor] | None = None) -> None:
        self._model = model
        self._kept = trainable_copies(model) if weights is None else weights

    def restore(self) -> None:
        """Put the model back to its start."""
        self._put(self._kept)

    def frozen(self, module: torch.nn.Module) -> torch.nn.Module:
        """A part of the model as it was at its start, whole in every process; it shares the weights kept here, where these are
        whole and on its device."""
        names = {parameter: name for name, parameter in trainable(self._model)}
        weights = {
            id(parameter): torch.nn.Parameter(
                whole(self._kept[names[parameter]] if parameter in names else parameter.detach()).to(parameter.device),
                False,
            )
            for parameter in module.parameters()
        }
        return copy.deepcopy(module, weights)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The model is at its start inside, and as before afterwards. Gradients and the optimizer's state stay as they are."""
        trained = trainable_copies(self._model)
        self.restore()
        try:
            yield
        finally:
            self._put(trained)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in trainable(self._model):
            parameter.copy_(weights[name])
