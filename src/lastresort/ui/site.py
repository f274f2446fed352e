"""The site as a whole: its pages, how they are drawn, and what a request that cannot be answered gets."""

from __future__ import annotations

import hashlib
import re
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Annotated, TypeVar, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from jinja2 import Environment
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from lastresort.app.terminal import print_note
from lastresort.errors import InputError, LastresortError
from lastresort.report.charts.loss import sparkline
from lastresort.report.html import VISIBLE, environment
from lastresort.report.words import progress
from lastresort.ui.guard import CSRF_HEADER, App, PageSecrets, Receive, Scope, Send
from lastresort.ui.workspace import NotThere, Workspace


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site. module: below `lastresort.ui.pages`, with `router()`. title: in the navigation, "" for none there.
    others: where pages begin that belong to this one.
    """

    module: str
    path: str = ""
    title: str = ""
    others: tuple[str, ...] = ()

    def marks(self, address: str) -> str:
        """What the navigation says of its entry at an address, as `aria-current` does: "page", "true" for one below it, or ""."""
        if address == self.path:
            return "page"
        below = (*self.others, self.path)
        return (
            "true"
            if any(address == path or address.startswith(f"{path.rstrip('/')}/") for path in below if path != "/")
            else ""
        )


PAGES = (
    Page("runs", "/", "Runs", ("/runs", "/compare")),
    Page("run"),
    Page("task_beginning", "/new", "New task"),
    Page("task_editor"),
    Page("task_checks"),
    Page("plan", "/plan", "Plan"),
    Page("train", "/train", "Train"),
    Page("machine", "/machine", "This machine", ("/docs",)),
    Page("items"),
    Page("talk"),
    Page("rate"),
)
MOST_MADE = 8
LARGEST = 2**31  # of a number: more than a record holds, and no more than SQLite takes
Made = TypeVar("Made")
Owned = TypeVar("Owned")
# What a form sends back has to be what it was given: a text between these tags, or a `value`. Neither holds "<" or '"' of its own.
_EDITABLE = re.compile(r'(<textarea\b[^>]*>[^<]*</textarea>|\bvalue="[^"]*")')
_UNSENDABLE = dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # halves of surrogate pairs, which UTF-8 cannot hold
_SITE = "lastresort.site"  # in the scope of a request
_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}


@dataclass(slots=True)
class Site:
    """What every page gets, and what pages keep: things that live as long as the site, and what is slow to make again."""

    workspace: Workspace
    secrets: PageSecrets = field(default_factory=PageSecrets)
    _owned: dict[type, object] = field(default_factory=dict)
    _ends: ExitStack = field(default_factory=ExitStack)
    _made: dict[str, dict[object, object]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """End whatever it owns that has an end."""
        self._ends.close()

    def own(self, kind: type[Owned], make: Callable[[], Owned], end: Callable[[Owned], None] | None = None) -> Owned:
        """The one of this type that lives as long as the site, made when it is first needed. end: called when the site closes."""
        with self._lock:
            if kind not in self._owned:
                made = make()
                self._owned[kind] = made
                if end is not None:
                    self._ends.callback(end, made)
        found = self._owned[kind]
        assert isinstance(found, kind)
        return found

    def may_begin(self, request: Request) -> bool:
        """Whether a request, of any method, may start a process or write a file: one that the page itself makes.

        Raises InputError for one of a page that was opened before this site.
        """
        given = request.headers.get(CSRF_HEADER, "")
        if given and not self.secrets.are_in(given.encode("latin-1")):
            raise InputError("lastresort was restarted after this page was opened", remedy="Reload the page.")
        return bool(given)

    def once(self, what: str, state: object, make: Callable[[], Made], most: int = MOST_MADE) -> Made:
        """What was made in this state, for the last few states: of files that are large to read. state: hashable. most: states."""
        known = cast("dict[object, Made]", self._made.setdefault(what, {}))
        try:
            return known[state]
        except KeyError:  # never made, or let go of by another request at this very moment
            made = known[state] = make()
        for oldest in list(known)[:-most]:
            known.pop(oldest, None)
        return made

    def draw(self, request: Request, template: str, *, status: int = 200, **context: object) -> HTMLResponse:
        """A page, or a part of one. What no browser should show of a text is made visible, as in the report, except in fields."""
        shown = {"pages": PAGES, "here": request.url.path, "csrf": self.secrets.csrf, **context}
        return HTMLResponse(shown_text(templates().get_template(template).render(shown)), status)


def shown_text(page: str) -> str:
    """A page with control and bidirectional characters made visible, except in what its fields hold."""
    pieces = _EDITABLE.split(page)
    return "".join(piece.translate(_UNSENDABLE if at % 2 else VISIBLE) for at, piece in enumerate(pieces))


def is_part(request: Request) -> bool:
    """Whether htmx asks, for a part of the page; where it restores a page that one goes back to, it needs the whole."""
    return bool(request.headers.get("hx-request")) and not request.headers.get("hx-history-restore-request")


def placed(answer: Response, target: str, how: str = "innerHTML") -> Response:
    """A part that takes its own place. Buttons name the place of a refusal, so that a refusal takes nobody else's."""
    answer.headers.update({"hx-retarget": target, "hx-reswap": how})
    return answer


