"""Advice in the terminal: legible at 80 columns and without colour."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from lastresort.records.advice import AdviceDocument, Fact, FrameworkAdvice, FrameworkFit
from lastresort.report.tables import grid
from lastresort.report.words.wording import listed, printable, sentence, stopped

STANCES = {"DO": ("try", "green"), "ONLY_IF": ("only if", "yellow"), "NOT": ("skip", "dim")}
STYLES = {"STRONG": "bold", "MODERATE": "", "WEAK": "dim"}
# where a name says too little
MEANING = {
    "n_examples": "(each input of dev and test counts once)",
    "test_least": "(the fewest that can decide at every rung, all of them right)",
}
QUESTIONS = 6  # shown; the others stand in --json


def advice_text(document: AdviceDocument) -> RenderableType:
    """The answer, the rungs in order, the rules with reasons and sources, what to find out, and which framework to take."""
    parts: list[RenderableType] = [Text(printable(document.answer), style="bold")]
    for note in document.notes:
        parts.append(Text(printable(sentence(note)), style="yellow"))
    parts += [
        Text(""),
        path_table(document),
        *_known(document),
        *_rules(document),
        *_questions(document),
        *_frameworks(document),
    ]
    return Group(*parts, Text(""), Text(_last_words(document), style="dim"))


def path_table(document: AdviceDocument) -> RenderableType:
    """The rungs in order, each with its first reason."""
    table = grid(8, 11)
    for step in document.path:
        word, style = STANCES[step.stance]
        told = [stopped(step.condition)] if step.condition else []  # it goes on from "only if"
        told.append(step.reasons[0])
        table.add_row(Text(word, style=style), Text(step.rung, style="bold"), Text(printable(" ".join(told))))
    return table


def _known(document: AdviceDocument) -> list[RenderableType]:
    """The facts that the advice rests on, by the names that --fact takes."""
    if not document.facts:
        return []
    known = {name: value for name, value in document.facts.items() if value not in ((), {})}
    table = grid(max(map(len, known), default=0))
    for name, value in known.items():
        table.add_row(Text(name), Text(printable(f"{_value(value)} {MEANING.get(name, '')}".rstrip())))
    return [*_head("What is known"), table]


def _value(value: Fact) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {one}" for name, one in value.items())
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value


def _rules(document: AdviceDocument) -> list[RenderableType]:
    if not document.rules:
        return []
    table = grid(8)
    for rule in document.rules:
        told = Text(printable(rule.advice), style=STYLES[rule.strength])
        told.append(f"\n{rule.because} [{rule.source}]", style="not bold dim")
        table.add_row(Text(rule.strength.lower(), style=STYLES[rule.strength]), told)
    return [*_head("Advice"), table]


def _questions(document: AdviceDocument) -> list[RenderableType]:
    asked = document.to_find_out
    if not asked:
        return []
    deciding = sorted(asked, key=lambda one: not one.decides)  # stable: those that decide a rung first
    table = grid(max(len(one.fact) for one in deciding[:QUESTIONS]))
    for one in deciding[:QUESTIONS]:
        allowed = f" ({', '.join(one.choices)})" if one.choices else ""
        decides = f" Decides {listed(one.decides)}." if one.decides else ""
        table.add_row(Text(one.fact), Text(f"{sentence(one.question + allowed)}{decides}"))
    more: list[RenderableType] = []
    if len(deciding) > QUESTIONS:
        more.append(
            Text(
                f"Also useful, explained in docs/advise.md: {', '.join(one.fact for one in deciding[QUESTIONS:])}.",
                style="dim",
            )
        )
    return [*_head("What would change this (answer with --fact NAME=VALUE, or --ask)"), table, *more]


def _frameworks(document: AdviceDocument) -> list[RenderableType]:
    by_fit: dict[FrameworkFit, list[FrameworkAdvice]] = {"TAKE": [], "CAN": [], "NOT": []}
    for one in document.frameworks:
        by_fit[one.fit].append(one)
    if not document.frameworks:
        return []
    table = grid(8, 16)
    for one in by_fit["TAKE"]:
        told = f"{one.because} Good at: {one.good_at}. Lacks: {one.lacks}."
        table.add_row(Text("take", style="green"), Text(one.name, style="bold"), Text(told))
    others = by_fit["CAN"]
    if by_fit["TAKE"] and others:
        table.add_row(Text("can"), Text(""), Text(f"{listed(one.name for one in others)}."))
    elif others:
        for one in others:
            table.add_row(Text("can"), Text(one.name, style="bold"), Text(one.because))
    for one in by_fit["NOT"]:
        table.add_row(Text("not", style="dim"), Text(one.name, style="bold"), Text(one.because, style="dim"))
    return [*_head("Frameworks"), table]


def _last_words(document: AdviceDocument) -> str:
    measured = "These are rules of thumb; no model was run."
    if document.task is None:
        return f"{measured} To measure, write a task file and run `lastresort climb`."
    return f"{measured} To measure, run `lastresort climb`, with `ladder: [{', '.join(document.ladder)}]` to follow this advice."


def _head(name: str) -> list[RenderableType]:
    return [Text(""), Text(name, style="bold underline")]
