"""A gate for others to read: as Markdown for a pull request, and as JUnit XML for continuous integration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from xml.etree import ElementTree

from lastresort.records.gate import GateDocument, SuiteFound, TargetFound, TargetNotAsked
from lastresort.report.gate import MILDER, MOST, asked_of, table, warnings
from lastresort.report.markdown import plain
from lastresort.report.words.wording import in_limits, percent, printable, round_percent, shortened, spaced, stopped

CLASS = "lastresort.gate"
_SKIPPED = ("UNINFORMATIVE", "SKIPPED")


def gate_junit(document: GateDocument) -> str:
    """One test case per measure, and one for the target.

    A measure fails if it REGRESSED, the target if its bar is NOT_MET. UNINFORMATIVE and SKIPPED are skipped. The verdict of the
    gate is a property: with HOLD, no single measure need be wrong.
    """
    about = {"verdict": document.verdict, "base": document.base, "tuned": document.tuned.name, "mode": document.mode}
    about |= {"seed": str(document.seed), "why": document.reasons[0]}
    return junit(
        "gate", f"gate of {document.task}", about, [*_target_case(document.target), *map(_case, document.suites)]
    )


def junit(
    name: str, suite_name: str, about: Mapping[str, str | float | None], cases: Sequence[ElementTree.Element]
) -> str:
    """A document of one suite, with what it is about as its properties."""
    failed = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    counted = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}
    root = ElementTree.Element("testsuites", {"name": f"lastresort {name}", **counted})
    suite = ElementTree.SubElement(root, "testsuite", {"name": without_control(suite_name), **counted})
    properties_of(suite, about)
    suite.extend(cases)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: SuiteFound) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": CLASS, "name": without_control(suite.name)})
    shown = suite.model_dump()
    keys = ("verdict", "base", "tuned", "difference", "margin", "n", "n_needed")
    properties_of(case, {**{key: shown[key] for key in keys}, "interval_points": in_limits(suite.interval) or None})
    if suite.verdict == "REGRESSED":
        result(case, "failure", suite.reason, kind="REGRESSED", text=_answers(suite))
    elif suite.verdict in _SKIPPED:
        result(case, "skipped", suite.reason)
    else:
        result(case, "system-out", text=suite.reason)
    return case


def _target_case(target: TargetFound) -> list[ElementTree.Element]:
    if isinstance(target, TargetNotAsked):
        return []
    case = ElementTree.Element("testcase", {"classname": CLASS, "name": "target"})
    shown = target.model_dump()
    keys = ("passed", "outcome", "score", "comparator_score", "tuned_score", "gain", "n", "n_needed")
    properties_of(case, {key: shown[key] for key in keys})
    if target.outcome == "NOT_MET":
        result(case, "failure", target.reason, kind="NOT_MET")
    elif not target.passed:
        result(case, "skipped", target.reason)
    else:
        result(case, "system-out", text=target.reason)
    return [case]


def result(
    case: ElementTree.Element,
    how: Literal["failure", "skipped", "system-out"],
    message: str | None = None,
    *,
    kind: str | None = None,
    text: str | None = None,
) -> None:
    """How a test case ended. kind: of the failure."""
    given = {"message": None if message is None else without_control(message), "type": kind}
    found = ElementTree.SubElement(case, how, {name: value for name, value in given.items() if value is not None})
    found.text = None if text is None else without_control(text)


def properties_of(parent: ElementTree.Element, values: Mapping[str, str | float | None]) -> None:
    found = ElementTree.SubElement(parent, "properties")
    for name, value in values.items():
        if value is not None:
            ElementTree.SubElement(found, "property", {"name": name, "value": without_control(str(value))})


def _answers(suite: SuiteFound) -> str:
    """The answers that changed most, as the text of a failure."""
    told = [f"prompt: {one.asked}\nbase: {one.base}\ntuned: {one.tuned}" for one in suite.changed]
    return "\n\n".join(told)


def without_control(text: str) -> str:
    """What XML can hold of it."""
    return "\n".join(printable(line) for line in text.splitlines())


def gate_markdown(document: GateDocument) -> str:
    """The verdict, a table of the measures, the reasons, and the answers that changed most. Text from outside is escaped."""
    first, *others = document.reasons
    numbered = "\n".join(f"{number}. {plain(stopped(one))}" for number, one in enumerate(others, 1))
    parts = [f"## {plain(first)}", _facts(document), _table(document), numbered]
    if document.would_decide:
        parts.append("What would decide:\n\n" + bullets(document.would_decide))
    parts += [MILDER] * (document.verdict == "REJECT")
    parts += [_changes(document), bullets(warnings(document))]
    return spaced("\n\n".join(part for part in parts if part)) + "\n"


def _facts(document: GateDocument) -> str:
    if document.bar is None:
        return f"**{document.verdict}** · base {plain(document.base)} · tuned {plain(document.tuned.name)} (logs)"
    return (
        f"**{document.verdict}** · task {plain(document.task)} · base {plain(document.base)} · "
        f"tuned {plain(document.tuned.name)} ({document.tuned.kind}) · {document.mode} gate · "
        f"bar {round_percent(document.bar)} · seed {document.seed}"
    )


def _table(document: GateDocument) -> str:
    lines = [
        "| measure | base | tuned | points | interval | margin | verdict | items | needed |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    lines += [f"| {' | '.join(map(plain, cells))} |" for cells in table(document)]
    return "\n".join(lines)


def bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {plain(stopped(one))}" for one in sentences)


def _changes(document: GateDocument) -> str:
    lines = []
    for suite in document.suites:
        for one in suite.changed[:MOST]:
            answers = (shortened(text, 300) for text in (one.base, one.tuned))
            told = [plain(text) for text in (asked_of(one, 300), *answers)]
            scores = f"{percent(one.base_score, 0)} to {percent(one.tuned_score, 0)}"
            lines.append(f"| {plain(suite.name)} | {' | '.join(told)} | {scores} |")
    if not lines:
        return ""
    head = ["| measure | prompt | base | tuned | score |", "|---|---|---|---|--:|"]
    return "\n".join(["<details><summary>What changed most</summary>", "", *head, *lines, "", "</details>"])
