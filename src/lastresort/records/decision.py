"""The types of `decision.json`: what a run has found, at every moment of it. What is not known yet is null."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from lastresort.ladder import WinnerKind, trains
from lastresort.records.decision_parts import (
    BreakEven,
    CandidateFacts,
    ComparedWay,
    OptimisedPrompt,
    RepairView,
    Weighing,
)
from lastresort.records.document import (
    Amount,
    Count,
    Difference,
    JsonDocument,
    Limits,
    Name,
    OpenShare,
    Positive,
    ReuseView,
    Sentence,
    Sha256,
    Share,
    Statement,
)
from lastresort.records.document import Interval as DifferenceInterval
from lastresort.records.gate import ClimbGate
from lastresort.records.measurement import BarTest, Cost, DevScore
from lastresort.types import GateVerdict, Outcome

VERSION: Literal[11] = 11
FILE_NAME = "decision.json"  # in the folder of a run
HELD = "the gate holds this winner: it is not shown yet that tuning broke nothing else"
PROVISIONAL = "This winner is provisional: it is not shown to meet the bar."
MISSES = "This winner misses the bar: it is the best system without tuning."
BAR_NOTES: dict[Outcome | None, str] = {
    "UNDECIDED": PROVISIONAL,
    "NOT_MET": MISSES,
}  # by the verdict of a winner's own test
NOT_GATED = "The climb ran no gate for this winner, so it did not measure what else tuning changed."


def winner_notes(verdict: Outcome | None, *, ungated: bool) -> tuple[str, ...]:
    """What to say wherever a winner is used: that it is not shown to meet the bar, that it was tuned and no gate ran."""
    return (*filter(None, [BAR_NOTES.get(verdict)]), *([NOT_GATED] if ungated else []))


class CandidateView(JsonDocument):
    """prompt_tokens: mean of a rendered prompt. facts: null where the record does not hold them."""

    name: Name
    dev: DevScore
    prompt_tokens: Amount
    facts: CandidateFacts | None = None


class Failures(JsonDocument):
    """Of the chosen candidate on dev. knowledge: null where no retrieval has separated it from other failures."""

    format: Count
    knowledge: Count | None
    other: Count


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
    """gate: its verdict on the chosen system; null if there was no gate. weighed: the choice of a mild checkpoint, if any.
    optimised: the prompt that a model wrote, if any.
    """

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
    weighed: Weighing | None = None
    optimised: OptimisedPrompt | None = None


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

    @property
    def beyond_chance(self) -> bool:
        """Whether it is shown to be more than chance."""
        return self.kappa_interval is not None and self.kappa_interval[0] > 0


class JudgeRate(JsonDocument):
    """Of n answers of one kind. share: null where there are none. interval: its limits at the error of the correction."""

    n: Count
    share: Share | None
    interval: Limits


class JudgeCorrection(JsonDocument):
    """How people's labels correct the scores, by n labelled cases with different inputs. sensitivity: the share of the answers that
    people call right that the judge does, too; specificity: the same of wrong ones. off: by how much a judge that grades or
    compares scores above people. Null for the other kind. met_above, not_met_below: the judged scores that show that the bar is
    met, or missed; null where none does. error: of a false MET, the part that the labels spend.
    """

    n: Positive
    sensitivity: JudgeRate | None
    specificity: JudgeRate | None
    off: Difference | None
    off_interval: DifferenceInterval | None
    met_above: Share | None
    not_met_below: Share | None
    error: Share


class JudgeView(JsonDocument):
    """The model that scored the answers. asks: comparison with the reference, in both orders, or grading by a rubric, without one.
    self_preference: whether it is the model that answers, or the one that is tuned. answers: different ones that were judged.
    verdicts: how many answers won, lost, tied, changed with the order alone or had the reference's text; or had each grade. asked:
    verdicts requested. unparsed: those that could not be read, even at a second try. correction: null where nothing is corrected,
    and the verdict rests on the judge alone.
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
    correction: JudgeCorrection | None = None
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
    """How well one kind of search finds the passages that dev names, without a model. recall, ndcg: by how many were counted."""

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


WrittenKind = Literal[WinnerKind, "none"]


class WinnerView(JsonDocument):
    """sha256: over the names and contents of all files in winner/; whoever loads it from this run compares it."""

    kind: WrittenKind
    path: Literal["winner"] | None
    held: bool
    sha256: Sha256 | None


class RunProvenance(JsonDocument):
    versions: dict[str, str]
    seeds: dict[str, int]
    hashes: dict[str, str]
    machine: dict[str, str | int]


class RunView(JsonDocument):
    """decision.json of a run: the verdict, the argument for it and the numbers behind it. It grows by version. Before the run has
    decided, verdict, meets_bar, provisional, the answer, winner and provenance are null, and the rungs stand as far as they came.

    r: tests of the bar over which 1 - confidence is shared. alpha_per_rung: the mean share. shares: of each test, by rung and, as
    "<rung> repair", by repair; null where all are equal. answer: the sentence that answers: should I fine-tune? answer_code,
    answer_figures: the same as a value, like those of a reason. judge: null where a rule scored. retrieval: null where no store was
    built. test_reuse: of these test items, by earlier runs. gate: of the winner where it was tuned, else of the last tuned system
    that was kept from winning; null where none was run. first_gate: after which repairs were tried, if the winner is a repaired
    system, whose own gate is `gate`. repairs: all that were tried after the first gate, in that order, including those that failed.
    compare: methods compared, as --compare names them, the first being the reference. break_even: null where nothing was tested.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    version: Literal[11] = Field(default=VERSION, alias="schema")
    task: Name
    goal: Literal["quality", "cost"]
    model: Name
    bar: OpenShare
    confidence: OpenShare
    r: Positive
    alpha_per_rung: OpenShare
    shares: dict[Name, Share] | None = None
    verdict: Outcome | None
    meets_bar: bool | None
    provisional: bool | None
    stopped_at: Name | None
    answer: Sentence | None
    answer_code: Name | None
    answer_figures: dict[str, JsonValue] | None
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

    def is_repaired(self, rung: RungView) -> bool:
        """Whether a repaired system represents the rung: it was tested once, and its test does not go on."""
        return any((one.rung, one.system) == (rung.name, rung.chosen) for one in self.repairs)

    @property
    def winner_verdict(self) -> Outcome | None:
        """Of the winner's own test against the bar; None where there is no winner."""
        if self.winner is None or self.winner.path is None:
            return None
        return next((one.test.verdict for one in self.rungs if one.name == self.stopped_at and one.test), None)

    @property
    def winner_ungated(self) -> bool:
        """Whether the winner was tuned and no gate ran."""
        if self.winner is None or self.winner.path is None:
            return False
        return any(one.name == self.stopped_at and trains(one.name) and one.gate is None for one in self.rungs)

    @property
    def open_rungs(self) -> tuple[str, ...]:
        """Those whose test ended UNDECIDED."""
        return tuple(rung.name for rung in self.rungs if rung.test is not None and rung.test.verdict == "UNDECIDED")

    @property
    def decided(self) -> bool:
        return self.verdict is not None
