"""The border of the page: which requests are its own, how much they may send, and what a browser may do with its answers."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.exceptions import HTTPException

from lastresort.foreign import MiB
from lastresort.serve.guard import names_this_machine, only_value

LARGEST_UPLOAD = 256 * MiB  # a file: a data set of a few million rows
LARGEST_BODY = LARGEST_UPLOAD + MiB  # that sends one: with its borders and other fields
LARGEST_FORM = 4 * MiB  # whatever is no upload is kept in memory
COOKIE, CSRF_HEADER, LINK_KEY = "lastresort", "x-csrf", "token"
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; img-src 'self'"
)
# A report is one file with its styles in it. The sandbox keeps it from acting as the page.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
_ELSEWHERE = "The request comes from another page."
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PageSecrets:
    """token: what the link to the page carries, "" where only this machine reaches it. csrf: what each request that changes
    something carries, and a page elsewhere cannot know.
    """

    token: str = ""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def are_in(self, header: bytes) -> bool:
        """Whether this value of CSRF_HEADER is the page's own: htmx sends it with every request."""
        return hmac.compare_digest(header, self.csrf.encode())


def _too_large(most: int) -> HTTPException:
    """Whoever reads the body lets this one pass, and the site draws it."""
    shown = LARGEST_UPLOAD if most == LARGEST_BODY else most
    return HTTPException(413, f"The upload is larger than {shown // MiB} MiB. Use the command line.")


class PageGuard:
    """Around the site, as an ASGI application."""

    def __init__(self, app: App, known: PageSecrets) -> None:
        self._app, self._secrets = app, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if not self._secrets.token and not names_this_machine(only_value(headers, b"host")):
            await _answer(send, 400, "The Host header does not name this machine.")
        elif _comes_from_elsewhere(scope["method"], headers):
            await _answer(send, 403, _ELSEWHERE)
        elif self._secrets.token and not self._has_cookie(scope):
            await self._admit(scope, send)
        elif scope["method"] not in ("GET", "HEAD") and (refusal := self._refused(headers)):
            await _answer(send, 403, refusal)
        else:
            await self._pass(scope, receive, send)

    def _has_cookie(self, scope: Scope) -> bool:
        """Other programs of this host set cookies here too, of any form: none of them may hide the page's own."""
        own = f"{_cookie_of(scope)}={self._secrets.token}".encode()
        given = only_value(scope["headers"], b"cookie").split(b";")
        return any(hmac.compare_digest(one.strip(), own) for one in given)

    async def _admit(self, scope: Scope, send: Send) -> None:
        """Who opens the link gets a cookie in place of the token, which then stands in no address."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.pop(LINK_KEY, [""])[0]
        if scope["method"] != "GET" or not hmac.compare_digest(given.encode(), self._secrets.token.encode()):
            await _answer(send, 401, "Open the link that `lastresort ui` printed: it carries the token of this page.")
            return
        rest = urlencode(query, doseq=True)
        # A browser takes "//host", and "/\\host", for the address of another machine.
        path = quote(scope["path"]) if not scope["path"].startswith("//") else "/"
        cookie = f"{_cookie_of(scope)}={self._secrets.token}; HttpOnly; SameSite=Strict; Path=/"
        await _answer(send, 303, "", {"location": f"{path}?{rest}" if rest else path, "set-cookie": cookie})

    def _refused(self, headers: list[tuple[bytes, bytes]]) -> str:
        """Why a request that changes something is refused, "" if it is not."""
        origin, host = only_value(headers, b"origin"), only_value(headers, b"host")
        if origin and origin.partition(b"://")[2] != host:
            return _ELSEWHERE
        if only_value(headers, b"sec-fetch-site") not in (b"", b"same-origin"):
            return _ELSEWHERE
        if not self._secrets.are_in(only_value(headers, CSRF_HEADER.encode())):
            return "lastresort was restarted after this page was opened. Reload the page."
        return ""

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_upload = only_value(scope["headers"], b"content-type").startswith(b"multipart/form-data")
        size, most = 0, LARGEST_BODY if is_upload else LARGEST_FORM

        async def received() -> Event:
            nonlocal size
            event = await receive()
            size += len(event.get("body", b""))
            if size > most:
                raise _too_large(most)
            return event

        async def sent(event: Event) -> None:
            if event["type"] == "http.response.start":
                given = {name.lower() for name, _ in event["headers"]}
                added = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in given]
                event["headers"] = [*event["headers"], *added]
            await send(event)

        length = only_value(scope["headers"], b"content-length")
        if length.isdigit() and int(length[:20]) > most:
            await _answer(send, 413, _too_large(most).detail)
        else:
            await self._app(scope, received, sent)


def _cookie_of(scope: Scope) -> str:
    """Browsers send a cookie to every port of a machine: each page has a name of its own."""
    return f"{COOKIE}-{scope['server'][1]}"


def _comes_from_elsewhere(method: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """By what a browser says of a request: another site may lead its reader here by a link, and do nothing else."""
    if only_value(headers, b"sec-fetch-site") not in (b"cross-site", b"same-site"):
        return False
    how = only_value(headers, b"sec-fetch-mode"), only_value(headers, b"sec-fetch-dest")
    return method != "GET" or how != (b"navigate", b"document")


async def _answer(send: Send, status: int, text: str, more: dict[str, str] | None = None) -> None:
    body = text.encode()
    headers = {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(body)),
        **_HEADERS,
        **(more or {}),
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
