"""The gate of a climb in a few lines: for the terminal, Markdown and the head of the page's section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.report.gate import in_limits, in_points, rows
from lastresort.report.marks import MARKS
from lastresort.report.wording import count, percent, stopped, verdict

Gate = Mapping[str, Any]


def finding(gate: Gate) -> str:
    """ "The gate says HOLD: whether too much was lost cannot be told yet for general"."""
    _, _, why = gate["reasons"][0].partition(": ")
    return f"The gate says {gate['verdict']}: {why.rstrip('.')}"


def about(gate: Gate) -> str:
    """Who was asked, and how much."""
    bounded = ", of a bounded number of items, which can cost power and nothing else" if gate["mode"] == "quick" else ""
    return (
        f"{gate['system']} of {gate['rung']} beside the model that it was tuned from, on the same items: a {gate['mode']} gate"
        f"{bounded}."
    )


def lines(gate: Gate) -> list[str]:
    """One a measure, the target first: scores before and after, the difference in points, the verdict."""
    return [_line(row) for row in rows(gate)]


def _line(row: Mapping[str, Any]) -> str:
    mark = f"{MARKS[row['verdict']]} {row['name']}"
    if row["base"] is None or row["tuned"] is None:
        scored = f" {percent(row['tuned'])}," if row["tuned"] is not None else ""
        return f"{mark}:{scored} {verdict(row['verdict'])}"
    scores = f"{percent(row['base'])} to {percent(row['tuned'])} ({in_points(row['difference'])} points)"
    return f"{mark}: {scores}, {verdict(row['verdict'])}"


def table(gate: Gate) -> list[dict[str, str]]:
    """The rows of the page's table, as text."""
    return [
        {
            "name": row["name"],
            "base": _share(row["base"]),
            "tuned": _share(row["tuned"]),
            "difference": in_points(row["difference"]) or "–",
            "limits": in_limits(row["interval"]) or "–",
            "margin": "–" if row["margin"] is None else in_points(-row["margin"]),
            "n": count(row["n"]) if row["n"] else "–",
            "needs": "" if row["n_needed"] is None else count(row["n_needed"]),
            "verdict": row["verdict"],
        }
        for row in rows(gate)
    ]


def reasons(gate: Gate) -> list[str]:
    """All but the first, which is the title."""
    return [stopped(reason) for reason in gate["reasons"][1:]]


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)
