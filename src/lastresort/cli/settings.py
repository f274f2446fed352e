"""`--set key=value`: overrides of a file's keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from lastresort.errors import InputError


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Dotted keys to values; a value is read as YAML, as it would stand in the file."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InputError(
                f'"{setting}"', where="--set", expected="KEY=VALUE", remedy="For example: --set split.seed=3"
            )
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(
                f'the value "{value}"',
                where=f"--set {key}",
                expected="a YAML value",
                remedy="Quote it as the task file would.",
            ) from error
    return found
