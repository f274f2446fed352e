"""What a recheck of a finished run found, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lastresort.knowledge.update import DocumentChanges
from lastresort.ladder import trains
from lastresort.report.recheck import RunWinner, Standing, SystemTried, TestLook
from lastresort.report.words.verdicts import beyond, error_rate, how_decided
from lastresort.report.words.wording import counted, listed, spaced
from lastresort.report.words.wording import round_percent as percent
from lastresort.types import Outcome

NAMES_SHOWN = 3  # of documents, in a sentence


def named(winner: RunWinner) -> str:
    return f"{winner.rung} ({winner.name})"


# With a new model or prompt.


def model_answer(new: str, bar: float, winner: RunWinner | None, outcome: Outcome, best: SystemTried) -> str:
    """new: what is new ("openai:large"). outcome: of all prompts together. best: the one that decided it."""
    scored, limit = f"{best.name} scored {percent(best.test.score)}", percent(bar)
    if outcome == "UNDECIDED":
        return f"Cannot tell yet whether {new} meets the bar of {limit} ({scored}); {_settle(best)}."
    met = outcome == "MET"
    if winner is not None and trains(winner.rung):
        if met:
            return f"No, the tuned model is no longer needed: {new} meets the bar of {limit} ({scored}){_loss(best)}."
        return f"Yes, the tuned model is still needed: {new} misses the bar of {limit} ({scored})."
    if winner is None:
        does = "Yes, {} meets" if met else "No, {} misses"
        return f"{does.format(new)} the bar of {limit}, which no rung of the run was shown to meet ({scored})."
    does = "Yes, {} also meets" if met else "No, {} misses"
    return f"{does.format(new)} the bar ({scored} against {limit}); the run needed no tuned model."


def model_reasons(bar: float, winner: RunWinner | None, tried: Sequence[SystemTried]) -> list[str]:
    reasons = [_tested(one, bar) for one in tried]
    if winner is not None:
        reasons += [_against(one, winner) for one in tried if one.compared is not None]
        if trains(winner.rung) and winner.test.verdict != "MET":
            reasons.append(f"The run itself did not show that the tuned model, {named(winner)}, meets the bar.")
    return reasons


def look_reason(look: TestLook) -> str:
    """What a look at a frozen test set is worth."""
    systems = "" if look.systems == 1 else f", {error_rate(look.each)} for each of its {look.systems} systems"
    return (
        f"This is look {look.number} at the frozen test set since the climb. All looks together report a false MET with a "
        f"probability of at most {percent(look.budget)}, separate from the climb's own; this one has {error_rate(look.alpha)}"
        f"{systems}. This holds for models and prompts chosen without these items: a prompt that was changed after reading them "
        "is fitted to them."
    )


def _loss(one: SystemTried) -> str:
    """What dropping the tuned model would cost in score, where that is shown."""
    found = one.compared
    if found is None or found.p_worse is None or found.p_worse > (1 - found.confidence) / 2:
        return ""
    return f", though the tuned model is still better by {_points(-found.difference)}"


def _settle(one: SystemTried) -> str:
    test = one.test
    if test.n_needed is None:
        return f"{beyond(test.n_available, test.unit)} would settle it: the score is too close to the bar"
    return f"about {test.n_needed:,} test {test.unit}s would settle it, and there are {test.n_available:,}"


def _tested(one: SystemTried, bar: float) -> str:
    test = one.test
    low, high = test.interval
    scored = (
        f"{one.rung}: {one.name} scored {percent(test.score)} on {test.n_used} of {test.n_available} test {test.unit}s "
        f"(interval {percent(low)} to {percent(high)})"
    )
    if test.verdict == "UNDECIDED":
        return f"{scored}: undecided; {_settle(one)}."
    how = spaced(how_decided(test, bar))
    return f"{scored}: the bar of {percent(bar)} is {'met' if test.verdict == 'MET' else 'not met'}; {how}."


def _against(one: SystemTried, winner: RunWinner) -> str:
    found = one.compared
    assert found is not None
    scores = f"{percent(found.score)} against {percent(found.winner_score)} for {named(winner)}"
    if found.interval is None:
        return (
            f"{one.name} on the {found.n} test {found.unit}s that both answered: {scores} (descriptive, not a test: each stopped "
            "when its own evidence was enough)."
        )
    low, high = found.interval
    side = "more" if found.difference > 0 else "less"
    gap = "no difference" if found.difference == 0 else f"{_points(abs(found.difference))} {side}"
    p = found.p_better if found.difference > 0 else found.p_worse
    significance = "" if p is None or found.difference == 0 else f", p = {p:.2g}"
    return (
        f"{one.name} on all {found.n} test {found.unit}s: {scores}, {gap} ({percent(found.confidence)} interval of the difference "
        f"{100 * low:+.1f} to {100 * high:+.1f} points{significance})."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"


# With other documents.


def unchanged_answer() -> str:
    return "Yes, the answers still hold: the documents have not changed since the run."


def same_answers(winner: str, n: int) -> str:
    return f"Yes, the answers still hold: with today's documents, {winner} repeats all of its {counted(n, 'recorded answer')}."


def other_answers(winner: str, differing: int, n: int) -> str:
    return (
        f"No, answers are stale: with today's documents, {winner} changes {differing} of its {counted(n, 'recorded answer')}. Its "
        "store is a copy from the run: climb again to renew it."
    )


def gone_answer(gone: int) -> str:
    return (
        f"No, answers are stale: {counted(gone, 'right answer')} came from passages whose documents no longer say so. Train again "
        "with new rows, or let a retriever look the answers up."
    )


def to_read_answer(touched: int, n: int) -> str:
    return (
        f"Cannot tell: {touched} of {counted(n, 'recorded answer')} depend on passages that changed. Read the listed items to see "
        "whether they are still right, or add new test rows for them."
    )


def untouched_answer(n: int) -> str:
    return f"Yes, the answers still hold: none of the passages that the {counted(n, 'test item')} name has changed."


def unnamed_answer(unnamed: int, n: int) -> str:
    return (
        f"Cannot tell: documents changed, and {unnamed} of {counted(n, 'test item')} do not name the passages that their answers "
        "depend on. Add `passages` to the rows."
    )


def changes_reason(changes: DocumentChanges) -> str:
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
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def touched_reasons(n: int, touched: int, right: Mapping[Standing, int]) -> list[str]:
    """right: how many of the touched answers that were right there are of each standing."""
    if not touched:
        return []
    found = [f"{touched} of {counted(n, 'recorded answer')} depend on passages that changed."]
    words: dict[Standing, str] = {
        "STANDS": "still word for word in their document",
        "GONE": "no longer there",
        "UNKNOWN": "not checkable this way",
    }
    parts = [f"{right[standing]} {said}" for standing, said in words.items() if right[standing]]
    return [*found, f"Right answers among them: {listed(parts)}."] if parts else found


def score_reason(n: int, before: float, now: float, differing: int, *, changed: bool) -> str:
    """changed: of the items whose passages changed; the others show what the new passages do to them."""
    items = (
        "whose passages changed, and whose expected answers may be out of date"
        if changed
        else "whose passages did not change"
    )
    differ = "1 answer differs" if differing == 1 else f"{differing} answers differ"
    return f"Score on the {counted(n, 'item')} {items}: {percent(before)} then, {percent(now)} now; {differ}."


def no_reading_reason(winner: str) -> str:
    return f"{winner} reads no documents: it knows what it learned in the run, and would give the same answers again."


def scores_note() -> str:
    return (
        "Scores use the expected answers of the run. Where a passage changed, these may be out of date, so a lower score there "
        "means little: read the listed items and correct their rows."
    )


def untried(prompt: str, because: str) -> str:
    return f"{prompt} could not be tried: {because}"


def chosen_for_another(own: str, new: str) -> str:
    """own: the model of the run."""
    return (
        f"The prompts were chosen on dev for {own}. Others may suit {new} better; only a climb with it looks for them."
    )


def retrieval_untried(own: str, new: str) -> str:
    return f"Retrieval was not tried, because the run gave it up for {own}; a climb with {new} would try it."


def cost_unweighed() -> str:
    return "The goal of the run was cost, which a recheck does not weigh. A climb with the new model does."


def of_cut_answers(answers: int, system: str, limit_tokens: int) -> str:
    return f"{counted(answers, 'answer')} of {system} reached the limit of {counted(limit_tokens, 'token')}."


def of_refused_items(items: int, system: str) -> str:
    """items: of the test, which do not fit the model's context."""
    were = f"was too long for {system} and counts" if items == 1 else f"were too long for {system} and count"
    return f"{counted(items, 'test item')} {were} as wrong."
