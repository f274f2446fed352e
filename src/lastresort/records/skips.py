"""Why a rung is skipped before its search, or given up after it, as values with their figures. `report.words.skips` says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lastresort.types import Judgement

# By the facts of the task.


@dataclass(frozen=True, slots=True)
class WeightsNotLocal:
    """Nothing of this model can be trained here."""

    model: str


@dataclass(frozen=True, slots=True)
class MethodExcluded:
    """`tune.method` asks for another way of training than the rung's. trains: what the rung trains."""

    trains: Literal["adapters", "all weights"]
    method: str


@dataclass(frozen=True, slots=True)
class KnowledgeOutpacesTraining:
    """Trained weights would be out of date: the knowledge changes more often than the model is retrained."""

    changes: str
    retrained: str


@dataclass(frozen=True, slots=True)
class TooFewRows:
    """n training rows. least: with which a training begins. advised: for a narrow task."""

    n: int
    least: int
    advised: int


@dataclass(frozen=True, slots=True)
class TooLarge:
    """needed_bytes: for weights, gradients and optimizer alone. memory_bytes: of the machine."""

    parameters: int
    needed_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class NoKnowledge:
    """The task names no documents."""


@dataclass(frozen=True, slots=True)
class KnowledgeNotInPrompt:
    """The task forbids the knowledge in the prompt."""


@dataclass(frozen=True, slots=True)
class TooFewPrompts:
    """n training rows to sample answers to. to_pair: for pairs of the model's own answers, as the task names no preferences and no
    reward; else for rewards.
    """

    n: int
    least: int
    to_pair: bool


@dataclass(frozen=True, slots=True)
class JudgeAlone:
    """Only the judge that scores the task could rank the samples: the model would learn to please it."""


PreferenceSource = Literal["given", "given, without those that dev or test hold", "sampled"]


@dataclass(frozen=True, slots=True)
class TooFewPreferences:
    """n preference pairs, or labelled answers. sampled: of the model's own samples, what became of the prompts."""

    n: int
    least: int
    labelled: bool
    source: PreferenceSource
    sampled: str = ""


@dataclass(frozen=True, slots=True)
class OneSidedLabels:
    """Labelled answers of which one kind is too rare to show the difference."""

    good: int
    bad: int
    least: int
    source: PreferenceSource
    sampled: str = ""


@dataclass(frozen=True, slots=True)
class OverTime:
    """The plan of a training takes longer than what is left of `limits.hours`."""

    planned_s: float
    hours_left: float


# By what dev has shown.


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """With the right passages in the prompt, or the likeliest where dev names none, no system can reach the bar."""

    bar: float
    right_passages: bool
    systems: Mapping[str, Judgement]


@dataclass(frozen=True, slots=True)
class NothingMeasured:
    """No candidate could be measured. candidates: what they are. errors: why not, one for each."""

    candidates: str
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnlyKnowledgeMissing:
    """All n wrong answers on dev were right with the right passage: preferences add no knowledge."""

    n: int


Skip = (
    WeightsNotLocal
    | MethodExcluded
    | KnowledgeOutpacesTraining
    | TooFewRows
    | TooLarge
    | NoKnowledge
    | KnowledgeNotInPrompt
    | TooFewPrompts
    | JudgeAlone
    | TooFewPreferences
    | OneSidedLabels
    | OverTime
    | OutOfReach
    | NothingMeasured
    | OnlyKnowledgeMissing
)
