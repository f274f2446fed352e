"""The check of a run's first batch computes checkpointed layers again, so that it holds no more than training does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine_support import tiny
from lastresort.engine.forest import Row
from lastresort.engine.support import support
from lastresort.train.loop.batches import completions
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes, T, join

ROWS = [Row(tuple(range(2 + i, 42 + i)), (False,) * 20 + (True,) * 20) for i in range(3)]


@pytest.mark.parametrize(
    ("checkpointing", "times"), [(False, 2), (True, 4)]
)  # by both paths, and again where checkpointed
def test_layers_are_computed_again_and_stay_in_evaluation(checkpointing: bool, times: int) -> None:
    model: Any = tiny("llama")
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    support(model)  # tries the model by itself, once
    layer: Any = model.model.layers[0]
    calls: list[bool] = []
    modes: list[bool] = []

    def counted(module: Any, *_: Any) -> None:
        calls.append(module.training)
        modes.append(layer.training)

    layer.mlp.register_forward_pre_hook(counted)
    policy = Policy(model, 4096, join())
    policy.check_first(completions(ROWS))
    assert policy.check is not None
    assert policy.check.ok
    assert len(calls) == times
    assert not any(calls), "what is inside a layer, such as dropout, stays in evaluation"
    assert all(modes) == checkpointing
    assert not any(module.training for module in model.modules()), "and the layer is put back"


class WithAWorseOne(Processes):
    """Another process, in which the packed form fails."""

    def each(self, make: Callable[[], T]) -> list[T]:
        own: Any = make()
        return [own, own.replaced(ok=False, reason="its card computes otherwise")]


def test_a_check_that_fails_in_one_process_counts_in_all() -> None:
    policy = Policy(tiny("llama"), 4096, WithAWorseOne(0, 2))
    policy.check_first(completions(ROWS))
    assert policy.plain
    assert policy.reason == "its card computes otherwise"
