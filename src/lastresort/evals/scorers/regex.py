"""The scorer by regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lastresort.errors import TaskError
from lastresort.evals.scorers.scorer import Output
from lastresort.evals.scorers.words import same_text
from lastresort.types import Example


@dataclass(frozen=True, slots=True)
class Regex:
    """Without a group: 1 if the pattern is found in the answer, whatever was expected.

    With a group: 1 if the first group of the last match is the expected text (or what the pattern finds in that), up to
    whitespace around it; for answers such as "... so the answer is: 7", pattern "answer is: (.+)".
    """

    pattern: re.Pattern[str]
    name: str = "regex"
    binary: bool = True

    def __call__(self, answer: str, example: Example) -> float:
        if self.pattern.groups == 0:
            return float(self.pattern.search(answer) is not None)
        said = self._captured(answer)
        wanted = self._captured(example.output)
        return float(said is not None and same_text(said, example.output if wanted is None else wanted))

    def _captured(self, text: str) -> str | None:
        last: str | None = None
        for match in self.pattern.finditer(text):
            last = match.group(1)
        return last


def regex(parameters: Mapping[str, Any], output: Output) -> Regex:
    pattern = parameters.get("pattern")
    if not isinstance(pattern, str):
        raise TaskError(f"{pattern!r}", where='task file, key "score.regex"', expected="a pattern as text")
    try:
        return Regex(re.compile(pattern))
    except re.error as error:
        raise TaskError(
            f"a pattern that does not compile ({error})",
            where='task file, key "score.regex"',
            expected="a Python regular expression",
            remedy="Quote it in single quotes, so that YAML leaves its backslashes alone.",
        ) from error
