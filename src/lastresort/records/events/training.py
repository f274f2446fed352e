"""Events of a training, by examples or by preferences: what it learns from, how far it is, what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lastresort.records.decision_parts import Weighing
from lastresort.records.events.base import EventValue, OfCandidate, OfRung
from lastresort.records.events.run import JudgeCalls
from lastresort.records.training import AdaptedLayers, RecordedSettings, TrainedSteps
from lastresort.types import ReplayPrompts, Role


class RenderingFixed(OfRung):
    """rendering: fingerprint of how the rung's training rows are written."""

    kind: Literal["rendering_fixed"] = "rendering_fixed"
    rendering: str


class ReplayRow(EventValue):
    """turns: role and text. end: whether the answer ended by itself."""

    id: str
    turns: tuple[tuple[Role, str], ...]
    answer: str
    end: bool


class ReplayMade(OfRung):
    """General rows with the base's own answers. rung: whose cost they are. asked: how many were wanted. prompts: of which kind."""

    kind: Literal["replay_made"] = "replay_made"
    asked: int
    prompts: ReplayPrompts = "everyday"
    rows: tuple[ReplayRow, ...]
    tokens_in: int
    tokens_out: int
    seconds: float


class LapTrained(OfRung):
    """A learning rate trained up to a step. name: which lap. dev_loss: nats a target token, None where it diverged."""

    kind: Literal["lap_trained"] = "lap_trained"
    name: str
    rate: float
    step: int
    dev_loss: float | None

    @property
    def key(self) -> str:
        return self.name


class PassLowered(OfCandidate):
    """What a training was lowered to so that it fits the memory. keys: as a training file writes them."""

    kind: Literal["pass_lowered"] = "pass_lowered"
    keys: dict[str, int | bool | str]


class TrainingFacts(EventValue):
    """What a rung says of a training, without its settings. held: whether its rows of replay are held to the base's distribution.
    learns_from: pairs, labels, samples or a reward, of preferences.
    """

    rows: int
    replay_rows: int | None = None
    held: bool = False
    start: str | None = None
    learns_from: str | None = None
    adapted: AdaptedLayers | None = None


class TrainingReached(OfCandidate, TrainingFacts, TrainedSteps):
    """How far a training is, what it computed, and by which settings. The newest of a training counts."""

    kind: Literal["training_reached"] = "training_reached"
    settings: RecordedSettings


class CandidateTrained(OfCandidate):
    """What a candidate came of. run: the training whose curve and events it shares.

    stop: the epoch or step after which it was kept. replay: the share of general rows, None where the training has none. scale: of
    what was trained, set after the training. constrained: it is another candidate, held to the form of the output.
    """

    kind: Literal["candidate_trained"] = "candidate_trained"
    run: str
    learning_rate: float
    stop: int
    unit: Literal["epoch", "step"]
    replay: float | None = None
    scale: float = 1.0
    constrained: bool = False


class DistanceMeasured(OfCandidate):
    """KL(base || candidate) in nats a token, over the whole vocabulary at every token of so many answers of the base.

    error: standard error, over answers.
    """

    kind: Literal["distance_measured"] = "distance_measured"
    kl_per_token: float
    error: float | None
    answers: int
    tokens: int


class CheckpointsWeighed(OfRung):
    """Which checkpoint goes to the test, by dev score and distance from the base."""

    kind: Literal["checkpoints_weighed"] = "checkpoints_weighed"
    weighing: Weighing


class TextLearned(OfRung):
    """The base after the task's documents, as plain text."""

    kind: Literal["text_learned"] = "text_learned"
    documents: int
    tokens: int
    epochs: int
    learning_rate: float
    replay_rows: int


class BaseAnswered(OfRung):
    """What the base said, from which training will move; of each answer its tokens and the place of its first target.

    prompts: hash of them.
    """

    kind: Literal["base_answered"] = "base_answered"
    prompts: str
    tokens_in: int
    tokens_out: int
    seconds: float
    general: tuple[tuple[tuple[int, ...], int], ...]
    task: tuple[tuple[tuple[int, ...], int], ...]
    prose: tuple[tuple[tuple[int, ...], int], ...]

    @property
    def key(self) -> str:
        return self.prompts


class BaseSummed(OfRung):
    """Log-probability in nats of all targets of each part under the base. counts: how many rows each part has."""

    kind: Literal["base_summed"] = "base_summed"
    prompts: str
    precision: str
    counts: tuple[int, int, int]
    general: float
    task: float
    prose: float

    @property
    def key(self) -> str:
        return f"{self.prompts} {self.precision}"


class RankedAnswer(EventValue):
    """whole: it ended by itself, so that its end may be trained."""

    text: str
    score: float
    whole: bool


class RankedPair(EventValue):
    """example: id of the training row."""

    example: str
    chosen: RankedAnswer
    rejected: RankedAnswer


