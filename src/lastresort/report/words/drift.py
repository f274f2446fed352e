"""How far preference training moved the answers, in words. A gain that is only length is shown as such."""

from __future__ import annotations

from lastresort.records.events import AnswerLengths, DriftMeasured, Movement
from lastresort.report.words.wording import round_percent as percent

MARKED = 0.2  # a change of the mean answer's length, either way, that is pointed out


def growth(length: AnswerLengths) -> float:
    """Of the mean answer, as a share: 0.2 is a fifth longer."""
    before = length.tokens_before
    return length.tokens_after / before - 1 if before else 0.0


def title(length: AnswerLengths) -> str:
    """What a reader should see first."""
    gained = length.score_after - length.score_before
    change = f"{'gained' if gained >= 0 else 'lost'} {abs(100 * gained):.1f} points on dev"
    return f"Preference training {change}, with answers {_compared(growth(length))}"


def of_length(length: AnswerLengths) -> str:
    """Answers and scores on dev before and after."""
    grown = growth(length)
    lengths = f"{length.tokens_before:.1f} tokens before, {length.tokens_after:.1f} after"
    scores = f"the score on dev went from {percent(length.score_before)} to {percent(length.score_after)}"
    if abs(grown) <= MARKED:
        return f"The mean answer has {lengths}, and {scores}."
    told = f"Answers became {_compared(grown)} ({lengths}), and {scores}"
    if grown < 0:
        return f"{told}."
    if not length.level:
        return f"{told}. No answer stayed as short, so the gain cannot be separated from the length."
    same = f"On the {length.level} items whose answers did not grow, it went from {percent(length.level_before)}"
    return f"{told}. {same} to {percent(length.level_after)}."


def of_movement(moved: Movement) -> str:
    """KL and margins. The reference of an objective, where it has one, is the starting model."""
    kl, error = moved.kl, moved.kl_error
    within = f" ± {error:.2g}" if error is not None else ""
    told = (
        f"KL to the starting model: {kl:.3g}{within} nats per answer, {moved.kl_per_token:.2g} per token, exact at every token "
        f"of {moved.kl_answers} answers that the tuned model sampled to dev prompts"
    )
    if moved.margin is None or moved.margin_above_0 is None:
        return f"{told}."
    share = f"above 0 for {percent(moved.margin_above_0)} of {moved.margin_n:,} {moved.margin_of}"
    before = moved.margin_before
    if before is not None:
        odds = f"{moved.margin:.3g} above those of the worse (before {before:.3g})"
        return f"{told}. Log odds of the better answers, per token: {odds}, {share}."
    return f"{told}. Reward margin {moved.margin:.3g} nats, {share}."


def sentence(drift: DriftMeasured) -> str:
    """All of it about one candidate."""
    return f"{drift.candidate}: {of_length(drift.length)} {of_movement(drift.moved)}"


def _compared(grown: float) -> str:
    if abs(grown) <= MARKED:
        return "of about the same length"
    return f"{percent(abs(grown))} {'longer' if grown > 0 else 'shorter'}"