def go_to(url: str) -> Response:
    """htmx leaves the page for this one."""
    return Response(status_code=204, headers={"hx-redirect": quote(url, safe="/?=&%")})


async def _form(request: Request) -> FormData:
    return await request.form()


def _site_of(request: Request) -> Site:
    found = request.scope[_SITE]
    assert isinstance(found, Site)
    return found


async def _here(request: Request) -> Site:
    return _site_of(request)  # FastAPI would call what is not async in a thread


Here = Annotated[Site, Depends(_here)]  # the site that was asked
SentForm = Annotated[FormData, Depends(_form)]
Text = Annotated[str, Form()]
QueryText = Annotated[str, Query()]
QueryNumber = Annotated[int, Query(ge=0, le=LARGEST)]


@cache
def templates() -> Environment:
    """Those of the site, with the words and charts of the report."""
    found = environment("lastresort.ui")
    found.globals.update(sparkline=sparkline, soon=progress.SOON, late=progress.LATE)
    found.filters.update(left_line=progress.left_line, stage_line=progress.stage_line, losses_line=progress.losses_line)
    return found


def create_site(site: Site) -> App:
    """The pages of a site as an ASGI application."""
    pages = _pages()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await pages({**scope, _SITE: site}, receive, send)

    return app


@cache
def _pages() -> FastAPI:
    """Those of every site of this process: routes take longer to make than most pages take to answer."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(_static())
    for page in PAGES:
        router: Callable[[], APIRouter] = import_module(f"lastresort.ui.pages.{page.module}").router
        app.include_router(router())

    @app.get("/alive")
    def alive(site: Here, of: str | None = None) -> Response:
        """Whether what a page shows can still be true. of: a run, "" for all: its mark is then answered."""
        return Response(status_code=204) if of is None else PlainTextResponse(site.workspace.mark(of))

    @app.exception_handler(NotThere)
    async def not_there(request: Request, error: NotThere) -> Response:
        return _refusal(request, 404, str(error.args[0]))

    @app.exception_handler(LastresortError)
    async def refused(request: Request, error: LastresortError) -> Response:
        return _refusal(request, 422, str(error))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        print_note("".join(traceback.format_exception(error)))
        return _refusal(request, 500, "lastresort failed. The terminal it runs in shows the traceback.")

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _refusal(request, 422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        text = "There is no such page." if error.status_code == 404 else str(error.detail)
        return _refusal(request, error.status_code, text)

    return app


def _refusal(request: Request, status: int, text: str) -> Response:
    site = _site_of(request)
    if is_part(request):
        return site.draw(request, "refusal_part.html.j2", status=status, text=text)
    title = {404: "Not found", 500: "Something failed"}.get(status, "This cannot be shown")
    return site.draw(request, "refusal.html.j2", status=status, text=text, title=title)


def _static() -> APIRouter:
    """Few small files, kept in memory. Their names change with no version: browsers ask each time whether theirs are these."""
    here, report = files("lastresort.ui").joinpath("static"), files("lastresort.report").joinpath("templates")
    contents = {found.name: found.read_bytes() for found in here.iterdir() if found.is_file()}
    sheets = [report.joinpath(f"{name}.css") for name in ("colours", "strips", "report")]
    contents["page.css"] = b"".join([*(sheet.read_bytes() for sheet in sheets), contents["page.css"]])
    router = APIRouter()

    @router.get("/static/{name}")
    async def static(request: Request, name: str) -> Response:
        if name not in contents:
            raise NotThere("There is no such file.")
        kind = _KINDS.get(name.rpartition(".")[2], "text/plain")
        headers = {"cache-control": "no-cache", "etag": f'"{hashlib.sha256(contents[name]).hexdigest()[:16]}"'}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(contents[name], media_type=kind, headers=headers)

    return router
