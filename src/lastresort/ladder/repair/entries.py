"""What the record holds of repairs -> `repairs` and `first_gate` of decision.json."""

from __future__ import annotations

from typing import Any

from lastresort.ladder.gate.in_climb import gate_of
from lastresort.records.record import Record

PHASE, TRIED, TESTED, PLANNED = "repairs", "repair", "repair_test", "repair_plan"
_MEASURE = ("name", "verdict", "base", "tuned", "difference", "interval", "margin", "n")
_GATE = ("verdict", "mode", "seed", "alpha", "artefact_sha256", "reasons")


def repairs_of(record: Record) -> list[dict[str, Any]]:
    """All that were tried, in that order, what became of the frozen one among them; what had no time at first as it came later."""
    last = {(body["rung"], body["kind"], body["setting"]): body for body in record.notes(TRIED)}
    return [{**body, **_end(record, body)} for body in last.values()]


def first_gate_of(record: Record, gate: dict[str, Any] | None) -> dict[str, Any] | None:
    """The gate that led to repairs, where `gate`, which the decision shows, is that of the repaired system; None otherwise."""
    begun = record.last(PHASE)
    if begun is None or gate is None or gate["rung"] != begun["rung"] or gate["system"] == begun["system"]:
        return None
    return gate_of(record, begun["rung"], begun["system"])


def _end(record: Record, body: dict[str, Any]) -> dict[str, Any]:
    test = record.last(TESTED, body["rung"])
    if test is None or body["system"] != test["system"]:
        return {"frozen": False, "test": None, "gate": None}
    second = gate_of(record, body["rung"], body["system"])
    return {"frozen": True, "test": test["test"], "gate": None if second is None else _summary(second)}


def _summary(gate: dict[str, Any]) -> dict[str, Any]:
    measures = [{key: suite[key] for key in _MEASURE} for suite in gate["suites"]]
    return {**{key: gate[key] for key in _GATE}, "measures": measures}
