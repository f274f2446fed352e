"""The repairs that were tried after the first gate, for the page, Markdown and the terminal: all of them, good or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lastresort.records.decision_parts import RepairView
from lastresort.report.words.rungs import of_repair
from lastresort.report.words.wording import in_points, percent, rung_in_prose

Repairs = Sequence[RepairView]

KINDS = {"scale": "scale", "fewer_epochs": "checkpoint at", "replay": "replay", "learning_rate": "learning rate"}


@dataclass(frozen=True, slots=True)
class RepairRow:
    """A row of the table, as text. measures: points gained or lost, by name. frozen: it was tested."""

    way: str
    system: str
    dev: str
    measures: Mapping[str, str]
    good: str
    why: str
    frozen: bool


def finding(repairs: Repairs, gated: str | None = None) -> str:
    """ "1 of 3 repairs was good: lora-scale0.5 was tested, and its own gate says SHIP". gated: the system whose gate is shown as
    that of the climb.
    """
    n, good = len(repairs), sum(repair.good for repair in repairs)
    head = f"{good or 'None'} of {n} repair{'' if n == 1 else 's'} {'were' if good > 1 else 'was'} good"
    frozen = next((repair for repair in repairs if repair.frozen), None)
    return head if frozen is None else f"{head}: {frozen.system} {_end(frozen, gated)}"


def _end(frozen: RepairView, gated: str | None) -> str:
    if frozen.gate is None:
        return "missed the bar in its test"
    if frozen.system == gated:
        return f"replaced the first system, and the {frozen.gate.verdict} above is its own"
    return f"was tested, and its own gate says {frozen.gate.verdict}"


def about(repairs: Repairs) -> str:
    """How to read the table."""
    return (
        f"After the gate, milder versions of the {rung_in_prose(repairs[0].rung)} model were tried, the cheapest first. Each was "
        "measured on dev and on items that no gate scores. A repair is good if it meets the bar on dev and loses at most half of "
        "the accepted loss where too much was lost. Only the best good repair was tested, once, and gated on fresh items."
    )


def rows(repairs: Repairs) -> list[RepairRow]:
    """In the order in which they were tried."""
    return [
        RepairRow(
            way=way(repair),
            system=repair.system or "–",
            dev="–" if repair.dev is None else percent(repair.dev.score),
            measures={one.name: in_points(one.difference) or "–" for one in repair.measures},
            good="good" if repair.good else "not good",
            why=of_repair(repair),
            frozen=repair.frozen,
        )
        for repair in repairs
    ]


def measures(repairs: Repairs) -> list[str]:
    """Names of the measures, the columns of the table."""
    return list(dict.fromkeys(one.name for repair in repairs for one in repair.measures))


def way(repair: RepairView) -> str:
    """ "scale 0.5", "replay 25%", "checkpoint at 2"."""
    setting = percent(repair.setting, 0) if repair.kind == "replay" else f"{repair.setting:g}"
    return f"{KINDS[repair.kind]} {setting}"
