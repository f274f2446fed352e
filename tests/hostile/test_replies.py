"""No reply of a server is scored as a wrong answer because of a fault, hangs, ends in a traceback, or shows a key."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from endpoint_support import (
    DECODING,
    KEY,
    Endpoint,
    Handler,
    Step,
    Waits,
    ask,
    completion,
    events,
    model,
    piece,
    serving,
)
from lastresort.errors import InfrastructureError, LastresortError, StoppedError
from lastresort.models.api.connection import STREAM_BYTES
from lastresort.models.api.replies import ANSWER_CHARACTERS, CONFIRMED, is_version_of
from lastresort.models.calls import RetryPolicy
from lastresort.types import Answer

MEANT = "right"
PRICES = {"prompt_price": 10.0, "output_price": 100.0}
LEAST_USD = (7 * 10.0 + 2 * 100.0) / 1e6  # of an answer as `right` counts it


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTRESORT_API_KEY", KEY)
    monkeypatch.delenv("LASTRESORT_API_HOSTS", raising=False)
    monkeypatch.delenv("LASTRESORT_API_KEYS", raising=False)


@pytest.fixture(scope="module")
def module_server() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture
def server(module_server: Endpoint) -> Endpoint:
    module_server.script.clear()
    module_server.requests.clear()
    module_server.otherwise = right
    return module_server


def right(handler: Handler, _: dict[str, Any]) -> None:
    handler.send(200, completion(MEANT, usage={"prompt_tokens": 7, "completion_tokens": 2}))


def sent(body: Any, code: int = 200, **headers: str) -> Step:
    return lambda handler, _: handler.send(code, body, **headers)


def altered(change: Callable[[dict[str, Any]], Any]) -> Step:
    """A right reply but for one thing; its text is wrong, so that it shows if it is used."""
    body = completion("WRONG", usage={"prompt_tokens": 7, "completion_tokens": 2})
    changed = change(body)
    return sent(body if changed is None else changed)


def chunks(parts: Callable[[], Iterator[bytes]], kind: str = "application/json", length: int = 1 << 40) -> Step:
    """A body that is sent part by part, until the client hangs up."""

    def step(handler: Handler, _: dict[str, Any]) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        try:
            for part in parts():
                handler.wfile.write(part)
        except OSError:
            pass

    return step


def endless(part: bytes) -> Iterator[bytes]:
    for _ in range(2 * STREAM_BYTES // len(part)):
        yield part


def dripping(part: bytes, times: int = 200) -> Iterator[bytes]:
    for _ in range(times):
        yield part
        time.sleep(0.02)


def header_drip(handler: Handler, _: dict[str, Any]) -> None:
    handler.close_connection = True
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for part in dripping(b"x"):
            handler.wfile.write(part)
            handler.wfile.flush()
    except OSError:
        pass


def spoken(line: bytes) -> Step:
    """Bytes in place of an HTTP reply."""

    def step(handler: Handler, _: dict[str, Any]) -> None:
        handler.close_connection = True
        handler.wfile.write(line)

    return step


def message(value: Any) -> Step:
    return altered(lambda body: body["choices"][0].update(message=value))


def content(value: Any, finish: Any = "stop") -> Step:
    return altered(lambda body: body["choices"][0].update(message={"content": value}, finish_reason=finish))


def deep(opening: str, closing: str, times: int) -> bytes:
    return (opening * times + closing * times).encode()


JSON_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "text": b'"text"',
    "a list": b"[]",
    "a list of objects": b'[{"choices": []}]',
    "an object": b"{}",
    "half an object": b'{"choices": [',
    "two objects": b"{}{}",
    "a page": b"<html><body>502</body></html>",
    "plain text": b"Internal Server Error",
    "NUL": b"\0" * 100,
    "no UTF-8": b"\xff\xfe\x80" * 50,
    "UTF-16": '{"choices": []}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b"NaN",
    "1e999": b"1e999",
    "5,000 digits": b"9" * 5000,
    "deep lists": deep("[", "]", 100_000),
    "deep objects": deep('{"a":', "}", 50_000),
    "half deep": b"[" * 100_000,
    "lists as deep as Python allows": deep("[", "]", 900),
    "a key": f'"{KEY}"'.encode(),
    "no JSON but a key": f"your key is {KEY}".encode(),
    "a key in place of a model": json.dumps({"model": KEY, "choices": []}).encode(),
    "an error": json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(),
    "an error as text": json.dumps({"error": f"bad key {KEY}"}).encode(),
    "an error as a list": json.dumps({"error": [KEY]}).encode(),
    "control characters": json.dumps({"error": "\x1b[2J\x1b]0;evil\x07"}).encode(),
    "a huge error": json.dumps({"error": "x" * 1_000_000}).encode(),
    "spaces": b" " * 1_000_000,
}

STATUSES = (408, 409, 425, 429, 500, 502, 503, 504, 520, 599)
FAULTS: dict[str, Step] = {
    **{f"body: {name}": sent(body) for name, body in JSON_BODIES.items()},
    **{f"choices are {name}": altered(lambda body, value=value: body.update(choices=value)) for name, value in {
        "null": None, "a number": 1, "text": "WRONG", "an object": {"0": {}}, "empty": [],
        "a list of null": [None], "a list of text": ["WRONG"],
        "a list of lists": [[{"message": {"content": "WRONG"}}]],
    }.items()},
    **{f"the message is {name}": message(value) for name, value in {
        "null": None, "text": "WRONG", "a list": ["WRONG"], "a number": 3, "true": True,
    }.items()},
    **{f"the content is {name}": content(value) for name, value in {
        "a number": 5, "a list": [{"type": "text", "text": "WRONG"}], "an object": {"text": "WRONG"}, "true": True,
    }.items()},
    **{f"empty and finished by {finish!r}": content("", finish) for finish in (None, "error")},
    "too long an answer": content("x" * (ANSWER_CHARACTERS + 1)),
    "another model": altered(lambda body: body.update(model="another")),
    "a smaller model": altered(lambda body: body.update(model="m-mini")),
    "a model with a key in its name": altered(lambda body: body.update(model=f"x-{KEY}")),
    "a model with a long name": altered(lambda body: body.update(model="x" * 100_000)),
    **{f"status {code}": sent({"error": {"message": f"no {KEY}"}}, code) for code in STATUSES},
    "429 for nothing": sent(b"", 429),
    "500 as a page": sent(f"<html>{KEY}</html>".encode(), 500),
    "500, deep": sent(deep("[", "]", 100_000), 500),
    "500 with a charset that takes for ever": sent(b"a-" + b"9" * 200_000, 500, Content__Type="text/plain; charset=punycode"),
    "a charset that decodes to nothing": sent(b"{}", 200, Content__Type="text/plain; charset=undefined"),
    "429 with a date that is none": sent(b"", 429, Retry_After="Mon, 99 Xyz 99999 99:99:99 GMT"),
    "429 with a negative wait": sent(b"", 429, Retry_After="-5"),
    "429 with a wait of NaN": sent(b"", 429, Retry_After="nan"),
    "gzip that was not asked for": sent(gzip.compress(b" " * 50_000_000, 1), 200, Content_Encoding="gzip"),
    "brotli that was not asked for": sent(b"\x1b\x03", 200, Content_Encoding="br"),
    "an encoding that is none": sent(b"{}", 200, Content_Encoding="evil"),
    "a gigabyte of spaces": chunks(lambda: endless(b" " * 2**20)),
    "a gigabyte of one text": chunks(lambda: endless(b'{"choices": "' + b"x" * 2**20)),
    "a body that ends early": chunks(lambda: iter([b'{"choices": [']), length=5000),
    "a connection that closes": lambda handler, _: handler.connection.close(),
    "no HTTP": spoken(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "HTTP of another age": spoken(b"HTTP/9.9 200 OK\r\n\r\n{}"),
    "no status": spoken(b"HTTP/1.1 abc\r\n\r\n"),
    "a status of 1000": spoken(b"HTTP/1.1 1000 x\r\nContent-Length: 0\r\n\r\n"),
    "two lengths": spoken(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n{}"),
    "a negative length": spoken(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "headers without end": spoken(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000),
    "a chunk of no size": spoken(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}"),
    "a chunk of 2^64": spoken(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{}"),
    "204": sent(b"", 204),
    "206": sent(b'{"choices"', 206),
    "201 of nothing": sent(b"", 201),
}  # fmt: skip


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_asked_again_and_counted(server: Endpoint, name: str, caplog: pytest.LogCaptureFixture) -> None:
    server.script = [right, FAULTS[name], FAULTS[name], right]
    answers = model(server, **PRICES).generate(ask("a", "b"), DECODING)
    assert [answer.text for answer in answers] == [MEANT, MEANT]
    assert len(server.requests) == 4
    assert sum(answer.paid for answer in answers) >= 2 * LEAST_USD
    assert KEY not in caplog.text


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_stays_ends_in_one_sentence_and_can_be_resumed(server: Endpoint, name: str) -> None:
    server.script = [right]
    server.otherwise = FAULTS[name]
    arrived: list[Answer] = []
    asked = model(server, patience=RetryPolicy(attempts=2))
    with pytest.raises(StoppedError) as caught:
        asked.generate(ask("a", "b"), DECODING, lambda _, answer: arrived.append(answer))
    assert [answer.text for answer in arrived] == [MEANT]
    one_sentence(caught.value)


def one_sentence(error: LastresortError) -> None:
    said = str(error)
    assert "\n" not in said
    assert len(said) < 1000
    assert KEY[:8] not in said
    assert said.endswith(".")


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("slow", "says"),
    [
        (chunks(lambda: dripping(b" ")), "no whole answer"),
        (chunks(lambda: dripping(b"x"), length=10**6), "no whole answer"),
        (header_drip, "no whole answer"),
        (chunks(lambda: dripping(b": wait\n\n"), "text/event-stream"), "no whole answer"),
    ],
    ids=["spaces", "text", "headers", "comments of a stream"],
)
def test_a_drip_is_not_waited_for_without_end(server: Endpoint, slow: Step, says: str) -> None:
    server.script = [slow, right]
    waits = Waits()
    assert model(server, waits, timeout_s=0.2).generate(ask("a"), DECODING)[0].text == MEANT
    assert len(waits) == 1
    server.otherwise = slow
    with pytest.raises(InfrastructureError, match=says):
        model(server, timeout_s=0.2, patience=RetryPolicy(attempts=1)).generate(ask("a"), DECODING)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a gigabyte of spaces", "larger than 32 MiB"),
        ("a gigabyte of one text", "larger than 32 MiB"),
        ("gzip that was not asked for", "compressed"),
        ("too long an answer", "longer than 1,048,576 characters"),
        ("body: deep lists", "not JSON"),
        ("body: no JSON but a key", "your key is [*]{3}"),
    ],
)
def test_the_sentence_says_what_was_wrong(server: Endpoint, name: str, says: str) -> None:
    server.otherwise = FAULTS[name]
    with pytest.raises(InfrastructureError, match=says):
        model(server, patience=RetryPolicy(attempts=1)).generate(ask("a"), DECODING)


REDIRECTS = {
    "to another host": "https://evil.example/v1/chat/completions",
    "to itself": "/v1/chat/completions",
    "to nowhere": "",
    "to a file": "file:///etc/passwd",
    "with the key": f"https://evil.example/?k={KEY}",
    "over many characters": "https://evil.example/" + "x" * 10_000,
    "to what is no address": "http://[::1",
}


@pytest.mark.parametrize("code", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize("place", REDIRECTS)
def test_nothing_follows_a_redirect(server: Endpoint, code: int, place: str) -> None:
    server.otherwise = sent(b"", code, Location=REDIRECTS[place])
    with pytest.raises(InfrastructureError, match=rf"the server redirects \({code}\)") as caught:
        model(server).generate(ask("a"), DECODING)
    one_sentence(caught.value)
    assert len(server.requests) == 1


COUNTS: dict[str, Any] = {
    "1e30": 1e30, "10**30": 10**30, "-1": -1, "0": 0, "true": True, "text": "7", "null": None, "a list": [7], "an object": {"n": 7},
    "0.5": 0.5, "2**31": 2**31, "infinity": float("inf"), "NaN": float("nan"), "-0.0": -0.0, "-1e30": -1e30,
}  # fmt: skip


@pytest.mark.parametrize("which", ["prompt_tokens", "completion_tokens", "both", "usage"])
@pytest.mark.parametrize("count", COUNTS)
def test_spending_is_never_under_counted_and_stays_possible(server: Endpoint, count: str, which: str) -> None:
    """The real counts are at most those of a token for each byte, which is what is paid where the server gives none."""
    value = COUNTS[count]
    usage: Any = {"prompt_tokens": 7, "completion_tokens": 2}
    if which == "usage":
        usage = value
    else:
        usage |= dict.fromkeys(usage, value) if which == "both" else {which: value}
    server.script = [sent({**completion(MEANT), "usage": usage})]
    [answer] = model(server, **PRICES).generate(ask("a"), DECODING)
    assert answer.text == MEANT
    most = (len("be briefa") * 10.0 + len(MEANT) * 100.0) / 1e6
    known = (7 * 10.0 + 2 * 100.0) / 1e6
    assert answer.paid >= (known if which == "usage" and value == 7 else most if which in ("both", "usage") else known)
    assert answer.paid < 0.1
    assert answer.usd <= answer.paid
    assert type(answer.prompt_tokens) is type(answer.completion_tokens) is int


def test_whole_numbers_with_a_point_are_counts(server: Endpoint) -> None:
    server.script = [sent(completion(MEANT, usage={"prompt_tokens": 7.0, "completion_tokens": 2.0}))]  # type: ignore[dict-item]
    [answer] = model(server, **PRICES).generate(ask("a"), DECODING)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.paid) == (7, 2, LEAST_USD)


def test_what_is_thought_and_not_counted_is_paid(server: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    thought = completion(MEANT)
    thought["choices"][0]["message"]["reasoning_content"] = "hm " * 1000
    server.script = [sent(thought), sent(thought)]
    answers = model(server, **PRICES).generate(ask("a", "b"), DECODING)
    assert all(answer.paid > 3000 * 100.0 / 1e6 for answer in answers)
    assert caplog.text.count("does not count its tokens") == 1


def test_calls_that_gave_no_answer_are_paid_too(server: Endpoint) -> None:
    lost: list[float] = []
    server.script = [right]
    server.otherwise = sent(b"{}")
    paid: list[float] = []
    asked = model(server, patience=RetryPolicy(attempts=3), on_lost=lost.append, **PRICES)
    with pytest.raises(InfrastructureError):
        asked.generate(ask("a", "b"), DECODING, lambda _, answer: paid.append(answer.paid))
    assert paid == [LEAST_USD]
    assert lost[0] >= 3 * (7 * 10.0 + DECODING.max_new_tokens * 100.0) / 1e6
    server.otherwise = sent(b"", 500)
    with pytest.raises(InfrastructureError):
        asked.generate(ask("a"), DECODING)
    assert len(lost) == 1  # a status of 500 costs nothing


def test_calls_that_nobody_waits_for_any_more_are_paid_too(server: Endpoint) -> None:
    """Ctrl-C leaves those behind that are in progress, each to be charged; one that is not sent yet costs nothing."""
    lost, paid, waiting, begun = list[float](), list[float](), threading.Event(), threading.Semaphore(0)

    def late(handler: Handler, request: dict[str, Any]) -> None:
        begun.release()
        waiting.wait(10)
        right(handler, request)

    def interrupted(_: int, answer: Answer) -> None:
        paid.append(answer.paid)
        assert all(begun.acquire(timeout=10) for _ in range(2))
        raise KeyboardInterrupt

    server.script, server.otherwise = [right], late
    asked = model(server, concurrency=2, on_lost=lost.append, **PRICES)
    try:
        with pytest.raises(KeyboardInterrupt):
            asked.generate(ask(*"abcdefgh"), DECODING, interrupted)
    finally:
        waiting.set()
    most = 2 * (7 * 10.0 + DECODING.max_new_tokens * 100.0) / 1e6
    assert paid == [LEAST_USD]
    assert len(lost) == 1
    assert most <= lost[0] < 4 * most


@pytest.mark.parametrize(
    ("asked", "said", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4", "gpt-4-1106-preview", True),
        ("gpt-4o", "openai/gpt-4o", True),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o-latest", "gpt-4o-2024-08-06", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("llama3.2", "llama3.2:latest", True),
        ("llama3.2:latest", "llama3.2", True),
        ("llama3.2", "Llama3.2:3b-instruct-q4_K_M", True),
        ("Qwen/Qwen3-0.6B", "qwen3-0.6b", True),
        ("mistral-large", "mistral-large-2407", True),
        ("claude-3-5-sonnet", "claude-3-5-sonnet@20241022", True),
        ("llama", "/models/llama.gguf", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4", "gpt-4-32k", False),
        ("gpt-4", "gpt-4.1", False),
        ("llama-3", "llama-3-70b", False),
        ("gpt-4o", "gpt-3.5-turbo", False),
        ("m", "", False),
        ("m", "/", False),
        ("gpt-4o-mini", "gpt-4o", False),
    ],
)
def test_names_of_one_model_are_told_from_those_of_another(asked: str, said: str, same: bool) -> None:
    assert is_version_of(said, asked) is same


def named(name: Any, text: str = MEANT) -> Step:
    return sent({**completion(text), "model": name})


def test_a_server_that_has_its_own_name_for_the_model_is_confirmed_and_said_once(
    server: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    server.otherwise = named("/srv/weights")
    waits = Waits()
    answers = model(server, waits).generate(ask("a", "b", "c"), DECODING)
    assert [answer.text for answer in answers] == [MEANT] * 3
    assert (len(server.requests), len(waits)) == (2 + CONFIRMED, 0)
    assert caplog.text.count("calls its model /srv/weights") == 1


def test_a_model_that_changes_in_the_middle_is_refused_whatever_it_was_called_before(server: Endpoint) -> None:
    for first in ([named("m"), named("m-2024-08-06")], [named("alias")] * (CONFIRMED + 1)):
        server.script = [*first]
        server.otherwise = named("other", "WRONG")
        with pytest.raises(InfrastructureError, match='comes from the model "other"') as caught:
            model(server).generate(ask("a", "b", "c", "d"), DECODING)
        one_sentence(caught.value)


def test_a_gateway_that_passes_the_first_requests_on_is_found_out(server: Endpoint) -> None:
    server.script = [named("other", "WRONG")] * (CONFIRMED - 1)
    server.otherwise = named("m")
    [answer] = model(server, **PRICES).generate(ask("a"), DECODING)
    assert answer.text == MEANT
    assert answer.paid > (CONFIRMED - 1) * 16 * 100.0 / 1e6  # each may have cost what was asked for


def test_a_gateway_that_never_names_the_same_model_is_refused(server: Endpoint) -> None:
    server.script = [named(f"other-{n}", "WRONG") for n in range(200)]
    with pytest.raises(InfrastructureError, match="comes from the model"):
        model(server).generate(ask("a"), DECODING)
    assert len(server.requests) < 50


def test_a_chat_says_which_model_answers_and_goes_on(server: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    parts = [{**piece("ri"), "model": "alias"}, {**piece("ght"), "model": "alias"}, piece(None, "stop")]
    server.otherwise = events(*parts)
    asked = model(server)
    assert ["".join(asked.stream(ask("a")[0], DECODING)) for _ in range(2)] == [MEANT, MEANT]
    assert len(server.requests) == 2
    assert caplog.text.count("calls its model alias") == 1


@pytest.mark.parametrize("name", [None, 5, ["m"], {}, ""])
def test_a_server_that_names_no_model_is_believed(server: Endpoint, name: Any) -> None:
    server.otherwise = named(name)
    assert [answer.text for answer in model(server).generate(ask("a", "b"), DECODING)] == [MEANT, MEANT]
    assert len(server.requests) == 2


STREAMS: dict[str, Step] = {
    "no JSON": events("{"),
    "deep JSON": events("[" * 100_000),
    "a list": events([], []),
    "text": events('"x"'),
    "an error": events({"error": {"message": KEY}}),
    "an error as text": events({"error": KEY}),
    "choices of null": events({"choices": None}, {"choices": [None]}, {"choices": [{"delta": None}]}),
    "a delta of numbers": events({"choices": [{"delta": {"content": 5}}]}),
    "nothing": events(),
    "no event": chunks(lambda: iter([b"hello\n\n" * 100]), "text/event-stream", 700),
    "one line without end": chunks(lambda: endless(b"data: " + b"x" * 2**20), "text/event-stream"),
    "lines without an event": chunks(lambda: endless(b"data: x\n" * 2**17), "text/event-stream"),
    "empty lines": chunks(lambda: endless(b"\n" * 2**20), "text/event-stream"),
    "no HTTP": spoken(b"\x16\x03\x01"),
    "gzip": sent(gzip.compress(b"data: {}\n\n" * 10**6, 1), 200, Content_Encoding="gzip"),
}  # fmt: skip


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", STREAMS)
def test_a_fault_before_the_first_word_of_a_stream_is_asked_again(server: Endpoint, name: str) -> None:
    fine = events(piece("ri"), piece("ght"), piece(None, "stop"))
    asked = model(server)
    server.script = [fine, STREAMS[name], fine]
    for _ in range(2):
        assert "".join(asked.stream(ask("a")[0], DECODING)) == MEANT
    assert len(server.requests) == 3
    server.otherwise = STREAMS[name]
    says = {"empty lines": "more than 1,048,576 lines", "one line without end": "larger than 128 MiB"}.get(name, ".")
    with pytest.raises(InfrastructureError, match=says) as caught:
        list(model(server, patience=RetryPolicy(attempts=1)).stream(ask("a")[0], DECODING))
    one_sentence(caught.value)


def test_an_endless_answer_is_cut_off(server: Endpoint) -> None:
    word = f"data: {json.dumps(piece('x' * 2**16))}\n\n".encode()
    server.otherwise = chunks(lambda: endless(word), "text/event-stream")
    with pytest.raises(InfrastructureError, match=r"broke off \(the answer is longer"):
        list(model(server).stream(ask("a")[0], DECODING))


def test_an_event_may_have_several_lines_and_no_end(server: Endpoint) -> None:
    first, *others = json.dumps(piece("ri"), indent=1).splitlines()
    body = "\r\n".join([f"data:{first}", *(f"data: {line}" for line in others), "", ": comment", "event: x", ""])
    last = f"data: {json.dumps(piece('ght', 'stop'))}"
    server.script = [chunks(lambda: iter([body.encode(), last.encode()]), "text/event-stream", len(body + last))]
    assert "".join(model(server).stream(ask("a")[0], DECODING)) == MEANT


@pytest.mark.parametrize("way", ["whole", "escaped", "streamed", "streamed in pieces"])
def test_a_key_in_an_answer_is_hidden_before_anybody_sees_it(server: Endpoint, way: str) -> None:
    said = f"your key is {KEY}, isn't it"
    shown = said.replace(KEY, "***")
    answers: list[Answer] = []
    if way == "whole":
        server.script = [sent(completion(said))]
    if way == "escaped":
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in said)
        server.script = [sent(json.dumps(completion("@@")).replace("@@", escaped).encode())]
    if way in ("whole", "escaped"):
        answers = model(server).generate(ask("a"), DECODING)
    else:
        cut = 1 if way == "streamed in pieces" else 1000
        server.script = [events(*(piece(said[n : n + cut]) for n in range(0, len(said), cut)), piece(None, "stop"))]
        seen = list(model(server).stream(ask("a")[0], DECODING, on_answer=lambda _, answer: answers.append(answer)))
        assert "".join(seen) == shown
    assert [answer.text for answer in answers] == [shown]


def test_a_server_on_this_machine_is_not_reached_through_a_proxy(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert model(server).generate(ask("a"), DECODING)[0].text == MEANT


def test_a_key_that_belongs_to_other_hosts_is_not_sent_and_the_refusal_says_so(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTRESORT_API_HOSTS", "models.example")
    server.otherwise = sent({"error": {"message": "no key"}}, 401)
    with pytest.raises(LastresortError, match=r"was not sent.*add 127.0.0.1:\d+ to LASTRESORT_API_HOSTS"):
        model(server).generate(ask("a"), DECODING)
    assert KEY not in str(server.headers[-1])
    monkeypatch.setenv("LASTRESORT_API_KEYS", f"127.0.0.1={KEY}-2")
    server.otherwise = right
    model(server).generate(ask("a"), DECODING)
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}-2"


def test_no_key_is_logged(server: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [right, sent({"error": {"message": KEY}}, 500), right]
    model(server).generate(ask("a", "b"), DECODING)
    assert KEY not in caplog.text
