"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from typer import Option

from lastresort.errors import InputError
from lastresort.types import GateMode, JsonObject

GATE_MODES = "|".join(get_args(GateMode))
TASK_SETTINGS: Any = Option([], "--set", help="Override a task key, such as --set bar=0.9.", metavar="KEY=VALUE")


def _ray(what: str) -> Any:
    return Option(
        None,
        "--ray",
        metavar="local|auto|HOST:PORT",
        help=f"{what} in parallel. local starts up to one worker per core (or GPU) of this machine. "
        "auto joins the Ray cluster of this machine or of RAY_ADDRESS, HOST:PORT "
        "the one at that address (docs/scale.md). Default: this process only.",
    )


RAY, TRAINING_RAY, ABLATING_RAY = _ray("Answer"), _ray("Answer and train"), _ray("Answer, and with --ablate train,")


def parse_settings(settings: Sequence[str]) -> JsonObject:
    """`--set KEY=VALUE`: dotted keys and values, each read as it would be in the file."""
    from lastresort.spec.document import read_value

    pairs = [split_pair(setting, "--set", "KEY=VALUE", "split.seed=3", may_be_empty=True) for setting in settings]
    return {key: read_value(value, f"--set {key}") for key, value in pairs}


def split_pair(text: str, option: str, form: str, example: str, *, may_be_empty: bool = False) -> tuple[str, str]:
    """Name and value of `--option NAME=VALUE`. may_be_empty: the value."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not (may_be_empty or value.strip()):
        raise InputError(f'"{text}"', where=option, expected=form, remedy=f"For example: {option} {example}")
    return name.strip(), value


def names_a_task(word: str) -> bool:
    """Whether a word of the command line can only be a task file."""
    return Path(word).is_file() or Path(word).suffix in (".yaml", ".yml")
