"""Suites beside those of this package, which ask by themselves while a gate has one of its two models open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from lastresort.evals.gate import SuiteFound
from lastresort.ladder.gate.target import SideName
from lastresort.models.protocol import Model
from lastresort.records.suite_answers import SuiteAnswers
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class Shown:
    """A measure, with what a report shows of it. asked, changed: as in gate.json; asked is None where nothing was."""

    found: SuiteFound
    asked: dict[str, Any] | None = None
    changed: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Spent:
    """seconds, tokens_in, tokens_out: of asking both models, whenever that was. asked_now: items that were asked just now."""

    seconds: float = 0.0
    asked_now: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Further(Protocol):
    """measures: how many are required, 0 where the task leaves the suite out."""

    @property
    def name(self) -> str: ...
    @property
    def measures(self) -> int: ...
    @property
    def spent(self) -> Spent: ...

    def answer(self, side: SideName, model: Model, kept: SuiteAnswers, power: float, progress: Progress) -> None:
        """Ask the base, which comes first, or the tuned model. power: that each measure is planned for, of the base's sizes."""

    def found(self, power: float) -> list[Shown]:
        """After both answered."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A suite of which nothing is asked: it was left out, or cannot be run here."""

    name: str
    shown: Shown

    @property
    def measures(self) -> int:
        return int(self.shown.found.verdict != "SKIPPED")

    @property
    def spent(self) -> Spent:
        return Spent()

    def answer(self, side: SideName, model: Model, kept: SuiteAnswers, power: float, progress: Progress) -> None: ...

    def found(self, power: float) -> list[Shown]:
        return [self.shown]
