"""The peak of a stretch of work is that stretch's own, and nothing is said where it cannot be measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.hardware import memory as peak
from lastresort.hardware.memory import PeakMemory

LARGE = 1 << 27


def test_a_later_stretch_does_not_inherit_the_peak_of_an_earlier_one() -> None:
    first = PeakMemory()
    before = first.read_bytes()
    if before is None or first._on_gpu:
        pytest.skip("this system does not let a process measure its peak anew")
    held = bytearray(LARGE)
    held[:: 1 << 12] = b"x" * (LARGE >> 12)
    used = first.read_bytes()
    del held
    after = PeakMemory().read_bytes()
    assert used is not None
    assert after is not None
    assert used >= before + LARGE * 0.9
    assert after <= used - LARGE * 0.9


def test_where_the_system_refuses_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak, "_RESET", tmp_path / "absent" / "clear_refs")
    monkeypatch.setattr(peak, "has_gpu", lambda: False)
    assert PeakMemory().read_bytes() is None
