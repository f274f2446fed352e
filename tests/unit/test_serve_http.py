"""The routes as clients use them: the official openai client, litellm, curl, and schemathesis on the server's own document."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel

from lastresort.knowledge.chunks import Chunk
from lastresort.models.scripted import Script
from lastresort.systems.system import Retriever
from lastresort.types import Message
from serve_support import ABOUT, LONG, Served, WordOwner, answerer, events, served, system, user

KEY = "a-key-of-more-than-16"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as found:
        yield found


def client(server: Served, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def test_the_openai_client_gets_an_answer(server: Served) -> None:
    got = client(server).chat.completions.create(model="winner", messages=user("late parcel"))  # type: ignore[arg-type]
    [choice] = got.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == ("shipping", "assistant", "stop")
    assert choice.logprobs is None
    assert got.usage is not None
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens
    assert (got.model, got.object) == ("winner", "chat.completion")
    assert server.owner.log[-1].prompt == (Message("system", ABOUT), Message("user", "late parcel"))


def test_the_openai_client_streams(server: Served) -> None:
    stream = client(server).chat.completions.create(
        model="winner", messages=user("talk"), stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == LONG
    assert len(chunks) > 200
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 200
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_async_client_streams(server: Served) -> None:
    async def talk() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as asking:
            stream = await asking.chat.completions.create(model="winner", messages=user("talk"), stream=True)  # type: ignore[call-overload]
            whole = await asking.chat.completions.create(model="winner", messages=user("late parcel"))  # type: ignore[arg-type]
            said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return [said, whole.choices[0].message.content or ""]

    assert asyncio.run(talk()) == [LONG, "shipping"]


class Routed(BaseModel):
    team: Literal["billing", "tech"]
    n: int


def test_the_openai_client_parses_a_structured_answer() -> None:
    with served(answerer(Script(default='{"team": "tech", "n": 3}'))) as server:
        got = client(server).chat.completions.parse(model="winner", messages=user("a"), response_format=Routed)  # type: ignore[arg-type]
        assert got.choices[0].message.parsed == Routed(team="tech", n=3)
        [work] = server.owner.log
        assert work.decoding.grammar is not None
        assert work.decoding.grammar.json_schema["properties"]["team"]["enum"] == ["billing", "tech"]


def test_the_openai_client_completes_texts(server: Served) -> None:
    got = client(server).completions.create(model="winner", prompt=["late parcel", "x"], n=2)
    assert [(choice.index, choice.text) for choice in got.choices] == [
        (0, "shipping"), (1, "shipping"), (2, "other"), (3, "other"),
    ]  # fmt: skip
    stream = client(server).completions.create(model="winner", prompt="talk", stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == LONG
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert got.usage is not None
    one = client(server).completions.create(model="winner", prompt="late parcel").usage
    other = client(server).completions.create(model="winner", prompt="x").usage
    assert one is not None
    assert other is not None
    # A prompt counts once, however many answers it gets.
    assert got.usage.prompt_tokens == one.prompt_tokens + other.prompt_tokens
    assert got.usage.completion_tokens == 2 * (one.completion_tokens + other.completion_tokens)


def test_the_client_raises_the_errors_of_its_statuses(server: Served) -> None:
    asking = client(server)
    messages: Any = user("a")
    with pytest.raises(openai.BadRequestError) as refused:
        asking.chat.completions.create(model="winner", messages=messages, logit_bias={"5": 1})
    assert (refused.value.param, refused.value.code) == ("logit_bias", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError) as missing:
        asking.chat.completions.create(model="gpt", messages=messages)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.UnprocessableEntityError) as unable:
        asking.chat.completions.create(model="winner", messages=messages, logprobs=True)
    assert unable.value.param == "logprobs"


def test_models_say_that_the_winners_prompt_is_applied(server: Served) -> None:
    [card] = client(server).models.list().data
    assert (card.id, card.owned_by) == ("winner", "lastresort")
    assert client(server).models.retrieve("winner") == card
    with pytest.raises(openai.NotFoundError):
        client(server).models.retrieve("base")
    with served(raw=True) as bare:
        assert client(bare).models.list().data[0].owned_by == "lastresort-raw"


def test_log_probabilities_are_those_of_the_tokens() -> None:
    with served(answerer(has_logprobs=True)) as server:
        asking = client(server)
        messages: Any = user("padded")
        got = asking.chat.completions.create(model="winner", messages=messages, logprobs=True, top_logprobs=2)
        assert got.choices[0].message.content == "spaced answer"
        logprobs = got.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert [token.token for token in logprobs.content] == ["  spaced", " answer", " \n"]
        assert [(top.token, top.logprob) for top in logprobs.content[0].top_logprobs] == [("t0", -1.0), ("t1", -2.0)]
        assert logprobs.content[1].bytes == list(b" answer")
        stream = asking.chat.completions.create(model="winner", messages=messages, logprobs=True, stream=True)
        streamed = [chunk.choices[0].logprobs for chunk in stream if chunk.choices[0].logprobs]
        assert [token.token for part in streamed for token in part.content or ()] == ["  spaced", " answer", " \n"]
        text = asking.completions.create(model="winner", prompt="padded", logprobs=1)
        found = text.choices[0].logprobs
        assert found is not None
        assert (found.tokens, found.text_offset) == (["  spaced", " answer", " \n"], [0, 8, 15])
        assert found.top_logprobs == [{"t0": -1.0}] * 3


def test_the_sources_of_a_winner_that_retrieves_are_in_its_answer(tmp_path: Path) -> None:
    passage = Chunk("a#b:1", "a.md", "a#b", ("A", "B"), "", 0, 4, "text")
    source = {"id": "a#b:1", "document": "a.md", "headings": ["A", "B"], "text": "text"}
    with served(answerer(retriever=Retriever(tmp_path, 1), lookup=lambda turns: (passage,))) as server:
        assert server.chat().json()["sources"] == [source]
        chunks = [json.loads(event) for event in events(server.chat(stream=True).text)[:-1]]
        assert [chunk.get("sources") for chunk in chunks] == [[source], None, None]
        assert server.post("/v1/completions", {"prompt": "a"}).json()["sources"] == [source]
        got: Any = client(server).chat.completions.create(model="winner", messages=user("a"))  # type: ignore[arg-type]
        assert got.sources == [source]


def test_an_answer_without_sources_has_no_such_key(server: Served) -> None:
    assert "sources" not in server.chat().json()
    assert "sources" not in server.chat(stream=True).text


def test_reasoning_is_not_shown() -> None:
    with served(answerer(prompt=replace(system().prompt, reasoning=True))) as server:
        assert server.chat("think").json()["choices"][0]["message"]["content"] == "billing"
        chunks = [json.loads(event) for event in events(server.chat("think", stream=True).text)[:-1]]
        assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "billing", None]


def test_a_usage_that_is_not_asked_for_is_not_sent(server: Served) -> None:
    assert "usage" not in server.chat(stream=True).text
    assert "usage" not in server.chat(stream=True, stream_options={"include_usage": False}).text
    assert server.chat(stream_options={"include_usage": True}).json()["error"]["param"] == "stream_options"


@pytest.mark.slow
def test_answers_are_the_same_alone_and_among_31_other_clients() -> None:
    """Item by item the text that is measured, whole and streamed."""
    items = [f"item {number}" for number in range(32)]
    script = Script(answers={item: f" the answer to {item}, twice {item}\n" for item in items}, wrong=("no",))
    answering = answerer(script, prompt=replace(system().prompt, reasoning=False))
    measured = [answer.text for answer in answering.answer([[Message("user", item)] for item in items])]
    with served(answering, WordOwner(answering.model, slots=8)) as server:
        alone = [server.chat(item).json()["choices"][0]["message"]["content"] for item in items]

        def ask(place: int) -> str:
            if place % 2:
                return str(server.chat(items[place]).json()["choices"][0]["message"]["content"])
            chunks = [json.loads(event) for event in events(server.chat(items[place], stream=True).text)[:-1]]
            return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)

        with ThreadPoolExecutor(32) as clients:
            together = list(clients.map(ask, range(32)))
    assert alone == measured
    assert together == measured


@pytest.mark.slow
def test_litellm_is_a_client(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would download one
    import litellm

    options: Any = {"model": "openai/winner", "api_base": f"{server.url}/v1", "api_key": "none", "num_retries": 0}
    got = litellm.completion(messages=user("late parcel"), **options)
    assert got.choices[0].message.content == "shipping"
    stream = litellm.completion(messages=user("talk"), stream=True, **options)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == LONG
    with pytest.raises(litellm.BadRequestError, match="logit_bias is not supported"):
        litellm.completion(messages=user("a"), logit_bias={"5": 1}, **options)


def test_curl_is_a_client(server: Served) -> None:
    if (curl := shutil.which("curl")) is None:
        pytest.skip("curl is not installed")
    json_ = ["-H", "Content-Type: application/json"]
    body = '{"model": "winner", "messages": [{"role": "user", "content": "late parcel"}]}'
    run = [curl, "-sS", "--noproxy", "*", f"{server.url}{CHAT}"]
    said = subprocess.run([*run, *json_, "-d", body], capture_output=True, check=True, timeout=60).stdout
    assert json.loads(said)["choices"][0]["message"]["content"] == "shipping"
    streamed = subprocess.run(
        [*run, "-N", *json_, "-d", body[:-1] + ', "stream": true}'], capture_output=True, check=True, timeout=60
    ).stdout
    assert events(streamed.decode())[-1] == "[DONE]"
    form = subprocess.run([*run, "-d", body], capture_output=True, check=True, timeout=60).stdout
    refused = json.loads(form)["error"]
    assert refused["code"] == "invalid_content_type"
    found = 'found "application/x-www-form-urlencoded", expected application/json.'
    assert refused["message"] == f"Content-Type: {found} Send that header."


def test_a_route_that_is_none_is_refused_with_those_there_are(server: Served) -> None:
    with server.client() as asking:
        refused = asking.post("/chat/completions").json()["error"]
    assert refused["message"] == (
        "POST /chat/completions is not served here. Routes: POST /v1/chat/completions, POST /v1/completions, GET /v1/models, "
        "GET /v1/models/{model}, GET /health, GET /metrics."
    )


def test_the_metrics_have_the_names_of_vllm() -> None:
    with served() as server:
        server.chat("talk")
        server.chat(max_tokens=1)
        server.chat(tools=[1])
        with server.client() as asking:
            asking.get("/nope")
            page = asking.get("/metrics").text
    values = dict(re.findall(r"^lastresort:(\S+) (\S+)$", page, re.MULTILINE))
    model = 'model_name="winner"'
    assert float(values[f"prompt_tokens_total{{{model}}}"]) == 6 + 8
    assert float(values[f"generation_tokens_total{{{model}}}"]) > 200
    assert float(values[f'request_success_total{{finished_reason="stop",{model}}}']) == 1
    assert float(values[f'request_success_total{{finished_reason="length",{model}}}']) == 1
    assert float(values[f"time_to_first_token_seconds_count{{{model}}}"]) == 2
    assert float(values[f"time_per_output_token_seconds_count{{{model}}}"]) == 199
    assert float(values[f"e2e_request_latency_seconds_count{{{model}}}"]) == 2
    for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert float(values[f"{gauge}{{{model}}}"]) == 0
    assert float(values[f'http_responses_total{{{model},path="{CHAT}",status="400"}}']) == 1
    assert float(values[f'http_responses_total{{{model},path="other",status="404"}}']) == 1
    assert "nope" not in page


def test_two_servers_in_one_process_count_for_themselves() -> None:
    with served() as one, served() as other:
        one.chat()
        with one.client() as of_one, other.client() as of_other:
            assert "request_success_total{" in of_one.get("/metrics").text
            assert "request_success_total{" not in of_other.get("/metrics").text


def test_the_log_has_no_contents_unless_asked_for() -> None:
    with served() as server:
        server.chat("late parcel", temperature=0)
        server.chat("a", tools=["late parcel"])
        server.chat("late parcel", stream=True)
    # Read once the server has ended: a line is written when its answer has been.
    assert re.fullmatch(r"\S+ POST /v1/chat/completions 200 \d+\.\d+s winner 8\+2 tokens", server.lines[0])
    assert len(server.lines) == 3
    assert "parcel" not in "".join(server.lines)
    assert "shipping" not in "".join(server.lines)
    with served(log_bodies=True) as server:
        server.chat("late parcel", stream=True)
        server.chat("late parcel")
    assert [line for line in server.lines if "answer" in line] == ["  answer: shipping"] * 2
    assert sum("late parcel" in line for line in server.lines) == 2


def test_a_client_cannot_write_a_line_of_the_log() -> None:
    with served(answerer(Script(default="a\nforged")), log_bodies=True) as server:
        server.send(b"GET /a%0aforged HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        server.post(CHAT, {"messages": user("a\nforged")})
        with server.client() as asking:
            asking.post(CHAT, content=b'{"messages":\nforged', headers={"Content-Type": "application/json"})
    assert not any(line.startswith("forged") for text in server.lines for line in text.splitlines())
    assert len([line for line in server.lines if "forged" in line]) == 4


def test_a_key_guards_every_route_but_health() -> None:
    with served(key=KEY) as server:
        for path in ("/v1/models", "/v1/models/winner", "/metrics", "/openapi.json", "/nope", CHAT):
            for given_ in (
                {},
                {"Authorization": "Bearer"},
                {"Authorization": f"Bearer {KEY}x"},
                {"Authorization": KEY},
            ):
                with server.client(headers=given_) as asking:
                    refused = asking.get(path)
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
                assert refused.headers["www-authenticate"] == "Bearer"
        with pytest.raises(openai.AuthenticationError):
            client(server, "wrong").chat.completions.create(model="winner", messages=user("a"))  # type: ignore[arg-type]
        got = client(server, KEY).chat.completions.create(model="winner", messages=user("late parcel"))  # type: ignore[arg-type]
        assert got.choices[0].message.content == "shipping"
        with server.client() as asking:
            assert asking.get("/health").json() == {"status": "ok"}
        assert server.owner.log[0].prompt[-1].content == "late parcel"
        assert len(server.owner.log) == 1
        assert KEY not in "".join(server.lines)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("app.localhost:8000", 200),
        ("127.1.2.3", 200),
        ("evil.example", 400),
        ("0.0.0.0", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("", 400),
        ("[", 400),
    ],
)
def test_without_a_key_only_this_machine_is_a_host(server: Served, host: str, status: int) -> None:
    """A page of another name, which resolves to this machine, reads nothing (DNS rebinding)."""
    reply = server.send(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"invalid_host" in reply) == (status == 400)


def test_with_a_key_any_host_is_answered() -> None:
    with (
        served(key=KEY) as server,
        server.client(headers={"Authorization": f"Bearer {KEY}", "Host": "a.example"}) as asking,
    ):
        assert asking.get("/v1/models").status_code == 200


def test_a_server_that_can_compute_nothing_is_not_healthy() -> None:
    with served() as server, server.client() as asking:
        server.owner.fault = RuntimeError("the device is lost")
        assert asking.get("/health").status_code == 503


def test_what_is_not_there_is_refused_in_json(server: Served) -> None:
    with server.client() as asking:
        missing, wrong = asking.get("/v1/embeddings"), asking.get(CHAT)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


BEYOND_THE_DOCUMENT = {"invalid_schema", "unsupported_schema", "unsupported_prompt", "invalid_value"}
"""Codes of refusals of what the schema of a body cannot say."""


def _tried(operation: Any, mode: Any) -> Counter[int]:
    """The statuses of the replies to 60 requests by the document, or against it."""
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    statuses: Counter[int] = Counter()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE:
            case.body["model"] = "winner"  # any other would be unknown
        response = case.call()
        statuses[response.status_code] += 1
        if case.method == "POST" and mode is GenerationMode.POSITIVE and response.status_code != 200:
            error = response.json()["error"]
            assert error["code"] in BEYOND_THE_DOCUMENT or error["param"] == "logprobs"
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    check()
    return statuses


@pytest.mark.slow
def test_schemathesis_finds_nothing(server: Served) -> None:
    """Bodies by the server's own document and against it: no 5xx, no undocumented status, each reply by its schema."""
    import schemathesis

    positive, negative = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 6
    for operation in operations:
        statuses = _tried(operation, positive)
        if operation.method == "post":
            assert statuses[200] >= 20
            assert _tried(operation, negative)[400] >= 50


def test_threads_do_not_grow(server: Served) -> None:
    server.chat()
    before = threading.active_count()
    for _ in range(20):
        server.chat()
        server.chat(stream=True)
    assert threading.active_count() <= before