@dataclass(frozen=True, slots=True)
class PromptCounts:
    """What became of the prompts. pairs: made of `used` of them. all_right: every sample has the full score. all_wrong: every
    sample has none. ties: all score alike in between. unusable: the best answers were all empty or cut at the token limit, or the
    worst all empty. conflicting: rows that were not sampled, as their prompt has another answer in train.
    """

    prompts: int
    pairs: int
    used: int
    all_right: int
    all_wrong: int
    ties: int
    unusable: int
    conflicting: int = 0

    def summary(self) -> str:
        """The counts in words."""
        dropped = {
            "were all right": self.all_right,
            "all wrong": self.all_wrong,
            "all alike": self.ties,
            "had nothing whole to choose or nothing to reject": self.unusable,
        }
        why = ", ".join(f"{n} {what}" for what, n in dropped.items() if n)
        rows = f"{self.conflicting} {'row' if self.conflicting == 1 else 'rows'}"
        left = f"; left out: {rows} whose prompt has another answer in train" if self.conflicting else ""
        return f"{self.pairs} pairs from {self.used} of {self.prompts} prompts{f' ({why})' if why else ''}{left}"


class SamplesPaired(OfRung):
    """Pairs of a system's own answers, ranked by the scorer."""

    kind: Literal["samples_paired"] = "samples_paired"
    pairs: tuple[RankedPair, ...]
    counts: PromptCounts
    tokens_in: int
    tokens_out: int
    seconds: float


class BestSampled(OfRung):
    """Scores of a system's own samples to the first items of dev, before more are made to train on.

    samples: to each item. alone: of the first sample. best: of the best.
    """

    kind: Literal["best_sampled"] = "best_sampled"
    samples: int
    alone: tuple[float, ...]
    best: tuple[float, ...]
    tokens_in: int
    tokens_out: int
    seconds: float


class CurveSeen(OfRung):
    """Scores on dev a third of the way through a training, drawn straight on to its end.

    n: dev items. score: mean at this step. before: of the untrained model, None where it is taken for 0. end: where the line ends.
    p: of "it ends below the bar". below: whether that is shown.
    """

    kind: Literal["curve_seen"] = "curve_seen"
    candidate: str
    step: int
    steps: int
    n: int
    score: float
    before: float | None
    end: float
    p: float
    below: bool


class GroupsDrawn(OfRung):
    """Whether the reward tells a system's answers to the same prompt apart, before it is trained on.

    groups: drawn until in one of them the rewards of the answers differed, or as many as are drawn at most. prompts: different ones
    that they answer. samples: answers each.
    """

    kind: Literal["groups_drawn"] = "groups_drawn"
    groups: int
    prompts: int
    samples: int
    differ: bool
    tokens_in: int
    tokens_out: int
    seconds: float


class StopsPlanned(OfRung):
    """steps: of the whole training. stops: after which a candidate is kept. learns_from: in words."""

    kind: Literal["stops_planned"] = "stops_planned"
    steps: int
    stops: tuple[int, ...]
    learns_from: str


class RewardsJudged(OfRung):
    """What the answers of a step took a judge. asked: hash of them; a step that is repeated is here again, and counts once.

    priced: whether what the judge costs is known.
    """

    kind: Literal["rewards_judged"] = "rewards_judged"
    asked: str
    spent: JudgeCalls
    priced: bool


class Movement(EventValue):
    """kl: of the candidate to its start, nats an answer; how it is computed says `train.watch.divergence.Divergence`. margin: of
    preferences, see `Margins` there, of the rows that margin_of names; None where answers are rewarded. margin_before: of log odds,
    which are compared where the objective has no reference; else None.
    """

    kl: float
    kl_error: float | None
    kl_per_token: float
    kl_answers: int
    margin: float | None = None
    margin_above_0: float | None = None
    margin_n: int = 0
    margin_of: str = ""
    margin_before: float | None = None


class CandidateMoved(OfCandidate):
    """A candidate of preference training, kept after some steps. moved: how far it is from its start, None where it diverged."""

    kind: Literal["candidate_moved"] = "candidate_moved"
    moved: Movement | None


class AnswerLengths(EventValue):
    """Mean answer tokens and score on dev before and after; and the scores on the `level` items whose answers did not grow
    (0 where there are none).
    """

    tokens_before: float
    tokens_after: float
    score_before: float
    score_after: float
    level: int
    level_before: float
    level_after: float


class DriftMeasured(OfCandidate):
    """How far preference training moved a candidate's answers from those of its start."""

    kind: Literal["drift_measured"] = "drift_measured"
    start: str
    moved: Movement
    length: AnswerLengths


TrainingEvent = (
    RenderingFixed
    | ReplayMade
    | LapTrained
    | PassLowered
    | TrainingReached
    | CandidateTrained
    | DistanceMeasured
    | CheckpointsWeighed
    | TextLearned
    | BaseAnswered
    | BaseSummed
    | SamplesPaired
    | BestSampled
    | CurveSeen
    | GroupsDrawn
    | StopsPlanned
    | RewardsJudged
    | CandidateMoved
    | DriftMeasured
)
