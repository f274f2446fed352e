"""A key belongs to a host, a run that names another endpoint asks first, and no key is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import pytest

from lastresort.errors import InputError, TaskError
from lastresort.keys import (
    Host,
    host_of,
    is_secret,
    keys_by_host,
    known_keys,
    named_hosts,
    redacted,
    redacted_stream,
    redacted_value,
)
from lastresort.models.endpoint import approved, key_for, nobody_to_ask, parse_endpoint

KEY, OTHER, OPENAI = "sk-0123456789abcdef", "sk-other-0123456789", "sk-openai-0123456789"
GPU, GATEWAY, HERE = "https://gpu7.example:8443/v1#m", "https://models.example/v1#m", "http://localhost:8000/v1#m"
LAN, OPENAI_NAME = "http://10.0.0.7:8000/v1#m", "openai:gpt"
ONE, HOSTS, KEYS = "LASTRESORT_API_KEY", "LASTRESORT_API_HOSTS", "LASTRESORT_API_KEYS"


@pytest.mark.parametrize(
    ("name", "environment", "named", "sent"),
    [
        # The user's own file names the endpoint.
        (GATEWAY, {ONE: KEY}, True, KEY),
        (HERE, {ONE: KEY}, True, KEY),
        (GATEWAY, {ONE: f"{KEY}\n"}, True, KEY),
        (GATEWAY, {}, True, ""),
        (GATEWAY, {ONE: KEY, HOSTS: "models.example"}, True, KEY),
        (GATEWAY, {ONE: KEY, HOSTS: "gpu7.example, models.example:443"}, True, KEY),
        (GATEWAY, {ONE: KEY, HOSTS: "MODELS.Example."}, True, KEY),
        (GATEWAY, {ONE: KEY, HOSTS: " "}, True, KEY),
        (GATEWAY, {ONE: KEY, HOSTS: "gpu7.example"}, True, ""),
        (GATEWAY, {ONE: KEY, HOSTS: "models.example:8443"}, True, ""),
        (GATEWAY, {ONE: KEY, HOSTS: "example"}, True, ""),
        (GATEWAY, {ONE: KEY, HOSTS: "my-models.example"}, True, ""),
        (GATEWAY, {ONE: KEY, HOSTS: "models.example.org"}, True, ""),
        (GPU, {ONE: KEY, HOSTS: "gpu7.example"}, True, KEY),
        (GPU, {ONE: KEY, HOSTS: "gpu7.example:8443"}, True, KEY),
        (GPU, {ONE: KEY, HOSTS: "gpu7.example:443"}, True, ""),
        (HERE, {ONE: KEY, HOSTS: "models.example"}, True, ""),
        (HERE, {ONE: KEY, HOSTS: "localhost:8000"}, True, KEY),
        ("http://[::1]:8000/v1#m", {ONE: KEY, HOSTS: "[::1]:8000"}, True, KEY),
        ("https://MODELS.example:443/v1#m", {ONE: KEY, HOSTS: "models.example:443"}, True, KEY),
        (LAN, {ONE: KEY, HOSTS: "models.example"}, True, ""),  # a server on the local network that needs no key
        # A key of the host itself comes first.
        (GATEWAY, {ONE: KEY, KEYS: f"models.example={OTHER}"}, True, OTHER),
        (GATEWAY, {KEYS: f"gpu7.example={KEY},models.example={OTHER}"}, True, OTHER),
        (GPU, {KEYS: f"gpu7.example={KEY},gpu7.example:8443={OTHER}"}, True, OTHER),
        (GPU, {KEYS: f"gpu7.example:8443={OTHER},gpu7.example={KEY}"}, True, OTHER),
        (GPU, {KEYS: f"gpu7.example:1={OTHER}"}, True, ""),
        (GATEWAY, {KEYS: f"models.example={OTHER}=="}, True, f"{OTHER}=="),
        (GATEWAY, {ONE: KEY, HOSTS: "gpu7.example", KEYS: f"models.example={OTHER}"}, False, OTHER),
        (OPENAI_NAME, {"OPENAI_API_KEY": OPENAI, ONE: KEY}, True, OPENAI),
        ("https://api.openai.com/v1#gpt", {"OPENAI_API_KEY": OPENAI, "LASTRESORT_API_KEY": KEY}, True, OPENAI),
        (OPENAI_NAME, {"OPENAI_API_KEY": OPENAI, KEYS: f"api.openai.com={OTHER}"}, True, OTHER),
        (OPENAI_NAME, {"OPENAI_API_KEY": OPENAI, ONE: KEY, HOSTS: "models.example"}, False, OPENAI),
        (OPENAI_NAME, {ONE: KEY}, True, ""),
        (GATEWAY, {"OPENAI_API_KEY": OPENAI}, True, ""),
        # Only a run names it.
        (GATEWAY, {ONE: KEY}, False, ""),
        (HERE, {ONE: KEY}, False, ""),
        (GATEWAY, {ONE: KEY, HOSTS: "models.example"}, False, KEY),
        (HERE, {ONE: KEY, HOSTS: "localhost"}, False, KEY),
        (LAN, {ONE: KEY}, False, ""),
    ],
)  # fmt: skip
def test_a_key_goes_to_its_host_alone(name: str, environment: dict[str, str], named: bool, sent: str) -> None:
    assert key_for(parse_endpoint(name), environment, named=named) == sent


@pytest.mark.parametrize(
    ("environment", "variable"),
    [({ONE: KEY}, ONE), ({ONE: KEY, HOSTS: "10.0.0.7"}, ONE), ({KEYS: f"10.0.0.7:8000={KEY}"}, KEYS)],
)
def test_no_key_of_any_form_crosses_a_network_unencrypted(environment: dict[str, str], variable: str) -> None:
    with pytest.raises(TaskError, match=f"{variable} is set and would be sent unencrypted") as caught:
        key_for(parse_endpoint(LAN), environment, named=True)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        "https://models.example",
        "models.example/v1",
        "me:pw@models.example",
        "a b",
        "*.example",
        ":8000",
        "h:x",
        "h:99999",
        "[::1",
        "h?x",
        "=",
        f"models.example={KEY}",
    ],
)
def test_an_entry_that_is_no_host_is_named(entry: str) -> None:
    with pytest.raises(InputError, match=r"LASTRESORT_API_HOSTS: entry 2 .*no host") as caught:
        named_hosts({HOSTS: f"models.example,{entry}"})
    assert (entry in str(caught.value)) is not bool({"=", "@"} & set(entry))


@pytest.mark.parametrize(
    "entry", [KEY, f"={KEY}", f"https://h={KEY}", f"me@h={KEY}", "h=", f"{KEY}/h={KEY}", f"h {KEY}={KEY}"]
)
def test_a_pair_that_cannot_be_read_is_named_without_showing_it(entry: str) -> None:
    with pytest.raises(InputError, match="LASTRESORT_API_KEYS: entry 1") as caught:
        keys_by_host({KEYS: entry})
    assert KEY not in str(caught.value)
    assert KEY in redacted(KEY, ()) != redacted(f"it was {KEY}", known_keys({KEYS: entry}))


def test_hosts_and_pairs_are_read() -> None:
    assert named_hosts({}) is None
    assert named_hosts({HOSTS: "a, B:1,,[::1]:2 ,"}) == (Host("a"), Host("b", 1), Host("::1", 2))
    assert keys_by_host({KEYS: "a=1=2 , b:3=4"}) == {Host("a"): "1=2", Host("b", 3): "4"}
    assert [str(Host("::1", 2)), str(Host("a"))] == ["[::1]:2", "a"]
    assert host_of("https://A.example./v1") == Host("a.example", 443)
    with pytest.raises(ValueError, match="no host"):
        host_of("/v1")


@pytest.mark.parametrize(
    ("name", "environment", "named"),
    [
        (OPENAI_NAME, {}, True),
        (GATEWAY, {HOSTS: "models.example"}, True),
        (GATEWAY, {KEYS: f"models.example={KEY}"}, True),
        (HERE, {HOSTS: "localhost"}, True),
        (HERE, {}, False),
        (HERE, {ONE: KEY}, False),
        ("http://0.0.0.0:1/v1#m", {ONE: KEY}, False),
    ],
)
def test_an_endpoint_of_a_run_that_the_environment_names_or_that_is_here_needs_no_question(
    name: str, environment: dict[str, str], named: bool
) -> None:
    assert approved(parse_endpoint(name), environment, nobody_to_ask) is named


def asked(answer: bool) -> tuple[list[str], Callable[[str], bool]]:
    questions: list[str] = []

    def approve(question: str) -> bool:
        questions.append(question)
        return answer

    return questions, approve


@pytest.mark.parametrize(
    ("name", "environment", "with_key"),
    [
        (GATEWAY, {ONE: KEY}, True),
        (GATEWAY, {}, False),
        (GATEWAY, {ONE: KEY, HOSTS: "gpu7.example"}, False),
        (GATEWAY, {ONE: KEY, KEYS: f"models.example:1={KEY}"}, True),
        (LAN, {HOSTS: "10.0.0.70"}, False),
        ("https://localhost.example/v1#m", {}, False),
        ("https://127.0.0.1.example/v1#m", {HOSTS: "127.0.0.1"}, False),
        ("http://[::ffff:127.0.0.1]/v1#m", {}, False),
        ("http://169.254.169.254/latest#m", {}, False),
    ],
)
def test_another_endpoint_of_a_run_is_a_question_that_says_what_is_sent(
    name: str, environment: dict[str, str], with_key: bool
) -> None:
    questions, yes = asked(True)
    assert approved(parse_endpoint(name), environment, yes) is True
    assert len(questions) == 1
    assert name in questions[0]
    assert (ONE in questions[0]) is with_key
    with pytest.raises(InputError, match=f"If you trust it, set {HOSTS}=") as caught:
        approved(parse_endpoint(name), environment, asked(False)[1])
    assert KEY not in str(caught.value)
    with pytest.raises(InputError):
        approved(parse_endpoint(name), environment, nobody_to_ask)


@pytest.mark.parametrize(
    "name",
    [
        "http://h:x/v1#m",
        "http://h:99999/v1#m",
        "http://[::1/v1#m",
        "http://h:0/v1#m",
        "https:///v1#m",
        "https://#m",
        "http://:80/v1#m",
        "https://h\\@e/v1#m",
        "https://a\\b/v1#m",
        "https://a b/v1#m",
        "https://a\tb/v1#m",
        "https://a\nb/v1#m",
        "https://h%2f/v1#m",
    ],
)
def test_an_address_that_two_readers_could_read_as_two_hosts_is_none(name: str) -> None:
    with pytest.raises(TaskError):
        parse_endpoint(name)


@pytest.mark.parametrize(
    "value",
    [
        "none",
        "EMPTY",
        "not-needed",
        "no-key-required",
        "sk-no-key-required",
        "lastresort",
        "password",
        "your key here",
        "",
        "1234567",
    ],
)
def test_a_placeholder_is_no_secret_as_it_occurs_in_answers(value: str) -> None:
    assert not is_secret(value)
    assert known_keys({ONE: value, KEYS: f"h={value}" if value else ""}) == ()


@pytest.mark.parametrize(
    "value", ["token-abc123", "12345678", "sk-a-key-that-must-not-be-seen", "hf_abcdefghijklmnopqrst"]
)
def test_what_may_be_a_secret_is_one(value: str) -> None:
    for name in ("OPENAI_API_KEY", ONE, "HF_TOKEN", "OPENAI_ADMIN_KEY", "WANDB_API_KEY"):
        assert known_keys({name: f" {value}\n"}) == (value,)
    assert known_keys({KEYS: f"a=none,h:1={value}"}) == (value,)


def test_keys_are_hidden_in_all_of_a_document() -> None:
    document = {"a": [KEY, {KEY: f"x{KEY}y"}], "n": 1, "t": (None, KEY), "deep": {"b": [True, 1.5]}}
    found = redacted_value(document, [KEY])
    assert KEY not in json.dumps(found)
    assert found == {"a": ["***", {"***": "x***y"}], "n": 1, "t": [None, "***"], "deep": {"b": [True, 1.5]}}


@pytest.mark.parametrize("seed", range(20))
def test_a_key_is_hidden_however_a_stream_cuts_it(seed: int) -> None:
    random = Random(seed)
    text = "".join(random.choice([KEY, KEY[:7], OTHER, "sk-", "word ", "s"]) for _ in range(30))
    pieces, rest = [], text
    while rest:
        size = random.randint(1, 9)
        pieces.append(rest[:size])
        rest = rest[size:]
    shown = list(redacted_stream(pieces, [KEY, OTHER]))
    assert "".join(shown) == redacted(text, [KEY, OTHER])
    assert all(KEY not in "".join(shown[: n + 1]) for n in range(len(shown)))


def test_a_stream_without_keys_keeps_its_pieces() -> None:
    assert list(redacted_stream(["a", "b ", "c"], [])) == ["a", "b ", "c"]
    assert list(redacted_stream(["a", "b ", "c"], [KEY])) == ["a", "b ", "c"]
    assert list(redacted_stream(["k", "s", "k"], [KEY])) == ["k", "sk"]


def test_the_key_of_our_own_server_is_a_secret_whatever_it_looks_like() -> None:
    assert known_keys({"LASTRESORT_SERVE_KEY": "correct-horse-bat"}) == ("correct-horse-bat",)
    assert known_keys({"LASTRESORT_SERVE_KEY": "not-needed"}) == ()
