"""A task is looked at and changed, as form and as text, and started: what it runs is agreed to, and its run is led to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import RedirectResponse

from lastresort.app.advise import answer_in_task
from lastresort.app.consent import consent_of
from lastresort.app.data_check import RowsLeft, rows_left
from lastresort.app.init import EmptyRowsError
from lastresort.errors import TaskError
from lastresort.evals.scorers import SCORERS
from lastresort.ladder import RUNGS
from lastresort.records.atomic import is_held
from lastresort.records.record import FILE_NAME
from lastresort.report.words.draft import few_test_items, rows_to_train_on
from lastresort.spec.document import TASK, YamlDocument
from lastresort.spec.task import Task, task_of
from lastresort.types import Json
from lastresort.ui import drafts, jobs
from lastresort.ui.findings import files_state
from lastresort.ui.pages.task_beginning import DRAFTING, refused_rows
from lastresort.ui.site import Here, Site, Text, go_to, is_part
from lastresort.ui.task_folder import below, chosen, data_in, keep_options, start_form, task_in, there
from lastresort.ui.workspace import next_name, safe_name
from lastresort.ui.yaml_form import EditedFile, FilledForm, FormField, editing, field_at_fault, filled, plain_lines

SCORES = tuple(name for name, entry in SCORERS.items() if entry.main in (None, "tolerance"))  # by their name alone
FIELDS = (
    FormField("split.dev", "Dev", hint="Rows, or a share below 1.", group="Data"),
    FormField("split.test", "Test", hint="Rows, or a share below 1."),
    FormField("task", "Name", "text", hint="Runs are named after it.", group="Task"),
    FormField(
        "about", "Instruction", "long", hint="The instruction of every prompt. Write it as you would to a colleague."
    ),
    FormField("score", "Score", "choice", SCORES, group="Score and bar"),
    FormField("bar", "Bar", hint="The mean score to reach, between 0 and 1."),
    FormField("goal", "Goal", "choice", ("quality", "cost")),
    FormField(
        "model", "Model", "text", hint="embedded, a hub id, a folder, openai:NAME or http://host/v1#NAME", group="Model"
    ),
    FormField(
        "ladder", "Rungs", "set", tuple(RUNGS), "Cheapest first. A climb stops at the first rung that meets the bar.",
        group="Ladder",
    ),
    FormField("tune.method", "Method", "choice", ("auto", "lora", "qlora", "full")),
    FormField("sft.epochs", "Epochs (SFT)"),
    FormField("sft.r", "LoRA rank"),
    FormField("limits.hours", "Limit in hours", group="Limits and use"),
    FormField("limits.usd", "Limit in USD"),
    FormField("use.calls_per_month", "Calls a month"),
)  # fmt: skip


def router() -> APIRouter:
    routes = APIRouter()
    routes.include_router(editing(EditedFile(
        "/new", drafts.FILE, FIELDS, TASK, says=("edited",), answers=answer_in_task,
        form=lambda site, name, text: form_of(site, text, there(site, name)),
        keep=lambda site, name, text, seen: drafts.keep_text(there(site, name), text, seen=seen),
    )))  # fmt: skip
    routes.include_router(_starting())

    @routes.get("/new/{name}")
    def task(site: Here, request: Request, name: str) -> Response:
        folder = site.workspace.task_folder(name)
        text = drafts.text_of(folder)
        if text is None:
            data_in(site, name)
            return RedirectResponse(f"/new/{name}/columns", 303)
        data = drafts.data_file(folder)
        return site.draw(
            request, "new_task.html.j2", name=name, form=form_of(site, text, folder), url=f"/new/{name}", file=drafts.FILE,
            run=site.workspace.next_run(name), data="" if data is None else data.name, start=start_form(site, name),
        )  # fmt: skip

    @routes.get("/new/{name}/options")
    def options(site: Here, request: Request, name: str) -> Response:
        return site.draw(request, "new_options.html.j2", name=name, alone=True, start=start_form(site, name))

    @routes.post("/new/{name}/options")
    def choose(site: Here, request: Request, name: str, gate: Text = "", until: Text = "") -> Response:
        keep_options(there(site, name), chosen(gate, until, tuple(RUNGS)))
        drawn = options(site, request, name)
        drawn.headers["hx-trigger"] = "chosen"
        return drawn

    @routes.post("/new/{name}/file")
    def replace_file(
        site: Here,
        request: Request,
        name: str,
        file: Annotated[UploadFile, File()],
        text: Text = "",
        seen: Text = "",
        leave_out: Text = "",
    ) -> Response:
        folder, text = there(site, name), plain_lines(text)
        try:
            with DRAFTING:
                text = text or drafts.text_of(folder) or ""
                given, leaves_out = file.filename or "", bool(leave_out)
                drafts.replace_data(folder, text, given, file.file, seen=seen, leave_out_empty=leaves_out)
        except EmptyRowsError as error:
            return refused_rows(site, request, error, form="replaced", target="refused-file")
        return go_to(f"/new/{name}")

    return routes


def form_of(site: Site, text: str, folder: Path) -> FilledForm:
    """The form beside the text, with what is wrong with it, or the number of rows that it leaves to train on."""

    def read(document: YamlDocument) -> Mapping[str, Json]:
        return task_of(document, folder / drafts.DRAFT).resolved()

    form = filled(FIELDS, text, drafts.FILE, TASK, read, Task)
    if form.fault:
        return form
    sizes = sizes_of(site, text, folder)
    if isinstance(sizes, TaskError):
        return form.at_fault(sizes, field_at_fault(FIELDS, sizes))
    if sizes is None:
        return form
    few = "" if sizes.few is None else few_test_items(sizes.few.n, sizes.few.enough, sizes.bar)
    return replace(form, note=rows_to_train_on(sizes.train, few))


def sizes_of(site: Site, text: str, folder: Path) -> RowsLeft | TaskError | None:
    """As `rows_left`, of a text in a folder."""
    task = drafts.task_from(text, folder)
    state = text, str(folder), files_state(task.examples.files)
    found = site.once("sizes", state, lambda: rows_left(task))
    if not isinstance(found, TaskError):
        return found
    where = found.where.replace(drafts.DRAFT, drafts.FILE)
    return TaskError(found.found, where=where, expected=found.expected, remedy=found.remedy, key=found.key)


class BegunClimbs(dict[str, Popen[bytes]]):
    """By run."""


def _starting() -> APIRouter:
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
