"""A step of SFT through fused layers and through PEFT's and transformers' own, by turns in one process, and answers alike:
`python -m benchmarks.layers PRECISION TARGET STEPS` prints one JSON line.

In bfloat16 the model's own way answers with adapters in float32, the fused one in bfloat16: a part of that ratio.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.material import SFT_CASES, embedded, rows_of
from lastresort.engine import parts as forward
from lastresort.engine.choose import Sampling
from lastresort.engine.logp import target_logps
from lastresort.engine.sampling import generate
from lastresort.train.adapters.adapters import adapters_in_base_precision, attach_adapter
from lastresort.train.settings import AdapterSettings

WAYS = ("fused", "own")
BATCHES, ANSWERS, NEW_TOKENS = (2, 8), 32, 16


@contextmanager
def layers(way: str) -> Iterator[None]:
    """own: by the model's own forward, as where layers are not of the form that is fused."""
    known = forward.fused_layers
    if way == "own":
        forward.fused_layers = lambda trunk: None
    try:
        yield
    finally:
        forward.fused_layers = known


def by_turns(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Median seconds of each way, the first turn of each apart; who begins changes from turn to turn."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(count + 1):
        for way in WAYS if turn % 2 else reversed(WAYS):
            with layers(way):
                begun = time.perf_counter()
                work(turn)
                seconds[way].append(time.perf_counter() - begun)
    return {way: median(found[1:]) for way, found in seconds.items()}


def main(precision: str, target: Any, steps: int) -> dict[str, dict[str, float]]:
    loaded = embedded(precision)
    rows = rows_of(SFT_CASES[1], loaded.tokenizer, max(BATCHES) * (steps + 1))
    model = attach_adapter(loaded.model, AdapterSettings(target=target), base_name="embedded").train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step(batch: int, turn: int) -> None:
        with adapters_in_base_precision(model):
            found = target_logps(model, rows[batch * turn : batch * (turn + 1)])
        torch.autograd.backward(-found.per_token.mean())
        optimizer.step()
        optimizer.zero_grad()

    found = {f"a step of SFT, batches of {batch}": by_turns(partial(step, batch), steps) for batch in BATCHES}
    model.eval()
    prompts = [row.prompt for row in rows[:ANSWERS]]
    settings = Sampling(NEW_TOKENS, rows_at_once=ANSWERS)
    answers = by_turns(lambda _: generate(model, prompts, settings=settings), 3)
    return {**found, f"{ANSWERS} answers of {NEW_TOKENS} tokens": answers}


if __name__ == "__main__":
    precision, target, steps = sys.argv[1:]
    print(json.dumps(main(precision, target, int(steps))))
