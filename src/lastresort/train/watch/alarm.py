"""Early warnings in words, and the figures from which on they are alarming. They are never part of a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Half the probability of a token of plain prose, and e^-1 = 0.37 of that of a token of the base's own answers, in the mean. An
# ordinary training reaches 1.46 times and 0.40 nats (docs/log.md, 2026-11-25): an alarm that it raised would not be one.
PERPLEXITY_RATIO, KL_GENERAL = 2.0, 1.0
KEYS = ("kl_general", "kl_task", "perplexity")

Point = Mapping[str, float]


def measured(curve: Sequence[Point]) -> list[Point]:
    """The points that hold such figures."""
    return [point for point in curve if any(key in point for key in KEYS)]


def ratio(point: Point) -> float | None:
    """Of the perplexity to the base's, None where it was not measured."""
    return point["perplexity"] / point["base_perplexity"] if "perplexity" in point else None


def summary(curve: Sequence[Point]) -> str:
    """The newest figures in one clause."""
    point = measured(curve)[-1]
    kl = [f"{_number(point[f'kl_{name}'])} on {what}" for name, what in _KINDS.items() if f"kl_{name}" in point]
    parts = [f"KL from the base {' and '.join(kl)}, nats a token"] if kl else []
    if (times := ratio(point)) is not None:
        parts.append(f"plain prose {_number(times)} times as perplexing as to the base")
    return f"at step {point['step']:.0f} {'; '.join(parts)}"


def warning(curve: Sequence[Point]) -> str | None:
    """A sentence where a kept checkpoint is alarmingly far from the base, about the newest such; None where none is."""
    for point in reversed(measured(curve)):
        if reasons := _reasons(point):
            found = f"at step {point['step']:.0f} {' and '.join(reasons)}"
            return f"Early warning, no verdict: {found}. Look at the gate before this ships."
    return None


def _reasons(point: Point) -> list[str]:
    """Why a point is alarming. What is not a number is: a model that gives none is broken."""
    found = []
    times, kl = ratio(point), point.get("kl_general")
    if times is not None and not times <= PERPLEXITY_RATIO:
        found.append(
            f"plain prose is {_number(times)} times as perplexing as to the base (alarming from {PERPLEXITY_RATIO:g} on)"
        )
    if kl is not None and not kl <= KL_GENERAL:
        found.append(
            f"answers to general requests are {_number(kl)} nats a token from the base's (alarming from {KL_GENERAL:g} on)"
        )
    return found


_KINDS = {"general": "general requests", "task": "the task's prompts"}


def _number(value: float) -> str:
    """Of a mean of log ratios: by chance it may lie a little below 0, where no KL can be."""
    return "under 0.01" if value < 0.01 else f"{value:.2f}"
