"""A saved system for use: a winner is loaded only if it is, byte for byte, what its run wrote down."""

from __future__ import annotations

from pathlib import Path

from lastresort.errors import DataError
from lastresort.records.atomic import disk_errors, settle_folder
from lastresort.report.decision import winner_beside
from lastresort.systems.files import folder_sha256, load_system
from lastresort.systems.system import System


def load_winner(folder: Path) -> System:
    """The system in this folder; whoever chats with one, serves, gates or rechecks it loads it here.

    Where the decision of a run lies beside it and says that this is its winner, the files must be those that it names. Raises
    DataError where they are not, where that decision is damaged, or where the folder holds no system.
    """
    folder = folder.absolute()  # so that "." has a name and a decision beside it
    with disk_errors(folder):
        settle_folder(folder)
    told = winner_beside(folder)
    if told is not None and folder.is_dir():
        _refuse_changed(folder, told)
    return load_system(folder)


def _refuse_changed(folder: Path, told: dict[str, str]) -> None:
    with disk_errors(folder):
        now = folder_sha256(folder)
    if now == told["sha256"]:
        return
    weights = {"adapter": "adapter", "merged": "model"}.get(told["kind"])
    anew = f"; or gate what is there now: `lastresort gate TASK --tuned {folder / weights}`" if weights else ""
    raise DataError(
        "the files of this winner are not those that its run measured",
        where=str(folder),
        expected=f"winner.sha256 {told['sha256'][:16]}, as decision.json says, not {now[:16]}",
        remedy=f"Write it anew with `lastresort climb TASK --resume {folder.parent}`{anew}.",
    )
