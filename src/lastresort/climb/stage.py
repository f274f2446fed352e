"""What a climb is at, written into its record as it goes, so that any other process can follow it."""

from __future__ import annotations

import time
from collections.abc import Callable

from lastresort.records.events import Stage
from lastresort.records.record import Record
from lastresort.types import Progress

Spent = Callable[[], tuple[float, float]]


class StageWriter:
    """Progress that also stands in the record. shown: where the climb's own process shows it. spent: seconds and USD so far."""

    def __init__(
        self, shown: Progress, record: Record, spent: Spent, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shown, self._record, self._spent, self._clock = shown, record, spent, clock
        self._now, self._began = Stage(label=""), clock()

    def stage(self, label: str, total: int | None = None) -> None:
        self._shown.stage(label, total)
        self._began = self._clock()
        self._write(Stage(label=label, rung=self._now.rung, total=total))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._shown.advance(amount, note)
        done = self._now.done + amount
        self._write(self._now.model_copy(update={"done": done, "eta_s": self._eta_s(done)}))

    def say(self, text: str) -> None:
        self._shown.say(text)

    def at(self, rung: str, candidate: str = "", split: str = "", loss: float | None = None) -> None:
        """Which candidate the present stage is about."""
        place = {"rung": rung, "candidate": candidate, "split": split}
        self._write(self._now.model_copy(update={**place, "loss": self._now.loss if loss is None else loss}))

    def _eta_s(self, done: int) -> float | None:
        total = self._now.total
        if total is None or not 0 < done <= total:
            return None
        return (self._clock() - self._began) / done * (total - done)

    def _write(self, stage: Stage) -> None:
        seconds, usd = self._spent()
        self._now = stage.model_copy(update={"spent_s": seconds, "spent_usd": usd})
        self._record.now(self._now)
