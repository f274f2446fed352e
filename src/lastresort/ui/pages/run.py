"""A run, live and afterwards: what it does now, what it found so far, and what can be done with it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import FileResponse, HTMLResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

from lastresort.app.consent import consent_of, task_of_run
from lastresort.app.kept import writing
from lastresort.app.runs import Run, has_items, resume_command_here
from lastresort.errors import InputError, LastresortError
from lastresort.ladder import trains
from lastresort.records.decision import RunView
from lastresort.records.events.base import Stage
from lastresort.records.events.training import LapTrained
from lastresort.records.measurement import BarTest
from lastresort.report.commands import set_options
from lastresort.report.decision import view_in
from lastresort.report.html import body, page
from lastresort.report.story import Story, gather
from lastresort.report.words import progress
from lastresort.report.words.answer import commands_to_use
from lastresort.report.words.next_step import after_hold, of_rung_ahead, set_to_stop
from lastresort.report.words.verdicts import what_would_decide
from lastresort.report.words.wording import capital, rung_in_prose
from lastresort.stop import FILE_NAME as STOP
from lastresort.ui import jobs, resuming
from lastresort.ui.guard import REPORT_POLICY
from lastresort.ui.resuming import Resumptions
from lastresort.ui.site import Here, Site, Text, go_to, placed
from lastresort.ui.workspace import FRESH, NotThere, RunState, signature

LOOK_S = 1.0
ALIVE_S = 5.0  # how often a browser hears that the page is there
SHARE = 0.01  # of a core, for drawing the report again while a run is at work
LEAST_S = 2.0


@dataclass(frozen=True, slots=True)
class Now:
    """What the panel at the top of a run shows. pace: how far its stage is, and how fast. left_s: of its stage, None where
    that is not known. starting: a process was started that does not work on it yet. ended: how it ended without a decision.
    last: lines that its process printed before it died or failed. failed: to resume, or to take fresh items. more: what fresh
    items would decide, "" where no test could go on. labels: what only labels for the judge would decide. at: what a run that was
    stopped was doing. held: what to do where the gate holds the winner. laps: how far each learning rate of its training got, ""
    where there is none. ahead: the rung that comes next where the climb was set to stop below it, "" elsewhere. ahead_said: that
    in words.
    """

    run: RunState
    line: str
    pace: tuple[str, ...]
    left_s: float | None
    stopping: bool
    starting: bool
    ended: str
    at: str
    laps: str
    last: tuple[str, ...]
    failed: bool
    resume: str
    use: tuple[str, ...]
    held: str
    more: str
    labels: str
    ahead: str
    ahead_said: str


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/runs/{name}")
    def run(site: Here, request: Request, name: str) -> Response:
        mark, found = site.workspace.mark(name), now(site, name)
        return site.draw(request, "run.html.j2", now=found, found=found.run, mark=mark, report=report(site, name))

    @routes.get("/runs/{name}/now")
    def panel(site: Here, request: Request, name: str) -> Response:
        return site.draw(request, "run_now.html.j2", now=now(site, name))

    @routes.get("/runs/{name}/body")
    def redrawn(site: Here, request: Request, name: str) -> Response:
        return site.draw(request, "run_body.html.j2", report=report(site, name))

    @routes.get("/runs/{name}/live")
    async def live(site: Here, request: Request, name: str) -> EventSourceResponse:
        site.workspace.run(name)
        return EventSourceResponse(_events(site, name), ping=3600)

    @routes.get("/runs/{name}/report.html")
    def report_file(site: Here, name: str) -> Response:
        path, state = Run(site.workspace.run(name)).report, site.workspace.state(name)
        headers = {"content-security-policy": REPORT_POLICY}
        if state.state == "finished" and path.is_file() and not path.is_symlink():
            return FileResponse(path, headers=headers)
        if state.view is None:
            raise NotThere("This run has no report yet.")
        return HTMLResponse(_drawn(site, name, page), headers=headers)

    @routes.post("/runs/{name}/stop")
    def stop(site: Here, request: Request, name: str) -> Response:
        folder = site.workspace.run(name)
        if site.workspace.state(name).state == "running":
            jobs.ask_to_stop(folder)
        return placed(panel(site, request, name), "#now")

    @routes.get("/runs/{name}/confirm")
    def confirm(site: Here, request: Request, name: str, more: str = "", until: str = "") -> Response:
        consent = consent_of(task_of_run(site.workspace.run(name), site.workspace.folder)[0])
        return site.draw(request, "run_confirm.html.j2", name=name, consent=consent, more=more, until=until)

    @routes.post("/runs/{name}/more")
    def more(site: Here, name: str, file: Annotated[UploadFile, File()]) -> Response:
        """Keep a file of fresh items in the run, whose tests go on with it."""
        folder, found = site.workspace.run(name), site.workspace.state(name)
        if found.state == "running" or all(_lacks_labels(test) for _, test in _undecided(found.view)):
            raise InputError(
                "no test of this run can go on", where=name, expected="a stopped run with an UNDECIDED test"
            )
        path = resuming.keep_items(folder, file.filename or "", file.file)
        try:
            answer = _resumed(site, name, "", path)
        except LastresortError:
            resuming.remove_refused(folder, path)
            raise
        if (own := _resumptions(site).get(name)) is not None and own.fresh == path:
            resuming.remove_once_refused(folder, own)
        return answer

    @routes.post("/runs/{name}/withdraw")
    def withdraw(site: Here, name: str, more: Text) -> Response:
        """Somebody has said no: the items that were uploaded go again."""
        folder = site.workspace.run(name)
        with writing(folder / FRESH), suppress(NotThere):  # pressed twice
            fresh, own = resuming.kept_items(folder, more), _resumptions(site).get(name)
            if own is None or own.fresh != fresh or not own.works:
                resuming.remove_refused(folder, fresh)
        return go_to(f"/runs/{name}")

    @routes.post("/runs/{name}/resume")
    def resume(site: Here, name: str, yes: Text = "", more: Text = "", until: Text = "") -> Response:
        """until: the next rung, of a run that was set to stop below it."""
        return _resumed(site, name, yes, resuming.kept_items(site.workspace.run(name), more) if more else None, until)

    def _resumed(site: Site, name: str, yes: str, fresh: Path | None, until: str = "") -> Response:
        folder = site.workspace.run(name)
        with writing(folder / FRESH):  # one request at a time decides who takes the run up
            resumed = _resumptions(site)
            found, before = site.workspace.state(name), resumed.get(name)
            if found.state == "running" or (before is not None and before.works):
                if fresh is None or (before is not None and before.fresh == fresh) or has_items(folder, fresh):
                    return go_to(f"/runs/{name}")
                raise InputError(
                    "a process works on this run already",
                    where=name,
                    expected="a run that has stopped or finished",
                    remedy="Add the items once it has ended.",
                )
            further = until if found.state == "finished" and until == _ahead(found)[0] else ""
            if found.state == "finished" and fresh is None and not further:
                return go_to(f"/runs/{name}")
            task, settings = task_of_run(folder, site.workspace.folder)
            consent = consent_of(task)
            if consent.needed and yes != consent.mark:
                asked = f"?until={further}" if further else "" if fresh is None else f"?more={fresh.name}"
                return go_to(f"/runs/{name}/confirm{asked}")
            up_to = ("--until", further) if further else ()
            arguments = (str(task.path), "--resume", str(folder), *up_to, *set_options(settings))
            own = resumed[name] = resuming.start(site.workspace, found, arguments, consent.reaches, fresh)
        resuming.wait_until_taken_up(site.workspace, name, own)
        return go_to(f"/runs/{name}")  # also from the page itself: so that the browser follows it

    return routes


def _resumptions(site: Site) -> Resumptions:
    return site.own(Resumptions, Resumptions)


def _undecided(view: RunView | None) -> list[tuple[str, BarTest]]:
    """The rungs whose own test is UNDECIDED: a repaired system is tested once."""
    rungs = () if view is None else (rung for rung in view.rungs if not view.is_repaired(rung))
    return [(rung.name, rung.test) for rung in rungs if rung.test is not None and rung.test.verdict == "UNDECIDED"]


def _lacks_labels(test: BarTest) -> bool:
    """Whether no number of fresh items decides it, but labels for its judge might."""
    return test.judged is not None and test.n_needed is None


def now(site: Site, name: str) -> Now:
    folder, found = site.workspace.run(name), site.workspace.state(name)
    stage, working, stopped = found.stage, found.state == "running", found.state == "stopped"
    resumed = _resumptions(site)
    starting, failed = resumed.is_starting(found), resumed.has_failed(found)
    since = resumed[name].log_bytes if failed else 0
    # One that was stopped stays so until a process goes on with it. One that wrote later was refused, or killed before that.
    unended = found.clock is not None and not found.clock.ended
    failed = failed or (stopped and found.stopped is not None and unended and not starting)
    died = failed or (stopped and found.stopped is None)
    undecided = [] if working or starting or found.fault else _undecided(found.view)
    more = _said_of(one for one in undecided if not _lacks_labels(one[1]))
    ahead, ahead_said = ("", "") if starting else _ahead(found)
    resume = resume_command_here(folder, site.workspace.folder) if stopped or more or ahead else ""
    ended = found.view if found.state == "finished" else None
    use = () if ended is None else commands_to_use(ended, folder.relative_to(site.workspace.folder))
    return Now(
        run=found,
        line=progress.of_stage(stage) if working and stage is not None else "",
        pace=tuple(filter(None, (*progress.rate_parts(stage), progress.note_of(stage)))) if working and stage else (),
        left_s=_left_s(stage, found.took_s) if working and stage is not None else None,
        stopping=working and (folder / STOP).exists(),
        starting=starting,
        ended=progress.end_line(found.stopped, started=found.view is not None) if stopped else "",
        at=progress.stage_line(stage.model_copy(update={"eta_s": None})) if stopped and stage is not None else "",
        laps="" if found.state == "finished" or stage is None else _laps(site, name, stage.rung),
        last=jobs.last_words(site.workspace.runs, folder, found.changed, after_bytes=since) if died else (),
        failed=failed,
        resume=resume,
        use=use,
        held=_held(ended, folder.relative_to(site.workspace.folder)),
        more=more,
        labels=_said_of(one for one in undecided if _lacks_labels(one[1])),
        ahead=ahead,
        ahead_said=ahead_said,
    )


def _held(ended: RunView | None, run: Path) -> str:
    if ended is None or ended.winner is None or not ended.winner.held or ended.gate is None:
        return ""
    return f"The gate holds the winner. {after_hold(ended.gate, quote(str(run)))}"


def _laps(site: Site, name: str, rung: str) -> str:
    if not trains(rung):
        return ""
    with site.workspace.record(name) as record:
        return progress.laps_line([lap for lap in record.all(LapTrained) if lap.rung == rung])


def _left_s(stage: Stage, took_s: float) -> float | None:
    """Now, which may be a while after the stage was written. took_s: how long the run took so far."""
    left_s = progress.stage_left_s(stage)
    return left_s - max(0.0, took_s - stage.spent_s) if left_s else None


def _ahead(found: RunState) -> tuple[str, str]:
    """The rung to which a run can go on that was set to stop below it, and what that takes in words; ("", "") elsewhere."""
    ended = found.view if found.state == "finished" and not found.fault else None
    stopped = None if ended is None else set_to_stop(ended)
    if stopped is None or stopped.ahead is None:
        return "", ""
    return stopped.ahead.rung, capital(of_rung_ahead(stopped.at, stopped.ahead))


def _said_of(tests: Iterable[tuple[str, BarTest]]) -> str:
    return " ".join(f"{capital(rung_in_prose(name))} is undecided. {what_would_decide(test)}" for name, test in tests)


def report(site: Site, name: str) -> str:
    """The report of a run as it is now, "" before there is anything to report. Drawn again only once the record has changed."""
    folder = site.workspace.run(name)
    at, found = signature(folder), site.workspace.state(name)
    return "" if found.view is None else site.once("reports", (name, at, found.state), lambda: _drawn(site, name, body))


def _drawn(site: Site, name: str, draw: Callable[[Story], str]) -> str:
    with site.workspace.record(name) as record:
        return draw(gather(record, view_in(record)))


async def _events(site: Site, name: str) -> AsyncIterator[ServerSentEvent]:
    """now: the panel has changed; found: the report has; over: nobody works on the run any more, with its mark, "" where it was
    removed; here: nothing has changed.
    """
    try:
        async for event in _followed(site, name):
            yield event
    except NotThere:
        yield ServerSentEvent(event="over", data=json.dumps(""))


async def _followed(site: Site, name: str) -> AsyncIterator[ServerSentEvent]:
    seen: object = None
    extent, drawn_s, drawn_at, heard_at = (-1, -1), 0.0, 0.0, 0.0
    while True:
        state, at = await asyncio.to_thread(_looked_at, site, name)
        clock = time.monotonic()
        if at != seen:
            seen, heard_at = at, clock
            yield ServerSentEvent(event="now", data=json.dumps(state.state))
        if state.extent != extent and (clock - drawn_at > max(LEAST_S, drawn_s / SHARE) or state.state != "running"):
            extent = state.extent
            await asyncio.to_thread(report, site, name)
            drawn_at = time.monotonic()
            drawn_s = drawn_at - clock
            yield ServerSentEvent(event="found", data=str(extent[0]))
        if state.state != "running":
            yield ServerSentEvent(event="over", data=json.dumps(await asyncio.to_thread(site.workspace.mark, name)))
            return
        if clock - heard_at > ALIVE_S:
            heard_at = clock
            yield ServerSentEvent(event="here", data="")
        await asyncio.sleep(LOOK_S)


def _looked_at(site: Site, name: str) -> tuple[RunState, object]:
    """A run as it is, and what changes with anything that its page shows. Raises NotThere."""
    folder, state = site.workspace.run(name), site.workspace.state(name)
    return state, (signature(folder), state.state, (folder / STOP).exists())
