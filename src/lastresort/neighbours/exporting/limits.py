"""The longest row, for frameworks that want a number."""

from __future__ import annotations

from lastresort.neighbours.exporting.job import Job

ASSUMED_TOKENS = 2048


def row_limit(job: Job) -> tuple[int, tuple[str, ...]]:
    """Tokens, and a sentence where they are assumed."""
    if job.row_tokens is not None:
        return job.row_tokens, ()
    return ASSUMED_TOKENS, (
        f"The longest row is assumed to have {ASSUMED_TOKENS:,} tokens: neither max_tokens nor the base, which is not on this "
        "machine, says it.",
    )
