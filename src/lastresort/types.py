"""The few values that three or more folders exchange. All frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePath
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject = dict[str, Json]  # what a file or a request of another program's format is made of
Role = Literal["system", "user", "assistant", "tool"]
ReasoningEffort = Literal["minimal", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. extra: further keys of the row (tool_calls, name, …), passed to the chat template."""

    role: Role
    content: str
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True, slots=True)
class SeedPassage:
    """A passage of the task's documents that a synthetic row was made from. start, end: characters of the document's text,
    0 <= start <= end. text_hash: see `held_passages.passage_hash`. Raises ValueError for other ones.
    """

    document: str
    section: str
    start: int
    end: int
    text_hash: str

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a passage from character {self.start} to {self.end}")


def row_named(row: int, line: int) -> str:
    """`row 13 (line 17)`. line: on which the row of a table begins, 0 where that says no more than the row."""
    return f"row {row} (line {line})" if line else f"row {row}"


def row_of_file(row: int, line: int, file: str) -> str:
    """`row 13 (line 17) of rows.csv`. file: its path, of which the name is said; "" for none."""
    return f"{row_named(row, line)} of {PurePath(file).name}" if file else row_named(row, line)


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled item of a task.

    input: the conversation up to the answer; a row with `input` is a single user turn. output: the right answer as text
    (an object is written as compact JSON, keys in their order). row: 1-based row of `source`, for errors. line: on which the row of
    a table begins, 0 elsewhere. seeds: of a synthetic row the hashes of the inputs that it was made from
    (`duplicates.input_hash`), empty if unknown; None for another row. seed_passage: the passage that it was made from, None without
    one. stripped: the output's cell has spaces around it, which are left out.
    """

    id: str
    input: tuple[Message, ...]
    output: str
    group: str | None = None
    passages: tuple[str, ...] = ()
    row: int = 0
    source: str = ""
    seeds: tuple[str, ...] | None = None
    seed_passage: SeedPassage | None = None
    stripped: bool = False
    line: int = 0

    @property
    def synthetic(self) -> bool:
        return self.seeds is not None

    @property
    def place(self) -> str:
        """Where it is, for errors."""
        if not self.source:
            return f"example {self.id}"
        return f"{self.source}, {row_named(self.row, self.line)}"

    @property
    def input_text(self) -> str:
        """The turns joined by newlines, to compare items with; a model gets the turns themselves."""
        return "\n".join(m.content for m in self.input)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer may look like. Exactly one of the fields is set."""

    json_schema: dict[str, Any] | None = None
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an answer is sampled. temperature 0 is greedy. stop: strings that end the answer and are cut from it.

    reasoning_effort: how long an endpoint's model thinks before it answers, None to leave that to the model. max_new_tokens counts
    the answer alone.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    seed: int = 0
    reasoning_effort: ReasoningEffort | None = None

    def as_dict(self) -> dict[str, Any]:
        """The key of cached answers. An effort that is not set is no part of it, as it is no part of what is asked."""
        body = {one.name: getattr(self, one.name) for one in fields(self)}  # asdict copies what cannot change
        body["grammar"] = None if self.grammar is None else asdict(self.grammar)
        if self.reasoning_effort is None:
            del body["reasoning_effort"]
        return body


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one prompt. finish: "stop" (it ended by itself) or "length" (it was cut).

    seconds: this answer's share of the time of its batch. usd: what the answer costs, 0 for local models. passages: ids of those
    that were in the prompt, in their order; models leave it empty, a system that looks things up fills it. paid: USD that it cost
    now, 0 from the cache.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: Literal["stop", "length"]
    seconds: float = 0.0
    usd: float = 0.0
    passages: tuple[str, ...] = ()
    paid: float = 0.0


