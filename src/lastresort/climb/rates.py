"""How fast this machine trains, reads and answers with a model of some shape, on its first GPU if it has one.

Two stacks of a few of its layers, with random weights, are timed, and what a layer adds counts for all of them. No weight of the
model itself is read. The rates are kept in the user's cache, so that a climb that starts right after its forecast times nothing
again; for minutes only, as another program may have slowed what was timed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lastresort.embedded import cache_folder
from lastresort.errors import InfrastructureError, InputError
from lastresort.hardware.environment import card_here
from lastresort.hardware.memory import free_memory_bytes, give_back_freed_memory
from lastresort.hardware.plan.memory import answers_at_once
from lastresort.hardware.plan.time import FORWARD, FROZEN_BASE
from lastresort.hardware.shape import ModelShape, shape_of
from lastresort.hardware.threads import SET_BY_USER, pinned, quickest
from lastresort.records.atomic import write_atomically
from lastresort.report.words.progress import TIMING, busy_here, timed_before
from lastresort.rungs.forecast import Rates
from lastresort.types import SILENT, Progress
from lastresort.version import __version__

KEPT_S = 600.0
SHALLOW, DEEP = 2, 6
MOST_PARAMETERS = 200_000_000  # of the deeper stack on a processor: a larger one takes too long to make and to time
GPU_BYTES_PER_PARAMETER = 16  # of what is free on a GPU: weights in float32, and three times as much beside them
ROWS, ROW_TOKENS, NEW_TOKENS = 16, 64, 12  # a batch of short rows; tokens of each answer
TRIES = 2
LONGEST_S = 10.0  # of a stack: what is left to time then is passed through once
PASSES = 6 * (1 + TRIES)  # of each stack: training, reading, long answers and short ones, of a batch and of one row

_FEATURES = (
    "layer_types",
    "max_window_layers",
    "quantization_config",
)  # tied to the number of layers, or to the weights

Clock = Callable[[], float]

_log = logging.getLogger("lastresort")


@dataclass(frozen=True, slots=True)
class KeptRates:
    """at_s: when they were measured, in seconds since 1970. load: of the machine when that began."""

    rates: Rates
    at_s: float
    load: float


_READ = TypeAdapter(KeptRates)


def kept_rates(config: Mapping[str, Any], *, reduced: bool, now_s: float) -> KeptRates | None:
    """Of a model with this config.json, in bfloat16 if `reduced`. None where nothing was measured in the last KEPT_S seconds, with
    these versions and as many threads, or where the file cannot be read.
    """
    try:
        kept = _READ.validate_json(_file(config, reduced).read_bytes())
    except (OSError, ValidationError):
        return None
    is_sound = all(rate is None or (math.isfinite(rate) and rate > 0) for rate in asdict(kept.rates).values())
    return kept if is_sound and 0 <= now_s - kept.at_s <= KEPT_S else None


def keep_rates(config: Mapping[str, Any], found: KeptRates, *, reduced: bool) -> None:
    try:
        write_atomically(_file(config, reduced), _READ.dump_json(found))
    except InfrastructureError as error:  # only slower the next time
        _log.debug("rates not kept: %s", error)


def _file(config: Mapping[str, Any], reduced: bool) -> Path:
    """Named by all that decides them: the model's shape, the machine, its threads and the versions of what computes."""
    import torch

    threads = {name: os.environ.get(name) for name in SET_BY_USER} | {"torch": torch.get_num_threads()}
    card = card_here(processor=False)
    machine = (platform.node(), platform.machine(), None if card is None else card.name)
    decides = (dict(config), reduced, machine, threads, torch.__version__, __version__)
    name = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "rates" / f"{name}.json"


def measured_rates(config: Mapping[str, Any], *, reduced: bool, progress: Progress = SILENT) -> Rates | None:
    """Of a model with this config.json, in bfloat16 if `reduced`; once a process, which takes some seconds: a stage of `progress`.
    Those that another process measured a few minutes ago are taken, and `progress` says when that was.

    None for a family that is not known and for layers that are too large to be timed so.
    """
    key = json.dumps(config, sort_keys=True, default=str), reduced
    if key not in _TIMED:
        now_s, load, cores = time.time(), _load(), os.cpu_count() or 1
        kept = kept_rates(config, reduced=reduced, now_s=now_s)
        if kept is not None:
            progress.say(timed_before(kept.at_s, now_s, kept.load, load, cores))
        _TIMED[key] = rates = _measured(config, reduced, progress, load, cores) if kept is None else kept.rates
        if kept is None and rates is not None:
            keep_rates(config, KeptRates(rates, time.time(), load), reduced=reduced)
    return _TIMED[key]


