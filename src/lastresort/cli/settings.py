"""`--set key=value`: overrides of a file's keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lastresort.errors import InputError
from lastresort.spec.document import read_value


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Dotted keys to values; a value is read as it would stand in the file."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError(
                f'"{setting}"', where="--set", expected="KEY=VALUE", remedy="For example: --set split.seed=3"
            )
        found[key] = read_value(value, f"--set {key}")
    return found
