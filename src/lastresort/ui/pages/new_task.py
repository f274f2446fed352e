"""A task from a file of one's own, an example, or a run: proposed, looked at, changed as form and as text, and started."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from subprocess import Popen
from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import RedirectResponse

from lastresort.app.advise import answer_in_task
from lastresort.app.init import EmptyRowsError
from lastresort.app.start import example_task, example_tasks
from lastresort.climb.prepare import check_sizes
from lastresort.climb.shared_run import all_endpoints_of
from lastresort.climb.workspace import LEDGER, SHARED, new_run
from lastresort.errors import DataError, LastresortError, TaskError
from lastresort.evals.scorers import SCORERS
from lastresort.foreign import MiB, read_text
from lastresort.ladder import RUNGS
from lastresort.records.atomic import is_held
from lastresort.records.record import FILE_NAME
from lastresort.report.advice import STANCES, AdviceDocument
from lastresort.report.forecast import DryRun, cells, head, notes_of, others, power_of
from lastresort.report.words.draft import copied_from, rows_to_train_on, rows_without, values_shown
from lastresort.spec.document import TASK, YamlDocument
from lastresort.spec.edit import moved
from lastresort.spec.task import Task, task_of
from lastresort.types import Json
from lastresort.ui import drafts, jobs
from lastresort.ui.children import CommandOutput, children_of
from lastresort.ui.climb_options import StartForm, chosen, keep_options, kept_options, options_of
from lastresort.ui.findings import ShownRow, files_of, files_state, findings_of, first_rows
from lastresort.ui.site import Site, Text, go_to, is_part
from lastresort.ui.workspace import NotThere, safe_name
from lastresort.ui.yaml_form import EditedFile, FilledForm, FormField, editing, field_at_fault, filled, plain_lines

SCORES = tuple(name for name, entry in SCORERS.items() if entry.main in (None, "tolerance"))  # by their name alone
FIELDS = (
    FormField("task", "Name", "text", hint="Runs are named after it."),
    FormField(
        "about", "Instruction", "long", hint="The instruction of every prompt. Write it as you would to a colleague."
    ),
    FormField("model", "Model", "text", hint="embedded, a hub id, a folder, openai:NAME or http://host/v1#NAME"),
    FormField(
        "ladder", "Ladder", "set", tuple(RUNGS), "Cheapest first. A climb stops at the first rung that meets the bar."
    ),
    FormField("score", "Score", "choice", SCORES),
    FormField("bar", "Bar", hint="The mean score to reach, between 0 and 1."),
    FormField("goal", "Goal", "choice", ("quality", "cost")),
    FormField("split.dev", "Dev", hint="Rows, or a share below 1."),
    FormField("split.test", "Test", hint="Rows, or a share below 1."),
    FormField("sft.epochs", "Epochs (SFT)"),
    FormField("sft.r", "LoRA rank"),
    FormField("tune.method", "Method", "choice", ("auto", "lora", "qlora", "full")),
    FormField("limits.hours", "Limit in hours"),
    FormField("limits.usd", "Limit in USD"),
    FormField("use.calls_per_month", "Calls a month"),
)
ROWS_AS_TOKENS = 3
MOST_LOOKED_AT = MiB // 2  # of a task's rows, while somebody types
UNREADY = "Correct the task first."  # its fault is said beside the form
DRAFTING = threading.Lock()  # one upload at a time: reading a large file takes memory


class BegunClimbs(dict[str, Popen[bytes]]):
    """By run."""


def router(site: Site) -> APIRouter:
    routes = APIRouter()
    routes.include_router(_beginning(site))
    routes.include_router(_editing(site))
    routes.include_router(_starting(site))
    return routes


def _beginning(site: Site) -> APIRouter:
    routes, workspace = APIRouter(), site.workspace

    @routes.get("/new")
    def new(request: Request) -> Response:
        run = request.query_params.get("from", "")
        if run:
            workspace.run(run)
        examples = {name: _shows(path) for name, path in example_tasks().items()}
        copy = workspace.next_copy(run) if run else ""
        return site.draw(
            request, "new.html.j2", run=run, copy=copy, examples=examples, tasks=drafts.names_in(workspace)
        )

    @routes.post("/new/upload")
    def upload(
        request: Request, file: Annotated[UploadFile, File()], name: Text = "", leave_out: Text = ""
    ) -> Response:
        path = drafts.keep_upload(workspace, file.filename or "", name, file.file)
        try:
            with DRAFTING:
                drafts.draft_from(path, leave_out_empty=bool(leave_out))
        except drafts.ColumnsOpen:
            return go_to(f"/new/{path.parent.name}/columns")
        except LastresortError as error:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
            return _refused(site, request, drafts.by_its_name(error, path))
        return go_to(f"/new/{path.parent.name}")

    @routes.post("/new/example")
    def example(example: Text) -> Response:
        path = example_task(example)
        folder = drafts.new_folder(workspace, example)
        return _begin(folder, moved(read_text(path), path.parent.resolve(), folder))

    @routes.post("/new/clone")
    def clone(run: Text, name: Text = "") -> Response:
        folder = drafts.new_folder(workspace, safe_name(name or run))
        try:
            begun = _begin(folder, drafts.text_of_run(workspace, run, folder))
        except (LastresortError, NotThere):
            folder.rmdir()
            raise
        with workspace.record(run) as record:
            keep_options(folder, options_of(record))
        return begun

    @routes.get("/new/{name}/columns")
    def columns(request: Request, name: str) -> Response:
        data = _uploaded(site, name)
        found = site.once("columns", files_state([data]), lambda: drafts.columns_of(data))
        text = drafts.text_of(data.parent) or ""
        used = drafts.columns_in(text) or ((found.input, found.output) if text and found.shape else None)
        return site.draw(
            request, "new_columns.html.j2", name=name, data=data.name, found=found, shown=values_shown, used=used
        )

    @routes.post("/new/{name}/columns")
    def choose(request: Request, name: str, source: Text = "", target: Text = "", leave_out: Text = "") -> Response:
        data = _uploaded(site, name)
        if not source or not target or source == target:
            missing = [side for side, column in (("input", source), ("answer", target)) if not column]
            found = f"found no column for the {' and the '.join(missing)}" if missing else f'found "{source}" for both'
            raise DataError(
                found,
                where=data.name,
                expected="one for the input and another for the answer",
                remedy="Choose both."
                if len(missing) == 2
                else f"Choose a column for the {missing[0] if missing else 'answer'}.",
            )
        try:
            with DRAFTING:
                drafts.draft_from(data, source, target, leave_out_empty=bool(leave_out))
        except LastresortError as error:
            return _refused(site, request, drafts.by_its_name(error, data))
        return go_to(f"/new/{name}")

    return routes


def _editing(site: Site) -> APIRouter:
    routes, workspace = APIRouter(), site.workspace
    routes.include_router(editing(site, EditedFile(
        "/new", drafts.FILE, FIELDS, TASK, says=("edited",), answers=answer_in_task,
        form=lambda name, text: form_of(site, text, _there(site, name)),
        keep=lambda name, text, seen: drafts.keep_text(_there(site, name), text, seen=seen),
    )))  # fmt: skip

    @routes.get("/new/{name}")
    def task(request: Request, name: str) -> Response:
        folder = workspace.task_folder(name)
        text = drafts.text_of(folder)
        if text is None:
            _data(site, name)
            return RedirectResponse(f"/new/{name}/columns", 303)
        data = drafts.data_file(folder)
        return site.draw(
            request, "new_task.html.j2", name=name, form=form_of(site, text, folder), url=f"/new/{name}", file=drafts.FILE,
            run=workspace.next_run(name), data="" if data is None else data.name, start=_start_form(site, name),
        )  # fmt: skip

    @routes.get("/new/{name}/options")
    def options(request: Request, name: str) -> Response:
        return site.draw(request, "new_options.html.j2", name=name, alone=True, start=_start_form(site, name))

    @routes.post("/new/{name}/options")
    def choose(request: Request, name: str, gate: Text = "", until: Text = "") -> Response:
        keep_options(_there(site, name), chosen(gate, until, tuple(RUNGS)))
        drawn = options(request, name)
        drawn.headers["hx-trigger"] = "chosen"
        return drawn

    @routes.post("/new/{name}/file")
    def replace_file(
        request: Request,
        name: str,
        file: Annotated[UploadFile, File()],
        text: Text = "",
        seen: Text = "",
        leave_out: Text = "",
    ) -> Response:
        folder, text = _there(site, name), plain_lines(text)
        try:
            with DRAFTING:
                text = text or drafts.text_of(folder) or ""
                given, leaves_out = file.filename or "", bool(leave_out)
                drafts.replace_data(folder, text, given, file.file, seen=seen, leave_out_empty=leaves_out)
        except EmptyRowsError as error:
            return _refused(site, request, error, form="replaced", target="refused-file")
        return go_to(f"/new/{name}")

    @routes.get("/new/{name}/data")
    def data(request: Request, name: str) -> Response:
        used = _ledger(site)
        asked = _ask(site, request, name, ("data", "check"), also=used)
        task = None if asked is None or asked.fault else _task(site, name)
        found, rows = None, tuple[ShownRow, ...]()
        if asked is not None and task is not None:
            text, state = asked.text, files_state(files_of(task))
            found = site.once("findings", (text, state), lambda: findings_of(text, task))
            rows = site.once("first rows", state, lambda: first_rows(task))
        at = children_of(site).progress((name, "data"), (_state(site, name), used))
        return site.draw(
            request, "new_data.html.j2", name=name, unready=UNREADY, asked=asked, found=found, rows=rows, at=at
        )

    @routes.get("/new/{name}/masks")
    def masks(request: Request, name: str) -> Response:
        asked = _ask(site, request, name, ("data", "check", f"--show={ROWS_AS_TOKENS}"), key="masks")
        lines = (
            "" if asked is None else asked.text.partition("\n\n")[2]
        )  # below the figures, which the page has already
        return site.draw(request, "new_masks.html.j2", name=name, unready=UNREADY, asked=asked, lines=lines)

    @routes.get("/new/{name}/advice")
    def advice(request: Request, name: str) -> Response:
        asked = _ask(site, request, name, ("advise",))
        found = None if asked is None or asked.fault else AdviceDocument.model_validate_json(asked.text)
        return site.draw(
            request,
            "new_advice.html.j2",
            name=name,
            unready=UNREADY,
            asked=asked,
            found=found,
            stances=STANCES,
            url=f"/new/{name}",
        )

    @routes.get("/new/{name}/forecast")
    def forecast(request: Request, name: str, begin: bool = False) -> Response:
        options = kept_options(_there(site, name)).within(_ladder(site, name))
        state = (_state(site, name), options)
        begun = (begin and site.may_begin(request)) or children_of(site).knows((name, "climb"), state)
        command = ("climb", "--dry-run", *options.arguments)
        asked = _ask(site, request, name, command, also=options) if begun else None
        found = None if asked is None or asked.fault else DryRun.model_validate_json(asked.text)
        words = {
            "cells": cells,
            "head": head,
            "notes": partial(notes_of, quick="the quick gate"),
            "power": power_of,
            "others": others,
        }
        return site.draw(
            request, "new_forecast.html.j2", name=name, unready=UNREADY, begun=begun, asked=asked, found=found,
            words=words, at=children_of(site).progress((name, "climb"), state),
        )  # fmt: skip

    return routes


def _starting(site: Site) -> APIRouter:
    routes, workspace = APIRouter(), site.workspace
    begun = site.own(BegunClimbs, BegunClimbs)

    @routes.get("/new/{name}/confirm")
    def confirm(request: Request, name: str, gate: str = "", until: str = "", run: str = "") -> Response:
        consent = drafts.consent_of(_task(site, name))
        return site.draw(request, "new_confirm.html.j2", name=name, consent=consent, gate=gate, until=until, run=run)

    @routes.post("/new/{name}/start")
    def start(
        name: str, gate: Text = "", until: Text = "", run: Text = "", yes: Text = "", text: Text = "", seen: Text = ""
    ) -> Response:
        """run: what it is called, "" for the next one of its task; the next free name where another one has it by now."""
        folder, text = _there(site, name), plain_lines(text)
        if text:  # typed a moment ago, and not sent yet
            drafts.keep_text(folder, text, seen=seen)
        text = text or drafts.text_of(folder) or ""
        task = drafts.task_from(text, workspace.task_folder(name))
        sizes = _sizes(site, text, folder)
        if isinstance(sizes, TaskError):
            raise sizes
        options = chosen(gate, until, task.ladder)
        keep_options(folder, options)
        consent, run = drafts.consent_of(task), safe_name(run) if run else ""
        if consent.needed and yes != consent.mark:
            return go_to(f"/new/{name}/confirm?gate={gate}&until={until}{f'&run={run}' if run else ''}")
        file = drafts.settled(task.folder, text)
        made = workspace.new_run(run) if run else new_run(workspace.runs, task.task)
        arguments = [_below(site, file), "--run", _below(site, made), *options.arguments]
        begun[made.name] = jobs.start(jobs.climb_job(workspace.runs, made, arguments), sorted(all_endpoints_of(task)))
        return go_to(f"/new/{name}/starting?run={made.name}")

    @routes.get("/new/{name}/starting")
    def starting(request: Request, name: str, run: str) -> Response:
        folder = workspace.run_folder(run)
        if (folder / FILE_NAME).is_file():
            return go_to(f"/runs/{run}") if is_part(request) else RedirectResponse(f"/runs/{run}", 303)
        process = begun.get(run)
        working = folder.is_dir() and is_held(folder) if process is None else process.poll() is None
        if process is not None and not working and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        words = () if working else jobs.last_words(workspace.runs, folder)
        part = "new_starting_part.html.j2" if is_part(request) else "new_starting.html.j2"
        return site.draw(request, part, name=name, run=run, working=working, ours=process is not None, words=words)

    return routes


def form_of(site: Site, text: str, folder: Path) -> FilledForm:
    """The form beside the text, with what is wrong with it, or the number of rows that it leaves to train on."""

    def read(document: YamlDocument) -> Mapping[str, Json]:
        return task_of(document, folder / drafts.DRAFT).resolved()

    form = filled(FIELDS, text, drafts.FILE, TASK, read, Task)
    if form.fault:
        return form
    sizes = _sizes(site, text, folder)
    if isinstance(sizes, TaskError):
        return form.at_fault(sizes, field_at_fault(FIELDS, sizes))
    return form if sizes is None else replace(form, note=rows_to_train_on(sizes))


def _sizes(site: Site, text: str, folder: Path) -> int | TaskError | None:
    """How many rows a text leaves to train on, or why they are too few for it. None where that takes the check of the data: of rows
    that have faults, and of large files, which no page waits for.
    """

    def look() -> int | TaskError | None:
        try:
            return len(check_sizes(task).train)
        except TaskError as error:
            where = error.where.replace(drafts.DRAFT, drafts.FILE)
            return TaskError(error.found, where=where, expected=error.expected, remedy=error.remedy, key=error.key)
        except LastresortError:
            return None

    task = drafts.task_from(text, folder)
    files = files_state(files_of(task))
    if sum(size for *_, size in files) > MOST_LOOKED_AT:
        return None
    return site.once("sizes", (text, str(folder), files), look)


def _refused(
    site: Site, request: Request, error: LastresortError, form: str = "drafted", target: str = "refused"
) -> Response:
    """With the offer to leave out the rows that a refusal is about. form: that was sent, and is sent again then. target: where the
    refusal is shown.
    """
    if not isinstance(error, EmptyRowsError):
        raise error
    what = rows_without(error.without_input, error.without_output)
    return site.draw(
        request,
        "new_empty_rows.html.j2",
        status=422,
        text=str(error),
        what=what,
        url=request.url.path,
        form=form,
        target=target,
    )


def _begin(folder: Path, text: str) -> Response:
    drafts.keep_text(folder, text)
    return go_to(f"/new/{folder.name}")


def _shows(path: Path) -> str:
    """What an example is for: the comment that its task file begins with."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text("utf-8").splitlines())
    return " ".join(line.lstrip("# ") for line in lines)


