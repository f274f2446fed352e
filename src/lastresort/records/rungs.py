"""What a rung reports, as values with their figures: why it is skipped or given up, and how it searched on dev.

`report.words.rungs` turns them into sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lastresort.records.events.search import SearchScores, StoppedOptimising
from lastresort.records.events.training import TextLearned
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
    """needed_bytes: for weights, gradients and optimizer alone. memory_bytes: of the machine. enough: cards here that would hold it
    in shards, were the task to divide it over all of them; 0 where they would not.
    """

    parameters: int
    needed_bytes: int
    memory_bytes: int
    enough: int = 0


@dataclass(frozen=True, slots=True)
class SmallestPassTooLarge:
    """needed_bytes: by the plan, with one row of so many tokens in a pass, on each of `cards`, which hold it in shards.
    memory_bytes: of a card, else of the machine. enough: as in `TooLarge`.
    """

    needed_bytes: int
    memory_bytes: int
    row_tokens: int
    on_card: bool
    cards: int = 1
    enough: int = 0


LacksMemory = TooLarge | SmallestPassTooLarge
"""On this machine: by a count of bytes a parameter, or by the plan."""


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
    """With the right passages in the prompt, or the likeliest where dev names none, no system can reach the bar.

    systems: on dev. missed_below: where labels correct a judge, its score below which the bar is missed, as tested here.
    """

    bar: float
    right_passages: bool
    systems: Mapping[str, Judgement]
    missed_below: float | None = None


@dataclass(frozen=True, slots=True)
class SamplesOutOfReach:
    """Not even the best of several samples to each dev item, by the task's scorer, reaches the bar.

    samples: to each item. alone: mean score of one sample. best: the test of the best ones, at this error of saying NOT_MET where
    they reach the bar. missed_below: as of OutOfReach.
    """

    bar: float
    samples: int
    alone: float
    best: Judgement
    error: float
    missed_below: float | None = None


@dataclass(frozen=True, slots=True)
class RewardsAlike:
    """In none of the groups drawn, of so many answers each, did the reward differ. prompts: different ones that they answer.
    differing: the share of groups in which it does is below this at 95% confidence.
    """

    groups: int
    prompts: int
    samples: int
    differing: float


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
    | LacksMemory
    | NoKnowledge
    | KnowledgeNotInPrompt
    | TooFewPrompts
    | JudgeAlone
    | TooFewPreferences
    | OneSidedLabels
    | OverTime
    | OutOfReach
    | SamplesOutOfReach
    | RewardsAlike
    | NothingMeasured
    | OnlyKnowledgeMissing
)


RaceEnd = Literal["BELOW_BAR", "ONE_LEFT"]


@dataclass(frozen=True, slots=True)
class RacedOnDev:
    """A race of n candidates. dropped: before the others had answered `until` of n_dev items, refused ones not counted. by_test: of
    these, by the paired test, which drops the best one with at most the probability not_best. ended: why at fewer than all items,
    None where it did not: all that was left was below the bar, at this error, or the paired test left one.
    """

    candidates: str
    n: int
    dropped: int
    by_test: int
    until: int
    n_dev: int
    ended: RaceEnd | None
    error: float
    not_best: float


ShotsEnd = Literal["NOT_AHEAD", "LIKELY_MET", "FEW_ROWS", "NO_ROOM", "MOST"]


@dataclass(frozen=True, slots=True)
class MoreShotsTried:
    """Prompts with more examples, tried since `five` helped. ended: why there were no more: the last one was not ahead of the one
    before, the leader is likely to meet the bar, train has no more rows, more could not be tried, or more are never tried.
    """

    five: str
    tried: tuple[str, ...]
    ended: ShotsEnd


@dataclass(frozen=True, slots=True)
class GepaMissing:
    """The package that optimises prompts is not installed."""


@dataclass(frozen=True, slots=True)
class NoReflector:
    """No model that is known to be large enough writes prompts here. parameters: of the model, None where they are not known."""

    model: str
    parameters: int | None
    least: int


@dataclass(frozen=True, slots=True)
class TooFewRowsToOptimise:
    """n training rows to optimise a prompt on."""

    n: int
    least: int


@dataclass(frozen=True, slots=True)
class NoHeadroom:
    """No hand-made prompt is shown to differ from the plain one, and the answers are well-formed. compared: prompts compared with
    it. nearest: the one that differs from it most clearly, on n_compared items that both answered. p: of that difference, two-sided
    and corrected for so many comparisons.
    ill_formed: answers of the best prompt without the required form, of n.
    """

    compared: int
    nearest: str
    n_compared: int
    p: float
    level: float
    best: str
    ill_formed: int
    n: int


@dataclass(frozen=True, slots=True)
class NoNeedToOptimise:
    """The best hand-made prompt is likely to meet the bar in the test."""

    best: str
    chance: float


@dataclass(frozen=True, slots=True)
class UsdTooSmall:
    """`prompting.usd` does not pay for the first step. needed_usd: what that may cost."""

    usd: float
    needed_usd: float


@dataclass(frozen=True, slots=True)
class SmallReflector:
    """The model that writes prompts is smaller than advised. parameters, advised: how many weights."""

    model: str
    parameters: int
    advised: int


PromptKept = GepaMissing | NoReflector | TooFewRowsToOptimise | NoHeadroom | NoNeedToOptimise | UsdTooSmall
"""Why no prompt is optimised."""


@dataclass(frozen=True, slots=True)
class PromptRewritten:
    """What optimising the prompt gave. plain_score, best_score: on n rows of train that were kept for choosing. better: whether an
    instruction scored higher than the plain one. tried, copies, cut, late: instructions that were tried, and that were not, as they
    copied rows, were cut at the token limit or timed out. stopped: what ended it.
    """

    reflector: str
    plain_score: float
    best_score: float
    better: bool
    n: int
    tried: int
    copies: int
    cut: int
    late: int
    calls: int
    reflections: int
    stopped: StoppedOptimising


@dataclass(frozen=True, slots=True)
class RefusedLater:
    """A candidate that answered n dev items before its model refused others. why: as the model says it."""

    candidate: str
    n: int
    why: str


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
class Pretraining:
    """All weights learned the documents as plain text before the rows. since: why, as a clause."""

    learned: TextLearned
    since: str


@dataclass(frozen=True, slots=True)
class TrainedOnRows:
    """Supervised training. method: what is trained. rate: which of the rates went the whole way. laps: ends of the race between
    them. pretrained: what was learned before, from documents; None where nothing was. held: whether replay was held to
    the base's distribution. falling: the loss on dev of the last two checkpoints, where it still fell; None where it did not.
    """

    method: str
    rows: int
    replay: int
    epochs: int
    batch_size: int
    rate: float
    rates: tuple[float, ...]
    laps: tuple[RateLap, ...]
    pretrained: Pretraining | None = None
    held: bool = False
    falling: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class CurveBelowBar:
    """After so many of the steps of a training its score on n dev items, drawn straight on from that of the untrained model (None
    where it is taken for 0), ends below the bar. judged: the bar is the score of a corrected judge that counts as a miss. error: of
    saying so where the line reaches it.
    """

    step: int
    steps: int
    n: int
    score: float
    before: float | None
    end: float
    bar: float
    judged: bool
    error: float


PreferenceLoss = Literal["dpo", "orpo", "kto", "grpo"]
LearnedFrom = Literal["pairs", "labels", "reward", "samples"]


@dataclass(frozen=True, slots=True)
class PreferencePlan:
    """objective: what is minimised. source: what it learns from. on_sft: it starts from the adapter of the rung sft, else from the
    base. scorer: that ranks samples, "" where nothing is ranked. reward_unused: the task names a reward, before which its
    preferences go.
    """

    objective: PreferenceLoss
    source: LearnedFrom
    on_sft: bool
    scorer: str = ""
    reward_unused: bool = False


@dataclass(frozen=True, slots=True)
class TrainedOnPreferences:
    """learned_from: the preferences or the reward. rate: the best of the rates on dev."""

    plan: PreferencePlan
    learned_from: str
    rate: float
    rates: tuple[float, ...]
    epochs: int
    batch_size: int


SearchFinding = (
    RacedOnDev
    | NotTried
    | RefusedLater
    | MoreShotsTried
    | PromptKept
    | SmallReflector
    | PromptRewritten
    | SearchAlone
    | WithPassages
    | TrainedOnRows
    | CurveBelowBar
    | TrainedOnPreferences
)
