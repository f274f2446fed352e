"""Whether an answer has the form that was asked for: what sorts a failure into "format"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lastresort.data.answer_schema import misfit, schema_validator
from lastresort.data.strict_json import is_json, parse_json
from lastresort.evals.scorers.choice import chosen
from lastresort.evals.scorers.number import final_number


def format_ok(
    answer: str,
    *,
    json_schema: dict[str, Any] | None = None,
    choices: Sequence[str] | None = None,
    scorer: str | None = None,
) -> bool | None:
    """Whether the answer parses and validates; None for free text, of which no form is asked.

    A schema wants JSON that is valid against it, choices want one of them. Without either the scorer's name tells: a
    json scorer wants JSON, `number` a number. Raises TaskError if the schema itself cannot be used.
    """
    if json_schema is not None:
        return is_json(answer) and misfit(schema_validator(json_schema), parse_json(answer)) is None
    if choices is not None:
        return chosen(answer, choices) is not None
    if scorer is not None and scorer.startswith("json_"):
        return is_json(answer)
    return final_number(answer) is not None if scorer == "number" else None
