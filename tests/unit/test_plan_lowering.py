"""What a training holds in passes of so many tokens, and the first change that makes it fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lastresort.hardware.cards import GIB, Card
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.fit import SQUEEZE, PlannedTraining, lowered, smallest
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.setup import Cards, Setup

SHAPE, CPU = shape_named("smollm2-135m"), Cards(Card("cpu", 16 * GIB))


def planned(
    method: Any = "lora", *, longest: int = 512, batch: int = 8, at_most: int = 1536, **setup: Any
) -> PlannedTraining:
    settings = {"row_tokens": longest, "checkpointing": False, "compute": "float32", **setup}
    return PlannedTraining(SHAPE, Setup(method, **settings), CPU, longest, batch * longest, at_most)


@pytest.mark.parametrize(
    ("asked", "rows", "tokens"),
    [
        (planned(at_most=2048), 4, 512),
        (planned(at_most=100), 1, 512),  # a row longer than a pass goes alone
        (planned(batch=2, at_most=10_000), 2, 512),  # a pass holds no more than a batch
        (planned(at_most=1024, longest=512, learning="dpo"), 4, 256),  # two pairs, each of two rows of 256
    ],
)
def test_a_pass_holds_what_its_tokens_say_however_they_are_divided(
    asked: PlannedTraining, rows: int, tokens: int
) -> None:
    batch = rows // 2 if asked.setup.learning == "dpo" else rows
    by_rows = replace(asked.setup, row_tokens=tokens, batch=batch)
    assert asked.needed_bytes == training_memory(SHAPE, by_rows, CPU).per_card_bytes


def test_the_largest_pass_that_fits_is_the_largest() -> None:
    asked = planned(batch=64, longest=64, at_most=4096)
    room = int(0.6 * asked.needed_bytes)
    found = asked.with_largest_pass(room)
    assert found is not None
    assert found.needed_bytes <= SQUEEZE * room
    assert not replace(found, pass_tokens=found.pass_tokens + 16).fits(room)
    assert asked.with_largest_pass(10 * asked.needed_bytes) is asked
    assert asked.with_largest_pass(asked.least_bytes) is None


def room_for(asked: PlannedTraining) -> int:
    return int(asked.needed_bytes / SQUEEZE) + 1


def test_the_cheapest_change_that_is_enough_is_taken() -> None:
    """A smaller pass, then checkpointing, then another method; each only where the one before it is not enough."""
    asked = planned()
    row_by_row = replace(asked, pass_tokens=512)
    with_checkpoints = replace(row_by_row, setup=replace(asked.setup, checkpointing=True))
    smaller = lowered(asked, room_for(row_by_row))
    assert smaller is not None
    assert (dict(smaller.keys), smaller.same_run) == ({"max_pass_tokens": 512}, True)
    again = lowered(asked, room_for(row_by_row) - 10_000_000)
    assert again is not None
    assert again.keys["checkpointing"] is True
    assert again.keys.get("max_pass_tokens", 1536) > 512, "with checkpointing a larger pass fits again"
    assert again.same_run
    other = lowered(asked, room_for(with_checkpoints) - 10_000_000)
    assert other is not None
    assert other.keys["adapter"] == "qlora"
    assert not other.same_run
    assert lowered(asked, smallest(asked).needed_bytes // 2) is None


def test_a_training_that_fits_is_left_as_it_is() -> None:
    found = lowered(planned(), 100 * GIB)
    assert found is not None
    assert (dict(found.keys), found.written()) == ({}, "")


def test_all_weights_give_way_to_an_adapter() -> None:
    asked = planned("full")
    assert asked.least_bytes == 16 * SHAPE.parameters
    found = lowered(asked, asked.least_bytes)
    assert found is not None
    assert (found.keys["adapter"], found.keys["checkpointing"]) == ("lora", True)
    assert found.written().endswith("and adapter: lora")


def test_fewer_answers_are_drawn_at_once_where_these_are_what_is_too_much() -> None:
    asked = planned(learning="grpo", longest=2048, at_most=2048, new_tokens=512, rows_at_once=64, checkpointing=True)
    assert asked.largest_part().startswith("keys and values")
    found = lowered(asked, int(0.7 * asked.needed_bytes))
    assert found is not None
    assert found.keys["rows_at_once"] in (32, 16, 8)
    assert found.same_run


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_that_is_trained_further_keeps_its_kind(method: Any) -> None:
    """A training file refuses `adapter` beside `start_from`, so that it must not be what the answer says."""
    asked = replace(planned(method), keeps_method=True)
    assert smallest(asked).setup.method == method
    assert lowered(asked, int(0.9 * smallest(asked).needed_bytes)) is None
