"""What commands say of a task before it starts: its data, its rows as tokens, advice and a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import takewhile

from fastapi import APIRouter, Request, Response

from lastresort.climb.workspace import LEDGER, SHARED
from lastresort.errors import LastresortError
from lastresort.report.advice import STANCES, AdviceDocument
from lastresort.report.forecast import DryRun, cells, head, notes_of, others, power_of
from lastresort.ui import drafts
from lastresort.ui.children import CommandOutput, children_of
from lastresort.ui.climb_options import kept_options
from lastresort.ui.findings import ShownRow, files_of, files_state, findings_of, first_rows
from lastresort.ui.site import Site
from lastresort.ui.task_folder import below, ladder_of, state_of, task_in, there

ROWS_AS_TOKENS = 3
UNREADY = "Correct the task first."  # its fault is said beside the form


def router(site: Site) -> APIRouter:
    routes = APIRouter()

    @routes.get("/new/{name}/data")
    def data(request: Request, name: str) -> Response:
        used = _ledger(site)
        asked = _ask(site, request, name, ("data", "check"), also=used)
        task = None if asked is None or asked.fault else task_in(site, name)
        found, rows = None, tuple[ShownRow, ...]()
        if asked is not None and task is not None:
            text, state = asked.text, files_state(files_of(task))
            found = site.once("findings", (text, state), lambda: findings_of(text, task))
            rows = site.once("first rows", state, lambda: first_rows(task))
        at = children_of(site).progress((name, "data"), (state_of(site, name), used))
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
    site: Site, request: Request, name: str, command: Sequence[str], key: str = "", also: object = None
) -> CommandOutput | None:
    """What a command says of the text as it is now, None while it works; as JSON, unless a key names it among others like it. also:
    the state of what else it reads.
    """
    try:
        task = task_in(site, name)
    except LastresortError:
        return CommandOutput("", UNREADY)
    draft = task.folder / drafts.DRAFT
    begin = site.may_begin(request)
    if begin and not draft.is_file():
        drafts.keep_text(task.folder, drafts.text_of(task.folder) or "")
    words = list(takewhile(lambda word: not word.startswith("-"), command))
    arguments = [*words, below(site, draft), *command[len(words) :], *([] if key else ["--json"])]
    state = state_of(site, name) if also is None else (state_of(site, name), also)
    question, children = (name, key or command[0]), children_of(site)
    if begin and "again" in request.query_params:
        children.forget(question, state)
    return children.printed(question, state, arguments, begin=begin)


def _ledger(site: Site) -> object:
    """Changes once a run that tested has ended."""
    return files_state([site.workspace.runs / SHARED / LEDGER])
