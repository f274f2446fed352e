"""How much work a task is for a rung, in tokens, and what would do it: no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lastresort.embedded import converted_already, embedded_gguf
from lastresort.errors import DataError, PrerequisiteError
from lastresort.hardware.gguf_head import config_of_gguf
from lastresort.hardware.shapes import computed_parameters_of, parameters_of_gguf
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.token_counts import TokenCounts, counts_of
from lastresort.models.estimate import estimated_tokens
from lastresort.models.open import EMBEDDED, local_folder
from lastresort.models.protocol import is_endpoint
from lastresort.rungs.forecast import Machine, Workload
from lastresort.rungs.prompting import instruction
from lastresort.rungs.sft_training import tuned_model
from lastresort.spec.task import Task
from lastresort.types import Example

LEAST_NEW_TOKENS = 16
COUNTED = 1000  # examples whose tokens are counted; of more an even choice stands for all


def workload(prepared: Prepared, rung: str) -> Workload:
    """The task's size, and the machine or endpoint that would do the rung."""
    task, split = prepared.task, prepared.split
    model = model_of(task, rung)
    counts, train = counts_of(task, model), _some(split.train)
    some = _some((*split.train, *split.dev, *split.test))
    answers = sorted({example.output for example in split.train}, key=len, reverse=True)[:COUNTED]
    auto = max(LEAST_NEW_TOKENS, 2 * max(map(counts.count, answers), default=0))
    about = counts.count(task.about.strip()) + counts.template
    rows = [counts.count(example.input_text) + counts.count(example.output) for example in _longest(split.train)]
    return Workload(
        machine=machine_of(task, model, (task.use.prompt_price, task.use.output_price)),
        n_train=len(split.train),
        n_dev=len(split.dev),
        n_test=len(split.test),
        instruction_tokens=counts.count(instruction(task)) + counts.template,
        about_tokens=about,
        input_tokens=_mean(counts.count(example.input_text) for example in some),
        output_tokens=_mean(counts.count(example.output) for example in train),
        max_new_tokens=auto if task.decode.max_new_tokens == "auto" else int(task.decode.max_new_tokens),
        per_estimate=_per_estimate(counts, [example.input_text + example.output for example in some]),
        longest_tokens=about + max(rows) if rows else None,
    )


def model_of(task: Task, rung: str) -> str:
    return task.model if rung in ("prompting", "retrieval") else tuned_model(task)


def machine_of(task: Task, model: str, prices: tuple[float | None, float | None]) -> Machine:
    """The model that would work, and this machine's rates. prices: of its prompts and outputs, USD per million tokens.

    On a processor some layers of the model's shape are timed, once a process; where they are too large for that, or on a GPU, the
    rates are shares of a matrix product's.
    """
    if is_endpoint(model):
        return Machine(None, 1.0, *prices)
    if model.startswith("scripted:"):
        return Machine(None, 1.0)
    from lastresort.hardware.probe import matrix_flops_per_s
    from lastresort.models.precision import chosen_device, chosen_dtype, is_reduced

    path = _weights(task, model)
    config = _config(path)
    parameters = _computed_parameters(config, path)
    if config is None or parameters is None:
        return Machine(None, 1.0)
    device = chosen_device()
    reduced = is_reduced(chosen_dtype("auto", device))
    measured = None
    if device.type == "cpu":
        from lastresort.ladder.rates import measured_rates

        measured = measured_rates(config, reduced=reduced)
    return Machine(parameters, matrix_flops_per_s(reduced), measured=measured)


def _weights(task: Task, model: str) -> Path:
    """Where they are, or would be: nothing is converted."""
    if model == EMBEDDED:
        return converted_already(embedded_gguf()) or embedded_gguf()
    path = Path(local_folder(model, task.folder))
    return (converted_already(path) or path) if path.suffix == ".gguf" and path.is_file() else path


def _config(weights: Path) -> Mapping[str, Any] | None:
    """The configuration of a local model; None for a hub id that is not here, and a GGUF that cannot be read."""
    if weights.suffix == ".gguf" and weights.is_file():
        return _of_gguf(weights)
    if not (weights / "config.json").is_file():
        return None
    found: Mapping[str, Any] = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    return found


@cache
def _of_gguf(path: Path) -> Mapping[str, Any] | None:
    try:
        return config_of_gguf(path)
    except (PrerequisiteError, DataError):
        return None


def _computed_parameters(config: Mapping[str, Any] | None, weights: Path) -> int | None:
    """What a token is multiplied with."""
    if config is None:
        return None
    found = computed_parameters_of(config)
    return parameters_of_gguf(weights) if found is None and weights.suffix == ".gguf" else found


def _some(examples: Sequence[Example]) -> Sequence[Example]:
    """At most COUNTED of them, evenly spread."""
    step = -(-len(examples) // COUNTED) or 1
    return examples[::step]


def _longest(examples: Sequence[Example]) -> Sequence[Example]:
    """By their letters, among which the longest in tokens is."""
    return sorted(examples, key=lambda example: len(example.input_text) + len(example.output), reverse=True)[:20]


def _mean(counted: Iterable[int]) -> float:
    values = list(counted)
    return sum(values) / len(values) if values else 0.0


def _per_estimate(counts: TokenCounts, texts: Sequence[str]) -> float:
    estimated = sum(map(estimated_tokens, texts))
    return sum(map(counts.count, texts)) / estimated if estimated else 1.0
