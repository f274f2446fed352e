"""Open a saved system. Opening checks once that it is the system that was measured: its files, the gate's hold, its rendering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Protocol, Self

from pydantic import BaseModel

from lastresort.errors import DataError, InputError
from lastresort.foreign import DOCUMENT, parse_json, read_content
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.models.open import open_model
from lastresort.models.protocol import OnAnswer
from lastresort.records.atomic import disk_errors, is_held, settle_folder
from lastresort.records.decision import FILE_NAME as DECISION
from lastresort.records.decision import HELD, RunView, winner_notes
from lastresort.records.document import document_text
from lastresort.records.events.run import ClimbDecided
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.records.record import Record
from lastresort.records.view import refuse_study
from lastresort.stop import Stop
from lastresort.systems.answerer import Answerer, Input
from lastresort.systems.files import FILE, candidate_folder, folder_sha256, load_system
from lastresort.systems.system import System
from lastresort.types import Answer, Outcome


class Running(Protocol):
    """A system that answers until it is closed, or until the end of its `with`. Text as an input stands for one message of the
    user.
    """

    @property
    def system(self) -> System: ...

    def answer(
        self, inputs: Sequence[Input], *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> list[Answer]:
        """One answer per input, in order. stop: checked before the first answer and after each; raises its error.

        Raises InputError for what is no list of inputs, and once closed.
        """

    def stream(self, turns: Input, *, on_answer: OnAnswer | None = None, stop: Stop | None = None) -> Iterator[str]:
        """The text that `answer` returns, as it grows. on_answer: called with the whole answer. stop: ends the answer there."""

    def close(self) -> None:
        """Free the memory and the connections."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_system(folder: Path, *, allow_held: bool = False, approve: Approve = nobody_to_ask) -> Answerer:
    """Open the winner in a run's folder, or the system saved in this folder. approve: asks about an endpoint that it names.

    Raises InputError if the gate holds the winner (unless allow_held), or if it names an endpoint that is not approved, DataError
    if there is no system or it is not what its run measured, and the errors of `open_model`.
    """
    system, saved = checked_system(folder, allow_held=allow_held)
    return open_answerer(system, saved, approve)


def checked_system(folder: Path, *, allow_held: bool = False) -> tuple[System, Path]:
    """The winner in a run's folder, or the system saved in this folder, and where it is. Nothing is opened.

    Raises as `open_system` does.
    """
    if not (folder / FILE).is_file():
        refuse_no_winner(folder)
    if not folder.exists():
        raise DataError(
            "there is no such folder",
            where=str(folder),
            expected="that of a finished run or of a saved system",
            remedy="Check the name; `lastresort ui` lists the runs.",
        )
    saved = folder if (folder / FILE).is_file() else folder / "winner"
    if not saved.exists() and not (folder / RECORD).exists():
        raise DataError(
            "found no system",
            where=str(folder.absolute()),
            expected=f"the folder of a finished run, or of a saved system with its {FILE}",
            remedy="Name one; `lastresort ui` lists the runs.",
        )
    system, held = _load_checked(saved)
    if held and not allow_held:
        run = folder if saved != folder else saved.absolute().parent
        raise InputError(
            HELD,
            where=str(saved),
            expected="a winner that may ship",
            remedy=f"`lastresort report {quote(str(run))}` says what would settle it. To use it as it is, add --allow-held.",
        )
    return system, saved


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

    If the run next to it names it as the winner, its files must be those that the run wrote, byte for byte. Without the record of
    a run, its decision says so. Raises DataError if they are not, if record or decision are damaged or were changed, or if the
    folder holds no system.
    """
    return _load_checked(folder)[0]


@dataclass(frozen=True, slots=True)
class WinnerStatus:
    """What a run says of its winner. held: by the gate. verdict: of its own test against the bar, None where there is none.
    ungated: it was tuned, and no gate ran.
    """

    held: bool = False
    verdict: Outcome | None = None
    ungated: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of it where it is used; nothing of one that is shown to meet the bar and was gated or not tuned."""
        return winner_notes(self.verdict, ungated=self.ungated)


def winner_status(folder: Path) -> WinnerStatus:
    """Of a run's winner, or of a saved system, by the run next to it. Raises DataError for a damaged run."""
    saved = folder if (folder / FILE).is_file() else folder / "winner"
    winner = _decided_winner(saved.absolute())
    return WinnerStatus() if winner is None else WinnerStatus(winner.held, winner.verdict, winner.ungated)


def _load_checked(folder: Path) -> tuple[System, bool]:
    """The system, and whether the gate holds it."""
    folder = folder.absolute()  # so that "." has a name and a run next to it
    with disk_errors(folder):
        settle_folder(folder)
    winner = _decided_winner(folder)
    if winner is not None and winner.sha256 and folder.is_dir():
        _refuse_changed(folder, winner.kind, winner.sha256)
    return load_system(folder), winner is not None and winner.held


def refuse_no_winner(folder: Path) -> None:
    """Raises DataError where this is a run, or the place of its winner, that decided and that nothing won."""
    run = folder.parent if folder.name == "winner" and not folder.exists() else folder
    if not (run / RECORD).exists():
        return
    with Record.open(run, read_only=True) as record:
        decided = record.last(ClimbDecided)
    if decided is not None and decided.decision.winner is not None and decided.decision.winner.path is None:
        raise no_winner(run, decided.decision)


