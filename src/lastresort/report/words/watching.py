"""What happens in a run, one line an event; events that are only bookkeeping say nothing. Also what a run is at."""

from __future__ import annotations

from lastresort.records.decision import RunView
from lastresort.records.events import (
    CandidateMeasured,
    ClimbDecided,
    Event,
    GateRun,
    LapTrained,
    RepairTested,
    RepairTried,
    RungGivenUp,
    RungSearched,
    RungSkipped,
    RungTested,
    Stage,
    StoreBuilt,
    TaskRead,
)
from lastresort.records.measurement import DEV, whole_of
from lastresort.report.words.wording import count, counted, duration, listed, percent, stopped
from lastresort.types import Judgement


def headline(found: RunView) -> str:
    """The answer, or how far the run has come."""
    return stopped(not_decided(found)) if found.answer is None else found.answer


def not_decided(found: RunView) -> str:
    """The headline of a run that is at work or was stopped."""
    tested = [rung for rung in found.rungs if rung.test is not None]
    if not found.rungs:
        return "Not decided yet: no rung has been tried so far"
    if not tested:
        return f"Not decided yet: {found.rungs[-1].name} has not been tested"
    return (
        f"Not decided yet: so far {listed(rung.name for rung in tested)} {'was' if len(tested) == 1 else 'were'} tested"
    )


def line_of(event: Event) -> str | None:
    """None where there is nothing to tell."""
    match event:
        case TaskRead():
            return f"{event.task['task']}: {event.task['model']} against a bar of {percent(event.task['bar'])}"
        case CandidateMeasured():
            return f"{event.rung}: {event.candidate} scores {percent(event.score)} on {_split(event)}"
        case RungSkipped() | RungGivenUp():
            return f"{event.rung}: skipped, {stopped(event.reason.text)}"
        case RungSearched():
            return f"{event.rung}: {event.chosen} goes to the test: {stopped(event.why)}"
        case RungTested() | RepairTested():
            return f"{event.rung}: {event.system} {_tested(event.judgement)}"
        case StoreBuilt():
            return f"retrieval: {counted(event.documents, 'document')} in {counted(event.chunks, 'passage')}"
        case LapTrained():
            loss = "diverged" if event.dev_loss is None else f"loss on dev {event.dev_loss:.3f}"
            return f"{event.rung}: learning rate {event.rate:g}, step {event.step}: {loss}"
        case GateRun():
            return f"{event.gate.rung}: the gate says {event.gate.verdict}: {stopped(event.gate.reasons[0])}"
        case RepairTried():
            return f"{event.rung}: repair {event.repair} {event.setting:g}: {stopped(event.why)}"
        case ClimbDecided():
            return event.decision.answer
        case _:
            return None


def stage_line(stage: Stage) -> str:
    """`prompting: testing few-shot-8: 48 of 300, about 2 minutes left, loss 0.412`."""
    parts = [stage.label]
    if stage.total:
        parts.append(f"{count(min(stage.done, stage.total))} of {count(stage.total)}")
    told = ": ".join(parts)
    if stage.eta_s is not None and stage.total and stage.done < stage.total:
        told += f", about {duration(stage.eta_s)} left"
    return told if stage.loss is None else f"{told}, loss {stage.loss:.3f}"


def _split(event: CandidateMeasured) -> str:
    where = DEV if whole_of(event.split) == DEV else "test"
    return f"{counted(event.n, f'{where} item')}"


def _tested(found: Judgement) -> str:
    verdict = {"MET": "meets the bar", "NOT_MET": "stays below the bar", "UNDECIDED": "is undecided"}[found.outcome]
    return f"{verdict} with {percent(found.score)} on {counted(found.n_used, f'test {found.unit}')}"
