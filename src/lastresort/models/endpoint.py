"""Where a model answers: `openai:NAME` and `http://host/v1#NAME` parsed, and which key goes there.

A key belongs to a host. LASTRESORT_API_KEY is sent to a host that the user's own file or option names, or, if
LASTRESORT_API_HOSTS is set, to the hosts in it alone. A run is not the user's own file: somebody may have shared it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lastresort.errors import InputError, TaskError
from lastresort.keys import HOSTS, KEY, KEYS, Host, host_of, keys_by_host, named_hosts

_AMBIGUOUS = re.compile(
    r"[\s\\\x00-\x1f\x7f]|^[^/]*//[^/]*%"
)  # which some read as the end of a host, and others as its part
_LONGEST_NAME = 400
OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a model. key_name: the environment variable that holds its key, if none is given for its host alone."""

    url: str
    model: str
    key_name: str

    @property
    def is_openai(self) -> bool:
        return self.url == OPENAI_URL

    @property
    def host(self) -> Host:
        return host_of(self.url)

    @property
    def is_unencrypted(self) -> bool:
        """Whether requests cross a network unencrypted."""
        return urlsplit(self.url).scheme != "https" and not self.host.is_this_machine

    def __str__(self) -> str:
        return f"{self.url}#{self.model}"


Approve = Callable[[str], bool]
"""Asks the user a question about an endpoint that a run names. True for yes."""


def nobody_to_ask(question: str) -> bool:
    return False


def parse_endpoint(name: str) -> Endpoint:
    """Parse `openai:NAME` or `http://host/v1#NAME`. Raises TaskError if the model is missing or a password is in the address."""
    if len(name) > _LONGEST_NAME:
        raise TaskError(
            f"a name of {len(name):,} characters",
            where="model",
            expected=f"at most {_LONGEST_NAME}",
            remedy="Correct the address or the model's name.",
        )
    if name.startswith("openai:"):
        url, model, key_name = OPENAI_URL, name.removeprefix("openai:"), "OPENAI_API_KEY"
    else:
        url, _, model = name.partition("#")
        url = url.rstrip("/")
        key_name = "OPENAI_API_KEY" if url == OPENAI_URL else KEY
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 and not _AMBIGUOUS.search(url) else None
    except ValueError:  # a port that is none, half an IPv6 address
        parts, host = urlsplit(""), None
    if parts.username or parts.password:
        raise TaskError(
            "the address holds a user name or password",
            where="model",
            remedy=f"Take it out and set {key_name} instead.",
        )
    if not model or not host:
        raise TaskError(
            f'found "{name}"',
            where="model",
            expected="openai:NAME or http://host/v1#NAME",
            remedy="Name the model to ask for.",
        )
    return Endpoint(url, model, key_name)


def key_for(endpoint: Endpoint, environment: Mapping[str, str], *, named: bool) -> str:
    """The key to send there, "" for none. named: whether the user named this endpoint.

    Raises TaskError if the key would cross a network unencrypted. Without a key any address is allowed.
    """
    key = _key_of_host(endpoint.host, environment)
    if key is None:
        hosts = named_hosts(environment)
        allowed = endpoint.key_name != KEY or (named if hosts is None else _covered(endpoint.host, hosts))
        key = environment.get(endpoint.key_name, "").strip() if allowed else ""  # a file's line break is no header
        name = endpoint.key_name
    else:
        name = KEYS
    if key and endpoint.is_unencrypted:
        raise TaskError(
            f"{name} is set and would be sent unencrypted over http",
            where=str(endpoint),
            expected="an https address, or a server on this machine",
            remedy=f"Write https://. For a server that needs no key, unset {name}, or set {HOSTS} to the hosts that do.",
        )
    return key


def approved(endpoint: Endpoint, environment: Mapping[str, str], approve: Approve) -> bool:
    """Whether the user named this endpoint, which a run names. Asks if the environment does not say, except for servers on this
    machine, which may be asked without a key.

    Raises InputError if it must not be asked at all.
    """
    hosts = (*(named_hosts(environment) or ()), *keys_by_host(environment))
    if endpoint.is_openai or _covered(endpoint.host, hosts):
        return True
    if endpoint.host.is_this_machine:
        return False
    sent = f", with {KEY}" if environment.get(KEY, "").strip() and named_hosts(environment) is None else ""
    if approve(f"This run sends its inputs to {endpoint}{sent}. Continue?"):
        return True
    raise InputError(
        "this run sends its inputs to an endpoint that you did not name",
        where=str(endpoint),
        expected=f"an endpoint in your own task file, or a host in {HOSTS}",
        remedy=f"If you trust it, set {HOSTS}={endpoint.host.name}.",
    )


def _key_of_host(host: Host, environment: Mapping[str, str]) -> str | None:
    keys = keys_by_host(environment)
    of_port = (key for known, key in keys.items() if known == host)
    return next(of_port, keys.get(Host(host.name)))


def _covered(host: Host, hosts: tuple[Host, ...]) -> bool:
    return any(known.covers(host) for known in hosts)