def _there(site: Site, name: str) -> Path:
    folder = site.workspace.task_folder(name)
    if not folder.is_dir():
        raise NotThere(f'There is no task "{name}" here.')
    return folder


def _data(site: Site, name: str) -> Path:
    found = drafts.data_file(_there(site, name))
    if found is None:
        raise NotThere(f'There is no task "{name}" here.')
    return found


def _uploaded(site: Site, name: str) -> Path:
    """The file that somebody gave, also where the task reads a copy without some of its rows."""
    data = _data(site, name)
    given = copied_from(drafts.text_of(data.parent) or "")
    found = None if given is None else data.with_name(Path(given).name)
    return data if found is None or not found.is_file() else found


def _task(site: Site, name: str) -> Task:
    folder = _there(site, name)
    return drafts.task_from(drafts.text_of(folder) or "", folder)


def _ladder(site: Site, name: str) -> tuple[str, ...]:
    """Of the text as it is now; every rung where it has a fault."""
    try:
        return _task(site, name).ladder
    except LastresortError:
        return tuple(RUNGS)


def _start_form(site: Site, name: str) -> StartForm:
    folder, rungs = _there(site, name), _ladder(site, name)
    options = kept_options(folder).within(rungs)
    return StartForm(options, rungs, options.typed(_below(site, folder / drafts.DRAFT)))


