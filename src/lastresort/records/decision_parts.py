"""Parts of `decision.json`: repairs after the gate, ways of training that were compared, and what calls cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lastresort.records.document import (
    Amount,
    Count,
    Difference,
    JsonDocument,
    Limits,
    Name,
    Positive,
    Sentence,
    Sha256,
    Share,
)
from lastresort.records.document import Interval as DifferenceInterval
from lastresort.records.gate import GateSpent, SuiteVerdict
from lastresort.records.measurement import BarTest, Cost, DevScore
from lastresort.types import AdapterChoice, GateVerdict, Outcome, WayName

RepairKind = Literal["scale", "fewer_epochs", "replay", "learning_rate"]
Currency = Literal["usd", "machine_seconds"]
Crossing = Literal["at_once", "after", "never", "unknown"]


GivenPassages = Literal["none", "right", "likeliest", "likeliest_one"]
"""Passages that dev was answered with in place of those that a search finds: none, those that dev names, or the likeliest."""

Weights = Literal["model", "base", "trained"]
"""What answers: the task's model; of a rung that trains, its model before the training, or after it."""


class PromptFacts(JsonDocument):
    """shots: solved examples that a prompt shows. nearest: chosen for each input. rewritten: a model wrote the instruction.
    constrained: decoding is held to the form of the output. passages: that a search puts into the prompt; null without one.
    given: in place of what it finds; null where nothing is.
    """

    sections: bool = False
    shots: Count = 0
    nearest: bool = False
    reasoning: bool = False
    rewritten: bool = False
    constrained: bool = False
    passages: Positive | None = None
    given: GivenPassages | None = None


class TrainedFacts(JsonDocument):
    """How a candidate was trained last; that training may have begun from another candidate, such as preference training from SFT.
    rank: null where all weights are trained. objective: as a training file names it. stop: the epoch or step after which it was
    kept. replay: the share of general rows; null where it has none. scale: of what was trained.
    """

    method: AdapterChoice
    rank: Positive | None
    objective: Name
    learning_rate: Annotated[float, Field(gt=0)]
    stop: Count
    unit: Literal["epoch", "step"]
    replay: Share | None
    scale: Annotated[float, Field(gt=0)]


class CandidateFacts(JsonDocument):
    """What a candidate is. trained: null for untrained weights, and while their training goes on."""

    weights: Weights
    prompt: PromptFacts
    trained: TrainedFacts | None = None


class RepairMeasure(JsonDocument):
    """A measure on a separate draw, tuned against base, without a verdict: it only chooses among repairs. counts: false where this
    base has nothing to lose by it, or the task leaves it out.
    """

    name: Name
    suite: Name
    base: Share | None
    tuned: Share | None
    difference: Difference | None
    margin: Share | None
    n: Count
    counts: bool

    @property
    def lost(self) -> float:
        return -self.difference if self.counts and self.difference is not None else 0.0


class SecondGateMeasure(JsonDocument):
    name: Name
    verdict: SuiteVerdict
    base: Share | None
    tuned: Share | None
    difference: Difference | None
    interval: DifferenceInterval | None
    margin: Share | None
    n: Count


class SecondGate(JsonDocument):
    verdict: GateVerdict
    mode: Literal["quick", "full"]
    seed: Count
    alpha: Share
    artefact_sha256: Sha256 | None
    reasons: tuple[Sentence, ...]
    measures: tuple[SecondGateMeasure, ...]
    spent: GateSpent


class ComparisonRefusal(JsonDocument):
    """Why ways of training are not compared. winner: the rung that won, null where none did. planned_s, hours_left: of OVER_TIME
    alone.
    """

    code: Literal["NO_WINNER", "TRAINS_NOTHING", "OTHER_RUNG", "SCALED", "OVER_TIME"]
    winner: Name | None = None
    planned_s: float | None = None
    hours_left: float | None = None


RepairFindingKind = Literal[
    "BELOW_BAR", "LOST_TOO_MUCH", "LOST_LITTLE", "UNSEEN", "NOT_WORTH", "NOT_MADE", "DIVERGED", "OVER_TIME"
]


class RepairFinding(JsonDocument):
    """What speaks for a repair (LOST_LITTLE, of a measure that lost too much before) or against it.

    measure: which one. value, limit: the dev score and the bar; a loss and what is accepted; the loss in general and what was won
    on dev (NOT_WORTH); seconds that are planned and hours that are left (OVER_TIME). UNSEEN: there are no informative items outside
    the gate. NOT_MADE: `error` says why.
    """

    kind: RepairFindingKind
    measure: Name | None = None
    value: float | None = None
    limit: float | None = None
    error: str | None = None


class RepairView(JsonDocument):
    """A repaired system that was tried after the first gate. kind: a smaller scale of what was trained; an earlier checkpoint of
    that training; a new training with more replay, or at a lower learning rate. setting: the scale; the epoch or step; the share;
    the rate. system: null where it was not made. measures: on a draw of items that no gate scores. frozen: the best on dev of the
    good ones, which alone was tested. gate: the second, on fresh items, where the test left it to be asked. spent: of asking for
    the measures; the first repair of a run that was measured holds the base's part.
    """

    rung: Name
    kind: RepairKind
    setting: Annotated[float, Field(gt=0)]
    system: Name | None
    dev: DevScore | None
    measures: tuple[RepairMeasure, ...]
    good: bool
    findings: tuple[RepairFinding, ...]
    spent: GateSpent
    frozen: bool
    test: BarTest | None
    gate: SecondGate | None


