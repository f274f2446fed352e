"""Clients and models that misbehave: nothing hangs, nothing leaks, and each request that can be answered gets one clear answer."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import openai
import pytest

from lastresort.errors import CandidateError, InfrastructureError, TooLongError
from lastresort.models.scripted import Script
from lastresort.serve import deliveries, guard, transport
from lastresort.systems.files import save_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding
from models_support import save_tiny
from serve_support import Served, WordOwner, answerer, events, served, user

SOON_S = 60.0  # a limit for what hangs, never waited for
CHAT = "/v1/chat/completions"
TALK = {"model": "winner", "messages": user("talk"), "stream": True}
STATUSES = {400, 404, 405, 408, 411, 413, 415, 422, 431}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def is_idle(server: Served) -> bool:
    load = server.owner.load
    return bool(load.running == load.waiting == 0)


def request(body: Any, *headers: str, path: str = CHAT) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps({"model": "winner", **body}).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    lines += [f"Content-Length: {len(data)}"] * all("content-length" not in line.lower() for line in headers)
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


def only_reply(data: bytes) -> tuple[int, Any]:
    """Status and JSON of what must be exactly one response."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert data.count(b"HTTP/1.1 ") == 1, data[:500]
    assert f"content-length: {len(body)}".encode() in head.lower()
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
def held() -> Iterator[Served]:
    """A server that makes no step until its owner's `steps` is set."""
    answering = answerer()
    owner = WordOwner(answering.model, slots=2, queue=2)
    owner.steps.clear()
    with served(answering, owner) as server:
        yield server
        owner.steps.set()


def begun(server: Served, body: Any) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=SOON_S)
    connection.sendall(request(body))
    return connection


def test_a_client_that_cuts_the_connection_frees_its_slot_at_once(held: Served) -> None:
    for body in (TALK, {**TALK, "stream": False}):
        connection = begun(held, body)
        until(lambda: held.owner.load.running == 1)
        connection.close()
        until(lambda: is_idle(held))
    assert held.owner.cancelled == 2
    held.owner.steps.set()
    assert held.chat().status_code == 200


def test_a_client_that_cuts_in_mid_stream_frees_its_slot_at_once() -> None:
    answering = answerer(Script(default="word " * 3000))
    with served(answering, WordOwner(answering.model, step_s=0.01)) as server:
        for _ in range(3):
            with server.client() as asking, asking.stream("POST", CHAT, json=TALK) as stream:
                lines = stream.iter_lines()
                assert [next(lines)[:5] for _ in range(6)].count("data:") == 3
                assert server.owner.load.running == 1
            until(lambda: is_idle(server))
        assert server.owner.cancelled == 3


@pytest.mark.slow
def test_a_reader_that_does_not_read_holds_no_slot_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = answerer(Script(default="word " * 40_000), decoding=Decoding(10**6))

    def not_reading(server: Served) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request(TALK))
        return connection

    with served(answering) as server:
        with not_reading(server):
            until(lambda: server.owner.log != [])
            until(lambda: is_idle(server))  # computed to its end, though nobody reads
            assert server.owner.cancelled == 0
            assert server.lines == []
        until(lambda: len(server.lines) == 1)
        monkeypatch.setattr(transport, "UNREAD_S", 0.2)
        with not_reading(server):
            until(lambda: len(server.lines) == 2)
            until(lambda: is_idle(server))
    assert [line.split()[3] for line in server.lines] == ["499", "499"]


def test_a_full_queue_refuses_and_says_when_to_try_again(held: Served) -> None:
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(held.chat) for _ in range(4)]
        until(lambda: held.owner.load.running == 2 and held.owner.load.waiting == 2)
        refused = held.chat()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
        assert refused.json()["error"] == {
            "message": "All slots are taken and the queue is full.",
            "type": "rate_limit_error",
            "param": None,
            "code": "queue_full",
        }
        with pytest.raises(openai.RateLimitError):
            openai.OpenAI(base_url=f"{held.url}/v1", api_key="none", max_retries=0).chat.completions.create(
                model="winner",
                messages=user("a"),  # type: ignore[arg-type]
            )
        held.owner.steps.set()
        assert [one.result().status_code for one in waiting] == [200] * 4


def test_answers_of_a_request_that_does_not_fit_as_a_whole_are_not_computed(held: Served) -> None:
    refused = held.chat(n=5)
    assert refused.status_code == 429
    until(lambda: is_idle(held))


