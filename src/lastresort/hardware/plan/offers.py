"""The cheapest cards to rent on which a training fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lastresort.hardware.catalogue.cards import known_cards
from lastresort.hardware.catalogue.prices import Price
from lastresort.hardware.plan.fit import beyond_our_trainer, fit
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.plan.shape import Shape
from lastresort.hardware.plan.time import Job, training_time, usd

COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Offer:
    """usd_per_hour: of all cards together. seconds, usd: of the whole job, None without one. beyond: see `beyond_our_trainer`."""

    cards: Cards
    per_card_bytes: int
    usd_per_hour: float
    price: Price
    seconds: float | None
    usd: float | None
    beyond: str | None


def offers(shape: Shape, setup: Setup, prices: Mapping[str, Price], job: Job | None) -> list[Offer]:
    """Of every card with a price the fewest that fit, by what the job costs; without a job, by the hour."""
    found = [offer for name in prices if (offer := _fewest(shape, setup, name, prices[name], job)) is not None]
    return sorted(found, key=lambda one: (one.usd is None, one.usd if one.usd is not None else 0.0, one.usd_per_hour))


def for_all(shape: Shape, setups: Sequence[Setup], prices: Mapping[str, Price]) -> Offer | None:
    """The cheapest by the hour on which each of these fits."""
    found = []
    for name, price in prices.items():
        own = [_fewest(shape, setup, name, price, None) for setup in setups]
        fitting = [offer for offer in own if offer is not None]
        if len(fitting) == len(setups):
            found.append(max(fitting, key=lambda one: one.usd_per_hour))
    return min(found, key=lambda one: one.usd_per_hour, default=None)


def _fewest(shape: Shape, setup: Setup, name: str, price: Price, job: Job | None) -> Offer | None:
    for count in COUNTS:
        cards = Cards(known_cards()[name], count, "ddp" if count == 1 else "fsdp")
        found = fit(shape, setup, cards)
        if found.fits:
            seconds = training_time(shape, setup, cards, job).seconds if job is not None else None
            return Offer(
                cards,
                found.training.per_card_bytes,
                count * price.usd_per_hour,
                price,
                seconds,
                usd(seconds, cards, price.usd_per_hour),
                beyond_our_trainer(setup, cards),
            )
    return None
