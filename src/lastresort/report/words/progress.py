"""A run's events and stages as they come about, and what a command says while it works, a line each. Events that are only
bookkeeping say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.ladder import RUNGS, trains
from lastresort.records.events import Event
from lastresort.records.events.after_test import GateRun, RepairTested, RepairTried
from lastresort.records.events.base import Stage
from lastresort.records.events.run import ClimbDecided, ClimbStopped, TaskRead
from lastresort.records.events.search import (
    CandidateMeasured,
    PromptOptimised,
    ReflectionLate,
    RungGivenUp,
    RungSearched,
    RungSkipped,
    RungTested,
    StoreBuilt,
)
from lastresort.records.events.training import LapTrained
from lastresort.records.gate_cause import cause_of
from lastresort.records.measurement import DEV, REST, whole_of
from lastresort.records.reasons import UncountedCost
from lastresort.records.view import noted_task
from lastresort.report.words import untuned
from lastresort.report.words.answer import gate_line
from lastresort.report.words.rungs import of_repair, of_selection
from lastresort.report.words.titles import headline
from lastresort.report.words.wording import (
    count,
    counted,
    duration,
    forecast_figures,
    listed,
    money,
    percent,
    rung_in_prose,
    stopped,
)
from lastresort.types import Judgement

if TYPE_CHECKING:
    from lastresort.scale.crew import CrewNote


def workers_line(workers: int, needs: str, address: str) -> str:
    """Said once, when a command begins to measure on a cluster."""
    if not workers:
        return f"Ray ({address}): no room for a worker yet; each needs {needs}."
    return f"Ray ({address}): up to {counted(workers, 'worker')} with {needs} each."


def training_workers_line(trainings: int, needs: str, address: str, forecast_threads: int | None = None) -> str:
    """Said once, when a study, or a rung of a climb, begins to train on a cluster. forecast_threads: that forecasts count, where a
    worker has fewer.
    """
    if not trainings:
        return f"Ray ({address}): no room for a training run yet; each needs {needs}."
    found = f"Ray ({address}): up to {counted(trainings, 'training run')} at once with {needs} each."
    if forecast_threads is None:
        return found
    return f"{found} Forecasts assume one process on {forecast_threads} CPUs; OMP_NUM_THREADS gives each worker more."


def trains_here_line(needs: str) -> str:
    """Said once, before anything is measured, where a local cluster has no room for a training."""
    return f"--ray local: this machine has no room for a training run on a worker, which needs {needs}. This process trains."


def laps_here_line(needs: str, address: str, machines: int = 1) -> str:
    """Said once per climb or study, where a cluster has no room for trainings at workers. machines: that a training takes."""
    if machines > 1:
        return (
            f"Ray ({address}): no machine has room for a training run on a worker, which needs {needs}. This process trains, with "
            f"the processes of a training run on {machines} machines."
        )
    return (
        f"Ray ({address}): there is no room for two training runs on workers, each of which needs {needs}. "
        "This process trains."
    )


def no_card_line(address: str, found: str) -> str:
    """Said once per climb, where no worker can hold a training. found: why."""
    return f"Ray ({address}): {found}, and a worker trains on one. This process trains, as without --ray."


def of_training_begun(label: str) -> str:
    """The first worker that is free takes it."""
    return f"{label}: training given to the workers"


def of_training_ended(label: str, seconds: float) -> str:
    return f"{label}: trained in {duration(seconds)}"


def unreadable_lap_line(lap: str, found: str) -> str:
    """lap: the name of its folder. found: why it cannot be read."""
    return (
        f"The record of a worker's training, laps/{lap}, is dropped: {found}. It is trained again from its checkpoint."
    )


def of_trainings(number: int) -> str:
    """A stage of progress."""
    return f"{counted(number, 'training run')} on workers"


_COUNTED = {"train": "step", "dev": "dev answer"}  # by split


def training_so_far(label: str, stage: Stage | None) -> str:
    """`sft, 34 examples, seed 0: step 12 of 60`; of other work its own label says what is counted. stage: as its worker showed it
    last, None where there is none yet.
    """
    if stage is None or not stage.total:
        return label
    of_label = stage.label if stage.label.startswith(f"{label}: ") else f"{label}: {stage.label}"
    work = f"{label}: {_COUNTED[stage.split]}" if stage.split in _COUNTED else f"{of_label},"
    return f"{work} {count(min(stage.done, stage.total))} of {count(stage.total)}"


def crew_line(note: CrewNote) -> str:
    """What a user hears of the workers of a command."""
    from lastresort.scale.crew import WaitingForRoom

    if isinstance(note, WaitingForRoom):
        return f"Waiting for room in the cluster: a worker needs {note.needs}."
    return f"A worker was lost ({note.why}). Its {note.job} goes to another one."


def no_workers_line(purpose: str = "") -> str:
    """Said once, in the place of `workers_line`, where workers have nothing to do. purpose: "for" what, if others follow."""
    started = f"started {purpose}" if purpose else "started"
    return f"--ray: no workers are {started}, since only endpoints answer. One process calls these just as fast."


def line_of(event: Event) -> str | None:
    """None where there is nothing to tell."""
    match event:
        case TaskRead():
            task = noted_task(event.task)
            return f"{task.task}: {task.model} against a bar of {percent(task.bar)}"
        case CandidateMeasured():
            cut = f", {of_cut(event.cut, event.n)}" if event.cut else ""
            return f"{event.rung}: {event.candidate} scores {percent(event.score)} on {_split(event)}{cut}"
        case RungSkipped() | RungGivenUp():
            return f"{event.rung}: skipped, {stopped(event.reason.text)}"
        case RungSearched():
            return f"{event.rung}: {event.chosen} goes to the test: {of_selection(event.why)}"
        case PromptOptimised():
            return untuned.optimised_line(event)
        case ReflectionLate():
            return untuned.of_late_reflection(event.rung, event.seconds)
        case RungTested() | RepairTested():
            return f"{event.rung}: {event.system} {_tested(event.judgement)}"
        case StoreBuilt():
            return f"retrieval: {counted(event.documents, 'document')} in {counted(event.chunks, 'passage')}"
        case LapTrained():
            loss = "diverged" if event.dev_loss is None else f"loss on dev {event.dev_loss:.3f}"
            return f"{event.rung}: learning rate {event.rate:g}, step {event.step}: {loss}"
        case GateRun():
            found = event.gate
            return gate_line(found.rung, found.verdict, cause_of(found.suites, found.target, costly=found.costly))
        case RepairTried():
            return f"{event.rung}: repair {event.repair} {event.setting:g}: {of_repair(event)}"
        case ClimbDecided():
            return headline(event.decision)
        case _:
            return None


def of_cut(cut: int, n: int, limit: int | None = None) -> str:
    """How many answers ended at the token limit. limit: in tokens, where it is known."""
    verb = "was" if cut == 1 else "were"
    at = "the token limit" if limit is None else f"the limit of {counted(limit, 'token')} (decode.max_new_tokens)"
    return f"{count(cut)} of {counted(n, 'answer')} {verb} cut at {at}"


def cut_line(rung: str, cut: int, n: int, limit: int) -> str:
    """Of the answers to a test."""
    return f"{rung}: {of_cut(cut, n, limit)}"


def end_line(stopped: ClimbStopped | None, *, started: bool = True) -> str:
    """Of a run that no process works on before its end. started: whether it has read its task."""
    before = f"before it {'finished' if started else 'started'}"
    if stopped is None:
        return f"It died {before}: it crashed, was killed, or did not end soon enough after a signal (such as Ctrl-C)."
    match stopped.by:
        case "file":
            return f"You stopped it {before}."
        case "signal":
            return f"A signal to its process (such as Ctrl-C) stopped it {before}."
        case "limit":
            return f"It reached a limit of its task (limits.hours or limits.usd) {before}."
        case "error":
            return f"It ended with an error {before}: {stopped.error}"


def laps_line(laps: Sequence[LapTrained]) -> str:
    """`Trained so far: learning rate 0.0001, step 40: loss on dev 0.512; …`: how far each rate got, "" for none. laps: of a rung,
    in the order they were trained.
    """
    furthest = {lap.rate: lap for lap in laps}
    lines = [(line_of(lap) or "").removeprefix(f"{lap.rung}: ") for lap in furthest.values()]
    return f"Trained so far: {'; '.join(lines)}" if lines else ""


def losses_line(losses: Sequence[float]) -> str:
    """`Loss of the last 40 steps: 2.310 to 0.412`; "" where there is no line to draw of it."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2:
        return ""
    return f"Loss of the last {counted(len(losses), 'step')}: {finite[0]:.3f} to {finite[-1]:.3f}"


