"""How many answers are computed together, from what each must keep in memory."""

from __future__ import annotations

FEWEST, MOST = 16, 64
# A token of each row costs one reading of all weights, however many rows there are.
CACHE_BYTES, ROW_TOKENS = 3 << 29, 1024


def answers_at_once(bytes_a_token: int) -> int:
    """Rows whose keys and values of 1,024 tokens take 1.5 GiB together: 64 of a small model, 16 of a large one.

    bytes_a_token: keys and values of all layers.
    """
    rows = CACHE_BYTES // (ROW_TOKENS * max(1, bytes_a_token))
    return max(FEWEST, min(MOST, rows // FEWEST * FEWEST))
