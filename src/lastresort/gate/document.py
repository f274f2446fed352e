"""The result of a gate for `gate.json` and for the `gate` of a decision, and the folder where it is written.

Besides the verdict it holds the items that changed most, the losses first, and the failure modes: each suite by its parts, which
are shown and never tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lastresort.climb.workspace import new_run, run_number
from lastresort.errors import InputError
from lastresort.foreign import read_json
from lastresort.gate.scored import ScoredSuite
from lastresort.gate.suites.asking import SuiteReplies
from lastresort.gate.suites.general import CONSTRAINTS, SUBJECTS
from lastresort.gate.suites.suite import ByCondition, ChoiceRequest, Question, ScorePair, Suite, SuiteItem, Transcript
from lastresort.records import atomic as lock
from lastresort.records.atomic import check_new_folder, write_atomically
from lastresort.records.gate import (
    MODES,
    ChangedItem,
    ExampleTurn,
    FailureMode,
    FailureModePart,
    Fingerprints,
    GateConclusion,
    GateFindings,
    GateForecast,
    GateSpent,
    ItemExample,
    ItemsAsked,
    SuiteFound,
)
from lastresort.report.gate import FILE_NAME

SHOWN = 5
LONGEST = 2000  # letters of an answer


def changed_most(
    pairs: Sequence[ScorePair],
    items: Mapping[str, SuiteItem],
    base: Mapping[str, Transcript],
    tuned: Mapping[str, Transcript],
) -> tuple[ChangedItem, ...]:
    """The items whose score fell most, then those whose score rose most, and in a tie the first asked. At least one that rose, if
    there is any.
    """
    differ = sorted((pair for pair in pairs if pair.tuned != pair.base), key=lambda pair: -abs(pair.tuned - pair.base))
    fell, rose = ([pair for pair in differ if (pair.tuned > pair.base) is up] for up in (False, True))
    losses = fell[: SHOWN - bool(rose)]
    changed = [*losses, *rose[: SHOWN - len(losses)]]
    return tuple(_side_by_side(pair, items[pair.id], base[pair.id], tuned[pair.id]) for pair in changed)


def _side_by_side(pair: ScorePair, item: SuiteItem, base: Transcript, tuned: Transcript) -> ChangedItem:
    """Both answers to the first question that was answered differently, of those that the scores come from."""
    keys = [key for key in pair.keys or base if key in base and key in tuned]
    key = next((key for key in keys if base[key].text != tuned[key].text), keys[0] if keys else "")
    texts = [transcript[key].text[:LONGEST] if key in transcript else "" for transcript in (base, tuned)]
    return ChangedItem(
        id=pair.id,
        stratum=pair.stratum,
        asked=item.text[:LONGEST],
        question=key,
        base=texts[0],
        tuned=texts[1],
        base_score=pair.base,
        tuned_score=pair.tuned,
        detail=pair.detail,
    )


MOST_TURNS = 4  # of an example; longer ones hold solved examples before the question


@dataclass(frozen=True, slots=True)
class _Row:
    """The scores of an item under a part. key: of the question behind them."""

    part: str
    item: SuiteItem
    base: float
    tuned: float
    key: str


def failure_modes(findings: Sequence[SuiteFound], scored_suites: Sequence[ScoredSuite]) -> tuple[FailureMode, ...]:
    """Each mode whose suite the gate has; without parts if the suite was skipped."""
    by_name = {suite_scored.planned.plan.name: suite_scored for suite_scored in scored_suites}
    suites = dict.fromkeys(measure.suite for measure in findings if measure.suite in MODES)
    return tuple(
        FailureMode(name=MODES[suite], suite=suite, parts=_parts(by_name[suite]) if suite in by_name else ())
        for suite in suites
    )


def _parts(scored: ScoredSuite) -> tuple[FailureModePart, ...]:
    """Scores of base and tuned model on the same n items of each part, with an example; parts in the order of their first item."""
    rows = list(_rows(scored))
    parts = []
    for name in dict.fromkeys(row.part for row in rows):
        part_rows = [row for row in rows if row.part == name]
        base, tuned = fmean(row.base for row in part_rows), fmean(row.tuned for row in part_rows)
        example = _example(scored.planned.piloted.suite, part_rows[0], scored.base.transcripts[part_rows[0].item.id])
        parts.append(
            FailureModePart(
                name=name,
                subject=SUBJECTS.get(name, name),
                constraint=name in CONSTRAINTS,
                base=base,
                tuned=tuned,
                n=len(part_rows),
                example=example,
            )
        )
    return tuple(parts)


def _rows(scored: ScoredSuite) -> Iterator[_Row]:
    """By condition if the suite knows what is right in each, else by family."""
    suite = scored.planned.piloted.suite
    for item in scored.common_items:
        base, tuned = scored.base.transcripts[item.id], scored.tuned.transcripts[item.id]
        if isinstance(suite, ByCondition):
            base_right, tuned_right = suite.right(item, base), suite.right(item, tuned)
            yield from (
                _Row(key, item, base_right[key], tuned_right[key], key) for key in base_right if key in tuned_right
            )
        elif (pair := suite.measures[0].pair(item, base, tuned)) is not None:
            yield _Row(item.family, item, pair.base, pair.tuned, next(iter(base)))


def _example(suite: Suite, row: _Row, transcript: Transcript) -> ItemExample:
    """The question as the base saw it."""
    question = next(question for question in _questions(suite, row.item, transcript) if question.key == row.key)
    turns = question.prompt
    if len(turns) > MOST_TURNS:
        turns = (*(turn for turn in turns[:1] if turn.role == "system"), turns[-1])
    return ItemExample(
        id=row.item.id,
        turns=tuple(ExampleTurn(role=turn.role, content=turn.content[:LONGEST]) for turn in turns),
        options=tuple(option[:LONGEST] for option in question.options) if isinstance(question, ChoiceRequest) else (),
    )


def _questions(suite: Suite, item: SuiteItem, transcript: Transcript) -> Iterator[Question]:
    """Round by round, as they were asked."""
    earlier_rounds: Transcript = {}
    while questions := suite.ask(item, earlier_rounds):
        yield from questions
        earlier_rounds |= {question.key: transcript[question.key] for question in questions}


KEY = "question.json"


@contextmanager
def gate_folder(gates: Path, name: str, key: Mapping[str, Any], out: Path | None = None) -> Iterator[Path]:
    """Lock a folder for the gate with this key; the lock ends with the process, however it ends.

    out: this folder instead of one below `gates`. Raises InputError if it is a file, or another process writes there.
    """
    with _locked(out, key) if out is not None else _resumed_or_new(gates, name, key) as folder:
        yield folder


@contextmanager
def _resumed_or_new(gates: Path, name: str, key: Mapping[str, Any]) -> Iterator[Path]:
    """The newest unfinished gate with the same key that no process has locked, else a new one."""
    numbered = [(number, path) for path in gates.glob(f"{name}-*") if (number := run_number(path, name)) is not None]
    unfinished = [
        folder
        for _, folder in sorted(numbered, reverse=True)
        if not (folder / FILE_NAME).exists() and _key_of(folder) == key
    ]
    with ExitStack() as stack:
        for folder in unfinished:
            with suppress(InputError):
                stack.enter_context(_locked(folder, key))
                break
        else:
            folder = stack.enter_context(_locked(new_run(gates, name), key))
        yield folder


def _key_of(folder: Path) -> Any:
    try:
        return read_json(folder / KEY)
    except (OSError, InputError):
        return None


@contextmanager
def _locked(folder: Path, key: Mapping[str, Any]) -> Iterator[Path]:
    if folder.exists() and not folder.is_dir():
        raise InputError("found a file", where=str(folder), expected="a folder", remedy="Name another with --out.")
    if not (folder / KEY).is_file():
        check_new_folder(folder, own=(lock.LOCK,))
    folder.mkdir(parents=True, exist_ok=True)
    remedy = "Wait for it, or name another with --out."
    with lock.held(folder, "another process writes a gate here", expected="one process a folder", remedy=remedy):
        write_atomically(folder / KEY, json.dumps(dict(key), indent=1) + "\n")
        yield folder


def findings_of(
    conclusion: GateConclusion,
    scored: Sequence[ScoredSuite],
    *,
    forecast: GateForecast,
    further: Sequence[GateSpent],
    fingerprints: Fingerprints,
) -> GateFindings:
    """The result of a finished gate, with what it asked and what changed most. further: of each suite that asks by itself."""
    by_name = {suite.planned.plan.name: suite for suite in scored}
    suites = tuple(_with_examples(suite, by_name.get(suite.suite)) for suite in conclusion.suites)
    return GateFindings(
        **dict(conclusion.replaced(suites=suites)),
        failure_modes=failure_modes(conclusion.suites, scored),
        forecast=forecast,
        spent=spent_on([side for suite in scored for side in (suite.base, suite.tuned)], further),
        fingerprints=fingerprints,
    )


def _with_examples(finding: SuiteFound, scored: ScoredSuite | None) -> SuiteFound:
    """The finding with its item counts and what changed most. scored: its suite, None if that was skipped or asked by itself."""
    if scored is None:
        return finding
    measure = next(measure for measure in scored.planned.piloted.suite.measures if measure.name == finding.name)
    items = {item.id: item for item in scored.planned.drawn.items}
    changed = changed_most(scored.pairs(measure), items, scored.base.transcripts, scored.tuned.transcripts)
    return finding.replaced(asked=_items_asked(scored), changed=changed)


def _items_asked(scored: ScoredSuite) -> ItemsAsked:
    return ItemsAsked(
        version=scored.planned.piloted.suite.version,
        items=scored.asked,
        left_out=len(scored.left_out),
        passed_over=scored.planned.drawn.passed_over,
        pilot_items=scored.planned.pilot_items,
    )


def spent_on(replies: Sequence[SuiteReplies], further: Sequence[GateSpent] = ()) -> GateSpent:
    """Time and tokens of the suites, whenever they were asked, and how many items were asked now."""
    return GateSpent(
        seconds=round(sum([*(side.seconds for side in replies), *(suite.seconds for suite in further)]), 3),
        asked_now=sum([*(side.new for side in replies), *(suite.asked_now for suite in further)]),
        tokens_in=sum([*(side.tokens_in for side in replies), *(suite.tokens_in for suite in further)]),
        tokens_out=sum([*(side.tokens_out for side in replies), *(suite.tokens_out for suite in further)]),
    )
