"""`recheck-<n>.json`, and the same in the terminal, legible at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lastresort.records.document import Count, Difference, JsonDocument, OpenShare, Positive, ReuseView, Sentence, Share
from lastresort.records.measurement import BarTest, Cost
from lastresort.report.tables import grid, ruled, verdict_text
from lastresort.report.words.wording import count, duration, interval, money, percent, printable, sentence
from lastresort.types import Unit

SHOWN = 10  # affected items in the terminal; the file has all

Verdict = Literal["STILL_NEEDED", "NO_LONGER_NEEDED", "MEETS_BAR", "BELOW_BAR", "CANNOT_TELL"]
Freshness = Literal["CURRENT", "STALE", "CANNOT_TELL"]
Standing = Literal["STANDS", "GONE", "UNKNOWN"]


class TestLook(JsonDocument):
    """A look at the frozen test set. number: 1 for the first after the climb. alpha: its error rate for a false MET,
    budget / (number (number + 1)). each: of each of its systems. budget: of all looks of the run together.
    """

    number: Positive
    systems: Positive
    alpha: Share
    each: Share
    budget: Share


class ReplacementAsked(JsonDocument):
    """model, prompt: null where it is that of the run."""

    model: str | None
    prompt: str | None
    fingerprint: str


class RunWinner(JsonDocument):
    """The system that won the run. recorded: test items that it answered in the run. answered_now: with a new model or prompt those
    of the test set that it had not answered; with documents those asked again. prompt_tokens: mean of a prompt.
    """

    rung: str
    kind: str
    name: str
    test: BarTest
    recorded: Count
    answered_now: Count
    prompt_tokens: float | None


class ComparedWithWinner(JsonDocument):
    """A system against the run's winner.

    whole: whether both answered the whole test set; otherwise n counts the items that both answered before one stopped, and
    nothing is tested, since where it stopped depended on its answers. difference: the system's mean score less the winner's,
    with its interval at `confidence`. p_better, p_worse: one-sided, of "the system is better", or worse, than the winner.
    Interval and p are None unless whole.
    """

    n: Positive
    unit: Unit
    whole: bool
    winner_score: Share
    score: Share
    difference: Difference
    confidence: Share
    interval: tuple[float, float] | None = None
    p_better: Share | None = None
    p_worse: Share | None = None


class SystemTried(JsonDocument):
    """rung: which chose the prompt. cut: answers cut at the token limit. refused: items too long for the model, so wrong."""

    rung: str
    name: str
    test: BarTest
    prompt_tokens: float
    cut: Count
    refused: Count
    cost: Cost
    compared: ComparedWithWinner | None


class DroppedPrompt(JsonDocument):
    """A prompt that could not be tried, and why."""

    rung: str
    name: str
    because: str


class DocumentsChanged(JsonDocument):
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class PassagesChanged(JsonDocument):
    """gone: of the run's store, whose text is in no passage any more."""

    gone: tuple[str, ...]
    new: Count


class ItemsResting(JsonDocument):
    """n: recorded answers of the winner. named: whose rows name passages. differing: answered otherwise now; null where nothing was
    asked again.
    """

    n: Count
    named: Count
    resting_on_changed: Count
    differing: Count | None


class AffectedItem(JsonDocument):
    """passages: those it relied on that changed. standing: whether the recorded answer, found verbatim in these passages, is
    still in their document.
    """

    id: str
    input: str
    expected: str
    passages: tuple[str, ...]
    standing: Standing
    answer: str
    score: Share
    answer_now: str | None
    score_now: Share | None


class KnowledgeChanged(JsonDocument):
    """path: name of the file or folder of documents. compared: files where the run has no store."""

    path: str
    compared: Literal["passages", "files"]
    documents: DocumentsChanged
    passages: PassagesChanged | None
    items: ItemsResting
    affected: tuple[AffectedItem, ...]


