"""A verification for others to read: as Markdown for a pull request, and as JUnit XML for continuous integration."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from lastresort.report.gate_files import bullets, junit, properties_of, result
from lastresort.report.markdown import plain
from lastresort.report.verify import SHOWN, CauseTested, VerifyDocument, cells
from lastresort.report.words.verify import TITLES
from lastresort.report.words.wording import count, in_limits, in_points, percent, shortened, spaced, stopped, verdict

CLASS = "lastresort.verify"


def verify_junit(document: VerifyDocument) -> str:
    """One test case for the answers, and one for each cause. The first fails if the server is worse, a cause if it explains the
    differing answers of a server that is worse; what was not tested or nobody can tell is skipped.
    """
    cases = [_answers(document), *(_cause(one, worse=document.worse) for one in document.causes)]
    server, found = document.server, document.compared
    about = {"verdict": found.verdict, "url": server.url, "model": server.model, "sent": server.sent}
    counts = {"identical": document.identical, "n": document.n, "missing": len(document.missing)}
    return junit("verify", f"verify {document.run}", {**about, **counts}, cases)


def _answers(document: VerifyDocument) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": CLASS, "name": "answers"})
    found = document.compared
    facts = {"recorded": found.recorded, "served": found.served, "difference": found.difference, "margin": found.margin}
    properties_of(case, {**facts, "interval_points": in_limits(found.interval), "n_needed": found.n_needed})
    told = "\n\n".join(
        "\n".join(f"{name}: {text}" for name, text in cells(one).items()) for one in document.differing[:SHOWN]
    )
    if document.worse:
        result(case, "failure", document.answer, kind=found.verdict, text=told)
    else:
        result(case, "system-out", text=f"{document.answer}\n\n{told}".strip())
    return case


def _cause(one: CauseTested, *, worse: bool) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": f"{CLASS}.causes", "name": one.cause.lower()})
    told = f"{TITLES[one.cause]}: {one.seen} {one.remedy}".strip()
    if one.explains and worse:
        result(case, "failure", told, kind=one.cause)
    elif one.explains is None:
        result(case, "skipped", told)
    else:
        result(case, "system-out", text=told)
    return case


def verify_markdown(document: VerifyDocument) -> str:
    """The answer, the scores, the reasons, the causes, and the first differing answers. Text from outside is escaped."""
    parts = [
        f"## {plain(document.answer)}",
        _facts(document),
        _scores(document),
        bullets(document.reasons),
        _missing(document),
        _causes(document.causes),
        _differing(document),
        bullets(document.notes),
    ]
    return spaced("\n\n".join(part for part in parts if part)) + "\n"


def _facts(document: VerifyDocument) -> str:
    server, winner = document.server, document.winner
    return (
        f"**{verdict(document.compared.verdict)}** · task {plain(document.task)} · winner {plain(winner.name)} "
        f"({plain(winner.rung)}) · server {plain(server.url)} · model {plain(server.model)} · sent the {server.sent}"
        f"{' with the parameters of its clients' if server.parameters is not None else ''}"
    )


def _scores(document: VerifyDocument) -> str:
    found = document.compared
    row = (
        f"{count(document.identical)} of {count(document.n)}",
        percent(found.recorded),
        percent(found.served),
        in_points(found.difference),
        in_limits(found.interval),
        f"−{100 * found.margin:.3g}",
    )
    head = ["| same text | measured | served | points | interval | margin |", "|--:|--:|--:|--:|--:|--:|"]
    return "\n".join([*head, f"| {' | '.join(row)} |"])


def _missing(document: VerifyDocument) -> str:
    lines = [f"- no answer to {plain(one.id)}: {plain(stopped(one.because))}" for one in document.missing[:SHOWN]]
    more = len(document.missing) - SHOWN
    return "\n".join([*lines, *([f"- no answer to {count(more)} more"] if more > 0 else [])])


def _causes(causes: Sequence[CauseTested]) -> str:
    if not causes:
        return ""
    lines = [f"| {TITLES[one.cause]} | {one.standing} | {plain(one.seen)} | {plain(one.remedy)} |" for one in causes]
    return "\n".join(["| possible cause | does it? | seen | what to do |", "|---|---|---|---|", *lines])


def _differing(document: VerifyDocument) -> str:
    if not document.differing:
        return ""
    lines = []
    for one in document.differing[:SHOWN]:
        told = (shortened(text, 300) for text in cells(one).values())
        lines.append(f"| {' | '.join(plain(text) for text in told)} |")
    head = ["| input | measured | served |", "|---|---|---|"]
    return "\n".join(["<details><summary>Differing answers</summary>", "", *head, *lines, "", "</details>"])
