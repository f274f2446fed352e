"""Are the recorded answers stale, given the documents that changed? Pure: no model, no disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.knowledge.update import DocumentChanges
from lastresort.report.recheck import Freshness, Standing
from lastresort.report.words import recheck as words


@dataclass(frozen=True, slots=True)
class AffectedAnswer:
    """A recorded answer and what of its passages changed.

    named: whether the test item names its passages. changed: passages that it names, or that were in its prompt, and that have
    changed. standing: whether the answer, which was in one of these word for word, is still in its document; UNKNOWN where it was
    not, or where only files could be compared. answer_now, score_now: with today's documents, None where it was not answered again.
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
    """yes: whether the answers still hold, None where that is open."""

    verdict: Freshness
    yes: bool | None
    answer: str
    reasons: tuple[str, ...]


def staleness(winner: str, changes: DocumentChanges, items: Sequence[AffectedAnswer]) -> Staleness:
    """winner: in words. items: every recorded answer to a test item, with the new one where the winner reads documents."""
    if not changes.any:
        return Staleness("CURRENT", True, words.unchanged_answer(), ())
    n, touched = len(items), [item for item in items if item.changed]
    changed, passages = words.changes_reason(changes), _touched_reasons(items, touched)
    if any(item.answer_now is not None for item in items):
        differing, reasons = sum(item.differs for item in items), (changed, *_score_reasons(items), *passages)
        if not differing:
            return Staleness("CURRENT", True, words.same_answers(winner, n), reasons)
        return Staleness("STALE", False, words.other_answers(winner, differing, n), reasons)
    reasons = (changed, *passages, words.no_reading_reason(winner))
    gone = sum(item.standing == "GONE" and item.score >= 1 for item in touched)
    if gone:
        return Staleness("STALE", False, words.gone_answer(gone), reasons)
    if touched:
        return Staleness("CANNOT_TELL", None, words.to_read_answer(len(touched), n), reasons)
    unnamed = sum(not item.named for item in items)
    if unnamed:
        return Staleness("CANNOT_TELL", None, words.unnamed_answer(unnamed, n), reasons)
    return Staleness("CURRENT", True, words.untouched_answer(n), reasons)


def standing(answer: str, before: Sequence[str], now: str) -> Standing:
    """Whether an answer that was in one of the texts `before`, as words of their own, is in `now`."""
    said = _folded(answer)
    if not said or not any(_holds(_folded(text), said) for text in before):
        return "UNKNOWN"
    return "STANDS" if _holds(_folded(now), said) else "GONE"


def _touched_reasons(items: Sequence[AffectedAnswer], touched: Sequence[AffectedAnswer]) -> list[str]:
    kinds: tuple[Standing, ...] = ("STANDS", "GONE", "UNKNOWN")
    right = {kind: sum(item.standing == kind and item.score >= 1 for item in touched) for kind in kinds}
    return words.touched_reasons(len(items), len(touched), right)


def _score_reasons(items: Sequence[AffectedAnswer]) -> list[str]:
    """Before and after. The items whose passages did not change show what new passages do to them."""
    found = []
    for changed in (False, True):
        part = [item for item in items if bool(item.changed) == changed and item.score_now is not None]
        if part:
            before = sum(item.score for item in part) / len(part)
            now = sum(item.score_now or 0.0 for item in part) / len(part)
            differing = sum(item.differs for item in part)
            found.append(words.score_reason(len(part), before, now, differing, changed=changed))
    return found


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _holds(text: str, said: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(said)}(?!\w)", text) is not None
