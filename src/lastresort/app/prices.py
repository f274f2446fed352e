"""What calls of a model may cost, by the options of a command and by the task; and options that are refused before any is made."""

from __future__ import annotations

import math
from pathlib import Path

from lastresort.errors import InputError, UnknownModelError
from lastresort.models.open import refuse_no_weights
from lastresort.models.protocol import is_endpoint
from lastresort.spec.paths import is_paid
from lastresort.spec.task import Task

Prices = tuple[float | None, float | None]
"""USD per million tokens of prompt and output, None where unknown."""


def refuse_unknown_model(name: str, folder: Path, option: str | None) -> None:
    """Before anything is read or made for a name that is nothing. option: that names it, None where the task does."""
    if is_endpoint(name):
        return
    try:
        refuse_no_weights(name, folder)
    except UnknownModelError as error:
        raise InputError(
            error.found, where=option or error.where, expected=error.expected, remedy=error.remedy
        ) from None


def refuse_below(*options: tuple[str, float | None, float]) -> None:
    """Raises InputError where an option has a number below the least one, no number or an infinite one."""
    for option, number, least in options:
        if number is not None and not least <= number < math.inf:
            raise InputError(
                f"found {number:g}", where=option, expected=f"a number of at least {least}", remedy="Correct it."
            )


def prices_of(task: Task, name: str, given: Prices) -> Prices:
    """Of a model: those of the options, else those that the task gives for a model of this name.

    Raises InputError where one price is given without the other.
    """
    judge = task.score.judge
    if given != (None, None):
        if None in given:
            raise InputError(
                "found one price",
                where="--prompt-price" if given[0] is not None else "--output-price",
                expected="the price of prompt and output tokens",
                remedy="Give both --prompt-price and --output-price, in USD per million tokens.",
            )
        return given
    if name == task.model:
        return task.use.prompt_price, task.use.output_price
    if name == task.prompting.reflect:
        return task.prompting.prompt_price, task.prompting.output_price
    if judge is not None and name == judge.model:
        return judge.prompt_price, judge.output_price
    return None, None


def limit_of(task: Task, usd: float | None, name: str, prices: Prices) -> float | None:
    """USD that calls of this model may take; usd: of the option. Raises InputError for a limit without the prices."""
    limit = usd if usd is not None else task.limits.usd
    if limit is not None and is_paid(name) and None in prices:
        raise InputError(
            f"a limit of {limit:g} USD without the prices of {name}",
            where="--usd" if usd is not None else f'{task.path.name}, key "limits.usd"',
            expected="what its tokens cost",
            remedy="Add --prompt-price and --output-price, in USD per million tokens.",
        )
    return limit