TIMING = "timing a few layers of the model on this machine, to forecast how long its work takes"


def timed_before(at_s: float, now_s: float, load_then: float, load: float, cores: int) -> str:
    """Of a speed that is known. at_s: when it was measured, in seconds since 1970. load_then, load: as in `busy_here`."""
    at = datetime.fromtimestamp(at_s, UTC)
    said = f"This machine's speed with the model was measured {duration(now_s - at_s)} ago, at {at:%H:%M:%S} UTC."
    on = f"on {counted(cores, 'core')}"
    match load_then >= cores, load >= cores:
        case False, True:
            return f"{said} It is busy now (load {load:.1f} {on}), so the forecast may be much too low."
        case True, False:
            return f"{said} It was busy then (load {load_then:.1f} {on}), so the forecast may be much too high."
        case True, True:
            return f"{said} It was busy then (load {load_then:.1f} {on}) and is now ({load:.1f}), so the forecast may be far off."
    return said


def busy_here(load: float, cores: int) -> str:
    """Of a machine that is timed while others use it. load: processes that computed in the last minute, on average."""
    return (
        f"This machine is busy (load {load:.1f} on {counted(cores, 'core')}): it is timed as it is now, so the forecast may be "
        "much too high."
    )


def of_stage(stage: Stage) -> str:
    """What it is about, and how well it goes."""
    return stage.label if stage.loss is None else f"{stage.label}, loss {stage.loss:.3f}"


