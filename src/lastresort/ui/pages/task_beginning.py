"""A task begins: from a file of one's own, an example, or a run, with its columns."""

from __future__ import annotations

import threading
from itertools import takewhile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile

from lastresort.app.columns import OpenColumnsError, refuse_one_for_both, table_columns
from lastresort.app.consent import text_of_run
from lastresort.app.examples import example_task, example_tasks
from lastresort.app.init import EmptyRowsError
from lastresort.errors import DataError, LastresortError
from lastresort.foreign import read_text
from lastresort.report.words.draft import rows_without, values_shown
from lastresort.spec.edit import moved
from lastresort.ui import drafts
from lastresort.ui.findings import files_state
from lastresort.ui.site import Here, Site, Text, go_to
from lastresort.ui.task_folder import keep_options, options_of, uploaded_in
from lastresort.ui.workspace import NotThere, safe_name

DRAFTING = threading.Lock()  # one upload at a time: reading a large file takes memory


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/new")
    def new(site: Here, request: Request) -> Response:
        run = request.query_params.get("from", "")
        if run:
            site.workspace.run(run)
        examples = {name: _shows(path) for name, path in example_tasks().items()}
        copy = site.workspace.next_copy(run) if run else ""
        return site.draw(
            request, "new.html.j2", run=run, copy=copy, examples=examples, tasks=drafts.names_in(site.workspace),
            unused=drafts.unused_in(site.workspace),
        )  # fmt: skip

    @routes.post("/new/{name}/remove")
    def remove(site: Here, name: str) -> Response:
        drafts.remove(site.workspace, name)
        return go_to("/new")

    @routes.post("/new/upload")
    def upload(
        site: Here, request: Request, file: Annotated[UploadFile, File()], name: Text = "", leave_out: Text = ""
    ) -> Response:
        path = drafts.keep_upload(site.workspace, file.filename or "", name, file.file)
        try:
            with DRAFTING:
                drafts.draft_from(path, leave_out_empty=bool(leave_out))
        except OpenColumnsError:
            return go_to(f"/new/{path.parent.name}/columns")
        except LastresortError as error:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
            return refused_rows(site, request, drafts.by_its_name(error, path))
        return go_to(f"/new/{path.parent.name}")

    @routes.post("/new/example")
    def example(site: Here, example: Text) -> Response:
        path = example_task(example)
        folder = drafts.new_folder(site.workspace, example)
        return _begin(folder, moved(read_text(path), path.parent.resolve(), folder))

    @routes.post("/new/clone")
    def clone(site: Here, run: Text, name: Text = "") -> Response:
        folder = drafts.new_folder(site.workspace, safe_name(name or run))
        try:
            with site.workspace.record(run) as record:
                text, options = text_of_run(record, folder, site.workspace.folder), options_of(record)
            begun = _begin(folder, text)
        except (LastresortError, NotThere):
            folder.rmdir()
            raise
        keep_options(folder, options)
        return begun

    @routes.get("/new/{name}/columns")
    def columns(site: Here, request: Request, name: str) -> Response:
        data = uploaded_in(site, name)
        found = site.once("columns", files_state([data]), lambda: table_columns(data))
        text = drafts.text_of(data.parent) or ""
        used = drafts.columns_in(text) or ((found.input, found.output) if text and found.shape else None)
        return site.draw(
            request,
            "new_columns.html.j2",
            name=name,
            data=data.name,
            found=found,
            shown=values_shown,
            used=used,
            written=text != "",
        )

    @routes.post("/new/{name}/columns")
    def choose(
        site: Here, request: Request, name: str, source: Text = "", target: Text = "", leave_out: Text = ""
    ) -> Response:
        data = uploaded_in(site, name)
        if missing := [side for side, column in (("input", source), ("answer", target)) if not column]:
            raise DataError(
                f"found no column for the {' and the '.join(missing)}",
                where=data.name,
                expected="one for the input and another for the answer",
                remedy="Choose both." if len(missing) == 2 else f"Choose a column for the {missing[0]}.",
            )
        refuse_one_for_both(source, target, data.name)
        try:
            with DRAFTING:
                drafts.draft_from(data, source, target, leave_out_empty=bool(leave_out))
        except LastresortError as error:
            return refused_rows(site, request, drafts.by_its_name(error, data))
        return go_to(f"/new/{name}")

    return routes


def refused_rows(
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
