"""How fast this processor trains, reads and answers with a model of some shape: two stacks of a few of its layers, with random
weights, are timed, and what a layer adds counts for all of them. No weight of the model itself is read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from lastresort.errors import InputError
from lastresort.hardware.answers_at_once import answers_at_once
from lastresort.hardware.plan.config import shape_of
from lastresort.hardware.plan.shape import Shape
from lastresort.hardware.plan.time import FORWARD, FROZEN_BASE
from lastresort.rungs.forecast import Rates

SHALLOW, DEEP = 2, 6
MOST_PARAMETERS = 200_000_000  # of the deeper stack: a larger one would take too long to make and to time
ROWS, ROW_TOKENS, NEW_TOKENS = 16, 64, 12  # a batch of short rows; tokens of each answer
TRIES = 2
_FEATURES = (
    "layer_types",
    "max_window_layers",
    "quantization_config",
)  # tied to the number of layers, or to the weights

Clock = Callable[[], float]


def measured_rates(config: Mapping[str, Any], *, reduced: bool) -> Rates | None:
    """Of a model with this config.json, in bfloat16 if `reduced`; once a process, which takes some seconds.

    None for a family that is not known and for layers that are too large to be timed so.
    """
    return _measured(json.dumps(config, sort_keys=True, default=str), reduced)


@cache
def _measured(text: str, reduced: bool) -> Rates | None:
    config = json.loads(text)
    try:
        shape, deep = shape_of(config, ""), shape_of({**config, "num_hidden_layers": DEEP}, "")
    except InputError:
        return None
    if deep.parameters > MOST_PARAMETERS or shape.has_experts:
        return None
    at_once = answers_at_once(shape.cached_numbers * (2 if reduced else 4))
    try:
        shallow_s, deep_s = (_timed(config, layers, at_once, reduced, time.perf_counter) for layers in (SHALLOW, DEEP))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError):
        return None  # an architecture that transformers has otherwise: the climb itself says what is wrong
    whole = [_extrapolated(a, b, shape.layers) for a, b in zip(shallow_s, deep_s, strict=True)]
    return rates_from(shape, at_once, *whole)


def rates_from(shape: Shape, at_once: int, train_s: float, read_s: float, answer_s: float) -> Rates:
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
    config: Mapping[str, Any], layers: int, at_once: int, reduced: bool, clock: Clock
) -> tuple[float, float, float]:
    """Seconds of a training pass, of reading the same rows, and of decoding one token of so many answers at once."""
    import torch

    from lastresort.engine.choose import Sampling
    from lastresort.engine.forest import Row
    from lastresort.engine.logp import target_logps
    from lastresort.engine.sampling import generate
    from lastresort.train.adapters import adapters_in_base_precision, attach_adapter, detach
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

    tuned.train()
    train_s = _least(learn, clock)
    model = detach(tuned).eval()
    read_s = _least(read, clock)
    answer_s = (_least(answer(1 + NEW_TOKENS), clock) - _least(answer(1), clock)) / NEW_TOKENS
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


def _least(work: Callable[[], object], clock: Clock) -> float:
    """Of some tries after one that warms up: whatever else runs here only adds."""
    work()
    times = []
    for _ in range(TRIES):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)