def stage_line(stage: Stage) -> str:
    """`prompting: testing few-shot-8: 48 of 300, about 2 minutes left, loss 0.412`."""
    parts = [stage.label]
    if stage.total:
        parts.append(f"{count(min(stage.done, stage.total))} of {count(stage.total)}")
    told = ": ".join(parts)
    if (left_s := stage_left_s(stage)) is not None:
        told += f", {left_line(left_s)}"
    return told if stage.loss is None else f"{told}, loss {stage.loss:.3f}"


def rate_line(stage: Stage, since_s: float = 0.0) -> str:
    """`48 of 300 · 3.4 items a second · about 1 min 14 s left`, as far as it is known. since_s: how long ago the stage was so."""
    left_s = stage_left_s(stage)
    return " · ".join([*rate_parts(stage), *([left_line(left_s - since_s)] if left_s else [])])


def rate_parts(stage: Stage) -> list[str]:
    """How far it is and how fast, without the time left. Prompts that were read alone give no rate of items."""
    parts = [f"{count(min(stage.done, stage.total))} of {count(stage.total)}"] if stage.total else []
    if stage.read >= 1:
        parts.append(f"{counted(math.floor(stage.read), 'prompt')} read and not answered yet")
    left_s = stage_left_s(stage)
    if stage.total and stage.done and left_s:
        parts.append(_rate((stage.total - stage.worked) / left_s, "step" if stage.split == "train" else "item"))
    return parts


def note_of(stage: Stage) -> str:
    """What is shown after the progress; "" of a training, whose loss has a place of its own."""
    return stage.note if stage.loss is None else ""


def stage_left_s(stage: Stage) -> float | None:
    return stage.eta_s if stage.total and stage.done < stage.total else None


SOON, LATE = "less than a second left", "taking longer than expected"


def left_line(left_s: float) -> str:
    """left_s: 0 and less where it should be done by now."""
    return f"about {duration(left_s)} left" if left_s >= 1 else SOON if left_s > 0 else LATE


def _rate(per_s: float, unit: str) -> str:
    if per_s < 0.2:
        return f"{duration(1 / per_s)} {'an' if unit[0] in 'aeiou' else 'a'} {unit}"
    return f"{count(per_s) if per_s >= 10 else f'{per_s:.1f}'} {unit}s a second"


def spent_line(stage: Stage, since_s: float = 0.0) -> str:
    """Of a whole run. since_s: how long ago the stage was so."""
    return f"{duration(stage.spent_s + since_s)} so far · {money(stage.spent_usd)} spent"


def forecast_line(seconds: Mapping[str, float], *, gated: bool) -> str:
    """seconds: that each rung would take. gated: whether a gate may follow."""
    rungs = listed(f"{duration(taken)} for {rung_in_prose(name)}" for name, taken in seconds.items())
    gate = " The gate of a tuned model comes on top; --dry-run forecasts it." if gated else ""
    return f"Forecast for this machine: about {rungs}. The climb stops at the first rung that meets the bar.{gate}"


