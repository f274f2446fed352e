"""Ways of training beside each other, for the page, Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.report.charts.gate import GateStrip
from lastresort.report.gate import in_limits, in_points
from lastresort.report.words.comparison import NAMES, capital
from lastresort.report.words.wording import MARKS, NO_BREAK, count, counted, duration, listed, percent

NAME = "the comparison"
Entry = Mapping[str, Any]
Entries = Sequence[Entry]


def finding(entries: Entries) -> str:
    """ "QLoRA scores lower than LoRA; the merged adapter cannot be told apart from LoRA"."""
    first, *others = entries
    name = NAMES[first["way"]]
    known = [entry for entry in others if entry["interval"] is not None]
    parts = [
        (f"{{}} {{s}} lower than {name}", [one for one in known if one["interval"][1] < 0]),
        (f"{{}} {{s}} higher than {name}", [one for one in known if one["interval"][0] > 0]),
        (f"{{}} cannot be told apart from {name}", [one for one in known if _open(one)]),
        (f"{{}} could not be compared with {name}", [one for one in others if one["interval"] is None]),
    ]
    told = [words.format(_listed(found), s="scores" if len(found) == 1 else "score") for words, found in parts if found]
    return capital("; ".join(told))


def about(entries: Entries, unit: str, *, repaired: bool) -> str:
    """What was done, in a few sentences. repaired: what won came of a repair, whose settings are not compared."""
    first = entries[0]
    seeds, epochs = len(first["seeds"]), first["epoch"]
    made = [entry for entry in entries if entry["made_of"]]
    converted = f" {capital(_listed(made))} had no training: made of what LoRA had trained." if made else ""
    before = " The winner is a repaired system; these are the settings before its repair." if repaired else ""
    return (
        f"Each was trained with {seeds} seeds by the settings of the winner, to epoch {epochs}, and answered all "
        f"{counted(first['n'], f'test {unit}')} after the verdict, which stays.{converted}{before}"
    )


def legend(entries: Entries) -> str:
    first = entries[0]
    return (
        f"Mark: points won or lost against {NAMES[first['way']]}, with the same seeds on the same items. Band: where the "
        f"difference may lie for items and seeds like these ({percent(1 - 2 * first['alpha'], 0)}; with few seeds it is wide). "
        f"Dotted: none. Line: {100 * first['margin']:g} points, the most that QLoRA is commonly said to cost."
    )


def drawn(entries: Entries) -> list[Entry]:
    """The ways of which there is something to draw."""
    return [entry for entry in entries if entry["interval"] is not None]


def strip_of(entry: Entry) -> GateStrip:
    low, high = entry["interval"]
    return GateStrip(entry["way"], entry["difference"], (low, high), entry["margin"], entry["verdict"])


def strips(entries: Entries) -> list[GateStrip]:
    return [strip_of(entry) for entry in entries]


def rows(entries: Entries) -> list[dict[str, str]]:
    """A table as text, a way a row."""
    return [_row(entry) for entry in entries]


def lines(entries: Entries) -> list[str]:
    """What was found of each way, a sentence, and what it took."""
    return [f"{_mark(entry)} {entry['said']}{_took(entry)}" for entry in entries]


def memory(in_bytes: int | None) -> str:
    """1_234_567_890 -> "1.23 GB"."""
    return "–" if in_bytes is None else f"{in_bytes / 1e9:.2f}{NO_BREAK}GB"


def _row(entry: Entry) -> dict[str, str]:
    training, answering = entry["training"] or {}, entry["answering"] or {}
    return {
        "name": capital(NAMES[entry["way"]]),
        "rate": "–" if entry["learning_rate"] is None else f"{entry['learning_rate']:g}",
        "score": "–" if entry["score"] is None else percent(entry["score"]),
        "seeds": " ".join("–" if seed["score"] is None else f"{100 * seed['score']:.1f}" for seed in entry["seeds"]),
        "difference": in_points(entry["difference"]) or "–",
        "limits": in_limits(entry["interval"]) or "–",
        "training_memory": memory(training.get("memory_bytes")),
        "training_time": _time(training),
        "training_speed": _speed(training),
        "answering_memory": memory(answering.get("memory_bytes")),
        "answering_time": _time(answering),
    }


def _took(entry: Entry) -> str:
    what = "training" if entry["training"] else "answering"
    spent = entry[what]
    if spent is None:
        return ""
    peak = "" if spent["memory_bytes"] is None else f"{memory(spent['memory_bytes'])} at the peak, "
    return f" ({what}: {peak}{duration(spent['seconds'])} a seed)"


def _time(spent: Mapping[str, Any]) -> str:
    return duration(spent["seconds"]) if spent else "–"


def _speed(spent: Mapping[str, Any]) -> str:
    return count(spent["tokens_per_s"]) if spent and spent["tokens_per_s"] is not None else "–"


def _mark(entry: Entry) -> str:
    return MARKS[entry["verdict"]] if entry["verdict"] else "–"


def _open(entry: Entry) -> bool:
    low, high = entry["interval"]
    return bool(low <= 0 <= high)


def _listed(entries: Entries) -> str:
    return listed(NAMES[entry["way"]] for entry in entries)
