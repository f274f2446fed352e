"""`lastresort serve --upstream`: what the other server is asked at the start, and what it gets with each request."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.keys import SERVE_KEY
from lastresort.serve.opening import ServeRequest
from lastresort.systems.files import save_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding
from loopback import LoopbackServer
from serve_support import serving, user

LLAMA_CPP = {"repeat_penalty": 1, "top_k": 0, "min_p": 0}


@dataclass
class Other:
    """A server. listed: names and owners of its models, a status where it has no list. refuses: keys that it answers with a 422.
    knows: models that it answers as, None for any.
    """

    listed: Sequence[tuple[str, str]] | int = (("m", "somebody"),)
    refuses: tuple[str, ...] = ()
    knows: tuple[str, ...] | None = None
    url: str = ""
    got: list[dict[str, Any]] = field(default_factory=list)

    def reply(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.knows is not None and request["model"] not in self.knows:
            return 404, {"error": {"message": "no such model", "code": "model_not_found"}}
        if unknown := [key for key in self.refuses if key in request]:
            return 422, {"error": {"message": f"Unexpected keys in the request: {unknown}"}}
        choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
        return 200, {"id": "1", "object": "chat.completion", "model": request["model"], "choices": [choice]}

    def models(self) -> tuple[int, dict[str, Any]]:
        if isinstance(self.listed, int):
            return self.listed, {"detail": "no such route"}
        return 200, {"object": "list", "data": [{"id": name, "owned_by": owner} for name, owner in self.listed]}

    @contextmanager
    def running(self) -> Iterator[Other]:
        other = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(*other.models())

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                other.got.append(request)
                status, reply = other.reply(request)
                if status == 200 and request.get("stream"):
                    delta = {"role": "assistant", "content": "fine"}
                    part = {"index": 0, "delta": delta, "finish_reason": "stop"}
                    self._sent(200, "text/event-stream", f"data: {json.dumps({**reply, 'choices': [part]})}\n\n")
                else:
                    self._send(status, reply)

            def _send(self, status: int, reply: dict[str, Any]) -> None:
                self._sent(status, "application/json", json.dumps(reply))

            def _sent(self, status: int, kind: str, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None: ...

        server = LoopbackServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVE_KEY, raising=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    prompt = System("zero-shot", "scripted:answers.json", PromptDesign("Route the ticket."), Decoding(24))
    save_system(prompt, tmp_path / "winner")
    return tmp_path


def proxied(run: Path, other: Other, **more: Any) -> dict[str, Any]:
    """What the other server gets of one request, by a proxy that asks for the model m."""
    with serving(ServeRequest(run, upstream=other.url, model="m")) as (found, _):
        other.got.clear()
        body = {"model": "winner", "messages": user("late"), **more}
        reply = httpx.post(f"{found.url}/chat/completions", json=body, timeout=60)
        assert reply.status_code == 200
    [request] = other.got
    assert [turn["content"] for turn in request["messages"]] == ["Route the ticket.", "late"]
    return request


@pytest.mark.sampled(2)
@pytest.mark.parametrize("owner", ["llamacpp", "me"])
def test_llama_cpp_is_told_to_put_its_own_defaults_aside(run: Path, owner: str) -> None:
    with Other(listed=[("m", owner)]).running() as other:
        request = proxied(run, other)
        assert {key: request[key] for key in LLAMA_CPP} == LLAMA_CPP
        assert (request["temperature"], request["max_tokens"]) == (0, 24)
        assert proxied(run, other, top_k=5, stream=True)["top_k"] == 5


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    "listed", [[("m", "local")], [("m", "vllm")], 404, 405, 501, [], [("m", "me"), ("n", "somebody")]], ids=str
)
def test_a_server_that_may_be_another_gets_no_key_that_it_may_not_know(
    run: Path, listed: Sequence[tuple[str, str]] | int
) -> None:
    with Other(listed=listed).running() as other:
        assert not set(LLAMA_CPP) & set(proxied(run, other))


@pytest.mark.slow
def test_a_server_that_only_says_that_it_is_llama_cpp_does_not_get_what_it_refuses(run: Path) -> None:
    with Other(listed=[("m", "me")], refuses=("repeat_penalty",)).running() as other:
        assert not set(LLAMA_CPP) & set(proxied(run, other))


@pytest.mark.slow
def test_a_model_that_is_not_in_the_list_is_served_where_the_server_answers_as_it(run: Path) -> None:
    """Such as an adapter of SGLang, or any name that llama.cpp is asked for."""
    with Other(listed=[("base", "sglang")], knows=("base", "m")).running() as other:
        assert proxied(run, other)["model"] == "m"


def refused(
    run: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    words = [str(run), "--port", "0", "--upstream", url, "--model", "tikets"]
    monkeypatch.setattr(sys, "argv", ["lastresort", "serve", *words])
    code = guarded(app)
    out, error = capsys.readouterr()
    assert out == ""
    return code, error.removeprefix("opening the winner ...\n")


def test_a_wrong_model_is_said_at_the_start(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Other(listed=[("tickets", "vllm"), ("base", "vllm")], knows=("tickets", "base")).running() as other:
        code, error = refused(run, other.url, monkeypatch, capsys)
        assert [request["max_tokens"] for request in other.got] == [1]
    assert code == 2
    assert error == (
        f'Error: {other.url}: the server does not answer as "tikets" (the server does not know this model or address '
        "(404: no such model)), expected one of its models: tickets or base. Name one with --model.\n"
    )


@pytest.mark.slow
def test_a_server_that_is_not_there_is_said_at_the_start(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Other().running() as other:
        pass
    code, error = refused(run, other.url, monkeypatch, capsys)
    assert code == 4
    assert error.startswith(f"Error: {other.url}: the connection failed")
    assert "Start the server, or correct the address" in error
    assert error.count("\n") == 1
    code, error = refused(run, "localhost:1", monkeypatch, capsys)
    assert (code, "--upstream" in error, "http://" in error) == (2, True, True)
