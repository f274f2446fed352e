"""The types of `decision.json`: what a run has found, at every moment of it. What is not known yet is null."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from lastresort.records.document import (
    Amount,
    Count,
    Difference,
    JsonDocument,
    OpenShare,
    Positive,
    ReuseView,
    Sentence,
    Sha256,
    Share,
    Statement,
)
from lastresort.records.document import Interval as DifferenceInterval
from lastresort.records.gate import ClimbGate, SuiteVerdict
from lastresort.types import GateVerdict, Outcome, Unit, VerdictBasis

VERSION: Literal[9] = 9
Name = Annotated[str, Field(min_length=1)]
Limits = tuple[Share, Share]
RepairKind = Literal["scale", "fewer_epochs", "replay", "learning_rate"]
Currency = Literal["usd", "machine_seconds"]
Crossing = Literal["at_once", "after", "never", "unknown"]


class DevScore(JsonDocument):
    """Mean score on n dev items."""

    score: Share
    n: Count


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


class BarTest(JsonDocument):
    """A system against the bar, on held-out items. unit: what n_used, n_available and n_needed count, and what the score is the
    mean of. interval: limits of the score, the confidence sequence at 1 - 2 alpha_per_rung. decided: the rule that gave the
    verdict (sequence: the evidence after every unit; exact: the binomial test at the last item), its error and the limit of the
    score that it showed; null for UNDECIDED. n_needed: units that would decide an UNDECIDED; null where not needed or not to be
    told.
    """

    verdict: Outcome
    score: Share
    n_used: Count
    n_available: Count
    unit: Unit
    interval: Limits
    decided: VerdictBasis | None
    n_needed: Positive | None


class CandidateView(JsonDocument):
    """prompt_tokens: mean of a rendered prompt."""

    name: Name
    dev: DevScore
    prompt_tokens: Amount


class Failures(JsonDocument):
    """Of the chosen candidate on dev. knowledge: null where no retrieval has told it from other failures."""

    format: Count
    knowledge: Count | None
    other: Count


class Cost(JsonDocument):
    """usd: null where the task gives no price for the calls that were made."""

    tokens_in: Count
    tokens_out: Count
    seconds: Amount
    usd: Amount | None


class EarlyWarning(JsonDocument):
    """How far the newest checkpoint of a training is from its base, in nats a token; shown, never part of a verdict."""

    training: Name
    step: Count
    kl_general: float | None
    kl_task: float | None
    perplexity: float | None
    base_perplexity: float | None
    alarm: str | None


class RungView(JsonDocument):
    """gate: its verdict on the chosen system; null where it was not asked."""

    name: Name
    applies: bool
    skipped_because: Statement | None
    candidates: tuple[CandidateView, ...]
    chosen: Name | None
    test: BarTest | None
    gate: GateVerdict | None
    failures: Failures
    cost: Cost
    early_warnings: tuple[EarlyWarning, ...]


class OrderEffect(JsonDocument):
    """The share of comparisons whose verdict the order alone changed, with its 95% interval."""

    n: Count
    changed: Share
    interval: Limits
    to_first: Count
    to_second: Count
    ties: Share


class JudgeAgreement(JsonDocument):
    """With people, on labelled cases."""

    n: Positive
    share: Share
    interval: Limits
    kappa: Difference | None
    kappa_interval: DifferenceInterval | None
    weights: Literal["none", "quadratic"]


class JudgeView(JsonDocument):
    """The model that scored the answers. asks: comparison with the reference, in both orders, or grading by a rubric, without one.
    self_preference: whether it is the model that answers, or the one that is tuned. answers: different ones that were judged.
    verdicts: how many answers won, lost, tied, changed with the order alone or had the reference's text; or had each grade. asked:
    verdicts asked for. unparsed: those that could not be read, asked twice.
    """

    model: Name
    asks: Literal["comparison", "grading"]
    criterion: Name | None
    scale: Literal["1-5", "yes-no"] | None
    self_preference: bool
    answers: Count
    verdicts: dict[str, Count]
    order: OrderEffect | None
    asked: Count
    unparsed: Count
    agreement: JudgeAgreement | None
    cost: Cost


class StoreView(JsonDocument):
    """What is searched. vector_bytes: the part that a search by meaning reads."""

    documents: Count
    chunks: Count
    embedder: str
    seconds: Amount
    disk_bytes: Count
    vector_bytes: Count


Places = Annotated[str, Field(pattern="^[1-9][0-9]*$")]


class SearchView(JsonDocument):
    """How well one kind of search finds the passages that dev names, without a model. recall, ndcg: by how many were looked at."""

    mode: Literal["hybrid", "vector", "text"]
    reranked: bool
    questions: Positive
    recall: dict[Places, Share]
    ndcg: dict[Places, Share]
    mrr: Share


class CeilingSystem(JsonDocument):
    name: str
    verdict: Outcome
    score: Share
    interval: Limits


class CeilingView(JsonDocument):
    """Dev with the right passages in the prompt. labelled: items that name theirs, for the others the union of what the searches
    put first. knowledge: items wrong closed book and right so.
    """

    n: Count
    labelled: Count
    closed_book: Share
    knowledge: Count
    systems: tuple[CeilingSystem, ...]


class RetrievalView(JsonDocument):
    store: StoreView
    searches: tuple[SearchView, ...]
    ceiling: CeilingView | None


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


class RepairView(JsonDocument):
    """A repaired system that was tried after the first gate. kind: a smaller scale of what was trained; an earlier checkpoint of
    that training; a training anew with more replay, or at a lower learning rate. setting: the scale; the epoch or step; the share;
    the rate. system: null where it was not made. measures: on a draw of items that no gate scores. frozen: the best on dev of the
    good ones, which alone was tested. gate: the second, on fresh items, where the test left it to be asked.
    """

    rung: Name
    kind: RepairKind
    setting: Annotated[float, Field(gt=0)]
    system: Name | None
    dev: DevScore | None
    measures: tuple[RepairMeasure, ...]
    good: bool
    why: Sentence
    frozen: bool
    test: BarTest | None
    gate: SecondGate | None


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


class ComparedWay(JsonDocument):
    """A way of training, with several seeds. made_of: the way whose training it was made of, null where it was trained itself.
    epoch: to which it was trained, as the winner was. score: on all test items, mean over seeds; null where every seed dropped
    out. difference: this way less the first, on the same items with the same seeds; null for the first. interval: of the
    difference, for items like these and seeds like these; each limit at alpha. verdict: a loss as large as the margin is excluded,
    shown, or neither. seed_sd: of the seeds' mean differences. cost: of all seeds together, with races and what dropped out.
    """

    way: Literal["lora", "qlora", "full", "merged", "nf4"]
    made_of: Literal["lora"] | None
    learning_rate: Annotated[float, Field(gt=0)] | None
    epoch: Positive
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
    answers local models. pairs: every tuned system against every untuned one. saving: null where that was not asked.
    """

    currency: Currency | None
    missing: tuple[Name, ...]
    calls_per_month: Count | None
    hourly_price: Amount | None
    systems: Annotated[tuple[PricedSystem, ...], Field(min_length=1)]
    pairs: tuple[CostPair, ...]
    saving: SavingView | None


