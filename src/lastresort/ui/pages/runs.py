"""All runs of the workspace, and several of them compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from lastresort.records.decision import RungView, RunView
from lastresort.records.measurement import BarTest
from lastresort.report.charts.runs import NARROW, WIDE, RunPoint, runs_chart
from lastresort.report.run_settings import RunSettings, differing, not_known_yet, settings_in
from lastresort.report.story import AllAnswered, all_answered
from lastresort.report.words.progress import stage_line
from lastresort.report.words.titles import SPARED, headline, work_exceeds
from lastresort.report.words.verdicts import BEYOND_BAND, shown_beyond_band
from lastresort.report.words.wording import listed, round_percent
from lastresort.ui.site import Here, Site, is_part
from lastresort.ui.workspace import RunState

MOST_COMPARED = 8


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in one line. test: of the rung that it stopped at, or of the last that was tested. settings: only where compared."""

    run: RunState
    test: BarTest | None
    rung: str
    now: str
    answered: AllAnswered | None = None
    settings: RunSettings | None = None

    @property
    def view(self) -> RunView | None:
        return self.run.view


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/")
    def runs(site: Here, request: Request) -> Response:
        part = "runs_rows.html.j2" if is_part(request) else "runs.html.j2"
        mark = site.workspace.mark()  # before the runs are read: what changes meanwhile is drawn again
        rows = [row_of(state) for state in site.workspace.states()]
        astray = site.workspace.astray() if not rows else []
        folder = str(site.workspace.folder)
        return site.draw(request, part, rows=rows, astray=astray, mark=mark, folder=folder, crossing=crossing(rows))

    @routes.get("/compare")
    def compare(site: Here, request: Request, run: Annotated[list[str], Query(default_factory=list)]) -> Response:
        named = list(dict.fromkeys(run))
        rows = [compared_row(site, name) for name in named[:MOST_COMPARED]]
        left_out = len(named) - len(rows)
        known = [row for row in rows if row.settings is not None]
        return site.draw(
            request,
            "compare.html.j2",
            rows=rows,
            left_out=left_out,
            figures=figures(rows),
            crossing=crossing(rows),
            spared=spared(rows),
            headline=headline,
            known=known,
            settings=differing([row.settings for row in known if row.settings is not None]),
            unknown=[(row.run.name, found) for row in known if (found := not_known_yet(row.settings or {}))],
        )

    return routes


def row_of(state: RunState) -> RunRow:
    rung = tested_rung(state.view)
    now = "" if state.state != "running" or state.stage is None else stage_line(state.stage)
    return RunRow(state, None if rung is None else rung.test, "" if rung is None else rung.name, now)


def compared_row(site: Site, name: str) -> RunRow:
    """With what the record alone holds."""
    row = row_of(site.workspace.state(name))
    rung = tested_rung(row.view)
    if row.view is None:
        return row
    with site.workspace.record(name) as record:
        answered = None if rung is None else all_answered(record, rung)
        return replace(row, answered=answered, settings=settings_in(record, row.view))


@dataclass(frozen=True, slots=True)
class RunsFigure:
    """The runs of a task in a picture. narrow: for a phone, where the runs have numbers, in the order of `names`."""

    caption: str
    wide: Markup
    narrow: Markup
    names: tuple[str, ...]


def figures(rows: Sequence[RunRow]) -> list[RunsFigure]:
    """One of each task, in the order of the runs: runs of other tasks cannot be compared. By money where all of them spent some,
    else by time: hours on a machine of one's own are not free.
    """
    groups: dict[str, list[tuple[RunPoint, float]]] = {}  # with what it spent in US dollars
    for row in rows:
        view, test, stage = row.view, row.test, row.run.stage
        if view is None or test is None or stage is None:
            continue
        limits = (test.interval[0], test.interval[1])
        point = RunPoint(row.run.name, row.run.took_s, test.score, limits, view.bar, test.verdict)
        groups.setdefault(view.task, []).append((point, stage.spent_usd))
    found = []
    for task, members in groups.items():
        in_money = all(usd for _, usd in members)
        points = [replace(point, spent=usd) if in_money else point for point, usd in members]
        wide, narrow = (runs_chart(points, in_money=in_money, size=size) for size in (WIDE, NARROW))
        found.append(RunsFigure(_caption(task, points), wide, narrow, tuple(point.name for point in points)))
    return found


def crossing(rows: Sequence[RunRow]) -> str:
    """Why the interval of one of these runs includes the bar although it has a verdict; empty where none does."""
    tested = [(row.test, row.view.bar) for row in rows if row.test is not None and row.view is not None]
    return BEYOND_BAND if any(shown_beyond_band(test, bar) for test, bar in tested) else ""


def spared(rows: Sequence[RunRow]) -> str:
    """Why one of these runs took or cost less than the work of its rungs; empty where none did."""
    return SPARED if any(_is_spared(row.run) for row in rows) else ""


def _is_spared(run: RunState) -> bool:
    costs = () if run.view is None else tuple(rung.cost for rung in run.view.rungs)
    work_usd = sum(cost.usd or 0.0 for cost in costs)
    paid_less = run.stage is not None and work_usd > 1.05 * run.stage.spent_usd
    return paid_less or work_exceeds(sum(cost.seconds for cost in costs), run.took_s)


def _caption(task: str, points: Sequence[RunPoint]) -> str:
    bars = [round_percent(bar) for bar in sorted({point.bar for point in points})]
    return f"{task}, {'bar' if len(bars) == 1 else 'bars'} {listed(bars)}"


def tested_rung(view: RunView | None) -> RungView | None:
    """The rung that the run stopped at, else the last that was tested."""
    tested = [] if view is None else [rung for rung in view.rungs if rung.test is not None]
    if view is not None and view.stopped_at is not None:
        return next((rung for rung in tested if rung.name == view.stopped_at), None)
    return tested[-1] if tested else None