def no_winner(run: Path, decision: RunView, expected: str = "a run with one") -> DataError:
    """For a run that nothing won. What it tested can be opened all the same."""
    tested = [rung for rung in decision.rungs if rung.test is not None and rung.chosen is not None]
    best = max(tested, key=lambda rung: 0.0 if rung.test is None else rung.test.score, default=None)
    folder = None if best is None else candidate_folder(run, best.name, best.chosen or "")
    verdict = (decision.verdict or "").replace("_", " ")
    opened = f"; the best that it tested opens by its own folder, {folder}" if folder is not None else ""
    says = "what would decide it" if tested and decision.verdict == "UNDECIDED" else "why, and what may help"
    return DataError(
        f"this run has no winner ({verdict})",
        where=str(run),
        expected=expected,
        remedy=f"`lastresort report {quote(str(run))}` says {says}{opened}.",
    )


def refuse_changed_run(record: Record, decision: RunView | None) -> None:
    """Raises DataError where decision.json is none of those that the run wrote, or the files of the winner are not those of its
    `decision`. Either may be missing: what is not there says nothing wrong.
    """
    found = decision_on_disk(record.folder)
    if found is not None and found not in recorded_decisions(record):  # the last may not have been written yet
        raise DataError(
            "found another decision than those of the run",
            where=str(record.folder / DECISION),
            expected="what the record holds",
            remedy=f"Delete it: `lastresort report {quote(str(record.folder))}` writes it again from the record.",
        )
    winner = None if decision is None else decision.winner
    if winner is None or winner.path is None or winner.sha256 is None:
        return
    folder = record.folder / winner.path
    if folder.is_dir():
        _refuse_changed(folder, winner.kind, winner.sha256)


def recorded_decisions(record: Record) -> list[bytes]:
    """The content of decision.json after each decision of the run, as the version wrote it that decided. A later version, which
    knows more fields, would write another."""
    return [document_text(body["decision"]).encode() for body in record.bodies(ClimbDecided)]


def decision_on_disk(run: Path) -> bytes | None:
    """Raises DataError where it is no file or cannot be read."""
    if not run.is_dir():
        return None
    try:
        return read_content(run / DECISION, DOCUMENT, raised=DataError)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise DataError(
            "found a folder", where=str(run / DECISION), expected="a decision", remedy="Move it away."
        ) from None


class _Winner(BaseModel):
    """As decisions of any version have it. verdict: of its own test against the bar. ungated: as in `WinnerStatus`."""

    kind: str
    path: str | None
    sha256: str | None
    held: bool
    verdict: Outcome | None = None
    ungated: bool = False


class _RungTest(BaseModel):
    verdict: Outcome


class _Rung(BaseModel):
    name: str
    test: _RungTest | None = None
    gate: str | None = None


class _Decision(BaseModel):
    """What is read of a decision.json of any version."""

    winner: _Winner
    stopped_at: str | None = None
    rungs: tuple[_Rung, ...] = ()


def _decided_winner(folder: Path) -> _Winner | None:
    """The winner in this folder according to the run next to it. None if there is none, or its winner is another folder."""
    run = folder.parent
    if (run / RECORD).exists():
        with Record.open(run, read_only=True) as record:
            decided = record.last(ClimbDecided)
            if folder.name == "winner":
                refuse_study(record)
            refuse_changed_run(record, None)
        winner = None if decided is None else _winner_in(decided.decision)
        if decided is None and folder.name == "winner":
            remedy = f"Finish it with `lastresort climb TASK --resume {quote(str(run))}`."
            if is_held(run):
                remedy = f"A process is climbing it now: `lastresort watch {quote(str(run))}` shows how far it is."
            raise DataError("the run has not decided yet", where=str(run), remedy=remedy)
    else:
        winner = _winner_by_file(run)
    return winner if winner is not None and winner.path == folder.name else None


def _winner_in(decision: RunView) -> _Winner | None:
    won = decision.winner
    if won is None:
        return None
    return _Winner(
        kind=won.kind,
        path=won.path,
        sha256=won.sha256,
        held=won.held,
        verdict=decision.winner_verdict,
        ungated=decision.winner_ungated,
    )


def _winner_by_file(run: Path) -> _Winner | None:
    """By decision.json, of any version. None if there is none. Raises DataError if it is damaged."""
    content = decision_on_disk(run)
    if content is None:
        return None
    try:
        decision = _Decision.model_validate(parse_json(content.decode()))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"found no decision ({type(error).__name__}), so its winner cannot be checked",
            where=str(run / DECISION),
            expected="a decision written by lastresort",
            remedy="Restore it from a copy.",
        ) from error
    won = next((rung for rung in decision.rungs if rung.name == decision.stopped_at), _Rung(name=""))
    # The first schemas note no gate by rung, so nobody can tell from them.
    ungated = decision.winner.kind in _WEIGHTS and "gate" in won.model_fields_set and won.gate is None
    return decision.winner.model_copy(update={"verdict": won.test and won.test.verdict, "ungated": ungated})


_WEIGHTS = {"adapter": "adapter", "merged": "model"}  # of a tuned winner: their folder, by its kind


def _refuse_changed(folder: Path, kind: str, sha256: str) -> None:
    with disk_errors(folder):
        now = folder_sha256(folder)
    if now == sha256:
        return
    weights = _WEIGHTS.get(kind)
    regate = (
        f", or gate the present files: `lastresort gate TASK --tuned {quote(str(folder / weights))}`" if weights else ""
    )
    raise DataError(
        "the files of this winner are not those that its run measured",
        where=str(folder),
        expected=f"winner.sha256 {sha256[:16]}, as the decision says, not {now[:16]}",
        remedy=f"Write it again with `lastresort climb TASK --resume {quote(str(folder.parent))}`{regate}.",
    )
