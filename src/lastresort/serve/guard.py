"""The border of the server: who may ask, how much and for how long, and one clear answer to each request, whatever fails inside."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lastresort.foreign import MiB
from lastresort.serve.deliveries import ClientGone
from lastresort.serve.metrics import Metrics
from lastresort.serve.refusals import Refusal, server_failed, stopping
from lastresort.serve.schema import Usage

LARGEST_BODY = MiB  # more text than any context holds
LARGEST_HEADER = 2**15
BODY_S = 30.0
MOST_OPEN = 512  # requests at once, waiting ones included
_DISCARDED = 16 * MiB  # of a body that is refused: who still sends does not read the answer
_LONGEST_KIND = 60  # of a Content-Type that is shown
_OPEN_TO_ALL = "/health"
CLIENT_GONE = 499  # what proxies write in their logs for a response that had no reader to its end

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Log = Callable[[str], None]


@dataclass(slots=True)
class RequestNotes:
    """What the access log says of a request besides its status. model: "" as long as none was found. cut: where a stream ended with
    an error, which one; its status was sent before. request, answers: their contents, for --log-bodies.
    """

    model: str = ""
    usage: Usage | None = None
    cut: str = ""
    request: str = ""
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """key: what each request must carry, "" for none: then only requests that name this machine in their Host are answered."""

    key: str = ""
    log_bodies: bool = False


class Guard:
    """Around the routes, as an ASGI application."""

    def __init__(
        self,
        app: App,
        settings: GuardSettings,
        *,
        metrics: Metrics,
        log: Log,
        is_stopping: Callable[[], bool],
        paths: frozenset[str],
    ) -> None:
        self._app, self._settings, self._metrics, self._log = app, settings, metrics, log
        self._is_stopping, self._paths = is_stopping, paths
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status, complete = time.perf_counter(), 0, False
        notes = scope["notes"] = RequestNotes()

        async def sent(event: Event) -> None:
            nonlocal status, complete
            if event["type"] == "http.response.start":
                status = event["status"]
            complete = event["type"] == "http.response.body" and not event.get("more_body", False)
            await send(event)

        self._open += 1
        try:
            await self._answered(scope, receive, sent)
        except Refusal as refusal:
            await discard(scope, receive)
            await send_refusal(refusal, sent)
        except Exception:  # noqa: BLE001  the border: our fault; uvicorn closes the connection of a response that has no end
            self._log(traceback.format_exc().rstrip())
            if not status:
                await send_refusal(server_failed(), sent)
        finally:
            self._open -= 1
            status = status if complete else CLIENT_GONE
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.responded(notes.model, path, status)
            self._write_line(scope, status, time.perf_counter() - began, notes)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        target = len(scope["raw_path"]) + len(scope["query_string"])
        if target + sum(len(name) + len(value) for name, value in headers) > LARGEST_HEADER:
            message = f"The header is larger than {LARGEST_HEADER // 1024} KiB."
            raise Refusal(431, message, code="header_too_large", closes=True)
        if not self._settings.key and not names_this_machine(only_value(headers, b"host")):
            message = (
                "The Host header does not name this machine. To be reached by other names, set LASTRESORT_SERVE_KEY."
            )
            raise Refusal(400, message, code="invalid_host", closes=True)
        if self._settings.key and scope["path"] != _OPEN_TO_ALL and not self._has_key(headers):
            asked = {"www-authenticate": "Bearer"}
            raise Refusal(401, "The key is missing or wrong.", code="invalid_api_key", headers=asked, closes=True)
        if self._is_stopping() and scope["method"] == "POST":
            raise stopping()
        if self._open > MOST_OPEN and scope["method"] == "POST":  # the others take no time, and say how it is
            again = {"retry-after": "1"}
            raise Refusal(429, "Too many requests at once.", code="too_many_requests", headers=again, closes=True)
        await self._app(scope, receive, send)

    def _has_key(self, headers: list[tuple[bytes, bytes]]) -> bool:
        kind, _, given = only_value(headers, b"authorization").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._settings.key.encode())

    def _write_line(self, scope: Scope, status: int, seconds: float, notes: RequestNotes) -> None:
        at, path = time.strftime("%Y-%m-%dT%H:%M:%S"), _one_line(scope["path"][:100])
        usage = notes.usage
        model = f" {notes.model}" if notes.model else ""
        tokens = f" {usage.prompt_tokens}+{usage.completion_tokens} tokens" if usage is not None else ""
        cut = f" cut: {notes.cut}" if notes.cut else ""
        self._log(f"{at} {scope['method']} {path} {status} {seconds:.3f}s{model}{tokens}{cut}")
        if self._settings.log_bodies and notes.request:
            self._log(f"  request: {_one_line(notes.request)}")
            for answer in notes.answers:
                self._log(f"  answer: {_one_line(answer)}")


def _one_line(text: str) -> str:
    """So that nobody can write a line of the log that is not ours."""
    return "\\n".join(text.splitlines())


def notes_of(scope: Scope) -> RequestNotes:
    notes: RequestNotes = scope["notes"]
    return notes


def only_value(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The value of a header that comes once, else nothing."""
    found = [value for key, value in headers if key == name]
    return found[0] if len(found) == 1 else b""


def is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def names_this_machine(host: bytes) -> bool:
    """A page on the web can give its own name this machine's address, but cannot change the Host that its requests carry."""
    try:
        return is_loopback(urlsplit(f"//{host.decode('ascii')}").hostname or "")
    except ValueError:
        return False


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Raises Refusal for what is no JSON by its type, too large or too slow, ClientGone where the client went before its end."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    kind = only_value(headers, b"content-type").partition(b";")[0].strip().lower()
    if kind != b"application/json":  # a page elsewhere can send any other without permission
        found = f'"{kind[:_LONGEST_KIND].decode("latin-1")}"' if kind else "none, or several"
        said = f"Content-Type: found {found}, expected application/json. Send that header."
        raise Refusal(415, said, code="invalid_content_type", closes=True)
    length = only_value(headers, b"content-length")
    if length.isdigit() and int(length[:20]) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ClientGone
                body += event.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise _too_large()
                if not event.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        message = f"The body took more than {BODY_S:.0f} s."
        raise Refusal(408, message, code="too_slow", closes=True) from None


def _too_large() -> Refusal:
    message = f"The body is larger than {LARGEST_BODY // MiB} MiB."
    return Refusal(413, message, code="body_too_large", closes=True)


async def discard(scope: Scope, receive: Receive) -> None:
    """What a client still sends of a body that is refused. A connection that ends before it is read may lose the answer."""
    if only_value(scope["headers"], b"expect"):  # it waits for leave to send
        return
    size = 0
    try:
        async with asyncio.timeout(1.0):
            while size <= _DISCARDED:
                event = await receive()
                size += len(event.get("body", b""))
                if event["type"] == "http.disconnect" or not event.get("more_body", False):
                    return
    except TimeoutError:
        return


async def send_refusal(refusal: Refusal, send: Send) -> None:
    body = refusal.body
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": False})
