"""uvicorn with bounds: connections, the time of a header, the patience with slow readers, and an end that finishes what runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import h11
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from lastresort.errors import InputError
from lastresort.serve.guard import LARGEST_HEADER, Guard
from lastresort.serve.refusals import Refusal
from lastresort.stop import Stop

HEADER_S = 10.0
IDLE_S = 60  # of a connection between two requests; longer than clients keep one
UNWANTED_S = 5.0  # for what a client still sends of a request that was answered without it
UNREAD_S = 30.0  # how long a client may leave a full buffer as it is
MOST_CONNECTIONS = 768  # the usual limit is 1,024 open files, and others are needed, too
LAST_REPLIES_S = 3  # to send what has been answered, once all has


@contextlib.contextmanager
def bound(host: str, port: int, check: Callable[[str], None] = lambda address: None) -> Iterator[socket.socket]:
    """A socket that is bound and does not listen yet. check: given the address that the host's name leads to, may raise.

    Raises InputError for an address that cannot be used.
    """
    where = f"--host {host} --port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(f"found no such address ({error})", where=where, remedy="Correct the host.") from None
    with contextlib.closing(listening):
        check(str(address[0]))
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(f"cannot be bound ({reason})", where=where, remedy="Take another --port.") from None
        yield listening


def address_of(listening: socket.socket) -> str:
    """As it is written in a URL."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class BoundedProtocol(H11Protocol):
    """One connection. uvicorn waits for ever for the end of a header, and for a client to read."""

    _header: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            again = {"retry-after": "1"}
            self._answer_with(Refusal(503, "Too many connections.", code="too_many_connections", headers=again))
            self._close()  # at once: there are too many
            return
        self._header = self.loop.call_later(HEADER_S, self._header_is_late)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._refused:
            return
        super().data_received(data)
        self._watch_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_header()
        self._forget_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._forget_unread()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._end_unread()
        elif self.conn.their_state is h11.SEND_BODY:  # as after a GET with a body: it could send for ever
            self.loop.call_later(UNWANTED_S, self._unwanted_is_late)
        elif self.conn.trailing_data[0]:  # the next request came before its turn
            self._watch_header()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._end_unread()

    def send_400_response(self, msg: str) -> None:
        self._end_with(Refusal(400, msg, code="invalid_http"))

    def _end_unread(self) -> None:
        """Closing waits until all is read, which may be never."""
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def _watch_header(self) -> None:
        """Of the request that has begun, if it has no end yet."""
        if self.conn.their_state is not h11.IDLE:
            self._forget_header()
        elif self._header is None:
            self._header = self.loop.call_later(HEADER_S, self._header_is_late)

    def _forget_header(self) -> None:
        if self._header is not None:
            self._header.cancel()
            self._header = None

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _header_is_late(self) -> None:
        if self.conn.trailing_data[0]:
            self._end_with(Refusal(408, f"The header took more than {HEADER_S:.0f} s.", code="too_slow"))
        else:
            self.transport.close()

    def _unwanted_is_late(self) -> None:
        """Its next request may have begun meanwhile, and has a limit of its own."""
        if self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            self._close()

    def _end_with(self, refusal: Refusal) -> None:
        """Without a request that it belongs to. What the client still sends is read and dropped for a while: to close on it would
        reset the connection, and the client might lose the answer.
        """
        self._refused = True
        self._answer_with(refusal)
        self.transport.write_eof()
        if self.cycle is not None and not self.cycle.response_complete:  # nothing may be written for it any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.loop.call_later(UNWANTED_S, self._close)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._end_unread()

    def _answer_with(self, refusal: Refusal) -> None:
        body = refusal.body
        headers = {"content-type": "application/json", "content-length": len(body), **refusal.headers}
        lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)


class DrainingServer(Server):
    """Ends when `stop` asks: `drain` finishes what runs, in a thread, while new requests still get an answer."""

    def __init__(self, app: Guard, *, stop: Stop, drain: Callable[[], object], on_ready: Callable[[], None]) -> None:
        super().__init__(_config(app))
        self._stop, self._drain, self._on_ready = stop, drain, on_ready
        self._draining, self._drained = False, threading.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's, who has them ask through `stop`."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if not self._draining and self._stop.requested() is not None:
            self._draining = True
            threading.Thread(target=self._finish, daemon=True).start()  # a daemon: a second signal waits for nothing
        self.should_exit = self.should_exit or self._drained.is_set()
        return await super().on_tick(counter)

    def _finish(self) -> None:
        try:
            self._drain()
        finally:
            self._drained.set()


def _config(app: Guard) -> Config:
    return Config(
        app,
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=LAST_REPLIES_S,
        h11_max_incomplete_event_size=LARGEST_HEADER,
    )
