"""Time and money: operations counted by hand, and the job of the design on a rented A100."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastresort.hardware.cards import GIB, Card, card_named, known_cards, known_prices
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.plan.time import TrainingWork, computed_tokens, operations, training_time, usd

LLAMA = shape_named("llama-3-8b")
JOB = TrainingWork(rows=10_000, tokens=1024, epochs=3)
A100 = Cards(card_named("a100-80"))


def test_ten_thousand_rows_on_a_rented_a100_cost_what_the_design_says() -> None:
    seconds = training_time(shape_named("mistral-7b"), Setup("qlora"), A100, JOB).seconds
    assert 5 <= (usd(seconds, A100, known_prices()["a100-80"].usd_per_hour) or 0) <= 15


@pytest.mark.parametrize(
    ("setup", "passes"),
    [
        (Setup("lora", checkpointing=False), 4),
        (Setup("qlora"), 6),
        (Setup("full", checkpointing=False), 6),
        (Setup("full"), 8),
        (Setup("lora", learning="dpo"), 8),
    ],
)
def test_operations_a_weight_and_token(setup: Setup, passes: int) -> None:
    """Attention forward: 32 layers x 2 x (4,096 + 4,096) x half of 1,024 tokens before each."""
    attention = 32 * 2 * 8192 * 512
    found, told = operations(LLAMA, setup, JOB)
    assert found == passes * LLAMA.multiplied_parameters + passes / 2 * attention
    assert "weights that a token passes" in told


def test_pairs_groups_and_shared_beginnings() -> None:
    assert computed_tokens(Setup("lora"), JOB) == 10_000 * 1024 * 3
    assert computed_tokens(Setup("lora", learning="dpo"), JOB) == 2 * 10_000 * 1024 * 3
    assert computed_tokens(Setup("lora", learning="grpo", group_size=8), JOB) == 8 * 10_000 * 1024 * 3
    shared = Setup("lora", batch=10, shared_tokens=900)
    assert computed_tokens(shared, JOB) == 30_000 * 124 + 3_000 * 900


def test_time_is_operations_over_what_the_card_reaches() -> None:
    setup = Setup("lora")
    each, _ = operations(LLAMA, setup, JOB)
    found = training_time(LLAMA, setup, A100, JOB)
    assert found.seconds == pytest.approx(each * 30_720_000 / (0.40 * 312e12))
    two = training_time(LLAMA, setup, replace(A100, count=2), JOB).seconds
    assert two == pytest.approx((found.seconds or 0) / 2 / 0.85)
    assert usd(two, replace(A100, count=2), 2.0) == pytest.approx(4.0 * (two or 0) / 3600)
    assert any("assumed" in line for line in found.lines), "what was not measured says so"


def test_products_in_float32_have_a_peak_of_their_own() -> None:
    """torch leaves TF32 off, and `train` too, so an A100 computes them at 19.5 TFLOPS, not at half of its 312."""
    all_weights, bf16 = Setup("full"), Setup("full", compute="bfloat16")
    each, _ = operations(LLAMA, all_weights, JOB)
    found, faster = (training_time(LLAMA, setup, A100, JOB) for setup in (all_weights, bf16))
    assert found.seconds == pytest.approx(each * 30_720_000 / (0.40 * 19.5e12))
    assert faster.seconds == pytest.approx(each * 30_720_000 / (0.40 * 312e12))
    assert found.lines[-1] == "20 TFLOPS at best in float32, of which 40% is assumed (not measured)"
    for card in known_cards().values():
        assert (card.float32_flops_per_s or 0) < (card.peak_flops_per_s or 0)


def test_this_machines_own_rate_goes_before_the_catalogue() -> None:
    found = training_time(LLAMA, Setup("lora"), Cards(Card("cpu", 64 * GIB)), replace(JOB, rate=1e11))
    each, _ = operations(LLAMA, Setup("lora"), JOB)
    assert found.seconds == pytest.approx(each * 30_720_000 / 0.5e11)


def test_what_is_not_known_stays_unknown() -> None:
    found = training_time(LLAMA, Setup("lora"), Cards(card_named("24GB")), JOB)
    assert found.seconds is None
    assert usd(found.seconds, A100, 1.0) is None
    assert usd(3600.0, A100, None) is None


def test_drawing_answers_reads_all_weights_for_every_token() -> None:
    """80 prompts x 8 answers, 64 at once, 256 tokens: 2,560 steps of 2 bytes x 8.03 billion at 60% of 2,039 GB/s."""
    setup, job = Setup("lora", learning="grpo"), TrainingWork(80, 1024, 1)
    alone = training_time(LLAMA, setup, A100, job)
    without = training_time(LLAMA, replace(setup, new_tokens=0), A100, job)
    drawn = (alone.seconds or 0) - (without.seconds or 0)
    assert drawn == pytest.approx(2560 * 2 * LLAMA.parameters / (0.6 * 2039e9), rel=1e-6)
    assert "to sample the answers" in alone.lines[-1]


def test_a_climbs_forecast_counts_as_the_plan_does() -> None:
    from lastresort.rungs.forecast import Machine, training

    machine = Machine(1_000_000, 1e9)
    found = training("x", machine, 100, 1, 50, 0, 8)
    assert found.seconds == pytest.approx(4 * 1_000_000 * 5000 / 0.5e9)
