"""What to do after a climb that ended without an answer or with a HOLD, in a few sentences: the next rung, more items, more
labels, another gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from lastresort.errors import InfrastructureError
from lastresort.ladder import RUNGS
from lastresort.records import reasons as value
from lastresort.records.decision import RunView
from lastresort.records.events.run import ClimbStopped
from lastresort.records.gate import ClimbGate
from lastresort.records.gate_cause import cause_of, items_of
from lastresort.report.words.progress import end_line
from lastresort.report.words.verdicts import beyond
from lastresort.report.words.wording import capital, counted, forecast_figures, listed, rung_in_prose, spaced

RESUME = "lastresort climb TASK --resume RUN"  # where neither is known
TO_USE_HELD = (
    "To use the winner although it is held: `--allow-held` with `lastresort chat`, `serve`, `verify` or `handoff`. The run "
    "stays held, also after another gate."
)


def set_to_stop(decision: RunView) -> value.Stopped | None:
    """Where `--until` ended the climb, and what would come next; None where something else ended it."""
    for reason in decision.reasons:
        if reason.code == "stopped" and reason.figures.get("why") == "UNTIL":
            with suppress(ValidationError):
                found = TypeAdapter(value.Stopped).validate_python(reason.figures)
                return found if found.ahead is None or found.ahead.rung in RUNGS else replace(found, ahead=None)
    return None


def next_step(decision: RunView, resume: str = RESUME, stand_ins: Sequence[str] = ()) -> str | None:
    """What to do where `--until` ended the climb below a rung that applies, where it ended UNDECIDED, or where the gate holds the
    winner; None elsewhere, and where no test can go on: that of a repaired system cannot. resume: the command that takes the run
    up. stand_ins: words in it in whose place the user writes what the run was started with.
    """
    replaced = f", replacing {listed(stand_ins)} with what the run was started with" if stand_ins else ""
    stopped = set_to_stop(decision)
    ways = []
    if stopped is not None and (ahead := stopped.ahead) is not None:
        ways.append(f"{of_rung_ahead(stopped.at, ahead)} To try it: `{resume} --until {ahead.rung}`{replaced}.")
    ways += _to_decide(decision, f"`{resume} --more FILE`{replaced}")
    steps = [f"Next: {' Or '.join(ways)}"] if ways else []
    if decision.winner is not None and decision.winner.held and decision.gate is not None:
        steps.append(after_hold(decision.gate))
    return " ".join(steps) or None


def after_hold(gate: ClimbGate, run: str = "RUN") -> str:
    """How to settle the HOLD of a winner, as far as its cause allows, and how to use the winner as it is. run: its folder."""
    cause = cause_of(gate.suites, gate.target, costly=gate.costly)
    ways = []
    if cause.underpowered:
        needs = [items_of(found) for found in gate.suites if found.verdict == "UNDERPOWERED"]
        fresh = "as many as this gate may use"
        if gate.mode == "quick":
            fresh = "a full gate uses more of them"
        elif any(one.is_short for one in needs):
            fresh = "as many as this gate had, which decide only if the loss on them is clearly smaller or larger"
        ways += [
            f"gate it on fresh items with `lastresort gate TASK --tuned {run} --seed 2` ({fresh}; its own error is 5%)"
        ]
    if cause.underpowered or cause.costly:
        ways += ["train with more rows or more `replay` in a new run, so that less is lost"]
    if cause.underpowered:
        ways += ["accept a larger loss under `keep` in the task file, and test that on fresh items"]
    if cause.uninformative:
        ways += ["leave out what says nothing about this base model with `keep` in the task file, and gate it again"]
    if cause.passed is False and gate.target.outcome == "MET":  # `_to_decide` speaks of one that is UNDECIDED
        every = " and `--gate full`, which uses all of them" if gate.mode == "quick" else ""
        ways += [f"climb again with more test items{every}, to show the gain over the best prompt"]
    settle = f"To settle the HOLD: {'; or '.join(ways)}. " if ways else ""
    return f"{settle}{TO_USE_HELD}"


def how_to_resume(stopped: ClimbStopped | None, resume: str, *, started: bool) -> str:
    """How a run that no process works on ended without a decision, and the command that takes it up."""
    return f"{end_line(stopped, started=started)} No process is running this climb. To resume it: {resume}"


def of_rung_ahead(at: str, ahead: value.RungAhead) -> str:
    """That `--until` ended the climb, what would come next, and what that is forecast to take, as far as it is known."""
    about = forecast_figures(ahead.seconds, ahead.usd, ahead.uncounted)
    takes = f", forecast to take {about}" if about else ""
    return spaced(
        f"the climb was set to stop at {rung_in_prose(at)}. {capital(rung_in_prose(ahead.rung))} would come next{takes}."
    )


def _to_decide(decision: RunView, again: str) -> list[str]:
    """What would decide the tests that are UNDECIDED, in sentences of which only the last follows no "Next:" or "Or". again: the
    command by which they go on.
    """
    tests = [rung.test for rung in decision.rungs if rung.test is not None and not decision.is_repaired(rung)]
    open_tests = [test for test in tests if test.verdict == "UNDECIDED"]
    if decision.verdict != "UNDECIDED" or not open_tests:
        return []
    settle = [] if decision.winner is None or decision.winner.kind == "none" else ["settle for the answer above."]
    unit, go_on = open_tests[-1].unit, f"and go on with the same test: {again}"
    needed = [test.n_needed - test.n_available for test in open_tests if test.n_needed is not None]
    if any(test.n_needed is None and test.judged is not None and test.judged.is_open for test in open_tests):
        return [
            "label more cases for `score.judge.labelled`, like those of the test, or take a better judge, and start a new "
            "run on fresh test items.",
            *settle,
        ]
    if len(needed) < len(open_tests):
        return [
            *settle,
            "improve the prompt, the training examples or the model until the score is "
            f"clear of the bar, and test that on new test {unit}s. At this score, {beyond(open_tests[-1].n_available, unit)} "
            "would be needed.",
        ]
    return [f"label about {counted(max(needed), f'fresh {unit}')} {go_on}."]


def not_redrawn(page: str, error: InfrastructureError) -> str:
    return f"{page} was not redrawn. {error}"
