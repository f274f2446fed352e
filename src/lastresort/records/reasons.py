"""Why a climb ended as it did, as values with their figures. `report.words` says them in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lastresort.records.data_report import RowsLeftOut
from lastresort.records.decision_parts import ComparisonRefusal, Crossing, Currency
from lastresort.records.document import Statement
from lastresort.records.events.training import DriftMeasured
from lastresort.records.gate_cause import GateCause, GateNeed
from lastresort.records.rungs import KnowledgeOutpacesTraining, Skip
from lastresort.types import CannotTell, GateVerdict, JudgedBar, Judgement, MoreExamples

# What `goal: cost` weighs


@dataclass(frozen=True, slots=True)
class NotOnLadder:
    """The task's ladder leaves out the rung with cheaper calls."""

    rung: str


@dataclass(frozen=True, slots=True)
class BeyondUntil:
    """The climb is limited to a rung below the one with cheaper calls."""

    until: str


@dataclass(frozen=True, slots=True)
class DoesNotApply:
    """The rung with cheaper calls is skipped."""

    rung: str
    why: Skip


Obstacle = NotOnLadder | BeyondUntil | DoesNotApply


@dataclass(frozen=True, slots=True)
class CostSaving:
    """Whether it is worth training a model that is not needed to reach the bar, for its cheaper calls alone.

    rung: whose system meets the bar. obstacle: what keeps the climb from training at all. missing: keys of the task file without
    which the costs do not compare. now: a call of that system, as measured. then, one_off: a call of the tuned one, and all that
    its rung would take, as planned. All three in `currency`, and None if unknown: where no key is missing, because the time of
    a call of the tuned model cannot be predicted. limit_months: within which training has to pay off.
    """

    rung: str
    goes_on: bool
    obstacle: Obstacle | None = None
    missing: tuple[str, ...] = ()
    currency: Currency | None = None
    now: float | None = None
    then: float | None = None
    one_off: float | None = None
    crossing: Crossing = "unknown"
    calls: int | None = None
    months: float | None = None
    calls_per_month: int | None = None
    limit_months: int = 12


# The answer to "should I fine-tune?"


@dataclass(frozen=True, slots=True)
class NothingApplies:
    """No rung of the ladder could be tested."""


@dataclass(frozen=True, slots=True)
class BarMet:
    """A rung meets the bar and wins. provisional: a rung below it is undecided. held: the gate holds the winner. ungated: it is
    tuned, and no gate ran.
    """

    rung: str
    score: float
    bar: float
    tuned: bool
    provisional: bool = False
    held: bool = False
    ungated: bool = False


@dataclass(frozen=True, slots=True)
class Leads:
    """No rung is shown to meet the bar; the last one scored at or above it and wins provisionally. held, ungated: as in
    `BarMet`.
    """

    rung: str
    score: float
    bar: float
    tuned: bool
    held: bool = False
    ungated: bool = False


@dataclass(frozen=True, slots=True)
class StillOpen:
    """The last undecided rung, where nothing wins. n_needed: None where it is too close to the bar to estimate, or where only
    labels for the judge would decide it: `judged` says which. ahead, ahead_score: the undecided rung below it that scored
    highest, if no lower than this one.
    """

    rung: str
    score: float
    bar: float
    n_needed: int | None
    unit: str
    judged: JudgedBar | None = None
    ahead: str | None = None
    ahead_score: float = 0.0


@dataclass(frozen=True, slots=True)
class GateRejected:
    """The gate rejected the tuned rungs. kept, kept_score: the best untuned rung, which wins; None where none was tested."""

    rejected: tuple[str, ...]
    bar: float
    kept: str | None
    kept_score: float


@dataclass(frozen=True, slots=True)
class NotFinished:
    """Every rung so far missed the bar, and the climb ended below the top of the ladder."""

    best: str
    score: float
    bar: float
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoneMet:
    """Every rung of the ladder missed the bar."""

    best: str
    score: float
    bar: float


@dataclass(frozen=True, slots=True)
class CheapestOfSeveral:
    """Several rungs meet the bar. first: the lowest. last: the highest. comparable: False where prices are missing. ungated: of the
    winner, as in `BarMet`.
    """

    first: str
    last: str
    last_wins: bool
    comparable: bool
    bar: float
    ungated: bool = False


Answer = NothingApplies | BarMet | Leads | StillOpen | GateRejected | NotFinished | NoneMet | CheapestOfSeveral

# The reasons under it


@dataclass(frozen=True, slots=True)
class PromptingLeftOut:
    """The task's ladder leaves out prompting, so nothing says whether it would be enough. Also a change: to test it."""


StopCode = Literal["MET", "COST_TRIED", "NO_SAVING", "COLLECT", "LEADS", "UNTIL", "TOP"]


UncountedCost = Literal["answer_price", "judge_time", "judge_price"]


