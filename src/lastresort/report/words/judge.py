"""The judge in the report: what stands over it, and its figures in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.report.words.wording import count, counted, interval, listed, percent

NAME = "the judge"
_VERDICTS = {
    "won": "won in both orders",
    "lost": "lost in both",
    "tied": "tied in both",
    "changed": "changed with the order",
    "same_text": "had the reference's text and were not shown",
}


def finding(judge: Mapping[str, Any]) -> str:
    """One line: whose opinion the scores are, and whether it has been checked."""
    agreed = judge["agreement"]
    if agreed is None:
        return f"The scores are the opinion of {judge['model']}, which was not checked against people"
    cases = counted(agreed["n"], "labelled case")
    return f"The scores are the opinion of {judge['model']}, which agreed with people on {percent(agreed['share'])} of {cases}"


def rows(judge: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, figures) for the table of the judge."""
    asked = "compared with the reference, in both orders"
    if judge["asks"] == "grading":
        asked = (
            "graded from 1 to 5, without a reference" if judge["scale"] == "1-5" else "yes or no, without a reference"
        )
    found = [("asked", f"{count(judge['answers'])} answers {asked}")]
    if judge["criterion"]:
        found.append(("criterion", judge["criterion"]))
    found.append(("agreement with people", _agreement(judge["agreement"])))
    found.append(("verdicts", _verdicts(judge["verdicts"])))
    if judge["order"] is not None:
        found.append(("effect of the order", _order(judge["order"])))
    found.append(("could not be read", f"{count(judge['unparsed'])} of {count(judge['asked'])} verdicts"))
    if judge["self_preference"]:
        found.append(("self-preference", "the judge is the model being judged, and models favour their own answers"))
    return found


def _agreement(agreed: Mapping[str, Any] | None) -> str:
    if agreed is None:
        return "not measured: score.judge.labelled names no cases"
    told = f"{percent(agreed['share'])} of {counted(agreed['n'], 'labelled case')} ({interval(agreed['interval'])})"
    if agreed["kappa"] is None:
        return f"{told}; kappa cannot be told, since only one thing was said"
    low, high = agreed["kappa_interval"]
    name = "kappa, with grades weighted by distance," if agreed["weights"] == "quadratic" else "kappa"
    return f"{told}; {name} {agreed['kappa']:.2f} ({low:.2f} to {high:.2f}; 0 is chance)"


def _verdicts(verdicts: Mapping[str, int]) -> str:
    if "won" in verdicts:
        return (
            listed(f"{count(verdicts[kind])} {words}" for kind, words in _VERDICTS.items() if verdicts[kind]) or "none"
        )
    return listed(f"{count(number)} × {grade}" for grade, number in verdicts.items())


def _order(order: Mapping[str, Any]) -> str:
    return (
        f"in {percent(order['changed'])} of {count(order['n'])} comparisons ({interval(order['interval'])}) the order alone "
        f"changed the verdict: {count(order['to_first'])} times for the answer shown first, {count(order['to_second'])} for "
        f"the second; {percent(order['ties'])} were ties"
    )
