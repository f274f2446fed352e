"""Items that a training row gives away are passed over."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.data.duplicates import near_pairs, normalised
from lastresort.evals.suites.suite import Item


def without_duplicates(items: Sequence[Item], training_texts: Sequence[str]) -> list[Item]:
    """The items, in their order, whose text is neither equal nor nearly equal to a training text (data/duplicates.py).

    training_texts: the turns of the training rows one by one, not joined, since an item is a single turn. A number or a name that
    differs makes two texts different, so a row of the same template does not remove an item.
    """
    exact = {normalised(text) for text in training_texts}
    kept = [item for item in items if normalised(item.text) not in exact]
    border = len(training_texts)
    texts = [*training_texts, *(item.text for item in kept)]
    near = {second - border for _, second in near_pairs(texts, wanted=lambda first, second: first < border <= second)}
    # Of items that are equal when normalised the first stands for all of them in the pairs.
    gone = {normalised(kept[place].text) for place in near}
    return [item for item in kept if normalised(item.text) not in gone]
