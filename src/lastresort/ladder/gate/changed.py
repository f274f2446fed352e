"""What changed most: a few items side by side, the losses first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.evals.suites.suite import Item, Pair, Transcript

SHOWN = 5
LONGEST = 2000  # letters of an answer


def changed_most(
    pairs: Sequence[Pair],
    items: Mapping[str, Item],
    base: Mapping[str, Transcript],
    tuned: Mapping[str, Transcript],
    most: int = SHOWN,
) -> list[dict[str, Any]]:
    """The items whose score fell most, then those whose score rose most; of equal ones the first asked. One that rose is among
    them where there is any.
    """
    differ = sorted((pair for pair in pairs if pair.tuned != pair.base), key=lambda pair: -abs(pair.tuned - pair.base))
    fell, rose = ([pair for pair in differ if (pair.tuned > pair.base) is up] for up in (False, True))
    kept = fell[: most - bool(rose)]
    shown = [*kept, *rose[: most - len(kept)]]
    return [_side_by_side(pair, items[pair.id], base[pair.id], tuned[pair.id]) for pair in shown]


def _side_by_side(pair: Pair, item: Item, base: Transcript, tuned: Transcript) -> dict[str, Any]:
    """Both answers to the first question that was answered otherwise, of those that the scores come from."""
    asked = [key for key in pair.keys or base if key in base and key in tuned]
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
