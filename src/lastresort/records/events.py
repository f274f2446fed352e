"""What a run does, one frozen type a kind. The record keeps these in order; all else that is said of a run is a view of them.

An event knows its key, by which the newest of one rung, candidate or training is found. Values that only make sense inside an event
stand before it. What is measured item by item, and curves step by step, has tables of its own.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict

from lastresort.records.decision import (
    ComparedWay,
    Crossing,
    Currency,
    DevScore,
    RepairKind,
    RepairMeasure,
    RunView,
)
from lastresort.records.document import Statement
from lastresort.records.gate import ClimbGate
from lastresort.types import Judgement, Role

Interval = tuple[float, float]


class EventValue(BaseModel):
    """Part of an event."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", defer_build=True)


class BaseEvent(EventValue):
    """What every event has. kind: its name in the record, which is the name of the class."""

    kind: str

    @property
    def key(self) -> str:
        """Which of its kind, "" where there is one a run."""
        return ""


class OfRung(BaseEvent):
    """An event of which every rung has its own."""

    rung: str

    @property
    def key(self) -> str:
        return self.rung


class OfCandidate(OfRung):
    """An event of which every candidate, or training, of a rung has its own."""

    candidate: str

    @property
    def key(self) -> str:
        return self.candidate


# The run and its task.


class RunBegan(BaseEvent):
    """id: which run this is, wherever its folder is moved."""

    kind: Literal["run_began"] = "run_began"
    id: str


class TaskRead(BaseEvent):
    """task: resolved, as the task file writes it."""

    kind: Literal["task_read"] = "task_read"
    task: dict[str, Any]


class FilesRead(BaseEvent):
    """files: sha256 by name, of everything that decides what is trained and measured."""

    kind: Literal["files_read"] = "files_read"
    files: dict[str, str]


class TaskPlaced(BaseEvent):
    """path: how the task file is reached from the folder of the run."""

    kind: Literal["task_placed"] = "task_placed"
    path: str


class DocumentsRead(BaseEvent):
    """files: sha256 by document, as they were when the run began."""

    kind: Literal["documents_read"] = "documents_read"
    files: dict[str, str]


class ErrorShared(BaseEvent):
    """r: tests of the bar over which the run shares its error."""

    kind: Literal["error_shared"] = "error_shared"
    r: int


class ModelOpened(BaseEvent):
    """fingerprint: of the task's model. max_new_tokens: of every answer. price_known: whether what a call of it costs is known."""

    kind: Literal["model_opened"] = "model_opened"
    fingerprint: str
    max_new_tokens: int
    price_known: bool


class RowsTooLong(BaseEvent):
    """train: ids of the rows that are left out of training, since they exceed the context."""

    kind: Literal["rows_too_long"] = "rows_too_long"
    train: tuple[str, ...]


class DataChecked(BaseEvent):
    """report: counts and findings, as `lastresort data check --json` prints them."""

    kind: Literal["data_checked"] = "data_checked"
    report: dict[str, Any]


class BudgetSpent(BaseEvent):
    """Time and money since the one before; money with every paid answer, time every few seconds."""

    kind: Literal["budget_spent"] = "budget_spent"
    seconds: float
    usd: float


# The judge that scores the answers.


class JudgeOpened(BaseEvent):
    kind: Literal["judge_opened"] = "judge_opened"
    fingerprint: str


class JudgeCalls(EventValue):
    """What asking a judge took. paid_usd: the part of usd that was paid now, for what no cache had."""

    calls: int
    tokens_in: int
    tokens_out: int
    seconds: float
    usd: float
    paid_usd: float


class JudgeChecked(BaseEvent):
    """How far the judge agrees with people, on labelled cases. said: its verdicts on each."""

    kind: Literal["judge_checked"] = "judge_checked"
    n: int
    share: float
    interval: Interval
    kappa: float | None
    kappa_interval: Interval | None
    weights: Literal["none", "quadratic"]
    said: tuple[tuple[str, ...], ...]
    spent: JudgeCalls


class JudgedAnswer(JudgeCalls):
    """answer: hash of its text. said: the judge's verdicts on it, one a prompt."""

    id: str
    answer: str
    score: float
    said: tuple[str, ...]