class WinnerView(JsonDocument):
    """sha256: over the names and contents of all files in winner/; whoever loads it from beside this decision compares it."""

    kind: Literal["prompt", "retrieval", "adapter", "merged", "none"]
    path: Name | None
    held: bool
    sha256: Sha256 | None


class RunProvenance(JsonDocument):
    versions: dict[str, str]
    seeds: dict[str, int]
    hashes: dict[str, str]
    machine: dict[str, str | int]


class RunView(JsonDocument):
    """decision.json of a run: the verdict, the argument for it and the numbers behind it. It grows by version. Before the run has
    decided, verdict, meets_bar, provisional, answer, winner and provenance are null, and the rungs stand as far as they came.

    r: tests of the bar over which 1 - confidence is shared. answer: the sentence that answers: should I fine-tune? judge: null
    where a rule scored. retrieval: null where no store was built. test_reuse: of these test items, by earlier runs. gate: of the
    winner where it was tuned, else of the last tuned system that was kept from winning; null where none was run. first_gate: after
    which repairs were tried, where the system that stands is a repaired one, whose own gate is `gate`. repairs: what was tried
    after the first gate, in that order; also what was no good. compare: ways of training beside each other, as --compare asked,
    the first being the reference. break_even: null where nothing was tested.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    version: Literal[9] = Field(default=VERSION, alias="schema")
    task: Name
    goal: Literal["quality", "cost"]
    model: Name
    bar: OpenShare
    confidence: OpenShare
    r: Positive
    alpha_per_rung: OpenShare
    verdict: Outcome | None
    meets_bar: bool | None
    provisional: bool | None
    stopped_at: Name | None
    answer: Sentence | None
    reasons: tuple[Statement, ...]
    would_change: tuple[Statement, ...]
    judge: JudgeView | None
    retrieval: RetrievalView | None
    test_reuse: ReuseView | None
    rungs: tuple[RungView, ...]
    gate: ClimbGate | None
    first_gate: ClimbGate | None
    repairs: tuple[RepairView, ...]
    compare: tuple[ComparedWay, ...]
    break_even: BreakEven | None
    winner: WinnerView | None
    provenance: RunProvenance | None

    @property
    def decided(self) -> bool:
        return self.verdict is not None
