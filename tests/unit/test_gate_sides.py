"""The two models of a gate in memory: side by side where there is room, else one at a time, and both closed at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gate_support import Recorder
from lastresort.gate.sides import GateSide, OpenedSides
from lastresort.models.protocol import Model
from lastresort.stop import NEVER
from lastresort.types import SilentProgress

ASKED = ("base", "tuned", "tuned", "base", "base", "tuned")  # three looks, the model that answered last first


class Traced:
    """Opens the models of a gate and writes down what is opened and closed. memory: free bytes before any is open, and what one
    takes."""

    def __init__(self, memory: int | None, takes: int = 100) -> None:
        self.free, self.takes, self.log = memory, takes, list[str]()

    def side(self, name: str) -> GateSide:
        return GateSide(name, lambda: self.opened(name))

    def opened(self, name: str) -> Model:
        self.log.append(f"+{name}")
        self._take(self.takes)
        model = Recorder()
        model.close = lambda: self.closed(name)  # type: ignore[method-assign]
        return model

    def closed(self, name: str) -> None:
        self.log.append(f"-{name}")
        self._take(-self.takes)

    def _take(self, number: int) -> None:
        self.free = None if self.free is None else self.free - number


def opened(traced: Traced) -> OpenedSides:
    free: Callable[[], int | None] = lambda: traced.free  # noqa: E731
    return OpenedSides({"base": traced.side("base"), "tuned": traced.side("tuned")}, SilentProgress(), NEVER, free)


def test_with_room_for_both_each_is_opened_once() -> None:
    traced = Traced(1_000)
    with opened(traced) as sides:
        found = [sides.model(name) for name in ASKED]  # type: ignore[arg-type]
        assert sides.name == "tuned"
    assert found[0] is found[3] is found[4]
    assert found[1] is found[2] is found[5]
    assert traced.log == ["+base", "+tuned", "-tuned", "-base"]


@pytest.mark.parametrize("memory", [None, 150, 300])
def test_without_room_or_where_memory_is_unknown_one_is_open_at_a_time(memory: int | None) -> None:
    traced = Traced(memory)
    with opened(traced) as sides:
        for name in ASKED:
            sides.model(name)  # type: ignore[arg-type]
    assert traced.log == ["+base", "-base", "+tuned", "-tuned", "+base", "-base", "+tuned", "-tuned"]


def test_models_that_take_no_memory_here_stay_open() -> None:
    traced = Traced(1, takes=0)
    with opened(traced) as sides:
        for name in ASKED:
            sides.model(name)  # type: ignore[arg-type]
    assert traced.log == ["+base", "+tuned", "-tuned", "-base"]


def test_both_are_closed_after_an_error() -> None:
    traced = Traced(1_000)

    def ask() -> None:
        with opened(traced) as sides:
            sides.model("base")
            sides.model("tuned")
            raise ValueError("asked badly")

    with pytest.raises(ValueError, match="asked badly"):
        ask()
    assert traced.log == ["+base", "+tuned", "-tuned", "-base"]
