"""Whether the answers that a page shows are what their run recorded: they are checked in the background, as that takes a while."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from lastresort.ui.site import Here
from lastresort.ui.workspace import Workspace, mark_of

Runs = Annotated[list[str], Query(default_factory=list)]


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/answers")
    def answers(site: Here, request: Request, of: Runs) -> Response:
        """The line that a page of these runs shows and follows. Where one was changed, the page loads again, and says so."""
        mark = answers_mark(site.workspace, of)
        if any(site.workspace.state(name).fault for name in of):
            return Response(headers={"hx-refresh": "true"})
        failed = any(map(site.workspace.could_not_check, of))
        checked = all(map(site.workspace.is_checked, of))
        return site.draw(request, "answers.html.j2", runs=of, mark=mark, checked=checked, failed=failed)

    @routes.get("/answers/mark")
    def marked(site: Here, of: Runs) -> Response:
        return PlainTextResponse(answers_mark(site.workspace, of))

    return routes


def answers_mark(workspace: Workspace, runs: list[str]) -> str:
    """Changes once the answers are checked. Begins with "running" until then, so that pages look again within seconds."""
    seen = [(workspace.state(name).fault, workspace.could_not_check(name)) for name in runs]
    return mark_of(seen, works=not all(map(workspace.is_checked, runs)))
