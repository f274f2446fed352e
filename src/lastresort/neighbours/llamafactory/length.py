"""How long a training lasts: whole or broken epochs, or a number of steps, in epochs and steps of our own."""

from __future__ import annotations

import math
from typing import Any

from lastresort.neighbours.given import Given
from lastresort.neighbours.llamafactory.stage import Stage
from lastresort.spec.values import Number


def length_of(given: Given, stage: Stage, rows: int, batch_size: int) -> dict[str, Any]:
    """epochs, and max_steps where it ends within them. rows: that are trained on; of plain text the steps are not known yet.

    max_steps goes before num_train_epochs, and repeats the data as often as it needs.
    """
    epochs = given.number("num_train_epochs", 3.0, Number(above=0))
    steps = int(given.number("max_steps", -1, Number(whole=True)))
    an_epoch = math.ceil(rows / batch_size)
    if steps > 0:
        # An epoch of text has at least one step.
        return {"max_steps": steps, "epochs": steps if stage == "pt" else math.ceil(steps / an_epoch)}
    if epochs.is_integer():
        return {"epochs": int(epochs)}
    if stage == "pt":
        given.refuse(
            "num_train_epochs",
            f"{epochs:g}",
            expected="a whole number, since the steps of plain text are counted only once it is in tokens",
            remedy="Write a whole number, or max_steps.",
        )
    return {"epochs": math.ceil(epochs), "max_steps": math.ceil(epochs * an_epoch)}
