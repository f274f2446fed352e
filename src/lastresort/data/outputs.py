"""Outputs that the task itself does not allow: none of its choices, or not valid against its schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lastresort.data.answer_schema import misfit, schema_validator
from lastresort.data.duplicates import normalised
from lastresort.data.strict_json import NotJson, parse_json
from lastresort.errors import DataError
from lastresort.types import Example

SHOWN_ROWS = 5
Check = Callable[[str], str | None]


def output_checks(
    choices: tuple[str, ...] | None, json_schema: dict[str, Any] | None
) -> tuple[tuple[str, str, Check], ...]:
    """What an output has to pass: (what one that fails is, what several are, output -> its fault, or None).

    Raises TaskError if json_schema is not a schema that can be used.
    """
    checks: list[tuple[str, str, Check]] = []
    if choices is not None:
        allowed = choices
        checks.append(
            ("is not among the choices", "are not among the choices", lambda output: _not_chosen(output, allowed))
        )
    if json_schema is not None:
        check = _schema_check(json_schema)
        checks.append(("is not valid against the schema", "are not valid against the schema", check))
    return tuple(checks)


def refuse_invalid_outputs(
    examples: Sequence[Example], *, choices: tuple[str, ...] | None, json_schema: dict[str, Any] | None
) -> None:
    """Raises DataError on the first output that is not allowed, with the rows of the next few that are not either."""
    for words, _, check in output_checks(choices, json_schema):
        faults = [(item, fault) for item in examples if (fault := check(item.output)) is not None]
        if not faults:
            continue
        first, fault = min(faults, key=lambda found: (found[0].source, found[0].row))
        others = sorted(item.row for item, _ in faults if item is not first)
        raise DataError(
            f"found an output that {words}: {fault}{_and_others(others)}",
            where=f'{first.source}, row {first.row}, key "output"' if first.source else f"example {first.id}",
            expected=f"one of {', '.join(choices)}" if choices is not None else "JSON that output.schema allows",
            remedy="Correct the rows, or the key `output` of the task file.",
        )


def short(text: str, limit: int = 60) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _and_others(rows: Sequence[int]) -> str:
    if not rows:
        return ""
    named = ", ".join(map(str, rows[:SHOWN_ROWS])) + (" …" if len(rows) > SHOWN_ROWS else "")
    return f" ({len(rows)} more like it, in row{'s' if len(rows) > 1 else ''} {named})"


def _not_chosen(output: str, choices: tuple[str, ...]) -> str | None:
    if output in choices:
        return None
    close = next((choice for choice in choices if normalised(choice) == normalised(output)), None)
    return f'"{short(output)}"' + (f', perhaps "{close}"' if close else "")


def _schema_check(schema: dict[str, Any]) -> Check:
    validator = schema_validator(schema)

    def check(output: str) -> str | None:
        try:
            value = parse_json(output)
        except NotJson as error:
            return f'"{short(output)}" is not JSON' + ("" if error.line is not None else f" ({short(error.reason)})")
        fault = misfit(validator, value)
        return None if fault is None else short(fault, 120)

    return check