class AnswersJudged(BaseEvent):
    """A batch. An answer that is met again is here again, and counts once."""

    kind: Literal["answers_judged"] = "answers_judged"
    items: tuple[JudgedAnswer, ...]


# A rung: searched on dev, frozen, tested once.


class CandidateMeasured(OfRung):
    """A candidate on a split, or a stretch of dev; its items are in the record's table. A later one of the same split replaces it.

    ill_formed: ids of wrong answers without the form asked for. wrong: of the others that are wrong. cut: answers that ended at the
    token limit. refused: items that the model did not take.
    """

    kind: Literal["candidate_measured"] = "candidate_measured"
    candidate: str
    split: str
    n: int
    n_available: int
    score: float
    tokens_in: int
    tokens_out: int
    seconds: float
    usd: float
    cut: int
    refused: int
    ill_formed: tuple[str, ...]
    wrong: tuple[str, ...]


class RungSkipped(OfRung):
    kind: Literal["rung_skipped"] = "rung_skipped"
    reason: Statement


class RungPlanned(OfRung):
    """Whether a rung that trains fits the time that is left. beyond: why not. limit_hours: of the task, then."""

    kind: Literal["rung_planned"] = "rung_planned"
    seconds: float | None
    limit_hours: float
    beyond: Statement | None


class RungGivenUp(OfRung):
    """The search showed that the rung cannot reach the bar."""

    kind: Literal["rung_given_up"] = "rung_given_up"
    reason: Statement


class SearchedCandidate(EventValue):
    """seconds: of all that was measured of it so far."""

    name: str
    dev: DevScore
    prompt_tokens: float
    seconds: float


class RungSearched(OfRung):
    """What the search on dev found. bias_corrected: the best score, corrected for having been chosen."""

    kind: Literal["rung_searched"] = "rung_searched"
    candidates: tuple[SearchedCandidate, ...]
    chosen: str
    why: str
    note: str
    bias_corrected: float | None


class SystemFrozen(OfRung):
    """name: of the candidate that goes to the test."""

    kind: Literal["system_frozen"] = "system_frozen"
    name: str


class RungTested(OfRung):
    kind: Literal["rung_tested"] = "rung_tested"
    system: str
    judgement: Judgement


class SavingWeighed(OfRung):
    """With `goal: cost`, after this rung met the bar: whether sft would pay for itself. The fields are those of `Saving`."""

    kind: Literal["saving_weighed"] = "saving_weighed"
    hourly_price: float | None
    calls_per_month: int | None
    goes_on: bool
    because: str
    currency: Currency | None
    now: float | None
    then: float | None
    one_off: float | None
    crossing: Crossing
    calls: int | None
    months: float | None


# Retrieval.


class SkippedFile(EventValue):
    path: str
    reason: str


class StoreBuilt(BaseEvent):
    """added to reused: of the update that built it. contents: hash of what it holds."""

    kind: Literal["store_built"] = "store_built"
    added: int
    changed: int
    removed: int
    unchanged: int
    embedded: int
    reused: int
    documents: int
    chunks: int
    skipped: tuple[SkippedFile, ...]
    embedder: str
    embedder_fingerprint: str
    contents: str
    seconds: float
    disk_bytes: int
    vector_bytes: int


class SearchScores(EventValue):
    """How well one kind of search finds the passages that dev names. recall, ndcg: by how many passages were looked at."""

    mode: Literal["hybrid", "vector", "text"]
    reranked: bool
    questions: int
    unlabelled: int
    recall: dict[int, float]
    ndcg: dict[int, float]
    mrr: float


class SearchesMeasured(BaseEvent):
    """Nothing where dev names no passages."""

    kind: Literal["searches_measured"] = "searches_measured"
    searches: tuple[SearchScores, ...]


class CeilingMeasured(BaseEvent):
    """Dev with the right passages in the prompt. labelled: items that name theirs. systems: verdict of each that could be tried.
    knowledge: ids of the items that were wrong closed book and right so."""

    kind: Literal["ceiling_measured"] = "ceiling_measured"
    labelled: int
    n: int
    closed_book: float
    systems: dict[str, Judgement]
    dropped: dict[str, str]
    knowledge: tuple[str, ...]


# Training.


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
    """General rows with the base's own answers. rung: whose cost they are. asked: how many were wanted."""

    kind: Literal["replay_made"] = "replay_made"
    asked: int
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


