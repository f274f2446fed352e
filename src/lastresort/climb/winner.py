"""The winning system, written to winner/ so that it can be loaded from there alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lastresort.climb.decide import Conclusion, RungOutcome
from lastresort.climb.decision import WINNER_KINDS, Winner
from lastresort.errors import DataError
from lastresort.gate.in_climb import gate_of
from lastresort.records.atomic import disk_errors, replace_folder
from lastresort.records.record import Record
from lastresort.rungs.rung import Workbench
from lastresort.systems.files import artefact_sha256, folder_sha256, load_system, save_system


def write_winner(bench: Workbench, conclusion: Conclusion, outcomes: Sequence[RungOutcome]) -> Winner:
    """Copy the winning system to winner/, so that it can be loaded from there alone.

    Raises DataError, and writes none, where it is no longer what the gate examined.
    """
    if conclusion.winner is None:
        return Winner("none", None, None)
    outcome = next(outcome for outcome in outcomes if outcome.rung == conclusion.winner)
    assert outcome.system is not None
    candidate = bench.candidate_folder(outcome.rung, outcome.system)
    fresh, final = bench.folder / "winner.new", bench.folder / "winner"
    shutil.rmtree(fresh, ignore_errors=True)  # an adapter that a killed climb left there would go along
    with disk_errors(final):
        save_system(load_system(candidate), fresh)
    try:
        _refuse_other_artefact(fresh, candidate, gated_artefact(bench.record, outcome))
    except DataError:
        shutil.rmtree(fresh)
        raise
    replace_folder(fresh, final)
    return Winner(WINNER_KINDS[outcome.rung], "winner", folder_sha256(final))


def gated_artefact(record: Record, outcome: RungOutcome) -> str | None:
    """Hash of what the gate examined of this system, None where none was asked, or by a version that did not note it."""
    noted = gate_of(record, outcome.rung, outcome.system)
    return noted["artefact_sha256"] if noted is not None and outcome.gate is not None else None


def _refuse_other_artefact(fresh: Path, candidate: Path, gated: str | None) -> None:
    if gated is None or (now := artefact_sha256(fresh)) == gated:
        return
    raise DataError(
        "the files of this system have changed since the gate examined them, so that they are no winner",
        where=str(candidate),
        expected=f"the artefact {gated[:16]} that was gated, not {now[:16]}",
        remedy="Put them back and go on with --resume, or start a new run.",
    )
