"""Scorers: how right an answer is, from 0 to 1. A new one is a new file and a line in the table."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.errors import TaskError
from lastresort.evals.scorers.forms import Choice, JsonExact, JsonFields, chosen, final_number, json_valid, number
from lastresort.evals.scorers.judge import PARAMETERS as JUDGE_PARAMETERS
from lastresort.evals.scorers.judge import judge
from lastresort.evals.scorers.python_file import python
from lastresort.evals.scorers.scorer import AnswerForm, AsksAModel, Scorer, ScorerEntry, scores_of
from lastresort.evals.scorers.text import Contains, Exact, Normalized, TokenF1, regex, rouge_l
from lastresort.evals.user_code.process import LIMIT_KEYS
from lastresort.foreign import is_json, parse_json
from lastresort.types import JsonObject

SCORERS: dict[str, ScorerEntry] = {
    "exact": ScorerEntry(lambda *_: Exact()),
    "normalized": ScorerEntry(lambda *_: Normalized()),
    "contains": ScorerEntry(lambda *_: Contains()),
    "choice": ScorerEntry(lambda _, output: Choice(output.choices)),
    "regex": ScorerEntry(regex, ("pattern",), main="pattern"),
    "number": ScorerEntry(number, ("tolerance", "relative"), main="tolerance", reads="number"),
    "json_valid": ScorerEntry(json_valid, reads="json"),
    "json_exact": ScorerEntry(lambda *_: JsonExact(), reads="json"),
    "json_fields": ScorerEntry(lambda *_: JsonFields(), reads="json"),
    "token_f1": ScorerEntry(lambda *_: TokenF1()),
    "rouge_l": ScorerEntry(rouge_l),
    "python": ScorerEntry(python, ("file", "function", "binary", *LIMIT_KEYS), main="function"),
    "judge": ScorerEntry(judge, JUDGE_PARAMETERS, main="model"),
}


def build_scorer(
    name: str,
    parameters: Mapping[str, Any],
    *,
    json_schema: JsonObject | None = None,
    choices: tuple[str, ...] | None = None,
    about: str = "",
) -> Scorer:
    """The scorer `name` of a task file; the key "value" of `parameters` sets its main parameter. about: what the task asks, for a
    judge.

    Raises TaskError on an unknown scorer or parameter, naming the nearest known one.
    """
    if name not in SCORERS:
        raise TaskError(
            f"an unknown scorer {name!r}",
            where='task file, key "score"',
            expected=f"one of {', '.join(SCORERS)}",
            remedy=_nearest(name, SCORERS),
        )
    entry = SCORERS[name]
    given = dict(parameters)
    if "value" in given and entry.main is not None:
        given[entry.main] = given.pop("value")
    for key in given:
        if key not in entry.parameters:
            raise TaskError(
                f"an unknown parameter {key!r}",
                where=f'task file, key "score.{name}"',
                expected=f"one of {', '.join(entry.parameters)}" if entry.parameters else "no parameters",
                remedy=_nearest(key, entry.parameters),
            )
    return entry.build(given, AnswerForm(json_schema, choices, about))


def _nearest(word: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {nearest[0]}?" if nearest else ""


def format_ok(
    answer: str,
    *,
    json_schema: JsonObject | None = None,
    choices: Sequence[str] | None = None,
    scorer: str | None = None,
) -> bool | None:
    """Whether an answer has the required form, which sorts a failure into "format"; None for free text.

    A schema needs JSON that is valid against it, choices need one of them. Without either, the scorer's entry says what it reads.
    Raises TaskError if the schema itself cannot be used.
    """
    if json_schema is not None:
        return is_json(answer) and violation(schema_validator(json_schema), parse_json(answer)) is None
    if choices is not None:
        return chosen(answer, choices) is not None
    entry = SCORERS.get(scorer or "")
    if entry is None or entry.reads is None:
        return None
    return is_json(answer) if entry.reads == "json" else final_number(answer) is not None


__all__ = ["SCORERS", "AsksAModel", "Scorer", "build_scorer", "format_ok", "scores_of"]
