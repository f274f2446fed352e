"""What a climb says of the time it still takes, against the time that it then takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lastresort.climb.workbench import StageWriter
from lastresort.records.events import Stage
from lastresort.records.record import Record
from lastresort.rungs.forecast import Forecast
from lastresort.types import SilentProgress

CANDIDATES, ON_DEV, IN_TEST, STEPS = 8, 24, 100, 50
FORECAST = {
    "prompting": Forecast(0, 0, 0, 48.0, 0.0, dev_s=38.0, test_s=10.0, answers=292, test_answers=100),
    "sft": Forecast(0, 0, 0, 90.0, 0.0, dev_s=20.0, test_s=20.0, answers=200, test_answers=100),
}


class Shown(SilentProgress):
    """The stage as it was shown last; a record takes fewer."""

    stage_now = Stage(label="")

    def show_stage(self, stage: Stage) -> None:
        self.stage_now = stage


class Climb:
    """A climb by a clock of its own, which takes what is forecast times `slower`; notes what it says at every moment."""

    def __init__(self, folder: Path, answers_slower: float, training_slower: float) -> None:
        self.now, self.said = 0.0, list[tuple[str, float, float | None]]()
        self.answers, self.training = answers_slower, training_slower
        with Record.create(folder / "run") as record:
            shown = Shown()
            self.writer = StageWriter(shown, record, lambda: (self.now, 0.0), clock=lambda: self.now)
            self.writer.expect(FORECAST)
            for part, candidate, n, each_s in self.plan():
                rung, split = part.split()
                self.writer.stage(f"{part} {candidate}", n)
                self.writer.at(rung, candidate, split)
                for _ in range(n):
                    self.now += each_s
                    self.writer.advance()
                    self.said.append((part, self.now, shown.stage_now.climb_left_s))

    def plan(self) -> Iterator[tuple[str, str, int, float]]:
        """Part, candidate, units and seconds of each."""
        for number in range(CANDIDATES):
            yield "prompting dev", f"way-{number}", ON_DEV, self.answers * 38 / 192
        yield "prompting test", "way-1", IN_TEST, self.answers * 10 / IN_TEST
        yield "sft train", "rate", STEPS, self.training * 50 / STEPS
        yield "sft dev", "epoch-1", 100, self.answers * 20 / 100
        yield "sft test", "epoch-1", IN_TEST, self.answers * 20 / IN_TEST

    def shares(self) -> dict[str, list[float]]:
        """What was said as a share of what it then took, by part, as far as something was said and is to come."""
        found: dict[str, list[float]] = {}
        for part, at, left_s in self.said:
            to_come = self.now - at
            if left_s is not None and to_come > 1:
                found.setdefault(part, []).append(left_s / to_come)
        return found


@pytest.mark.parametrize("slower", [1.0, 3.0])
def test_what_is_said_is_what_it_takes_also_on_a_machine_that_is_slower(tmp_path: Path, slower: float) -> None:
    """Of 96 s that were to come, 31 s used to be said: what was late counted as done, and the rest as not late."""
    climb = Climb(tmp_path, slower, slower)
    shares = climb.shares()
    assert set(shares) == {"prompting dev", "prompting test", "sft train", "sft dev", "sft test"}
    early = shares.pop("prompting dev")
    assert min(early[ON_DEV:]) > 0.95, "from the second candidate on its pace is known"
    assert min(map(min, shares.values())) > 0.8
    assert max(map(max, shares.values())) < 1.25


def test_of_a_training_that_is_late_nothing_is_said_in_all(tmp_path: Path) -> None:
    """Nobody counts what a training has still to do: it may train at several rates."""
    climb = Climb(tmp_path, 1.0, 3.0)
    began = next(at for part, at, _ in climb.said if part == "sft train")
    late = [left_s for part, at, left_s in climb.said if part == "sft train" and at - began > 50]
    assert len(late) > 20
    assert set(late) == {None}
    assert min(climb.shares()["sft dev"]) > 0.95
