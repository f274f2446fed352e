"""What a gate found, as the decision of a climb takes it up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.evals.gate.sentences import listed, points
from lastresort.ladder.decide import Gating


def gating_of(document: Mapping[str, Any]) -> Gating:
    """document: of `gate_document`. A rejected system is told with what it lost, others with the gate's first reason."""
    return Gating(document["verdict"], _because(document), tuple(document["would_decide"]))


def _because(document: Mapping[str, Any]) -> str:
    lost = [suite for suite in document["suites"] if suite["verdict"] == "REGRESSED"]
    if lost:
        return listed(
            f"{suite['name']} lost {points(-suite['difference'])} (accepted: {points(suite['margin'])})"
            for suite in lost
        )
    _, _, reason = document["reasons"][0].partition(": ")
    return str(reason).rstrip(".")
