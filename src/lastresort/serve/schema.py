"""What goes over the line: requests, answers and errors of the OpenAI API as far as this server has them, and its OpenAPI document.

No key is ignored: one that is not here is refused, unless it is null. Keys of what is not supported are here where one of their
values asks for nothing, such as `presence_penalty: 0`.

Bodies are read by this program and not by FastAPI, so that the document of the routes is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from lastresort.types import JsonObject

MOST_ANSWERS = 16  # of one request
MOST_NEW_TOKENS = 2**20  # more than any context holds
_LONGEST_STOP, _MOST_STOPS = 200, 16
_LONGEST_NAME = 200


def _whole(value: object) -> object:
    """JSON has one kind of number, and 1.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)  # the last of each: what is before it stays in the JSON schema
_NoList = Annotated[list[JsonValue], Field(max_length=0)]
_NoObject = Annotated[dict[str, JsonValue], Field(max_length=0)]
_StopText = Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]
_NewTokens = Annotated[int, Field(ge=1, le=MOST_NEW_TOKENS), _WHOLE]
_Name = Annotated[str, Field(max_length=_LONGEST_NAME)]


class _Known(BaseModel):
    """Refuses keys that it does not have."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _KnownOrNull(BaseModel):
    """Refuses keys that it does not have, unless they are null: clients send those of all that they know."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, None]


class TextPart(_KnownOrNull):
    type: Literal["text"]
    text: str


class ChatTurn(_KnownOrNull):
    """developer: as system. content: parts are joined by line breaks. annotations: of an answer that is sent back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, fail_fast=True)]
    name: _Name | None = None
    annotations: _NoList | None = None


class StreamOptions(_KnownOrNull):
    include_usage: bool | None = None


class AnyText(_Known):
    type: Literal["text"]


class AnyObject(_Known):
    type: Literal["json_object"]


class NamedSchema(_KnownOrNull):
    """strict: answers obey the schema in any case."""

    name: _Name
    schema_: Annotated[dict[str, JsonValue], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class BySchema(_Known):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[AnyText | AnyObject | BySchema, Field(discriminator="type")]


class SamplingRequest(_KnownOrNull):
    """What both routes take. What is left out is as the winner was measured. user: has no effect."""

    model: _Name
    max_tokens: _NewTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MOST_NEW_TOKENS), _WHOLE] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS), _WHOLE] | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=_MOST_STOPS)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), _WHOLE] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: _NoObject | None = None


class ChatRequest(SamplingRequest):
    """max_completion_tokens: the newer name of max_tokens."""

    messages: Annotated[list[ChatTurn], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: _NewTokens | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), _WHOLE] | None = None
    tools: _NoList | None = None
    tool_choice: Literal["none"] | None = None
    functions: _NoList | None = None
    function_call: Literal["none"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None


class CompletionRequest(SamplingRequest):
    """logprobs: how many alternatives of each token; 0 for the chosen ones alone."""

    prompt: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_ANSWERS)]
    )
    logprobs: Annotated[int, Field(ge=0, le=5), _WHOLE] | None = None
    best_of: Annotated[int, Field(ge=1, le=1), _WHOLE] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None


OFF_ONLY = frozenset(
    "tools tool_choice functions function_call modalities store service_tier presence_penalty frequency_penalty logit_bias "
    "best_of echo suffix".split()
)
"""Keys of which only the value that asks for nothing is accepted."""

UNSUPPORTED = OFF_ONLY | frozenset(
    "parallel_tool_calls audio prediction metadata reasoning_effort verbosity web_search_options safety_identifier "
    "prompt_cache_key prompt_cache_retention response_format max_completion_tokens top_logprobs messages prompt min_p "
    "repetition_penalty min_tokens ignore_eos guided_json guided_regex guided_choice guided_grammar structured_outputs "
    "extra_body chat_template chat_template_kwargs prompt_logprobs".split()
)
"""Keys that other servers, or the other route, know."""

Finish = Literal["stop", "length"]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Source(BaseModel):
    """A passage that was in the prompt."""

    id: str
    document: str
    headings: list[str]
    text: str


class Alternative(BaseModel):
    """bytes: null where the token is a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(Alternative):
    top_logprobs: list[Alternative]


class ChatLogprobs(BaseModel):
    content: list[TokenLogprob]
    refusal: None


class TextLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class AnswerTurn(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None
    annotations: list[JsonValue]


class ChatChoice(BaseModel):
    index: int
    message: AnswerTurn
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(BaseModel):
    """sources: only of a winner that retrieves."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    sources: list[Source] = []


class Delta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None


class ChatChunk(BaseModel):
    """usage: only where the request asks for it, in each chunk: null before the last. sources: in the first chunk alone."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    sources: list[Source] = []


class TextChoice(BaseModel):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish | None


class TextCompletion(BaseModel):
    """Also a chunk of one. usage and sources: as in the chat's."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | None = None
    sources: list[Source] = []


class ModelCard(BaseModel):
    """owned_by: "lastresort" where the server puts the winner's own prompt around what it gets, "lastresort-raw" where it does
    not. root: the system's name in its run. max_model_len: null where it is not known.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["lastresort", "lastresort-raw"]
    root: str
    max_model_len: int | None


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Health(BaseModel):
    status: Literal["ok"]


class ErrorDetail(BaseModel):
    """param: the key of the request that is at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


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
