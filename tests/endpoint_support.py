"""A server on loopback that follows a script of good and bad replies, and a client of it that does not wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler
from typing import Any

from lastresort.models.api.model import ApiModel
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import parse_endpoint
from lastresort.types import Decoding, Message
from loopback import LoopbackServer

DECODING = Decoding(max_new_tokens=16, stop=("END",), seed=3)
KEY = "sk-a-key-that-must-not-be-seen"

Step = Callable[["Handler", dict[str, Any]], None]


def completion(text: str | None, finish: str | None = "stop", usage: dict[str, int] | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    body: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return body if usage is None else {**body, "usage": usage}


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        self.send(200, {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "somebody"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.headers.append(self.headers)
            step = self.server.script.pop(0) if self.server.script else self.server.otherwise
        step(self, request)

    def send(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", headers.pop("length", str(len(data))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Endpoint(LoopbackServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Step] = []
        self.otherwise: Step = echo
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Headers] = []
        self.lock = threading.Lock()

    @property
    def name(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1#m"

    def handle_error(self, *_: object) -> None:
        """A client that hung up is what several of these tests are about."""


def echo(handler: Handler, request: dict[str, Any]) -> None:
    text = request["messages"][-1]["content"]
    whole = completion(f"<{text}>", usage={"prompt_tokens": 7, "completion_tokens": 2})
    handler.send(200, {**whole, "model": request["model"]})


def status(
    code: int, message: str = "no", error_code: str | None = None, param: str | None = None, **headers: str
) -> Step:
    body = {"error": {"message": message, "code": error_code, "type": "t", "param": param}}
    return lambda handler, _: handler.send(code, body, **headers)


def refuses(*names: str) -> Step:
    """A model that refuses each of these parameters by its name, and answers where none is sent."""

    def step(handler: Handler, request: dict[str, Any]) -> None:
        for name in names:
            if name in request:
                said = f"Unsupported parameter: '{name}' is not supported with this model."
                return status(400, said, "unsupported_parameter", name)(handler, request)
        return echo(handler, request)

    return step


def raw(body: bytes) -> Step:
    return lambda handler, _: handler.send(200, body)


def reply(body: Any) -> Step:
    return lambda handler, _: handler.send(200, body)


def cut_mid_body(handler: Handler, _: dict[str, Any]) -> None:
    handler.send(200, b'{"choices": [', length="5000")
    handler.connection.close()


def hang_up(handler: Handler, _: dict[str, Any]) -> None:
    handler.connection.close()


@contextmanager
def serving() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.shutdown()
        endpoint.server_close()
        thread.join()


class Waits(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def model(server: Endpoint, sleep: Callable[[float], object] | None = None, **how: Any) -> ApiModel:
    settings: dict[str, Any] = {"concurrency": 1, "timeout_s": 10.0, "patience": RetryPolicy(attempts=4), **how}
    return ApiModel(parse_endpoint(server.name), sleep=sleep if sleep is not None else Waits(), **settings)


def ask(*texts: str) -> list[tuple[Message, ...]]:
    return [(Message("system", "be brief"), Message("user", text)) for text in texts]


def piece(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def events(*pieces: Any, done: bool = True) -> Step:
    """An answer that is streamed. done: whether it comes to its end, or the connection is cut."""
    body = "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in pieces)
    body += "data: [DONE]\n\n" if done else ""

    def step(handler: Handler, _: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", str(len(body.encode()) + (0 if done else 100)))
        handler.end_headers()
        handler.wfile.write(body.encode())
        if not done:
            handler.connection.close()

    return step
