"""The picture of how far a training has moved from its base, and the sentences over it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from lastresort.records.events.training import TrainingReached
from lastresort.records.record import Record
from lastresort.report.charts.early_warnings import early_chart, most_followed
from lastresort.report.html import early_warnings, write_report
from lastresort.report.story import RungStory, TrainingRun
from report_support import make, training_reached


def looked(step: int, kl: float, task: float, times: float) -> dict[str, float]:
    return {"step": step, "kl_general": kl, "kl_task": task, "perplexity": 20 * times, "base_perplexity": 20.0}


STEPS = [{"step": step, "loss": 2 / step} for step in range(1, 21)]
CURVES: dict[str, list[dict[str, float]]] = {
    "lr0.001": STEPS[:5],
    "lr0.003": [looked(0, 0, 0, 1), *STEPS, looked(10, 0.5, 1.0, 1.1), looked(20, 1.0, 3.0, 2.4)],
}


def story(curves: dict[str, list[dict[str, float]]]) -> RungStory:
    runs = (TrainingRun(name, training_reached("sft", name), tuple(curve)) for name, curve in curves.items())
    return RungStory("sft", "", None, trained=tuple(runs))


def lines(svg: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', svg)
    pairs = [[pair.partition(",") for pair in one.split()] for one in found]
    return [[(float(x), float(y)) for x, _, y in one] for one in pairs]


def test_points_lie_over_their_steps_and_at_their_values() -> None:
    svg = str(early_chart(CURVES, "label"))
    general, task, prose = lines(svg)
    assert [x for x, _ in general] == [x for x, _ in task] == [x for x, _ in prose]
    (left, zero), (middle, quarter), (right, half) = general
    assert middle - left == pytest.approx(right - middle, abs=0.2)
    assert zero - quarter == pytest.approx(quarter - half, abs=0.2)
    assert zero - task[2][1] == pytest.approx(3 * (zero - half), abs=0.3)
    assert svg.count("stroke-dasharray") == 1  # the task's line
    for text in (
        "nats per token",
        "relative to the base",
        ">general: alarm at 1<",  # the task's line, which may lie above, raises no alarm
        ">alarm at 2<",
        ">general<",
        ">task<",
        ">prose<",
    ):
        assert text in svg


def test_what_is_alarming_has_a_line_at_its_height() -> None:
    svg = str(early_chart(CURVES, "label"))
    limits = [float(y) for y in re.findall(r'<line class="alarm"[^>]* y1="([0-9.]+)"', svg)]
    general, _, prose = lines(svg)
    assert limits[0] == pytest.approx(general[2][1], abs=0.2)  # 1.0
    assert prose[2][1] < limits[1] < prose[1][1]  # 2.4, 2.0, 1.1


@pytest.mark.parametrize("highest", [1.1, 1.9, 2.4, 9.0])
def test_what_is_written_over_a_panel_and_at_its_alarm_does_not_touch(highest: float) -> None:
    """Where nothing comes near the alarm its line lies at the panel's upper edge, right below the unit."""
    svg = str(early_chart({"a": [looked(0, 0, 0, 1), *STEPS, looked(20, highest / 2, 0.1, highest)]}, "label"))
    units, alarms = (
        [float(y) for y in re.findall(rf'<text class="{name}" x="[0-9.]+" y="([0-9.]+)"', svg)]
        for name in ("unit", "alarm")
    )
    assert len(alarms) == 2
    assert min(abs(unit - alarm) for unit in units for alarm in alarms) >= 12


def test_nothing_is_drawn_of_runs_that_were_not_looked_at_twice() -> None:
    assert early_chart({"a": STEPS}, "label") is None
    assert early_chart({"a": [*STEPS, looked(20, 1, 1, 1)]}, "label") is None
    broken = {"a": [looked(0, 0, 0, 1), looked(9, math.nan, math.nan, math.inf)]}
    assert early_chart(broken, "label") is None
    assert early_warnings(story({"a": STEPS})) is None


def test_the_run_that_went_the_whole_way_is_told_and_every_alarm() -> None:
    early_left = [looked(0, 0, 0, 1), looked(5, 1.9, 0.1, 1.0)]
    found = early_warnings(story({"lr0.01": early_left, **CURVES}))
    assert found is not None
    assert found.title.startswith(
        "lr0.003, how far training moved the model by step 20: KL from the base 1.00 on general requests"
    )
    assert [name for name, _ in found.alarms] == ["lr0.01", "lr0.003"]
    assert "2.40 times the base's" in found.alarms[1][1]
    assert "nats a token from the base's" not in found.alarms[1][1]
    assert most_followed({}) is None


def test_the_report_shows_them_below_the_loss(tmp_path: Path) -> None:
    folder = make(tmp_path, "sft-met")
    before = write_report(folder).read_text(encoding="utf-8")
    with Record.open(folder) as record:
        name = record.all(TrainingReached)[-1].candidate
        for point in CURVES["lr0.003"]:
            if "perplexity" in point:
                record.add_curve_point(name, int(point["step"]), {k: v for k, v in point.items() if k != "step"})
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Early warning" not in before
    assert f"<b>{name}</b>: Early warning, no verdict: at step 20" in page
    assert page.index("Training loss") < page.index("KL from the base, nats per token") < page.index("Tokens computed")
