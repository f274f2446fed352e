"""The judge in the report: its title and its figures in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.report.words.wording import count, counted, interval, listed, percent

NAME = "the judge"
_VERDICTS = {
    "won": "won in both orders",
    "lost": "lost in both",
    "tied": "tied in both",
    "changed": "changed with order",
    "same_text": "identical to the reference, not shown",
}


def finding(judge: Mapping[str, Any]) -> str:
    """One line: which model judged, and whether it was checked against people."""
    agreed = judge["agreement"]
    if agreed is None:
        return f"Scores come from the judge {judge['model']}, not checked against people"
    cases = counted(agreed["n"], "labelled case")
    return f"Scores come from the judge {judge['model']}, which agreed with people on {percent(agreed['share'])} of {cases}"


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
        found.append(("effect of order", _order(judge["order"])))
    found.append(("unreadable", f"{count(judge['unparsed'])} of {count(judge['asked'])} verdicts"))
    if judge["self_preference"]:
        found.append(("self-preference", "the judge is the model it judges, and models favour their own answers"))
    return found


def _agreement(agreed: Mapping[str, Any] | None) -> str:
    if agreed is None:
        return "not measured: the task sets no score.judge.labelled"
    told = f"{percent(agreed['share'])} of {counted(agreed['n'], 'labelled case')} ({interval(agreed['interval'])})"
    if agreed["kappa"] is None:
        return f"{told}; kappa is undefined because only one verdict was given"
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
        f"changed the verdict: {count(order['to_first'])} times in favour of the first answer, {count(order['to_second'])} of "
        f"the second; {percent(order['ties'])} were ties"
    )