def test_too_many_requests_at_once_are_refused(held: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_OPEN", 2)
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(held.chat) for _ in range(2)]
        until(lambda: held.owner.load.running == 2)
        refused = held.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
        with held.client() as probe:  # whoever watches the server must not take it for dead
            assert [probe.get(path).status_code for path in ("/health", "/metrics")] == [200, 200]
        held.owner.steps.set()
        assert [one.result().status_code for one in waiting] == [200] * 2


def test_too_many_connections_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_CONNECTIONS", 3)
    with served() as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=SOON_S) for _ in range(3)]
        status, body = only_reply(server.send(b""))
        assert (status, body["error"]["code"]) == (503, "too_many_connections")
        for connection in idle:
            connection.close()
        until(lambda: b" 200 OK" in server.send(request({"messages": user("a")})))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InfrastructureError("the endpoint is down"), 503, "model_unavailable"),
        (TooLongError("too long"), 400, "context_length_exceeded"),
        (CandidateError("the server does not support this response format"), 422, "unsupported_request"),
        (ValueError("a secret of the machine"), 500, "model_failed"),
    ],
)
def test_a_model_that_raises_gives_one_clear_answer(error: Exception, status: int, code: str) -> None:
    answering = answerer()
    with served(answering, WordOwner(answering.model, fails={0: error})) as server:
        for stream in (False, True):
            refused = server.chat("talk", stream=stream)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
            assert "secret" not in refused.text
        assert refused.headers.get("retry-after") == ("5" if status == 503 else None)
        assert is_idle(server)


def test_a_model_that_raises_in_mid_stream_ends_the_stream_with_the_error() -> None:
    answering = answerer()
    owner = WordOwner(answering.model, fails={3: InfrastructureError("the endpoint is down")})
    with served(answering, owner) as server:
        assert server.chat("talk").status_code == 503
        *chunks, error, done = events(server.chat("talk", stream=True, stream_options={"include_usage": True}).text)
        assert done == "[DONE]"
        assert json.loads(error)["error"]["code"] == "model_unavailable"
        assert "".join(json.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks) == "word0 word1 word2"
        with pytest.raises(openai.APIError, match="the endpoint is down"):
            list(
                openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0).chat.completions.create(
                    model="winner", messages=user("talk"), stream=True
                )  # type: ignore[call-overload]
            )
        two = server.chat("talk", stream=True, n=2)
        assert events(two.text)[-1] == "[DONE]"
        until(lambda: is_idle(server))
    cut = r"\S+ POST /v1/chat/completions 200 \d+\.\d+s winner cut: model_unavailable"
    assert any(re.fullmatch(cut, line) for line in server.lines)


def test_a_fault_of_our_own_is_one_answer_without_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as server:
        monkeypatch.setattr(deliveries.Deliveries, "submit", lambda *_: 1 / 0)
        refused = server.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "server_failed")
        assert "ZeroDivisionError" not in refused.text
    assert any("ZeroDivisionError" in line for line in server.lines)


SCHEMAS = ({"type": "object"}, {"$ref": "#"}, {"enum": list(range(500))}, {"pattern": "(a+)+$"}, {"anyOf": [{}] * 50})


