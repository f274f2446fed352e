"""Events of a rung: searched on dev, frozen, tested once; and what retrieval searches."""

from __future__ import annotations

from typing import Literal

from lastresort.records.decision_parts import Crossing, Currency, PromptFacts, Weights
from lastresort.records.document import Statement
from lastresort.records.events.base import BaseEvent, EventValue, OfRung
from lastresort.records.measurement import DevScore, Measurement
from lastresort.types import GoOnAbout, Judgement, Selection

Unwritten = Literal["cut", "late"]
"""Why a reflection failed: its text was cut at the token limit, or it timed out."""

RefusedPrompt = Literal["shares words", "lists rows"] | Unwritten
"""Why an instruction is not tried: it shares more words in a row with a training row than it may, it lists whole rows with their
answers, or the reflection failed."""

StoppedOptimising = Literal["calls", "usd", "all right", "no room", "cut or late"] | Unwritten
"""What ended the optimising of a prompt: the next step could pass `calls` or `usd`, all rows are right, the reflecting model has no
room, or its reflections kept failing, for one of the two reasons or for both."""


class CandidateMeasured(OfRung):
    """A candidate on a split, or a stretch of dev; its items are in the record's table. A later one of the same split replaces it.

    ill_formed: ids of wrong answers without the required form. wrong: of the others that are wrong. cut: answers that ended at the
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

    @classmethod
    def of(cls, m: Measurement) -> CandidateMeasured:
        wrong = [item for item in m.items if item.score < 1]
        return cls.from_fields_of(
            m,
            cut=sum(item.finish == "length" for item in m.items),
            refused=sum(item.finish == "refused" for item in m.items),
            ill_formed=tuple(item.id for item in wrong if item.format_ok is False),
            wrong=tuple(item.id for item in wrong if item.format_ok is not False),
        )


class CandidateProposed(OfRung):
    """What a candidate's prompt is and whose weights answer: noted once a run, before it answers dev."""

    kind: Literal["candidate_proposed"] = "candidate_proposed"
    name: str
    weights: Weights
    prompt: PromptFacts

    @property
    def key(self) -> str:
        return f"{self.rung}/{self.name}"


class RungSkipped(OfRung):
    kind: Literal["rung_skipped"] = "rung_skipped"
    reason: Statement


class RungPlanned(OfRung):
    """Whether a rung that trains fits the time that is left. beyond: why not. limit_hours: of the task, then. training_cards: that
    its trainings would have been divided over.
    """

    kind: Literal["rung_planned"] = "rung_planned"
    seconds: float | None
    limit_hours: float
    beyond: Statement | None
    training_cards: int = 1


class RungGoneOn(OfRung):
    """The user was asked whether to go on, and did not say no. about: its cost, or its curve after a third; each is asked once.
    answered: whether the user said yes, rather than nothing in time.
    """

    kind: Literal["rung_gone_on"] = "rung_gone_on"
    about: GoOnAbout
    answered: bool


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
    why: Selection
    findings: tuple[Statement, ...]
    bias_corrected: float | None

    @property
    def in_words(self) -> str:
        """How it searched."""
        return " ".join(finding.text for finding in self.findings)


class ProposedPrompt(EventValue):
    """An instruction that a model wrote. score: mean on the rows kept for choosing, None where it was not measured on them.
    refused: why it was not tried, None where it was. copied: the words that it shares with a row.
    """

    text: str
    score: float | None = None
    refused: RefusedPrompt | None = None
    copied: str = ""


class PromptOptimised(OfRung):
    """An instruction optimised on rows of train. plain, best: texts; equal where no other scored higher. Scores are means on n
    rows of train that chose among the texts, so those of the best are optimistic. learned_from: rows from which those shown
    to the reflecting model were drawn. calls: of both models, reflections among them. stopped: what ended it. priced:
    whether the price of all calls is known.
    """

    kind: Literal["prompt_optimised"] = "prompt_optimised"
    reflector: str
    plain: str
    best: str
    plain_score: float
    best_score: float
    n: int
    learned_from: int
    proposed: tuple[ProposedPrompt, ...]
    calls: int
    reflections: int
    stopped: StoppedOptimising
    tokens_in: int
    tokens_out: int
    seconds: float
    usd: float
    priced: bool

    @property
    def better(self) -> bool:
        """Whether an instruction scored higher than the plain one."""
        return self.best != self.plain

    @property
    def tried(self) -> int:
        return sum(one.refused is None for one in self.proposed)

    @property
    def copies(self) -> int:
        """Instructions that were refused, as they copied rows."""
        return sum(one.refused in ("shares words", "lists rows") for one in self.proposed)

    @property
    def cut(self) -> int:
        """Reflections whose text was cut at the token limit."""
        return sum(one.refused == "cut" for one in self.proposed)

    @property
    def late(self) -> int:
        """Reflections that timed out."""
        return sum(one.refused == "late" for one in self.proposed)


class ReflectionLate(OfRung):
    """A reflection that timed out. It may have been paid for, and is not asked for again.
    number: of the reflections of the search, from 1. prompt_sha256: of what was asked, since a search with other limits asks
    something else. thoughts: tokens that it could think. seconds: that it had.
    """

    kind: Literal["reflection_late"] = "reflection_late"
    number: int
    prompt_sha256: str
    thoughts: int
    seconds: float

    @property
    def key(self) -> str:
        return reflection_key(self.rung, self.number, self.prompt_sha256)


def reflection_key(rung: str, number: int, prompt_sha256: str) -> str:
    return f"{rung}/{number}/{prompt_sha256[:16]}"


class SystemKept(OfRung):
    """A candidate that was saved to be measured. name, sha256: as in `SystemFrozen`."""

    kind: Literal["system_kept"] = "system_kept"
    name: str
    sha256: str

    @property
    def key(self) -> str:
        return f"{self.rung}/{self.name}"


class SystemFrozen(OfRung):
    """name: of the candidate that goes to the test. sha256: of all that answers in it."""

    kind: Literal["system_frozen"] = "system_frozen"
    name: str
    sha256: str


class RungTested(OfRung):
    """items: that the verdict rests on, the first of the test, where it counts groups."""

    kind: Literal["rung_tested"] = "rung_tested"
    system: str
    judgement: Judgement
    items: int | None = None


class SavingWeighed(OfRung):
    """With `goal: cost`, after this rung met the bar: whether training for cheaper calls would pay for itself. The fields are
    those of `CostSaving`.
    """

    kind: Literal["saving_weighed"] = "saving_weighed"
    hourly_price: float | None
    calls_per_month: int | None
    goes_on: bool
    missing: tuple[str, ...]
    currency: Currency | None
    now: float | None
    then: float | None
    one_off: float | None
    crossing: Crossing
    calls: int | None
    months: float | None
    limit_months: int


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
    """How well one kind of search finds the passages that dev names: means over questions. questions: how many name some.
    unlabelled: how many name none and were left out. recall, ndcg: by how many passages were counted. mrr: up to the most.
    """

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


RungEvent = (
    CandidateProposed
    | CandidateMeasured
    | RungSkipped
    | RungPlanned
    | RungGoneOn
    | RungGivenUp
    | RungSearched
    | PromptOptimised
    | ReflectionLate
    | SystemKept
    | SystemFrozen
    | RungTested
    | SavingWeighed
    | StoreBuilt
    | SearchesMeasured
    | CeilingMeasured
)
