"""What making synthetic rows would cost, and what it made: `lastresort data synth`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lastresort.report.words import synthetic as words
from lastresort.spec.sections import Sources
from lastresort.synthesis.diversity import Diversity
from lastresort.synthesis.filters import FilterName
from lastresort.synthesis.journal import Tally
from lastresort.synthesis.kinds import PassageProtection
from lastresort.synthesis.make import Ending
from lastresort.types import Message


@dataclass(frozen=True, slots=True)
class SynthForecast:
    """Before anything more is spent. n: rows still to be made. requests, answers: calls, of which requests for rows and answers to
    them. usd, seconds: with replies that are as long as they may be, without thoughts; None where a price is unknown, and where the
    teacher's speed is. first: the next request of each kind. teaches_itself: whether the teacher is the model
    that may be trained. sends_passages: whether passages of the documents go to an endpoint. protection: what keeps those
    of dev and test from the teacher, None where no documents were read.
    """

    teacher: str
    n: int
    kinds: tuple[str, ...]
    requests: int
    answers: int
    usd: float | None
    seconds: float | None
    first: Mapping[str, tuple[Message, ...]]
    teaches_itself: bool = False
    sends_passages: bool = False
    protection: PassageProtection | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data synth --dry-run --json` prints it."""
        first = {kind: [turn.as_dict() for turn in turns] for kind, turns in self.first.items()}
        return {**asdict(replace(self, first={})), "first": first}

    def lines(self) -> list[str]:
        return words.forecast_lines(self)


@dataclass(frozen=True, slots=True)
class SyntheticRows:
    """What was made. path: of the rows; journal: of how they were made. sources: of the task's own rows. tally: over all sessions.
    in_file: rows that the user has not removed. labels: rows by answer, empty where answers are no labels. usd: None where a price
    is unknown.
    """

    path: Path
    journal: Path
    task_file: Path
    sources: Sources
    teacher: str
    n: int
    ended: Ending
    tally: Tally
    in_file: int
    labels: Mapping[str, int]
    diversity: Diversity | None
    usd: float | None

    @property
    def made(self) -> int:
        return len(self.tally.rows)

    @property
    def requests(self) -> int:
        """Calls for rows, also those of batches that were interrupted and planned otherwise."""
        return self.tally.calls - self.tally.checks

    @property
    def dropped(self) -> dict[FilterName, int]:
        """Proposed rows that were left out, by the filter that did, in the order of the filters."""
        drops = self.tally.drops
        return {name: drops[name] for name in words.FILTERS}

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data synth --json` prints it."""
        kinds = Counter(row.synthetic.kind for row in self.tally.rows)
        return {
            "rows": str(self.path), "journal": str(self.journal), "teacher": self.teacher, "wanted": self.n, "made": self.made,
            "in_file": self.in_file, "ended": self.ended, "proposed": self.tally.proposed, "dropped": self.dropped,
            "surplus": self.tally.surplus,
            "kinds": dict(kinds), "labels": dict(self.labels), "requests": self.requests, "checks": self.tally.checks,
            "calls": self.tally.calls, "tokens_in": self.tally.tokens_in, "tokens_out": self.tally.tokens_out, "usd": self.usd,
            "diversity": None if self.diversity is None else asdict(self.diversity),
        }  # fmt: skip

    def lines(self) -> list[str]:
        return words.lines(self)
