"""The answer, its reasons and what would change it, in sentences. The answer is a headline: two lines at most."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import assert_never

from lastresort.ladder import MARGIN_ONLY
from lastresort.records import gate_cause
from lastresort.records import reasons as value
from lastresort.records.data_report import RowsLeftOut
from lastresort.records.decision import RunView, winner_notes
from lastresort.records.decision_parts import ComparisonRefusal
from lastresort.records.document import Statement
from lastresort.records.measurement import BarTest
from lastresort.records.rungs import KnowledgeOutpacesTraining, OverTime
from lastresort.report.words import gate, training
from lastresort.report.words.rungs import clause, outpaced
from lastresort.report.words.verdicts import (
    IF_IT_HOLDS,
    beyond,
    changed_passages,
    how_decided,
    labels_would_decide,
    of_judge,
    shared_source,
)
from lastresort.report.words.wording import capital, count, counted, listed, rung_in_prose, stopped, verdict
from lastresort.report.words.wording import round_percent as percent
from lastresort.types import LEAST_BATCHES, CannotTell, GateVerdict, JudgedBar, Judgement

LEAVES_OUT_PROMPTING = (
    "Prompting alone is not tested against the bar: the task's ladder leaves it out, so a cheaper system may be enough."
)
OF_GATE = {"SHIP": "clears it to ship", "HOLD": "holds it", "REJECT": "rejects it"}


def answer_text(answer: value.Answer) -> str:
    """Should I fine-tune? One short answer, the reasons apart."""
    match answer:
        case value.NothingApplies():
            return "Cannot tell: no rung of the ladder applies."
        case value.BarMet():
            return _met(answer)
        case value.Leads():
            return _leads(answer)
        case value.StillOpen():
            if answer.n_needed is None and answer.judged is not None and answer.judged.is_open:
                return _open_by_labels(answer, answer.judged)
            return _open(answer)
        case value.GateRejected():
            return _rejected(answer)
        case value.NotFinished():
            best, bar, n = rung_in_prose(answer.best), percent(answer.bar), len(answer.left)
            left = f"{rung_in_prose(answer.left[0])} was" if n == 1 else f"{n} higher rungs were"
            return f"Not decided: {best} scored {percent(answer.score)} against a bar of {bar}, and {left} not tried."
        case value.NoneMet():
            best, score = rung_in_prose(answer.best), percent(answer.score)
            return f"Not as it is: no rung reaches the bar of {percent(answer.bar)}. The best, {best}, scored {score}."
        case value.CheapestOfSeveral():
            return _cheapest(answer)
        case _:
            assert_never(answer)


def _open(answer: value.StillOpen) -> str:
    scored, bar = f"Cannot tell yet: {rung_in_prose(answer.rung)} scored {percent(answer.score)}", percent(answer.bar)
    if answer.ahead is not None:
        both = f"{scored} and {rung_in_prose(answer.ahead)} {percent(answer.ahead_score)}"
        return (
            f"{both}, too close to the bar of {bar}." if answer.n_needed is None else f"{both}, against a bar of {bar}."
        )
    if answer.n_needed is None:
        return f"{scored}, too close to the bar of {bar}."
    return f"{scored} against a bar of {bar}; it needs about {counted(answer.n_needed, f'test {answer.unit}')}."


def _open_by_labels(answer: value.StillOpen, judged: JudgedBar) -> str:
    score = percent(judged.score)
    if not judged.explained:
        return f"Cannot tell: the labelled cases are not like the test's, so the judge's {score} is no evidence."
    if not judged.estimated:
        return (
            f"Cannot tell: labels do not show that the judge can tell right from wrong, so its {score} is no evidence."
        )
    rung, bar = rung_in_prose(answer.rung), percent(answer.bar)
    return f"Cannot tell yet: {rung} scored {percent(answer.score)}; the judge needs more labels for the bar of {bar}."


def _met(answer: value.BarMet) -> str:
    rung, score, bar = rung_in_prose(answer.rung), percent(answer.score), percent(answer.bar)
    if not answer.tuned:
        rest = "there is little left for tuning to gain" if answer.score >= MARGIN_ONLY else "tuning is not needed"
        return f"No: {rung} reaches {score} against a bar of {bar}, so {rest}."
    sure, uncleared = "Provisionally yes" if answer.provisional else "Yes", _not_cleared(answer)
    rest = "; a rung is undecided" if answer.provisional and not uncleared else ""
    return f"{sure}{uncleared}: {rung} reaches {score} against a bar of {bar}{rest}."


def _leads(answer: value.Leads) -> str:
    yes = "yes" if answer.tuned else "no"
    scored = f"{rung_in_prose(answer.rung)} scored {percent(answer.score)} against a bar of {percent(answer.bar)}"
    rest = "" if answer.held or answer.ungated else ", on too few test items to be sure"
    return f"Provisionally {yes}{_not_cleared(answer)}: {scored}{rest}."


def _rejected(answer: value.GateRejected) -> str:
    n = len(answer.rejected)
    what = rung_in_prose(answer.rejected[0]) if n == 1 else f"{n} tuned systems"
    if answer.kept is None:
        return f"No: the gate rejected {what}, and no untuned system was tested."
    kept = f"{rung_in_prose(answer.kept)} scored {percent(answer.kept_score)} against a bar of {percent(answer.bar)}"
    return f"No: the gate rejected {what}. Without tuning, {kept}."


def _cheapest(answer: value.CheapestOfSeveral) -> str:
    first, last, bar = rung_in_prose(answer.first), rung_in_prose(answer.last), percent(answer.bar)
    if answer.last_wins and answer.ungated:
        return f"Yes, to save money, but no gate ran: {last} is cheaper; for the bar, {first} is enough."
    if answer.last_wins:
        return f"Yes, to save money: {last} has cheaper calls. For the bar of {bar}, {first} is enough."
    cheaper = "its calls are no cheaper" if answer.comparable else "is not shown to be cheaper"
    return f"No: {first} meets the bar of {bar}. {capital(last)} does, too, but {cheaper}."


def _not_cleared(answer: value.BarMet | value.Leads) -> str:
    return ", but not yet cleared to ship" if answer.held else ", but no gate ran" if answer.ungated else ""


def how_to_use(decision: RunView, run: Path) -> list[str]:
    """A line with the commands that use the winner, where there is one that may ship. The lines before say if it is not shown to
    meet the bar, and if no gate ran.
    """
    commands = [command.removeprefix("lastresort ") for command in commands_to_use(decision, run)]
    if not commands:
        return []
    chat, serve, handoff = commands
    use = f"use it: lastresort {chat}, {serve}, or {handoff}"
    return [*winner_notes(decision.winner_verdict, ungated=decision.winner_ungated), use]


def commands_to_use(decision: RunView, run: Path) -> tuple[str, ...]:
    """The commands that use the winner; none where there is none that may ship."""
    if decision.winner is None or decision.winner.path is None or decision.winner.held:
        return ()
    folder = quote(str(run))
    return f"lastresort chat {folder}", f"lastresort serve {folder}", f"lastresort handoff {folder} --to SERVER"


def of_answer(answer: value.Answer) -> Statement:
    return Statement.of(answer, answer_text(answer))


def of_reason(reason: value.Reason) -> Statement:
    return Statement.of(reason, stopped(_because(reason)), names_rung=False)


def of_change(found: value.Change) -> Statement:
    return Statement.of(found, stopped(_change(found)))


def line(statement: Statement) -> str:
    """As one line: after the rung that it is about."""
    return f"{statement.rung}: {statement.text}" if statement.rung is not None else statement.text


def _because(reason: value.Reason) -> str:
    match reason:
        case value.PromptingLeftOut():
            return LEAVES_OUT_PROMPTING
        case value.Stopped():
            return _why_stopped(reason)
        case value.RungSkip(_, why):
            return f"skipped: {why.text}"
        case value.RungResult():
            return _tested(reason)
        case value.GateDecided(_, verdict, cause):
            return f"the gate {OF_GATE[verdict]}: {gate.because(verdict, cause, figures=True)}"
        case value.RepairsTried():
            return _repairs(reason)
        case value.NeighboursCompared():
            return (
                f"On the {counted(reason.n, 'test item')} that both answered, {reason.upper} scored "
                f"{percent(reason.upper_score)} and {reason.lower} {percent(reason.lower_score)}. This is descriptive only: "
                "each test stopped on its own evidence."
            )
        case value.SearchedOnDev(_, findings):
            return " ".join(finding.text for finding in findings)
        case value.InputsTooLong(_, n):
            count = "it counts" if n == 1 else "they count"
            return f"the model refused {counted(n, 'test item')} as too long; {count} as wrong."
        case value.AnswersMoved(_, moved):
            return training.sentence(moved)
        case value.LongRowsLeftOut(n):
            return of_too_long(n)
        case value.FewRows(rungs, n, advised):
            return (
                f"{capital(listed(map(rung_in_prose, rungs)))} had {counted(n, 'row')}; the rule of thumb for a narrow task is "
                f"{advised} to 5,000."
            )
        case value.ExamplesForecast():
            return _more_examples(reason)
        case value.InputsInDocuments(n, n_test):
            return (
                f"{n} of {counted(n_test, 'test input')} also {'appears' if n == 1 else 'appear'} word for word in the "
                "documents. Finding the input again can then find its answer. That is fair only if production questions are "
                "in the documents, too."
            )
        case value.NotGated():
            return "No gate was run: what else tuning changed was not measured."
        case KnowledgeOutpacesTraining():
            return (
                f"{capital(outpaced(reason))}, and it may not go into the prompt, so only weights can hold it: they will be out "
                "of date until they are retrained. Retrain as often as it changes, or allow it in the prompt (`use.context`)."
            )
        case value.KeyIgnored(key, setting):
            return f"{key}: {setting} has no effect in this version."
        case value.ReplayKeyIgnored(section, key, setting):
            without = f"since {section}.replay is 0"
            return f"{section}.{key}: {setting} has no effect on {rung_in_prose(section)}, {without}."
        case RowsLeftOut():
            return of_left_out(reason)
        case value.RowsFromChangedPassages():
            return changed_passages(reason)
        case value.RowsShareSource():
            return f"{capital(shared_source(reason))}."
        case value.NothingCompared(ways, why):
            return f"Nothing was compared ({', '.join(ways)}): {not_compared(why)}."
        case _:
            assert_never(reason)


def not_compared(why: ComparisonRefusal) -> str:
    """Why ways of training are not compared, as a clause."""
    if why.winner is None:
        return "no system won, so there are no settings to train with"
    won = rung_in_prose(why.winner)
    match why.code:
        case "TRAINS_NOTHING":
            return f"{won} won, which trains nothing"
        case "SCALED":
            return "the winner is an adapter at a smaller scale, and the ways are compared at full scale only"
        case "OVER_TIME" if why.planned_s is not None and why.hours_left is not None:
            return clause(OverTime(why.planned_s, why.hours_left))
        case _:
            return f"the winner was trained by {won}, and only a winner of SFT can be trained in other ways"


def _more_examples(reason: value.ExamplesForecast) -> str:
    """What a learning curve promises, or why there is none. Of the score only on a condition: the curve is one of the loss."""
    found = reason.found
    if isinstance(found, CannotTell):
        return f"this training cannot tell how much more examples would help: {_no_curve(found)}."
    falls = listed(
        f"by {percent(1 - one.share)} with {_TIMES[one.times]} as many ({percent(1 - one.interval[1])} to "
        f"{percent(1 - one.interval[0])})"
        for one in found.after
    )
    far, (least, most) = found.after[-1], reason.interval
    low, high = 1 - (1 - least) * far.interval[1], 1 - (1 - most) * far.interval[0]
    if high < reason.bar:
        enough = "so more of the same kind are unlikely to be enough"
    elif low >= reason.bar:
        enough = "so more of the same kind may be enough"
    else:
        enough = "so it is open whether more of the same kind are enough"
    replay = f" ({percent(reason.replay)} of them replay)" if reason.replay else ""
    return (
        f"on rows that it had not seen yet the loss reached {found.loss:.2f} nats per token, after {counted(found.n, 'row')} of "
        f"the first epoch{replay}. By that curve more examples would lower it {falls}. If wrong answers fell in proportion, "
        f"{_TIMES[far.times]} as many would turn {percent(reason.score)} ({percent(least)} to {percent(most)}) "
        f"into {percent(low)} to {percent(high)}, against the bar of {percent(reason.bar)}, {enough}. "
        "This is an approximation from one training run, whose learning rate changed along the way."
    )


_TIMES = {2: "twice", 4: "four times"}


def _no_curve(found: CannotTell) -> str:
    match found.because:
        case "FEW_BATCHES":
            batches = f"{count(found.batches)} batch{'' if found.batches == 1 else 'es'}"
            needed = f"{LEAST_BATCHES} are needed, the last at four times the rows of the first"
            return f"its first epoch has {batches} after the warm-up, and {needed}"
        case "NOT_FALLING":
            return f"over {found.batches} batches the loss on rows that it had not seen does not fall beyond its noise"
        case "OTHER_FORM":
            return f"over {found.batches} batches the loss follows no curve that could be continued"
        case "TOO_WIDE":
            return f"over {found.batches} batches the loss varies too much to say how it would go on"


def of_too_long(n: int) -> str:
    were = "was" if n == 1 else "were"
    return f"{counted(n, 'training row')} exceeded the context and {were} left out."


def of_left_out(found: RowsLeftOut) -> str:
    were = "was" if found.n == 1 else "were"
    if found.because == "repeated":
        rows = counted(found.n, f"{found.rows} item")
        return f"{rows} repeated an input of {found.rows} and {were} left out: each input counts once."
    if found.rows == "preferences":
        rows = "1 preference holds an input" if found.n == 1 else f"{found.n} preferences hold inputs"
        return f"{rows} of dev or test and {were} left out of training."
    if found.because == "not made from train":
        rows = counted(found.n, "synthetic row")
        why = "a row it was made from is not in train as it was, or its group is in dev or test"
        if found.n > 1:
            why = "rows they were made from are not in train as they were, or their group is in dev or test"
        return f"{rows} {were} left out of training: {why}."
    if found.because == "from a held passage":
        rows, they = counted(found.n, "synthetic row"), "it was" if found.n == 1 else "they were"
        made = f"the passage {they} made from"
        return f"{rows} {were} left out of training: dev or test names {made}, or one with nearly the same text."
    rows, side = ("training row", "training") if found.rows == "train" else ("dev item", "dev")
    return f"{counted(found.n, rows)} {were} also {found.because} and left out of {side}."


def _why_stopped(stop: value.Stopped) -> str:
    rung = rung_in_prose(stop.at)
    return {
        "MET": f"{capital(rung)} meets the bar, and every higher rung costs more.",
        "COST_TRIED": f"The bar was met below {rung}, which was tried only for its cost. Nothing is left to try.",
        "COLLECT": f"{capital(rung)} is undecided, and the task says to collect more examples before going on.",
        "LEADS": f"{capital(rung)} is undecided with its score at or above the bar, so the climb stops here for now.",
        "NO_SAVING": f"{capital(rung)} meets the bar, and no higher rung was tried for cheaper calls.",
        "UNTIL": f"The climb was set to stop at {rung} (`--until {stop.at}`).",
        "TOP": "No rung is left.",
    }[stop.why]


def _repairs(reason: value.RepairsTried) -> str:
    first = "rejected" if reason.first == "REJECT" else "held"
    tried = counted(reason.n, "repair")
    head = f"after the gate {first} it, {tried} {'was' if reason.n == 1 else 'were'} tried"
    if reason.frozen is None:
        return f"{head}. {'The climb ended before one was tested' if reason.good else 'None was good, so none was tested'}."
    good = (
        "and was good" if reason.n == 1 else f"and {reason.good} of them {'was' if reason.good == 1 else 'were'} good"
    )
    best = f"{head} {good}. The best on dev, {reason.frozen}, scored {percent(reason.score)} in its test"
    if reason.gate is None:
        return f"{best} and missed the bar, so it was not gated."
    end = "it takes the place of the first" if reason.wins else "the first stays"
    return f"{best}. Its gate on fresh items says {reason.gate}: {end}."


def _tested(reason: value.RungResult) -> str:
    found, bar = reason.test, percent(reason.bar)
    low, high = found.interval
    scored = (
        f"{reason.system} scored {percent(found.score)} on {found.n_used} of {found.n_available} test "
        f"{found.unit}s ({of_judge(found.judged)}interval {percent(low)} to {percent(high)})"
    )
    if found.outcome != "UNDECIDED":
        how = how_decided(BarTest.of(found), reason.bar)
        return f"{scored} and {'meets' if found.outcome == 'MET' else 'misses'} the bar of {bar}{f': {how}' if how else ''}."
    if found.n_needed is not None:
        more = f"about {counted(found.n_needed, f'test {found.unit}')} would decide it {IF_IT_HOLDS}"
    elif found.judged is not None and found.judged.is_open:
        more = labels_would_decide(found.judged)
    else:
        more = f"{beyond(found.n_available, found.unit)} would decide it, as it is too close to the bar"
    side = "at or above" if found.score >= reason.bar else "below"
    return f"{scored}, {side} the bar of {bar}, but undecided: {more}."


def _change(found: value.Change) -> str:
    match found:
        case value.MoreLabelledCases():
            cases = f"About {counted(found.n_needed, 'labelled case')} for the judge instead of {found.n:,}"
            return f"{cases}: with these no number of test items settles whether {rung_in_prose(found.rung)} meets the bar."
        case value.BetterJudge(rung, explained):
            if not explained:
                return (
                    f"Labelled answers of this test, for {rung_in_prose(rung)}: the labelled cases are not like them."
                )
            return (
                f"A judge that is shown to tell right answers from wrong ones, for {rung_in_prose(rung)}: another model or "
                "criterion, or more labelled cases of both kinds."
            )
        case value.MoreTestItems():
            needed = counted(found.n_needed, f"test {found.unit}")
            return (
                f"About {needed} instead of {found.n_available:,}: {IF_IT_HOLDS}, they would settle whether "
                f"{rung_in_prose(found.rung)} meets the bar."
            )
        case (
            gate_cause.GateItems()
            | gate_cause.GateInformative()
            | gate_cause.GateTestItems()
            | gate_cause.GateSmallerLoss()
        ):
            return gate.need(found)
        case value.MilderTraining(rung, repaired):
            if repaired:
                other = "on other training rows, or on fewer of their kind: no repair was good enough"
                return f"{capital(rung_in_prose(rung))} {other}."
            return (
                f"{capital(rung_in_prose(rung))} that loses less: a lower adapter scale, more general rows in training, a "
                "lower learning rate or fewer epochs."
            )
        case value.LowerBar(rung, limit, bar):
            return (
                f"A bar below {percent(bar)}: up to {percent(limit)}, the test does not rule out that {rung_in_prose(rung)} "
                "is enough, but does not show it either."
            )
        case value.HigherBar(rung, limit):
            return f"A bar above {percent(limit)}: the evidence does not show that {rung_in_prose(rung)} would still meet it."
        case value.SkippedRung(rung, why):
            return f"{capital(rung_in_prose(rung))}, if it became possible. It is skipped: {why.text}"
        case value.PromptingLeftOut():
            return "Prompting alone, if it meets the bar with this model. The task's `ladder` leaves it out."
        case value.RestOfLadder(rungs, on_ladder):
            names = ", ".join(rungs)
            return f"Rungs not tried: {names}." if on_ladder else f"Rungs left out of the task's `ladder`: {names}."
        case value.NewerModel():
            return (
                "A newer or larger model that meets the bar with prompting alone. `lastresort recheck RUN --model NEW` runs it on "
                "the same test items."
            )
        case value.ChangedDocuments():
            return "Changed documents. `lastresort recheck RUN` says whether the answers are out of date."
        case _:
            assert_never(found)


def progress_line(rung: str, system: str | None, test: Judgement | None, skipped: Statement | None) -> str:
    """What became of a rung, while the climb goes on."""
    if test is None:
        return f"{rung}: skipped: {'' if skipped is None else skipped.text}"
    return (
        f"{rung}: {verdict(test.outcome)}: {system} scored {percent(test.score)} on "
        f"{counted(test.n_used, f'test {test.unit}')}"
    )


def nothing_left(*, options_kept: bool) -> str:
    """Of a finished run that was resumed. options_kept: whether others were named now."""
    kept = " It keeps the options that gave its decision." if options_kept else ""
    return f"Nothing was left to do: this run had finished.{kept}"


def gate_line(rung: str, verdict: GateVerdict, cause: gate_cause.GateCause) -> str:
    """The gate's verdict, while the climb goes on."""
    return f"{rung}: the gate says {verdict}: {gate.because(verdict, cause, figures=True)}"
