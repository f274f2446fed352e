"""What a scripted model says: a JSON object; every key may be left out.

answers       {text of the last user turn: right answer}
answers_from  JSONL files (relative to the script) whose rows give `input` and `output`
rules         [{match: regex on the last user turn, answer: text with \\1 …, probability: 1, otherwise: text}], first match wins
default       the right answer to everything else ("")
wrong         [texts] given in place of the right answer where the quality says so
quality       [{right: 0..1, min_shots: n, grammar: true, adapter: true, contains: regex on the whole prompt}]; adapter may be
              a regex on the settings of the adapter, too
context_tokens, delay_s (a call), seconds (reported for an answer)
faults        {fail_first: k, fail_at: [n, …], message: text}: those calls raise InfrastructureError, counted from 1
calls         a JSONL file to which every call is appended; calls of earlier processes then count on
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lastresort.errors import TaskError

_COUNT = {"type": "integer", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SECONDS = {"type": "number", "minimum": 0}
_TEXT = {"type": "string"}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_RULE = _object(("match", "answer"), match=_TEXT, answer=_TEXT, probability=_SHARE, otherwise=_TEXT)
_QUALITY = _object(
    ("right",),
    right=_SHARE,
    min_shots=_COUNT,
    grammar={"type": "boolean"},
    adapter={"type": ["boolean", "string"]},
    contains=_TEXT,
)
_FAULTS = _object(fail_first=_COUNT, fail_at={"type": "array", "items": _COUNT}, message=_TEXT)
SCHEMA = _object(
    answers={"type": "object"},
    answers_from={"type": "array", "items": _TEXT},
    rules={"type": "array", "items": _RULE},
    default=_TEXT,
    wrong={"type": "array"},
    quality={"type": "array", "items": _QUALITY},
    context_tokens={"type": ["integer", "null"], "minimum": 1},
    delay_s=_SECONDS,
    seconds=_SECONDS,
    faults=_FAULTS,
    calls=_TEXT,
)


@dataclass(frozen=True, slots=True)
class Rule:
    match: str
    answer: str
    probability: float = 1.0
    otherwise: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """A level: `right` is the share of right answers for prompts on which every condition that is set holds."""

    right: float
    min_shots: int = 0
    grammar: bool = False
    adapter: bool | str = False
    contains: str = ""


@dataclass(frozen=True, slots=True)
class Faults:
    fail_first: int = 0
    fail_at: tuple[int, ...] = ()
    message: str = "the scripted endpoint is down"


@dataclass(frozen=True, slots=True)
class Script:
    answers: dict[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    default: str = ""
    wrong: tuple[str, ...] = ("I do not know.",)
    quality: tuple[Quality, ...] = ()
    context_tokens: int | None = None
    delay_s: float = 0.0
    seconds: float = 0.0
    faults: Faults = field(default_factory=Faults)
    calls: Path | None = None


def read_script(path: Path) -> Script:
    """Raises TaskError where the file is missing, is not a script, or holds a value of a wrong kind."""
    body = _checked(_json_object(path), path)
    answers = {key: _as_text(value) for key, value in body.pop("answers", {}).items()}
    for name in body.pop("answers_from", []):
        answers |= _answers_of(path.parent / name)
    rules = tuple(Rule(**rule) for rule in body.pop("rules", []))
    quality = tuple(Quality(**level) for level in body.pop("quality", []))
    for index, rule in enumerate(rules):
        _check_pattern(rule.match, f"rules[{index}].match", path)
        _check_pattern(rule.match, f"rules[{index}].answer", path, replacement=rule.answer)
    for index, level in enumerate(quality):
        _check_pattern(level.contains, f"quality[{index}].contains", path)
        _check_pattern(str(level.adapter), f"quality[{index}].adapter", path)
    faults = body.pop("faults", {})
    return Script(
        answers=answers,
        rules=rules,
        quality=quality,
        wrong=tuple(map(_as_text, body.pop("wrong", Script().wrong))),
        faults=Faults(**{**faults, "fail_at": tuple(faults.get("fail_at", ()))}),
        calls=path.parent / body.pop("calls") if "calls" in body else None,
        **body,
    )


def _checked(body: dict[str, Any], path: Path) -> dict[str, Any]:
    from lastresort.data.answer_schema import misfit, schema_validator

    fault = misfit(schema_validator(SCHEMA), body)
    if fault is not None:
        raise TaskError(
            f"not a script ({fault[:200]})",
            where=str(path),
            expected="the keys and values of models/script.py",
            remedy="Correct the key.",
        )
    return body


def _check_pattern(pattern: str, key: str, path: Path, *, replacement: str = "") -> None:
    try:
        re.compile(pattern)
        re.compile(f"{pattern}|").sub(replacement, "", count=1)  # the empty branch matches, so the groups are looked up
    except (re.error, IndexError) as error:
        raise TaskError(
            f"{key} is not a regular expression, or not an answer to one ({error})",
            where=str(path),
            remedy="Correct the rule.",
        ) from error


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _answers_of(path: Path) -> dict[str, str]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {_as_text(row["input"]): _as_text(row["output"]) for row in rows}
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise TaskError(
            f"cannot serve as answers ({type(error).__name__}: {error})",
            where=str(path),
            expected="JSON lines with input and output",
            remedy="Correct answers_from in the script.",
        ) from error


def _json_object(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TaskError(
            f"not a readable script ({error})",
            where=str(path),
            expected="a JSON object",
            remedy="Correct the file or its name.",
        ) from error
    if not isinstance(body, dict):
        raise TaskError(
            f"found {type(body).__name__}", where=str(path), expected="a JSON object", remedy="See models/script.py."
        )
    return body
