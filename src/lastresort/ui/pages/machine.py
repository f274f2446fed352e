"""What this machine can do, asked in a process of its own, and the documents, which need no network."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from lastresort.report.environment import Environment, facts_of, missing_of, reach_of
from lastresort.ui import documents
from lastresort.ui.children import children_of
from lastresort.ui.guard import REPORT_POLICY
from lastresort.ui.site import Here, is_part


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/machine")
    def machine(site: Here, request: Request, again: bool = False) -> Response:
        begin, children = site.may_begin(request), children_of(site)
        if again and begin:
            children.forget("env", ())
        printed = children.printed("env", (), ["env", "--json"], begin=begin)
        fault = "" if printed is None else printed.fault
        found = None if printed is None or fault else Environment.model_validate_json(printed.text)
        words = {"facts": facts_of, "reach": reach_of, "missing": missing_of}
        part = "machine_part.html.j2" if is_part(request) else "machine.html.j2"
        return site.draw(request, part, found=found, fault=fault, words=words, documents=documents.titles())

    @routes.get("/docs/{name}")
    def document(site: Here, request: Request, name: str) -> Response:
        return site.draw(request, "document.html.j2", document=documents.document(name), documents=documents.titles())

    @routes.get("/docs/pictures/{name}")
    def picture(name: str) -> Response:
        content, kind = documents.picture(name)
        return Response(content, media_type=kind, headers={"content-security-policy": REPORT_POLICY})

    return routes
