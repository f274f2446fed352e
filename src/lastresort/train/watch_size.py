"""How much of a base's answers a training can afford to be compared with, so that looking costs about a twentieth of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.05
ANSWER_TOKENS, PROSE_ROW_TOKENS = 32, 128
MOST_TOKENS = 10_240  # more does not make the figures better than the sampled answers are
LEAST_PROMPTS, MOST_PROMPTS = 4, 24  # of either kind
LEAST_PROSE, MOST_PROSE = 2, 8
FORWARD = 2  # forward passes of a token that cost less than training on it: forward, and back through a frozen base
BESIDE = 5  # looks that go before the kept ones: the base's own, and making its answers, whose tokens come one by one


@dataclass(frozen=True, slots=True)
class WatchSize:
    """look_tokens: how many tokens, with their answers, the prompts and the prose of one look have in all.

    Of these the requests and the task's prompts get two fifths each and the prose one; of each part a least is taken whatever
    the training is, without which the figures would mean nothing: at most LEAST_PROMPTS prompts of either kind.
    """

    look_tokens: int

    @property
    def prompts(self) -> tuple[int, int, int]:
        """What `first_within` asks of prompts of one kind."""
        return 2 * self.look_tokens // 5, LEAST_PROMPTS, MOST_PROMPTS

    @property
    def prose(self) -> tuple[int, int, int]:
        """What `first_within` asks of rows of prose."""
        return self.look_tokens // 5, LEAST_PROSE, MOST_PROSE


def watch_size(trained_tokens: int, looks: int) -> WatchSize:
    """Of a training on so many tokens, over all epochs, that is looked at so often: looking costs SHARE of it at most.

    Counted in forward passes of a token: FORWARD * trained_tokens are the least that training costs, and looks are computed
    once for each kept checkpoint and BESIDE times besides.
    """
    return WatchSize(min(MOST_TOKENS, int(SHARE * FORWARD * trained_tokens) // (looks + BESIDE)))


def own_tokens(rows: Sequence[tuple[int, ...]]) -> int:
    """Tokens of rows without the beginning that all of them share, which training computes once a batch."""
    if len(rows) < 2:
        return sum(map(len, rows))
    first, last = min(rows), max(rows)
    shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return sum(len(row) - shared for row in rows)


def first_within(lengths: Sequence[int], tokens: int, least: int, most: int) -> int:
    """How many of the first have at most so many tokens in all; at least `least` and at most `most`, where there are so many."""
    taken = total = 0
    for length in lengths[:most]:
        total += length
        if total > tokens and taken >= least:
            break
        taken += 1
    return taken
