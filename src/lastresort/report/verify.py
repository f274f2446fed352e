"""What a verification of a server found as one JSON document, and the same in the terminal, legible at 80 columns."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lastresort.records.document import (
    Amount,
    Count,
    Difference,
    Interval,
    JsonDocument,
    OpenShare,
    Positive,
    Sentence,
    Share,
)
from lastresort.records.measurement import Cost
from lastresort.report.tables import grid, named_texts, ruled, verdict_text
from lastresort.report.words.verify import TITLES, CauseName, Sent
from lastresort.report.words.wording import STYLES, count, in_limits, in_points, percent, printable, sentence, shortened
from lastresort.types import Unit

SHOWN = 3  # differing and missing answers in the terminal; the document has all
EXPLAINS = {True: "explains it", False: "does not", None: "not tested"}


class ServerAsked(JsonDocument):
    """sent: the whole prompt, or the input alone where the server puts the winner's prompt around it. parameters: those of the
    request that was named, null for those of the run.
    """

    url: str
    model: str
    sent: Sent
    parameters: dict[str, Any] | None = None


class WinnerMeasured(JsonDocument):
    """recorded: test items with an answer of the winner's in the record of the run."""

    rung: str
    kind: str
    name: str
    recorded: Positive


class ItemsPlanned(JsonDocument):
    """n: items to send. needed: for `power`, if `spread` of the scores differ and nothing is lost (the mean squared difference of
    graded ones).
    """

    n: Positive
    needed: Positive
    power: OpenShare
    spread: Share


class ScoresCompared(JsonDocument):
    """Item by item, by the gate's rules. n: units, of which `unit` says the kind. difference: served less recorded. interval: its
    limits at `confidence`. margin: the largest loss that is accepted. p: of "the loss is smaller than the margin". p_regressed: of
    "it is larger". loss_seen: a loss is shown, of whatever size. n_needed: units that would decide an UNDERPOWERED, null where the
    verdict stands, where only missing answers keep it open, and where that is more than ten times n.
    """

    verdict: Literal["NON_INFERIOR", "REGRESSED", "UNDERPOWERED"]
    recorded: Share
    served: Share
    difference: Difference
    interval: Interval
    confidence: OpenShare
    margin: OpenShare
    n: Positive
    unit: Unit
    p: Share
    p_regressed: Share
    loss_seen: bool
    n_needed: Positive | None


AnswerEnd = Literal["stop", "length", "refused"]
ENDS: dict[AnswerEnd, str] = {"stop": "", "length": ", cut at the limit of tokens", "refused": ", refused"}


class DifferingAnswer(JsonDocument):
    """finish: stop, length, or refused where the server took no such request; then `served` is what it said. recorded_finish: of
    the answer that was measured.
    """

    id: str
    input: str
    expected: str
    recorded: str
    served: str
    recorded_score: Share
    served_score: Share
    finish: AnswerEnd
    recorded_finish: AnswerEnd


class AnswerMissing(JsonDocument):
    id: str
    because: Sentence


class CauseTested(JsonDocument):
    """explains: whether it explains the differing answers, null where nobody can tell, or where it was not tested and `tried` is
    empty. tried, seen: the experiment.
    """

    cause: CauseName
    explains: bool | None
    tried: str
    seen: Sentence
    remedy: str

    @property
    def undecided(self) -> bool:
        return self.explains is None and bool(self.tried)

    @property
    def standing(self) -> str:
        return "cannot tell" if self.undecided else EXPLAINS[self.explains]


class VerifyDocument(JsonDocument):
    """What `lastresort verify RUN URL` prints with --json: whether a running server answers as the run measured. It grows by
    version.

    worse: exit code 1; a loss is shown, larger than the margin or of a size that is still open. n: answers that arrived.
    identical: of these, the same text as recorded. missing: items without an answer, which count as nothing. differing: those that
    lost most come first. causes: all that were tried, in the order in which they are told.
    """

    version: Literal[1] = Field(default=1, alias="schema")
    run: str
    task: str
    winner: WinnerMeasured
    server: ServerAsked
    worse: bool
    answer: Sentence
    reasons: tuple[Sentence, ...]
    notes: tuple[Sentence, ...]
    planned: ItemsPlanned
    n: Positive
    identical: Count
    refused: Count
    cut: Count
    compared: ScoresCompared
    missing: tuple[AnswerMissing, ...]
    differing: tuple[DifferingAnswer, ...]
    causes: tuple[CauseTested, ...]
    cost: Cost
    seconds: Amount


def verify_text(document: VerifyDocument) -> RenderableType:
    """The answer, the scores, the reasons, the first differing answers, and the causes that were tried."""
    style = "bold red" if document.worse else f"bold {STYLES[document.compared.verdict]}"
    parts: list[RenderableType] = [Text(printable(document.answer), style=style), Text(""), _scores(document), Text("")]
    parts += [Text(printable(sentence(reason))) for reason in document.reasons]
    parts += [
        Text(f"missing: {printable(one.id)} ({printable(one.because)})", style="yellow")
        for one in document.missing[:SHOWN]
    ]
    if len(document.missing) > SHOWN:
        parts.append(Text(f"{count(len(document.missing) - SHOWN)} more missing with --json.", style="dim"))
    for one in document.differing[:SHOWN]:
        parts += [Text(""), named_texts(cells(one))]
    if len(document.differing) > SHOWN:
        parts.append(Text(f"{count(len(document.differing) - SHOWN)} more with --json.", style="dim"))
    if document.causes:
        parts += [Text(""), Text("What could cause it:", style="bold"), _causes(document)]
    parts += [Text(printable(sentence(note)), style="yellow") for note in document.notes]
    return Group(*parts)


def _scores(document: VerifyDocument) -> Table:
    found = document.compared
    figures = ("same text", "measured", "served", "points", "interval", "margin")
    table = ruled(*figures, "verdict", figures=figures)
    table.add_row(
        f"{count(document.identical)} of {count(document.n)}",
        percent(found.recorded),
        Text(percent(found.served), style="bold"),
        in_points(found.difference),
        in_limits(found.interval),
        f"−{100 * found.margin:.3g}",
        verdict_text(found.verdict),
    )
    return table


def cells(one: DifferingAnswer) -> dict[str, str]:
    """One differing answer, by name."""
    return {
        "input": shortened(f"{one.id}: {one.input}"),
        "measured": f"{shortened(one.recorded)} ({percent(one.recorded_score, 0)}{ENDS[one.recorded_finish]})",
        "served": f"{shortened(one.served)} ({percent(one.served_score, 0)}{ENDS[one.finish]})",
    }


def _causes(document: VerifyDocument) -> Table:
    table = grid(None)
    marks, styles = {True: "×", False: "○", None: "–"}, {True: "red", False: "", None: "dim"}
    for one in document.causes:
        told = f"{TITLES[one.cause]}: {one.standing}. {one.seen}"
        told += f" {one.remedy}" if one.explains else ""
        style = styles[one.explains]
        table.add_row(Text(marks[one.explains], style=style), Text(printable(told), style=style))
    return table
