"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer import Option

from lastresort.errors import InputError
from lastresort.types import JsonObject

TASK_SETTINGS: Any = Option([], "--set", help="Override a task key, such as --set bar=0.9.", metavar="KEY=VALUE")


def parse_settings(settings: Sequence[str]) -> JsonObject:
    """`--set KEY=VALUE`: dotted keys and values, each read as it would be in the file."""
    from lastresort.spec.document import read_value

    found: JsonObject = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError(
                f'"{setting}"', where="--set", expected="KEY=VALUE", remedy="For example: --set split.seed=3"
            )
        found[key] = read_value(value, f"--set {key}")
    return found


def names_a_task(word: str) -> bool:
    """Whether a word of the command line can only be a task file."""
    return Path(word).is_file() or Path(word).suffix in (".yaml", ".yml")
