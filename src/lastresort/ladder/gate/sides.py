"""The two models that a gate compares, of which one is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lastresort.errors import DataError, InputError
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.models.protocol import Model


@dataclass(frozen=True, slots=True)
class Side:
    """name: as its user knows it. open: loads it, each time anew. rendering: hash of how conversations are rendered, "" where that
    happens out of sight. scores: whether it can tell how likely an answer is. fingerprint: that the model must have, "" for any.
    """

    name: str
    open: Callable[[], Model]
    rendering: str = ""
    scores: bool = True
    fingerprint: str = ""


@contextmanager
def opened(side: Side) -> Iterator[Model]:
    """The model of a side. Whoever asks it lets go of it before the other is opened.

    Raises DataError where it is not the model that the side stands for.
    """
    give_back_freed_memory()
    model = side.open()
    if side.fingerprint and model.fingerprint != side.fingerprint:
        raise DataError(
            f"the weights, precision or template of {side.name} are not those that were measured",
            where=side.name,
            expected=f"fingerprint {side.fingerprint[:16]}, not {model.fingerprint[:16]}",
            remedy="Put them back, or start a new run.",
        )
    yield model


def refuse_other_rendering(base: Side, tuned: Side) -> None:
    """Raises InputError where the two would be shown different text for the same conversation."""
    if base.rendering and tuned.rendering and base.rendering != tuned.rendering:
        raise InputError(
            f"the chat template or the special tokens of {tuned.name} differ from those of {base.name}",
            expected="a tuned model and a base that are shown the same text, since otherwise the gate would compare templates",
            remedy="Put the base's chat template and special tokens into the tuned model's folder, or name another base.",
        )
