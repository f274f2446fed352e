"""What calls cost and when training is paid back: numbers worked out by hand, and laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastresort.climb.break_even import (
    NOTHING,
    Amount,
    MeasuredSystem,
    cheapest,
    crossing,
    crossing_of,
    currency_of,
    missing_prices,
    months_of,
    saving_of,
    tokens_amount,
)
from lastresort.records.reasons import CostSaving
from lastresort.report.words.break_even import why_gone_on
from lastresort.types import Judgement

LARGE = tokens_amount(1000, 50, 3.0, 15.0)  # (1000 x 3 + 50 x 15) / 1e6 = 0.00375 USD
SMALL = Amount(0.0, 0.5)  # at 1.80 USD an hour 0.00025 USD
TRAINING = Amount(0.0, 7000.0)  # 3.50 USD, paid back after 3.5 / (0.00375 - 0.00025) = 1,000 calls
HOUR = 1.8


def priced(rung: str, call: Amount, one_off: Amount = NOTHING, *, tuned: bool = False) -> MeasuredSystem:
    judgement = Judgement("MET", 0.9, 40, 300, (0.8, 1.0))
    return MeasuredSystem(rung, f"{rung}-system", "model", tuned, judgement, 40, 100.0, 10.0, 0.5, call, one_off)


def test_a_call_paid_by_its_tokens() -> None:
    assert LARGE.usd(None) == pytest.approx(0.00375)
    assert LARGE.machine_s == 0
    assert tokens_amount(1_000_000, 0, 3.0, 15.0).usd(None) == pytest.approx(3.0)
    assert tokens_amount(0, 1_000_000, 3.0, 15.0).usd(None) == pytest.approx(15.0)
    assert tokens_amount(1000, 50, 0.0, 0.0).usd(None) == 0


def test_a_call_paid_by_its_share_of_the_machine() -> None:
    assert SMALL.usd(HOUR) == pytest.approx(0.00025)
    assert Amount(0.0, 3600.0).usd(HOUR) == pytest.approx(HOUR)
    assert Amount(1.0, 1800.0).usd(HOUR) == pytest.approx(1.9)
    assert SMALL.usd(0.0) == 0


@pytest.mark.parametrize(
    "amount", [tokens_amount(10, 1, 3.0, None), tokens_amount(10, 1, None, 15.0), Amount(0.0, 1.0), Amount(0.0, None)]
)
def test_without_a_price_money_is_unknown_and_never_nothing(amount: Amount) -> None:
    assert amount.usd(None) is None


def test_what_is_added_to_something_unknown_is_unknown() -> None:
    assert Amount(1.0, 2.0) + Amount(0.5, 3.0) == Amount(1.5, 5.0)
    assert (Amount(None, 2.0) + Amount(0.5, None)) == Amount(None, None)


@pytest.mark.parametrize(
    ("amounts", "hour", "currency"),
    [
        ((LARGE, SMALL, TRAINING), HOUR, "usd"),
        ((SMALL, TRAINING), None, "machine_seconds"),
        ((SMALL, NOTHING), None, "machine_seconds"),
        ((LARGE, SMALL), None, None),
        ((Amount(None), SMALL), HOUR, None),
        ((Amount(None), SMALL), None, None),
        ((LARGE, LARGE), None, "usd"),
        ((SMALL, Amount(0.0, None)), HOUR, None),
    ],
)
def test_in_what_amounts_compare(amounts: tuple[Amount, ...], hour: float | None, currency: str | None) -> None:
    assert currency_of(amounts, hour) == currency


def test_missing_prices_are_named() -> None:
    assert missing_prices((LARGE, SMALL), (TRAINING,), HOUR) == ()
    assert missing_prices((LARGE, SMALL), (NOTHING,), None) == ("use.hourly_price",)
    assert missing_prices((LARGE,), (TRAINING,), None) == ("use.hourly_price",)
    assert missing_prices((Amount(None),), (), HOUR) == ("use.prompt_price", "use.output_price")
    assert missing_prices((LARGE,), (Amount(None, 5.0),), HOUR) == ("reward.judge.prompt_price",)


@pytest.mark.parametrize(
    ("one_off", "call", "other", "kind", "calls"),
    [
        (3.5, 0.00025, 0.00375, "after", 1000),
        (3.5001, 0.00025, 0.00375, "after", 1001),
        (3.0, 0.0001, 0.0004, "after", 10_000),
        (0.1, 1.0, 4.0, "after", 1),
        (0.0, 0.1, 0.2, "at_once", 0),
        (0.0, 0.2, 0.2, "never", None),
        (3.5, 0.2, 0.2, "never", None),
        (3.5, 0.3, 0.2, "never", None),
        (0.0, 0.3, 0.2, "never", None),
        (1.0, 0.1 + 0.2, 0.3, "never", None),
        (1.0, 0.3, 0.1 + 0.2, "never", None),  # equal but for the rounding of a sum
    ],
)
def test_crossings(one_off: float, call: float, other: float, kind: str, calls: int | None) -> None:
    found = crossing(one_off, call, other)
    assert (found.kind, found.calls) == (kind, calls)


@given(st.floats(0.001, 1e6), st.floats(0, 10), st.floats(0, 10))
def test_from_the_crossing_on_the_tuned_system_costs_no_more(one_off: float, call: float, other: float) -> None:
    found = crossing(one_off, call, other)
    if found.calls is None:
        assert other - call <= 1e-9 * max(call, other) or not math.isfinite(one_off / (other - call))
        return
    near = 1e-6 * (one_off + found.calls * other)
    assert one_off + found.calls * call <= found.calls * other + near
    assert one_off + (found.calls - 1) * call >= (found.calls - 1) * other - near


def test_crossing_of_systems_in_money_and_in_seconds() -> None:
    tuned, untuned = priced("sft", SMALL, TRAINING, tuned=True), priced("prompting", LARGE)
    assert crossing_of(tuned, untuned, HOUR).calls == 1000
    assert crossing_of(tuned, untuned, None).kind == "unknown"
    here = priced("prompting", Amount(0.0, 1.9))  # 7000 / (1.9 - 0.5) = 5,000, whatever an hour costs
    assert crossing_of(tuned, here, None).calls == 5000
    assert crossing_of(tuned, here, HOUR).calls == 5000


def test_what_the_untuned_system_took_is_not_taken_off() -> None:
    tuned = priced("sft", SMALL, TRAINING, tuned=True)
    assert crossing_of(tuned, priced("retrieval", LARGE, NOTHING), HOUR).calls == 1000


def test_months() -> None:
    assert months_of(1000, 400) == 2.5
    assert months_of(0, 400) == 0
    assert months_of(1000, None) is None
    assert months_of(None, 400) is None
    assert months_of(1000, 0) is None


def test_the_cheapest_call_wins_and_of_equals_the_first() -> None:
    large, small = priced("prompting", LARGE), priced("sft", SMALL, TRAINING, tuned=True)
    assert cheapest([large, small], HOUR) is small
    assert cheapest([large, small], 100.0) is large  # half a second of such a machine costs 0.0139 USD
    assert cheapest([large, small], None) is None
    assert cheapest([large, priced("sft", LARGE)], None) is large
    assert cheapest([], HOUR) is None


def weighed(now: Amount = LARGE, then: Amount = SMALL, one_off: Amount = TRAINING, per_month: int = 400) -> CostSaving:
    return saving_of("prompting", now, then, one_off, hourly_price=HOUR, calls_per_month=per_month)


def test_training_that_is_paid_back_within_a_year_is_gone_on_to() -> None:
    found = weighed()
    assert (found.goes_on, found.crossing, found.calls, found.months) == (True, "after", 1000, 2.5)
    assert (found.currency, found.now, found.then, found.one_off) == (
        "usd",
        pytest.approx(0.00375),
        pytest.approx(0.00025),
        pytest.approx(3.5),
    )
    assert why_gone_on(found) == (
        "goal: cost: prompting meets the bar, and the climb went on to SFT. The plan puts 1,000 calls of the tuned model at $0.25, "
        "against $3.75 measured with prompting. Training and testing it would cost $3.50 and pay off after 1,000 calls: 2.5 months "
        "at 400 calls a month, within the limit of 12 months."
    )


@pytest.mark.parametrize(("per_month", "goes_on"), [(84, True), (83, False), (1000, True), (1, False)])
def test_a_year_is_the_limit(per_month: int, goes_on: bool) -> None:
    """1,000 calls: 84 a month make 1,008 a year, 83 make 996."""
    assert weighed(per_month=per_month).goes_on is goes_on


def test_exactly_a_year_is_not_less_than_a_year() -> None:
    found = weighed(one_off=Amount(4.2), per_month=100)  # 4.2 / 0.0035 = 1,200 calls
    assert (found.calls, found.months, found.goes_on) == (1200, 12.0, False)
    assert why_gone_on(found).endswith(
        "and pay off after 1,200 calls: 12.0 months at 100 calls a month, beyond the limit of 12 months. It takes more than 100 "
        "calls a month."
    )


def test_training_that_is_never_paid_back() -> None:
    found = weighed(then=LARGE)
    assert (found.goes_on, found.crossing, found.calls) == (False, "never", None)
    assert why_gone_on(found).endswith("Training and testing it would cost $3.50 and never pay off.")


def test_what_cannot_be_told_is_not_gone_on_to_and_says_what_is_missing() -> None:
    found = saving_of("prompting", LARGE, SMALL, TRAINING, hourly_price=None, calls_per_month=400)
    assert not found.goes_on
    assert (found.currency, found.now, found.calls) == (None, None, None)
    assert "the task does not set `use.hourly_price`" in why_gone_on(found)
    found = weighed(now=Amount(None))
    assert "the task does not set `use.prompt_price` and `use.output_price`" in why_gone_on(found)
    found = weighed(then=Amount(0.0, None))
    assert "how long a call of the tuned model would take cannot be predicted" in why_gone_on(found)


def test_where_all_runs_here_no_price_is_needed() -> None:
    found = saving_of("prompting", Amount(0.0, 1.9), SMALL, TRAINING, hourly_price=None, calls_per_month=1000)
    assert (found.goes_on, found.currency, found.calls, found.months) == (True, "machine_seconds", 5000, 5.0)
    assert "1,000 calls of the tuned model at 8 min 20 s of this machine, against 31 min 40 s" in why_gone_on(found)
    assert "$" not in why_gone_on(found)
