"""How much work a task is for a rung, in tokens, and what would do it: no model is loaded.

How fast this processor trains, reads and answers with a model of some shape: two stacks of a few of its layers, with random
weights, are timed, and what a layer adds counts for all of them. No weight of the model itself is read.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from lastresort.climb.kept_rates import keep_rates, kept_rates
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.token_counts import TokenCounts, counts_of
from lastresort.embedded import converted_already, embedded_gguf
from lastresort.errors import DataError, InputError
from lastresort.hardware.environment import card_here, matrix_flops_per_s
from lastresort.hardware.find import computed_parameters_of, config_of_gguf, parameters_of_gguf
from lastresort.hardware.plan.fit import PlannedTraining
from lastresort.hardware.plan.memory import answers_at_once
from lastresort.hardware.plan.setup import Cards
from lastresort.hardware.plan.time import FORWARD, FROZEN_BASE
from lastresort.hardware.shape import ModelShape, shape_of
from lastresort.hardware.threads import pinned, quickest
from lastresort.ladder import trains
from lastresort.model_heads import model_config
from lastresort.models.api.requests import room_to_think
from lastresort.models.open import EMBEDDED, local_weights
from lastresort.models.protocol import estimated_tokens, is_endpoint
from lastresort.report.words.progress import TIMING, busy_here, timed_before
from lastresort.rungs.divided import card_count, divide
from lastresort.rungs.forecast import Machine, Rates, Workload
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.rung import PlansMemory, RungSetup, find_rung
from lastresort.rungs.supervised.methods import PASS_TOKENS, known_shape
from lastresort.spec.task import Task
from lastresort.types import Example, Progress, ReasoningEffort, SilentProgress

SHALLOW, DEEP = 2, 6
MOST_PARAMETERS = 200_000_000  # of the deeper stack: a larger one would take too long to make and to time
ROWS, ROW_TOKENS, NEW_TOKENS = 16, 64, 12  # a batch of short rows; tokens of each answer
TRIES = 2
PASSES = 4 * (1 + TRIES)  # of each stack: training, reading, long answers and short ones
SILENT = SilentProgress()
_FEATURES = (
    "layer_types",
    "max_window_layers",
    "quantization_config",
)  # tied to the number of layers, or to the weights

Clock = Callable[[], float]


def measured_rates(config: Mapping[str, Any], *, reduced: bool, progress: Progress = SILENT) -> Rates | None:
    """Of a model with this config.json, in bfloat16 if `reduced`; once a process, which takes some seconds: a stage of `progress`.
    Those that another process measured a few minutes ago are taken, and `progress` says when that was.

    None for a family that is not known and for layers that are too large to be timed so.
    """
    key = json.dumps(config, sort_keys=True, default=str), reduced
    if key not in _TIMED:
        now_s = time.time()
        known = kept_rates(config, reduced=reduced, now_s=now_s)
        if known is not None:
            progress.say(timed_before(known.at_s, now_s))
        _TIMED[key] = found = _measured(config, reduced, progress) if known is None else known.rates
        if known is None and found is not None:
            keep_rates(config, found, reduced=reduced, now_s=time.time())
    return _TIMED[key]


def _load() -> float:
    """How many processes computed here in the last minute, on average; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


_TIMED: dict[tuple[str, bool], Rates | None] = {}  # not a cache of `_measured`, which would hold on to a progress


def _measured(config: Mapping[str, Any], reduced: bool, progress: Progress) -> Rates | None:
    try:
        shape, deep = shape_of(config, ""), shape_of({**config, "num_hidden_layers": DEEP}, "")
    except InputError:
        return None
    if deep.parameters > MOST_PARAMETERS or shape.has_experts:
        return None
    at_once = answers_at_once(shape.cached_numbers * (2 if reduced else 4))
    if (load := _load()) >= (cores := os.cpu_count() or 1):
        progress.say(busy_here(load, cores))
    progress.stage(TIMING, PASSES * 2)

    def timed(layers: int) -> tuple[float, float, float]:
        return _timed(config, layers, at_once, reduced, time.perf_counter, progress.advance)

    try:
        shallow_s, deep_s = timed(SHALLOW), timed(DEEP)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, ArithmeticError, MemoryError):
        return None  # an architecture that transformers has otherwise: the climb itself says what is wrong
    whole = [_extrapolated(a, b, shape.layers) for a, b in zip(shallow_s, deep_s, strict=True)]
    return rates_from(shape, at_once, *whole)


def rates_from(shape: ModelShape, at_once: int, train_s: float, read_s: float, answer_s: float) -> Rates:
    """In operations a second as a forecast counts them, from the seconds of a training pass, of reading the same rows, and of one
    token of each of the answers that are decoded at once."""
    weights, tokens = shape.multiplied_parameters, ROWS * ROW_TOKENS
    return Rates(
        training=FROZEN_BASE * weights * tokens / train_s,
        reading=FORWARD * weights * tokens / read_s,
        answering=FORWARD * weights * at_once / answer_s,
    )


