"""Scorers: how right an answer is, from 0 to 1. A new one is a new file and a line in the table."""

from collections.abc import Mapping
from typing import Any

from lastresort.evals.scorers.forms import choice, format_ok, number
from lastresort.evals.scorers.json_scorers import json_exact, json_fields, json_valid
from lastresort.evals.scorers.judge import PARAMETERS as JUDGE_PARAMETERS
from lastresort.evals.scorers.judge import judge
from lastresort.evals.scorers.python_file import python
from lastresort.evals.scorers.scorer import AnswerForm, AsksAModel, Scorer, ScorerEntry, build_from, scores_of
from lastresort.evals.scorers.text import contains, exact, normalized, regex, rouge_l, token_f1

SCORERS: dict[str, ScorerEntry] = {
    "exact": ScorerEntry(exact),
    "normalized": ScorerEntry(normalized),
    "contains": ScorerEntry(contains),
    "choice": ScorerEntry(choice),
    "regex": ScorerEntry(regex, ("pattern",), main="pattern"),
    "number": ScorerEntry(number, ("tolerance", "relative"), main="tolerance"),
    "json_valid": ScorerEntry(json_valid),
    "json_exact": ScorerEntry(json_exact),
    "json_fields": ScorerEntry(json_fields),
    "token_f1": ScorerEntry(token_f1),
    "rouge_l": ScorerEntry(rouge_l),
    "python": ScorerEntry(python, ("file", "function", "binary"), main="function"),
    "judge": ScorerEntry(judge, JUDGE_PARAMETERS, main="model"),
}


def build_scorer(
    name: str,
    parameters: Mapping[str, Any],
    *,
    json_schema: dict[str, Any] | None = None,
    choices: tuple[str, ...] | None = None,
    about: str = "",
) -> Scorer:
    """The scorer of a task file; see `build_from`. about: what the task asks, for a judge."""
    return build_from(SCORERS, name, parameters, AnswerForm(json_schema, choices, about))


__all__ = ["SCORERS", "AsksAModel", "Scorer", "build_scorer", "format_ok", "scores_of"]
