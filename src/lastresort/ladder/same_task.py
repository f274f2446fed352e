"""Whether a run that goes on still has the task that it began with, also where an older version noted that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lastresort.spec.output import Output
from lastresort.spec.score import Score
from lastresort.spec.sections import Sources
from lastresort.spec.values import Section

_ONLY_WEIGHED = ("calls_per_month", "hourly_price")  # of `use`: nothing that is asked or trained depends on them


def changed_keys(known: Mapping[str, Any], now: Mapping[str, Any], given: Section | None = None) -> list[str]:
    """Keys in which two notes differ. given: the task that `now` was resolved from, where they are tasks."""
    if given is not None:
        now = {**_without_new_defaults(now, known, given), "path": now["path"]}
        known, now = (_without_what_is_only_weighed(one) for one in (known, now))
    return sorted(key for key in {**known, **now} if _json(known.get(key)) != _json(now.get(key)))


def _without_new_defaults(now: Mapping[str, Any], known: Mapping[str, Any], given: Section) -> dict[str, Any]:
    """Without the keys, at any depth, that `known` does not have and the file does not name: the version that noted it did
    not know them, and their defaults change nothing.
    """
    kept = {}
    for name, value in now.items():
        if name not in known and name not in given.model_fields_set:
            continue
        inner, before = getattr(given, name, None), known.get(name)
        if (
            isinstance(inner, Section)
            and not isinstance(inner, Output | Score | Sources)  # these have a written form of their own
            and isinstance(before, Mapping)
        ):
            value = _without_new_defaults(value, before, inner)
        kept[name] = value
    return kept


def _without_what_is_only_weighed(noted: Mapping[str, Any]) -> dict[str, Any]:
    use = noted.get("use")
    if not isinstance(use, Mapping):
        return dict(noted)
    return {**noted, "use": {name: value for name, value in use.items() if name not in _ONLY_WEIGHED}}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
