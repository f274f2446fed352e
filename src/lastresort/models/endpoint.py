"""Where a model answers: `openai:NAME` and `http://host/v1#NAME` parsed, and their keys.

Keys come from the environment alone and appear in no message.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lastresort.errors import TaskError

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a model. key_name: the environment variable that holds its key."""

    url: str
    model: str
    key_name: str

    @property
    def is_openai(self) -> bool:
        return self.url == OPENAI_URL

    @property
    def is_unencrypted(self) -> bool:
        """Whether requests cross a network unencrypted."""
        parts = urlsplit(self.url)
        return parts.scheme != "https" and not _is_this_machine(parts.hostname or "")


def parse_endpoint(name: str) -> Endpoint:
    """Parse `openai:NAME` or `http://host/v1#NAME`. Raises TaskError if the model is missing or a password is in the address."""
    if name.startswith("openai:"):
        url, model, key_name = OPENAI_URL, name.removeprefix("openai:"), "OPENAI_API_KEY"
    else:
        url, _, model = name.partition("#")
        url, key_name = url.rstrip("/"), "LASTRESORT_API_KEY"
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise TaskError(
            "the address holds a user name or password",
            where="model",
            remedy=f"Take it out and set {key_name} instead.",
        )
    if not model or not parts.hostname:
        raise TaskError(
            f'found "{name}"',
            where="model",
            expected="openai:NAME or http://host/v1#NAME",
            remedy="Name the model to ask for.",
        )
    return Endpoint(url, model, key_name)


def refuse_unencrypted_key(endpoint: Endpoint, key: str) -> None:
    """Raises TaskError if a key would cross a network unencrypted. Without a key any address is allowed."""
    if key and endpoint.is_unencrypted:
        raise TaskError(
            f"{endpoint.key_name} is set and would be sent unencrypted over http",
            where=f"{endpoint.url}#{endpoint.model}",
            expected="an https address, or a server on this machine",
            remedy=f"Write https://, or unset {endpoint.key_name} for a server that needs no key.",
        )


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
        return (
            address.is_loopback or address.is_unspecified
        )  # 0.0.0.0, as servers name themselves, leads to this machine
    except ValueError:
        return False


NAMES = ("OPENAI_API_KEY", "LASTRESORT_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HIDDEN = "***"
_SHORTEST_SECRET = (
    8  # servers that want no key are given words such as "none", which are no secret and occur in sentences
)


def known_keys(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets in an environment. A shorter value is a placeholder."""
    found = (environment.get(name, "").strip() for name in NAMES)
    return tuple(key for key in found if len(key) >= _SHORTEST_SECRET)


def redacted(text: str, keys: Iterable[str]) -> str:
    """The text with *** in place of each key. The longest goes first, as one key may be the start of another."""
    for key in sorted(filter(None, keys), key=len, reverse=True):
        text = text.replace(key, HIDDEN)
    return text
