"""A task is started: what it runs is agreed to, and its run is led to once it is at work."""

from __future__ import annotations

from subprocess import Popen

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from lastresort.app.consent import consent_of
from lastresort.errors import TaskError
from lastresort.records.atomic import is_held
from lastresort.records.record import FILE_NAME
from lastresort.ui import drafts, jobs
from lastresort.ui.climb_options import chosen, keep_options
from lastresort.ui.pages.task_editor import sizes_of
from lastresort.ui.site import Here, Site, Text, go_to, is_part
from lastresort.ui.task_folder import below, task_in, there
from lastresort.ui.workspace import next_name, safe_name
from lastresort.ui.yaml_form import plain_lines


class BegunClimbs(dict[str, Popen[bytes]]):
    """By run."""


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/new/{name}/confirm")
    def confirm(site: Here, request: Request, name: str, gate: str = "", until: str = "", run: str = "") -> Response:
        consent = consent_of(task_in(site, name))
        return site.draw(request, "new_confirm.html.j2", name=name, consent=consent, gate=gate, until=until, run=run)

    @routes.post("/new/{name}/start")
    def start(
        site: Here,
        name: str,
        gate: Text = "",
        until: Text = "",
        run: Text = "",
        yes: Text = "",
        text: Text = "",
        seen: Text = "",
    ) -> Response:
        """run: what it is called, "" for the next one of its task; the next free name where another one has it by now."""
        folder, text = there(site, name), plain_lines(text)
        if text:  # typed a moment ago, and not sent yet
            drafts.keep_text(folder, text, seen=seen)
        text = text or drafts.text_of(folder) or ""
        task = drafts.task_from(text, site.workspace.task_folder(name))
        sizes = sizes_of(site, text, folder)
        if isinstance(sizes, TaskError):
            raise sizes
        options = chosen(gate, until, task.ladder)
        keep_options(folder, options)
        consent, run = consent_of(task), safe_name(run) if run else ""
        if consent.needed and yes != consent.mark:
            return go_to(f"/new/{name}/confirm?gate={gate}&until={until}{f'&run={run}' if run else ''}")
        file = drafts.settled(task.folder, text)
        taken = (path.name for path in site.workspace.runs.glob("*"))
        made = site.workspace.new_run(run or next_name(f"{task.task}-1", taken))
        arguments = [below(site, file), "--run", below(site, made), *options.arguments]
        _begun(site)[made.name] = jobs.start(jobs.climb_job(site.workspace.runs, made, arguments), consent.reaches)
        return go_to(f"/new/{name}/starting?run={made.name}")

    @routes.get("/new/{name}/starting")
    def starting(site: Here, request: Request, name: str, run: str) -> Response:
        folder = site.workspace.run_folder(run)
        if (folder / FILE_NAME).is_file():
            return go_to(f"/runs/{run}") if is_part(request) else RedirectResponse(f"/runs/{run}", 303)
        process = _begun(site).get(run)
        working = folder.is_dir() and is_held(folder) if process is None else process.poll() is None
        if process is not None and not working and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        words = () if working else jobs.last_words(site.workspace.runs, folder)
        part = "new_starting_part.html.j2" if is_part(request) else "new_starting.html.j2"
        return site.draw(request, part, name=name, run=run, working=working, ours=process is not None, words=words)

    return routes


def _begun(site: Site) -> BegunClimbs:
    return site.own(BegunClimbs, BegunClimbs)