class WeighedCheckpoint(JsonDocument):
    """stop: after which epoch or step it was kept. scale: of what was trained. constrained: held to the form of the output.
    distance: KL(base || candidate) in nats a token, on the base's own answers to general requests. met_chance: how likely the test
    says MET, as far as dev can tell.
    """

    candidate: Name
    stop: Count
    unit: Literal["epoch", "step"]
    scale: Annotated[float, Field(gt=0)]
    constrained: bool
    dev: DevScore
    distance: Amount
    met_chance: Share


class Weighing(JsonDocument):
    """Checkpoints weighed by what they gain and how far they moved. least_chance: from which on MET is predicted. chosen: of those
    the one that moved least; where there are none, by dev score alone, and predicted is false.
    """

    checkpoints: tuple[WeighedCheckpoint, ...]
    least_chance: Share
    chosen: Name
    predicted: bool


class OptimisedPrompt(JsonDocument):
    """An instruction that was optimised on rows of train. plain, best: texts; equal where no other scored higher. Their scores are
    those on n rows of train that chose among the texts, so that of the best is optimistic. tried, copies: instructions that were
    tried, and that were not, as they copied rows. calls: of both models, reflections among them.
    """

    reflector: Name
    plain: str
    best: str
    plain_score: Share
    best_score: Share
    n: Positive
    tried: Count
    copies: Count
    calls: Count
    reflections: Count


class SeedOfWay(JsonDocument):
    """failed: why this seed dropped out."""

    seed: Count
    score: Share | None
    difference: Difference | None
    failed: Sentence | None


class SpentOfWay(JsonDocument):
    """memory_bytes: the largest peak of a seed: of a graphics card what torch allocated, else of the whole process; null where it
    is not known. seconds: mean of the seeds. tokens_per_s: of training those of the rows, however often they were computed; of
    answering those of the answers.
    """

    memory_bytes: Count | None
    seconds: Amount
    tokens_per_s: Amount | None


class WayFigures(JsonDocument):
    """What was measured of a way of training with several seeds; the fields are explained in `ComparedWay`."""

    way: WayName
    made_of: Literal["lora"] | None
    learning_rate: Annotated[float, Field(gt=0)] | None
    epoch: Positive
    unit: Literal["epoch", "step"] = "epoch"
    score: Share | None
    n: Count
    difference: Difference | None
    interval: DifferenceInterval | None
    alpha: Share
    margin: Share
    verdict: Literal["NON_INFERIOR", "REGRESSED", "UNDERPOWERED"] | None
    seed_sd: Amount | None
    seeds: Annotated[tuple[SeedOfWay, ...], Field(min_length=2)]
    training: SpentOfWay | None
    answering: SpentOfWay | None
    cost: Cost


class ComparedWay(WayFigures):
    """A way of training, with several seeds. made_of: the way whose training it was made of, null where it was trained itself.
    epoch: to which it was trained, as the winner was; a step where `unit` says so. score: on all test items, mean over seeds; null
    where every seed dropped out. difference: this way less the first, on the same items with the same seeds; null for the first.
    interval: of the difference, for items like these and seeds like these; each limit at alpha. verdict: a loss as large as the
    margin is excluded, shown, or neither. seed_sd: of the seeds' mean differences. cost: of all seeds together, with races and what
    dropped out.
    """

    said: Sentence


class PricedSystem(JsonDocument):
    """A tested system with what a call of it took. items: test items over which tokens, seconds and costs are means: those that all
    systems which meet the bar answered. seconds: of a call, its share of its batch here, or the wait for an endpoint.
    per_call_machine_s: of the machine here; 0 where an endpoint answers. one_off: all that training and testing took; 0 for a
    system that was not trained.
    """

    rung: Name
    name: Name
    model: Name
    tuned: bool
    verdict: Outcome
    score: Share
    interval: Limits
    items: Positive
    prompt_tokens: Amount
    completion_tokens: Amount
    seconds: Amount
    per_call_usd: Amount | None
    per_call_machine_s: Amount
    one_off_usd: Amount | None
    one_off_machine_s: Amount


class SharedItems(JsonDocument):
    """Mean scores on the n test items that both answered: a description, since each stopped by its own evidence."""

    n: Count
    tuned: Share | None
    untuned: Share | None


class CostPair(JsonDocument):
    """crossing: from when on the tuned system is the cheaper, its training included. calls: from which call on; null for never and
    unknown. months: how long these calls take at calls_per_month.
    """

    tuned: Name
    untuned: Name
    crossing: Crossing
    calls: Count | None
    months: Amount | None
    both: SharedItems


class SavingView(JsonDocument):
    """With goal: cost, whether the climb went on to sft although the bar was met. rung: whose system meets the bar. now: a call of
    it, as measured. then, one_off: a call of the tuned model, and all that the rung sft would take, as planned.
    """

    rung: Name
    goes_on: bool
    because: Sentence
    currency: Currency | None
    now: Amount | None
    then: Amount | None
    one_off: Amount | None
    crossing: Crossing
    calls: Count | None
    months: Amount | None


class BreakEven(JsonDocument):
    """What calls cost and when training is paid back. currency: in which all systems compare; null where prices are missing.
    missing: keys of the task file whose absence leaves money unknown. hourly_price: USD for an hour of the machine that trains and
    answers local models. pairs: every tuned system against every untuned one. saving: null where it was not weighed.
    """

    currency: Currency | None
    missing: tuple[Name, ...]
    calls_per_month: Count | None
    hourly_price: Amount | None
    systems: Annotated[tuple[PricedSystem, ...], Field(min_length=1)]
    pairs: tuple[CostPair, ...]
    saving: SavingView | None
