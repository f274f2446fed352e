"""The two models of a gate in memory: side by side where there is room, else one at a time, and both closed at the end."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from adapters_support import family_folder, family_model, tuned
from gate_support import Recorder
from lastresort.errors import InputError
from lastresort.gate.sides import GateSide, OpenedSides, resolve_sides
from lastresort.gate.suites.suite import SideName
from lastresort.hardware.plan.memory import CACHE_BYTES
from lastresort.models.protocol import Model
from lastresort.stop import NEVER
from lastresort.types import SilentProgress

GIB = 1 << 30
ASKED: tuple[SideName, ...] = (
    "base",
    "tuned",
    "tuned",
    "base",
    "base",
    "tuned",
)  # three looks, the model that answered last first


class Traced:
    """Opens the models of a gate and writes down what is opened and closed, and whether memory was asked for. weights: bytes of
    each model on disk."""

    def __init__(self, free: int | None, weights: int) -> None:
        self.free, self.weights, self.log, self.measured = free, weights, list[str](), 0

    def sides(self, *, differ: bool = False) -> OpenedSides:
        sides: dict[SideName, GateSide] = {
            name: GateSide(name, partial(self._opened, name), weight_bytes=self.weights) for name in ("base", "tuned")
        }
        return OpenedSides(sides, SilentProgress(), NEVER, self._measure, differ=differ)

    def _opened(self, name: str) -> Model:
        self.log.append(f"+{name}")
        model = Recorder()
        model.close = lambda: self.log.append(f"-{name}")
        return model

    def _measure(self) -> int | None:
        self.measured += 1
        return self.free


def test_with_room_for_both_each_is_opened_once() -> None:
    traced = Traced(2 * GIB + CACHE_BYTES + 1, weights=GIB)
    with traced.sides() as sides:
        found = [sides.model(name) for name in ASKED]
        assert sides.name == "tuned"
    assert found[0] is found[3] is found[4]
    assert found[1] is found[2] is found[5]
    assert traced.log == ["+base", "+tuned", "-tuned", "-base"]


@pytest.mark.parametrize("free", [None, GIB, 2 * GIB + CACHE_BYTES])
def test_without_room_or_where_memory_is_unknown_one_is_open_at_a_time(free: int | None) -> None:
    traced = Traced(free, weights=GIB)
    with traced.sides() as sides:
        for name in ASKED:
            sides.model(name)
    assert traced.log == ["+base", "-base", "+tuned", "-tuned", "+base", "-base", "+tuned", "-tuned"]


def test_endpoints_stay_open_and_no_memory_is_measured_for_them() -> None:
    traced = Traced(0, weights=0)
    with traced.sides() as sides:
        for name in ASKED:
            sides.model(name)
    assert traced.log == ["+base", "+tuned", "-tuned", "-base"]
    assert traced.measured == 0


def test_a_local_side_knows_the_size_of_its_weights_and_an_endpoint_takes_none(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model")
    tuned(family_model(), base_name=str(folder)).save_pretrained(str(tmp_path / "adapter"))
    size = (folder / "model.safetensors").stat().st_size
    local = resolve_sides(str(folder), str(tmp_path / "adapter"), {}, tmp_path)
    assert local.base.weight_bytes == local.tuned.weight_bytes == size
    served = resolve_sides("http://127.0.0.1:9/v1#base", "http://127.0.0.1:9/v1#tuned", {}, tmp_path)
    assert served.base.weight_bytes == served.tuned.weight_bytes == 0


def test_two_names_of_one_model_are_refused_as_soon_as_both_are_open() -> None:
    traced = Traced(2 * GIB + CACHE_BYTES + 1, weights=GIB)
    with traced.sides(differ=True) as sides:
        sides.model("base")
        with pytest.raises(
            InputError, match=r"--tuned: found tuned, the same model as base, .* expected a model that was tuned"
        ):
            sides.model("tuned")
    assert traced.log == ["+base", "+tuned", "-tuned", "-base"]


def test_both_are_closed_after_an_error() -> None:
    traced = Traced(2 * GIB + CACHE_BYTES + 1, weights=GIB)

    def ask() -> None:
        with traced.sides() as sides:
            sides.model("base")
            sides.model("tuned")
            raise ValueError("asked badly")

    with pytest.raises(ValueError, match="asked badly"):
        ask()
    assert traced.log == ["+base", "+tuned", "-tuned", "-base"]
