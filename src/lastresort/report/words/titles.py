"""The titles of the report. A title states what was found, from the figures below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from lastresort.ladder import trains
from lastresort.records.decision import Failures, RungView, RunView
from lastresort.records.decision_parts import WeighedCheckpoint, Weighing
from lastresort.records.document import code_of
from lastresort.records.events.training import TrainingReached
from lastresort.records.measurement import Cost
from lastresort.records.reasons import BarMet, PromptingLeftOut
from lastresort.report.charts.loss import drawn_figure, finite_points, smoothed
from lastresort.report.words.answer import OF_GATE
from lastresort.report.words.wording import (
    capital,
    count,
    counted,
    duration,
    listed,
    money,
    percent,
    round_percent,
    rung_in_prose,
    spaced,
    state_of,
    times,
)
from lastresort.types import Outcome


def of_weighing(weighing: Weighing) -> str:
    """What was taken of the checkpoints, and at what distance from the base."""
    chosen = next(one for one in weighing.checkpoints if one.candidate == weighing.chosen)
    likely = sum(one.met_chance >= weighing.least_chance for one in weighing.checkpoints)
    if not weighing.predicted:
        return f"No checkpoint is likely to meet the bar; {checkpoint(chosen)} is the best on dev"
    return (
        f"{capital(checkpoint(chosen))} moved least of the {likely} checkpoints that are likely to meet the bar"
        if likely > 1
        else f"Only {checkpoint(chosen)} is likely to meet the bar"
    )


def checkpoint(one: WeighedCheckpoint) -> str:
    """ "step 40 at scale 0.5, constrained"."""
    scale = "" if one.scale == 1 else f" at scale {one.scale:g}"
    return f"{one.unit} {one.stop}{scale}{', constrained' if one.constrained else ''}"


_GATED = {"HOLD": ", but the gate holds it", "REJECT": ", but the gate rejects it"}


def of_rung(name: str, entry: RungView | None, bar: float) -> str:
    rung = capital(rung_in_prose(name))
    if entry is None or not entry.applies:
        return f"{rung} was {state_of(entry)}"
    test = entry.test
    if test is None:
        return f"{rung} has not been tested"
    score, gated = percent(test.score), _GATED.get(entry.gate or "", "")
    if test.n_used < test.n_available:
        score += f" on {counted(test.n_used, f'test {test.unit}')}"
    if test.verdict == "MET":
        return f"{rung} meets the bar with {score}{gated}"
    if test.verdict == "NOT_MET":
        return f"{rung} misses the bar with {score}"
    side = "at or above" if test.score >= bar else "below"
    return f"{rung} scores {score}, {side} the bar, but is undecided{gated}"


def untested(entry: RungView) -> str:
    """How far a rung came that was neither tested nor skipped, as a clause: its choice, or the best of those on most dev items."""
    measured = [one for one in entry.candidates if one.dev.n]
    leading = [one for one in measured if one.name == entry.chosen] or measured
    if not leading:
        return "has not been tested"
    best = max(leading, key=lambda one: (one.dev.n, one.dev.score))
    of_items = f"{percent(best.dev.score)} of {counted(best.dev.n, 'item')}"
    return f"has not been tested; best so far on dev: {best.name}, {of_items}"


def of_ladder(decision: RunView) -> str:
    bar = round_percent(decision.bar)
    tested = {rung.name: rung.test.verdict for rung in decision.rungs if rung.test is not None}

    def those(verdict: Outcome) -> list[str]:
        return [rung_in_prose(name) for name, found in tested.items() if found == verdict]

    met, missed, undecided = those("MET"), those("NOT_MET"), those("UNDECIDED")
    if not tested:
        return "No rung could be tested" if decision.decided else "No rung has been tested yet"
    parts = [f"{listed(met)} {_verb(met, 'meet')} the bar of {bar}"] if met else []
    if missed:
        parts.append(f"{listed(missed)} {_verb(missed, 'miss')} {'it' if parts else f'the bar of {bar}'}")
    if undecided:
        against = "" if parts else f" against the bar of {bar}"
        parts.append(f"{listed(undecided)} {'is' if len(undecided) == 1 else 'are'} undecided{against}")
    return capital("; ".join(parts))


def _verb(names: Sequence[str], verb: str) -> str:
    return verb if len(names) > 1 else f"{verb}es" if verb.endswith("s") else f"{verb}s"


def of_failures(failures: Failures, wrong: int, n: int, *, graded: bool = False) -> str:
    """What kind of mistake the chosen candidate makes on dev. graded: some answers are neither right nor wrong."""
    if not wrong:
        return f"All {count(n)} dev answers are right"
    counts = {"format": failures.format, "knowledge": failures.knowledge or 0, "other": failures.other}
    kind = max(counts, key=lambda name: counts[name])
    most, one = counts[kind], counts[kind] == 1
    names = {
        "format": f"{'has' if one else 'have'} the wrong format",
        "knowledge": f"{'lacks' if one else 'lack'} knowledge",
        "other": f"{'has' if one else 'have'} the right format{'' if graded else ' but the wrong content'}",
    }
    share = ("it" if one else "all") if most == wrong else count(most)
    verb = (
        "falls short"
        if graded and wrong == 1
        else "fall short"
        if graded
        else "is wrong"
        if wrong == 1
        else "are wrong"
    )
    return f"{count(wrong)} of {counted(n, 'dev answer')} {verb}: {share} {names[kind]}"


AT_ENDS = 5  # steps: a single batch is noisy


def of_training(curves: Mapping[str, Sequence[Mapping[str, float]]], chosen_rate: str | None) -> str:
    """What the loss or the reward did in the longest run: from one end of the line that is drawn to the other, or, where its first
    or last batch alone says otherwise, by the means at both ends.
    """
    longest = max(curves, key=lambda name: len(curves[name]), default=None)
    figure = drawn_figure({} if longest is None else {longest: curves[longest]})
    line = [] if longest is None else smoothed(finite_points(curves[longest], figure))
    if len(line) < 2:
        return "Training"
    values = [value for _, value in line]
    n = min(AT_ENDS, len(values) // 2)
    means = fmean(values[:n]), fmean(values[-n:])
    change, ends = means[1] - means[0], f"from {values[0]:.2f} to {values[-1]:.2f}"
    wanted = 1 if figure == "reward" else -1
    better = wanted * change > 0
    if n > 1 and (wanted * (values[-1] - values[0]) > 0) != better:
        ends = f"from {means[0]:.2f} to {means[1]:.2f} as means of {n} steps"
    if figure == "reward":
        return f"Mean reward {'rises' if better else 'does not rise:'} {ends}"
    raced = f", the best of {len(curves)} learning rates" if len(curves) > 1 and chosen_rate else ""
    return f"Training loss {'falls' if better else 'does not fall:'} {ends}{raced}"


def of_sharing(trainings: Sequence[TrainingReached]) -> str:
    """How much compute the shared prefixes saved; empty where it was not recorded."""
    computed = sum(training.computed_tokens for training in trainings)
    nominal = sum(training.nominal_tokens for training in trainings)
    if not computed or nominal < computed:
        return ""
    return (
        f"{count(computed)} tokens were computed for {count(nominal)} tokens of rows: computing shared prefixes once saves "
        f"{times(nominal / computed)}."
    )


TOOK = "the wall clock of the processes that worked on it, without the time that it was stopped"


def ran_for_less(total: Cost, ran_s: float | None) -> bool:
    """Whether the run took clearly less time than its work adds up to."""
    return ran_s is not None and work_exceeds(total.seconds, ran_s)


SPARED = "Runs that took less time or money than their work adds up to reused earlier answers or made several at once."


def work_exceeds(work_s: float, ran_s: float) -> bool:
    """Whether work takes clearly longer than a run did."""
    return work_s > 1.05 * ran_s + 1


def of_cost(total: Cost, seconds: Mapping[str, float], ran_s: float | None = None, *, over: bool = True) -> str:
    """seconds: of each part of the climb, by name. ran_s: how long the run took, None where that is unknown. over: whether the
    climb is decided, so that nothing comes on top.
    """
    if not over and not any(seconds.values()):
        return "No part of the climb is done yet"
    title = f"The work of the climb takes {duration(total.seconds)}"
    if not over:
        title = f"The parts of the climb that are done took {duration(total.seconds)}"
    elif ran_s is not None:
        title = f"The climb took {duration(ran_s)}"
        title += f" for work that takes {duration(total.seconds)}" if ran_for_less(total, ran_s) else ""
    if len(seconds) > 1 and total.seconds:
        longest = max(seconds, key=lambda name: seconds[name])
        title += f", {percent(seconds[longest] / total.seconds, 0)} of the work for {rung_in_prose(longest)},"
    if total.usd is None:
        return f"{title} and spent an unknown amount: the task sets no price"
    return f"{title} and cost {money(total.usd)}" if total.usd else f"{title} and made no paid call"


def took_less(total: Cost, ran_s: float | None) -> str | None:
    """Next to the costs of the rungs, where the run took less than they add up to."""
    if ran_s is None or not ran_for_less(total, ran_s):
        return None
    return spaced(
        f"The run took {duration(ran_s)}: answers reused from an earlier run, or made at once, count in full above."
    )


def took_line(total: Cost, ran_s: float | None, *, over: bool = True) -> str:
    """What the duration of a run counts, and why the times of its parts add up to another one. over: as in `of_cost`."""
    apart = (
        "Answers reused from an earlier run, or made at the same time as others, count in full"
        if ran_for_less(total, ran_s)
        else "What belongs to no part, such as loading models, is not in them"
    )
    took = "" if ran_s is None else f"The climb {'took' if over else 'has taken'} {duration(ran_s)}: {TOOK}. "
    return f"{took}Times in the table are those of the work. {apart}."


def answer_line(found: RunView) -> str:
    """The headline with its question, for where nothing above it asks it."""
    return headline(found) if found.answer is None else f"Fine-tune? {headline(found)}"


def below_headline(found: RunView) -> str:
    """What a reader must know along with the answer: that prompting was not tested; "" where it was."""
    return next((reason.text for reason in found.reasons if reason.code == code_of(PromptingLeftOut)), "")


FEW = 100  # test items below which the interval of a score is some 20 points wide and more


def headline(found: RunView) -> str:
    """The answer, or how far a run has come that is at work or was stopped."""
    if found.answer is not None:
        few = _few_items(found)
        return f"{found.answer.removesuffix('.')} ({few})." if few else found.answer
    tested = [rung for rung in found.rungs if rung.test is not None]
    if not found.rungs:
        return "Not decided yet: no rung has been tried so far."
    if not tested:
        return f"Not decided yet: {rung_in_prose(found.rungs[-1].name)} has not been tested."
    if (met := next((rung for rung in reversed(tested) if rung.test and rung.test.verdict == "MET"), None)) is not None:
        return f"Not decided yet: {_met_so_far(met, found.bar)}."
    names = listed(rung_in_prose(rung.name) for rung in tested)
    return f"Not decided yet: so far {names} {'was' if len(tested) == 1 else 'were'} tested."


def _met_so_far(rung: RungView, bar: float) -> str:
    """Of a rung that meets the bar, and what its gate says, if it has one."""
    assert rung.test is not None
    reached = (
        f"{rung_in_prose(rung.name)} reaches {round_percent(rung.test.score)} against a bar of {round_percent(bar)}"
    )
    if not trains(rung.name):
        return reached
    if rung.gate is None:
        return f"{reached}, and no gate has decided so far"
    return f"{reached}, {'and' if rung.gate == 'SHIP' else 'but'} the gate {OF_GATE[rung.gate]}"


def _few_items(found: RunView) -> str:
    """On how many test items a rung meets the bar, "" where they are not few, and where the gate holds it: two lines have no room
    for both.
    """
    figures = found.answer_figures or {}
    if found.answer_code != code_of(BarMet) or figures.get("held"):
        return ""
    tests = [rung.test for rung in found.rungs if rung.name == figures.get("rung") and rung.test is not None]
    return next((counted(test.n_used, test.unit) for test in tests if test.n_used < FEW), "")
