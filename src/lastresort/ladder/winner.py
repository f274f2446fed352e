"""The winning system, written to winner/ so that it can be loaded from there alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from lastresort.ladder.decide import Conclusion, RungOutcome
from lastresort.ladder.decision import WINNER_KINDS, Winner
from lastresort.records.atomic import disk_errors, replace_folder
from lastresort.rungs.rung import Workbench
from lastresort.systems.files import load_system, save_system


def write_winner(bench: Workbench, conclusion: Conclusion, outcomes: Sequence[RungOutcome]) -> Winner:
    """Copy the winning system to winner/, so that it can be loaded from there alone."""
    if conclusion.winner is None:
        return Winner("none", None, None)
    outcome = next(outcome for outcome in outcomes if outcome.rung == conclusion.winner)
    assert outcome.system is not None
    system = load_system(bench.candidate_folder(outcome.rung, outcome.system))
    fresh, final = bench.folder / "winner.new", bench.folder / "winner"
    shutil.rmtree(fresh, ignore_errors=True)  # an adapter that a killed climb left there would go along
    with disk_errors(final):
        save_system(system, fresh)
    replace_folder(fresh, final)
    return Winner(WINNER_KINDS[outcome.rung], "winner", folder_sha256(final))


def folder_sha256(folder: Path) -> str:
    """Hash over the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\x00")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
