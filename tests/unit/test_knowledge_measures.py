"""Measures and fusion against values worked by hand and an oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from lastresort.errors import ContractError
from lastresort.knowledge.search import ndcg_at, recall_at, reciprocal_rank, reciprocal_rank_fusion

RANKING = ["a", "b", "c", "d", "e"]


def test_recall_by_hand() -> None:
    wanted = [{"b"}, {"d", "x"}, {"y"}]
    assert [recall_at(k, RANKING, wanted) for k in (1, 2, 3, 4, 9)] == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_reciprocal_rank_by_hand() -> None:
    assert reciprocal_rank(RANKING, [{"c"}, {"e"}]) == 1 / 3
    assert reciprocal_rank(RANKING, [{"y"}]) == 0
    assert reciprocal_rank([], [{"y"}]) == 0


def test_ndcg_by_hand() -> None:
    """b and d of three wanted: gains at ranks 2 and 4, 1/log2(3) + 1/log2(5) = .6309 + .4307 = 1.0616; the best three places
    give 1 + .6309 + .5 = 2.1309, and .4982 of them is reached. At k = 1 nothing of 1."""
    wanted = [{"b"}, {"d"}, {"y"}]
    assert ndcg_at(4, RANKING, wanted) == pytest.approx(0.4982, abs=5e-5)
    assert ndcg_at(1, RANKING, wanted) == 0
    assert ndcg_at(2, ["b", "d"], wanted) == pytest.approx(1.0)


def test_only_the_first_hit_of_a_passage_counts() -> None:
    section = [{"a", "b", "c"}]
    assert recall_at(3, RANKING, section) == 1
    assert ndcg_at(3, RANKING, section) == 1
    assert ndcg_at(3, ["x", "b", "a"], section) == pytest.approx(1 / math.log2(3))
    assert recall_at(1, RANKING, [{"a"}, {"a", "b"}]) == 1, "one chunk may answer for two passages"


def test_questions_without_passages_are_refused() -> None:
    for wanted in ([], [set()]):
        with pytest.raises(ContractError):
            recall_at(1, RANKING, wanted)
    with pytest.raises(ContractError):
        ndcg_at(0, RANKING, [{"a"}])


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(8)), st.sets(st.integers(0, 7), min_size=1), st.integers(1, 8))
def test_ndcg_is_that_of_scikit_learn(order: list[int], right: set[int], k: int) -> None:
    gains = np.array([[float(item in right) for item in range(8)]])
    scores = np.array([[-float(order.index(item)) for item in range(8)]])
    ours = ndcg_at(k, [str(item) for item in order], [{str(item)} for item in right])
    assert ours == pytest.approx(ndcg_score(gains, scores, k=k))


def test_fusion_by_hand() -> None:
    """a: 1/61 + 1/63, b: 1/62 + 1/61, c: 1/63, d: 1/62."""
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["b", "d", "a"]])
    assert fused == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61 + 1 / 63)),
        ("d", pytest.approx(1 / 62)),
        ("c", pytest.approx(1 / 63)),
    ]


def test_fusion_breaks_ties_by_name_and_takes_its_constant() -> None:
    assert [name for name, _ in reciprocal_rank_fusion([["z", "y"], ["y", "z"]])] == ["y", "z"]
    assert reciprocal_rank_fusion([["a"]], k=0) == [("a", 1.0)]
    assert reciprocal_rank_fusion([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.permutations("abcdef").map(lambda p: p[:4]), min_size=1, max_size=3))
def test_fusion_of_one_ranking_keeps_it_and_better_ranks_never_lose(rankings: list[list[str]]) -> None:
    assert [name for name, _ in reciprocal_rank_fusion(rankings[:1])] == rankings[0]
    scores = dict(reciprocal_rank_fusion(rankings))
    for first in scores:
        for second in scores:
            places = [[r.index(x) if x in r else 9 for r in rankings] for x in (first, second)]
            if all(a < b for a, b in zip(*places, strict=True)):
                assert scores[first] > scores[second]
