"""The connection to an endpoint: its client, its faults, limits of bytes, lines and time, and the events of a streamed reply."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lastresort.foreign import MiB
from lastresort.models.calls import TransientFailure
from lastresort.models.endpoint import Endpoint

if TYPE_CHECKING:
    import openai

CONNECT_S = 15.0
REPLY_BYTES = 32 * MiB  # of 40,000 tokens with log-probabilities, 6 MiB
STREAM_BYTES, STREAM_LINES = 128 * MiB, 2**20  # the longest answer of any model, an event of three lines for each token
REPLY_TIMES = 2  # of the time limit of a read: what sends a whole reply begins late and then sends it at once
STREAM_S = 3600.0


def http_library() -> Any:
    """httpx, or its successor in newer versions of the client."""
    import openai

    return import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


def connected(endpoint: Endpoint, key: str, timeout_s: float) -> openai.OpenAI:
    """A client that retries nothing and follows no redirect. key: "" for none."""
    import openai

    here = endpoint.host.is_this_machine
    return openai.OpenAI(
        api_key=key or "none",
        base_url=endpoint.url,
        organization=None if endpoint.is_openai else "",
        project=None if endpoint.is_openai else "",
        timeout=timeouts(timeout_s),
        max_retries=0,
        default_headers={"Accept-Encoding": "identity"},  # a small reply could unpack to gigabytes
        http_client=openai.DefaultHttpxClient(
            follow_redirects=False,
            event_hooks={"response": [bound]},
            trust_env=not here,  # a proxy is another machine
        ),
    )


def timeouts(timeout_s: float) -> openai.Timeout:
    import openai

    return openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))


@contextmanager
def passing_faults(timeout_s: float) -> Iterator[None]:
    """Turns timeouts and connection errors into a TransientFailure."""
    import openai

    http = http_library()
    try:
        yield
    except (openai.APIConnectionError, http.TransportError) as error:  # the latter from within a streamed answer
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        if isinstance(cause, TransientFailure):
            raise cause from None
        unsent = isinstance(cause, http.ConnectError | http.ConnectTimeout | http.PoolTimeout)
        late = isinstance(error, openai.APITimeoutError) or isinstance(cause, http.TimeoutException)
        reason = (
            f"no connection within {CONNECT_S:.0f} seconds"
            if isinstance(cause, http.ConnectTimeout)
            else f"no answer within {timeout_s:.0f} seconds"
            if late
            else f"the connection failed ({type(cause or error).__name__})"
        )
        taken = not unsent and not isinstance(cause, http.WriteTimeout)  # by the server, which then writes
        waited_s = timeout_s if late and taken else None
        raise TransientFailure(reason, maybe_paid=not unsent, waited_s=waited_s) from error


def bound(response: Any) -> None:
    """Limit a reply in bytes and time, and have it read as UTF-8 whatever charset it names: some take for ever."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise TransientFailure(f"the reply is compressed ({encoding[:20]}), which was not asked for")
    streamed = "text/event-stream" in response.headers.get("content-type", "")
    timeout_s = (response.request.extensions.get("timeout") or {}).get("read") or STREAM_S
    limit_s = max(STREAM_S, REPLY_TIMES * timeout_s) if streamed else REPLY_TIMES * timeout_s
    response.encoding = "utf-8"
    response.stream = _bounded(response.stream, STREAM_BYTES if streamed else REPLY_BYTES, limit_s)


def _bounded(stream: Any, most_bytes: int, limit_s: float) -> Any:
    class Bounded(http_library().SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            size, end = 0, time.monotonic() + limit_s
            for part in stream:
                size += len(part)
                if size > most_bytes:
                    raise TransientFailure(f"the reply is larger than {most_bytes // MiB} MiB")
                if time.monotonic() > end:
                    raise TransientFailure(f"no whole answer within {limit_s:.0f} seconds", waited_s=limit_s)
                yield part

        def close(self) -> None:
            stream.close()

    return Bounded()


def events(parts: Iterator[bytes]) -> Iterator[str]:
    """The data of each server-sent event, up to the one that ends the answer. The client's own reader is quadratic."""
    data: list[str] = []
    for line in _lines(parts):
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            event, data = "\n".join(data), []
            if event.startswith("[DONE]"):
                return
            yield event


def _lines(parts: Iterator[bytes]) -> Iterator[str]:
    """The lines, and two empty ones, so that an event without an end counts too."""
    rest: list[bytes] = []
    count = 0
    for part in parts:
        count += part.count(b"\n")
        if count > STREAM_LINES:
            raise TransientFailure(f"the reply has more than {STREAM_LINES:,} lines")
        *whole, last = part.split(b"\n")
        for line in whole:
            yield b"".join((*rest, line)).decode("utf-8", "replace").removesuffix("\r")
            rest = []
        rest.append(last)
    yield from (b"".join(rest).decode("utf-8", "replace"), "")
