"""Documents that changed, and the recorded answers that rest on them -> are these answers stale? Pure: no model, no disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.knowledge.update import DocumentChanges
from lastresort.report.recheck import Freshness, Standing
from lastresort.report.words.wording import counted, listed
from lastresort.report.words.wording import round_percent as percent

SHOWN = 3  # names of documents in a sentence


@dataclass(frozen=True, slots=True)
class AffectedAnswer:
    """A recorded answer and what of its passages changed.

    named: whether the test item names its passages. changed: those that are named, or that stood in its prompt, and are no
    more what they were. standing: whether the answer, to the letter, stood in one of these and stands in its document still;
    UNKNOWN where it did not, or where only files could be compared. answer_now, score_now: with the documents as they are,
    None where it was not asked again.
    """

    id: str
    named: bool
    changed: tuple[str, ...]
    answer: str
    score: float
    standing: Standing = "UNKNOWN"
    answer_now: str | None = None
    score_now: float | None = None

    @property
    def differs(self) -> bool:
        return self.answer_now is not None and self.answer_now.strip() != self.answer.strip()


@dataclass(frozen=True, slots=True)
class Staleness:
    """yes: whether the answers still hold, None where that cannot be told."""

    verdict: Freshness
    yes: bool | None
    answer: str
    reasons: tuple[str, ...]


def staleness(winner: str, changes: DocumentChanges, items: Sequence[AffectedAnswer]) -> Staleness:
    """winner: what answered, in words. items: every recorded answer to a test item, asked again where it reads documents."""
    if not changes.any:
        return Staleness("CURRENT", True, "Yes, the answers still hold: the documents are those that the run knew.", ())
    if any(item.answer_now is not None for item in items):
        return _of_reader(winner, changes, items)
    return _of_knower(winner, changes, items)


def standing(answer: str, before: Sequence[str], now: str) -> Standing:
    """Whether an answer that stood in one of the texts `before`, as words of their own, stands in `now`."""
    words = _folded(answer)
    if not words or not any(_holds(_folded(text), words) for text in before):
        return "UNKNOWN"
    return "STANDS" if _holds(_folded(now), words) else "GONE"


def _of_reader(winner: str, changes: DocumentChanges, items: Sequence[AffectedAnswer]) -> Staleness:
    """The winner answers from documents, and was asked again with those of now: what differs is stale."""
    differing = [item for item in items if item.differs]
    n = counted(len(items), "recorded answer")
    reasons = [_documents(changes), *_scores(items), *_passages(items)]
    if not differing:
        told = f"Yes, the answers still hold: {winner}, reading the documents as they are now, repeats all of its {n}."
        return Staleness("CURRENT", True, told, tuple(reasons))
    told = (
        f"No, answers are stale: {winner}, reading the documents as they are now, answers {len(differing)} of its {n} otherwise. "
        "Its store is a copy from the run: climb again to renew it."
    )
    return Staleness("STALE", False, told, tuple(reasons))


def _of_knower(winner: str, changes: DocumentChanges, items: Sequence[AffectedAnswer]) -> Staleness:
    """The winner reads no documents: what it knows is as old as the run, and only the passages can tell what is out of date."""
    named = [item for item in items if item.named]
    touched = [item for item in items if item.changed]
    gone = [item for item in touched if item.standing == "GONE" and item.score >= 1]
    reasons = [_documents(changes), *_passages(items)]
    reasons.append(
        f"{winner} reads no documents: what it knows is as old as the run, and asking it again tells nothing new."
    )
    if gone:
        told = (
            f"No, answers are stale: {_right(len(gone))} stood in a passage whose document does not say it any more. "
            "Train again with new rows, or let the answers be looked up."
        )
        return Staleness("STALE", False, told, tuple(reasons))
    if touched:
        told = (
            f"Cannot tell: {len(touched)} of {counted(len(items), 'recorded answer')} rest on passages that changed, and whether "
            f"they are still right has to be read there; they are listed. New test rows for them would settle it."
        )
        return Staleness("CANNOT_TELL", None, told, tuple(reasons))
    if len(named) == len(items):
        told = f"Yes, the answers still hold: none of the passages that the {counted(len(items), 'test item')} name has changed."
        return Staleness("CURRENT", True, told, tuple(reasons))
    told = (
        f"Cannot tell: {len(items) - len(named)} of {counted(len(items), 'test item')} do not name the passages that their answers "
        "rest on, and documents have changed. Add `passages` to the rows."
    )
    return Staleness("CANNOT_TELL", None, told, tuple(reasons))


def _right(n: int) -> str:
    return "1 right answer" if n == 1 else f"{n} right answers"


def _documents(changes: DocumentChanges) -> str:
    """What changed, in a sentence."""
    parts = [
        f"{counted(len(names), 'document')} {how} ({_some(names)})"
        for how, names in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
        if names
    ]
    if changes.lost_chunks is None:
        return f"Since the run: {listed(parts)}."
    new = counted(changes.new_chunks or 0, "passage")
    return f"Since the run: {listed(parts)}; {counted(len(changes.lost_chunks), 'passage')} gone or changed, {new} new."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _passages(items: Sequence[AffectedAnswer]) -> list[str]:
    touched = [item for item in items if item.changed]
    if not touched:
        return []
    found = [f"{len(touched)} of {counted(len(items), 'recorded answer')} rest on passages that changed."]
    told = {
        kind: sum(item.standing == kind and item.score >= 1 for item in touched)
        for kind in ("STANDS", "GONE", "UNKNOWN")
    }
    parts = [
        f"{n} {words}"
        for n, words in (
            (told["STANDS"], "still stand in their document to the letter"),
            (told["GONE"], "stand there no more"),
            (told["UNKNOWN"], "cannot be looked up so"),
        )
        if n
    ]
    if parts:
        found.append(f"Of those that were right: {listed(parts)}.")
    return found


def _scores(items: Sequence[AffectedAnswer]) -> list[str]:
    """Before and after. The items whose passages are as they were tell what new passages do to the rest."""
    found = []
    for told, part in (
        ("items whose passages are as they were", [item for item in items if not item.changed]),
        (
            "items that rest on what changed, whose expected answers may be out of date themselves",
            [item for item in items if item.changed],
        ),
    ):
        asked = [item for item in part if item.score_now is not None]
        if asked:
            before = sum(item.score for item in asked) / len(asked)
            now = sum(item.score_now or 0.0 for item in asked) / len(asked)
            differ = sum(item.differs for item in asked)
            found.append(
                f"Score on the {len(asked)} {told}: {percent(before)} then, {percent(now)} now; {differ} answers differ."
            )
    return found


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _holds(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None
