"""What the plan says of `lastresort train` is what it does; and what changes memory does so for every model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastresort.errors import InputError
from lastresort.hardware.cards import GIB, Card, Price, known_cards
from lastresort.hardware.find import known_models, shape_named
from lastresort.hardware.plan.fit import beyond_our_trainer, fit, gib, largest_batch
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.plan import PlanInputs, plan
from lastresort.hardware.plan.setup import METHODS, Cards, Setup
from lastresort.hardware.plan.time import for_all, offers
from lastresort.hardware.shape import ModelShape
from lastresort.train.loop.processes import check_shardable


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("learning", "need"), [("sft", "rows"), ("dpo", "pairs"), ("grpo", "groups")])
@pytest.mark.parametrize("optimizer", ["adamw", "paged_adamw_8bit"])
def test_what_train_refuses_to_shard_is_beyond_it(method: Any, learning: Any, need: str, optimizer: Any) -> None:
    file: Any = SimpleNamespace(
        path=Path("t.yaml"),
        trains_all=method == "full",
        settings=SimpleNamespace(optimizer=optimizer),
        need=need,
        objective=learning,
    )
    processes: Any = SimpleNamespace(sharded=True)
    try:
        check_shardable(file, processes)
        refused = False
    except InputError:
        refused = True
    cards = Cards(known_cards()["h100"], 4, "fsdp")
    setup = Setup(method, learning=learning, optimizer=optimizer)
    assert (beyond_our_trainer(setup, cards) is not None) is refused
    assert refused == (learning == "grpo" or (method, optimizer) == ("full", "paged_adamw_8bit"))
    assert beyond_our_trainer(setup, replace(cards, sharing="ddp")) is None


def test_a_plan_names_the_host_memory_of_a_sharded_base_in_4_bits() -> None:
    """405B by hand: 401.6 billion weights x (0.5 + 1/64 + 4/(64 x 256)) bytes, 2.1 billion embeddings twice x 2 bytes, norms, and
    14.5 bytes for each weight of the largest matrix, 16,384 x 53,248. A base that is not sharded is quantised on its card.
    """
    shape = shape_named("llama-3.1-405b")
    embeddings, norms = 2 * 2 * 128_256 * 16_384, 2 * (2 * 126 + 1) * 16_384
    each = 0.515869140625 * shape.quantised_parameters + embeddings + norms + 14.5 * 16_384 * 53_248
    for count, on_one in ((4, 4), (16, 8)):
        told = warnings_of(shape, "qlora", Cards(known_cards()["h100"], count, "fsdp"))
        expected = f"{gib(each)} of host memory each: {gib(on_one * each)} on a machine with {on_one} of these GPUs"
        assert expected in told
    others: list[tuple[str, Any]] = [("lora", "fsdp"), ("qlora", "ddp")]
    for method, sharing in others:
        assert "host memory" not in warnings_of(shape, method, Cards(known_cards()["h100"], 4, sharing))


def warnings_of(shape: ModelShape, method: Any, cards: Cards) -> str:
    return "; ".join(plan(shape, PlanInputs(Setup(method), True, cards, False, {}, None)).warnings)


@given(
    name=st.sampled_from(sorted(known_models())),
    method=st.sampled_from(METHODS),
    tokens=st.integers(16, 4096),
    batch=st.integers(1, 16),
    checkpointing=st.booleans(),
)
def test_more_never_takes_less(name: str, method: Any, tokens: int, batch: int, checkpointing: bool) -> None:
    shape, cards = shape_named(name), Cards(Card("roomy", 10_000 * GIB))
    setup = Setup(method, row_tokens=tokens, batch=batch, checkpointing=checkpointing)
    least = training_memory(shape, setup, cards)
    assert least.per_card_bytes == sum(part.per_card_bytes for part in least.parts)
    for more in (replace(setup, row_tokens=tokens + 64), replace(setup, batch=batch + 1), replace(setup, r=17)):
        assert training_memory(shape, more, cards).per_card_bytes >= least.per_card_bytes
    shared = replace(setup, shared_tokens=tokens // 2)
    assert training_memory(shape, shared, cards).per_card_bytes <= least.per_card_bytes


@given(name=st.sampled_from(["qwen3-0.6b", "llama-3-8b", "phi-4"]), card=st.sampled_from(sorted(known_cards())))
def test_the_largest_batch_is_the_largest(name: str, card: str) -> None:
    shape, setup, cards = shape_named(name), Setup("qlora"), Cards(known_cards()[card])
    most = largest_batch(shape, setup, cards)
    room = known_cards()[card].memory_bytes
    assert training_memory(shape, replace(setup, batch=most + 1), cards).per_card_bytes > room
    if most:
        assert training_memory(shape, replace(setup, batch=most), cards).per_card_bytes <= room


def test_offers_fit_and_are_the_fewest_cards_of_their_kind() -> None:
    shape, setup = shape_named("llama-3-70b"), Setup("qlora")
    prices = {name: Price(1.0, None, "yours") for name in ("rtx-3090", "l40s", "t4")}
    found = {one.cards.card.name: one for one in offers(shape, setup, prices, None)}
    assert set(found) == {"rtx-3090", "l40s", "t4"}
    for one in found.values():
        assert fit(shape, setup, one.cards).fits
        fewer = Cards(one.cards.card, one.cards.count // 2, "fsdp" if one.cards.count > 2 else "ddp")
        assert one.cards.count == 1 or not fit(shape, setup, fewer).fits
    assert found["l40s"].cards.count == 1


def test_one_card_for_several_rungs_has_room_for_each() -> None:
    shape, prices = (
        shape_named("llama-3-8b"),
        {"rtx-3060": Price(0.1, None, "yours"), "a100-80": Price(1.0, None, "yours")},
    )
    small, large = Setup("qlora"), Setup("lora", row_tokens=2048, batch=8)
    alone, both = for_all(shape, [small], prices, None), for_all(shape, [small, large], prices, None)
    assert alone is not None
    assert both is not None
    assert (alone.cards.card.name, alone.cards.count) == ("rtx-3060", 1)
    assert both.usd_per_hour > alone.usd_per_hour
    assert fit(shape, large, both.cards).fits
    assert for_all(shape, [Setup("full", row_tokens=4096, batch=64)], {"rtx-3060": prices["rtx-3060"]}, None) is None


def test_cards_for_several_rungs_say_what_each_of_them_needs_there() -> None:
    shape, prices = shape_named("llama-3-8b"), {"l40s": Price(1.0, None, "yours")}
    setups = [
        Setup("lora", row_tokens=8192, batch=4, compute="float32"),
        Setup("full", batch=4, optimizer="paged_adamw_8bit"),
    ]
    alone = [for_all(shape, [setup], prices, None) for setup in setups]
    assert [one and one.cards.count for one in alone] == [4, 4]
    for order in (setups, setups[::-1]):
        both = for_all(shape, order, prices, None)
        assert both is not None
        assert both.beyond == beyond_our_trainer(setups[1], both.cards) is not None
        assert both.per_card_bytes == max(one.per_card_bytes for one in alone if one)
