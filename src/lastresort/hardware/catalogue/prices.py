"""What an hour of a card costs, with its date; a user's own prices go before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.hardware.catalogue.cards import card_named


@dataclass(frozen=True, slots=True)
class Price:
    """usd_per_hour: of one card. date: of the figure. kind: marketplace, specialist, list, or yours."""

    usd_per_hour: float
    date: str | None
    kind: str


@cache
def known_prices() -> Mapping[str, Price]:
    """Of the catalogue's cards, where a price is known."""
    import yaml

    text = files("lastresort.hardware.catalogue").joinpath("prices.yaml").read_text("utf-8")
    return {
        name: Price(float(entry["usd_per_hour"]), str(entry["date"]), entry["kind"])
        for name, entry in yaml.safe_load(text).items()
    }


def prices_with(told: Iterable[str], file: Path | None, cards: Iterable[str] = ()) -> dict[str, Price]:
    """The catalogue's prices, those of a file before them, and what was told before both.

    told: "CARD=USD" or "USD" alone, which is the price of all `cards`. file: YAML or JSON, a price a card.
    Raises InputError or DataError for what is no price.
    """
    found = dict(known_prices())
    if file is not None:
        found |= {card_named(str(name)).name: _own(value, str(file)) for name, value in _read(file).items()}
    for one in told:
        name, equals, usd = one.rpartition("=")
        names = [card_named(name).name] if equals else list(cards)
        if not names:
            raise InputError(
                f'"{one}" says of no card that it is its price', where="--price", expected="CARD=USD, or --gpu beside"
            )
        found |= {own: _own(usd, "--price") for own in names}
    return found


def _own(value: Any, where: str) -> Price:
    try:
        usd = float(value)
    except (TypeError, ValueError):
        usd = -1.0
    if not 0 <= usd < float("inf"):
        raise InputError(f'found "{value}"', where=where, expected="USD an hour", remedy="For example: a100-80=1.50")
    return Price(usd, None, "yours")


def _read(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot be read ({error})", where=str(file), expected="YAML, a price a card") from error
    if not isinstance(found, dict):
        raise DataError("found no prices", where=str(file), expected="lines such as a100-80: 1.50")
    return found
