"""Graphics cards by name: what fits on one and how fast it is at best.

What an hour of a card costs, with its date; a user's own prices go before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from lastresort.errors import DataError, InputError
from lastresort.foreign import read_yaml

GIB = 1 << 30
_SIZE = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*(gb|gib|mib)", re.IGNORECASE)
_COUNTED = re.compile(r"(\d{1,6})\s*[x×*]\s*(.+)", re.IGNORECASE)
# A unit's bytes, and the share that a program does not get: a name says GB and means GiB; nvidia-smi counts in MiB, about 1% more
# than torch reports (see catalogue/cards.yaml).
_UNITS = {"gb": (GIB, 0.02), "gib": (GIB, 0.0), "mib": (1 << 20, 0.01)}
_ABOUT = 0.08
_EXPECTED = "a GPU of the catalogue, a size such as 24GB, or several, such as 2xl40s"


@dataclass(frozen=True, slots=True)
class Card:
    """One device. memory_bytes: what the driver lets a program have. peak_flops_per_s: of dense 16-bit products,
    float32_flops_per_s: of those in float32 without TF32, None where only the memory is known. bandwidth_bytes_per_s: of its
    memory. bf16: else it computes in fp16. estimated: memory_bytes is.
    """

    name: str
    memory_bytes: int
    peak_flops_per_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    bf16: bool = True
    estimated: bool = False
    float32_flops_per_s: float | None = None

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


@cache
def known_cards() -> Mapping[str, Card]:
    """By name, in the catalogue's order."""
    return {name: _card(name, entry) for name, entry in _entries().items()}


def cards_named(text: str) -> tuple[int, Card]:
    """ "2xl40s" is two L40S, "24GB" one card of that size. Raises InputError with the nearest name for one that is not known."""
    counted = _COUNTED.fullmatch(text.strip())
    count, name = (int(counted[1]), counted[2]) if counted else (1, text.strip())
    if count < 1:
        raise InputError(f'found "{text}"', where="--gpu", expected=_EXPECTED, remedy="Name at least one GPU.")
    return count, card_named(name)


def card_named(name: str, where: str = "--gpu") -> Card:
    """By its name, another spelling, what the driver calls it, or a size: in GB as cards are sold, in GiB what a program gets, in
    MiB as nvidia-smi shows it.

    Raises InputError with the nearest names, at `where`.
    """
    size, plain = _SIZE.fullmatch(name.strip()), _plain(name)
    if size:
        unit, kept = _UNITS[size[2].lower()]
        if memory_bytes := int((1 - kept) * float(size[1]) * unit):
            return Card(name.strip().lower(), memory_bytes, estimated=kept > 0)
    found = _spellings().get(plain)
    if found is None:
        near = _near(plain)
        remedy = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(known_cards())}."
        raise InputError(f'found "{name}"', where=where, expected=_EXPECTED, remedy=remedy)
    return known_cards()[found]


def _near(plain: str) -> list[str]:
    """Names like this one. Of a number the cards that bear it, and the size."""
    number = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)g?", plain)  # 5070 is the number of a card
    if number is None or not float(number[1]):
        return get_close_matches(plain, list(known_cards()), 3, 0.5)
    bearing = [name for name in _spellings() if re.fullmatch(rf"[a-z]+{re.escape(plain)}[a-z]*", name)]
    return [*bearing, f"{number[1]}{'GiB' if '.' in plain else 'GB'}"]


def cards_of_size(memory_bytes: int) -> list[str]:
    """Names of the catalogue's cards of about this memory, within 8%: what a driver keeps, and checks, of one size."""
    return [name for name, card in known_cards().items() if abs(card.memory_bytes / memory_bytes - 1) < _ABOUT]


def card_of_driver(name: str, memory_bytes: int) -> Card:
    """A card that is here, with the memory that its driver tells; peak and bandwidth from the catalogue, where it is known."""
    found = _spellings().get(_plain(name))
    if found is None:
        return Card(name, memory_bytes)
    known = known_cards()[found]
    return replace(known, memory_bytes=memory_bytes, estimated=False)


def catalogue(name: str) -> Any:
    """A YAML file of the catalogue, by its name without the ending, as parsed."""
    import yaml

    return yaml.safe_load(files("lastresort.hardware").joinpath(f"catalogue/{name}.yaml").read_text("utf-8"))


@cache
def _entries() -> Mapping[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = catalogue("cards")
    return found


@cache
def _spellings() -> Mapping[str, str]:
    found = {}
    for name, entry in _entries().items():
        also = entry.get("also")
        for own in (name, *(also if isinstance(also, list) else ())):
            found[_plain(str(own))] = name
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower()).removeprefix("nvidia-").removeprefix("geforce-")


def _card(name: str, entry: dict[str, object]) -> Card:
    memory, peak, float32, bandwidth = (
        float(str(entry[key])) for key in ("memory_gib", "peak_tflops", "float32_tflops", "bandwidth_gb_s")
    )
    return Card(
        name,
        int(memory * GIB),
        peak * 1e12,
        bandwidth * 1e9,
        bf16=entry.get("bf16") is not False,
        estimated=entry.get("estimated") is True,
        float32_flops_per_s=float32 * 1e12,
    )


PriceKind = Literal["marketplace", "specialist", "list", "yours"]


@dataclass(frozen=True, slots=True)
class Price:
    """usd_per_hour: of one card. date: of the figure."""

    usd_per_hour: float
    date: str | None
    kind: PriceKind


@cache
def known_prices() -> Mapping[str, Price]:
    """Of the catalogue's cards, where a price is known."""
    return {
        name: Price(float(entry["usd_per_hour"]), str(entry["date"]), entry["kind"])
        for name, entry in catalogue("prices").items()
    }


def prices_with(given: Iterable[str], file: Path | None, cards: Iterable[str] = ()) -> dict[str, Price]:
    """The catalogue's prices, overridden by a file's, overridden by those given.

    given: "GPU=USD" or "USD" alone, which is the price of all `cards`. file: YAML or JSON, a price a card.
    Raises InputError or DataError for what is no price.
    """
    found = dict(known_prices())
    if file is not None:
        found |= {card_named(str(name), str(file)).name: _own(value, str(file)) for name, value in _read(file).items()}
    for one in given:
        name, equals, usd = one.rpartition("=")
        names = [card_named(name, "--price").name] if equals else list(cards)
        if not names:
            raise InputError(f'"{one}" names no GPU', where="--price", expected="GPU=USD, or also --gpu")
        found |= {own: _own(usd, "--price") for own in names}
    return found


def _own(value: Any, where: str) -> Price:
    try:
        usd = float(value)
    except (TypeError, ValueError, OverflowError):
        usd = -1.0
    if not 0 <= usd < float("inf"):
        raise InputError(f'found "{value}"', where=where, expected="USD an hour", remedy="For example: a100-80=1.50")
    return Price(usd, None, "yours")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = read_yaml(file, raised=DataError)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(
            "there is no such file", where=str(file), expected="YAML, a price a GPU", remedy="Check the path."
        ) from error
    if not isinstance(found, dict):
        raise DataError("found no prices", where=str(file), expected="lines such as a100-80: 1.50")
    return found