def fuzzed(random: Random) -> bytes:
    """A body that once was a request."""
    body: dict[str, Any] = {
        "model": "winner",
        "messages": [
            {"role": random.choice(["user", "system", "tool", 3]), "content": random.choice(["a", [], None, "é" * 99])}
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": random.choice(SCHEMAS)}},
    }
    keys = ("n", "stop", "seed", "temperature", "tools", "stream", "max_tokens", "model", "user", "logprobs", "x")
    values = (None, 0, -1, 1e308, 10**30, "", "a", [], [[]], {}, {"a": {}}, True, "\ud800", "\0")
    body |= {random.choice(keys): random.choice(values) for _ in range(random.randrange(4))}
    data = bytearray(json.dumps(body).encode())
    for _ in range(random.randrange(4)):
        data[random.randrange(len(data))] = random.randrange(256)
    if random.random() < 0.3:
        del data[random.randrange(len(data)) :]
    return bytes(data)


def malformed(random: Random) -> bytes:
    return random.choice(
        [
            random.randbytes(200) + b"\r\n\r\n",
            b"POST " + CHAT.encode() + b" HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
            request(b"", "Transfer-Encoding: chunked", "X-Content-Length: 0") + b"zz\r\n\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            request({"messages": user("a")}).replace(b"application/json", b"text/plain"),
            request({"messages": user("a")}).replace(b"localhost", b"evil.example"),
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
        ]
    )


def oversized(random: Random) -> bytes:
    size = guard.LARGEST_BODY + random.choice([1, 1000, guard.LARGEST_BODY])
    if random.random() < 0.3:
        return request(b"", f"Content-Length: {10**12}")
    if random.random() < 0.5:
        return request(b" " * size)
    chunk = b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    return request(b"", "Transfer-Encoding: chunked", "X-Content-Length: 0") + chunk


def slow(random: Random) -> bytes:
    """Never ends: a header, or a body."""
    whole = request({"messages": user("late parcel")})
    head = whole.index(b"\r\n\r\n")
    return whole[: random.choice([5, head, head + 2, head + 4, head + 20, len(whole) - 1])]


def truncated(server: Served, random: Random) -> None:
    """Cut by the client, which wants no answer."""
    whole = request({"messages": user("late parcel"), "stream": random.random() < 0.5})
    server.send(whole[: random.randrange(1, len(whole) + 1)], read=False)


def try_one(server: Served, kind: str, random: Random) -> int:
    """The status of the one answer to a request of this kind, 0 where none is wanted."""
    if kind == "truncated":
        truncated(server, random)
        return 0
    if kind == "fuzzed":
        reply = server.send(request(fuzzed(random)))
        status = int(reply.split()[1])
        assert status in {200, *STATUSES}, reply[:300]
        return status
    data = {"malformed": malformed, "oversized": oversized, "slow": slow}[kind](random)
    reply = server.send(data)
    if data.startswith(b"HEAD"):
        return int(reply.split()[1])
    status, body = only_reply(reply)
    assert status in STATUSES, reply[:300]
    assert body["error"]["message"]
    return status


KINDS = ("malformed", "oversized", "fuzzed", "truncated", "slow")


def try_many(count: int, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """So many bad requests from 16 clients, between good ones. Returns the statuses."""
    monkeypatch.setattr(transport, "HEADER_S", 0.3)
    monkeypatch.setattr(guard, "BODY_S", 0.3)
    with served() as server:
        assert server.chat().status_code == 200
        before = threading.active_count()

        def one(number: int) -> int:
            if number % 10 == 0:
                assert server.chat().json()["choices"][0]["message"]["content"] == "shipping"
            return try_one(server, KINDS[number % len(KINDS)], Random(number))

        with ThreadPoolExecutor(16) as clients:
            statuses = Counter(clients.map(one, range(count)))
        until(lambda: is_idle(server))
        assert threading.active_count() <= before
        assert server.chat().status_code == 200
    return statuses


@pytest.mark.slow
def test_a_hundred_bad_requests_get_one_clear_answer_each(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = try_many(100, monkeypatch)
    assert set(statuses) >= {0, 400, 408, 413}


def test_a_client_that_still_sends_gets_the_refusal_and_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that closes on what it has not read resets the connection, which can cost the client the answer."""
    monkeypatch.setattr(transport, "UNWANTED_S", 2.0)
    with served() as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /" + b"a" * 8_000_000)  # the server answers long before its end
        answer = b""
        while more := connection.recv(65536):
            answer += more
        status, _ = only_reply(answer)
        assert status in STATUSES
        until(lambda: is_idle(server))  # though this client never closes


@pytest.mark.parametrize("kind", [b"text/plain", b"application/json"])
def test_a_body_that_breaks_off_into_nonsense_ends_its_request_at_once(kind: bytes) -> None:
    """Of the two answers that it could get the client gets the first, and nobody writes the second after the end."""
    broken = request(b"", "Transfer-Encoding: chunked", "X-Content-Length: 0") + b"zz\r\n"
    with served() as server, socket.create_connection(("127.0.0.1", server.port), timeout=SOON_S) as connection:
        connection.sendall(broken.replace(b"application/json", kind))
        answer = b""
        while more := connection.recv(65536):
            answer += more
        assert only_reply(answer)[0] == 400
        until(lambda: bool(server.lines))  # of the access log, while the client keeps its side open
        (line,) = server.lines
        assert re.search(r" (415|499) 0\.\d{3}s", line), (
            line
        )  # not once its body, or the connection, has taken too long


@pytest.mark.slow
def test_a_thousand_bad_requests_get_one_clear_answer_each(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = try_many(1000, monkeypatch)
    assert set(statuses) >= {0, 400, 404, 408, 413, 415, 431}


def test_a_body_that_nobody_wants_does_not_keep_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET is answered without its body, which may come byte by byte. One that ends in time is followed by the next request."""
    monkeypatch.setattr(transport, "UNWANTED_S", 0.3)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n"
    with served() as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        for sent in (request, b"x" * 10000 + request):
            client.sendall(sent)
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):
                answer += client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
        client.settimeout(0.02)
        closed = False
        for _ in range(200):
            try:
                client.sendall(b"x")
                closed = client.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
            if closed:
                break
        assert closed


def test_a_header_that_never_ends_is_refused_and_an_idle_connection_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HEADER_S", 0.2)
    with served() as server:
        assert only_reply(server.send(b"GET / HTTP/1.1\r\nHost: "))[0] == 408
        assert server.send(b"") == b""
        twice = request({"messages": user("a")}).replace(b"Connection: close\r\n", b"") + b"GET / HT"
        replies = server.send(twice)
        assert (replies.count(b"HTTP/1.1 200"), replies.count(b"HTTP/1.1 408")) == (1, 1)


def test_a_stop_finishes_what_runs_and_refuses_the_rest() -> None:
    answering = answerer()
    owner = WordOwner(answering.model, slots=1)
    owner.steps.clear()
    with served(answering, owner, drain_s=SOON_S) as server, ThreadPoolExecutor(2) as clients:
        running = clients.submit(server.chat, "talk", stream=True)
        waiting = clients.submit(server.chat, "late parcel")
        until(lambda: owner.load.running == owner.load.waiting == 1)
        server.stop.request()
        until(lambda: server.service.is_stopping)
        refused = server.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_stopping")
        assert refused.headers["retry-after"] == "5"
        with server.client() as asking:
            assert asking.get("/health").status_code == 503
            assert asking.get("/metrics").status_code == 200
        owner.steps.set()
        assert events(running.result().text)[-1] == "[DONE]"
        assert waiting.result().json()["choices"][0]["message"]["content"] == "shipping"
        server.thread.join(SOON_S)
        assert not server.thread.is_alive()


def test_what_is_not_finished_in_time_is_told_so() -> None:
    answering = answerer()
    owner = WordOwner(answering.model, slots=1)
    owner.steps.clear()
    with served(answering, owner, drain_s=0.1) as server, ThreadPoolExecutor(2) as clients:
        running = clients.submit(server.chat, "talk")
        until(lambda: owner.load.running == 1)
        server.stop.request()
        assert running.result().status_code == 503
        owner.steps.set()


@contextmanager
def started(run: Path, *arguments: str, key: str = "") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`lastresort serve` in a process of its own, once it answers, and its address."""
    environment = {**os.environ, "LASTRESORT_SERVE_KEY": key}
    with (run / "stderr").open("wb") as told:
        command = [sys.executable, "-m", "lastresort", "serve", str(run)]
        command += arguments if "--port" in arguments else ("--port", "0", *arguments)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=told)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://"), (run / "stderr").read_text()
        yield process, url
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass
class Process:
    """A server that lets `other` answer, which does so once its owner's `steps` is set. told: its stderr."""

    process: subprocess.Popen[bytes]
    url: str
    run: Path
    other: Served

    @property
    def told(self) -> str:
        return (self.run / "stderr").read_text()

    def stream(self) -> Any:
        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0).chat.completions.create(
            model="winner", messages=user("talk"), stream=True
        )  # type: ignore[call-overload]

    def health(self) -> int:
        return httpx.get(self.url.replace("/v1", "/health"), timeout=SOON_S).status_code


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Process]:
    """Says a word every 10 ms, and does not end by itself."""
    save_system(
        System("zero-shot", "scripted:none.json", PromptDesign("Route it."), Decoding(9000)), tmp_path / "winner"
    )
    answering = answerer(Script(default="word " * 3000), decoding=Decoding(10**6))
    with (
        served(answering, WordOwner(answering.model, step_s=0.01)) as other,
        started(tmp_path, "--upstream", f"{other.url}/v1", "--model", "winner") as (process, url),
    ):
        yield Process(process, url, tmp_path, other)


