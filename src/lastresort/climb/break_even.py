"""What a call costs by each system, and from how many calls on a tuned one is the cheaper. Pure arithmetic.

A call costs what is paid for its tokens, or its share of the machine that answers. No price is invented: without one the
money is unknown, and systems that all run on the same machine are compared by its seconds, since its price would cancel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lastresort.records.decision_parts import Crossing as CrossingKind
from lastresort.records.decision_parts import Currency
from lastresort.records.reasons import CostSaving
from lastresort.types import Judgement

PAYBACK_MONTHS = 12  # within which training must be paid back for `goal: cost` to go on to it
_ROUNDING = 1e-9  # relative: by how much the difference of two prices may be off


@dataclass(frozen=True, slots=True)
class Amount:
    """What something costs.

    paid_usd: to somebody else, such as for tokens; None where no price is given. machine_s: seconds of the machine here,
    None where they cannot be foretold.
    """

    paid_usd: float | None
    machine_s: float | None = 0.0

    def usd(self, hourly_price: float | None) -> float | None:
        """In money; None where a price is missing. hourly_price: USD for an hour of the machine."""
        if self.paid_usd is None or self.machine_s is None:
            return None
        if self.machine_s == 0:
            return self.paid_usd
        return None if hourly_price is None else self.paid_usd + self.machine_s * hourly_price / 3600

    def value(self, currency: Currency, hourly_price: float | None) -> float:
        """In a currency that `currency_of` found for it."""
        amount = self.usd(hourly_price) if currency == "usd" else self.machine_s
        assert amount is not None, "a currency in which this amount is known"
        return amount

    def __add__(self, other: Amount) -> Amount:
        paid = None if self.paid_usd is None or other.paid_usd is None else self.paid_usd + other.paid_usd
        seconds = None if self.machine_s is None or other.machine_s is None else self.machine_s + other.machine_s
        return Amount(paid, seconds)


NOTHING = Amount(0.0)


@dataclass(frozen=True, slots=True)
class MeasuredSystem:
    """A tested system with what was measured of it.

    items: test items that the means are over. prompt_tokens, completion_tokens, seconds: means of a call. one_off: what
    training and testing a tuned system took; nothing for one that was not trained. scores: by id of the test item.
    """

    rung: str
    name: str
    model: str
    tuned: bool
    judgement: Judgement
    items: int
    prompt_tokens: float
    completion_tokens: float
    seconds: float
    call: Amount
    one_off: Amount = NOTHING
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return self.judgement.outcome == "MET"


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where two lines of cumulative cost cross. calls: the first whole number at which the one that began as the more expensive
    costs no more; None for never and unknown.
    """

    kind: CrossingKind
    calls: int | None = None


def tokens_amount(
    prompt_tokens: float, completion_tokens: float, prompt_price: float | None, output_price: float | None
) -> Amount:
    """A call paid by its tokens, each at its full price: no discount for cached prompts. Prices: USD per million."""
    if prompt_price is None or output_price is None:
        return Amount(None)
    return Amount((prompt_tokens * prompt_price + completion_tokens * output_price) / 1e6)


def currency_of(amounts: Iterable[Amount], hourly_price: float | None) -> Currency | None:
    """In what all of these compare: money where it is known of each, seconds of the machine where nobody else is paid."""
    all_amounts = list(amounts)
    if all(amount.usd(hourly_price) is not None for amount in all_amounts):
        return "usd"
    if all(amount.paid_usd == 0 and amount.machine_s is not None for amount in all_amounts):
        return "machine_seconds"
    return None


def missing_prices(calls: Iterable[Amount], one_offs: Iterable[Amount], hourly_price: float | None) -> tuple[str, ...]:
    """Keys of the task file whose absence leaves money unknown. one_offs: of these, only judges are paid by tokens."""
    call_amounts, one_off_amounts = list(calls), list(one_offs)
    keys = ["use.prompt_price", "use.output_price"] if any(amount.paid_usd is None for amount in call_amounts) else []
    if hourly_price is None and any(amount.machine_s != 0 for amount in (*call_amounts, *one_off_amounts)):
        keys.append("use.hourly_price")
    if any(amount.paid_usd is None for amount in one_off_amounts):
        keys.append("reward.judge.prompt_price")
    return tuple(keys)


def crossing(one_off: float, call: float, other_call: float) -> Crossing:
    """From which number of calls on `one_off + calls x call` is at most `calls x other_call`."""
    saved = other_call - call
    if saved <= _ROUNDING * max(abs(call), abs(other_call)):
        return Crossing("never")
    if one_off <= 0:
        return Crossing("at_once", 0)
    calls = one_off / saved
    return Crossing("after", math.ceil(calls * (1 - _ROUNDING))) if math.isfinite(calls) else Crossing("never")


def crossing_of(tuned: MeasuredSystem, untuned: MeasuredSystem, hourly_price: float | None) -> Crossing:
    """From which call on the tuned system is the cheaper. What the untuned one took to find was spent before training began."""
    amounts = (tuned.one_off, tuned.call, untuned.call)
    currency = currency_of(amounts, hourly_price)
    if currency is None:
        return Crossing("unknown")
    return crossing(*(amount.value(currency, hourly_price) for amount in amounts))


def months_of(calls: int | None, calls_per_month: int | None) -> float | None:
    """How long so many calls take; None where either is not known."""
    return calls / calls_per_month if calls is not None and calls_per_month else None


def cheapest(systems: Sequence[MeasuredSystem], hourly_price: float | None) -> MeasuredSystem | None:
    """The system whose calls cost least, of equals the first; None where there is none or their costs do not compare."""
    currency = currency_of((system.call for system in systems), hourly_price)
    if currency is None or not systems:
        return None
    return min(systems, key=lambda system: system.call.value(currency, hourly_price))


def saving_of(
    rung: str, now: Amount, then: Amount, one_off: Amount, *, hourly_price: float | None, calls_per_month: int
) -> CostSaving:
    """Go on to training if the plan says that it is paid back in fewer calls than a year makes."""
    amounts = (now, then, one_off)
    currency = currency_of(amounts, hourly_price)
    if currency is None:
        speed_unknown = any(amount.machine_s is None for amount in amounts)
        missing = () if speed_unknown else missing_prices((now, then), (one_off,), hourly_price)
        return CostSaving(rung, False, missing=missing)
    a_call_now, a_call_then, once = (amount.value(currency, hourly_price) for amount in amounts)
    crossing_point = crossing(once, a_call_then, a_call_now)
    return CostSaving(
        rung,
        crossing_point.calls is not None and crossing_point.calls < PAYBACK_MONTHS * calls_per_month,
        currency=currency,
        now=a_call_now,
        then=a_call_then,
        one_off=once,
        crossing=crossing_point.kind,
        calls=crossing_point.calls,
        months=months_of(crossing_point.calls, calls_per_month),
        calls_per_month=calls_per_month,
        limit_months=PAYBACK_MONTHS,
    )
