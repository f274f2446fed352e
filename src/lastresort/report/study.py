"""What a study found as one JSON document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lastresort.evals.evidence.crossing import CrossingKind
from lastresort.evals.evidence.learning_curve import WhyNoForecast
from lastresort.records.document import (
    Amount,
    Count,
    Difference,
    Interval,
    JsonDocument,
    Limits,
    OpenShare,
    Positive,
    Sentence,
    Share,
)
from lastresort.records.gate import SuiteVerdict
from lastresort.types import GateVerdict, StudyGate, Unit

CrossedIn = Literal["score", "format", "cost"]
BetterArm = Literal["ORPO", "DPO", "CANNOT_TELL"]
RowsEffect = Literal["BETTER", "WORSE", "CANNOT_TELL"]
OtherRows = Literal["both", "synthetic"]
Sign = Literal["DEV_LOSS_ROSE", "FORMAT_LEAK", "FAR_FROM_BASE"]


class DevUnits(JsonDocument):
    """dev items, or groups of them, that the statistics count. No test item was measured."""

    n: Positive
    unit: Unit
    split: Literal["dev"] = "dev"


class CurvePoint(JsonDocument):
    """A way on n examples, over its seeds. interval: of the score at 95%, over items and seeds, null with one seed of a way that
    learns. format: answers in the task's form, null where it asks for none. shots: the most that a prompt showed. read_tokens:
    of a prompt, without a beginning that all share and that a server keeps; null where costs are not compared. usd: of a call, null
    where the task names no price.
    """

    way: str
    n: Count
    seeds: Positive
    score: Share
    interval: Limits
    format: Share | None
    shots: Count
    prompt_tokens: Amount
    read_tokens: Amount | None
    answer_tokens: Amount
    usd: Amount | None


class StudyCrossing(JsonDocument):
    """Where SFT passes another way, in examples. BEFORE: it is better at every size, from `high` on. BEYOND: worse at every size,
    up to `low`. WITHIN: worse at each size up to `low` and better at each from `high` on, either of them null where that is not
    shown; `at` is the estimate between them. FALLS: better up to `low`, worse from `high` on. CANNOT_TELL: nothing is shown.
    """

    way: str
    what: CrossedIn
    kind: CrossingKind
    at: Amount | None
    low: Amount | None
    high: Amount | None


class TokenTimes(JsonDocument):
    """Seconds that a model takes for a token, as one of many."""

    read_s: Amount
    write_s: Amount


class CallTimes(JsonDocument):
    """By which the tokens of a call are priced, timed once. prompting: null where the prompts are paid by their tokens. What
    is said of two ways holds, too, where any of these is off by up to `factor`.
    """

    sft: TokenTimes
    prompting: TokenTimes | None
    factor: Amount


class MeanDifference(JsonDocument):
    """The second way minus the first, the mean over units and seeds, with its interval at 95%."""

    mean: Difference
    interval: Interval


class ComparedInstruction(JsonDocument):
    """An instruction that a climb optimised, which the way "optimised" asks zero-shot. rows: of train, from which it was written.
    difference: SFT on the most examples minus this way. No verdict rests on it: the climb raced the instruction on dev.
    """

    instruction: Sentence
    rows: Positive
    difference: MeanDifference


class CrossoverDocument(JsonDocument):
    """What `lastresort study crossover TASK` prints with --json, and its study.json. It grows by version.

    optimised: of the optimised prompt, whose point has as many examples as its instruction was written from. Null where none was
    named. call_times: null where costs are not compared.
    """

    version: Literal[2] = Field(default=2, alias="schema")
    study: Literal["crossover"] = "crossover"
    task: str
    model: str
    tuned: str
    method: str
    learning_rate: Amount
    measured_on: DevUnits
    sizes: tuple[Positive, ...]
    seeds: Positive
    call_times: CallTimes | None
    answer: Sentence
    points: tuple[CurvePoint, ...]
    crossings: tuple[StudyCrossing, ...]
    optimised: ComparedInstruction | None
    reasons: tuple[Sentence, ...]
    notes: tuple[Sentence, ...]
    seconds: Amount


class TrainedPoint(JsonDocument):
    """Trainings on n examples, one a seed. difference: of the score to that of the base prompt, with its interval at 95%. p: the
    largest over the seeds, of "better than the base prompt". shown: so are all, here and at every larger size. dev_loss,
    train_loss: nats per target token. kept: unrelated requests answered correctly. signs: of what else the
    trainings changed.
    """

    n: Positive
    seeds: Positive
    score: Share
    interval: Limits
    difference: Difference
    difference_interval: Interval
    p: Share
    shown: bool
    dev_loss: float
    train_loss: float
    kl: float | None
    prose: Amount | None
    kept: Share | None
    signs: tuple[Sign, ...]


class BasePoint(JsonDocument):
    """The base prompt, which has no example."""

    score: Share
    interval: Limits
    kept: Share | None


class GainForecast(JsonDocument):
    """times: of the examples of the largest size, `more` on top of these. gain: in score, with its interval at 95%."""

    times: Positive
    more: Positive
    gain: Difference
    interval: Interval


class CurveForecast(JsonDocument):
    """The fit of the error, 1 less the score. level: below which no number of examples leads. exponent: null if it is reached."""

    kind: Literal["FORECAST"] = "FORECAST"
    level: Share
    exponent: Amount | None
    now: Share
    after: tuple[GainForecast, ...]


class NoCurveForecast(JsonDocument):
    kind: Literal["CANNOT_TELL"] = "CANNOT_TELL"
    reason: WhyNoForecast


class MinDataDocument(JsonDocument):
    """What `lastresort study min-data TASK` prints with --json, and its study.json. It grows by version.

    shifted: the smallest size from which on every training beats the base prompt; clean: the smallest of these from
    which on none has a sign. level: the largest probability of naming a size at which some training gains nothing.
    """

    version: Literal[1] = Field(default=1, alias="schema")
    study: Literal["min-data"] = "min-data"
    task: str
    model: str
    method: str
    learning_rate: Amount
    measured_on: DevUnits
    sizes: tuple[Positive, ...]
    seeds: Positive
    level: OpenShare
    answer: Sentence
    base: BasePoint
    points: tuple[TrainedPoint, ...]
    shifted: Positive | None
    clean: Positive | None
    curve: Annotated[CurveForecast | NoCurveForecast, Field(discriminator="kind")]
    curve_text: Sentence
    notes: tuple[Sentence, ...]
    seconds: Amount


class GateSaid(JsonDocument):
    """What the gate says of one adapter, and why."""

    verdict: GateVerdict
    reason: Sentence


class ArmSeed(JsonDocument):
    """One seed. dpo, orpo: the dev scores of both ways. difference: ORPO minus SFT then DPO, on the same items, with its interval
    at 95%. dpo_gate, orpo_gate: null where no gate was run.
    """

    seed: Count
    dpo: Share
    orpo: Share
    difference: Difference
    interval: Interval
    dpo_gate: GateSaid | None
    orpo_gate: GateSaid | None


class GatedMeasure(JsonDocument):
    """A measure that the gate tested with every seed. difference: tuned minus base, the mean over the seeds, with its interval at
    95%. verdicts: by seed.
    """

    name: Sentence
    difference: Difference
    interval: Interval
    verdicts: tuple[SuiteVerdict, ...]


class ArmGate(JsonDocument):
    """What the gate says of a way. verdicts: by seed. untested: names of measures that were left out, or that say nothing of this
    base, with some seed.
    """

    verdicts: tuple[GateVerdict, ...]
    measures: tuple[GatedMeasure, ...]
    untested: tuple[Sentence, ...]


class ArmWork(JsonDocument):
    """What a way computed, the mean over the seeds. sft_steps: of the SFT before DPO. steps: of DPO, or of ORPO. trained_tokens:
    that went forward and backward. reference_tokens: that went forward through the reference. tokens: the former and half of the
    latter.
    """

    sft_steps: Amount
    steps: Amount
    trained_tokens: Amount
    reference_tokens: Amount
    tokens: Amount


class ComputeShare(JsonDocument):
    """share: what ORPO computed of what SFT then DPO did, means over the seeds. equal: whether each seed's ORPO computed at most as
    much, and less by under two of its steps.
    """

    share: Amount
    equal: bool


class ArmSettings(JsonDocument):
    """What the answer is about. loraplus_lr_ratio: of all three trainings. dpo_beta, in 1/nats, and orpo_weight, without unit: both
    are `preference.beta`, unless it is auto.
    """

    sft_rate: Amount
    dpo_rate: Amount
    orpo_rate: Amount
    loraplus_lr_ratio: Amount
    dpo_beta: Amount
    orpo_weight: Amount


class ArmPoint(JsonDocument):
    """The prompt of the base, SFT then DPO ("dpo"), or ORPO ("orpo"), over its seeds. preferred: pairs held out of which the chosen
    answer is likelier by the log odds of a token. margin: by how much, in nats. kept: unrelated requests answered correctly. kl,
    prose: how far from the base. signs: of what else the training changed. work, gate: null of the base. null: not measured.
    """

    way: str
    score: Share
    interval: Limits
    preferred: Share | None
    margin: float | None
    answer_tokens: Amount
    kept: Share | None
    kl: float | None
    prose: Amount | None
    work: ArmWork | None
    gate: ArmGate | None
    signs: tuple[Sign, ...]


class OrpoVsDpoDocument(JsonDocument):
    """What `lastresort study orpo-vs-dpo TASK` prints with --json, and its study.json. It grows by version.

    better: the way whose score on dev is shown to be higher. difference: of these scores. preferred: of the pairs held out, null
    where their prompts are fewer than two. pairs, held_pairs, left_out: learned from, held out, and not fit to train on.
    chosen_tokens: of a chosen answer, on average, without the token that ends it. gate: of each adapter, null where none was run.
    """

    version: Literal[2] = Field(default=2, alias="schema")
    study: Literal["orpo-vs-dpo"] = "orpo-vs-dpo"
    task: str
    model: str
    method: str
    measured_on: DevUnits
    pairs: Positive
    held_pairs: Count
    left_out: Count
    seeds: Positive
    settings: ArmSettings
    compute: ComputeShare
    better: BetterArm
    difference: MeanDifference
    preferred: MeanDifference | None
    answer: Sentence
    points: tuple[ArmPoint, ...]
    by_seed: tuple[ArmSeed, ...]
    chosen_tokens: Amount
    gate: StudyGate | None
    reasons: tuple[Sentence, ...]
    notes: tuple[Sentence, ...]
    seconds: Amount


class RowsDifference(JsonDocument):
    """A training on "both" or "synthetic" rows minus one on real rows alone: the mean difference of scores on dev over units and
    seeds, with its interval at 95%. tested: whether the comparison before it shows something; where it does not, the effect of this
    one is CANNOT_TELL, whatever its interval is.
    """

    way: OtherRows
    mean: Difference
    interval: Interval
    tested: bool
    effect: RowsEffect


class SourceSeed(JsonDocument):
    """One seed. real, synthetic, both: the dev scores of the three trainings. difference: both minus real rows alone, on the same
    items, with its interval at 95%.
    """

    seed: Count
    real: Share
    synthetic: Share
    both: Share
    difference: Difference
    interval: Interval


class SourceTraining(JsonDocument):
    """steps: of each training. passes: how often it saw each row. steps_in_epochs: that the task's epochs take on these rows.
    train_loss, dev_loss: nats per target token, means over the seeds.
    """

    steps: Positive
    passes: Amount
    steps_in_epochs: Positive
    train_loss: float
    dev_loss: float


class RowsPoint(JsonDocument):
    """Trainings on "real" rows, "synthetic" ones or "both", or the base prompt, which has no training. rows: learned from. kept:
    unrelated requests answered correctly, null where they were not measured. signs: of what else training changed.
    """

    way: str
    rows: Count
    score: Share
    interval: Limits
    training: SourceTraining | None
    kept: Share | None
    signs: tuple[Sign, ...]


class SyntheticDocument(JsonDocument):
    """What `lastresort study synthetic TASK` prints with --json, and its study.json. It grows by version.

    effect: of the synthetic rows on top of the real ones. differences: both, then synthetic rows alone, in the order in which they
    are tested. left_out: rows of train that give dev or test away.
    """

    version: Literal[1] = Field(default=1, alias="schema")
    study: Literal["synthetic"] = "synthetic"
    task: str
    model: str
    method: str
    learning_rate: Amount
    measured_on: DevUnits
    left_out: Count
    seeds: Positive
    epochs: Positive
    effect: RowsEffect
    differences: tuple[RowsDifference, RowsDifference]
    answer: Sentence
    points: tuple[RowsPoint, ...]
    by_seed: tuple[SourceSeed, ...]
    reasons: tuple[Sentence, ...]
    notes: tuple[Sentence, ...]
    seconds: Amount


StudyDocument = CrossoverDocument | MinDataDocument | OrpoVsDpoDocument | SyntheticDocument
SIGNS: dict[Sign, str] = {
    "DEV_LOSS_ROSE": "dev loss rose",
    "FORMAT_LEAK": "format leak",
    "FAR_FROM_BASE": "far from the base",
}