CUT = (httpx.RemoteProtocolError, httpx.ReadError, openai.APIError)


@pytest.mark.slow
def test_sigterm_in_mid_stream_finishes_it_refuses_the_rest_and_ends_well(behind: Process) -> None:
    other = behind.other.owner
    stream = iter(behind.stream())
    next(stream)
    other.steps.clear()
    behind.process.send_signal(signal.SIGTERM)
    until(lambda: behind.health() == 503)
    refused = httpx.post(f"{behind.url}/chat/completions", json=TALK, timeout=SOON_S)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_stopping")
    other.step_s = 0.0
    other.steps.set()
    *_, last = stream
    assert last.choices[0].finish_reason == "stop"
    assert behind.process.wait(SOON_S) == 0
    assert "Traceback" not in behind.told
    assert re.search(r"POST /v1/chat/completions 200 ", behind.told)
    assert "stopping: 1 answer is finished first, for up to 30 s" in behind.told


def test_a_second_signal_ends_a_server_at_once(behind: Process) -> None:
    stream = iter(behind.stream())
    next(stream)
    libraries = Path(f"/proc/{behind.process.pid}/maps")  # where there is one
    assert not libraries.exists() or "libtorch" not in libraries.read_text(), "it only asks another server"
    behind.process.send_signal(signal.SIGINT)
    until(lambda: behind.health() == 503)
    behind.process.send_signal(signal.SIGTERM)
    with pytest.raises(CUT):
        list(stream)
    assert behind.process.wait(SOON_S) in (130, -signal.SIGKILL)
    until(lambda: is_idle(behind.other))


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_stream_leaves_its_port(behind: Process) -> None:
    stream = iter(behind.stream())
    next(stream)
    behind.process.kill()
    with pytest.raises(CUT):
        list(stream)
    until(lambda: is_idle(behind.other))  # whoever answers for it is told
    behind.process.wait(SOON_S)
    port = behind.url.removesuffix("/v1").rpartition(":")[2]
    with started(behind.run, "--port", port, "--upstream", f"{behind.other.url}/v1", "--model", "winner") as (_, url):
        assert url == behind.url
        assert behind.health() == 200


