"""The winning system, written to winner/ so that it can be loaded from there alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from lastresort.climb.decide import RungOutcome
from lastresort.climb.decision import WinnerFolder
from lastresort.errors import DataError
from lastresort.ladder import RUNGS
from lastresort.records.atomic import disk_errors, replace_folder
from lastresort.rungs.rung import Workbench
from lastresort.systems.files import artefact_sha256, folder_sha256, load_system, save_system


def write_winner(bench: Workbench, outcome: RungOutcome | None, gated: str | None) -> WinnerFolder:
    """Copy the winning system to winner/, so that it can be loaded from there alone.

    outcome: that of the rung that won, None where none did. gated: hash of what the gate examined, None where none was asked.

    Raises DataError, and writes none, where it is no longer what the gate examined.
    """
    if outcome is None:
        return WinnerFolder("none", None, None)
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
    return WinnerFolder(RUNGS[outcome.rung].winner, "winner", folder_sha256(final))


def _refuse_other_artefact(fresh: Path, candidate: Path, gated: str | None) -> None:
    if gated is None or (now := artefact_sha256(fresh)) == gated:
        return
    raise DataError(
        "the files of this system have changed since the gate examined them, so that they are no winner",
        where=str(candidate),
        expected=f"the artefact {gated[:16]} that was gated, not {now[:16]}",
        remedy="Put them back and go on with --resume, or start a new run.",
    )
