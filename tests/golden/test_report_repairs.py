"""Repairs in words and as a curve: all that was tried, in order, and what became of it."""

from __future__ import annotations

import re
from typing import Any

from lastresort.records.decision_parts import RepairView
from lastresort.report import repairs
from lastresort.report.charts.tradeoff import points, tradeoff_chart

SECOND_GATE = {"verdict": "SHIP", "mode": "quick", "seed": 3, "alpha": 0.05, "artefact_sha256": None}
SECOND_GATE |= {"reasons": ["Ship."], "measures": [], "spent": {}}


def _finding(dev: float | None, lost: float, *, good: bool) -> dict[str, Any]:
    if dev is None:
        return {"kind": "DIVERGED"}
    return {"kind": "LOST_LITTLE" if good else "LOST_TOO_MUCH", "measure": "general", "value": -lost, "limit": 0.015}


def repair(
    kind: str, setting: float, dev: float | None, lost: float, *, good: bool, frozen: bool = False
) -> RepairView:
    general = {
        "name": "general",
        "suite": "general",
        "base": 0.6,
        "tuned": 0.6 + lost,
        "difference": lost,
        "margin": 0.03,
        "n": 208,
        "counts": True,
    }
    found = {
        "rung": "sft",
        "kind": kind,
        "setting": setting,
        "system": None if dev is None else f"lora-{kind}{setting:g}",
        "dev": None if dev is None else {"score": dev, "n": 100},
        "measures": [] if dev is None else [general],
        "good": good,
        "findings": [_finding(dev, lost, good=good)],
        "spent": {"seconds": 0.0 if dev is None else 8.0, "tokens_in": 0 if dev is None else 400},
        "frozen": frozen,
        "test": None,
        "gate": SECOND_GATE if frozen else None,
    }
    return RepairView.model_validate(found)


TRIED = [
    repair("scale", 0.75, 0.95, -0.04, good=False),
    repair("scale", 0.5, 0.9, -0.01, good=True, frozen=True),
    repair("scale", 0.25, 0.7, 0.0, good=False),
    repair("replay", 0.25, None, 0.0, good=False),
]


def test_a_line_says_what_became_of_them() -> None:
    assert repairs.finding(TRIED) == ("1 of 4 repairs was good: lora-scale0.5 was tested, and its own gate says SHIP")
    assert repairs.finding(TRIED, "lora-scale0.5") == (
        "1 of 4 repairs was good: lora-scale0.5 replaced the first system, and the SHIP above is its own"
    )
    assert repairs.finding(TRIED[:1]) == "None of 1 repair was good"
    missed = TRIED[1].replaced(gate=None)
    assert repairs.finding([missed]) == "1 of 1 repair was good: lora-scale0.5 missed the bar in its test"


def test_the_table_leaves_nothing_out() -> None:
    rows = repairs.rows(TRIED)
    assert [row.way.replace("\u202f", " ").replace("\xa0", " ") for row in rows] == [
        "scale 0.75",
        "scale 0.5",
        "scale 0.25",
        "replay 25%",
    ]
    assert [(row.good, row.frozen) for row in rows] == [
        ("not good", False),
        ("good", True),
        ("not good", False),
        ("not good", False),
    ]
    assert rows[0].measures == {"general": "−4.0"}
    assert (rows[3].dev, rows[3].system, rows[3].measures) == ("–", "–", {})
    assert repairs.measures(TRIED) == ["general"]


def test_the_curve_has_a_point_a_scale_in_their_order() -> None:
    assert [(point.scale, point.lost, point.dev) for point in points(TRIED)] == [
        (0.75, -0.04, 0.95),
        (0.5, -0.01, 0.9),
        (0.25, 0.0, 0.7),
    ]
    drawn = str(tradeoff_chart(TRIED, 0.8, "Target against general"))
    places = re.findall(r'<circle class="(.*?)" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert [style for style, _, _ in places] == ["dev", "", "dev"]
    across, down = ([float(place[side]) for place in places] for side in (1, 2))
    assert across == sorted(across)  # less is lost to the right
    assert down == sorted(down)  # and less is won below
    assert 'aria-label="Target against general"' in drawn
    assert drawn.count('class="name front"') == 1


def test_one_scale_is_no_curve_and_a_suite_that_says_nothing_none_either() -> None:
    assert tradeoff_chart(TRIED[:1], 0.8, "") is None
    silent = [one.replaced(measures=[measure.replaced(counts=False) for measure in one.measures]) for one in TRIED]
    assert tradeoff_chart(silent, 0.8, "") is None
