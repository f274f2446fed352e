"""The endpoint client against a real server on loopback that follows a script of good and bad replies."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from random import Random
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
    cut_mid_body,
    echo,
    events,
    hang_up,
    model,
    piece,
    raw,
    refuses,
    reply,
    serving,
    status,
)
from lastresort.errors import (
    CandidateError,
    InfrastructureError,
    LastresortError,
    LateError,
    PrerequisiteError,
    TaskError,
)
from lastresort.keys import known_keys, redacted
from lastresort.models.api.connection import http_library, passing_faults
from lastresort.models.api.model import ApiModel
from lastresort.models.api.refusals import CommandDenied
from lastresort.models.api.replies import OfferedModel, Tokens, read_offered, read_reply
from lastresort.models.api.requests import THINKING_TOKENS, ClientParameters, RequestBuilder
from lastresort.models.cached import CachedModel
from lastresort.models.calls import RetryPolicy, TransientFailure, retry_after_s, run_concurrently, wait_s
from lastresort.models.endpoint import parse_endpoint
from lastresort.records.responses import ResponseCache
from lastresort.stop import StopSignal
from lastresort.types import Answer, Decoding, Grammar


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTRESORT_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_answers_in_order_with_tokens_and_price(server: Endpoint) -> None:
    ticks = iter(range(100))
    asked = model(server, prompt_price=10.0, output_price=100.0, clock=lambda: float(next(ticks)))
    assert asked.generate(ask("a", "b"), DECODING) == [
        Answer("<a>", 7, 2, "stop", seconds=1.0, usd=270e-6, paid=270e-6),
        Answer("<b>", 7, 2, "stop", seconds=1.0, usd=270e-6, paid=270e-6),
    ]
    assert server.requests[0] == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}],
        "temperature": 0.0,
        "seed": 3,
        "max_tokens": 16,
        "stop": ["END"],
    }
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not server.headers[0].get("OpenAI-Organization")


def test_without_usage_tokens_are_estimated_and_a_cut_answer_says_so(server: Endpoint) -> None:
    server.script = [reply(completion("12345678", "length"))]
    answer = model(server).generate(ask("abcd"), DECODING)[0]
    assert (answer.prompt_tokens, answer.completion_tokens, answer.finish) == (2 + 1, 2, "length")


def test_concurrent_answers_keep_their_places_and_arrive_once_each(server: Endpoint) -> None:
    arrived: list[int] = []
    texts = [f"{n}" for n in range(40)]
    answers = model(server, concurrency=8).generate(ask(*texts), DECODING, lambda i, _: arrived.append(i))
    assert [answer.text for answer in answers] == [f"<{n}>" for n in range(40)]
    assert sorted(arrived) == list(range(40))


def test_repeats_of_a_prompt_are_sampled_with_seeds_of_their_own(server: Endpoint) -> None:
    model(server).generate(
        ask("a", "b", "a", "a"), Decoding(max_new_tokens=4, temperature=1.0, top_p=0.9, top_k=5, seed=10)
    )
    assert [request["seed"] for request in server.requests] == [10, 10, 11, 12]
    assert server.requests[0]["top_k"] == 5
    assert server.requests[0]["top_p"] == 0.9
    model(server).generate(ask("a"), Decoding(max_new_tokens=4, temperature=1.0))
    assert server.requests[-1]["top_p"] == 1.0  # else a server may take the model's own


@pytest.mark.parametrize(
    "trouble",
    [
        status(429),
        status(500),
        status(503),
        status(408),
        cut_mid_body,
        hang_up,
        raw(b"<html>gateway</html>"),
        raw(b""),
        reply({"object": "chat.completion"}),
        reply({"choices": []}),
        reply({"choices": [{"message": "text"}]}),
        reply([1, 2]),
        reply({"choices": [{"message": {"content": [1]}}]}),
        reply(completion("", "error")),
        reply(completion(None, None)),
        reply({"error": {"message": "upstream failed"}}),
    ],
)
def test_what_may_pass_is_tried_again(server: Endpoint, trouble: Step) -> None:
    waits = Waits()
    server.script = [trouble, trouble]
    assert model(server, waits).generate(ask("a"), DECODING)[0].text == "<a>"
    assert len(server.requests) == 3
    assert len(waits) == 2
    assert 0.5 <= waits[0] <= 1.5
    assert 1.0 <= waits[1] <= 3.0


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (status(500), "answers 500"),
        (hang_up, "connection failed"),
        (cut_mid_body, "connection failed"),
        (raw(b"<html>"), "not JSON"),
        (reply({"error": {"message": "upstream failed"}}), "no choices .*upstream failed"),
        (reply(completion("", "error")), "not finished"),
    ],
)
def test_what_does_not_pass_ends_as_infrastructure_never_as_an_answer(
    server: Endpoint, trouble: Step, says: str
) -> None:
    server.otherwise = trouble
    with pytest.raises(InfrastructureError, match=says) as caught:
        model(server).generate(ask("a"), DECODING)
    assert "--resume" not in str(caught.value)  # how to go on is for the command to say
    assert len(server.requests) == 4


def test_a_server_that_does_not_answer_times_out(server: Endpoint) -> None:
    gate = threading.Event()
    server.script = [lambda handler, _: (gate.wait(20), hang_up(handler, _))[1]]
    assert model(server, timeout_s=0.2).generate(ask("a"), DECODING)[0].text == "<a>"
    gate.set()
    server.otherwise = lambda handler, _: (threading.Event().wait(0.5), hang_up(handler, _))[1]
    with pytest.raises(InfrastructureError, match="no answer within"):
        model(server, timeout_s=0.1, patience=RetryPolicy(attempts=2)).generate(ask("a"), DECODING)


@pytest.mark.parametrize(("repeat_late", "requests"), [(True, 2), (False, 1)])
def test_an_answer_that_is_late_says_so_and_may_be_worth_no_second_try(
    server: Endpoint, repeat_late: bool, requests: int
) -> None:
    """A server that failed in another way is asked again all the same."""
    gate = threading.Event()
    server.script = [status(500)]
    server.otherwise = lambda handler, _: (gate.wait(20), hang_up(handler, _))[1]
    patience = RetryPolicy(attempts=3, repeat_late=repeat_late)
    with pytest.raises(LateError, match=f"no answer within 0 seconds, after {1 + requests} attempts") as caught:
        model(server, timeout_s=0.1, patience=patience).generate(ask("a"), DECODING)
    gate.set()
    assert caught.value.waited_s == caught.value.going_on("Again.").waited_s == 0.1
    assert len(server.requests) == 1 + requests


@pytest.mark.parametrize("gateway", [504, 524])
def test_a_gateway_that_times_out_is_late_and_its_model_may_be_paid(
    server: Endpoint, gateway: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.models.api.refusals._LATE_S", 0.0)
    lost = list[float]()
    server.otherwise = status(gateway)
    patience = RetryPolicy(attempts=3, repeat_late=False)
    with pytest.raises(LateError, match=f"answers {gateway}, after 1 attempt") as caught:
        model(server, patience=patience, on_lost=lost.append, output_price=1.0).generate(ask("a"), DECODING)
    assert 0 < caught.value.waited_s < 60
    assert lost == [DECODING.max_new_tokens / 1e6]
    server.otherwise = status(gateway, Retry_After="86400")
    with pytest.raises(LateError, match=f"answers {gateway}, after 1 attempt"):
        model(server, patience=patience).generate(ask("a"), DECODING)
    server.script = [status(gateway)]  # other calls are tried again
    server.otherwise = echo
    assert model(server).generate(ask("a"), DECODING)[0].text == "<a>"


def test_a_gateway_that_answers_at_once_has_not_waited_for_the_model(server: Endpoint) -> None:
    lost = list[float]()
    server.script = [status(504), status(524)]
    patience = RetryPolicy(repeat_late=False)
    asked = model(server, patience=patience, on_lost=lost.append, output_price=1.0)
    assert asked.generate(ask("a"), DECODING)[0].text == "<a>"
    assert lost == []


def test_a_request_that_could_not_be_sent_whole_is_not_late() -> None:
    """The server took only a part of it, and another try may do better."""
    with pytest.raises(TransientFailure) as caught, passing_faults(1.0):
        raise http_library().WriteTimeout("")
    assert (caught.value.waited_s, caught.value.maybe_paid) == (None, True)


def test_a_closed_port_is_infrastructure() -> None:
    endpoint = Endpoint()
    name = endpoint.name
    endpoint.server_close()
    asked = ApiModel(parse_endpoint(name), sleep=Waits(), patience=RetryPolicy(attempts=2))
    with pytest.raises(InfrastructureError, match="connection failed"):
        asked.generate(ask("a"), DECODING)


def test_retry_after_is_waited_for(server: Endpoint) -> None:
    waits = Waits()
    server.script = [status(429, Retry_After="17"), status(429, Retry_After=formatdate(1_000_042, usegmt=True))]
    model(server, waits, now=lambda: 1_000_000.0).generate(ask("a"), DECODING)
    assert waits == [17.0, 42.0]


def test_who_asks_for_too_long_a_wait_is_not_waited_for(server: Endpoint) -> None:
    waits = Waits()
    server.script = [status(429, Retry_After="86400")]
    with pytest.raises(InfrastructureError, match="86400 seconds"):
        model(server, waits).generate(ask("a"), DECODING)
    assert waits == []


@pytest.mark.parametrize(
    ("code", "message", "error_code", "kind", "says"),
    [
        (401, f"Incorrect API key provided: {KEY}", "invalid_api_key", PrerequisiteError, "LASTRESORT_API_KEY"),
        (403, "forbidden", None, PrerequisiteError, "refuses the key"),
        (404, "The model `m` does not exist", "model_not_found", TaskError, "does not exist"),
        (400, f"bad value {KEY}", None, TaskError, r"bad value \*\*\*"),
        (400, "maximum context length is 10 tokens", None, CandidateError, "too long"),
        (400, "the request exceeds the available context size", None, CandidateError, "too long"),
        (400, "prompt is too long: 12 tokens > 10 maximum", None, CandidateError, "too long"),
        (400, "9 prompt tokens and 9 for the answer exceed it", "context_length_exceeded", CandidateError, "too long"),
        (402, "pay", None, InfrastructureError, "credit"),
        (429, "You exceeded your current quota", "insufficient_quota", InfrastructureError, "credit"),
    ],
)
def test_what_will_not_pass_is_said_at_once_in_one_sentence_without_the_key(
    server: Endpoint, code: int, message: str, error_code: str | None, kind: type[LastresortError], says: str
) -> None:
    server.otherwise = status(code, message, error_code)
    with pytest.raises(kind, match=says) as caught:
        model(server).generate(ask("a"), DECODING)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        raw(f"no such key: {KEY}".encode()),
        raw(f"{'x' * 50}{KEY}".encode()),
        reply({"error": {"message": f"wrong key {KEY}"}}),
        reply({"error": f"{'x' * 110} {KEY}"}),
        reply({**completion("", "error"), "error": f"Bearer {KEY} is unknown"}),
    ],
    ids=["no JSON", "no JSON, cut", "error", "error, cut", "unfinished"],
)
def test_a_server_that_echoes_the_key_in_a_reply_puts_it_into_no_message(server: Endpoint, trouble: Step) -> None:
    server.otherwise = trouble
    with pytest.raises(InfrastructureError, match=r"\*\*\*") as caught:
        model(server, patience=RetryPolicy(attempts=1)).generate(ask("a"), DECODING)
    assert KEY[:6] not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://models.example/v1#m", "http://10.0.0.7:8000/v1#m", "http://[2001:db8::1]/v1#m", "HTTP://h/v1#m"]
)
def test_a_key_is_not_sent_unencrypted_to_another_machine(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="LASTRESORT_API_KEY is set and would be sent unencrypted") as caught:
        ApiModel(parse_endpoint(address))
    assert KEY not in str(caught.value)
    monkeypatch.delenv("LASTRESORT_API_KEY")
    ApiModel(parse_endpoint(address))


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:1/v1#m",
        "http://127.0.0.2/v1#m",
        "http://[::1]:8/v1#m",
        "http://0.0.0.0:8/v1#m",
        "https://h/v1#m",
    ],
)
def test_a_key_goes_to_this_machine_and_over_an_encrypted_line(address: str) -> None:
    assert ApiModel(parse_endpoint(address)).name == address


def test_keys_are_hidden_whole_and_placeholders_stay() -> None:
    environment = {"OPENAI_API_KEY": "sk-12345678", "LASTRESORT_API_KEY": "sk-12345678-and-more", "HF_TOKEN": "none"}
    keys = known_keys(environment)
    assert keys == ("sk-12345678", "sk-12345678-and-more")
    assert redacted("sk-12345678-and-more, sk-12345678 and none", keys) == "***, *** and none"


def test_answers_that_arrived_before_a_failure_are_kept(server: Endpoint, tmp_path: Path) -> None:
    server.script = [echo, echo, status(401)]
    with ResponseCache(tmp_path / "r.sqlite") as store:
        with pytest.raises(PrerequisiteError):
            CachedModel(model(server), store).generate(ask("a", "b", "c", "d"), DECODING)
        assert len(server.requests) == 3
        resumed = CachedModel(model(server), store)
        assert [answer.text for answer in resumed.generate(ask("a", "b", "c", "d"), DECODING)] == [
            "<a>",
            "<b>",
            "<c>",
            "<d>",
        ]
    assert [request["messages"][-1]["content"] for request in server.requests] == ["a", "b", "c", "c", "d"]


def test_calls_under_way_when_another_fails_are_paid_and_kept() -> None:
    taken: dict[int, str] = {}

    def work(index: int, stop: threading.Event) -> str:
        if index == 1:
            raise TaskError("no")
        assert stop.wait(10), "the failure of the other call must be known to this one"
        return f"answer {index}"

    with pytest.raises(TaskError):
        run_concurrently(work, 5, workers=2, on_result=lambda index, text: taken.update({index: text}))
    assert taken == {0: "answer 0"}


def test_a_failure_ends_the_retries_of_other_calls(server: Endpoint) -> None:
    refused = threading.Event()

    def other(handler: Handler, request: dict[str, Any]) -> None:
        if request["messages"][-1]["content"] == "bad":
            status(401)(handler, request)
            refused.set()
        else:
            status(500)(handler, request)

    server.otherwise = other
    with pytest.raises(PrerequisiteError):
        model(server, concurrency=2, patience=RetryPolicy(attempts=10**6), sleep=lambda _: refused.wait(10)).generate(
            ask("retried", "bad"), DECODING
        )


def test_ctrl_c_hands_over_what_has_arrived_and_does_not_wait(server: Endpoint) -> None:
    gate = threading.Event()
    server.script = [echo]
    server.otherwise = lambda handler, _: (gate.wait(30), hang_up(handler, _))[1]
    arrived: list[int] = []

    def interrupt(index: int, _: Answer) -> None:
        arrived.append(index)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(server, concurrency=2, timeout_s=60.0).generate(ask("a", "b", "c", "d"), DECODING, interrupt)
    assert len(arrived) == 1
    gate.set()


def test_results_that_wait_when_ctrl_c_comes_are_handed_over() -> None:
    both = threading.Barrier(2)
    taken: list[int] = []

    def work(index: int, _: threading.Event) -> int:
        both.wait(10)
        return index

    def take(index: int, _: int) -> None:
        taken.append(index)
        if len(taken) == 1:
            while not waiting():
                pass
            raise KeyboardInterrupt

    def waiting() -> bool:
        return not any(thread.name.startswith("lastresort-call") for thread in threading.enumerate())

    with pytest.raises(KeyboardInterrupt):
        run_concurrently(work, 2, workers=2, on_result=take)
    assert sorted(taken) == [0, 1]


def test_a_schema_travels_as_response_format(server: Endpoint) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    model(server).generate(ask("a"), Decoding(max_new_tokens=8, grammar=Grammar(json_schema=schema)))
    sent = server.requests[0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == schema


def test_choices_travel_as_an_enum_and_come_back_bare(server: Endpoint) -> None:
    server.script = [reply(completion('{"answer": "tech"}')), reply(completion("billing"))]
    decoding = Decoding(max_new_tokens=8, grammar=Grammar(choices=("billing", "tech")))
    answers = model(server).generate(ask("a", "b"), decoding)
    assert [answer.text for answer in answers] == ["tech", "billing"]
    sent = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["answer"]["enum"] == ["billing", "tech"]


def test_a_server_that_refuses_formats_is_not_asked_plain_and_nothing_is_kept(server: Endpoint, tmp_path: Path) -> None:
    def strict(handler: Handler, request: dict[str, Any]) -> None:
        (status(400, "response_format is not supported") if "response_format" in request else echo)(handler, request)

    server.otherwise = strict
    decoding = Decoding(max_new_tokens=8, grammar=Grammar(choices=("x", "y")))
    with ResponseCache(tmp_path / "r.sqlite") as store:
        for attempt in (1, 2):  # the second would be answered by whatever the first had kept
            cached = CachedModel(model(server), store)
            cached.check_decoding(decoding)
            with pytest.raises(CandidateError, match="response_format is not supported"):
                cached.generate(ask("a", "b", "c"), decoding)
            assert len(server.requests) == attempt
    assert all("response_format" in request for request in server.requests)
    plain = model(server).generate(ask("a"), replace(decoding, grammar=None))
    assert plain[0].text == "<a>"


def test_template_arguments_travel_and_change_the_fingerprint(server: Endpoint) -> None:
    quiet = model(server, template_kwargs={"enable_thinking": False})
    quiet.generate(ask("a"), DECODING)
    assert server.requests[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert quiet.fingerprint != model(server).fingerprint


def test_the_fingerprint_knows_the_address_but_not_the_key(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model(server)
    monkeypatch.setenv("LASTRESORT_API_KEY", "another")
    assert model(server).fingerprint == before.fingerprint
    assert ApiModel(parse_endpoint("https://h/v1#m")).fingerprint != before.fingerprint
    assert KEY not in before.name + before.fingerprint


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("http://host/v1", "NAME"),
        ("openai:", "openai:NAME"),
        ("http://#m", "http://host"),
        ("http://me:secret@host/v1#m", "LASTRESORT_API_KEY"),
    ],
)
def test_a_name_that_is_no_endpoint_is_refused(name: str, says: str) -> None:
    with pytest.raises(TaskError, match=says) as caught:
        parse_endpoint(name)
    assert "secret" not in str(caught.value)


def test_openai_needs_a_key_and_gets_the_new_name_of_the_limit() -> None:
    with pytest.raises(PrerequisiteError, match="OPENAI_API_KEY"):
        ApiModel(parse_endpoint("openai:gpt"))
    builder = RequestBuilder(parse_endpoint("openai:gpt"), name="openai:gpt", template_kwargs={}, timeout_s=1.0)
    request = builder.build(ask("a")[0], DECODING, 0)
    assert request["max_completion_tokens"] == 16
    assert "max_tokens" not in request


@pytest.mark.parametrize(
    ("decoding", "timeout_s"),
    [
        (DECODING, None),
        (replace(DECODING, max_new_tokens=2048), 600.0),
        (replace(DECODING, reasoning_effort="minimal"), 600.0),
    ],
)
def test_a_request_that_may_write_a_long_text_gets_ten_minutes(decoding: Decoding, timeout_s: float | None) -> None:
    """A slow server writes a few tokens a second, and all of a reply comes at once."""
    builder = RequestBuilder(parse_endpoint("http://127.0.0.1:1/v1#m"), name="m", template_kwargs={}, timeout_s=120.0)
    assert builder.build(ask("a")[0], decoding, 0).get("timeout") == timeout_s


def test_the_parameters_of_a_client_replace_our_own_but_for_what_is_changed_on_purpose() -> None:
    choice = replace(DECODING, grammar=Grammar(choices=("a", "b")))
    values = {"temperature": 0.0, "max_tokens": 9, "repeat_penalty": 1, "grammar": 'root ::= "a" | "b"'}
    builder = RequestBuilder(
        parse_endpoint("http://127.0.0.1:1/v1#m"), name="m", template_kwargs={"think": False}, timeout_s=1.0,
        client=ClientParameters(values, choice),
    )  # fmt: skip

    def sent(decoding: Decoding, seed: int = DECODING.seed) -> dict[str, Any]:
        request = builder.build(ask("a")[0], decoding, seed)
        assert request.pop("messages")[-1]["content"] == "a"
        assert request.pop("model") == "m"
        extra = request.pop("extra_body", {})
        return {**request, **extra}

    assert sent(choice) == values
    assert sent(choice, 5) == values | {"seed": 5}
    assert sent(replace(choice, max_new_tokens=64)) == values | {"max_tokens": 64}
    free = {key: value for key, value in values.items() if key != "grammar"}
    assert sent(DECODING) == free
    odd = sent(replace(DECODING, grammar=Grammar(json_schema={"type": "object"})))
    assert odd.pop("response_format")["json_schema"]["schema"] == {"type": "object"}
    assert odd == free


def test_a_reasoning_model_is_asked_without_a_temperature_and_with_room_to_think(
    server: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    server.otherwise = refuses("max_tokens", "temperature")
    asked = model(server)
    assert [answer.text for answer in asked.generate(ask("a", "b"), DECODING)] == ["<a>", "<b>"]
    first, second, third, last = server.requests
    assert (first["max_tokens"], first["temperature"]) == (16, 0.0)
    assert (second["max_completion_tokens"], second["temperature"]) == (16, 0.0)
    assert third["max_completion_tokens"] == last["max_completion_tokens"] == 16 + THINKING_TOKENS["medium"]
    assert not {"max_tokens", "temperature"} & {*third, *last}
    [note] = [record.message for record in caplog.records if "temperature" in record.message]
    assert note.startswith(f"{server.name} takes no temperature: it samples at its own temperature")


def test_a_server_that_takes_a_temperature_is_asked_for_the_likeliest_answer(server: Endpoint) -> None:
    model(server).generate(ask("a", "b"), DECODING)
    assert [(request["temperature"], request["max_tokens"]) for request in server.requests] == [(0.0, 16)] * 2
    assert "reasoning_effort" not in server.requests[0]


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high"])
def test_an_effort_is_sent_with_room_for_it(server: Endpoint, effort: Any) -> None:
    model(server).generate(ask("a"), replace(DECODING, reasoning_effort=effort))
    [request] = server.requests
    assert (request["reasoning_effort"], request["max_tokens"]) == (effort, 16 + THINKING_TOKENS[effort])


@pytest.mark.parametrize(
    ("name", "decoding"),
    [
        ("temperature", replace(DECODING, temperature=0.7)),
        ("reasoning_effort", replace(DECODING, reasoning_effort="minimal")),
        ("stop", DECODING),
    ],
)
def test_a_parameter_that_was_chosen_is_not_left_out_but_named(server: Endpoint, name: str, decoding: Decoding) -> None:
    server.otherwise = refuses(name)
    with pytest.raises(TaskError, match=rf"the model refuses {name}: Unsupported parameter.*Leave it out") as caught:
        model(server).generate(ask("a"), decoding)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_server_that_goes_on_refusing_what_it_was_not_sent_is_not_asked_for_ever(server: Endpoint) -> None:
    server.otherwise = status(400, "no", "unsupported_value", "temperature")
    with pytest.raises(TaskError, match="the model refuses temperature"):
        model(server).generate(ask("a"), DECODING)
    assert len(server.requests) == 2


def test_a_form_that_is_refused_by_its_name_is_still_a_matter_of_the_candidate(server: Endpoint) -> None:
    server.otherwise = status(400, "no json_schema here", "unsupported_parameter", "response_format")
    with pytest.raises(CandidateError, match="does not support this response format"):
        model(server).generate(ask("a"), replace(DECODING, grammar=Grammar(choices=("a", "b"))))


def test_a_refusal_or_an_answer_cut_before_its_first_word_is_an_answer() -> None:
    refused = completion(None)
    refused["choices"][0]["message"]["refusal"] = "I will not."
    assert read_reply(json.dumps(refused)).text == "I will not."
    assert read_reply(json.dumps(completion(None, "length"))).finish == "length"
    assert read_reply(json.dumps(completion("", "content_filter"))).text == ""


def test_waits_double_are_scaled_by_chance_and_capped() -> None:
    patience = RetryPolicy(first_wait_s=1.0, longest_wait_s=10.0)
    waits = [wait_s(attempt, None, patience, Random(0)) for attempt in range(1, 8)]
    assert waits == [wait_s(attempt, None, patience, Random(0)) for attempt in range(1, 8)]
    scale = waits[0]
    assert [wait / scale for wait in waits] == pytest.approx([1, 2, 4, 8, 10, 10, 10])
    assert wait_s(1, 33.0, patience, Random(0)) == 33.0


def test_a_limit_that_counts_by_the_minute_is_outlasted() -> None:
    class Shortest(Random):
        def random(self) -> float:
            return 0.0

    patience = RetryPolicy()
    assert sum(wait_s(attempt, None, patience, Shortest()) for attempt in range(1, patience.attempts)) > 60


def test_a_key_read_from_a_file_with_its_line_break_is_the_key(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTRESORT_API_KEY", f"{KEY}\n")
    model(server).generate(ask("a"), DECODING)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_retry_after_reads_seconds_dates_and_nonsense() -> None:
    assert retry_after_s("2.5", 0) == 2.5
    assert retry_after_s(formatdate(100, usegmt=True), 40.0) == 60.0
    assert retry_after_s(formatdate(100, usegmt=True), 140.0) == 0.0
    assert retry_after_s("soon", 0) is None
    assert retry_after_s(None, 0) is None


def test_garbage_names_its_beginning() -> None:
    with pytest.raises(TransientFailure, match="<html>"):
        read_reply("<html>")


def test_replies_carry_what_the_server_tells_and_nothing_that_is_malformed(server: Endpoint) -> None:
    whole = {**completion("ab"), "model": "policy-3"}
    whole["prompt_token_ids"] = [7, 8]
    whole["choices"][0] |= {
        "token_ids": [1, 2],
        "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -1}]},
        "stop_reason": None,
    }
    broken = {**completion("ab"), "model": "policy-3"}
    broken["prompt_token_ids"] = [7, "8"]
    broken["choices"][0] |= {"token_ids": [1, 2], "logprobs": {"content": [{"logprob": -0.5}]}, "stop_reason": "END"}
    server.script = [reply(whole), reply(broken), echo]
    asked = model(server)
    found = asked.replies(ask("a", "b", "c"), DECODING, served_as="policy-3", extra={"return_token_ids": True})
    assert found[0].tokens == Tokens((7, 8), (1, 2), (-0.5, -1.0), "")
    assert found[1].tokens == Tokens(None, (1, 2), None, "END")
    assert (found[2].text, found[2].tokens) == ("<c>", Tokens())
    assert all(request["model"] == "policy-3" and request["return_token_ids"] is True for request in server.requests)


def test_replies_can_leave_out_what_a_client_may_leave_out(server: Endpoint) -> None:
    model(server).replies(ask("a"), DECODING, without=("temperature", "seed"))
    assert {"temperature", "seed"} & server.requests[0].keys() == set()
    assert server.requests[0]["max_tokens"] == 16


def test_replies_leave_out_what_the_model_refuses_by_name(server: Endpoint) -> None:
    server.otherwise = refuses("seed")
    (found,) = model(server).replies(ask("a"), DECODING)
    assert found.text == "<a>"


def test_the_models_that_a_server_lists(server: Endpoint) -> None:
    assert model(server).offered() == (OfferedModel("m", "somebody"),)


@pytest.mark.parametrize("body", ['{"data": 3}', "[]", '{"data": [3, {"owned_by": "x"}, {"id": 4}]}'])
def test_a_list_of_another_form_names_no_model(body: str) -> None:
    assert read_offered(body) == ()


def test_a_list_of_models_that_is_no_json_is_a_fault_of_the_connection() -> None:
    with pytest.raises(TransientFailure, match="is not JSON"):
        read_offered("<html>")
    assert read_offered('{"data": [{"id": "a"}]}') == (OfferedModel("a"),)


def test_a_command_is_done_denied_or_tried_again(server: Endpoint) -> None:
    server.script = [reply({}), hang_up, status(503), reply({}), status(500, f"rank too large {KEY}"), status(404)]
    asked, body = model(server, waits := Waits()), {"lora_name": "x"}
    assert asked.command("/load_lora_adapter", body) is None
    assert server.requests == [body]
    assert asked.command("/load_lora_adapter", body) is None
    assert (len(server.requests), len(waits)) == (4, 2)
    assert asked.command("/load_lora_adapter", body) == CommandDenied(500, "rank too large ***")
    assert asked.command("/load_lora_adapter", body) == CommandDenied(404, "no")
    server.otherwise = hang_up
    with pytest.raises(InfrastructureError, match="connection failed"):
        asked.command("/load_lora_adapter", body, patience=RetryPolicy(attempts=1))
    assert len(server.requests) == 7


COUNTED = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


def streamed(asked: ApiModel, decoding: Decoding = DECODING, **how: Any) -> tuple[list[str], Answer]:
    answers: list[Answer] = []
    pieces = list(asked.stream(ask("a")[0], decoding, on_answer=lambda _, answer: answers.append(answer), **how))
    assert len(answers) == 1
    return pieces, answers[0]


def test_an_answer_is_shown_as_the_server_sends_it_and_is_the_one_that_it_gives_whole(server: Endpoint) -> None:
    server.script = [events(piece(""), piece("<"), piece("a>"), piece(None, "stop"), COUNTED), echo]
    asked = model(server, prompt_price=10.0, output_price=100.0, clock=lambda: 0.0)
    pieces, answer = streamed(asked)
    assert pieces == ["<", "a>"]
    assert answer == asked.generate(ask("a"), DECODING)[0]
    first, second = server.requests
    assert first == {**second, "stream": True, "stream_options": {"include_usage": True}}


def test_an_uncounted_stream_is_estimated_and_a_cut_one_says_so(server: Endpoint) -> None:
    server.script = [
        status(400, "Unsupported parameter", "unsupported_parameter", "stream_options"),
        events(piece("1234"), piece("5678", "length")),
    ]
    asked = model(server)
    _, answer = streamed(asked)
    assert (answer.text, answer.completion_tokens, answer.finish) == ("12345678", 2, "length")
    assert "stream_options" not in server.requests[1]


@pytest.mark.parametrize(
    "trouble",
    [
        status(503),
        hang_up,
        cut_mid_body,
        events(done=False),
        events(),
        events("{garbage"),
        events({"error": {"message": "overloaded"}}),
    ],
)
def test_what_fails_before_the_first_word_is_asked_again(server: Endpoint, trouble: Step) -> None:
    server.script = [trouble, events(piece("fine", "stop"))]
    waits = Waits()
    assert streamed(model(server, sleep=waits))[0] == ["fine"]
    assert len(waits) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        events(piece("ha"), done=False),
        events(piece("ha")),
        events(piece("ha"), "{garbage"),
        events(piece("ha"), {"error": {"message": f"overloaded, {KEY}"}}),
    ],
)
def test_what_fails_after_the_first_word_is_a_broken_answer_and_no_whole_one(server: Endpoint, trouble: Step) -> None:
    server.script = [trouble]
    shown: list[str] = []
    with pytest.raises(InfrastructureError, match="broke off") as caught:
        shown.extend(model(server).stream(ask("a")[0], DECODING, on_answer=lambda _, answer: pytest.fail("whole")))
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)


def test_a_stream_that_is_refused_raises_what_a_whole_answer_raises(server: Endpoint) -> None:
    server.script = [status(401, f"no such key {KEY}")]
    with pytest.raises(PrerequisiteError) as caught:
        streamed(model(server))
    assert KEY not in str(caught.value)
    server.script = [refuses("temperature", "seed"), refuses("temperature", "seed"), events(piece("x", "stop"))]
    streamed(model(server))
    assert not {"temperature", "seed"} & set(server.requests[-1])


def test_choices_come_out_of_their_object(server: Endpoint) -> None:
    decoding = Decoding(8, grammar=Grammar(choices=("yes", "no")))
    server.script = [events(piece('{"ans'), piece('wer": "yes"}'), piece(None, "stop"))]
    pieces, answer = streamed(model(server), decoding)
    assert (pieces, answer.text) == (["yes"], "yes")


def test_a_request_to_stop_ends_a_streamed_answer(server: Endpoint) -> None:
    stop = StopSignal()
    stop.request()
    server.script = [events(piece("one"), piece(" two"), piece(None, "stop"))]
    pieces, answer = streamed(model(server), stop=stop)
    assert (pieces, answer.text, answer.finish) == (["one"], "one", "length")


def test_an_interrupt_as_the_threads_start_tells_them_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what they call would be tried again, and paid for, behind the back of the program."""
    start, stops = threading.Thread.start, list[threading.Event]()
    begun = threading.Semaphore(0)

    def work(_: int, stop: threading.Event) -> None:
        stops.append(stop)
        begun.release()
        stop.wait(10)

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        begun.acquire()
        if len(stops) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_concurrently(work, 2, workers=2, on_result=lambda *_: None)
    assert stops[0].is_set()


def test_a_call_left_behind_is_charged_once(server: Endpoint) -> None:
    """It fails while later calls are under way, and takes none of theirs away."""
    lost: list[float] = []
    begun, late = threading.Semaphore(0), threading.Event()

    def left_behind(handler: Handler, request: dict[str, Any]) -> None:
        begun.release()
        late.wait(10)
        cut_mid_body(handler, request)

    def second(handler: Handler, request: dict[str, Any]) -> None:
        late.set()
        for thread in left:
            thread.join(5)
        handler.send(200, completion("x", usage={"prompt_tokens": 1, "completion_tokens": 1}))

    server.script, server.otherwise = [left_behind, left_behind], second
    asked = model(server, concurrency=2, on_lost=lost.append, prompt_price=10.0, output_price=100.0)

    def interrupt() -> None:
        begun.acquire()
        begun.acquire()
        left[:] = [thread for thread in threading.enumerate() if thread.name.startswith("lastresort-call")]
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    left: list[threading.Thread] = []
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        asked.generate(ask("a", "b"), DECODING)
    (charged,) = lost
    answers = asked.generate(ask("c"), DECODING)
    assert charged > 0
    assert [answer.paid for answer in answers] == [pytest.approx(answers[0].usd)]
    assert lost == [charged]
