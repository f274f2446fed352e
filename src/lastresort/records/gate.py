"""What a gate finds, as `gate.json` and the decision of a climb hold it: measures of suites, the target, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from lastresort.ladder import trains
from lastresort.records.document import (
    Amount,
    Count,
    Difference,
    Interval,
    JsonDocument,
    Positive,
    ReuseView,
    Sentence,
    Sha256,
    Share,
)
from lastresort.records.uninformative import WhyUninformative
from lastresort.types import GateVerdict, Judgement, Outcome, Unit

VERSION: Literal[5] = 5  # of gate.json
GENERAL = "general"
WORTH = 0.5  # general points lost for each point won on the target, from which on the trade is not worth it

SuiteVerdict = Literal["NON_INFERIOR", "REGRESSED", "UNDERPOWERED", "UNINFORMATIVE", "SKIPPED"]
ModeName = Literal["forgetting", "sycophancy", "format_overfitting"]
MODES: dict[str, ModeName] = {  # by suite
    "general": "forgetting",
    "sycophancy": "sycophancy",
    "format_leak": "format_overfitting",
}


class StratumScores(JsonDocument):
    """A part of a measure, shown and never voted. base, tuned: mean scores of its n items."""

    name: str
    base: Share
    tuned: Share
    n: Count


class Look(JsonDocument):
    """A measure after `items` of its suite were asked, of which n said something. p, p_regressed: by looking so far, with its share
    of the error.
    """

    items: Count
    n: Count
    p: Share
    p_regressed: Share


class LookedAt(JsonDocument):
    """How a measure was tested as its items came. items: asked of its suite when it was over. most: that might have been asked.
    fixed: after how many the test of a fixed size counts, too. given_up: whether it ended because more were unlikely to decide.
    """

    items: Count
    most: Count
    fixed: Count
    given_up: bool
    looks: tuple[Look, ...]

    @property
    def ended_early(self) -> bool:
        return self.items < self.most


class ItemsAsked(JsonDocument):
    """Of a suite, which its measures share.

    version: of the suite. items: that were asked. left_out: of these, items for which one of the contexts has no room. passed_over:
    not drawn, since a training row says the same. pilot_items: asked of the base beforehand, never scored.
    """

    version: Positive
    items: Count
    left_out: Count
    passed_over: Count
    pilot_items: Count


class ChangedItem(JsonDocument):
    """An item that the two answered otherwise, side by side. question: which of the item's questions."""

    id: str
    stratum: str
    asked: str
    question: str
    base: str
    tuned: str
    base_score: Share
    tuned_score: Share
    detail: str

    @property
    def improved(self) -> bool:
        return self.tuned_score > self.base_score


