"""How long an answer of a task may be."""

from __future__ import annotations

from lastresort.ladder.prepare import Prepared
from lastresort.ladder.workload import LEAST_NEW_TOKENS
from lastresort.models.protocol import Model
from lastresort.types import Message

COUNTED_ANSWERS = 200  # the longest in letters, among which the longest in tokens is looked for


def max_new_tokens(prepared: Prepared, model: Model) -> int:
    """The task's own limit, or twice the longest training answer."""
    if prepared.task.decode.max_new_tokens != "auto":
        return int(prepared.task.decode.max_new_tokens)
    distinct = {example.output for example in prepared.split.train}
    answers = sorted(distinct, key=lambda text: (-len(text), text))[:COUNTED_ANSWERS]  # the same in every process
    empty = model.count_tokens((Message("user", ""),))
    longest = max((model.count_tokens((Message("user", text),)) - empty for text in answers), default=0)
    return max(LEAST_NEW_TOKENS, 2 * longest)
