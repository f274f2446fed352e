"""What `lastresort data check` says of preferences: how many, what cannot be trained on, whether length gives them away."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lastresort.data.duplicates import normalised
from lastresort.rungs.preference_data import Preferred

LENGTH_TELLS = 0.65  # the longer answer is the better one (or the worse) this often: worth a warning


@dataclass(frozen=True, slots=True)
class PreferencesFound:
    """pairs, good, bad: how many there are, once those are left out that dev or test hold (`leaking`).

    opposed: pairs that also stand there the other way round, or answers labelled both ways. repeated: those that stand there
    again. left_out: how many cannot be trained on, by why. longer: how often the better answer is the longer one, in
    characters, among comparisons that differ in length; None where nothing can be compared.
    """

    pairs: int
    good: int
    bad: int
    leaking: int
    opposed: int
    repeated: int
    left_out: Mapping[str, int]
    longer: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Short sentences, warnings behind the counts."""
        lines = [f"preferences: {self._counted()}"]
        if self.leaking:
            lines.append(f"note: {self.leaking} more hold inputs of dev or test; a climb leaves them out")
        lines += [f"note: {n} cannot be trained on: {why}" for why, n in self.left_out.items() if n]
        if self.opposed:
            lines.append(f"warning: {self.opposed} contradict another: the same answers preferred the other way round")
        if self.repeated:
            lines.append(f"note: {self.repeated} stand there more than once")
        return [*lines, *self._length()]

    def _counted(self) -> str:
        return (
            f"{self.pairs} pairs" if self.pairs else f"{self.good + self.bad} answers, {self.good} good, {self.bad} bad"
        )

    def _length(self) -> list[str]:
        if self.longer is None:
            return []
        told = f"the better answer is the longer one in {self.longer:.0%} of comparisons".replace("%", " %")
        if self.longer >= LENGTH_TELLS:
            return [f"warning: {told}, so that a model may learn to answer longer instead of better"]
        if self.longer <= 1 - LENGTH_TELLS:
            return [f"warning: {told}, so that a model may learn to answer shorter instead of better"]
        return [f"note: {told}"]


def check_preferences(preferences: Sequence[Preferred], leaking: int, left_out: Mapping[str, int]) -> PreferencesFound:
    """Of the preferences that hold nothing of dev or test; pure. left_out: as rendering them found."""
    labels = [preferred.label for preferred in preferences]
    keys = Counter(_key(preferred) for preferred in preferences)
    return PreferencesFound(
        labels.count(None),
        labels.count(True),
        labels.count(False),
        leaking,
        sum(n for key, n in keys.items() if _opposite(key) in keys and _opposite(key) != key),
        sum(n - 1 for n in keys.values()),
        dict(left_out),
        _longer(preferences),
    )


_Key = tuple[str, tuple[str, ...], bool | None]


def _key(preferred: Preferred) -> _Key:
    answers = tuple(normalised(_text(preferred, side)) for side in range(len(preferred.answers)))
    return normalised(preferred.asked), answers, preferred.label


def _opposite(key: _Key) -> _Key:
    prompt, answers, label = key
    return prompt, answers[::-1], None if label is None else not label


def _text(preferred: Preferred, side: int) -> str:
    return "\n".join(turn.content for turn in preferred.answers[side])


def _longer(preferences: Sequence[Preferred]) -> float | None:
    """Of labelled answers every good one is compared with every bad one."""
    if preferences and preferences[0].label is None:
        lengths = [(len(_text(one, 0)), len(_text(one, 1))) for one in preferences]
        longer, shorter = sum(a > b for a, b in lengths), sum(a < b for a, b in lengths)
    else:
        good, bad = (sorted(len(_text(one, 0)) for one in preferences if one.label is kind) for kind in (True, False))
        longer = sum(bisect_left(bad, length) for length in good)
        shorter = sum(len(bad) - bisect_right(bad, length) for length in good)
    return longer / (longer + shorter) if longer + shorter else None
