"""Keys of servers and hubs: they come from the environment alone and appear in no message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

NAMES = ("OPENAI_API_KEY", "LASTRESORT_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HIDDEN = "***"
_SHORTEST_SECRET = (
    8  # servers that want no key are given words such as "none", which are no secret and occur in sentences
)


def known_keys(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets that an environment holds; a shorter value is a placeholder."""
    found = (environment.get(name, "").strip() for name in NAMES)
    return tuple(key for key in found if len(key) >= _SHORTEST_SECRET)


def redacted(text: str, keys: Iterable[str]) -> str:
    """The text with *** in place of each key; the longest first, since one key may begin with another."""
    for key in sorted(filter(None, keys), key=len, reverse=True):
        text = text.replace(key, HIDDEN)
    return text
