"""What a comparison found, a sentence a way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.report.comparison import NAMES, capital
from lastresort.report.wording import percent_in_text as percent

Entry = Mapping[str, Any]


def said(entry: Entry, reference: Entry | None) -> str:
    """reference: the entry of the first way, None where this is it."""
    name = capital(NAMES[entry["way"]])
    failed = [part for part in entry["seeds"] if part["failed"]]
    if entry["score"] is None:
        return f"{name} could not be had: {failed[0]['failed'].rstrip('.')}."
    dropped = f" {len(failed)} of {len(entry['seeds'])} seeds dropped out." if failed else ""
    if reference is None:
        kept = len(entry["seeds"]) - len(failed)
        return f"{name} scores {percent(entry['score'])} on the test set, the mean of {kept} seeds.{dropped}"
    first = NAMES[reference["way"]]
    if entry["difference"] is None:
        return f"{name} cannot be compared with {first}: fewer than two seeds were trained with both.{dropped}"
    return f"{_difference(name, first, entry)}; {_margin(entry)}.{dropped}"


def _difference(name: str, first: str, entry: Entry) -> str:
    low, high = entry["interval"]
    if entry["difference"] > 0:
        told = f"{name} gains {_limits(entry['difference'], low, high)} over {first} on this task"
    else:
        told = f"{name} costs {_limits(-entry['difference'], -high, -low)} against {first} on this task"
    return told if low > 0 or high < 0 else f"{told}, which cannot be told apart from none"


def _limits(mean: float, low: float, high: float) -> str:
    return f"{_points(mean)} points ({_points(low)} to {_points(high)})"


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _margin(entry: Entry) -> str:
    most = f"{100 * entry['margin']:g} points"
    return {
        "NON_INFERIOR": f"a cost of {most} is excluded",
        "REGRESSED": f"it is more than {most}",
        "UNDERPOWERED": f"a cost of {most} is not excluded",
    }[entry["verdict"]]
