"""What became of the repairs of a climb, in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.report.wording import percent_in_text as percent

_FIRST = {"REJECT": "rejected", "HOLD": "held"}


def what_became(repairs: Sequence[Mapping[str, Any]], first: str, *, stands: bool) -> str:
    """repairs: as in the decision, of one rung. first: verdict of the gate before. stands: whether a repaired system does now."""
    head = f"the gate {_FIRST[first]} it at first, and {_tried(repairs)}"
    frozen = next((repair for repair in repairs if repair["frozen"]), None)
    if frozen is None:
        return f"{head}; none was good, so that none was tested"
    test, gate = frozen["test"], frozen["gate"]
    best = f"{head}; {frozen['system']}, the best on dev of those that were good, scored {percent(test['score'])} in its test"
    if gate is None:
        return f"{best} and did not keep the bar, so that it was not gated"
    end = "it takes the place of the first" if stands else "the first stays as it was"
    return f"{best}, and its gate on fresh items says {gate['verdict']}: {end}"


def _tried(repairs: Sequence[Mapping[str, Any]]) -> str:
    n, good = len(repairs), sum(repair["good"] for repair in repairs)
    were = "1 repair was" if n == 1 else f"{n} repairs were"
    return f"{were} tried, of which {good} {'was' if good == 1 else 'were'} good" if good else f"{were} tried"
