"""The OpenAPI document of the routes, whose bodies are read by this program and not by FastAPI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from lastresort.serve.schema import ErrorBody
from lastresort.types import JsonObject

_REFERENCE = "#/components/schemas/{model}"
_REFUSED = {
    400: "The request is malformed, or asks for what is not supported.",
    401: "The key is missing or wrong.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "This model cannot do it.",
    429: "The queue is full. Retry-After says when to try again.",
    500: "The server failed.",
    503: "The server is stopping, or the model cannot be reached.",
}
_EVENTS = "Events, whose data are the chunks of an answer as JSON, and [DONE] at the end."
_OF_ANSWERS = tuple(_REFUSED)
_OF_ALL = (400, 401, 429, 500)


class RouteSettings(TypedDict):
    """What FastAPI is told of a route."""

    response_model: None
    responses: dict[int | str, dict[str, Any]]
    openapi_extra: JsonObject | None


def described(request: type[BaseModel] | None, reply: type[BaseModel] | None, *more: int) -> RouteSettings:
    """A route with this body and this reply. more: statuses besides those of all routes."""
    ok: dict[str, Any] = {"description": "The answer, or a stream of its chunks." if request else "What was asked for."}
    if reply is None:
        ok["content"] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        ok["model"] = reply
    if request is not None:
        ok["content"] = {"text/event-stream": {"schema": {"description": _EVENTS}}}
    statuses = _OF_ANSWERS if request is not None else (*_OF_ALL, *more)
    responses: dict[int | str, dict[str, Any]] = {200: ok}
    responses |= {status: {"description": _REFUSED[status], "model": ErrorBody} for status in sorted(statuses)}
    body: JsonObject | None = None
    if request is not None:
        schema = {"$ref": _REFERENCE.format(model=request.__name__)}
        body = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    return RouteSettings(response_model=None, responses=responses, openapi_extra=body)


def describe(app: FastAPI, requests: Sequence[type[BaseModel]], *, has_key: bool) -> None:
    """Make the application's document hold the models of its requests, and say whether a key is wanted."""
    kept: list[dict[str, Any]] = []

    def document() -> dict[str, Any]:
        if not kept:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            # FastAPI's own 422, as a name can be any text.
            made["paths"]["/v1/models/{model}"]["get"]["responses"].pop("422")
            schemas = {k: v for k, v in made["components"]["schemas"].items() if "ValidationError" not in k}
            made["components"]["schemas"] = schemas
            for request in requests:
                schema = request.model_json_schema(ref_template=_REFERENCE)
                schemas.update(schema.pop("$defs", {}))
                schemas[request.__name__] = schema
            if has_key:
                made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                made["security"] = [{"key": []}]
                made["paths"]["/health"]["get"]["security"] = []
            kept.append(made)
        return kept[0]

    app.openapi = document  # type: ignore[method-assign]
