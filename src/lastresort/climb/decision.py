"""The record of a finished climb and its conclusion -> decision.json.

Also the winning system, written to winner/ so that it can be loaded from there alone.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from lastresort.climb.decide import Conclusion, RungOutcome
from lastresort.errors import DataError
from lastresort.evals.judged import judge_view
from lastresort.ladder import RUNGS
from lastresort.records.atomic import disk_errors, replace_folder
from lastresort.records.decision import (
    EarlyWarning,
    RungView,
    RunProvenance,
    RunView,
    WinnerView,
)
from lastresort.records.decision_parts import BreakEven, ComparedWay
from lastresort.records.document import ReuseView, Statement
from lastresort.records.events.training import TrainingReached
from lastresort.records.gate import ClimbGate
from lastresort.records.reasons import Change, Reason
from lastresort.records.record import Record
from lastresort.records.view import Fold, fold_of, standing
from lastresort.report.words import answer
from lastresort.rungs.rung import Workbench
from lastresort.systems.files import artefact_sha256, folder_sha256, load_system, save_system
from lastresort.train.watch.kept import KEYS, measured, warning

NAMES = ("step", *KEYS, "base_perplexity")


def early_warnings(record: Record, rung: str) -> list[EarlyWarning]:
    """Of every training of the rung that was compared with its base the newest figures, and its alarm or null."""
    names = dict.fromkeys(training.candidate for training in record.all(TrainingReached) if training.rung == rung)
    warnings = []
    for name in names:
        curve = record.curve(name)
        if points := measured(curve):
            values = {key: _finite(points[-1].get(key)) for key in NAMES}
            warnings.append(EarlyWarning.model_validate({"training": name, **values, "alarm": warning(curve)}))
    return warnings


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def decision_of(
    record: Record,
    outcomes: Sequence[RungOutcome],
    conclusion: Conclusion,
    *,
    winner: WinnerView,
    gate: ClimbGate | None,
    extra_reasons: Sequence[Reason | Statement],
    would_change: Sequence[Change],
    compare: Sequence[ComparedWay],
    break_even: BreakEven | None,
    test_reuse: ReuseView,
    provenance: RunProvenance,
) -> RunView:
    fold, statement = fold_of(record), answer.of_answer(conclusion.answer)
    undecided = standing(fold)
    assert undecided is not None, "what is decided is a task that was read"
    return undecided.replaced(
        verdict=conclusion.verdict,
        meets_bar=conclusion.meets_bar,
        provisional=conclusion.provisional,
        stopped_at=conclusion.stopped_at,
        answer=statement.text,
        answer_code=statement.code,
        answer_figures=statement.figures,
        reasons=tuple(
            reason if isinstance(reason, Statement) else answer.of_reason(reason)
            for reason in (*conclusion.reasons, *extra_reasons)
        ),
        would_change=tuple(answer.of_change(change) for change in would_change),
        judge=judge_view(fold),
        test_reuse=test_reuse,
        rungs=tuple(rung_of(fold, record, outcome) for outcome in outcomes),
        gate=gate,
        first_gate=None if gate is None else fold.first_gate(gate.rung),
        compare=tuple(compare),
        break_even=break_even,
        winner=winner,
        provenance=provenance,
    )


def rung_of(fold: Fold, record: Record, outcome: RungOutcome) -> RungView:
    """One of `rungs`."""
    rung_view = fold.rung_view(
        outcome.rung,
        system=outcome.system,
        test=outcome.judgement,
        gate=None if outcome.gate is None else outcome.gate.verdict,
        skipped=outcome.skipped,
    )
    return rung_view.replaced(early_warnings=early_warnings(record, outcome.rung))


def write_winner(bench: Workbench, outcome: RungOutcome | None, gated: str | None) -> WinnerView:
    """Copy the winning system to winner/, so that it can be loaded from there alone.

    outcome: that of the rung that won, None where none did. gated: hash of what the gate examined, None if there was no gate.

    Raises DataError, and writes none, where it is no longer what the gate examined.
    """
    if outcome is None:
        return WinnerView(kind="none", path=None, held=False, sha256=None)
    assert outcome.system is not None
    candidate = bench.candidate_folder(outcome.rung, outcome.system)
    fresh, final = bench.folder / "winner.new", bench.folder / "winner"
    shutil.rmtree(fresh, ignore_errors=True)  # an adapter that a killed climb left there would go along
    with disk_errors(final):
        save_system(load_system(candidate), fresh)
    try:
        _refuse_other_artefact(fresh, candidate, gated)
    except DataError:
        shutil.rmtree(fresh)
        raise
    replace_folder(fresh, final)
    kind, sha256 = RUNGS[outcome.rung].winner, folder_sha256(final)
    return WinnerView(kind=kind, path="winner", held=outcome.held, sha256=sha256)


def _refuse_other_artefact(fresh: Path, candidate: Path, gated: str | None) -> None:
    if gated is None or (sha256 := artefact_sha256(fresh)) == gated:
        return
    raise DataError(
        "the files of this system have changed since the gate examined them, so that they are no winner",
        where=str(candidate),
        expected=f"the artefact {gated[:16]} that was gated, not {sha256[:16]}",
        remedy="Put them back and go on with --resume, or start a new run.",
    )