def _load() -> float:
    """How many processes computed here in the last minute, on average; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


_TIMED: dict[tuple[str, bool], Rates | None] = {}  # not a cache of `_measured`, which would hold on to a progress


def _measured(config: Mapping[str, Any], reduced: bool, progress: Progress, load: float, cores: int) -> Rates | None:
    try:
        shape, deep = shape_of(config, ""), shape_of({**config, "num_hidden_layers": DEEP}, "")
    except InputError:
        return None
    if deep.parameters > _most_parameters() or shape.has_experts:
        return None
    at_once = answers_at_once(shape.cached_numbers * (2 if reduced else 4))
    if load >= cores:
        progress.say(busy_here(load, cores))
    progress.stage(TIMING, PASSES * 2)

    def timed(layers: int) -> tuple[float, float, float, float]:
        return _timed(config, layers, at_once, reduced, time.perf_counter, progress.advance)

    try:
        shallow_s, deep_s = timed(SHALLOW), timed(DEEP)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, ArithmeticError, MemoryError):
        return None  # an architecture that transformers has otherwise: the climb itself says what is wrong
    finally:
        give_back_freed_memory(gpu=True)  # workers may open the model on the same GPU
    whole_s = [_extrapolated(a, b, shape.layers) for a, b in zip(shallow_s, deep_s, strict=True)]
    return rates_from(shape, at_once, *whole_s)


def _most_parameters() -> int:
    from lastresort.models.loading import chosen_device

    on_gpu = chosen_device().type == "cuda"
    return (free_memory_bytes() or 0) // GPU_BYTES_PER_PARAMETER if on_gpu else MOST_PARAMETERS


def rates_from(
    shape: ModelShape, at_once: int, train_s: float, read_s: float, answer_s: float, alone_s: float
) -> Rates:
    """In operations a second as a forecast counts them, from the seconds of a training pass, of reading the same rows, of one token
    of each of the answers that are decoded at once, and of one token of one alone."""
    weights, tokens = shape.multiplied_parameters, ROWS * ROW_TOKENS
    return Rates(
        training=FROZEN_BASE * weights * tokens / train_s,
        reading=FORWARD * weights * tokens / read_s,
        answering=FORWARD * weights * at_once / answer_s,
        alone=FORWARD * weights / alone_s,
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
    on_passes: Callable[[int], object],
) -> tuple[float, float, float, float]:
    """Seconds of a training pass, of reading the same rows, of decoding one token of so many answers at once, and of one alone.

    on_passes: called with numbers of passes that come to PASSES, also of those that LONGEST_S leaves no time for.
    """
    import torch

    from lastresort.engine.choose import Sampling
    from lastresort.engine.forest import Row
    from lastresort.engine.logp import target_logps
    from lastresort.engine.sampling import generate
    from lastresort.engine.support import support
    from lastresort.models.loading import chosen_device
    from lastresort.train.adapters.adapters import adapters_in_base_precision, attach_adapter, detach
    from lastresort.train.settings import AdapterSettings

    device = chosen_device()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(0)
        with device:
            model = _stack(config, layers, torch.bfloat16 if reduced else torch.float32)
        ids = torch.randint(0, int(model.config.vocab_size), (max(ROWS, at_once), ROW_TOKENS)).tolist()
    rows = [Row(tuple(row_ids), tuple(i >= ROW_TOKENS // 2 for i in range(ROW_TOKENS))) for row_ids in ids[:ROWS]]
    tuned = attach_adapter(model, AdapterSettings(), base_name="")

    def wait() -> None:
        """A GPU computes on while the program goes on."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def learn() -> None:
        with adapters_in_base_precision(tuned):
            torch.autograd.backward(target_logps(tuned, rows).per_token.sum())
        wait()

    def read() -> None:
        with torch.no_grad():
            target_logps(model, rows)
        wait()

    def answer(n_rows: int, tokens: int) -> Callable[[], object]:
        return lambda: generate(
            model, ids[:n_rows], settings=Sampling(max_new_tokens=tokens, temperature=0.0, rows_at_once=n_rows)
        )

    support(model)  # kernels are tried now, so that this takes nothing of the time
    until_s = clock() + LONGEST_S

    def least_s(work: Callable[[], object]) -> float:
        return _least_s(work, clock, until_s, on_passes)

    def token_s(n_rows: int) -> float:
        many_s, one_s = (least_s(answer(n_rows, tokens)) for tokens in (1 + NEW_TOKENS, 1))
        return max(many_s - one_s, 0.1 * many_s) / NEW_TOKENS  # noise must not make tokens free

    with pinned(quickest(model, ROW_TOKENS)):
        tuned.train()
        train_s = least_s(learn)
        model = detach(tuned).eval()
        read_s = least_s(read)
        return train_s, read_s, token_s(at_once), token_s(1)


def _stack(config: Mapping[str, Any], layers: int, dtype: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    shape_keys = {
        key: value
        for key, value in config.items()
        if key not in (*_FEATURES, "num_hidden_layers", "dtype", "torch_dtype")
    }
    stack_config = AutoConfig.for_model(**shape_keys, num_hidden_layers=layers)
    return AutoModelForCausalLM.from_config(stack_config, dtype=dtype, trust_remote_code=False).requires_grad_(False)


def _least_s(work: Callable[[], object], clock: Clock, until_s: float, on_passes: Callable[[int], object]) -> float:
    """Of some tries after one that warms up: whatever else runs here only adds. Once it is `until_s` there is no further try, and
    the one that warms up counts where it is all there is: passes that take seconds hardly lose by being the first.
    """
    times_s = list[float]()
    while len(times_s) <= TRIES and not (times_s and clock() >= until_s):
        start_s = clock()
        work()
        times_s.append(clock() - start_s)
        on_passes(1)
    if missing := 1 + TRIES - len(times_s):
        on_passes(missing)
    return min(times_s[1:] or times_s)