class AdapterReach(EventValue):
    """layers: that hold an adapter, of all_layers. parameters: that are trained."""

    layers: int
    all_layers: int
    parameters: int


class PackedCheck(EventValue):
    """Packed against plain on the first batch; as `engine.support.FirstBatchCheck`."""

    loss_difference: float
    gradient_difference: float | None
    ok: bool
    reason: str | None
    kernel: str | None
    passed_over: str


class TrainingFacts(EventValue):
    """What a rung says of a training beside its settings. learns_from: pairs, labels, samples or a reward, of preferences."""

    rows: int
    replay_rows: int | None = None
    start: str | None = None
    learns_from: str | None = None
    adapted: AdapterReach | None = None


class TrainingReached(OfCandidate, TrainingFacts):
    """How far a training is, what it computed, and by which settings. The newest of a training counts."""

    kind: Literal["training_reached"] = "training_reached"
    step: int
    steps: int
    computed_tokens: int
    nominal_tokens: int
    seconds: float
    path: str
    reason: str | None
    check: PackedCheck | None
    processes: int
    sharded: bool
    settings: dict[str, Any]


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


class TextLearned(OfRung):
    """The base after the task's documents, as plain text. told: what was learned, in words."""

    kind: Literal["text_learned"] = "text_learned"
    told: str


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


# Preferences.


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


class SamplesPaired(OfRung):
    """Pairs of a system's own answers, ranked by the scorer. told: what became of the prompts, in words."""

    kind: Literal["samples_paired"] = "samples_paired"
    pairs: tuple[RankedPair, ...]
    told: str
    tokens_in: int
    tokens_out: int
    seconds: float


class StopsPlanned(OfRung):
    """steps: of the whole training. stops: after which a candidate is kept. told: what it learns from, in words."""

    kind: Literal["stops_planned"] = "stops_planned"
    steps: int
    stops: tuple[int, ...]
    told: str


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


# The gate and the repairs after it.


class GateChosen(BaseEvent):
    kind: Literal["gate_chosen"] = "gate_chosen"
    mode: Literal["quick", "full", "none"]


class GateRun(BaseEvent):
    """repaired: it is the second gate, of a repaired system."""

    kind: Literal["gate_run"] = "gate_run"
    gate: ClimbGate
    repaired: bool

    @property
    def key(self) -> str:
        return gate_key(self.gate.rung, repaired=self.repaired)


def gate_key(rung: str, *, repaired: bool) -> str:
    return f"{rung}, repaired" if repaired else rung


class RepairsBegun(OfRung):
    """system: that the gate rejected or held. The rest is what a repair has to mend, as `gate.verdict.repairable.Needed`."""

    kind: Literal["repairs_begun"] = "repairs_begun"
    system: str
    offending: tuple[str, ...]
    costly: bool
    kinds: tuple[RepairKind, ...]


def repair_key(rung: str, repair: str, setting: float) -> str:
    return f"{rung} {repair} {setting:g}"


class RepairTried(OfRung):
    """setting: the scale, the epoch or step of a checkpoint, the share of replay, or the learning rate. system, dev: None where it
    was not made."""

    kind: Literal["repair_tried"] = "repair_tried"
    repair: RepairKind
    setting: float
    system: str | None
    dev: DevScore | None
    measures: tuple[RepairMeasure, ...]
    good: bool
    why: str

    @property
    def key(self) -> str:
        return repair_key(self.rung, self.repair, self.setting)


class RepairPostponed(OfRung):
    """A repair that did not fit the time left of so many hours."""

    kind: Literal["repair_postponed"] = "repair_postponed"
    repair: RepairKind
    setting: float
    limit_hours: float | None

    @property
    def key(self) -> str:
        return repair_key(self.rung, self.repair, self.setting)


class RepairTested(OfRung):
    kind: Literal["repair_tested"] = "repair_tested"
    system: str
    judgement: Judgement


# Ways of training, compared after the verdict.


class WaysChosen(BaseEvent):
    """names: the reference first; empty where nothing is to be compared any more."""

    kind: Literal["ways_chosen"] = "ways_chosen"
    names: tuple[str, ...]
    seeds: int


