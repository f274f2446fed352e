"""Recheck a finished run whose model was tuned: is it still needed, and do its answers hold with today's documents?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.errors import InputError
from lastresort.foreign import printable, read_text
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.stop import NEVER, Stop
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.after.recheck.models import Replacement
    from lastresort.report.recheck import RecheckDocument


@dataclass(frozen=True, slots=True)
class Recheck:
    """What a recheck found. document: what the file `path` holds. still_needed: None where that is open."""

    document: RecheckDocument
    path: Path

    @property
    def still_needed(self) -> bool | None:
        return self.document.yes


def recheck_run(
    run: Path,
    progress: Progress,
    stop: Stop = NEVER,
    approve: Approve = nobody_to_ask,
    *,
    model: str | None = None,
    prompt: Path | None = None,
    knowledge: Path | None = None,
    task: Path | None = None,
    quick: bool = False,
    prompt_price: float | None = None,
    output_price: float | None = None,
) -> Recheck:
    """Recheck a finished run and write recheck-<n>.json into its folder. The options are those of `lastresort recheck`.

    With model or prompt: is the tuned model still needed? Without: do its answers hold with today's documents? stop: checked
    between batches, as is a file named stop in the run's folder. approve: asks about an endpoint that the run names.
    Raises InputError for what cannot be checked, such as two changes at once, StoppedError where it stopped; the same call resumes
    it.
    """
    replaces = model is not None or prompt is not None
    if replaces and knowledge is not None:
        raise InputError(
            f"--knowledge with {'--model' if model is not None else '--prompt'}",
            expected="one change at a time: after two, nobody can tell which one mattered",
            remedy="Leave one of them out.",
        )
    if model is None and (prompt_price is not None or output_price is not None):
        raise InputError("a price without --model", expected="the model that it belongs to", remedy="Add --model.")
    from lastresort.after.recheck.recheck import recheck
    from lastresort.report.recheck import file_name
    from lastresort.systems.running import refuse_no_winner

    if not run.exists():  # such as the place of a winner
        refuse_no_winner(run)
    rechecked = recheck(
        run,
        new=_replacement(model, prompt, prompt_price, output_price) if replaces else None,
        documents=knowledge,
        task_file=task,
        quick=quick,
        progress=progress,
        stop=stop,
        approve=approve,
    )
    return Recheck(rechecked, run / file_name(rechecked.number))


def _replacement(
    model: str | None, prompt: Path | None, prompt_price: float | None, output_price: float | None
) -> Replacement:
    from lastresort.after.recheck.models import Replacement
    from lastresort.models.open import absolute_name

    settled = None if model is None else absolute_name(model, Path.cwd())
    return Replacement(model, settled, None if prompt is None else _instruction(prompt), prompt_price, output_price)


def _instruction(path: Path) -> str:
    try:
        text = read_text(path).strip()
    except (FileNotFoundError, IsADirectoryError) as error:
        fault = "found no file" if isinstance(error, FileNotFoundError) else "found a folder"
        raise InputError(
            fault, where=printable(path), expected="a file with an instruction", remedy="Check the name."
        ) from error
    if not text:
        raise InputError("the file is empty", where=str(path), expected="an instruction", remedy="Write one.")
    return text
