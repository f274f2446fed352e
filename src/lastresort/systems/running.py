"""A saved system at work. All that could make it another than the measured one is checked once, when it is opened: its files, the
gate's hold, and how its model renders.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lastresort.errors import DataError, InputError
from lastresort.models.open import open_model
from lastresort.models.protocol import OnAnswer
from lastresort.records.atomic import disk_errors, settle_folder
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer
from lastresort.systems.files import FILE, folder_sha256, load_system
from lastresort.systems.system import System
from lastresort.types import Answer, Message

DECISION = "decision.json"  # of a run, beside the folder of its winner


class Running(Protocol):
    """A system that answers until it is closed."""

    @property
    def system(self) -> System: ...

    def answer(
        self, inputs: Sequence[Sequence[Message]], *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> list[Answer]:
        """One answer an input, in order. stop: looked at before the first answer and after each; raises its error."""

    def stream(
        self, turns: Sequence[Message], *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """The text that `answer` gives, as it grows. on_answer: given the whole at the end. stop: ends the answer where it is."""

    def close(self) -> None:
        """Give back the memory and the connections."""


def open_system(folder: Path, *, allow_held: bool = False) -> Running:
    """Open the winner in a run's folder, or the system saved in this one.

    Raises InputError for a winner that the gate holds, unless allow_held; DataError where there is no system, or it is not what
    its run measured; what `open_model` raises.
    """
    saved = folder if (folder / FILE).is_file() else folder / "winner"
    if not allow_held:
        _refuse_held(saved)
    return open_answerer(load_winner(saved), saved)


def open_answerer(system: System, folder: Path) -> Answerer:
    """Open the system's own model with its adapter. folder: where system.yaml is, from which relative names lead."""
    model = open_model(
        system.model,
        base_folder=folder,
        precision=system.precision,
        adapter=system.adapter,
        template_kwargs=system.template_kwargs,
    )
    try:
        return Answerer(system, model)
    except BaseException:
        model.close()
        raise


def load_winner(folder: Path) -> System:
    """The system in this folder; whoever chats with one, serves, gates or rechecks it loads it here.

    Where the decision of a run lies beside it and says that this is its winner, the files must be those that it names, byte for
    byte. Raises DataError where they are not, where that decision is damaged, or where the folder holds no system.
    """
    folder = folder.absolute()  # so that "." has a name and a decision beside it
    with disk_errors(folder):
        settle_folder(folder)
    told = _winner_beside(folder)
    if told is not None and folder.is_dir():
        _refuse_changed(folder, told)
    return load_system(folder)


def is_held(folder: Path) -> bool:
    """Whether the system in this folder won a run whose gate holds it. False where no decision says so, of whatever version."""
    place = folder.absolute()  # also where the folder is named "."
    try:
        winner = _decided(place)["winner"]
        return bool(winner["held"]) and winner["path"] == place.name
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False


def _refuse_held(folder: Path) -> None:
    if is_held(folder):
        raise InputError(
            "the gate holds this winner back: that tuning broke nothing else is not shown",
            where=str(folder),
            expected="a winner that may ship",
            remedy="Read under Gate in report.html what would decide it, or add --allow-held.",
        )


@dataclass(frozen=True, slots=True)
class _Winner:
    kind: str
    sha256: str


def _winner_beside(folder: Path) -> _Winner | None:
    """The winner in this folder, as the decision beside it has it, of whatever version; None where there is no decision, or
    where it speaks of no winner of this name. Raises DataError where it is damaged.
    """
    try:
        winner = _decided(folder)["winner"]
        if winner["path"] != folder.name or not winner["sha256"]:
            return None
        return _Winner(str(winner["kind"]), str(winner["sha256"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(
            f"found no decision ({type(error).__name__}), so that its winner cannot be checked",
            where=str(folder.parent / DECISION),
            expected="a decision written by lastresort",
            remedy="Delete it and run `lastresort climb TASK --resume`, which writes it anew from the record.",
        ) from error


def _decided(folder: Path) -> Any:
    return json.loads((folder.parent / DECISION).read_text(encoding="utf-8"))


def _refuse_changed(folder: Path, told: _Winner) -> None:
    with disk_errors(folder):
        now = folder_sha256(folder)
    if now == told.sha256:
        return
    weights = {"adapter": "adapter", "merged": "model"}.get(told.kind)
    anew = f"; or gate what is there now: `lastresort gate TASK --tuned {folder / weights}`" if weights else ""
    raise DataError(
        "the files of this winner are not those that its run measured",
        where=str(folder),
        expected=f"winner.sha256 {told.sha256[:16]}, as decision.json says, not {now[:16]}",
        remedy=f"Write it anew with `lastresort climb TASK --resume {folder.parent}`{anew}.",
    )
