"""Why a request gets no answer: a status and a body as OpenAI sends them. Also the reading of its bytes, which refuses most."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from lastresort.errors import (
    CandidateError,
    InfrastructureError,
    InputError,
    LastresortError,
    StopRequestedError,
    TooLongError,
)
from lastresort.foreign import NotJson, parse_json
from lastresort.keys import without_keys
from lastresort.report.words.wording import counted
from lastresort.serve.schema import OFF_ONLY, UNSUPPORTED, ErrorBody, ErrorDetail, SamplingRequest
from lastresort.serve.work import Draining, QueueFull

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Body = TypeVar("Body", bound=SamplingRequest)
Place = tuple[int | str, ...]

_ADD = {
    "model": "Name the one that GET /v1/models lists.",
    "messages": 'Send a list of turns, such as [{"role": "user", "content": "..."}].',
    "prompt": "Send the text that is continued.",
}
_ELSEWHERE = {"messages": "Send it to /v1/chat/completions.", "prompt": "Send it to /v1/completions."}
_LONGEST_SHOWN, _MOST_FAULTS = 60, 1000
_AGAIN_S = 5
_MISSING = ("missing", "union_tag_not_found")
_KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "overloaded_error"}


class Refusal(Exception):
    """The one answer to a request that gets no other. closes: whether the connection ends with it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.message = without_keys(message)
        self.headers = {**(headers or {}), **({"connection": "close"} if closes else {})}

    @property
    def body(self) -> bytes:
        kind = _KINDS.get(self.status, "invalid_request_error")
        detail = ErrorDetail(message=self.message, type=kind, param=self.param, code=self.code)
        return ErrorBody(error=detail).model_dump_json().encode()


def refused(error: LastresortError | QueueFull | Draining) -> Refusal:
    """What the client gets instead of an answer."""
    match error:
        case QueueFull():
            after = {"retry-after": str(max(1, math.ceil(error.after_s)))}
            return Refusal(429, "All slots are taken and the queue is full.", code="queue_full", headers=after)
        case Draining() | StopRequestedError():
            return stopping()
        case TooLongError():
            said = f"{error.found}, expected {error.expected}" if error.expected else error.found
            told = f"{said}. Shorten the messages, or lower max_tokens."
            return Refusal(400, told, param="messages", code="context_length_exceeded")
        case CandidateError():
            return Refusal(422, str(error), code="unsupported_request")
        case InputError():
            return Refusal(400, str(error), code="invalid_prompt")
        case InfrastructureError():
            return Refusal(503, str(error), code="model_unavailable", headers={"retry-after": str(_AGAIN_S)})
    return Refusal(500, "The model failed. The log of the server says why.", code="model_failed")


def stopping() -> Refusal:
    again = {"retry-after": str(_AGAIN_S)}
    return Refusal(503, "The server is stopping.", code="server_stopping", headers=again, closes=True)


def server_failed() -> Refusal:
    return Refusal(500, "The server failed. Its log says why.", code="server_failed", closes=True)


def read_request(data: bytes, kind: type[Body]) -> Body:
    """The request in a body. Raises Refusal, which names the key that is at fault."""
    try:
        value = parse_json(data.decode())
    except UnicodeDecodeError as error:
        raise Refusal(400, f"The body is not UTF-8: byte {error.start}.", code="invalid_json") from None
    except NotJson as error:
        raise Refusal(400, f"The body is not JSON: {error.reason}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise Refusal(400, "The body is not a JSON object.", code="invalid_json")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refused_value(error, value, kind) from None


@dataclass(frozen=True, slots=True)
class _Fault:
    """place: the keys and numbers that lead to it in the body. value: what is there."""

    error: ErrorDetails
    place: Place
    value: object = field(repr=False)


def _refused_value(error: ValidationError, body: object, kind: type[SamplingRequest]) -> Refusal:
    if error.error_count() > _MOST_FAULTS:
        return Refusal(400, f"The body is wrong in more than {_MOST_FAULTS:,} places.", code="invalid_value")
    faults = [_located(fault, body) for fault in error.errors(include_url=False)]
    # Of the branches of a union the one that leads deepest is what was meant, and rather one of the right type.
    worst = max(faults, key=lambda fault: (len(fault.place), not fault.error["type"].endswith("_type")))
    place, top = _written(worst.place), str(worst.place[0])
    if worst.error["type"] in _MISSING:
        said = f"{place} is missing. {_ADD.get(place, 'Add it.')}"
        return Refusal(400, said, param=place, code="missing_parameter")
    if worst.error["type"] == "none_required" and len(worst.place) == 1 and top not in UNSUPPORTED:
        near = get_close_matches(top, kind.model_fields, 1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        return Refusal(400, f"{place} is not known.{hint}", param=place, code="unknown_parameter")
    if worst.error["type"] in ("none_required", "extra_forbidden") or top in OFF_ONLY:
        said = f"{place} is not supported. {_ELSEWHERE.get(place, 'Leave it out.')}"
        return Refusal(400, said, param=place, code="unsupported_parameter")
    told = f"{place}: found {_shown(worst.value)}, expected {_expected(worst.error)}."
    return Refusal(400, told, param=place, code="invalid_value")


def _expected(error: ErrorDetails) -> str:
    """In our words where the library's begin with the name of a type of its own."""
    limits = error.get("ctx", {})
    match error["type"]:
        case "model_type" | "model_attributes_type" | "dict_type":
            return "an object"
        case "union_tag_invalid":
            return f"one of {limits['expected_tags']}"
        case "too_short":
            return f"at least {counted(limits['min_length'], 'item')}"
        case "too_long":
            return f"at most {counted(limits['max_length'], 'item')}"
        case "string_too_short":
            return f"at least {counted(limits['min_length'], 'character')}"
        case "string_too_long":
            return f"at most {counted(limits['max_length'], 'character')}"
    return error["msg"].removeprefix("Input should be ")


def _located(error: ErrorDetails, body: object) -> _Fault:
    """Where an error is in the body: without the names of types, by which pydantic tells the branches of a union apart."""
    place: list[int | str] = []
    value = body
    for step in error["loc"]:
        in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if in_list or (isinstance(value, dict) and step in value):
            place.append(step)
            value = value[step]  # type: ignore[index]
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    elif error["type"] in ("union_tag_not_found", "union_tag_invalid"):
        place.append("type")
        value = value.get("type") if isinstance(value, dict) else None
    return _Fault(error, tuple(place), value)


def _written(place: Sequence[int | str]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")[:200]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
