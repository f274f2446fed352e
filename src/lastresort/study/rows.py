"""What a study keeps: a line of rows.jsonl for every finished cell, by its hash. A finished cell is never done again."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean

from pydantic import ValidationError

from lastresort.errors import DataError
from lastresort.foreign import ROWS, read_content
from lastresort.records.atomic import disk_errors, write_atomically
from lastresort.records.document import Amount, Count, JsonDocument, Positive, Sha256, Share
from lastresort.records.gate import GateFindings
from lastresort.study.grid import Cell, Way
from lastresort.types import JsonObject, StudyGate

FILE_NAME = "rows.jsonl"


class CellTraining(JsonDocument):
    """What a training left besides its answers.

    dev_loss, half_way_loss: on dev after all steps, and after half of them or, in a study of synthetic rows, where the epochs of
    its own rows end if that is earlier; null if there is one step. train_loss: mean over the
    last third of the steps, replay included, without rows that are held to the base. Losses are in nats per target token. kl:
    from the base on general requests, nats per token; prose: perplexity of plain prose over the base's; null where they were not
    measured.
    """

    learning_rate: Amount
    steps: Positive
    train_loss: float
    dev_loss: float
    half_way_loss: float | None
    kl: float | None
    prose: Amount | None


class ArmTraining(JsonDocument):
    """What SFT then DPO, or ORPO, left besides their answers.

    pairs: learned from. sft_rate, sft_steps: of the SFT before DPO, null and 0 of ORPO. trained_tokens: that went forward and
    backward. reference_tokens: that go forward through the reference, in the passes that DPO took. chosen_tokens: targets of a
    chosen answer that was learned from, on average, the token that ends it included. margins, base_margins: of each pair held out,
    the log odds of the chosen answer less those of the rejected, in nats a token, after training and of the base; () where there
    are too few prompts. held_prompts: the number of each one's prompt; () where each pair has a prompt of its own. kl, prose: as
    of CellTraining.
    """

    pairs: Positive
    sft_rate: Amount | None
    sft_steps: Count
    learning_rate: Amount
    steps: Positive
    trained_tokens: Positive
    reference_tokens: Count
    chosen_tokens: Amount
    margins: tuple[float, ...]
    base_margins: tuple[float, ...]
    held_prompts: tuple[Count, ...] = ()
    kl: float | None
    prose: Amount | None


class _CellGate(JsonDocument):
    key: Sha256
    mode: StudyGate
    seed: Count


class CellGate(GateFindings, _CellGate):  # fields of the last base come first
    """What the gate says of the adapter, without examples of what was asked. key: of all that it depends on. seed: of the items."""


class CellRow(JsonDocument):
    """A measured cell. rows: examples that it had, or pairs. shots: of them in a prompt. the tuples: of each dev item, in order.
    shared_tokens: that all its prompts begin with, in whole steps of a prefix as the engine keeps it; 0 of an endpoint.
    begun_tokens: that each begins with as another one does, or another call may, since they come before its last message. seconds:
    of the session that finished it; where workers answer for several cells at once, since the row before it. kept: whether each
    unrelated request is answered correctly; null where none was measured. gate: null where none was run.
    """

    key: Sha256
    way: Way
    n: Count
    seed: Count
    rows: Count
    shots: Count
    scores: tuple[Share, ...]
    format_ok: tuple[bool | None, ...]
    prompt_tokens: tuple[Count, ...]
    shared_tokens: Count
    begun_tokens: tuple[Count, ...]
    answer_tokens: tuple[Count, ...]
    answer_s: tuple[Amount, ...]
    seconds: Amount
    kept: tuple[bool, ...] | None = None
    trained: CellTraining | None = None
    arm: ArmTraining | None = None
    gate: CellGate | None = None

    @property
    def known_by(self) -> tuple[str, ...]:
        """That it is found by: without its gate, and with it."""
        return (self.key,) if self.gate is None else (self.key, self.gate.key)

    @property
    def cell(self) -> Cell:
        return Cell(self.way, self.n, self.seed)

    @property
    def summary(self) -> JsonObject:
        """A flat row, with the same names for every cell: means over the dev items, and what a training left. format: well-formed
        answers. preferred: pairs held out of which the chosen answer is the likelier one. None where it was not measured.
        """
        sft, arm, either = self.trained, self.arm, self.trained or self.arm
        asks_for_form = any(one is not None for one in self.format_ok)
        return {
            "way": self.way,
            "n": self.n,
            "seed": self.seed,
            "rows": self.rows,
            "shots": self.shots,
            "score": fmean(self.scores),
            "format": fmean(map(bool, self.format_ok)) if asks_for_form else None,
            "prompt_tokens": fmean(self.prompt_tokens),
            "answer_tokens": fmean(self.answer_tokens),
            "kept": fmean(self.kept) if self.kept else None,
            "learning_rate": None if either is None else either.learning_rate,
            "steps": None if either is None else either.steps,
            "kl": None if either is None else either.kl,
            "prose": None if either is None else either.prose,
            "train_loss": None if sft is None else sft.train_loss,
            "dev_loss": None if sft is None else sft.dev_loss,
            "trained_tokens": None if arm is None else arm.trained_tokens,
            "preferred": None if arm is None or not arm.margins else fmean(one > 0 for one in arm.margins),
            "gate": None if self.gate is None else self.gate.verdict,
            "seconds": self.seconds,
        }


def add_row(folder: Path, row: CellRow) -> None:
    """On the disk when the call returns. Raises InfrastructureError where the disk refuses."""
    path = folder / FILE_NAME
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(row.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def rows_kept(folder: Path, keys: Collection[str]) -> int:
    """How many of these cells the folder holds, also while a process adds to them. keys: as of `CellRow.known_by`. Raises DataError
    for a line that is no row.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return 0
    content = read_content(path, ROWS, raised=DataError)
    return len({key for row in _read(path, content.split(b"\n")[:-1]) for key in row.known_by} & set(keys))


def rows_in(folder: Path) -> dict[str, CellRow]:
    """By each of their keys, the last one where several have it. A last line that was cut short by a kill is removed. Raises
    DataError for any other line that is no row.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    content = read_content(path, ROWS, raised=DataError)
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        write_atomically(path, whole)
    return {key: row for row in _read(path, whole.split(b"\n")[:-1]) for key in row.known_by}


def _read(path: Path, lines: Sequence[bytes]) -> list[CellRow]:
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(CellRow.model_validate_json(line))
        except ValidationError as error:
            raise DataError(
                "found a line that is no finished cell",
                where=f"{path}, line {number}",
                expected="rows as a study writes them",
                remedy="Remove the line: its cell is then done again.",
            ) from error
    return found
