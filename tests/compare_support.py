"""Comparisons on the tiny model, and records that say what a comparison noted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from climb_support import comparable
from lastresort.after.compare.ways import ComparisonRequest
from lastresort.app.climb import Climbed, climb
from lastresort.records.decision_parts import WayName
from lastresort.records.events.after_test import AnsweringSpent, TrainingSpent, WayMeasured
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.spec.task import load_task
from lastresort.types import SILENT, Progress

ALL = ComparisonRequest(("lora", "qlora", "full", "merged", "nf4"), 2)


def compared(
    path: Path, run: Path, asked: ComparisonRequest | None = None, progress: Progress = SILENT, **arguments: Any
) -> Climbed:
    """A climb of a tiny task with a comparison; given again, it goes on."""
    settings = arguments.pop("settings", None)
    return climb(load_task(path, settings), run, gate="none", compare=asked, progress=progress, **arguments)


def same(decision: dict[str, Any]) -> dict[str, Any]:
    """A decision without what may differ between two runs: what was measured of time and memory."""
    kept = comparable(decision)
    for entry in kept["compare"]:
        entry["cost"].pop("seconds")
        for part in ("training", "answering"):
            entry[part] = None if entry[part] is None else "measured"
    return kept


def noted(record: Record, way: WayName, seed: int, scores: Sequence[float], *, failed: str | None = None) -> None:
    """Note a way with a seed, as a comparison does once it is measured."""
    answering = AnsweringSpent(memory_bytes=1_000_000 * seed, seconds=10.0 * seed, tokens=1000)
    training = TrainingSpent(**answering.model_dump(), learning_rate=0.001)
    made = way in ("merged", "nf4") or failed is not None
    if not failed:
        items = tuple(item(f"t{number}", score) for number, score in enumerate(scores))
        record.add_measurement(Measurement("compare", f"{way}-seed{seed}", "test", len(items), items))
    measured = WayMeasured(
        way=way,
        seed=seed,
        training=None if made else training,
        answering=None if failed else answering,
        failed=failed,
    )
    record.append(measured)


def item(name: str, score: float) -> ItemScore:
    return ItemScore(name, score, "a", "a", "q", "stop", None, 20, 5, 0.5, 0.0)


class Stops:
    """Progress that calls `then` as soon as something is said that begins so."""

    def __init__(self, at: str, then: Callable[[], None]) -> None:
        self._at, self._then = at, then

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        if label.startswith(self._at):
            self._then()

    def advance(self, amount: int = 1, note: str = "") -> None:
        return

    def say(self, text: str) -> None:
        self.stage(text)


def decision_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "decision.json").read_text("utf-8"))
    return found
