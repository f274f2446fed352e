"""The routes of the OpenAI API: from a request's bytes to whole answers or streams, by whoever holds the model."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from lastresort.errors import LastresortError
from lastresort.serve.answers import AnswerJob, RequestComposer
from lastresort.serve.deliveries import AnswerPart, ClientGone, Deliveries, GrowingAnswers
from lastresort.serve.guard import (
    Guard,
    GuardSettings,
    Log,
    Receive,
    RequestNotes,
    Scope,
    Send,
    discard,
    notes_of,
    read_body,
)
from lastresort.serve.metrics import CONTENT_TYPE, Metrics
from lastresort.serve.refusals import Refusal, read_request, refused, server_failed, stopping
from lastresort.serve.replies import (
    DONE,
    ChatReplies,
    Replies,
    ReplyHead,
    TextReplies,
    as_event,
    as_json,
    with_sources,
)
from lastresort.serve.schema import (
    ChatCompletion,
    ChatRequest,
    CompletionRequest,
    Health,
    ModelCard,
    ModelList,
    SamplingRequest,
    TextCompletion,
    describe,
    described,
)
from lastresort.serve.work import Draining, Owner, QueueFull
from lastresort.spec.values import listed
from lastresort.version import __version__

Body = TypeVar("Body", bound=SamplingRequest)
CHAT, COMPLETIONS, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
HEALTH, METRICS, OPENAPI = "/health", "/metrics", "/openapi.json"
PATHS = frozenset((CHAT, COMPLETIONS, MODELS, HEALTH, METRICS, OPENAPI))


@dataclass(frozen=True, slots=True)
class Offering:
    """One of what is served, and who computes its answers."""

    composer: RequestComposer
    owner: Owner

    @property
    def name(self) -> str:
        return self.composer.name


class Service:
    """What the routes share. offerings: the first is the default of a client that takes the first model it finds. is_stopping: set
    once nothing new is taken.
    """

    def __init__(self, offerings: Sequence[Offering]) -> None:
        self.offerings = {one.name: one for one in offerings}
        self.metrics = Metrics({one.name: partial(one.owner.load_of, one.name) for one in offerings})
        self.is_stopping = False
        self.began = int(time.time())
        # One thread: prompts are made one at a time, and the event loop goes on meanwhile.
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prompts")

    def close(self) -> None:
        self._preparing.shutdown(wait=False, cancel_futures=True)

    @property
    def is_healthy(self) -> bool:
        return not self.is_stopping and all(one.owner.fault is None for one in self.offerings.values())

    @property
    def paths(self) -> frozenset[str]:
        return PATHS | {f"{MODELS}/{name}" for name in self.offerings}

    def card(self, name: str) -> ModelCard:
        """Raises Refusal where nothing of this name is served."""
        offering = self._offering(name)
        composer = offering.composer
        return ModelCard(
            id=name,
            object="model",
            created=self.began,
            owned_by=composer.owned_by,
            root=composer.root,
            max_model_len=offering.owner.longest_tokens_of(name),
        )

    def _offering(self, name: str) -> Offering:
        found = self.offerings.get(name)
        if found is None:
            known = listed([f'"{known}"' for known in self.offerings])
            message = f'There is no model "{name[:100]}" here, only {known}.'
            raise Refusal(404, message, param="model", code="model_not_found")
        return found

    async def respond(
        self,
        request: Request,
        kind: type[Body],
        compose: Callable[[RequestComposer, Body], AnswerJob],
        form: Callable[[ReplyHead], Replies],
        prefix: str,
    ) -> Response:
        """One clear answer: a reply, a stream of one, or a refusal. form: of the replies. prefix: of their ids."""
        scope, receive = request.scope, request.receive
        began = self.metrics.now()
        try:
            body = await read_body(scope, receive)
        except Refusal as refusal:
            await discard(scope, receive)
            return _response(refusal)
        except ClientGone:
            return _Nothing()
        try:
            notes_of(scope).request = body.decode("utf-8", "replace")
            wanted, offering, job, deliveries = await self._begun(body, kind, compose, notes_of(scope))
            watcher = asyncio.create_task(_leave_when_gone(receive, deliveries))
            stream = _Stream(deliveries, watcher)
            try:
                growing = GrowingAnswers(
                    job,
                    deliveries,
                    [offering.composer.text() for _ in job.works],
                    [self.metrics.watch(offering.name, began) for _ in job.works],
                )
                replies = form(_head(wanted, offering, job, prefix))
                if not wanted.stream:
                    return await _whole(growing, replies, job, scope)
                parts = growing.parts()
                first = await anext(parts)  # so that what fails before it has its own status
                stream.events = _events(first, parts, growing, replies, job, wanted, scope)
                return stream
            finally:
                if stream.events is None:
                    stream.end()
        except Refusal as refusal:
            return _response(refusal)
        except ClientGone:
            return _Nothing()

    async def _begun(
        self,
        body: bytes,
        kind: type[Body],
        compose: Callable[[RequestComposer, Body], AnswerJob],
        notes: RequestNotes,
    ) -> tuple[Body, Offering, AnswerJob, Deliveries]:
        """The request, what it asks for, and its answers once they are submitted. Raises Refusal."""
        deliveries = Deliveries()

        def submit() -> tuple[Body, Offering, AnswerJob]:
            request = read_request(body, kind)
            offering = self._offering(request.model)
            notes.model = offering.name
            if request.stream_options is not None and not request.stream:
                raise Refusal(400, "stream_options needs stream.", param="stream_options", code="invalid_value")
            job = compose(offering.composer, request)
            try:
                deliveries.submit(offering.owner, job.works)
            except (LastresortError, QueueFull, Draining) as error:
                raise refused(error) from error
            return request, offering, job

        try:
            found = await asyncio.get_running_loop().run_in_executor(self._preparing, submit)
        except BaseException:
            deliveries.cancel()
            raise
        return *found, deliveries


def create_app(service: Service, settings: GuardSettings, log: Log) -> Guard:
    """The server as an ASGI application. log: where lines of the access log go."""
    app = FastAPI(
        title="lastresort",
        version=__version__,
        description="What won a climb, behind the OpenAI API.",
        docs_url=None,
        redoc_url=None,
        openapi_url=OPENAPI,
        redirect_slashes=False,
    )

    @app.post(CHAT, **described(ChatRequest, ChatCompletion))
    async def chat(request: Request) -> Response:
        """Answer a conversation."""
        return await service.respond(request, ChatRequest, RequestComposer.chat, ChatReplies, "chatcmpl")

    @app.post(COMPLETIONS, **described(CompletionRequest, TextCompletion))
    async def completions(request: Request) -> Response:
        """Answer one or more texts."""
        return await service.respond(request, CompletionRequest, RequestComposer.completions, TextReplies, "cmpl")

    @app.get(MODELS, **described(None, ModelList))
    async def models() -> Response:
        """What is served."""
        return _json(ModelList(object="list", data=list(map(service.card, service.offerings))))

    @app.get(f"{MODELS}/{{model}}", **described(None, ModelCard, 404))
    async def model(model: str) -> Response:
        """One of what is served."""
        try:
            return _json(service.card(model))
        except Refusal as refusal:
            return _response(refusal)

    @app.get(HEALTH, **described(None, Health, 503))
    async def health() -> Response:
        """Whether requests are taken."""
        return _json(Health(status="ok")) if service.is_healthy else _response(stopping())

    @app.get(METRICS, **described(None, None))
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.page(), media_type=CONTENT_TYPE)

    async def not_routed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        routes = [route for route in app.routes if isinstance(route, APIRoute)]
        served = ", ".join(f"{method} {route.path}" for route in routes for method in sorted(route.methods or ()))
        found = f"{request.method} {request.url.path[:100]} is not served here. Routes: {served}."
        code = "not_found" if error.status_code == 404 else "method_not_allowed"
        return _response(Refusal(error.status_code, found, code=code, headers=error.headers))

    async def failed(request: Request, error: Exception) -> Response:
        return _response(server_failed())

    app.add_exception_handler(HTTPException, not_routed)
    app.add_exception_handler(Exception, failed)
    describe(app, (ChatRequest, CompletionRequest), has_key=bool(settings.key))
    return Guard(
        app,
        settings,
        metrics=service.metrics,
        log=log,
        is_stopping=lambda: service.is_stopping,
        paths=service.paths,
    )


def _head(request: SamplingRequest, offering: Offering, job: AnswerJob, prefix: str) -> ReplyHead:
    return ReplyHead(
        id=f"{prefix}-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=offering.name,
        fingerprint=offering.composer.fingerprint,
        with_usage=_with_usage(request),
        with_logprobs=job.works[0].top_logprobs is not None,
    )


def _with_usage(request: SamplingRequest) -> bool:
    return request.stream_options is not None and bool(request.stream_options.include_usage)


async def _whole(growing: GrowingAnswers, replies: Replies, job: AnswerJob, scope: Scope) -> Response:
    answers = await growing.whole()
    notes = notes_of(scope)
    notes.usage, notes.answers = growing.usage, [answer.text for answer in answers]
    return _json(with_sources(replies.whole(answers, growing.usage), job.sources))


async def _events(
    first: AnswerPart,
    others: AsyncIterator[AnswerPart],
    growing: GrowingAnswers,
    replies: Replies,
    job: AnswerJob,
    request: SamplingRequest,
    scope: Scope,
) -> AsyncIterator[bytes]:
    """The events of a stream. What fails after its first piece becomes its last event but one."""
    notes = notes_of(scope)
    notes.answers = [""] * len(job.works)
    try:
        is_first = True
        async for chunk in _chunks(first, others, replies, len(job.works), notes.answers):
            yield as_event(with_sources(chunk, job.sources) if is_first else chunk)
            is_first = False
        if _with_usage(request):
            yield as_event(replies.counted(growing.usage))
        notes.usage = growing.usage
    except Refusal as refusal:  # an answer that was cut has counted nothing
        notes.cut = refusal.code or str(refusal.status)
        yield b"data: " + refusal.body + b"\n\n"
    yield DONE


async def _chunks(
    first: AnswerPart, others: AsyncIterator[AnswerPart], replies: Replies, count: int, said: list[str]
) -> AsyncIterator[BaseModel]:
    """said: of each answer, what was sent."""
    for index in range(count):
        if (opening := replies.first(index)) is not None:
            yield opening
    part: AnswerPart | None = first
    while part is not None:
        said[part.index] += part.text
        if part.text or part.tokens:
            yield replies.more(part.index, part.text, part.tokens)
        if part.finish is not None:
            yield replies.last(part.index, part.finish)
        part = await anext(others, None)


async def _leave_when_gone(receive: Receive, deliveries: Deliveries) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    deliveries.leave()


class _Stream(Response):
    """A stream of events. It ends what computes for it, however it ends itself."""

    def __init__(self, deliveries: Deliveries, watcher: asyncio.Task[None]) -> None:
        super().__init__(media_type="text/event-stream")
        self.events: AsyncIterator[bytes] | None = None
        self._deliveries, self._watcher = deliveries, watcher

    def end(self) -> None:
        self._watcher.cancel()
        self._deliveries.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.events is not None
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for event in self.events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            pass
        finally:
            self.end()


class _Nothing(Response):
    """To a client that has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


def _json(reply: BaseModel) -> Response:
    return Response(as_json(reply), media_type="application/json")


def _response(refusal: Refusal) -> Response:
    return Response(refusal.body, refusal.status, dict(refusal.headers), media_type="application/json")