class WaysRefused(BaseEvent):
    kind: Literal["ways_refused"] = "ways_refused"
    names: tuple[str, ...]
    because: str


class FullRateChosen(BaseEvent):
    """The learning rate at which all weights are trained, found with the first seed."""

    kind: Literal["full_rate_chosen"] = "full_rate_chosen"
    rate: float


class TrainingSpent(EventValue):
    """memory_bytes: peak, None where it is not known. tokens: of the rows, however often they were computed."""

    memory_bytes: int | None
    seconds: float
    tokens: int
    learning_rate: float


class AnsweringSpent(EventValue):
    """On the whole test set."""

    memory_bytes: int | None
    seconds: float
    tokens: int


class OfWay(BaseEvent):
    """An event of one way of training with one seed."""

    way: str
    seed: int

    @property
    def key(self) -> str:
        return way_key(self.way, self.seed)


def way_key(way: str, seed: int) -> str:
    return f"{way}-seed{seed}"


class WayTrained(OfWay):
    """Noted as soon as it is over, since the peak of a training cannot be measured afterwards."""

    kind: Literal["way_trained"] = "way_trained"
    spent: TrainingSpent


class WayMeasured(OfWay):
    """training: None where it was made of what another way has trained. failed: why there is none."""

    kind: Literal["way_measured"] = "way_measured"
    training: TrainingSpent | None
    answering: AnsweringSpent | None
    failed: str | None


class WaysCompared(BaseEvent):
    kind: Literal["ways_compared"] = "ways_compared"
    names: tuple[str, ...]
    seeds: int
    ways: tuple[ComparedWay, ...]


# The end, and what comes after it.


class ClimbDecided(BaseEvent):
    kind: Literal["climb_decided"] = "climb_decided"
    decision: RunView


class ClimbFinished(BaseEvent):
    """Everything is written: the winner, decision.json and the report."""

    kind: Literal["climb_finished"] = "climb_finished"


class RecheckCounted(BaseEvent):
    """A recheck, counted before it has seen an answer. question: hash of what it asks. look: its number among those that test
    systems against the bar. what: is new, in words."""

    kind: Literal["recheck_counted"] = "recheck_counted"
    question: str
    number: int
    look: int | None
    what: str

    @property
    def key(self) -> str:
        return self.question


Event = (
    RunBegan
    | TaskRead
    | FilesRead
    | TaskPlaced
    | DocumentsRead
    | ErrorShared
    | ModelOpened
    | RowsTooLong
    | DataChecked
    | BudgetSpent
    | JudgeOpened
    | JudgeChecked
    | AnswersJudged
    | CandidateMeasured
    | RungSkipped
    | RungPlanned
    | RungGivenUp
    | RungSearched
    | SystemFrozen
    | RungTested
    | SavingWeighed
    | StoreBuilt
    | SearchesMeasured
    | CeilingMeasured
    | RenderingFixed
    | ReplayMade
    | LapTrained
    | PassLowered
    | TrainingReached
    | CandidateTrained
    | TextLearned
    | BaseAnswered
    | BaseSummed
    | SamplesPaired
    | StopsPlanned
    | RewardsJudged
    | CandidateMoved
    | DriftMeasured
    | GateChosen
    | GateRun
    | RepairsBegun
    | RepairTried
    | RepairPostponed
    | RepairTested
    | WaysChosen
    | WaysRefused
    | FullRateChosen
    | WayTrained
    | WayMeasured
    | WaysCompared
    | ClimbDecided
    | ClimbFinished
    | RecheckCounted
)
KINDS: dict[str, type[Event]] = {kind.model_fields["kind"].default: kind for kind in get_args(Event)}
E = TypeVar("E", bound=BaseEvent)


class Stage(EventValue):
    """What a run is at. label: in words. rung, candidate, split: "" where it is none. total: None where it is unknown. loss: of the
    last step of a training. eta_s: None before the first unit is done. spent_s, spent_usd: of the whole run so far."""

    label: str
    rung: str = ""
    candidate: str = ""
    split: str = ""
    done: int = 0
    total: int | None = None
    loss: float | None = None
    eta_s: float | None = None
    spent_s: float = 0.0
    spent_usd: float = 0.0

    @property
    def place(self) -> tuple[str, str, str]:
        return self.rung, self.candidate, self.split
