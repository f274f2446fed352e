"""A climb that is cut off among its repairs decides the same when it goes on, and asks nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from climb_gate_support import BROKEN, SAFE, by_scale, gated_climb, script_rungs
from climb_support import calls, comparable
from lastresort.app.climb import Climbed
from lastresort.errors import BudgetError
from tuning_support import Cut, CutAt, Scissors

ONE_SUITE = {"keep": {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}, "split": {"dev": 20, "test": 60}}
MENDED = by_scale((1, 0.99, BROKEN), (0.75, 0.99, 0.7), (0.5, 0.96, SAFE), (0.25, 0.6, SAFE))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch)
        return gated_climb(tmp_path_factory.mktemp("whole"), MENDED, task=ONE_SUITE, gate="quick")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "after"),
    [
        ("sft: sft-adapter-scale0.75 on dev", 2),
        ("repair: base: general", 4),
        ("repair: tuned: general", 30),  # of the second repair
        ("sft: testing sft-adapter-scale0.5", 2),
        ("gate: the rest of the test set, sft-adapter-scale0.5", 1),
    ],
)
def test_a_climb_cut_among_its_repairs_decides_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Climbed, label: str, after: int
) -> None:
    script_rungs(monkeypatch)
    with pytest.raises(Cut):
        gated_climb(tmp_path, MENDED, task=ONE_SUITE, progress=CutAt(label, after), gate="quick")
    before, task = len(calls(tmp_path / "task")), whole.run.parent.parent / "task"
    assert before < len(calls(task))
    assert comparable(gated_climb(tmp_path, []).decision.as_json()) == comparable(whole.decision.as_json())
    assert len(calls(tmp_path / "task")) == len(calls(task))


def test_a_limit_stops_the_climb_among_its_repairs_and_more_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Climbed
) -> None:
    class Late(Scissors):
        """A clock that is past the limit once a repair is measured."""

        hours = 0.0

        def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
            if label.startswith("repair: tuned"):
                self.hours = 2.0

    script_rungs(monkeypatch)
    late, limited = Late(), {**ONE_SUITE, "limits": {"hours": 1}}
    with pytest.raises(BudgetError):
        gated_climb(tmp_path, MENDED, task=limited, progress=late, clock=lambda: 3600 * late.hours, gate="quick")
    path = tmp_path / "task" / "task.yaml"
    path.write_text(path.read_text().replace("hours: 1", "hours: 10"), encoding="utf-8")
    found = gated_climb(tmp_path, [], clock=lambda: 0.0).decision.as_json()
    assert (found["gate"]["system"], found["gate"]["verdict"]) == ("sft-adapter-scale0.5", "SHIP")
    assert found["repairs"][0]["measures"] == whole.decision.as_json()["repairs"][0]["measures"]
