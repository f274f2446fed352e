"""What changed most: a few items side by side, the losses first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.evals.suites.suite import Item, Pair, Transcript

SHOWN = 3
LONGEST = 2000  # letters of an answer


def changed_most(
    pairs: Sequence[Pair],
    items: Mapping[str, Item],
    base: Mapping[str, Transcript],
    tuned: Mapping[str, Transcript],
    most: int = SHOWN,
) -> list[dict[str, Any]]:
    """The items whose score fell most, then those whose score rose most; of equal ones the first asked."""
    differ = [pair for pair in pairs if pair.tuned != pair.base]
    ordered = sorted(differ, key=lambda pair: (pair.tuned >= pair.base, -abs(pair.tuned - pair.base)))
    return [_side_by_side(pair, items[pair.id], base[pair.id], tuned[pair.id]) for pair in ordered[:most]]


def _side_by_side(pair: Pair, item: Item, base: Transcript, tuned: Transcript) -> dict[str, Any]:
    """Both answers to the first question that was answered otherwise, which for graded items may be the last of several."""
    asked = [key for key in base if key in tuned]
    key = next((key for key in asked if base[key].text != tuned[key].text), asked[0] if asked else "")
    said = [transcript[key].text[:LONGEST] if key in transcript else "" for transcript in (base, tuned)]
    return {
        "id": pair.id,
        "stratum": pair.stratum,
        "asked": item.text[:LONGEST],
        "question": key,
        "base": said[0],
        "tuned": said[1],
        "base_score": pair.base,
        "tuned_score": pair.tuned,
        "detail": pair.detail,
    }