def _extrapolated(shallow_s: float, deep_s: float, layers: int) -> float:
    a_layer = max(deep_s - shallow_s, 0.1 * deep_s) / (DEEP - SHALLOW)  # noise must not make layers free
    return max(deep_s + (layers - DEEP) * a_layer, 0.1 * deep_s)


def _timed(
    config: Mapping[str, Any],
    layers: int,
    at_once: int,
    reduced: bool,
    clock: Clock,
    passed: Callable[[], object],
) -> tuple[float, float, float]:
    """Seconds of a training pass, of reading the same rows, and of decoding one token of so many answers at once.

    passed: called PASSES times, after each pass.
    """
    import torch

    from lastresort.engine.choose import Sampling
    from lastresort.engine.forest import Row
    from lastresort.engine.logp import target_logps
    from lastresort.engine.sampling import generate
    from lastresort.train.adapters.adapters import adapters_in_base_precision, attach_adapter, detach
    from lastresort.train.settings import AdapterSettings

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _stack(config, layers, torch.bfloat16 if reduced else torch.float32)
        ids = torch.randint(0, int(model.config.vocab_size), (max(ROWS, at_once), ROW_TOKENS)).tolist()
    rows = [Row(tuple(own), tuple(i >= ROW_TOKENS // 2 for i in range(ROW_TOKENS))) for own in ids[:ROWS]]
    tuned = attach_adapter(model, AdapterSettings(), base_name="")

    def learn() -> None:
        with adapters_in_base_precision(tuned):
            torch.autograd.backward(target_logps(tuned, rows).per_token.sum())

    def read() -> None:
        with torch.no_grad():
            target_logps(model, rows)

    def answer(tokens: int) -> Callable[[], object]:
        return lambda: generate(
            model, ids[:at_once], settings=Sampling(max_new_tokens=tokens, temperature=0.0, rows_at_once=at_once)
        )

    with pinned(quickest(model, ROW_TOKENS)):
        tuned.train()
        train_s = _least(learn, clock, passed)
        model = detach(tuned).eval()
        read_s = _least(read, clock, passed)
        many_s, one_s = (_least(answer(tokens), clock, passed) for tokens in (1 + NEW_TOKENS, 1))
        answer_s = (many_s - one_s) / NEW_TOKENS
    return train_s, read_s, max(answer_s, 1e-6)


def _stack(config: Mapping[str, Any], layers: int, dtype: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    kept = {
        key: value
        for key, value in config.items()
        if key not in (*_FEATURES, "num_hidden_layers", "dtype", "torch_dtype")
    }
    made = AutoConfig.for_model(**kept, num_hidden_layers=layers)
    return AutoModelForCausalLM.from_config(made, dtype=dtype, trust_remote_code=False).requires_grad_(False)


def _least(work: Callable[[], object], clock: Clock, passed: Callable[[], object]) -> float:
    """Of some tries after one that warms up: whatever else runs here only adds."""
    work()
    passed()
    times = []
    for _ in range(TRIES):
        began = clock()
        work()
        times.append(clock() - began)
        passed()
    return min(times)


LEAST_NEW_TOKENS = 16
ALMOST_ALL, MOST = 99, 95  # percent of the training answers
# Examples whose tokens each tokenizer counts, in about 3 s where they have 2,000 each. Of more, an even choice represents all.
COUNTED = 1000


def counted_answers(train: Sequence[Example]) -> list[str]:
    """The training answers that represent the lengths of all, shortest first; the same in every process."""
    answers = sorted((example.output for example in train), key=lambda text: (len(text), text))
    step = -(-len(answers) // COUNTED) or 1
    return answers[::-1][::step][::-1]


def answer_limit(tokens: Sequence[int]) -> int:
    """How long an answer may be, from the lengths of the training answers: twice what 99% of them need.

    What 99% need counts for at most three times what 95% need, which the longest of several never is: in a small set one outlier
    is more than 5%, and every answer that does not end by itself costs the whole limit.
    """
    ordered = sorted(tokens)
    if not ordered:
        return LEAST_NEW_TOKENS
    n = len(ordered)
    almost_all, most = ordered[-(-n * ALMOST_ALL // 100) - 1], ordered[max(1, min(-(-n * MOST // 100), n - 1)) - 1]
    return max(LEAST_NEW_TOKENS, 2 * min(almost_all, 3 * most))


def workload(prepared: PreparedTask, rung: str, progress: Progress = SILENT) -> Workload:
    """The task's size, and the machine or endpoint that would do the rung. progress: shows what is timed."""
    task, split = prepared.task, prepared.split
    model = model_of(task, rung)
    counts, train = counts_of(task, model), some_of(split.train)
    some = some_of((*split.train, *split.dev, *split.test))
    auto = answer_limit([counts.count(text) for text in counted_answers(split.train)])
    about = counts.count(task.about.strip()) + counts.template
    effort = None if trains(rung) else task.decode.reasoning_effort
    rows = [counts.count(example.input_text) + counts.count(example.output) for example in _longest(split.train)]
    found = Workload(
        machine=machine_of(task, model, (task.use.prompt_price, task.use.output_price), progress, effort=effort),
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
        reflecting=_reflecting(task) if rung == "prompting" else None,
    )
    if (cards := _training_cards(task, rung, found)) == 1:
        return found
    lengths = tuple(counts.count(example.input_text) + counts.count(example.output) for example in train)
    return replace(found, machine=replace(found.machine, training_cards=cards), lengths=lengths)


def planned_rung(task: Task, rung: str, work: Workload) -> PlannedTraining | None:
    """The training that a rung makes on one card, in the passes that it makes; rows as long as the longest."""
    found, card, shape = _setup(task, rung, work), card_here(processor=True), known_shape(task.tuned_model, task.folder)
    if found is None or card is None or shape is None:
        return None
    longest = found.longest_tokens
    return PlannedTraining(shape, found.setup, Cards(card), longest, found.items * longest, PASS_TOKENS)


def _setup(task: Task, rung: str, work: Workload) -> RungSetup | None:
    training = find_rung(rung)
    if not isinstance(training, PlansMemory) or work.longest_tokens is None:
        return None
    return training.planned_setup(task, work, work.longest_tokens)


def _training_cards(task: Task, rung: str, work: Workload) -> int:
    """Over how many its trainings are divided. Processes on a processor share the cores that one alone uses."""
    cards = card_count() if trains(rung) and task.tune.processes != 1 else 0
    if not cards:
        return 1
    found = _setup(task, rung, work)
    samples = (
        found is not None and found.setup.learning == "grpo"
    )  # in one process, also with a shape that no plan knows
    return 1 if samples else divide(task.tune.processes, planned_rung(task, rung, work), cards).count


def _reflecting(task: Task) -> Machine | None:
    """What would optimise a prompt, where that is another model than the task's."""
    keys = task.prompting
    if keys.optimise == "off" or task.reflect_model == task.model:
        return None
    return machine_of(task, task.reflect_model, (keys.prompt_price, keys.output_price))


def model_of(task: Task, rung: str) -> str:
    return task.tuned_model if trains(rung) else task.model


def machine_of(
    task: Task,
    model: str,
    prices: tuple[float | None, float | None],
    progress: Progress = SILENT,
    *,
    effort: ReasoningEffort | None = None,
) -> Machine:
    """The model that would work, and this machine's rates. prices: of its prompts and outputs, USD per million tokens. effort: of
    an endpoint's model, as the task names it.

    On a processor some layers of the model's shape are timed, once a process; where they are too large for that, or on a GPU, the
    rates are shares of a matrix product's.
    """
    if is_endpoint(model):
        return Machine(None, 1.0, *prices, thinking_tokens=room_to_think(effort))
    if model.startswith("scripted:"):
        return Machine(None, 1.0)
    from lastresort.models.loading import chosen_device, chosen_dtype, is_reduced

    path = _weights(task, model)
    config = _config(path)
    parameters = _computed_parameters(config, path)
    if config is None or parameters is None:
        return Machine(None, 1.0)
    device = chosen_device()
    reduced = is_reduced(chosen_dtype("auto", device))
    measured = None
    if device.type == "cpu":
        measured = measured_rates(config, reduced=reduced, progress=progress)
    return Machine(parameters, _product_rate(reduced), measured=measured)


@cache
def _product_rate(reduced: bool) -> float:
    """Once a process, as all rungs work on the same machine."""
    return matrix_flops_per_s(reduced)


def _weights(task: Task, model: str) -> Path:
    """Where they are, or would be: nothing is converted."""
    if model == EMBEDDED:
        return converted_already(embedded_gguf()) or embedded_gguf()
    path = Path(local_weights(model, task.folder))
    return (converted_already(path) or path) if path.suffix == ".gguf" and path.is_file() else path


def _config(weights: Path) -> Mapping[str, Any] | None:
    """The configuration of a local model; None for a hub id that is not here, and a GGUF that cannot be read."""
    if weights.suffix == ".gguf" and weights.is_file():
        return _of_gguf(weights)
    if not (weights / "config.json").is_file():
        return None
    return model_config(weights / "config.json")


@cache
def _of_gguf(path: Path) -> Mapping[str, Any] | None:
    try:
        return config_of_gguf(path)
    except DataError:
        return None


def _computed_parameters(config: Mapping[str, Any] | None, weights: Path) -> int | None:
    """What a token is multiplied with."""
    if config is None:
        return None
    found = computed_parameters_of(config)
    return parameters_of_gguf(weights) if found is None and weights.suffix == ".gguf" else found


def some_of(examples: Sequence[Example]) -> Sequence[Example]:
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
