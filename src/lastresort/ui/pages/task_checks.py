"""What commands say of a task before it starts: its data, its rows as tokens, advice and a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from fastapi import APIRouter, Request, Response

from lastresort.app.data_check import checked_part, files_checked
from lastresort.errors import LastresortError, TaskError
from lastresort.records.advice import AdviceDocument
from lastresort.report.advice import STANCES
from lastresort.report.forecast import DryRun, cells, head, notes_of, others, power_of
from lastresort.spec.task import Task
from lastresort.ui import drafts
from lastresort.ui.children import CommandOutput, FileToWrite, children_of
from lastresort.ui.findings import CheckedData, FilesState, ShownRow, files_state, findings_of, masks_of, shown_rows
from lastresort.ui.pages.task_editor import sizes_of
from lastresort.ui.site import Here, Site
from lastresort.ui.task_folder import below, kept_options, ladder_of, state_of, task_in, there

ROWS_AS_TOKENS, SHOWN_ROWS = 3, 5
UNREADY = "Correct the task first."  # its fault is said beside the form


@dataclass(frozen=True, slots=True)
class ShownCheck:
    """What the last check of a task's data found, and the first rows of the data as it was."""

    found: CheckedData
    rows: tuple[ShownRow, ...]


class ShownChecks(dict[str, ShownCheck]):
    """By name of the task."""


@dataclass(frozen=True, slots=True)
class CheckState:
    """What a check of the data depends on. part: of the task."""

    part: str
    files: FilesState


@dataclass(frozen=True, slots=True)
class DataQuestion:
    """A check of the data of a task, as its text is now."""

    name: str
    text: str
    task: Task
    state: CheckState

    def ask(self, site: Site, request: Request) -> CommandOutput | None:
        """As `_ask`; the check reads a copy of the text, as its result is kept for other texts of the same state."""
        question, children, begin = (self.name, "data"), children_of(site), site.may_begin(request)
        copy = self.task.folder / drafts.CHECKED
        if begin and "again" in request.query_params:
            children.forget(question, self.state)
        arguments = ["data", "check", below(site, copy), "--json"]
        reads = FileToWrite(copy, self.text)
        found = children.printed(question, self.state, arguments, begin=begin, only=True, reads=reads)
        return None if found is None else replace(found, fault=found.fault.replace(copy.name, drafts.FILE))


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/new/{name}/data")
    def data(site: Here, request: Request, name: str) -> Response:
        question, shown = _data_question(site, name), site.own(ShownChecks, ShownChecks)
        asked = CommandOutput("", UNREADY) if question is None else question.ask(site, request)
        if question is not None and asked is not None and not asked.fault:
            text, task = asked.text, question.task

            def read() -> ShownCheck:
                return ShownCheck(findings_of(text, task), shown_rows(task, SHOWN_ROWS))

            shown[name] = site.once("findings", (text, question.state.files), read)
        known = None if asked is not None and asked.fault else shown.get(name)
        at = None if question is None else children_of(site).progress((name, "data"), question.state)
        return site.draw(request, "new_data.html.j2", name=name, unready=UNREADY, asked=asked, shown=known, at=at)

    @routes.get("/new/{name}/masks")
    def masks(site: Here, request: Request, name: str) -> Response:
        asked = _ask(site, request, name, ("data", "check", f"--show={ROWS_AS_TOKENS}"), key="masks")
        lines = "" if asked is None or asked.fault else masks_of(asked.text)
        return site.draw(request, "new_masks.html.j2", name=name, unready=UNREADY, asked=asked, lines=lines)

    @routes.get("/new/{name}/advice")
    def advice(site: Here, request: Request, name: str) -> Response:
        asked = _ask(site, request, name, ("advise",), sized=False)
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
    def forecast(site: Here, request: Request, name: str, begin: bool = False) -> Response:
        options = kept_options(there(site, name)).within(ladder_of(site, name))
        state = (state_of(site, name), options)
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


def _ask(
    site: Site,
    request: Request,
    name: str,
    command: Sequence[str],
    key: str = "",
    also: object = None,
    sized: bool = True,
) -> CommandOutput | None:
    """What a command says of the text as it is now, None while it works; as JSON. key: names it among others like it. also: the
    state of what else it reads. sized: whether it refuses rows that are too few for the split or the bar.
    """
    try:
        task = task_in(site, name)
        too_few = sized and isinstance(sizes_of(site, drafts.text_of(task.folder) or "", task.folder), TaskError)
    except LastresortError:
        too_few = True
    if too_few:
        return CommandOutput("", UNREADY)
    draft = task.folder / drafts.DRAFT
    begin = site.may_begin(request)
    if begin and not draft.is_file():
        drafts.keep_text(task.folder, drafts.text_of(task.folder) or "")
    words = list(takewhile(lambda word: not word.startswith("-"), command))
    arguments = [*words, below(site, draft), *command[len(words) :], "--json"]
    state = state_of(site, name) if also is None else (state_of(site, name), also)
    question, children = (name, key or command[0]), children_of(site)
    if begin and "again" in request.query_params:
        children.forget(question, state)
    return children.printed(question, state, arguments, begin=begin, only=True)


def _data_question(site: Site, name: str) -> DataQuestion | None:
    """None where the text has a fault, or asks more of the rows than they can give."""
    folder = there(site, name)
    text = drafts.text_of(folder) or ""
    try:
        task = drafts.task_from(text, folder)
    except LastresortError:
        return None
    # Of Python whether its scores are 0 and 1 only shows once it runs, so that its sizes are for the check alone.
    sizes = sizes_of(site, text, folder)
    if isinstance(sizes, TaskError):
        return None
    large_enough = sizes is not None and task.score.python_file is None
    files = files_state(files_checked(task, site.workspace.runs))
    state = CheckState(checked_part(task, sizes=not large_enough), files)
    return DataQuestion(name, text, task, state)
