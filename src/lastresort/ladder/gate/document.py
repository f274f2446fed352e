"""What a gate found, for `gate.json` and for the `gate` of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lastresort.evals.gate import SuiteFound, TargetFound
from lastresort.ladder.gate.changed import changed_most
from lastresort.ladder.gate.failure_modes import failure_modes
from lastresort.ladder.gate.further import Spent
from lastresort.ladder.gate.run import Gated, Scored


def gate_document(gated: Gated) -> dict[str, Any]:
    """verdict, reasons, would_decide, alpha, target, suites, failure_modes, forecast, spent, fingerprints: JSON-able, as
    gate_schema.json says.
    """
    found, by_name = gated.found, {one.plan.name: one for one in gated.scored}
    further = {one.found.name: one for one in gated.further}
    return {
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "would_decide": list(found.would_decide),
        "alpha": found.alpha,
        "power": gated.power,
        "target": target_document(found.target),
        "suites": [
            suite_document(suite, further[suite.name].asked, further[suite.name].changed)
            if suite.name in further
            else _suite(suite, by_name.get(suite.suite))
            for suite in found.suites
        ],
        "failure_modes": failure_modes(found.suites, gated.scored),
        "forecast": asdict(gated.forecast),
        "spent": _spent(gated),
        "fingerprints": dict(gated.fingerprints),
    }


def target_document(found: TargetFound) -> dict[str, Any]:
    return {**asdict(found), "interval": _pair(found.interval)}


def suite_document(
    found: SuiteFound, asked: dict[str, Any] | None = None, changed: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """asked: what was asked of the suite, None where it was not asked here. changed: what changed most."""
    body = {**asdict(found), "interval": _pair(found.interval), "strata": [asdict(part) for part in found.strata]}
    return {**body, "asked": asked, "changed": list(changed)}


def _suite(found: SuiteFound, one: Scored | None) -> dict[str, Any]:
    return suite_document(found) if one is None else suite_document(found, _asked(one), _changed(found, one))


def _asked(one: Scored) -> dict[str, Any]:
    """Of the suite, which its measures share."""
    return {
        "version": one.ready.suite.version,
        "items": len(one.drawn.items),
        "left_out": len(one.left_out),
        "passed_over": one.drawn.passed_over,
        "pilot_items": one.pilot_items,
    }


def _changed(found: SuiteFound, one: Scored) -> list[dict[str, Any]]:
    assert one.base is not None
    assert one.tuned is not None
    measure = next(measure for measure in one.ready.suite.measures if measure.name == found.name)
    items = {item.id: item for item in one.drawn.items}
    return changed_most(one.pairs(measure), items, one.base.transcripts, one.tuned.transcripts)


def _spent(gated: Gated) -> dict[str, Any]:
    """Of the suites: what asking them took, whenever that was, and how many items were asked just now."""
    asked = [side for one in gated.scored for side in (one.base, one.tuned) if side is not None]
    spent = [
        *(Spent(side.seconds, side.new, side.tokens_in, side.tokens_out) for side in asked),
        *gated.spent,
    ]
    return {
        "seconds": round(sum(one.seconds for one in spent), 3),
        "asked_now": sum(one.asked_now for one in spent),
        "tokens_in": sum(one.tokens_in for one in spent),
        "tokens_out": sum(one.tokens_out for one in spent),
    }


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
