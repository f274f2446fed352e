"""How far the kept checkpoints of a rung are from their base, in the decision: shown, never part of a verdict."""

from __future__ import annotations

import math
from typing import Any

from lastresort.records.record import Record
from lastresort.train.alarm import KEYS, measured, warning

NAMES = ("step", *KEYS, "base_perplexity")


def early_entry(record: Record, rung: str) -> dict[str, list[dict[str, Any]]]:
    """The key early_warnings of an entry of `rungs`: of every training of the rung the newest figures, and its alarm or null.

    Nothing where no training was compared with its base.
    """
    names = dict.fromkeys(note["candidate"] for note in record.notes("training") if note.get("rung", "sft") == rung)
    found = []
    for name in names:
        curve = record.curve(name)
        if looked := measured(curve):
            values = {key: _finite(looked[-1].get(key)) for key in NAMES}
            found.append({"training": name, **values, "alarm": warning(curve)})
    return {"early_warnings": found} if found else {}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
