"""What measuring one candidate on one split gave, item by item; and how documents hold scores, tests and costs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Self

from lastresort.records.document import Amount, Count, JsonDocument, Limits, Positive, Share
from lastresort.types import JudgedBar, Judgement, Outcome, Outlook, PartOfTest, Unit, VerdictBasis

FailureKind = Literal["format", "knowledge", "other"]


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One answered item. score in [0, 1]. input, expected, answer: text, as shown in the report.

    finish: "stop", "length", or "refused" where the model took no such prompt. format_ok: whether the answer parses and
    validates, None where the task asks for no form. seconds: this item's share of its batch. usd: 0 for local models.
    passages: ids of those in the prompt, in their order.
    """

    id: str
    score: float
    answer: str
    expected: str
    input: str
    finish: str
    format_ok: bool | None
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    usd: float
    passages: tuple[str, ...] = ()


def failure_kind(item: ItemScore, knowledge: Collection[str] = ()) -> FailureKind | None:
    """Why an answer is not right: it lacks the form, it lacks knowledge, or it is well-formed and wrong; None if right.

    knowledge: ids of the items that were right once they had the right passage.
    """
    if item.score >= 1:
        return None
    if item.format_ok is False:
        return "format"
    return "knowledge" if item.id in knowledge else "other"


DEV, TEST, REST, FRESH = "dev", "test", "rest of test", "fresh"


def stretch_of_dev(start: int, stop: int) -> str:
    """The split of these dev items: a search measures dev in stretches."""
    return f"{DEV}[{start}:{stop}]"


def rest_of_test(start: int, stop: int) -> str:
    """The split of these test items, which the test against the bar did not reach and the gate asked."""
    return f"{REST}[{start}:{stop}]"


def part_of_test(number: int) -> str:
    """The split of a part of the test: 0 for the test set, then the files of fresh items."""
    return f"{FRESH}[{number}]" if number else TEST


def whole_of(split: str) -> str:
    """`dev[0:20]` -> "dev": the split without its items."""
    return split.partition("[")[0]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The items of `split` that `candidate` of `rung` was scored on; fewer than n_available after an early stop."""

    rung: str
    candidate: str
    split: str
    n_available: int
    items: tuple[ItemScore, ...]

    @property
    def n(self) -> int:
        return len(self.items)

    @property
    def score(self) -> float:
        """Mean score, 0 without items."""
        return sum(item.score for item in self.items) / self.n if self.items else 0.0

    @property
    def tokens_in(self) -> int:
        return sum(item.prompt_tokens for item in self.items)

    @property
    def tokens_out(self) -> int:
        return sum(item.completion_tokens for item in self.items)

    @property
    def seconds(self) -> float:
        return sum(item.seconds for item in self.items)

    @property
    def usd(self) -> float:
        return sum(item.usd for item in self.items)

    @property
    def cut(self) -> float:
        """Share of answers that were cut at the token limit."""
        return sum(item.finish == "length" for item in self.items) / self.n if self.items else 0.0


class DevScore(JsonDocument):
    """Mean score on n dev items."""

    score: Share
    n: Count


class BarTest(JsonDocument):
    """A system against the bar, on held-out items. unit: what n_used, n_available and n_needed count, and what the score is the
    mean of. interval: the confidence sequence of the score, each limit at the error of the test. decided: the rule that gave the
    verdict (sequence: the evidence after every unit; exact: the binomial test at the last item; continued: the parts of a test that
    went on), its error and the limit of the score that it showed; null for UNDECIDED. n_needed: units that would decide an
    UNDECIDED, those seen included if its test can go on, else of a new test; null where not needed or not to be told. outlook: how
    far an UNDECIDED is from a verdict: the share of n_needed that was seen, the chance of each verdict after n fresh units, and the
    highest bar that could be claimed now, at this error; null where the verdict is not UNDECIDED, or outside a climb. parts: of a
    test that went on with fresh items, the test set first, each with the errors at which it was judged; all other figures are of
    the parts together. Empty where it did not go on. judged: what the judge said where people's labels correct it; score, interval
    and decided are then the corrected ones, and parts are the judge's.
    """

    verdict: Outcome
    score: Share
    n_used: Count
    n_available: Count
    unit: Unit
    interval: Limits
    decided: VerdictBasis | None
    n_needed: Positive | None
    outlook: Outlook | None = None
    parts: tuple[PartOfTest, ...] = ()
    judged: JudgedBar | None = None

    @property
    def scored(self) -> float:
        """The mean of the items' scores as they are, before labels correct it."""
        return self.score if self.judged is None else self.judged.score

    @classmethod
    def of(cls, judgement: Judgement) -> Self:
        return cls.from_fields_of(judgement, verdict=judgement.outcome)


class Cost(JsonDocument):
    """usd: null where the task gives no price for the calls that were made."""

    tokens_in: Count
    tokens_out: Count
    seconds: Amount
    usd: Amount | None

    @property
    def is_zero(self) -> bool:
        return not (self.tokens_in or self.tokens_out or self.seconds or self.usd)
