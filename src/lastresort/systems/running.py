"""Open a saved system. Opening checks once that it is the system that was measured: its files, the gate's hold, its rendering."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lastresort.errors import DataError, InputError
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.models.open import open_model
from lastresort.models.protocol import OnAnswer
from lastresort.records.atomic import disk_errors, settle_folder
from lastresort.records.decision import FILE_NAME as DECISION
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer
from lastresort.systems.files import FILE, folder_sha256, load_system
from lastresort.systems.system import System
from lastresort.types import Answer, Message


class Running(Protocol):
    """A system that answers until it is closed."""

    @property
    def system(self) -> System: ...

    def answer(
        self, inputs: Sequence[Sequence[Message]], *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> list[Answer]:
        """One answer per input, in order. stop: checked before the first answer and after each; raises its error."""

    def stream(
        self, turns: Sequence[Message], *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """The text that `answer` returns, as it grows. on_answer: called with the whole answer. stop: ends the answer there."""

    def close(self) -> None:
        """Free the memory and the connections."""


def open_system(folder: Path, *, allow_held: bool = False, approve: Approve = nobody_to_ask) -> Running:
    """Open the winner in a run's folder, or the system saved in this folder. approve: asks about an endpoint that it names.

    Raises InputError if the gate holds the winner (unless allow_held), or if it names an endpoint that is not approved, DataError
    if there is no system or it is not what its run measured, and the errors of `open_model`.
    """
    saved = folder if (folder / FILE).is_file() else folder / "winner"
    if not allow_held:
        _refuse_held(saved)
    return open_answerer(load_winner(saved), saved, approve)


def open_answerer(system: System, folder: Path, approve: Approve = nobody_to_ask) -> Answerer:
    """Open the system with its own model and adapter. folder: where system.yaml is; relative names start there. approve: as in
    `open_system`.
    """
    model = open_model(
        system.model,
        base_folder=folder,
        precision=system.precision,
        adapter=system.adapter,
        template_kwargs=system.template_kwargs,
        named=False,
        approve=approve,
    )
    try:
        return Answerer(system, model)
    except BaseException:
        model.close()
        raise


def load_winner(folder: Path) -> System:
    """The system in this folder. Chat, serving, the gate and recheck all load systems here.

    If the decision of a run next to it names it as the winner, its files must be those of the decision, byte for byte. Raises
    DataError if they are not, if the decision is damaged, or if the folder holds no system.
    """
    folder = folder.absolute()  # so that "." has a name and a decision next to it
    with disk_errors(folder):
        settle_folder(folder)
    winner = _decided_winner(folder)
    if winner is not None and folder.is_dir():
        _refuse_changed(folder, winner)
    return load_system(folder)


def is_held(folder: Path) -> bool:
    """Whether the gate of a run holds the system in this folder. False if no decision, of any version, says so."""
    place = folder.absolute()  # also where the folder is named "."
    try:
        winner = _read_decision(place)["winner"]
        return bool(winner["held"]) and winner["path"] == place.name
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False


def _refuse_held(folder: Path) -> None:
    if is_held(folder):
        raise InputError(
            "the gate holds this winner: it is not shown yet that tuning broke nothing else",
            where=str(folder),
            expected="a winner that may ship",
            remedy="The section Gate of report.html says what would decide it. Or add --allow-held.",
        )


@dataclass(frozen=True, slots=True)
class _Winner:
    kind: str
    sha256: str


def _decided_winner(folder: Path) -> _Winner | None:
    """The winner in this folder according to the decision next to it, of any version. None if there is no decision, or if its
    winner is another folder. Raises DataError if it is damaged.
    """
    try:
        winner = _read_decision(folder)["winner"]
        if winner["path"] != folder.name or not winner["sha256"]:
            return None
        return _Winner(str(winner["kind"]), str(winner["sha256"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(
            f"found no decision ({type(error).__name__}), so its winner cannot be checked",
            where=str(folder.parent / DECISION),
            expected="a decision written by lastresort",
            remedy=f"Run `lastresort report {folder.parent}`, which writes it again from the record.",
        ) from error


def _read_decision(folder: Path) -> Any:
    return json.loads((folder.parent / DECISION).read_text(encoding="utf-8"))


def _refuse_changed(folder: Path, winner: _Winner) -> None:
    with disk_errors(folder):
        now = folder_sha256(folder)
    if now == winner.sha256:
        return
    weights = {"adapter": "adapter", "merged": "model"}.get(winner.kind)
    regate = f", or gate the present files: `lastresort gate TASK --tuned {folder / weights}`" if weights else ""
    raise DataError(
        "the files of this winner are not those that its run measured",
        where=str(folder),
        expected=f"winner.sha256 {winner.sha256[:16]}, as decision.json says, not {now[:16]}",
        remedy=f"Write it again with `lastresort climb TASK --resume {folder.parent}`{regate}.",
    )