LOAD_S = 120
"""Of the load below. docs/serve.md says what ten minutes of it gave."""


def clients_that_leave(url: str, seconds: float, items: dict[str, str]) -> Counter[str]:
    """32 clients; a third of their requests are cut in mid-stream, the others get the text of their item. Returns the counts."""
    end, counts = time.monotonic() + seconds, Counter[str]()

    def ask(number: int) -> None:
        random = Random(number)
        with httpx.Client(base_url=url, timeout=SOON_S) as client:
            while time.monotonic() < end:
                item = random.choice(list(items))
                body = {"model": "winner", "messages": user(item), "stream": random.random() < 0.67}
                if not body["stream"]:
                    reply = client.post("/chat/completions", json=body)
                    assert reply.json()["choices"][0]["message"]["content"] == items[item]
                    counts["whole"] += 1
                    continue
                leaves_after = random.randrange(1, 20) if random.random() < 0.5 else 10**6
                with client.stream("POST", "/chat/completions", json=body) as reply:
                    said = ""
                    for line in reply.iter_lines():
                        if line.startswith("data: {"):
                            said += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                        leaves_after -= 1
                        if leaves_after == 0:
                            break
                    else:
                        assert said == items[item]
                counts["cut" if leaves_after == 0 else "streamed"] += 1

    with ThreadPoolExecutor(32) as clients:
        list(clients.map(ask, range(32)))
    return counts


def memory_and_threads(pid: int) -> tuple[int, int]:
    """MiB and number."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(re.findall(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[0]) for name in ("VmRSS", "Threads")}
    return found["VmRSS"] // 1024, found["Threads"]


@pytest.mark.release
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read in /proc")
def test_memory_and_threads_stay_as_they_are_while_clients_leave(tmp_path: Path) -> None:
    tiny = save_tiny(tmp_path / "tiny")
    prompt, decoding = PromptDesign("Route the ticket. " * 5), Decoding(60)
    save_system(System("zero-shot", str(tiny), prompt, decoding, precision="float32"), tmp_path / "winner")
    with started(tmp_path) as (process, url):
        items = {f"the parcel {number} is late": "" for number in range(20)}
        for item in items:
            body = {"model": "winner", "messages": user(item)}
            reply = httpx.post(f"{url}/chat/completions", json=body, timeout=SOON_S)
            items[item] = reply.json()["choices"][0]["message"]["content"]
        clients_that_leave(url, LOAD_S / 6, items)
        before = memory_and_threads(process.pid)
        counts = clients_that_leave(url, LOAD_S, items)
        page = httpx.get(url.replace("/v1", "/metrics"), timeout=SOON_S).text
        after = memory_and_threads(process.pid)
        print(f"{dict(counts)}; MiB and threads {before} before, {after} after")
        assert min(counts["whole"], counts["streamed"], counts["cut"]) > 10
        assert after[0] <= before[0] + 32
        assert after[1] <= before[1]
        assert 'num_requests_running{model_name="winner"} 0.0' in page
        assert 'num_requests_waiting{model_name="winner"} 0.0' in page
