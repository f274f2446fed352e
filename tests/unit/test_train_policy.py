"""How the processes of a run divide its items, by the path that their passes take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch

from engine_support import draw, row, tiny
from lastresort.train.adapters.adapters import attach_adapter, inputs_in_base_precision
from lastresort.train.loop.batches import completions
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes
from lastresort.train.settings import AdapterSettings

T = TypeVar("T")
PROMPT = draw(90, 1)
ITEMS = completions([row(PROMPT + draw(5, i) if i % 2 else draw(5, 40 + i), draw(3, 80 + i)) for i in range(16)])
"""Eight rows below a long prompt, between eight short ones."""
TOGETHER, APART = [1, 3, 5, 7, 9, 11, 13, 15], [9, 11, 13, 15]


class Two(Processes):
    """The first of two processes. others: what the second one finds, None for the same."""

    def __init__(self, others: Any = None) -> None:
        super().__init__(0, 2)
        self._others = others

    def each(self, make: Callable[[], T]) -> list[T]:
        own = make()
        return [own, own if self._others is None else self._others]


def below_the_prompt(policy: Policy) -> list[list[int]]:
    """Of each process the items below the long prompt."""
    return [[number for number in part if number % 2] for part in policy.parts_of(ITEMS)]


def test_what_shares_a_beginning_stays_together_only_where_it_is_computed_once() -> None:
    """Dropout takes the plain path while training, and the packed one in evaluation."""
    model = attach_adapter(tiny(), AdapterSettings(r=4, alpha=8, dropout=0.5), base_name="tiny")
    policy = Policy(model, 4096, Two())
    model.eval()
    assert TOGETHER in below_the_prompt(policy)
    model.train()
    assert sorted(map(len, below_the_prompt(policy))) == [4, 4]


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [({"plain": True}, {}), ({}, {"family": "mistral", "sliding_window": 32})],
    ids=["it was asked for", "a short window"],
)
def test_rows_are_even_by_length_on_the_plain_path(arguments: dict[str, Any], changes: dict[str, Any]) -> None:
    policy = Policy(tiny(**changes), 4096, Two(), **arguments)
    assert sorted(map(len, below_the_prompt(policy))) == [4, 4]


def test_all_processes_divide_alike_where_one_has_no_kernel() -> None:
    """Else an item would be computed by both, or by none."""
    assert TOGETHER in below_the_prompt(Policy(tiny(), 4096, Two(others=True)))
    assert sorted(map(len, below_the_prompt(Policy(tiny(), 4096, Two(others=False))))) == [4, 4]


def test_a_resumed_run_in_16_bits_divides_its_items_before_its_first_pass() -> None:
    """A checkpoint holds the check of the first batch, so that nothing has tried the model until then."""
    model = attach_adapter(tiny(dtype=torch.bfloat16), AdapterSettings(r=4, alpha=8), base_name="tiny")
    with inputs_in_base_precision(model):  # as all of a training
        assert TOGETHER in below_the_prompt(Policy(model, 4096, Two()))
