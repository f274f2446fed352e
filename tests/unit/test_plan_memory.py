"""The memory of a training: the figures of the design, worked by hand, and what each setting does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lastresort.errors import InputError
from lastresort.hardware.cards import GIB, Card, card_named, cards_named
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.fit import PlannedTraining
from lastresort.hardware.plan.memory import (
    NF4_BYTES,
    START,
    Memory,
    bytes_of_training_all,
    measuring_memory,
    training_memory,
)
from lastresort.hardware.plan.setup import SHARINGS, Cards, Setup
from lastresort.hardware.shape import ModelShape
from lastresort.types import ReplayLoss

ONE = Cards(Card("roomy", 10_000 * GIB))
LLAMA = shape_named("llama-3-8b")
LOSSES: tuple[ReplayLoss, ...] = ("likelihood", "kl")

# GiB on one card, batch 1, r 16 on q k v o, checkpointing on, as the design worked them out by hand. They are met within 3%
# with the logits of a whole row in float32 (2,048 tokens of Llama 3: 2,048 x 128,256 x 4 bytes = 0.98 GiB), of which `train`
# holds 8 million at a time.
BY_HAND = {
    ("llama-3-8b", "qlora", 512): 7.0,
    ("llama-3-8b", "qlora", 2048): 8.2,
    ("llama-3-8b", "lora", 512): 16.5,
    ("llama-3-8b", "lora", 2048): 17.7,
    ("llama-2-13b", "qlora", 512): 8.3,
    ("llama-2-13b", "qlora", 2048): 9.3,
    ("llama-3-70b", "qlora", 512): 40.0,
    ("llama-3-70b", "qlora", 2048): 43.0,
    ("llama-3.1-405b", "qlora", 512): 208,
    ("llama-3.1-405b", "qlora", 2048): 216,
}


@pytest.mark.parametrize(("model", "method", "tokens"), BY_HAND)
def test_it_is_what_the_design_worked_out_by_hand(model: str, method: Any, tokens: int) -> None:
    shape = shape_named(model)
    found = training_memory(shape, Setup(method, row_tokens=tokens), ONE)
    with_all_logits = found.total_bytes - found.of("logits") + 4 * tokens * shape.vocabulary
    assert with_all_logits / GIB == pytest.approx(BY_HAND[model, method, tokens], rel=0.03)
    assert 0.88 * BY_HAND[model, method, tokens] < found.total_bytes / GIB < 1.01 * BY_HAND[model, method, tokens]


@pytest.mark.parametrize(
    ("model", "method", "cards"),
    [
        ("llama-3-8b", "qlora", "rtx-3060"),
        ("mistral-7b", "qlora", "rtx-3060"),
        ("qwen3-8b", "qlora", "rtx-3060"),
        ("llama-3-8b", "lora", "rtx-3090"),
        ("llama-2-13b", "qlora", "t4"),
        ("llama-3-70b", "qlora", "2xl40s"),
        ("llama-3-70b", "qlora", "a100-80"),
        ("llama-3.1-405b", "qlora", "4xh100"),
        ("llama-3.1-405b", "qlora", "4xa100-80"),
    ],
)
def test_what_is_known_to_fit_fits(model: str, method: Any, cards: str) -> None:
    count, card = cards_named(cards)
    found = training_memory(shape_named(model), Setup(method), Cards(card, count, "fsdp"))
    assert found.per_card_bytes < card.memory_bytes
    assert found.total_bytes == count * found.per_card_bytes


@pytest.mark.parametrize(
    ("model", "method", "cards"),
    [
        ("llama-3-8b", "lora", "rtx-3060"),
        ("llama-2-13b", "lora", "rtx-3090"),
        ("llama-3-8b", "full", "a100-80"),
        ("llama-3-70b", "lora", "a100-80"),
        ("llama-3.1-405b", "qlora", "2xh100"),
    ],
)
def test_what_is_known_not_to_fit_does_not(model: str, method: Any, cards: str) -> None:
    count, card = cards_named(cards)
    assert (
        training_memory(shape_named(model), Setup(method), Cards(card, count, "fsdp")).per_card_bytes
        > card.memory_bytes
    )


@pytest.mark.parametrize(
    ("count", "said"), [(1, ""), (2, ", half on each GPU"), (3, ", 1/3 on each GPU"), (8, ", 1/8 on each GPU")]
)
def test_a_share_of_several_cards_is_said(count: int, said: str) -> None:
    cards = Cards(ONE.card, count, "fsdp")
    (weights,) = (part for part in training_memory(LLAMA, Setup("full"), cards).parts if part.name == "weights")
    assert weights.formula.endswith(said)
    assert ("on each GPU" in weights.formula) is bool(said)


def test_the_weights_of_70b_alone_make_one_48_gb_card_a_squeeze() -> None:
    found = training_memory(shape_named("llama-3-70b"), Setup("qlora"), ONE)
    assert 0.8 < found.of("weights") / card_named("l40s").memory_bytes < 0.9


def test_every_part_of_a_small_model_is_worked_by_hand() -> None:
    """Llama 3 8B, QLoRA, r 16 on q k v o, 512 tokens, batch 1.

    Layers: 32 x (2 x 4096^2 + 2 x 4096 x 1024 + 3 x 4096 x 14336) = 6,979,321,856 weights in 4 bits and 65 norms of 4096 in 16.
    Embeddings: 2 x 128,256 x 4,096 x 2 bytes. Adapters: 32 x 16 x (2 x 8,192 + 2 x 5,120) = 13,631,488 parameters.
    One layer keeps of a token 2 norms x 4,096 x 4, (4,096 + 4,096 + 2,048 + 4,096) x 2, 32 heads x 4 and 3 x 14,336 x 2 bytes;
    on the way back 2 x 14,336 + 2 x 4,096 numbers of 2 bytes are alive.
    """
    parts = {
        part.name: part.per_card_bytes for part in training_memory(LLAMA, Setup("qlora", row_tokens=512), ONE).parts
    }
    assert abs(NF4_BYTES - 0.516) < 5e-4
    assert parts["weights of the layers"] == round(NF4_BYTES * 6_979_321_856) + 65 * 4096 * 2
    assert parts["embeddings"] == 2 * 128_256 * 4096 * 2
    assert parts["adapters"] == parts["gradients"] == 4 * 13_631_488
    assert parts["optimizer"] == 8 * 13_631_488
    assert parts["inputs of the layers"] == 32 * 512 * 4096 * 2
    assert parts["one layer"] == 512 * (32_768 + 28_672 + 128 + 86_016 + 73_728)
    assert parts["dequantised layer"] == 4096 * 14_336 * 2
    assert parts["logits"] == 8_000_000 * 6 + 2 * 512 * 4096 * 2
    passing = sum(parts[name] for name in ("inputs of the layers", "one layer", "dequantised layer", "logits"))
    assert parts["fragments"] == round(0.05 * passing)
    assert parts["CUDA context"] == int(0.7 * GIB)
    assert len(parts) == 11


def test_logits_are_planned_in_pieces_of_the_engines_size() -> None:
    from lastresort.engine import parts as head
    from lastresort.hardware.plan import memory as passing

    assert passing.PIECE_LOGITS == head.PIECE_LOGITS


@pytest.mark.parametrize("compute", ["bfloat16", "float32"])
@pytest.mark.parametrize("learning", ["sft", "dpo"])
def test_the_divergence_of_replay_holds_three_numbers_a_logit(learning: Any, compute: Any) -> None:
    """And the base's hidden states with their copy in a pass, which are as large as the model's with their gradient."""
    setup = Setup("lora", learning=learning, row_tokens=512, compute=compute)
    by_likelihood, by_divergence = (training_memory(LLAMA, replace(setup, replay_loss=loss), ONE) for loss in LOSSES)
    added = [part for part in by_divergence.parts if part.name == "KL loss of replay"]
    assert [part for part in by_divergence.parts if part not in added][:-1] == list(by_likelihood.parts)[:-1]
    each, states = setup.number_bytes, 2 * setup.rows * 512 * 4096 * setup.number_bytes
    assert [part.per_card_bytes for part in added] == [8_000_000 * (12 - (4 if each == 4 else 6)) + states]


def test_all_weights_that_are_held_to_the_base_are_kept_as_they_were() -> None:
    """On each of several cards its share, and the output layer whole."""
    setup = Setup("full", replay_loss="kl")
    found = training_memory(LLAMA, setup, ONE)
    assert found.of("weights", "gradients", "optimizer") == bytes_of_training_all(LLAMA.parameters, "kl")
    assert bytes_of_training_all(LLAMA.parameters, "kl") == 20 * LLAMA.parameters
    one, four = (
        next(part for part in training_memory(LLAMA, setup, cards).parts if part.name == START)
        for cards in (ONE, Cards(ONE.card, 4, "fsdp"))
    )
    assert one.per_card_bytes == 4 * LLAMA.parameters
    assert four.per_card_bytes == LLAMA.parameters + 4 * 128_256 * 4096
    assert START not in [part.name for part in training_memory(LLAMA, Setup("lora", replay_loss="kl"), ONE).parts]


def test_the_start_is_held_for_the_whole_training_but_not_loaded_with_the_model() -> None:
    by_likelihood, by_divergence = (
        PlannedTraining(LLAMA, Setup("full", replay_loss=loss), ONE, 64, 64, 64) for loss in LOSSES
    )
    assert by_divergence.loaded_bytes == by_likelihood.loaded_bytes
    assert by_divergence.least_bytes == by_likelihood.least_bytes + 4 * LLAMA.parameters


def test_all_weights_take_sixteen_bytes_each() -> None:
    found = training_memory(LLAMA, Setup("full"), ONE)
    assert found.of("weights", "gradients", "optimizer") == 16 * LLAMA.parameters
    assert found.of("weights", "gradients", "optimizer") == bytes_of_training_all(LLAMA.parameters)


def total(setup: Setup, cards: Cards = ONE, shape: ModelShape = LLAMA) -> int:
    return training_memory(shape, setup, cards).per_card_bytes


def test_each_setting_moves_memory_as_it_should() -> None:
    plain = Setup("qlora")
    assert total(replace(plain, row_tokens=2048)) > total(plain)
    assert total(replace(plain, batch=4)) > total(plain)
    assert total(replace(plain, accumulation=64)) == total(plain), "passes of one step follow each other"
    assert total(replace(plain, checkpointing=False)) > 3 * GIB + total(plain)
    assert total(replace(plain, r=64)) > total(plain)
    assert total(replace(plain, target="all-linear")) > total(plain)
    assert total(replace(plain, optimizer="paged_adamw_8bit")) < total(plain)
    assert total(replace(plain, method="lora")) > 8 * GIB + total(plain)
    assert total(replace(plain, compute="float32")) > total(plain)


def test_what_rows_share_is_held_once() -> None:
    apart = Setup("lora", row_tokens=1000, batch=8)
    shared = replace(apart, shared_tokens=900)
    assert (apart.computed_tokens, shared.computed_tokens) == (8000, 900 + 8 * 100)
    together = training_memory(LLAMA, shared, ONE).of("activations")
    assert together == pytest.approx(training_memory(LLAMA, apart, ONE).of("activations") * 1700 / 8000, rel=1e-9)


def test_a_reference_costs_nothing_where_the_adapter_can_be_turned_off() -> None:
    pairs = Setup("lora", learning="dpo")
    assert total(pairs) == total(Setup("lora", batch=2)), "a pair is two rows"
    second = training_memory(LLAMA, replace(pairs, reference="second model"), ONE)
    assert second.of("weights") == 2 * training_memory(LLAMA, pairs, ONE).of("weights")
    whole = Setup("full", learning="dpo")
    assert training_memory(LLAMA, whole, ONE).of("weights") == 4 * LLAMA.parameters, "it answered before the first step"
    beside = training_memory(LLAMA, replace(whole, reference="second model"), ONE)
    assert beside.of("weights") == (4 + 2) * LLAMA.parameters
    groups = replace(whole, learning="grpo")
    assert training_memory(LLAMA, groups, ONE).of("weights") == 4 * LLAMA.parameters
    held = replace(groups, held_to_start=True)
    assert training_memory(LLAMA, held, ONE).of("weights") == (4 + 4) * LLAMA.parameters
    assert total(replace(held, method="lora")) == total(replace(groups, method="lora")), "the adapter is turned off"


def test_the_gradients_of_a_tied_embedding_are_summed_when_activations_are_gone() -> None:
    """Qwen3 0.6B: 151,936 x 1,024 weights, twice in float32 beside their sum."""
    small, few, many = shape_named("qwen3-0.6b"), Setup("full", row_tokens=128), Setup("full", row_tokens=8192)
    assert training_memory(small, few, ONE).of("activations", "logits") == 0
    assert training_memory(small, few, ONE).of("buffers") == 2 * 4 * 151_936 * 1024
    assert training_memory(small, many, ONE).of("buffers") == 0
    assert training_memory(small, replace(few, method="lora"), ONE).of("buffers") == 0
    assert training_memory(LLAMA, few, ONE).of("buffers") == 0, "its output layer is another"


def test_groups_are_drawn_by_the_engine_before_the_step_or_by_a_server_beside_it() -> None:
    """64 answers of 256 tokens to 8 prompts of 768: (8 x 768 + 64 x 256) x 32 layers x 2,048 x 2 bytes."""
    groups = Setup("lora", learning="grpo", batch=8)
    cache = (8 * 768 + 64 * 256) * 32 * 2048 * 2
    drawn = training_memory(LLAMA, replace(groups, batch=1), ONE)
    assert drawn.of("cache") == cache
    assert drawn.of("activations") == 0, "the larger of the two moments is the peak"
    assert training_memory(LLAMA, replace(groups, batch=32), ONE).of("cache") == 0
    beside = training_memory(LLAMA, replace(groups, sampler="same-gpus"), ONE)
    assert beside.of("server") == 2 * LLAMA.parameters
    assert beside.of("cache") == cache
    assert beside.of("activations") > 0
    assert total(replace(groups, sampler="other-gpus")) == total(Setup("lora", batch=8))


def parts_on(sharing: Any, method: Any) -> Memory:
    return training_memory(LLAMA, Setup(method), Cards(ONE.card, 4, sharing))


@pytest.mark.parametrize("sharing", SHARINGS)
def test_cards_share_what_their_way_of_sharing_says(sharing: Any) -> None:
    """ZeRO 1, 2, 3: the optimizer; gradients too; weights too (Rajbhandari et al. 2020, figure 1)."""
    cut = {"zero1": {"optimizer"}, "zero2": {"optimizer", "gradients"}, "ddp": set()}
    found, alone = parts_on(sharing, "full"), training_memory(LLAMA, Setup("full"), ONE)
    kinds: tuple[Any, ...] = ("weights", "gradients", "optimizer")
    for kind in kinds:
        pieces = 4 if kind in cut.get(sharing, set(kinds)) else 1
        assert found.of(kind) == alone.of(kind) // pieces
    assert (found.of("buffers") > 0) == (sharing in ("zero3", "fsdp"))
    assert found.cards == 4


def test_fsdp_keeps_adapters_and_embeddings_whole_as_train_does() -> None:
    found, alone = parts_on("fsdp", "lora"), training_memory(LLAMA, Setup("lora"), ONE)
    named = {part.name: part.per_card_bytes for part in found.parts}
    assert named["embeddings"] == 2 * LLAMA.embedding_parameters
    assert found.of("adapters", "gradients", "optimizer") == alone.of("adapters", "gradients", "optimizer")
    assert named["weights of the layers"] == 2 * (LLAMA.linear_parameters + LLAMA.small_parameters) // 4


def test_fsdp_keeps_the_scales_of_four_bits_whole_as_train_does() -> None:
    """8 bits for each 64 weights and 32 for each 64 x 256, of 6,979,321,856 weights."""
    found = {part.name: part.per_card_bytes for part in parts_on("fsdp", "qlora").parts}
    scales = round(6_979_321_856 / 64 + 4 * 6_979_321_856 / (64 * 256))
    assert found["quantisation scales"] == scales
    assert found["weights of the layers"] == (round(NF4_BYTES * 6_979_321_856) + 65 * 4096 * 2 - scales) // 4
    assert "quantisation scales" not in {part.name for part in training_memory(LLAMA, Setup("qlora"), ONE).parts}


def test_stacked_experts_stay_in_16_bits() -> None:
    """bitsandbytes replaces layers; transformers 5 keeps the experts of a layer in one tensor."""
    mixtral = shape_named("mixtral-8x7b")
    found = training_memory(mixtral, Setup("qlora"), ONE).of("weights")
    assert mixtral.quantised_parameters == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    assert found > 2 * (mixtral.parameters - mixtral.quantised_parameters)


def test_measuring_is_planned_too() -> None:
    """16 answers at once to prompts of 768 tokens: 16 x 1,024 x 32 layers x 2,048 x 2 bytes of keys and values."""
    setup = Setup("qlora")
    found = measuring_memory(LLAMA, setup, ONE)
    assert found.of("cache") == 16 * 1024 * 32 * 2048 * 2
    assert found.of("gradients", "optimizer") == 0
    assert found.per_card_bytes > total(setup), (
        "training fits, evaluation does not: what users of other trainers report"
    )
    assert measuring_memory(LLAMA, replace(setup, measured_at_once=2), ONE).per_card_bytes < total(setup)


def test_on_a_processor_there_is_no_driver() -> None:
    names = [part.name for part in training_memory(LLAMA, Setup("lora"), Cards(Card("cpu", 64 * GIB))).parts]
    assert "CUDA context" not in names
    assert "libraries" in names


def test_what_contradicts_itself_is_refused() -> None:
    for wrong in ({"batch": 0}, {"row_tokens": 10, "shared_tokens": 10}, {"r": 0}):
        with pytest.raises(InputError, match="plan: found"):
            Setup("lora", **wrong)  # type: ignore[arg-type]
