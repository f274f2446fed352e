"""One ranking out of several."""

from __future__ import annotations

from collections.abc import Sequence

K = 60  # the constant of the paper, which found it to be near the best and the result to depend little on it


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]], *, k: int = K) -> list[tuple[str, float]]:
    """Names with their scores, the best first; names of equal score in alphabetical order.

    score(d) = sum over rankings of 1 / (k + rank of d), ranks from 1; a ranking without d adds nothing.

    rankings: names, the best first, none twice in one ranking.
    Source: Cormack, Clarke & Büttcher 2009, Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda scored: (-scored[1], scored[0]))
