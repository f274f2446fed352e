"""LoRA of a model of which only the size is known."""

from __future__ import annotations

import pytest

from lastresort.advice.facts import Facts
from lastresort.hardware.cards import GIB, Card
from lastresort.hardware.find import known_models, lora_bytes, shape_named
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.setup import Cards, Setup


@pytest.mark.parametrize("name", ["llama-3-8b", "smollm2-135m", "llama-3-70b"])
def test_a_size_of_the_catalogue_has_that_models_plan(name: str) -> None:
    planned = training_memory(shape_named(name), Setup("lora"), Cards(Card("any", 0))).per_card_bytes
    assert lora_bytes(known_models()[name].parameters) == planned


def test_a_size_between_two_lies_between_them() -> None:
    assert lora_bytes(7_000_000_000) < lora_bytes(7_700_000_000) < lora_bytes(13_000_000_000)
    assert lora_bytes(10_000_000_000_000) > 10_000 * GIB


@pytest.mark.parametrize(("parameters", "card_gb", "small"), [(7e9, 12, True), (7e9, 24, False), (13e9, 24, True)])
def test_which_card_is_too_small(parameters: float, card_gb: float, small: bool) -> None:
    """13 billion weights are 26 GB in 16 bits."""
    assert Facts(parameters=int(parameters), card_gb=card_gb).too_small_for_lora == small
    assert not Facts(parameters=int(parameters)).too_small_for_lora
    assert not Facts(card_gb=card_gb).too_small_for_lora
