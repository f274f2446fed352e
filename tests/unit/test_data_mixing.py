"""Replay rows are spread, drawn by seed, and never invented."""

from __future__ import annotations

import pytest

from lastresort.data.mixing import mix
from lastresort.errors import ContractError, DataError


def test_replay_is_spread_evenly() -> None:
    mixed = mix([0] * 90, [1] * 30, 0.1, seed=0)
    assert [sum(mixed[start : start + 10]) for start in range(0, 100, 10)] == [1] * 10


def test_seeds_differ() -> None:
    rows, replay = list(range(90)), list(range(100, 200))
    assert mix(rows, replay, 0.1, seed=0) != mix(rows, replay, 0.1, seed=1)


def test_too_few_replay_rows_is_an_error_that_counts() -> None:
    with pytest.raises(DataError, match="found 9 replay rows, expected 10"):
        mix([0] * 90, [1] * 9, 0.1, seed=0)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_outside_is_a_contract_error(share: float) -> None:
    with pytest.raises(ContractError):
        mix([0], [1], share, seed=0)
