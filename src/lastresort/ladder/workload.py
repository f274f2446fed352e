"""How much work a task is for a rung, in estimated tokens, and what would do it: no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastresort.embedded import embedded_gguf
from lastresort.ladder.prepare import Prepared
from lastresort.models.estimate import estimated_tokens
from lastresort.models.open import EMBEDDED, local_folder
from lastresort.models.protocol import is_endpoint
from lastresort.rungs.forecast import Machine, Workload
from lastresort.rungs.prompting import instruction
from lastresort.rungs.sft_training import tuned_model
from lastresort.spec.task import Task
from lastresort.types import Example

LEAST_NEW_TOKENS = 16
TEMPLATE_TOKENS = 16  # turn markers of a usual chat template


def workload(prepared: Prepared, rung: str) -> Workload:
    """The task's size in estimated tokens (UTF-8 bytes / 4), and the machine or endpoint that would do the rung."""
    task, split = prepared.task, prepared.split
    longest = max((estimated_tokens(example.output) for example in split.train), default=0)
    auto = max(LEAST_NEW_TOKENS, 2 * longest)
    prices = (task.use.prompt_price, task.use.output_price)
    return Workload(
        machine=machine_of(task, task.model if rung in ("prompting", "retrieval") else tuned_model(task), prices),
        n_train=len(split.train),
        n_dev=len(split.dev),
        n_test=len(split.test),
        instruction_tokens=estimated_tokens(instruction(task)) + TEMPLATE_TOKENS,
        input_tokens=_mean_tokens((*split.train, *split.dev, *split.test), lambda example: example.input_text),
        output_tokens=_mean_tokens(split.train, lambda example: example.output),
        max_new_tokens=auto if task.decode.max_new_tokens == "auto" else int(task.decode.max_new_tokens),
    )


def machine_of(task: Task, model: str, prices: tuple[float | None, float | None]) -> Machine:
    """The model that would work, and this machine's rate. prices: of its prompts and outputs, USD per million tokens."""
    if is_endpoint(model):
        return Machine(None, 1.0, *prices)
    if model.startswith("scripted:"):
        return Machine(None, 1.0)
    from lastresort.hardware.probe import matrix_flops_per_s
    from lastresort.models.precision import chosen_device, chosen_dtype, is_reduced

    parameters = _parameters(embedded_gguf() if model == EMBEDDED else local_folder(model, task.folder))
    if parameters is None:
        return Machine(None, 1.0)
    return Machine(parameters, matrix_flops_per_s(is_reduced(chosen_dtype("auto", chosen_device()))))


def _parameters(weights: Path | str) -> int | None:
    """What a token is multiplied with in a local model, by config.json or a GGUF; None for a hub id that is not here."""
    from lastresort.hardware.shapes import computed_parameters_of, parameters_of_gguf

    path = Path(weights)
    if path.is_file() and path.suffix == ".gguf":
        return parameters_of_gguf(path)
    if not (path / "config.json").is_file():
        return None
    return computed_parameters_of(json.loads((path / "config.json").read_text(encoding="utf-8")))


def _mean_tokens(examples: Sequence[Example], text: Any) -> float:
    return sum(estimated_tokens(text(example)) for example in examples) / len(examples) if examples else 0.0