@dataclass(frozen=True, slots=True)
class RungAhead:
    """The rung that would come next, with what it is forecast to take here; None for what is not known. uncounted: what is
    not in these figures, though the others are.
    """

    rung: str
    seconds: float | None = None
    usd: float | None = None
    uncounted: tuple[UncountedCost, ...] = ()


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why the climb went no higher than `at`. COST_TRIED: the bar was met lower down, and `at` was tried for its cost alone.
    NO_SAVING: with `goal: cost`, a higher rung was not tried for its cost. ahead: after UNTIL, the next rung that applies.
    """

    why: StopCode
    at: str
    ahead: RungAhead | None = None


@dataclass(frozen=True, slots=True)
class RungSkip:
    rung: str
    why: Statement


@dataclass(frozen=True, slots=True)
class RungResult:
    rung: str
    system: str
    test: Judgement
    bar: float


@dataclass(frozen=True, slots=True)
class GateDecided:
    rung: str
    verdict: GateVerdict
    cause: GateCause


@dataclass(frozen=True, slots=True)
class RepairsTried:
    """first: the verdict of the gate before. n, good: repairs tried, and how many were good. frozen: the best good one, with its
    test score and the verdict of its own gate, None where it missed the bar. wins: whether it takes the place of the first.
    """

    rung: str
    first: GateVerdict
    n: int
    good: int
    frozen: str | None = None
    score: float = 0.0
    gate: GateVerdict | None = None
    wins: bool = False


@dataclass(frozen=True, slots=True)
class NeighboursCompared:
    """Two tested rungs on the n items that both answered."""

    lower: str
    upper: str
    n: int
    lower_score: float
    upper_score: float


@dataclass(frozen=True, slots=True)
class SearchedOnDev:
    """How a rung that is not shown to meet the bar searched."""

    rung: str
    findings: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class InputsTooLong:
    """n test items that the model refused as too long, scored as wrong."""

    rung: str
    n: int


@dataclass(frozen=True, slots=True)
class AnswersMoved:
    """drift: how far preference training moved the answers, as the record holds it."""

    rung: str
    drift: DriftMeasured


@dataclass(frozen=True, slots=True)
class LongRowsLeftOut:
    """n training rows longer than the context."""

    n: int


@dataclass(frozen=True, slots=True)
class FewRows:
    """The rungs that learned from examples had n rows, fewer than advised."""

    rungs: tuple[str, ...]
    n: int
    advised: int


@dataclass(frozen=True, slots=True)
class ExamplesForecast:
    """What more examples would do for a rung that learned from them and is not shown to meet the bar. score, interval: of its
    test. replay: the share of general rows in the batches of the curve.
    """

    rung: str
    score: float
    interval: tuple[float, float]
    bar: float
    found: MoreExamples | CannotTell
    replay: float = 0.0


@dataclass(frozen=True, slots=True)
class InputsInDocuments:
    """n of n_test test inputs appear word for word in the documents."""

    n: int
    n_test: int


@dataclass(frozen=True, slots=True)
class NotGated:
    """A tuned system wins without a gate."""


@dataclass(frozen=True, slots=True)
class KeyIgnored:
    """A key of the task file that this version does not act on."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class ReplayKeyIgnored:
    """A key about replay in the section of a rung whose share of replay is 0. section: is called as the rung."""

    section: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class RowsShareSource:
    """rows that share one of n sources, though the task names no group: values of a column, or passages of the inputs where it is
    None. in_test: test items among them, of n_test.
    """

    column: str | None
    n: int
    rows: int
    in_test: int
    n_test: int


@dataclass(frozen=True, slots=True)
class RowsFromChangedPassages:
    """n synthetic rows in train were made from passages that are not in the documents as they were."""

    n: int


@dataclass(frozen=True, slots=True)
class NothingCompared:
    """A comparison of ways of training was requested and not started."""

    ways: tuple[str, ...]
    because: ComparisonRefusal


Reason = (
    PromptingLeftOut
    | Stopped
    | RungSkip
    | RungResult
    | GateDecided
    | RepairsTried
    | NeighboursCompared
    | SearchedOnDev
    | InputsTooLong
    | AnswersMoved
    | LongRowsLeftOut
    | FewRows
    | ExamplesForecast
    | InputsInDocuments
    | NotGated
    | KnowledgeOutpacesTraining
    | KeyIgnored
    | ReplayKeyIgnored
    | RowsLeftOut
    | RowsShareSource
    | RowsFromChangedPassages
    | NothingCompared
)

# What would change the answer


@dataclass(frozen=True, slots=True)
class MoreLabelledCases:
    """About n_needed labelled cases instead of n would let a rung be decided whose score a judge gives."""

    rung: str
    n_needed: int
    n: int


@dataclass(frozen=True, slots=True)
class BetterJudge:
    """What no number of items decides, as the labels do not show that the judge can tell. explained: False where they are not like
    the test's answers.
    """

    rung: str
    explained: bool


@dataclass(frozen=True, slots=True)
class MoreTestItems:
    rung: str
    n_needed: int
    n_available: int
    unit: str


@dataclass(frozen=True, slots=True)
class MilderTraining:
    """A system of this rung that loses less. repaired: repairs were tried already."""

    rung: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class LowerBar:
    """Up to `limit`, the evidence does not exclude that the cheaper rung meets the bar."""

    rung: str
    limit: float
    bar: float


@dataclass(frozen=True, slots=True)
class HigherBar:
    """Above `limit`, the evidence does not show that the winner meets the bar."""

    rung: str
    limit: float


@dataclass(frozen=True, slots=True)
class SkippedRung:
    rung: str
    why: Statement


@dataclass(frozen=True, slots=True)
class RestOfLadder:
    """rungs: not tried. on_ladder: whether the task's ladder names them."""

    rungs: tuple[str, ...]
    on_ladder: bool


@dataclass(frozen=True, slots=True)
class NewerModel:
    """A model that meets the bar when it is only prompted."""


@dataclass(frozen=True, slots=True)
class ChangedDocuments:
    """Documents other than those the run read."""


Change = (
    MoreLabelledCases
    | BetterJudge
    | MoreTestItems
    | GateNeed
    | MilderTraining
    | LowerBar
    | HigherBar
    | SkippedRung
    | PromptingLeftOut
    | RestOfLadder
    | NewerModel
    | ChangedDocuments
)