class RecheckFindings(JsonDocument):
    """kind: model, where something new was put to the frozen test set; knowledge, other documents. number: of this recheck among
    those of the run; the same asked again keeps its number. yes: whether the answer is yes, null if unknown.
    """

    kind: Literal["model", "knowledge"]
    number: Positive
    verdict: Verdict | Freshness
    yes: bool | None
    answer: Sentence
    reasons: tuple[Sentence, ...]
    notes: tuple[Sentence, ...]
    new: ReplacementAsked | None
    look: TestLook | None
    winner: RunWinner | None
    tried: tuple[SystemTried, ...]
    dropped: tuple[DroppedPrompt, ...]
    knowledge: KnowledgeChanged | None


class _OfRun(JsonDocument):
    version: Literal[2] = Field(default=2, alias="schema")
    run: str
    task: str
    bar: OpenShare
    confidence: Share
    model: str
    hashes: dict[str, str]


class RecheckDocument(RecheckFindings, _OfRun):
    """What `lastresort recheck RUN` writes as recheck-<n>.json and prints with --json: whether the decision of a run still
    stands. It grows by version.

    yes: false is exit code 1. Asked is whether the tuned model is still needed; of a run without one, whether what is new meets the
    bar; of kind knowledge, whether the recorded answers still hold. model: that the run asked. hashes: sha256 of the files of the
    test set and its scorer.
    """

    test_reuse: ReuseView | None


def file_name(number: int) -> str:
    return f"recheck-{number}.json"


def recheck_text(document: RecheckDocument) -> RenderableType:
    """The answer, the systems that were tried, the reasons, the items to look at, and warnings."""
    parts: list[RenderableType] = [Text(printable(document.answer), style="bold")]
    if document.tried:
        parts += [Text(""), _tried(document)]
    parts.append(Text(""))
    parts += [Text(printable(sentence(reason))) for reason in document.reasons]
    affected = () if document.knowledge is None else document.knowledge.affected
    if affected:
        parts += [Text(""), _affected(affected)]
        if len(affected) > SHOWN:
            more = f"{len(affected) - SHOWN} more are in {file_name(document.number)}."
            parts.append(Text(more, style="dim"))
    parts += [Text(printable(sentence(note)), style="yellow") for note in document.notes]
    if document.test_reuse is not None and document.test_reuse.used:
        parts.append(Text(printable(document.test_reuse.text), style="yellow"))
    return Group(*parts)


def _tried(document: RecheckDocument) -> Table:
    """The systems that were tested, then the run's winner."""
    table = ruled("rung", "score", "items", "verdict", "cost", figures=("score", "items", "cost"))
    for one in document.tried:
        _add(table, one.rung, one.test, one.cost)
    winner = document.winner
    if winner is not None:
        _add(table, f"{winner.rung} (the run's winner)", winner.test)
    return table


def _add(table: Table, name: str, test: BarTest, cost: Cost | None = None) -> None:
    """Two lines, as in the table of the ladder. cost: None for what was paid in the run."""
    style = "dim" if cost is None else ""
    took, paid = ("", 0.0) if cost is None else (duration(cost.seconds), cost.usd)
    word = verdict_text(test.verdict)
    table.add_row(Text(name), percent(test.score), count(test.n_used), word, took, style=style)
    below = ("", interval(test.interval), f"of {count(test.n_available)}", "", "" if paid == 0 else money(paid))
    table.add_row(*below, style="dim")


def _affected(affected: Sequence[AffectedItem]) -> Table:
    table = grid(None)
    for one in affected[:SHOWN]:
        told = f"{one.input} -> {one.answer}"
        if one.answer_now is not None and one.answer_now != one.answer:
            told += f", now {one.answer_now}"
        if one.passages:
            told += f" [{', '.join(one.passages)}]"
        table.add_row(Text(printable(one.id), style="dim"), Text(printable(" ".join(told.split()))))
    return table
