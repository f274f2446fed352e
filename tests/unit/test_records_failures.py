"""One rule for why an answer failed: what the decision counts is what the report shows."""

from __future__ import annotations

import pytest

from lastresort.evals.measure import failures
from lastresort.records.measurement import ItemScore, failure_kind
from lastresort.report.story import examples


def item(name: str, score: float, format_ok: bool | None) -> ItemScore:
    return ItemScore(name, score, "a", "b", "c", "stop", format_ok, 1, 1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("score", "format_ok", "knows", "kind"),
    [
        (1.0, True, False, None),
        (1.0, False, False, None),
        (0.0, False, True, "format"),
        (0.0, True, True, "knowledge"),
        (0.9, None, False, "other"),
        (0.0, None, False, "other"),
    ],
)
def test_kinds(score: float, format_ok: bool | None, knows: bool, kind: str | None) -> None:
    assert failure_kind(item("x", score, format_ok), {"x"} if knows else ()) == kind


def test_what_is_counted_is_what_is_shown() -> None:
    items = [item(f"{n}", n % 3 / 2, (None, True, False)[n % 3 - 1]) for n in range(5)]
    shown = [failing.kind for failing in examples(items)]
    counted = failures(items)
    assert {kind: shown.count(kind) for kind in ("format", "other")} == {k: counted[k] for k in ("format", "other")}
