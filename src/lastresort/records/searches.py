"""How a rung searched on dev, as values with their figures. `report.words.searches` says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lastresort.records.events import SearchScores
from lastresort.types import Judgement


@dataclass(frozen=True, slots=True)
class HalvedOnDev:
    """Successive halving of n candidates. dropped: before the others had answered `until` of n_dev items, where the race ended: at
    fewer than all, as all that was left was below the bar, at this error.
    """

    candidates: str
    n: int
    dropped: int
    until: int
    n_dev: int
    error: float


@dataclass(frozen=True, slots=True)
class NotTried:
    """A candidate that its model cannot answer. why: as the model says it."""

    candidate: str
    why: str


@dataclass(frozen=True, slots=True)
class SearchAlone:
    """How well each search finds the passages that dev names; empty where dev names none."""

    searches: tuple[SearchScores, ...]


@dataclass(frozen=True, slots=True)
class WithPassages:
    """Dev with the right passages in the prompt, or the likeliest where not all items name theirs. dropped: why not, by system."""

    right: bool
    systems: Mapping[str, Judgement]
    dropped: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RateLap:
    """A learning rate trained up to a step of the race. loss: on dev, None where it diverged."""

    rate: float
    step: int
    loss: float | None


@dataclass(frozen=True, slots=True)
class TrainedOnRows:
    """Supervised training. method: what is trained. rate: which of the rates went the whole way. laps: ends of the race between
    them. pretrained: what was learned before, from documents, and why; empty where nothing was. held: whether replay was held to
    the base's distribution.
    """

    method: str
    rows: int
    replay: int
    epochs: int
    batch_size: int
    rate: float
    rates: tuple[float, ...]
    laps: tuple[RateLap, ...]
    pretrained: str = ""
    held: bool = False


@dataclass(frozen=True, slots=True)
class TrainedOnPreferences:
    """plan: the objective and why it. learned_from: the preferences or the reward. rate: the best of the rates on dev."""

    plan: str
    learned_from: str
    rate: float
    rates: tuple[float, ...]
    epochs: int
    batch_size: int


SearchFinding = HalvedOnDev | NotTried | SearchAlone | WithPassages | TrainedOnRows | TrainedOnPreferences