Outcome = Literal["MET", "NOT_MET", "UNDECIDED"]
Unit = Literal["item", "group"]
GateVerdict = Literal["SHIP", "HOLD", "REJECT"]
ReplayPrompts = Literal["everyday", "wide"]
ReplayLoss = Literal["likelihood", "kl"]
GoOnAbout = Literal["cost", "curve"]  # of a rung that asks whether to go on: what it costs, what its first third shows
GateMode = Literal["quick", "full", "none"]  # of the gates of a climb
StudyGate = Literal["quick", "full"]  # of what a study trained
AdapterKind = Literal["lora", "rslora", "dora", "none"]
AdapterChoice = Literal["lora", "rslora", "dora", "qlora", "full"]
WayName = Literal["lora", "qlora", "full", "merged", "nf4"]  # of training, to compare
StudyKind = Literal["crossover", "min-data", "orpo-vs-dpo", "synthetic"]


@dataclass(frozen=True, slots=True)
class VerdictBasis:
    """Which rule gave a verdict, and the limit of the score that it showed.

    by: "sequence", the evidence looked at after every unit, "exact", the binomial test at the last item, which is
    sharper because it is made once, or "continued", the parts of a test that went on, which show no more than the bar.
    error: the rate at which the rule errs. limit: the true score is at least this (MET) or at most this (NOT_MET), at
    that error; never on the wrong side of the bar.
    """

    by: Literal["sequence", "exact", "continued"]
    error: float
    limit: float


FARTHEST = 10  # test sets: how many items would decide is not estimated beyond, nor at the bar itself


@dataclass(frozen=True, slots=True)
class MoreUnits:
    """The chance of each verdict if an UNDECIDED test of the bar goes on with n fresh units."""

    n: int
    met: float
    not_met: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """How far an UNDECIDED is from a verdict.

    seen_share: units seen / units needed; None where n_needed is. after: as many units again, and those missing to n_needed, the
    fewer first. Of a test that never goes on, seen_share is None and after is empty. claimable: the highest bar that the units
    seen show to be met, at this error. error: of a false MET.
    """

    seen_share: float | None
    after: tuple[MoreUnits, ...]
    claimable: float
    error: float


@dataclass(frozen=True, slots=True)
class PartOfTest:
    """Of a test of the bar that went on: the test set, or a file of fresh items, with the errors at which it was judged."""

    n_used: int
    n_available: int
    score: float
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class LabelledRates:
    """What a judge of right and wrong said of the answers that people call right, and of those that they call wrong."""

    right: int
    right_accepted: int
    wrong: int
    wrong_accepted: int


@dataclass(frozen=True, slots=True)
class JudgedBar:
    """What a judge said where the verdict is on the score corrected by people's labels.

    score, interval: of the judge. met_above, not_met_below: the judged scores that a system at or below the bar stays below, and
    one at or above it stays above, as far as the labels show. labels_needed: labelled cases that would let an UNDECIDED be decided
    that no number of items decides; None where it is not needed, or not to be told. estimated: whether the labels give an estimate
    of the true score; else the judge's is given. explained: whether any true score fits; else the labels are not like the test.
    """

    score: float
    interval: tuple[float, float]
    met_above: float
    not_met_below: float
    labels_needed: int | None = None
    estimated: bool = True
    explained: bool = True

    @property
    def corrects(self) -> bool:
        """Whether the labels correct this score: else it says nothing of the bar."""
        return self.estimated and self.explained

    @property
    def is_open(self) -> bool:
        """Whether the labels leave open on which side of the bar this score is."""
        return not self.explained or self.not_met_below <= self.score <= self.met_above


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a test of the bar found.

    unit: what n_used, n_available and n_needed count, and what the score is the mean of. interval: the confidence sequence of the
    score at 1-2a, which the rule that decided can be sharper than. n_needed: units that would decide an UNDECIDED, those seen
    included if its test can go on, else of a new test; None if unknown or not needed. decided: None where the verdict is UNDECIDED.
    outlook: None where it is not, or outside a climb. parts: of a test that went on with fresh items, the test set first, and all
    figures are of the parts together; empty where it did not. judged: what the judge said, where labels correct it; score, interval
    and limits are then the corrected ones, but those of parts are the judge's.
    """

    outcome: Outcome
    score: float
    n_used: int
    n_available: int
    interval: tuple[float, float]
    n_needed: int | None = None
    unit: Unit = "item"
    decided: VerdictBasis | None = None
    outlook: Outlook | None = None
    parts: tuple[PartOfTest, ...] = ()
    judged: JudgedBar | None = None


@dataclass(frozen=True, slots=True)
class BarSoFar:
    """A test of the bar before its verdict. n: units so far. interval: the confidence sequence of the score."""

    n: int
    score: float
    interval: tuple[float, float]
    bar: float


@dataclass(frozen=True, slots=True)
class MeasureSoFar:
    """A measure of a gate between two looks. n: its items so far, of at most `most` that its suite asks. base, tuned: mean scores.

    state: what looking has shown by then; "open" where more is asked, "at its end" where the test of a fixed size has the word.
    """

    name: str
    n: int
    most: int
    base: float
    tuned: float
    state: Literal["open", "no loss", "loss", "at its end"]


LEAST_BATCHES = 24  # of a first epoch, after the warm-up, from which a learning curve is continued

WhyNoCurve = Literal["FEW_BATCHES", "NOT_FALLING", "OTHER_FORM", "TOO_WIDE"]


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Why no learning curve says what more examples would do. batches: points that there were."""

    because: WhyNoCurve
    batches: int


