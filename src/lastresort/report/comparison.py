"""The comparison of training methods, for the page, Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.records.decision_parts import ComparedWay, SpentOfWay
from lastresort.report.charts.gate import GateStrip
from lastresort.report.words.candidates import WAYS
from lastresort.report.words.wording import (
    MARKS,
    NO_BREAK,
    capital,
    count,
    counted,
    duration,
    in_limits,
    in_points,
    listed,
    percent,
)

NAME = "the comparison"
Entries = Sequence[ComparedWay]


def finding(entries: Entries) -> str:
    """ "QLoRA scores lower than LoRA; no other method is shown to differ"."""
    first, *others = entries
    known = [(entry, *entry.interval) for entry in others if entry.interval is not None]
    lower = [entry for entry, _, high in known if high < 0]
    higher = [entry for entry, low, _ in known if low > 0]
    if not known:
        return f"No method could be compared with {WAYS[first.way]}"
    if not lower and not higher:
        return f"No method is shown to differ from {WAYS[first.way]}"
    parts = [
        f"{_listed(found)} {'scores' if len(found) == 1 else 'score'} {side} than {WAYS[first.way]}"
        for side, found in (("lower", lower), ("higher", higher))
        if found
    ]
    rest = ["no other method is shown to differ"] * (len(lower) + len(higher) < len(others))
    return capital("; ".join([*parts, *rest]))


def about(entries: Entries, unit: str, *, repaired: bool) -> str:
    """What was done, in a few sentences. repaired: what won came of a repair, whose settings are not compared."""
    first = entries[0]
    seeds, stop = len(first.seeds), f"{first.unit} {first.epoch}"
    made = [entry for entry in entries if entry.made_of]
    were = "was" if len(made) == 1 else "were"
    converted = f" {capital(_listed(made))} {were} not trained, but made from the LoRA training." if made else ""
    before = " The winner is a repaired system; these are the settings before its repair." if repaired else ""
    return (
        f"Each was trained with {seeds} seeds and the winner's settings to {stop}, and answered all "
        f"{counted(first.n, f'test {unit}')}. The verdict was final before that.{converted}{before}"
    )


def legend(entries: Entries) -> str:
    first = entries[0]
    return (
        f"Mark: points gained or lost against {WAYS[first.way]}, with the same seeds on the same items. Band: "
        f"{percent(1 - 2 * first.alpha, 0)} confidence interval over items and seeds, wide with few seeds. Dotted line: no "
        f"difference. Solid line: a loss of {100 * first.margin:g} points, the usual upper estimate of what QLoRA costs."
    )


def strips(entries: Entries) -> list[tuple[ComparedWay, GateStrip]]:
    """The methods that have a difference to draw."""
    return [
        (one, GateStrip(one.way, one.difference, one.interval, one.margin, one.verdict))
        for one in entries
        if one.difference is not None and one.interval is not None and one.verdict is not None
    ]


def rows(entries: Entries) -> list[dict[str, str]]:
    """The rows of a table, as text."""
    return [_row(entry) for entry in entries]


def lines(entries: Entries) -> list[str]:
    """What was found for each method, and what it took."""
    return [f"{_mark(entry)} {entry.said}{_took(entry)}" for entry in entries]


def memory(in_bytes: int | None) -> str:
    """1_234_567_890 -> "1.23 GB"."""
    return "–" if in_bytes is None else f"{in_bytes / 1e9:.2f}{NO_BREAK}GB"


def _row(entry: ComparedWay) -> dict[str, str]:
    training, answering = entry.training, entry.answering
    return {
        "name": capital(WAYS[entry.way]),
        "rate": "–" if entry.learning_rate is None else f"{entry.learning_rate:g}",
        "score": "–" if entry.score is None else percent(entry.score),
        "seeds": " ".join("–" if seed.score is None else f"{100 * seed.score:.1f}" for seed in entry.seeds),
        "difference": in_points(entry.difference) or "–",
        "limits": in_limits(entry.interval) or "–",
        "training_memory": _peak(training),
        "training_time": _time(training),
        "training_speed": _speed(training),
        "answering_memory": _peak(answering),
        "answering_time": _time(answering),
    }


def _took(entry: ComparedWay) -> str:
    what, spent = ("training", entry.training) if entry.training is not None else ("answering", entry.answering)
    if spent is None:
        return ""
    peak = "" if spent.memory_bytes is None else f"peak {memory(spent.memory_bytes)}, "
    return f" ({what}: {peak}{duration(spent.seconds)} per seed)"


def _peak(spent: SpentOfWay | None) -> str:
    return memory(None if spent is None else spent.memory_bytes)


def _time(spent: SpentOfWay | None) -> str:
    return "–" if spent is None else duration(spent.seconds)


def _speed(spent: SpentOfWay | None) -> str:
    return "–" if spent is None or spent.tokens_per_s is None else count(spent.tokens_per_s)


def _mark(entry: ComparedWay) -> str:
    return MARKS[entry.verdict] if entry.verdict else "–"


def _listed(entries: Entries) -> str:
    return listed(WAYS[entry.way] for entry in entries)