def _ask(
    site: Site, request: Request, name: str, command: Sequence[str], key: str = "", also: object = None
) -> CommandOutput | None:
    """What a command says of the text as it is now, None while it works; as JSON, unless a key names it among others like it. also:
    the state of what else it reads.
    """
    try:
        task = _task(site, name)
    except LastresortError:
        return CommandOutput("", UNREADY)
    draft = task.folder / drafts.DRAFT
    begin = site.may_begin(request)
    if begin and not draft.is_file():
        drafts.keep_text(task.folder, drafts.text_of(task.folder) or "")
    words = list(takewhile(lambda word: not word.startswith("-"), command))
    arguments = [*words, _below(site, draft), *command[len(words) :], *([] if key else ["--json"])]
    state = _state(site, name) if also is None else (_state(site, name), also)
    question, children = (name, key or command[0]), children_of(site)
    if begin and "again" in request.query_params:
        children.forget(question, state)
    return children.printed(question, state, arguments, begin=begin)


def _ledger(site: Site) -> object:
    """Changes once a run that tested has ended."""
    return files_state([site.workspace.runs / SHARED / LEDGER])


def _state(site: Site, name: str) -> object:
    """Changes with what a command would read."""
    folder = _there(site, name)
    text = drafts.text_of(folder) or ""
    data = []
    for path in sorted(folder.iterdir()):
        if path.suffix != ".yaml" and not path.name.startswith(
            "."
        ):  # which no command reads: it is still being written
            with suppress(FileNotFoundError):  # a link that leads nowhere, or it was removed a moment ago
                data.append((path.name, path.stat().st_mtime_ns))
    return hashlib.sha256(text.encode()).hexdigest(), tuple(data)


def _below(site: Site, path: Path) -> str:
    return path.relative_to(site.workspace.folder).as_posix()