@dataclass(frozen=True, slots=True)
class LossAt:
    """With so many times the examples, the loss on unseen ones as a share of the loss now, with its 95% interval."""

    times: int
    share: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class MoreExamples:
    """n: examples seen at the end of the learning curve. loss: there, as fitted, in nats a token."""

    n: int
    loss: float
    after: tuple[LossAt, ...]


SelectionRule = Literal["HIGHEST", "ONLY", "WITHIN_ONE_ITEM", "NON_INFERIOR", "MILDEST"]


@dataclass(frozen=True, slots=True)
class Selection:
    """The variant that goes to the test, and why. score: its own on n dev items. best: the variant with the highest score, which
    this one replaces because it is cheaper; None where it is the best itself. p: of "it loses less than `margin` against the best".
    distance: from the base, in nats a token, where it moved least of the `likely` ones, which are likely to meet the bar. tied:
    others with the same score, where it is the highest.
    """

    name: str
    rule: SelectionRule
    score: float
    n: int
    best: str | None = None
    best_score: float | None = None
    margin: float | None = None
    p: float | None = None
    distance: float | None = None
    likely: int | None = None
    tied: tuple[str, ...] = ()


class Progress(Protocol):
    """Where long-running work reports how far it is. `stage` starts a named piece of `total` units, None where that is unknown, of
    which `done` were done before.
    """

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None: ...
    def advance(self, amount: int = 1, note: str = "") -> None: ...
    def say(self, text: str) -> None: ...


@runtime_checkable
class CountsSteps(Progress, Protocol):
    """Progress that counts items unless it is told, once a stage has begun, that this one counts the steps of a training."""

    def count_steps(self) -> None: ...


@runtime_checkable
class HearsReading(Progress, Protocol):
    """Progress that also hears how many prompts of the stage are read and have no answer yet, by which it knows the time left."""

    def read(self, prompts: float) -> None: ...


class At(Protocol):
    """Where long-running work says which candidate, on which split, it is at; loss: of its training; test: of the bar, so far;
    gate: its measures after a look.
    """

    def __call__(
        self,
        rung: str,
        candidate: str = "",
        split: str = "",
        loss: float | None = None,
        test: BarSoFar | None = None,
        gate: tuple[MeasureSoFar, ...] = (),
    ) -> None: ...


def nowhere(*_: object, **__: object) -> None:
    """Discards all messages."""


class SilentProgress:
    """Discards what is reported."""

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None: ...
    def advance(self, amount: int = 1, note: str = "") -> None: ...
    def say(self, text: str) -> None: ...


SILENT = SilentProgress()


@dataclass(frozen=True, slots=True)
class LabelledProgress:
    """Puts a label in front of every stage."""

    progress: Progress
    label: str

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.progress.stage(f"{self.label}: {label}", total, done)

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.progress.advance(amount, note)

    def say(self, text: str) -> None:
        self.progress.say(text)


def adapter_choice(kind: AdapterKind, *, in_4_bits: bool) -> AdapterChoice:
    """As a training file names it: qlora is LoRA on a base in 4 bits, full trains all weights."""
    if kind == "none":
        return "full"
    return "qlora" if kind == "lora" and in_4_bits else kind
