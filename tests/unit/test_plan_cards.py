"""Cards and prices by name, and what a user's own figures do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.errors import DataError, InputError
from lastresort.hardware.cards import (
    GIB,
    card_named,
    card_of_driver,
    cards_named,
    known_cards,
    known_prices,
    prices_with,
)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("L40S", "l40s"),
        ("rtx 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("A100", "a100-80"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("Tesla T4", "t4"),
    ],
)
def test_a_card_is_known_by_what_people_and_drivers_call_it(written: str, name: str) -> None:
    assert card_named(written) is known_cards()[name]


def test_no_card_has_as_much_memory_as_its_name_says() -> None:
    sizes = {"rtx-3090": 24, "l40s": 48, "a100-40": 40, "a100-80": 80, "h200": 141, "t4": 16}
    for name, size in sizes.items():
        assert 0.89 * size * GIB < known_cards()[name].memory_bytes < size * GIB


def test_several_cards_and_sizes() -> None:
    assert cards_named("2xl40s") == (2, known_cards()["l40s"])
    assert cards_named("8 x H100")[0] == 8
    count, card = cards_named("2x48GB")
    assert (count, card.peak_flops_per_s) == (2, None)
    assert card.memory_bytes == int(0.98 * 48 * GIB)
    assert card.estimated
    exact = cards_named("2x23.6 GiB")[1]
    assert (exact.memory_bytes, exact.estimated) == (int(23.6 * GIB), False), "as torch reports it"
    shown = card_named("24564 MiB")
    assert (shown.memory_bytes, shown.estimated) == (int(0.99 * 24564 * (1 << 20)), True), "as nvidia-smi shows it"
    assert abs(shown.memory_bytes / known_cards()["rtx-4090"].memory_bytes - 1) < 0.01


def test_a_card_that_is_here_has_the_memory_that_its_driver_tells() -> None:
    assert card_of_driver("NVIDIA L4", 23 * GIB).memory_bytes == 23 * GIB
    assert card_of_driver("NVIDIA L4", 23 * GIB).peak_flops_per_s == known_cards()["l4"].peak_flops_per_s
    assert card_of_driver("Some GPU", 8 * GIB).peak_flops_per_s is None


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r'--gpu: found "a100-90".* Did you mean a100-80'):
        card_named("a100-90")
    with pytest.raises(InputError, match="at least one"):
        cards_named("0xl4")


@pytest.mark.parametrize(
    ("number", "meant"),
    [
        ("24", "Did you mean 24GB?"),
        ("24g", "Did you mean 24GB?"),
        ("23.6", "Did you mean 23.6GiB?"),
        ("40", "Did you mean a40 or l40s or 40GB?"),
        ("100", "Did you mean v100 or a100 or h100 or 100GB?"),
        ("4099", "rtx-4090"),
    ],
)
def test_a_number_is_of_a_card_or_a_size(number: str, meant: str) -> None:
    with pytest.raises(InputError) as found:
        card_named(number)
    assert f'--gpu: found "{number}"' in str(found.value)
    assert meant in str(found.value)


@pytest.mark.parametrize("size", ["0", "0GB", "0.0GiB", "0.0000000001GB"])
def test_no_card_is_of_size_0(size: str) -> None:
    with pytest.raises(InputError, match=r'--gpu: found "0') as found:
        card_named(size)
    assert "mean 0" not in str(found.value)


def test_every_price_is_of_a_card_and_has_a_date() -> None:
    assert set(known_prices()) <= set(known_cards())
    assert all(price.date and price.kind in ("marketplace", "specialist", "list") for price in known_prices().values())


def test_own_prices_go_before_the_files_and_those_before_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("A100: 0.9\nL4: 0.2\n", encoding="utf-8")
    found = prices_with(["l4=0.1", "5"], tmp_path / "prices.yaml", ["t4"])
    assert {name: found[name].usd_per_hour for name in ("a100-80", "l4", "t4")} == {"a100-80": 0.9, "l4": 0.1, "t4": 5}
    assert found["a100-80"].kind == "yours"
    assert found["h100"] == known_prices()["h100"]


@pytest.mark.parametrize("told", ["l4=cheap", "l4=-1", "l4=nan"])
def test_what_is_no_price_is_refused(told: str) -> None:
    with pytest.raises(InputError, match="USD an hour"):
        prices_with([told], None)


def test_a_card_that_is_not_known_is_refused_where_its_price_was_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--price: found \"a1000\".*Did you mean a100"):
        prices_with(["a1000=1"], None)
    (tmp_path / "prices.yaml").write_text("a1000: 1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r'prices.yaml: found "a1000"'):
        prices_with([], tmp_path / "prices.yaml")


def test_a_price_needs_a_card_and_a_file_must_hold_prices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no GPU"):
        prices_with(["2.5"], None)
    (tmp_path / "prices.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(DataError, match="found no prices"):
        prices_with([], tmp_path / "prices.yaml")
