"""The ways in which tuning breaks what nobody trained for, each by the parts of its suite: shown, never judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lastresort.evals.gate import SuiteFound
from lastresort.evals.suites.suite import ByCondition, Chosen, Item, Question, Suite, Transcript
from lastresort.ladder.gate.run import Scored
from lastresort.report.gate import MODES

LONGEST = 2000  # letters of a turn
MOST_TURNS = 4  # of an example; what has more shows solved examples before the question


@dataclass(frozen=True, slots=True)
class _Row:
    """What an item says about a part. key: of the question that was asked for it."""

    part: str
    item: Item
    base: float
    tuned: float
    key: str


def failure_modes(found: Sequence[SuiteFound], scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """name, suite and parts of each mode whose suite the gate has; no parts where it was left out. JSON-able."""
    by_name = {one.plan.name: one for one in scored}
    suites = dict.fromkeys(measure.suite for measure in found if measure.suite in MODES)
    return [
        {"name": MODES[suite], "suite": suite, "parts": _parts(by_name[suite]) if suite in by_name else []}
        for suite in suites
    ]


def _parts(one: Scored) -> list[dict[str, Any]]:
    """In the order in which they first come: base and tuned score on the same n items, and what one of these looks like."""
    rows = list(_rows(one))
    assert one.base is not None
    parts = []
    for name in dict.fromkeys(row.part for row in rows):
        own = [row for row in rows if row.part == name]
        parts.append(
            {
                "name": name,
                "base": fmean(row.base for row in own),
                "tuned": fmean(row.tuned for row in own),
                "n": len(own),
                "example": _example(one.ready.suite, own[0], one.base.transcripts[own[0].item.id]),
            }
        )
    return parts


def _rows(one: Scored) -> Iterator[_Row]:
    """By condition where the suite tells what is right in each, else by family."""
    suite = one.ready.suite
    assert one.base is not None
    assert one.tuned is not None
    for item in one.both:
        base, tuned = one.base.transcripts[item.id], one.tuned.transcripts[item.id]
        if isinstance(suite, ByCondition):
            before, after = suite.right(item, base), suite.right(item, tuned)
            yield from (_Row(key, item, before[key], after[key], key) for key in before if key in after)
        elif (pair := suite.measures[0].pair(item, base, tuned)) is not None:
            yield _Row(item.family, item, pair.base, pair.tuned, next(iter(base)))


def _example(suite: Suite, row: _Row, said: Transcript) -> dict[str, Any]:
    """The question as the base saw it."""
    question = next(question for question in _questions(suite, row.item, said) if question.key == row.key)
    turns = question.prompt
    if len(turns) > MOST_TURNS:
        turns = (*(turn for turn in turns[:1] if turn.role == "system"), turns[-1])
    return {
        "id": row.item.id,
        "turns": [{"role": turn.role, "content": turn.content[:LONGEST]} for turn in turns],
        "options": [option[:LONGEST] for option in question.options] if isinstance(question, Chosen) else [],
    }


def _questions(suite: Suite, item: Item, said: Transcript) -> Iterator[Question]:
    """Round by round, as they were asked."""
    before: Transcript = {}
    while questions := suite.ask(item, before):
        yield from questions
        before |= {question.key: said[question.key] for question in questions}
