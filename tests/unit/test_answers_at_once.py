"""Small models answer many prompts together, large ones few: by what a token of each must keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.hardware.plan.memory import FEWEST, MOST, answers_at_once
from lastresort.models.local import LocalModel, load_local
from models_support import save_tiny

SMOLLM2_135M = 2 * 30 * 3 * 64 * 2  # keys and values, layers, key heads, their size, bytes
LLAMA_3_8B = 2 * 32 * 8 * 128 * 2


@pytest.mark.parametrize(
    ("bytes_a_token", "rows"), [(SMOLLM2_135M, 64), (2 * SMOLLM2_135M, 32), (LLAMA_3_8B, 16), (1, 64)]
)
def test_the_cache_of_all_of_them_stays_small(bytes_a_token: int, rows: int):
    assert answers_at_once(bytes_a_token) == rows


def test_a_model_more_costly_a_token_never_answers_more_at_once():
    rows = [answers_at_once(size) for size in range(1_000, 200_000, 1_000)]
    assert rows == sorted(rows, reverse=True)
    assert {rows[0], rows[-1]} == {MOST, FEWEST}
    assert all(row % 16 == 0 for row in rows)


def test_a_loaded_model_takes_as_many_as_its_shape_allows(tmp_path: Path):
    loaded = load_local(save_tiny(tmp_path))
    assert LocalModel(loaded, name="tiny").batch_size == MOST
    assert LocalModel(loaded, name="tiny", batch_size=3).batch_size == 3
