"""A gate as Markdown, for a pull request: the verdict, a table by measure, the reasons, what changed most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.report.gate import MILDER, MOST, asked_of, in_limits, in_points, rows, shortened, warnings
from lastresort.report.markdown import plain
from lastresort.report.wording import NO_BREAK, count, percent, round_percent, stopped, verdict


def gate_markdown(document: Mapping[str, Any]) -> str:
    """document: as in gate.json. Text that came from outside is escaped, so that it cannot become markup."""
    first, *others = document["reasons"]
    parts = [f"## {plain(first)}", _facts(document), _table(document), _listed(others)]
    if document["would_decide"]:
        parts.append("What would decide:\n\n" + _listed(document["would_decide"], mark="-"))
    parts += [MILDER] * (document["verdict"] == "REJECT")
    parts += [_changes(document), _listed(warnings(document), mark="-")]
    return "\n\n".join(part for part in parts if part).replace(NO_BREAK, " ") + "\n"


def _facts(document: Mapping[str, Any]) -> str:
    if document["mode"] == "logs":
        return f"**{document['verdict']}** · base {plain(document['base'])} · tuned {plain(document['tuned']['name'])} (logs)"
    return (
        f"**{document['verdict']}** · task {plain(document['task'])} · base {plain(document['base'])} · "
        f"tuned {plain(document['tuned']['name'])} ({document['tuned']['kind']}) · {document['mode']} gate · "
        f"bar {round_percent(document['bar'])} · seed {document['seed']}"
    )


def _table(document: Mapping[str, Any]) -> str:
    lines = [
        "| measure | base | tuned | points | interval | margin | verdict | items | needed |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for row in rows(document):
        base, tuned = ("–" if row[side] is None else percent(row[side]) for side in ("base", "tuned"))
        margin = "" if row["margin"] is None else f"−{100 * row['margin']:.3g}"
        needed = "" if row["n_needed"] is None else count(row["n_needed"])
        cells = (plain(row["name"]), base, tuned, in_points(row["difference"]), in_limits(row["interval"]), margin)
        lines.append(f"| {' | '.join(cells)} | {verdict(row['verdict'])} | {count(row['n'])} | {needed} |")
    return "\n".join(lines)


def _listed(sentences: list[str], mark: str = "") -> str:
    return "\n".join(f"{mark or f'{number}.'} {plain(stopped(one))}" for number, one in enumerate(sentences, 1))


def _changes(document: Mapping[str, Any]) -> str:
    lines = []
    for suite in document["suites"]:
        for one in suite["changed"][:MOST]:
            answers = (shortened(one[side], 300) for side in ("base", "tuned"))
            told = [plain(text) for text in (asked_of(one, 300), *answers)]
            scores = f"{percent(one['base_score'], 0)} to {percent(one['tuned_score'], 0)}"
            lines.append(f"| {plain(suite['name'])} | {' | '.join(told)} | {scores} |")
    if not lines:
        return ""
    head = ["| measure | asked | base | tuned | score |", "|---|---|---|---|--:|"]
    return "\n".join(["<details><summary>What changed most</summary>", "", *head, *lines, "", "</details>"])
