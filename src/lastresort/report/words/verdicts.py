"""What a test of the bar showed, how sure that is, and what would decide one that is UNDECIDED."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lastresort.records.decision import RunView
from lastresort.records.measurement import BarTest
from lastresort.records.reasons import RowsFromChangedPassages, RowsShareSource
from lastresort.report.words.wording import (
    capital,
    count,
    counted,
    listed,
    percent,
    round_percent,
    rung_in_prose,
)
from lastresort.types import FARTHEST, JudgedBar


def shared_error(shares: Mapping[str, float]) -> str:
    """How an error rate is split over the tests of the bar; shares: of each, as in the decision."""
    if not shares:
        return "No rung can be tested."
    whole = f"{100 * sum(shares.values()):.3g}%"
    if len(shares) == 1:
        return f"The test of {rung_in_prose(*shares)} has the whole error rate of {whole}."
    split = f"The error rate of {whole} is split over {len(shares)} tests of the bar: {_of_tests(shares)}."
    if any(" " in test for test in shares):
        return f"{split} A repair is a milder version of a tuned model that the gate did not clear."
    return split


def error_rate(rate: float) -> str:
    return f"{100 * rate:.2g}%"


def _of_tests(shares: Mapping[str, float]) -> str:
    """ "prompting 2.5% and SFT 2.5%"; repairs, whose shares are equal, once."""
    repairs = [test for test in shares if " " in test]
    named = [(rung_in_prose(test), share) for test, share in shares.items() if test not in repairs]
    named += [("each repair" if len(repairs) > 1 else "a repair", shares[test]) for test in repairs[:1]]
    return listed([f"{name} {error_rate(share)}" for name, share in named])


def shared_by(tests: int, ladder: Sequence[str], shares: Mapping[str, float] | None = None) -> str:
    """Which tests of the bar the confidence holds for together. shares: of the error; None where all are equal, one a rung and one
    of a repaired system where a rung trains.
    """
    if shares is not None and not shares:
        return "no rung can be tested"
    if shares is not None and len(shares) > 1:
        return f"shared by {len(shares)} tests, with error rates of {_of_tests(shares)}"
    if shares:
        return f"for the test of {rung_in_prose(*shares)}"
    if len(ladder) not in (tests, tests - 1):
        return f"shared by {counted(tests, 'test')}"
    names = [*map(rung_in_prose, ladder), *["a repaired system"] * (tests - len(ladder))]
    return f"for the test of {names[0]}" if tests == 1 else f"shared by {tests} tests: of {listed(names)}"


def of_band(errors: Mapping[str, float], labels: tuple[float, float] | None = None) -> str:
    """What the band at a score is, in the terms of the confidence. errors: of the tests so far, by rung. labels: where people's
    labels correct a judge, what they spend of the errors of the lower and of the upper limit.
    """
    if labels is not None:
        return _of_corrected_band(errors, labels)
    rates = {rung: f"{100 * (1 - rate):.3g}%" for rung, rate in errors.items()}
    if not rates:
        level = "the confidence of a MET of its rung, which is 1 minus the error rate of that test"
    elif len(set(rates.values())) == 1:
        level = f"{next(iter(rates.values()))} confidence, the confidence of a MET"
    else:
        level = f"the confidence of a MET of its rung: {listed(f'{rung_in_prose(rung)} {rate}' for rung, rate in rates.items())}"
    return (
        "Band: lower to upper confidence limit for the true score, valid under early stopping. Each of the two limits holds at "
        f"{level}. A MET rests on the lower limit alone."
    )


def _of_corrected_band(errors: Mapping[str, float], labels: tuple[float, float]) -> str:
    """A test has half of its error rate, and the labels spend a part that all tests have in common."""
    low, high = labels
    rates = [(rung, rate / 2 + low, rate / 2 + high) for rung, rate in errors.items()]
    spent = listed(
        f"{error_rate(below)} and {error_rate(above)}{f' for {rung_in_prose(rung)}' if len(rates) > 1 else ''}"
        for rung, below, above in rates
    )
    return (
        "Band: confidence interval for the corrected score, valid under early stopping. Its lower and upper limits are wrong with "
        f"a probability of at most {f'{spent}: ' if spent else ''}half of the error rate of the rung's test, and the part that the "
        f"labels spend ({error_rate(low)} and {error_rate(high)}), once for all tests together. A MET rests on the lower limit "
        "alone."
    )


def unit_of(decision: RunView) -> str:
    """What the tests of this decision count, "item" or "group": one test set, so that all count the same."""
    return next((rung.test.unit for rung in decision.rungs if rung.test), "item")


def of_units(test: BarTest) -> str:
    """ "141 of 300 items", or "all 300 groups"."""
    used, available = test.n_used, test.n_available
    return f"{'all' if used == available else f'{count(used)} of'} {counted(available, test.unit)}"


def of_all_answered(test: BarTest, n: int, score: float) -> str:
    """Two scores of one system: that of the verdict, and that of all test items that were answered by then; once where they are the
    same.
    """
    if percent(score) == percent(test.score):
        return (
            f"The test stopped at {counted(test.n_used, test.unit)}; over all {count(n)} that were answered by then, the score is "
            f"{percent(score)} as well."
        )
    return (
        f"The test stopped at {counted(test.n_used, test.unit)} with {percent(test.scored)}; over all {count(n)} that were "
        f"answered by then it is {percent(score)}."
    )


IF_IT_HOLDS = "with 80% probability if the score seen is the true one"  # the power that numbers of items are for


def what_would_decide(test: BarTest, *, repaired: bool = False) -> str:
    """What an UNDECIDED needs, as a sentence. repaired: it is the test of a repaired system, which does not go on and needs a new
    one.
    """
    needed, unit = test.n_needed, test.unit
    if needed is None and test.judged is not None and test.judged.is_open:
        return f"{capital(labels_would_decide(test.judged))}."
    if needed is None:
        return f"{capital(beyond(test.n_available, unit))} would decide it: the score is too close to the bar."
    if repaired:
        return f"A new test of about {count(needed)} {unit}s would decide it {IF_IT_HOLDS}."
    more, in_all = counted(needed - test.n_available, f"fresh {unit}"), counted(needed, f"test {unit}")
    return f"Label about {more} ({in_all} in all) to decide it {IF_IT_HOLDS}."


def labels_would_decide(judged: JudgedBar) -> str:
    """What an UNDECIDED needs that no number of test items decides, as a clause."""
    if not judged.explained:
        return (
            f"the labelled cases are not like those of the test, since by them no system is judged at {percent(judged.score)}: "
            "label answers of this test"
        )
    if not judged.estimated:
        return (
            "the labels do not show that the judge tells right answers from wrong ones: more of both kinds are needed"
        )
    if not judged.is_open:
        return "the score is too close to the bar to estimate how many test items are needed"
    if judged.labels_needed is None:
        return f"the labels leave open where the bar lies for this judge, even with {FARTHEST} times as many of them"
    return f"about {counted(judged.labels_needed, 'labelled case')} are needed before test items can decide it"


def of_judge(judged: JudgedBar | None) -> str:
    """The score before the correction, to come before the interval of a corrected score; empty without one."""
    if judged is None:
        return ""
    if not judged.estimated:
        return "the judge's own score, which the labels cannot correct; "
    return f"corrected from the judge's {round_percent(judged.score)}; "


def of_parts(test: BarTest) -> str:
    """What the parts of a test that went on with fresh items say, as a sentence; empty for a test that did not go on."""
    if not test.parts:
        return ""
    first, *fresh = (
        f"{percent(part.score)} of {count(part.n_used)}{'' if number == 0 else f' fresh {test.unit}s'}, tested at an error rate of "
        f"{percent(part.alpha)}"
        for number, part in enumerate(test.parts)
    )
    by = "" if test.judged is None else ", by the judge's own scores"
    return f"The test went on after it was UNDECIDED{by}: {first} at first; then {listed(fresh)}."


def how_far(test: BarTest) -> str:
    """How far an UNDECIDED is from a verdict, in sentences: the way so far, what more units would say, what could be claimed now.
    Of a repaired system only the last. Empty for a verdict, and where the record does not say.
    """
    far = test.outlook
    if far is None:
        return ""
    way = f"less than {percent(1 / FARTHEST, 0)}" if far.seen_share is None else percent(far.seen_share, 0)
    by_labels = far.seen_share is None and test.judged is not None and test.judged.is_open
    chances = [
        f"with {_more(one.n, test)}, MET {chance(one.met)} and NOT MET {chance(one.not_met)}" for one in far.after
    ]
    confidence = f"at {percent(1 - far.error)} confidence"
    limit = math.floor(1000 * far.claimable) / 1000
    claim = (
        f"You may already claim a true score of at least {percent(limit)}, {confidence}: a limit, read after seeing the score, "
        f"not the test of a new bar.{_why_interval_is_wider(test, limit)}"
        if limit > 0
        else f"No score can be claimed now {confidence}."
    )
    if test.judged is not None and not test.judged.corrects:
        return claim
    if not far.after:
        return f"A repaired system is tested once, so its test does not go on with fresh items. {claim}"
    more = f"But the score seen may be luck. Allowing for that, the probabilities are: {'; '.join(chances)}."
    return f"{more} {claim}" if by_labels else f"The test has come {way} of the way. {more} {claim}"


def _why_interval_is_wider(test: BarTest, limit: float) -> str:
    """Why a bar could be claimed that lies within the interval, as a sentence; empty where none does."""
    low, _ = test.interval
    if limit <= low or percent(limit) == percent(low):
        return ""
    return (
        f" The interval starts lower, at {percent(low)}. Both are valid: the interval must hold after every {test.unit}, and this "
        "limit is the best one over all steps."
    )


def _more(n: int, test: BarTest) -> str:
    again = " (as many again)" if n == test.n_available else ""
    return f"{counted(n, f'fresh {test.unit}')}{again}"


def chance(share: float) -> str:
    """A probability that was estimated: never 0% or 100%."""
    return "under 1%" if share < 0.01 else "over 99%" if share > 0.99 else percent(share, 0)


def beyond(n_available: int, unit: str) -> str:
    """How many units an UNDECIDED needs whose `n_needed` is not told."""
    return f"more than {counted(FARTHEST * n_available, f'test {unit}')}"


def how_decided(test: BarTest, bar: float) -> str:
    """Which rule gave the verdict and what it showed; empty for an UNDECIDED. Says why the interval can still include the bar, and
    which of the two to quote where the interval shows more.
    """
    decided = test.decided
    if decided is None:
        return ""
    if decided.by == "continued":
        more = "more" if test.verdict == "MET" else "less"
        return (
            f"the test set and the fresh {test.unit}s together put the true score at {percent(decided.limit)} or {more}"
        )
    exact, (low, high) = decided.by == "exact", test.interval
    rule = "the exact test on all items" if exact else f"the sequential test after each {test.unit}"
    limit = f"{percent(decided.limit)} or {'more' if test.verdict == 'MET' else 'less'}"
    shown = f"{rule} puts the true score at {limit}"
    if not low <= bar <= high:
        end, sharper = (low, low > decided.limit) if test.verdict == "MET" else (high, high < decided.limit)
        said = sharper and percent(end) != percent(decided.limit)
        return f"{shown}; quote {percent(end)}, the limit of the interval, which shows more" if said else shown
    if exact:
        return f"{shown}; the interval is wider and includes the bar, because it holds after every item"
    error = percent(decided.error)
    return f"{shown}, at an error rate of {error}; the interval uses a smaller one and includes the bar"


BEYOND_BAND = (
    "A run can be MET or NOT MET although its interval includes the bar: the test is sharper than the interval. The test's own "
    "limit is shown below it."
)


QUOTE_THE_BAND = (
    "Quote the limits of the band. The rule that decided the verdict has a limit of its own, given below. Quote that one only "
    "where the band includes the bar."
)


def shown_beyond_band(test: BarTest, bar: float) -> str:
    """What the test of a verdict shows whose interval includes the bar, as a few words; empty elsewhere."""
    low, high = test.interval
    if test.decided is None or not low <= bar <= high:
        return ""
    return f"test: {percent(test.decided.limit)} or {'more' if test.verdict == 'MET' else 'less'}"


def changed_passages(found: RowsFromChangedPassages) -> str:
    made = "1 synthetic row of train was" if found.n == 1 else f"{found.n} synthetic rows of train were"
    return (
        f"{made} made from passages that were edited or removed since. The answers may be out of date, and dev or test may name "
        "the new form of these passages. Make the rows again, or remove them from their file."
    )


def shared_source(found: RowsShareSource) -> str:
    """What rows share that belong to no group, why that matters, and what to do, as a clause."""
    rows = f"{counted(found.rows, 'row')}, and {found.in_test} of {counted(found.n_test, 'test item')} among them,"
    if found.column is None:
        shared, how = (
            f"{found.n} long passages of their inputs",
            "Add a column `group` that names the source of each row",
        )
    else:
        shared, how = (
            f'{found.n} values of "{found.column}"',
            f"Set `split.group_by: {found.column}` if they belong together",
        )
    return (
        f"{rows} share {shared}. They are counted as independent, since nothing says that they belong together. If they do, the "
        f"verdict is more confident than it should be, and training may have seen what the test asks about. {how}"
    )


def evidence(verdict: str) -> str:
    """What a test of the bar showed, as a clause."""
    return {
        "MET": "the evidence shows a score at or above the bar",
        "NOT_MET": "the evidence shows a score below the bar",
        "UNDECIDED": "the evidence does not show a score above or below the bar",
    }[verdict]


def last_judged(decision: RunView) -> JudgedBar | None:
    """What the judge said of the last rung that is UNDECIDED; None where no judge is corrected by labels."""
    tests = [rung.test for rung in decision.rungs if rung.test is not None and rung.test.verdict == "UNDECIDED"]
    return tests[-1].judged if tests else None


def provisional(
    unit: str, *, collects: bool, met: bool, won: bool = True, until: str | None = None, judged: JudgedBar | None = None
) -> str:
    """What a decision is that leaves a verdict open. collects: the task stops the climb to collect examples. met: a rung meets the
    bar. won: a system wins, provisionally. until: the rung at which the climb was set to stop, and would have gone on. judged: of
    the last UNDECIDED, where a judge scores.
    """
    state = "Provisional: a" if won else "Nothing won, and a"
    return f"{state} test is UNDECIDED. {_goes_on(unit, collects, met, won, until, judged)}"


def _goes_on(unit: str, collects: bool, met: bool, won: bool, until: str | None, judged: JudgedBar | None) -> str:
    """What the climb did after an UNDECIDED, as a sentence or two."""
    more = f"More {'labelled cases' if judged is not None and judged.is_open else f'test {unit}s'}"
    if collects:
        return "The climb stopped so that more examples can be collected."
    if met:
        return (
            f"It takes nothing from the rung that meets the bar. {more} would show whether the undecided one does, too."
        )
    corrected = judged is None or judged.corrects
    if until is not None:
        by_score = "On the score alone, the climb would go on to the next rung, but it" if corrected else "The climb"
        return f"{by_score} was set to stop at {rung_in_prose(until)} (`--until {until}`)."
    if not corrected:
        return "The judge's score cannot be corrected, so the climb does not follow it: it moves up while there is a rung left."
    if not won:
        return "No rung is left to try."
    return (
        f"Until there are {more.lower()}, the climb follows the point estimate: it moves up if the score is below the bar and "
        "stops otherwise."
    )


def short_of_the_bar(verdict: str | None) -> str:
    """A clause on a system whose verdict is not MET; None where it was not tested."""
    return "which misses the bar" if verdict == "NOT_MET" else "which is not shown to meet the bar"