def limit_line(
    seconds: Mapping[str, float],
    left_s: float,
    others: Mapping[str, float] | None = None,
    *,
    unknown: Sequence[str] = (),
) -> str:
    """Whether the rungs of a forecast fit into what is left of `limits.hours`; else at which of them the limit comes.

    A rung that trains does not start where its forecast exceeds the time left by then. others: what counts besides the rungs, such
    as "the gate". unknown: rungs and others without a forecast: with one of them nobody knows whether the time is enough.
    """
    limit, spent = f"The time limit (limits.hours) leaves {duration(left_s)}", 0.0
    for name, taken in seconds.items():
        if spent + taken > left_s:
            rung = rung_in_prose(name)
            cut = f"{rung} may be skipped" if trains(name) else f"the climb may stop during {rung}"
            return (
                f"{limit}, less than the {duration(spent + taken)} forecast up to the end of {rung}: {cut}. Raise the limit, or "
                "leave rungs out with --until."
            )
        spent += taken
    together, others = f"take about {duration(spent)}", others or {}
    whole_s = spent + sum(others.values())
    with_others = f"; with {listed(others)} about {duration(whole_s)}" if others else ""
    if whole_s > left_s:
        return (
            f"{limit}. These rungs {together} together{with_others}, which is more: the climb may stop before its end. Raise the "
            "limit; --resume then continues."
        )
    if unknown:
        rungs = "The rungs with a forecast" if any(name in RUNGS for name in unknown) else "These rungs"
        names = listed(rung_in_prose(name) if name in RUNGS else name for name in unknown)
        count_too = f"{names} {'counts' if len(unknown) == 1 else 'count'} too"
        return f"{limit}. {rungs} {together} of it together{with_others}, and {count_too}."
    return f"{limit}, enough for these rungs, which {together} together{with_others}."


def long_rung_line(rung: str, seconds: float) -> str:
    return f"{rung}: this may take {duration(seconds)}. To shorten it, {RUNGS[rung].shorten}, or stop before it with --until."


def rung_continues_line(
    rung: str, seconds: float | None, usd: float | None, uncounted: Sequence[UncountedCost] = ()
) -> str:
    """Of a rung that has begun. seconds, usd: of the whole rung, as nobody knows what is left of it."""
    about = forecast_figures(seconds, usd, uncounted)
    return f"{rung} continues.{f' Forecast of the whole rung: {about}. What is done is kept.' if about else ''}"


def rung_begins_line(
    rung: str, seconds: float | None, usd: float | None, uncounted: Sequence[UncountedCost] = ()
) -> str:
    """What a rung that begins is forecast to take, with the judge of its answers; "" where nothing is known. Money is what answers
    of the greatest length cost, with all the thinking that a named effort has room for. uncounted: what is not in these figures.
    """
    about = forecast_figures(seconds, usd, uncounted)
    return f"{rung} begins. Forecast: {about}." if about else ""


def expensive_rung_question(
    rung: str, seconds: float | None, usd: float | None, uncounted: Sequence[UncountedCost] = ()
) -> str:
    return f"{rung} is forecast to take {forecast_figures(seconds, usd, uncounted)}. Start it?"


def expensive_rung_unasked(seconds: float | None, usd: float | None, uncounted: Sequence[UncountedCost] = ()) -> str:
    return (
        f"No terminal to ask, so the climb continues ({forecast_figures(seconds, usd, uncounted)}). A stop file, "
        "limits.hours, limits.usd or --until ends it earlier."
    )


def asked_line(question: str, answer_s: float) -> str:
    """answer_s: how long an answer is waited for."""
    return f"{question} [y/N] Without an answer in {duration(answer_s)} the climb continues."


def unanswered_line() -> str:
    return "No answer, so the climb continues."


def _split(event: CandidateMeasured) -> str:
    split = whole_of(event.split)
    if split == REST:
        return f"{counted(event.n, 'more test item')} for the gate"
    return counted(event.n, f"{DEV if split == DEV else 'test'} item")


def _tested(found: Judgement) -> str:
    verdict = {"MET": "meets the bar", "NOT_MET": "stays below the bar", "UNDECIDED": "is undecided"}[found.outcome]
    which = "" if found.n_used == 1 else "all " if found.n_used == found.n_available else "the first "
    return f"{verdict} with {percent(found.score)} on {which}{counted(found.n_used, f'test {found.unit}')}"


def folder_line(what: str, folder: Path) -> str:
    """ "run: runs/tickets-1": where a command writes."""
    return f"{what}: {folder}"


def kept_settings_line(settings: Mapping[str, object]) -> str:
    """Of a run that is resumed. settings: dotted keys that were not named again."""
    return (
        f"Settings kept from the start of this run: {', '.join(f'{key}={value}' for key, value in settings.items())}."
    )


# While the winner is served.

OPENING = "opening the winner ..."
NO_PROMPT = "No prompt is served next to the winner: it is not in the folder of a run that tested one."
PROMPT_WON = "The best prompt is the winner itself, so it is not served a second time."


def context_line(longest: int, context: int) -> str:
    """In tokens. longest: of a prompt with its answer."""
    return f"A prompt and its answer get {count(longest)} tokens of the {count(context)} that the model takes; see --longest."


def stopping_line(answers: int, seconds: float) -> str:
    """answers: that are finished first, within so many seconds."""
    if not answers:
        return "stopping"
    return f"stopping: {counted(answers, 'answer')} {'is' if answers == 1 else 'are'} finished first, for up to {seconds:g} s"
