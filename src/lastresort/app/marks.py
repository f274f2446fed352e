"""Answers drawn for a person to mark: in which order, which of two comes first, what a mark is written as, and whether they agree.

The files are those that task files name: of a judge's `labelled`, and of `preferences`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.app.kept import rows_in, write_rows, writing
from lastresort.errors import InputError
from lastresort.evals.evidence.agreement import Agreement, agreement
from lastresort.evals.evidence.bar import wilson_interval
from lastresort.records.items import ItemPlace, RecordedItem
from lastresort.types import JsonObject

MOST_DRAWN = 400
ANSWERS, PAIRS, PREFERENCES = "rated_answers.jsonl", "rated_pairs.jsonl", "rated_preferences.jsonl"
ONE, TWO = ("right", "wrong"), ("A", "B", "tie")
_GRADE = {"right": "yes", "wrong": "no"}
_IDENTITY = ("run", "system", "against", "split", "id")


@dataclass(frozen=True, slots=True)
class Drawing:
    """What somebody marks: answers of a system, or with `against` which of two answers is better. seed: of order and sides."""

    run: str
    system: str
    against: str
    split: str
    seed: int

    @property
    def marks(self) -> tuple[str, ...]:
        return TWO if self.against else ONE

    def order(self, places: Sequence[ItemPlace]) -> list[ItemPlace]:
        """Some of them, in random order: the same for the same seed and places."""
        return random.Random(self.seed).sample(list(places), min(MOST_DRAWN, len(places)))

    def swaps(self, item: str) -> bool:
        """Whether the answer of `against` is shown first. Nobody can tell from an item which it is."""
        return random.Random(f"{self.seed} {item}").random() < 0.5


@dataclass(frozen=True, slots=True)
class RatingCard:
    """What is to be marked next. number: its place in the drawing, from 0. first, second: as they are shown."""

    number: int
    found: RecordedItem
    other: RecordedItem | None
    swapped: bool

    @property
    def first(self) -> str:
        return self.other.item.answer if self.swapped and self.other is not None else self.found.item.answer

    @property
    def second(self) -> str:
        if self.other is None:
            return ""
        return self.found.item.answer if self.swapped else self.other.item.answer


def same_text(card: RatingCard) -> bool:
    """Two answers of the same text are a tie that nobody need look at."""
    return card.other is not None and card.found.item.answer.strip() == card.other.item.answer.strip()


def row_of(drawing: Drawing, card: RatingCard, mark: str) -> JsonObject:
    """A mark as a case of a judge's `labelled`, with where it comes from. a: the answer of the system, b: of the other.

    Raises InputError for a mark that does not belong to it.
    """
    if mark not in drawing.marks:
        raise InputError(f'found the mark "{mark[:20]}"', expected=f"one of {', '.join(drawing.marks)}")
    item, other = card.found.item, card.other
    origin: JsonObject = {
        "run": drawing.run,
        "system": drawing.system,
        "against": drawing.against,
        "split": card.found.split,
        "id": item.id,
        "seed": drawing.seed,
        "score": item.score,
    }
    if other is None:
        return {"input": item.input, "answer": item.answer, "grade": _GRADE[mark], **origin}
    label = "tie" if mark == "tie" else "a" if (mark == "A") != card.swapped else "b"
    scores: JsonObject = {"score_against": other.item.score, "shown_first": "b" if card.swapped else "a"}
    return {"input": item.input, "a": item.answer, "b": other.item.answer, "label": label, **origin, **scores}


def preference_of(row: JsonObject) -> JsonObject | None:
    """A row of `preferences`, None for a tie and where an answer is empty."""
    sides = {"a": str(row.get("a", "")), "b": str(row.get("b", ""))}
    better = str(row.get("label"))
    if better not in sides or not all(text.strip() for text in sides.values()):
        return None
    worse = "b" if better == "a" else "a"
    return {"prompt": row.get("input"), "chosen": sides[better], "rejected": sides[worse]}


@dataclass(frozen=True, slots=True)
class MarkFiles:
    """Of a task: its folder in the workspace."""

    folder: Path

    def path(self, drawing: Drawing) -> Path:
        return self.folder / (PAIRS if drawing.against else ANSWERS)

    def marked(self, drawing: Drawing) -> list[JsonObject]:
        """The marks of this drawing, in the order they were made, whatever its seed. Raises DataError for a damaged file."""
        return [row for row in rows_in(self.path(drawing)) if _is_of(row, drawing)]

    def add(self, drawing: Drawing, row: JsonObject) -> None:
        """Write a mark, in place of an earlier one of the same item."""
        with writing(self.path(drawing)):
            rows = [one for one in rows_in(self.path(drawing)) if _identity(one) != _identity(row)]
            self._write(drawing, [*rows, row])

    def undo(self, drawing: Drawing) -> JsonObject | None:
        """Take back the last mark of this drawing, and return it; None where there is none."""
        with writing(self.path(drawing)):
            rows = rows_in(self.path(drawing))
            own_places = [place for place, row in enumerate(rows) if _is_of(row, drawing)]
            if not own_places:
                return None
            self._write(drawing, [row for place, row in enumerate(rows) if place != own_places[-1]])
            return rows[own_places[-1]]

    def complete(self) -> None:
        """Write the preferences again where their file is older than the pairs: a page was killed after it had written these.

        Raises DataError for a damaged file, and InfrastructureError for the disk.
        """
        if self._is_behind():
            with writing(self.folder / PAIRS):
                if self._is_behind():  # not where another page was between the two
                    self._prefer(rows_in(self.folder / PAIRS))

    def _is_behind(self) -> bool:
        pairs, preferences = self.folder / PAIRS, self.folder / PREFERENCES
        if not pairs.is_file():
            return False
        return not preferences.exists() or preferences.stat().st_mtime_ns < pairs.stat().st_mtime_ns

    def _write(self, drawing: Drawing, rows: list[JsonObject]) -> None:
        write_rows(self.path(drawing), rows)
        if drawing.against:
            self._prefer(rows)

    def _prefer(self, rows: list[JsonObject]) -> None:
        preferences = [preference for row in rows if (preference := preference_of(row)) is not None]
        write_rows(self.folder / PREFERENCES, preferences)


def _identity(row: JsonObject) -> tuple[object, ...]:
    return tuple(row.get(key) for key in _IDENTITY)


def _is_of(row: JsonObject, drawing: Drawing) -> bool:
    return _identity(row)[:4] == (drawing.run, drawing.system, drawing.against, drawing.split)


@dataclass(frozen=True, slots=True)
class Preferred:
    """How often the system's answer was preferred to the other's, of those that were no tie. interval: 95%."""

    wins: int
    losses: int
    ties: int
    interval: tuple[float, float] | None


def with_scorer(rows: Sequence[JsonObject], *, pairs: bool) -> Agreement | None:
    """Of a person with the run's scorer, None before the first mark. An answer is right where its score is 1; of two the better
    is the one with the higher score.
    """
    if not rows:
        return None
    if pairs:
        return agreement([(str(row.get("label")), _by_score(row)) for row in rows], ("a", "tie", "b"))
    return agreement(
        [(str(row.get("grade")), "yes" if _score(row, "score") >= 1 else "no") for row in rows], ("yes", "no")
    )


def preferred(rows: Sequence[JsonObject]) -> Preferred:
    labels = [row.get("label") for row in rows]
    wins, losses = labels.count("a"), labels.count("b")
    interval = wilson_interval(wins, wins + losses) if wins + losses else None
    return Preferred(wins, losses, labels.count("tie"), interval)


def _by_score(row: JsonObject) -> str:
    score, other_score = _score(row, "score"), _score(row, "score_against")
    return "tie" if score == other_score else "a" if score > other_score else "b"


def _score(row: JsonObject, key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
