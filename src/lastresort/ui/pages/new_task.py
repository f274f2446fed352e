"""A task from a file of one's own, an example, or a run: proposed, looked at, changed as form and as text, and started."""

from __future__ import annotations

from fastapi import APIRouter

from lastresort.ui.pages import task_beginning, task_checks, task_editor, task_start


def router() -> APIRouter:
    routes = APIRouter()
    for part in (task_beginning, task_editor, task_checks, task_start):
        routes.include_router(part.router())
    return routes
