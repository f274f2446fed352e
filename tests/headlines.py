"""Every headline that a climb can end with, from the values of its answer."""

from __future__ import annotations

from itertools import product
from typing import get_args

from lastresort.ladder import RUNGS, trained_rungs, trains, untrained_rungs
from lastresort.records import reasons as value
from lastresort.records.decision import RungView, RunView
from lastresort.records.measurement import BarTest
from lastresort.report.words.answer import of_answer
from lastresort.report.words.titles import headline
from lastresort.types import JudgedBar

SCORE, BAR, MOST = 0.8333, 0.8555, 12_480  # as wide as figures are; test items that a report names at most


def longest_headlines() -> tuple[str, ...]:
    """The two longest of every kind of answer, and of each of its forms."""
    return tuple(
        text
        for kind in get_args(value.Answer)
        for form in forms(kind)
        for text in sorted({headline(decided(answer, 99)) for answer in form}, key=len)[-2:]
    )


def decided(answer: value.Answer, n: int) -> RunView:
    """What of a decision its headline needs. n: of test groups that were used."""
    said = of_answer(answer)
    test = BarTest.model_construct(n_used=n, unit="group")
    rungs = tuple(RungView.model_construct(name=rung, test=test) for rung in RUNGS)
    return RunView.model_construct(
        answer=said.text, answer_code=said.code, answer_figures=dict(said.figures), rungs=rungs
    )


def forms(kind: type[value.Answer]) -> list[list[value.Answer]]:
    """The answers of a kind, over all rungs that it can name, by what its sentence says."""
    yes_no, rungs = (False, True), tuple(RUNGS)
    gates = ((False, False), (True, False), (False, True))  # held, ungated
    pairs = [(first, last) for n, first in enumerate(rungs) for last in rungs[n + 1 :]]
    if kind is value.NothingApplies:
        return [[value.NothingApplies()]]
    if kind is value.BarMet:
        met = product(yes_no, gates, (SCORE, 0.9333))
        return [
            [value.BarMet(r, score, BAR, trains(r), open_below, *(one and trains(r) for one in gate)) for r in rungs]
            for open_below, gate, score in met
        ]
    if kind is value.Leads:
        return [
            [value.Leads(rung, SCORE, BAR, trains(rung), *(one and trains(rung) for one in gate)) for rung in rungs]
            for gate in gates
        ]
    if kind is value.StillOpen:
        judged = [JudgedBar(SCORE, (0.8, 1.0), 0.95, 0.7, explained=e, estimated=s) for e in yes_no for s in yes_no]
        needed = [(MOST, None), (None, None), *((None, one) for one in judged)]
        alone = [[value.StillOpen(r, SCORE, BAR, n, "group", one) for r in rungs] for n, one in needed]
        behind = [
            [value.StillOpen(high, SCORE, BAR, n, "group", one, low, 0.8444) for low, high in pairs]
            for n, one in needed
        ]
        return [*alone, *behind]
    if kind is value.GateRejected:
        tuned = [*((rung,) for rung in trained_rungs()), trained_rungs()]
        return [
            [value.GateRejected(rejected, BAR, kept, SCORE) for kept in untrained_rungs() for rejected in tuned],
            [value.GateRejected(rejected, BAR, None, 0.0) for rejected in tuned],
        ]
    if kind is value.NotFinished:
        return [
            [value.NotFinished(best, SCORE, BAR, (left,)) for best, left in pairs],
            [value.NotFinished(best, SCORE, BAR, rungs[n + 1 :]) for n, best in enumerate(rungs[:-2])],
        ]
    if kind is value.NoneMet:
        return [[value.NoneMet(rung, SCORE, BAR) for rung in rungs]]
    assert kind is value.CheapestOfSeveral, f"no headlines of {kind.__name__} here"
    ends = ((True, True), (False, True), (False, False))
    return [
        [value.CheapestOfSeveral(first, last, wins, comparable, BAR, ungated and wins) for first, last in pairs]
        for wins, comparable in ends
        for ungated in yes_no
    ]
