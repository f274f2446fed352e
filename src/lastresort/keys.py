"""Keys of endpoints: to which host each belongs, how they are hidden in all that is shown or written, and what of the environment
code of the user's gets.

Keys come from the environment alone and appear in no message.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lastresort.errors import InputError

KEY, HOSTS, KEYS = "LASTRESORT_API_KEY", "LASTRESORT_API_HOSTS", "LASTRESORT_API_KEYS"
SERVE_KEY = "LASTRESORT_SERVE_KEY"  # what our own server wants of its clients
SHORTEST_SERVE_KEY = 16
SECRETS = (
    "OPENAI_API_KEY", KEY, SERVE_KEY, "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
)  # fmt: skip
# It names variables that the user's code, and processes that the page starts, get as well.
PASSED = "LASTRESORT_PASS_ENV"
CODE_NEEDS = frozenset(
    # of the user and the system
    "PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR TEMP TMP LD_LIBRARY_PATH DYLD_LIBRARY_PATH XDG_CACHE_HOME "
    # of Windows, where no process starts without SYSTEMROOT
    "SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERNAME USERPROFILE HOMEDRIVE HOMEPATH APPDATA LOCALAPPDATA PROGRAMDATA "
    "PROGRAMFILES NUMBER_OF_PROCESSORS PROCESSOR_ARCHITECTURE "
    # of Python, and of what it computes with
    "PYTHONPATH PYTHONHOME PYTHONUTF8 PYTHONIOENCODING PYTHONHASHSEED PYTHONDONTWRITEBYTECODE VIRTUAL_ENV CONDA_PREFIX JAVA_HOME "
    "GOMP_SPINCOUNT TOKENIZERS_PARALLELISM RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE "
    # of models and data that are on this machine
    "HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE HF_HUB_DISABLE_TELEMETRY HF_DATASETS_OFFLINE TRANSFORMERS_OFFLINE NLTK_DATA "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE".split()
)
# How the names of further variables begin, none of which holds a key.
COMPUTES = tuple("LC_ OMP_ KMP_ MKL_ OPENBLAS_ NUMEXPR_ NUMBA_ CUDA_".split())
_NAME = re.compile(r"[\w.-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """A host, in lower case. port: None for all of its ports."""

    name: str
    port: int | None = None

    @property
    def is_this_machine(self) -> bool:
        if self.name == "localhost" or self.name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(self.name)
        except ValueError:
            return False
        return address.is_loopback or address.is_unspecified  # servers name themselves 0.0.0.0, which leads here

    def covers(self, other: Host) -> bool:
        return self.name == other.name and self.port in (None, other.port)

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def host_of(url: str) -> Host:
    """The host that requests to this address reach, with its port. Raises ValueError if the address has none."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    return Host(parts.hostname.rstrip("."), parts.port or _PORTS.get(parts.scheme))


def named_hosts(environment: Mapping[str, str]) -> tuple[Host, ...] | None:
    """The hosts in LASTRESORT_API_HOSTS, which alone may get LASTRESORT_API_KEY. None if it is not set.

    Raises InputError for an entry that is no host.
    """
    entries = _entries(environment.get(HOSTS, ""))
    return tuple(_host(entry, HOSTS, number) for number, entry in entries) or None


def keys_by_host(environment: Mapping[str, str]) -> dict[Host, str]:
    """The pairs in LASTRESORT_API_KEYS. Raises InputError for an entry that is none, without showing it."""
    found: dict[Host, str] = {}
    for number, entry in _entries(environment.get(KEYS, "")):
        host, _, key = entry.partition("=")
        if not key.strip():
            raise InputError(
                f"entry {number} holds no host and key",
                where=KEYS,
                expected="HOST=KEY or HOST:PORT=KEY, separated by commas",
                remedy="Correct it.",
            )
        found[_host(host.strip(), KEYS, number)] = key.strip()
    return found


def code_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What the user's code gets of an environment: what it needs to run, and what LASTRESORT_PASS_ENV names. No key is in it."""
    passed = passed_names(own)
    return {k: v for k, v in own.items() if k in CODE_NEEDS or k.startswith(COMPUTES) or k in passed}


def passed_names(environment: Mapping[str, str]) -> frozenset[str]:
    """The variables that LASTRESORT_PASS_ENV names."""
    return frozenset(name for _, name in _entries(environment.get(PASSED, "")))


def _entries(text: str) -> Iterator[tuple[int, str]]:
    parts = [part.strip() for part in text.split(",")]
    return ((number, part) for number, part in enumerate(parts, 1) if part)


def _host(entry: str, variable: str, number: int) -> Host:
    try:
        parts = urlsplit(f"//{entry}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    name = parts.hostname or ""
    if parts.netloc != entry or "@" in entry or not _NAME.fullmatch(name):
        shown = "" if variable == KEYS or re.search("[=@]", entry) else f' "{entry}"'  # a key may stand there
        raise InputError(
            f"entry {number}{shown} is no host",
            where=variable,
            expected="a host or host:port, such as models.example.org or localhost:8000",
            remedy="Write it without https:// and without a path.",
        )
    return Host(name.rstrip("."), port)


HIDDEN = "***"
_SHORTEST_SECRET, _LONGEST_WORDS = 8, 20


def is_secret(value: str) -> bool:
    """Servers that want no key are given words such as "none" or "not-needed". These are no secret, and they occur in answers."""
    return len(value) >= _SHORTEST_SECRET and not (
        len(value) < _LONGEST_WORDS and re.fullmatch(r"[A-Za-z_. -]+", value)
    )


def known_keys(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets in an environment, also those of an entry that cannot be read."""
    found = [environment.get(name, "").strip() for name in SECRETS]
    found += [entry.partition("=")[2].strip() or entry for _, entry in _entries(environment.get(KEYS, ""))]
    secrets = [key for key in found if is_secret(key)]
    own = environment.get(SERVE_KEY, "").strip()
    if len(own) >= SHORTEST_SERVE_KEY:  # also of words: our server takes no other
        secrets.append(own)
    return tuple(dict.fromkeys(secrets))


def redacted(text: str, keys: Iterable[str]) -> str:
    """The text with *** in place of each key. The longest goes first, as one key may be the start of another."""
    for key in sorted(filter(None, keys), key=len, reverse=True):
        text = text.replace(key, HIDDEN)
    return text


def without_keys(text: str) -> str:
    """The text with *** in place of each key in the environment."""
    return redacted(text, known_keys(os.environ))


def redacted_value(value: Any, keys: Iterable[str]) -> Any:
    """JSON with *** in place of each key in its strings and in the names of its objects."""
    keys = tuple(keys)
    if isinstance(value, str):
        return redacted(value, keys)
    if isinstance(value, list | tuple):
        return [redacted_value(part, keys) for part in value]
    if isinstance(value, dict):
        return {redacted(name, keys): redacted_value(part, keys) for name, part in value.items()}
    return value


def redacted_stream(pieces: Iterable[str], keys: Iterable[str]) -> Iterator[str]:
    """The same text, redacted. An end that may be the start of a key waits for the next piece."""
    keys, held = tuple(filter(None, keys)), ""
    for piece in pieces:
        text = redacted(held + piece, keys)
        waiting = max((_begun(text, key) for key in keys), default=0)
        held = text[len(text) - waiting :]
        if len(text) > waiting:
            yield text[: len(text) - waiting]
    if held:
        yield held


def _begun(text: str, key: str) -> int:
    """How many characters at the end of the text begin the key."""
    return next((size for size in range(min(len(key) - 1, len(text)), 0, -1) if key.startswith(text[-size:])), 0)
