"""What the server's requests may hold: nothing is ignored, and each refusal names the key that is at fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lastresort.serve.refusals import Refusal, read_request
from lastresort.serve.schema import ChatRequest, CompletionRequest, SamplingRequest
from serve_support import user


def refusal_of(body: Any, kind: type[SamplingRequest] = ChatRequest) -> Refusal:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refusal) as raised:
        read_request(data, kind)
    return raised.value


def test_whole_numbers_may_be_written_as_others() -> None:
    request = read_request(json.dumps(chat(n=2.0, seed=-1.0, max_tokens=1e3)).encode(), ChatRequest)
    assert (request.n, request.seed, request.max_tokens) == (2, -1, 1000)


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "winner", "messages": user("a"), **more}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tools", "x"),
        ("tool_choice", "auto"),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("parallel_tool_calls", True),
        ("audio", {"voice": "alloy"}),
        ("modalities", ["text", "audio"]),
        ("logit_bias", {"5": 10}),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("store", True),
        ("service_tier", "flex"),
        ("reasoning_effort", "low"),
        ("metadata", {}),
        ("prediction", {}),
        ("web_search_options", {}),
        ("prompt", "a"),
        ("guided_json", {}),
    ],
)
def test_what_is_not_supported_is_refused_by_name(key: str, value: Any) -> None:
    refusal = refusal_of(chat(**{key: value}))
    assert (refusal.status, refusal.param, refusal.code) == (400, key, "unsupported_parameter")
    remedy = "Send it to /v1/completions." if key == "prompt" else "Leave it out."
    assert refusal.message == f"{key} is not supported. {remedy}"


@pytest.mark.parametrize(("key", "value"), [("best_of", 2), ("echo", True), ("suffix", "b"), ("messages", user("a"))])
def test_what_completions_do_not_support_is_refused_by_name(key: str, value: Any) -> None:
    refusal = refusal_of({"model": "winner", "prompt": "a", key: value}, CompletionRequest)
    assert (refusal.param, refusal.code) == (key, "unsupported_parameter")


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [], "tool_choice": "none", "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0},
        {"audio": None, "metadata": None, "anything": None, "n": None, "stop": None, "user": "u", "store": False},
        {"modalities": ["text"], "service_tier": "auto", "n": 1, "functions": [], "function_call": "none"},
    ],
)
def test_what_asks_for_nothing_is_accepted(more: dict[str, Any]) -> None:
    assert read_request(json.dumps(chat(**more)).encode(), ChatRequest).messages[0].content == "a"


def test_an_answer_of_this_server_can_be_sent_back() -> None:
    answer = {
        "role": "assistant",
        "content": "b",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "tool_calls": None,
    }
    request = read_request(json.dumps(chat(messages=[*user("a"), answer, *user("c")])).encode(), ChatRequest)
    assert [turn.content for turn in request.messages] == ["a", "b", "c"]


def test_an_unknown_key_is_refused_with_the_nearest_known() -> None:
    refusal = refusal_of(chat(temprature=0.5))
    assert (refusal.param, refusal.code) == ("temprature", "unknown_parameter")
    assert refusal.message == 'temprature is not known. Did you mean "temperature"?'


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 2**21}, "max_completion_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stream": 1}, "stream"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"stop": "a" * 201}, "stop"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream_options": {"other": 1}}, "stream_options.other"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_where_it_is(more: dict[str, Any], param: str) -> None:
    refusal = refusal_of(chat(**more))
    assert (refusal.status, refusal.param) == (400, param)
    assert refusal.message.startswith(param)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("a", "messages"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"content": "a"}], "messages[0].role"),
        ([{"role": "tool", "content": "a"}], "messages[0].role"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([*user("a"), {"role": "user", "content": "a", "tool_calls": []}], "messages[1].tool_calls"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ],
)
def test_a_fault_in_a_message_is_refused_where_it_is(messages: Any, param: str) -> None:
    refusal = refusal_of({"model": "winner"} if messages is None else chat(messages=messages))
    assert refusal.status == 400
    assert refusal.param is not None
    assert refusal.param.startswith(param)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (chat(messages=[]), "messages: found [], expected at least 1 item."),
        (chat(stop=[""]), 'stop[0]: found "", expected at least 1 character.'),
        (chat(stop=["a"] * 17), "expected at most 16 items."),
        (chat(stop="a" * 201), "expected at most 200 characters."),
        (chat(temperature=2.1), "temperature: found 2.1, expected less than or equal to 2."),
        ({"messages": user("a")}, "model is missing. Name the one that GET /v1/models lists."),
        (
            {"model": "winner"},
            'messages is missing. Send a list of turns, such as [{"role": "user", "content": "..."}].',
        ),
        (chat(messages=[{"role": "user"}]), "messages[0].content is missing. Add it."),
        (chat(messages=["a"]), 'messages[0]: found "a", expected an object.'),
        (chat(logit_bias=7), "logit_bias is not supported. Leave it out."),
        (chat(response_format={}), "response_format.type is missing. Add it."),
        (chat(response_format="json"), 'response_format: found "json", expected an object.'),
        (
            chat(response_format={"type": "xml"}),
            "response_format.type: found \"xml\", expected one of 'text', 'json_object', 'json_schema'.",
        ),
        (
            chat(response_format={"type": "json_object", "schema": {}}),
            "response_format.schema is not supported. Leave it out.",
        ),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": []}}),
            "response_format.json_schema.schema: found [], expected an object.",
        ),
    ],
)
def test_a_refusal_says_what_was_found_and_what_to_send(body: dict[str, Any], message: str) -> None:
    said = refusal_of(body).message
    assert said.endswith(message)
    assert "validation" not in said


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"3",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"messages": NaN}',
        b'{"n": 1, "n": 2}',
        b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"seed": ' + b"9" * 5000 + b"}",
    ],
    ids=range(11),
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    refusal = refusal_of(body)
    assert (refusal.status, refusal.code) == (400, "invalid_json")


def test_a_message_shows_no_long_value() -> None:
    refusal = refusal_of(chat(temperature="x" * 100_000))
    assert len(refusal.message) < 200


def test_a_body_full_of_faults_is_refused_without_listing_them() -> None:
    refusal = refusal_of({"model": "winner", "messages": user("a"), **{f"k{number}": 1 for number in range(1001)}})
    assert refusal.message == "The body is wrong in more than 1,000 places."
    refusal = refusal_of(chat(messages=[{"role": "tool", "content": ""}] * 20_000))
    assert refusal.param == "messages[0].role"


def test_an_error_is_as_openai_sends_it() -> None:
    assert json.loads(refusal_of(chat(n=0)).body) == {
        "error": {
            "message": "n: found 0, expected greater than or equal to 1.",
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_value",
        }
    }
