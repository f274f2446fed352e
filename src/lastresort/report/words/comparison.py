"""What a comparison of training methods found, one sentence per method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.report.words.wording import round_percent as percent

Entry = Mapping[str, Any]

NAMES = {
    "lora": "LoRA",
    "qlora": "QLoRA",
    "full": "training of all weights",
    "merged": "the merged adapter",
    "nf4": "the adapter on a 4-bit base",
}


def capital(text: str) -> str:
    """At the start of a sentence."""
    return text[:1].upper() + text[1:]


def said(entry: Entry, reference: Entry | None) -> str:
    """reference: the entry of the first way, None where this is it."""
    name = capital(NAMES[entry["way"]])
    failed = [part for part in entry["seeds"] if part["failed"]]
    if entry["score"] is None:
        return f"{name} could not be made: {failed[0]['failed'].rstrip('.')}."
    dropped = f" {len(failed)} of {len(entry['seeds'])} seeds failed." if failed else ""
    if reference is None:
        kept = len(entry["seeds"]) - len(failed)
        return f"{name} scores {percent(entry['score'])} on the test set, the mean of {kept} seeds.{dropped}"
    first = NAMES[reference["way"]]
    if entry["difference"] is None:
        return f"{name} cannot be compared with {first}: fewer than two seeds were trained with both.{dropped}"
    return f"{_difference_in_words(name, first, entry)}; {_margin(entry)}.{dropped}"


def _difference_in_words(name: str, first: str, entry: Entry) -> str:
    low, high = entry["interval"]
    if entry["difference"] > 0:
        words = f"{name} gains {_limits(entry['difference'], low, high)} over {first} on this task"
    else:
        words = f"{name} costs {_limits(-entry['difference'], -high, -low)} against {first} on this task"
    return words if low > 0 or high < 0 else f"{words}, which may be chance"


def _limits(mean: float, low: float, high: float) -> str:
    return f"{_points(mean)} points ({_points(low)} to {_points(high)})"


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _margin(entry: Entry) -> str:
    most = f"{100 * entry['margin']:g} points"
    return {
        "NON_INFERIOR": f"a cost of {most} is ruled out",
        "REGRESSED": f"it is more than {most}",
        "UNDERPOWERED": f"a cost of {most} is not ruled out",
    }[entry["verdict"]]
