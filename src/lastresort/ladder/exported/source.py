"""What the rows of a climb's training are put together from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, PrerequisiteError
from lastresort.ladder.prepare import Prepared
from lastresort.models.tokenizer import tokenizer_on_disk
from lastresort.records.record import Record
from lastresort.systems.system import System


@dataclass(frozen=True, slots=True)
class Source:
    """noted: what the record says of the training. system: the candidate that it became. base: the model's name, settled."""

    run: Path
    record: Record
    prepared: Prepared
    noted: Mapping[str, Any]
    system: System
    base: str

    def tokenizer(self) -> tuple[Any, int | None]:
        """Of the base, with the context of the model. Raises PrerequisiteError where it is not here."""
        found = tokenizer_on_disk(self.base, self.run)
        if found is None:
            raise PrerequisiteError(
                "the tokenizer of the model is not on this machine, which says what fits its context", where=self.base
            )
        return found.tokenizer, found.context_tokens

    def refuse_other(self, rows: int) -> None:
        """Raise DataError unless it is as many rows as were trained on."""
        if rows != self.noted["rows"]:
            raise DataError(
                f"found {rows} rows, and {self.noted['rows']} were trained on",
                where=str(self.run),
                expected="the rows of the training",
                remedy="The task's files or this program have changed since the climb: climb again.",
            )