class _Measure(JsonDocument):
    """One measure of a suite, tuned against base on the same items.

    suite: whose margin the task's `keep` names. margin: the largest loss that is accepted, on the measure's own scale. base, tuned:
    mean scores, higher is better in every measure. difference: tuned - base, interval: its limits at confidence 1 - 2 alpha.
    n: items that count, or groups. n_needed: those that would decide with probability .8 if the difference seen is the true one;
    None where the verdict stands, or where that is more than ten times n. p: of "the loss is smaller than the margin".
    p_regressed: of "the loss is larger", before Holm. loss_seen: a loss is shown, of whatever size. spread: mean squared
    difference, of 0/1 scores the share of items that differ, from which another gate is planned. binary: whether scores are 0 or
    1. strata: shown, never voted. looked_at: None where all items were asked before it was tested. why: of an UNINFORMATIVE.
    reason: the verdict in words, with its figures. asked: None where it was not asked here. changed: those whose score fell most,
    then those whose score rose most. notes: on how lm-eval scored it, such as which of several metrics counts.
    """

    name: Sentence
    suite: Sentence
    verdict: SuiteVerdict
    margin: Share | None = None
    base: Share | None = None
    tuned: Share | None = None
    difference: Difference | None = None
    interval: Interval | None = None
    n: Count = 0
    n_needed: Positive | None = None
    p: Share | None = None
    p_regressed: Share | None = None
    loss_seen: bool = False
    spread: Amount | None = None
    binary: bool = True
    unit: Unit = "item"
    strata: tuple[StratumScores, ...] = ()
    looked_at: LookedAt | None = None
    why: tuple[WhyUninformative, ...] = ()
    reason: str = ""
    asked: ItemsAsked | None = None
    changed: tuple[ChangedItem, ...] = ()
    notes: tuple[Sentence, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict in ("NON_INFERIOR", "SKIPPED")


class TestedMeasure(_Measure):
    """Its loss was tested against the margin."""

    __test__ = False  # the name is no test's

    verdict: Literal["NON_INFERIOR", "REGRESSED", "UNDERPOWERED"]
    margin: Share
    base: Share
    tuned: Share
    difference: Difference
    interval: Interval
    p: Share
    p_regressed: Share


class UninformativeMeasure(_Measure):
    """It can say nothing of this base. Figures are those of the items that were asked all the same, if any."""

    verdict: Literal["UNINFORMATIVE"] = "UNINFORMATIVE"
    why: tuple[WhyUninformative, ...] = Field(min_length=1)


class SkippedMeasure(_Measure):
    """The task leaves it out with `keep: {SUITE: skip}`."""

    verdict: Literal["SKIPPED"] = "SKIPPED"
    margin: None = None
    base: None = None
    tuned: None = None
    difference: None = None
    interval: None = None
    n_needed: None = None


SuiteFound = TestedMeasure | UninformativeMeasure | SkippedMeasure


class _Target(JsonDocument):
    """The task itself: does the tuned system meet the bar, and is it worth more than the best prompt?

    outcome, score, n, n_needed: of the test of the bar, which may have stopped early. judged_score: of the judge, where people's
    labels correct it; score is then the corrected one, and all others are the judge's. comparator: the best prompt's system.
    comparator_score, tuned_score: means over all n_compared items. gain: tuned - comparator, interval: its limits at confidence
    1 - 2 alpha. better: shown to be better, p_better its p. non_inferior: shown to lose less than `margin`, asked only where it is
    not better. cheaper: per call, None where that cannot be told. by: what speaks for it, None where nothing does.
    """

    passed: bool | None
    outcome: Outcome | None = None
    score: Share | None = None
    judged_score: Share | None = None
    n: Count = 0
    n_needed: Positive | None = None
    comparator: str | None = None
    comparator_score: Share | None = None
    tuned_score: Share | None = None
    n_compared: Count = 0
    gain: Difference | None = None
    interval: Interval | None = None
    p_better: Share | None = None
    better: bool | None = None
    non_inferior: bool | None = None
    margin: Share | None = None
    cheaper: bool | None = None
    by: Literal["better", "cheaper", "bar"] | None = None
    unit: Unit = "item"
    reason: str = ""


class TargetNotAsked(_Target):
    """The gate asks only what else the model can do."""

    passed: None = None
    outcome: None = None
    score: None = None
    comparator: None = None
    tuned_score: None = None
    gain: None = None
    interval: None = None


class TargetAtBar(_Target):
    """The bar alone decides: there was no prompt to compare with."""

    passed: bool
    outcome: Outcome
    score: Share
    comparator: None = None
    comparator_score: None = None
    tuned_score: None = None
    gain: None = None
    interval: None = None


class TargetCompared(_Target):
    """Also compared with the best prompt, on all n_compared items."""

    passed: bool
    outcome: Outcome
    score: Share
    comparator: str
    comparator_score: Share
    tuned_score: Share
    gain: Difference
    interval: Interval
    p_better: Share
    better: bool
    margin: Share


TargetFound = TargetNotAsked | TargetAtBar | TargetCompared


class ExampleTurn(JsonDocument):
    role: str
    content: str


class ItemExample(JsonDocument):
    """One of the items, as the base was asked. options: of which the likeliest is the answer; none where it is asked for in
    words.
    """

    id: str
    turns: tuple[ExampleTurn, ...] = Field(min_length=1)
    options: tuple[str, ...]


class FailureModePart(JsonDocument):
    """base, tuned: mean scores on these n items, higher is better. name: of the family of items, or of the condition. subject: what
    they ask about. constraint: whether the subject is what an answer has to keep.
    """

    name: Sentence
    subject: Sentence
    constraint: bool
    base: Share
    tuned: Share
    n: Count
    example: ItemExample


class FailureMode(JsonDocument):
    """A way in which tuning breaks what nobody trained for, by the parts of its suite: shown, never judged.

    suite: which shows it; its measures are among `suites`. parts: by family of questions, or by condition in which they are asked;
    none where the suite was left out.
    """

    name: ModeName
    suite: Sentence
    parts: tuple[FailureModePart, ...]


class GateForecast(JsonDocument):
    """Of what was to be asked after the pilot, both models together: at most, and about how much where nothing is lost and half as
    many answers differ as the sizes allow for.
    """

    items: Count
    seconds: Amount
    expected_items: Count
    expected_seconds: Amount


class GateSpent(JsonDocument):
    """seconds, tokens_in, tokens_out: of asking both models the suites, whenever that was. asked_now: items that were asked just
    now; the others were kept from before.
    """

    seconds: Amount = 0.0
    asked_now: Count = 0
    tokens_in: Count = 0
    tokens_out: Count = 0


class Fingerprints(JsonDocument):
    base: str
    tuned: str


class GateConclusion(JsonDocument):
    """reasons: the decisive ones first. would_decide: what would turn a HOLD into an answer. alpha: the error of the gate, .05
    alone and .025 if a second may follow. power: what each measure was planned for.
    """

    verdict: GateVerdict
    reasons: tuple[Sentence, ...] = Field(min_length=1)
    would_decide: tuple[Sentence, ...]
    alpha: Share
    power: Share
    target: TargetFound
    suites: tuple[SuiteFound, ...] = Field(min_length=1)

    @property
    def costly(self) -> bool:
        """Whether what was lost in general is more than half of what was won."""
        return pays_too_much(lost_in_general(self.suites), self.target)


class GateFindings(GateConclusion):
    """With what was asked; the suites with what changed most."""

    failure_modes: tuple[FailureMode, ...]
    forecast: GateForecast
    spent: GateSpent
    fingerprints: Fingerprints


class _OfClimb(JsonDocument):
    rung: str
    system: str
    mode: Literal["quick", "full"]
    seed: Count
    artefact_sha256: Sha256 | None


class ClimbGate(GateFindings, _OfClimb):  # fields of the last base come first
    """The gate of the system that a rung of a climb chose.

    seed: of the items that were scored. artefact_sha256: of the saved system that was examined: system.yaml without paths, shots,
    adapter or own weights. The winner/ has the same, while winner.sha256 is over every file there as it lies.
    """


class Tuned(JsonDocument):
    """kind: an adapter on the base, a whole model, the winner of a run, or what another tool wrote about a model."""

    name: str
    kind: Literal["adapter", "model", "winner", "logs"]


class Provenance(JsonDocument):
    versions: dict[str, str]
    hashes: dict[str, str]
    machine: dict[str, str | int]


class _Alone(JsonDocument):
    version: Literal[5] = Field(default=VERSION, alias="schema")
    task: str
    base: str
    tuned: Tuned
    mode: Literal["quick", "full", "logs"]
    seed: Count
    artefact_sha256: Sha256 | None
    bar: Share | None
    notes: tuple[Sentence, ...]
    provenance: Provenance


class GateDocument(GateFindings, _Alone):
    """What `lastresort gate TASK --base M --tuned A`, or `--from-logs BASE TUNED`, writes as gate.json and prints with --json:
    whether the tuned model is better and nothing else broke. It grows by version.

    task: its name; "logs" where logs were compared and no task was named. base: the base model, or its logs, as it was named.
    mode: quick asks a bounded number of items, which can cost power and nothing else; full as many as its margins take;
    logs the items that both logs hold.
    artefact_sha256: null where no saved system was named. bar: of the task; null where logs were compared.
    """

    test_reuse: ReuseView | None


def is_uncleared(gates: Sequence[ClimbGate], rung: str, system: str) -> bool:
    """Whether the newest gate of this system says other than SHIP, or, where it was trained, no gate has seen it."""
    verdicts = [gate.verdict for gate in gates if (gate.rung, gate.system) == (rung, system)]
    return verdicts[-1] != "SHIP" if verdicts else trains(rung)


def stands(first: GateVerdict, first_test: Judgement, second: GateVerdict, second_test: Judgement) -> bool:
    """Whether the repaired system takes the place of the first. first, second: verdicts of their gates.

    SHIP always does. HOLD does in place of a rejected one; in place of a held one where its test of the bar says no less.
    """
    if second != "HOLD" or first == "REJECT":
        return second != "REJECT"
    return second_test.outcome == first_test.outcome or second_test.outcome == "MET"


def lost_in_general(suites: Sequence[SuiteFound]) -> float:
    """The largest loss that was seen in a measure of general ability; below 0 where all were won."""
    lost = [-found.difference for found in suites if found.suite == GENERAL and found.difference is not None]
    return max(lost, default=0.0)


def pays_too_much(lost: float, target: TargetFound) -> bool:
    """Whether a general loss is more than half of what was won. A system that passed for being cheaper was bought with no
    points.
    """
    return target.by == "better" and target.gain is not None and lost > WORTH * target.gain
