"""Start a climb, resume one, or forecast it. Every refusal that needs no model comes before a folder is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lastresort.app.runtime import resumable
from lastresort.errors import InputError
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.spec.task import Task, given_task, named_models
from lastresort.spec.values import one_of
from lastresort.stop import NEVER, GoOn, Stop
from lastresort.types import GateMode, Progress

if TYPE_CHECKING:
    from lastresort.after.compare.ways import ComparisonRequest
    from lastresort.app.climb import Climbed
    from lastresort.report.forecast import DryRun

RUNS = Path("runs")
GATE_MODES: tuple[GateMode, ...] = get_args(GateMode)


@dataclass(frozen=True, slots=True)
class ClimbRequest:
    """A climb as its user asks for it; each field is the option of `lastresort climb` with its name.

    settings: dotted keys that override the task file's. run: None for the next free folder in `runs`, or, with resume, for the
    newest unfinished run of the task (with more: its newest) that did not fail at its start. until, gate and compare: None for what
    the run was started with, as for settings that are not named. ray: local, auto or HOST:PORT; None for this process alone.
    """

    task: Path | Task
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: Path | None = None
    resume: bool = False
    until: str | None = None
    gate: str | None = None
    compare: str | None = None
    compare_seeds: int = 3
    more: Path | None = None
    ray: str | None = None
    runs: Path = RUNS


def start_climb(request: ClimbRequest, progress: Progress, stop: Stop = NEVER, go_on: GoOn | None = None) -> Climbed:
    """Start or resume a climb and see it through. A run whose input is refused leaves no folder behind.

    go_on: asks the user before what is expensive, None where nobody is there: then it goes on.
    Raises InputError for bad input, PrerequisiteError for what is missing here, StoppedError where it stopped and can be resumed.
    """
    if request.more is not None and not request.resume:
        raise InputError(
            f"--more {request.more} without --resume",
            where="--more",
            expected="a run whose test ended UNDECIDED",
            remedy="Name it with --resume RUN, or add the items to the task's test set.",
        )
    if request.resume:
        given, request = request.settings, _with_recorded_settings(request)
        _refuse_recorded_code(request, given)
        if recorded_settings := {key: value for key, value in request.settings.items() if key not in given}:
            from lastresort.report.words.progress import kept_settings_line

            progress.say(kept_settings_line(recorded_settings))
    task, gate, compare = _read(request)
    from lastresort.after.compare.ways import ComparisonRequest, refuse_impossible
    from lastresort.app.climb import climb
    from lastresort.app.spread import climb_on_ray, machines_of
    from lastresort.climb.loop import rules_of
    from lastresort.climb.prepare import prepare
    from lastresort.climb.room import refuse_beyond_cards, rungs_to_train
    from lastresort.climb.workspace import withdrawn_if_refused
    from lastresort.report.words.progress import folder_line
    from lastresort.rungs.prompting.optimise import refuse_missing

    prepared = prepare(task, begins=not request.resume)
    rungs = rules_of(task, request.until).rungs
    refuse_impossible(compare or ComparisonRequest(), prepared, request.until)
    check_models(task)
    if not request.resume:  # a run that has its optimised prompt goes on without gepa
        refuse_missing(task)
        machines = machines_of(request.ray)
        refuse_beyond_cards(task, rungs_to_train(task, prepared.split.train, rungs), machines=machines)
    made_here = not request.resume and (request.run is None or not request.run.exists())
    folder = _folder(task.task, request)
    with (
        resumable(folder / RECORD),
        withdrawn_if_refused(folder, made_here=made_here),
        climb_on_ray(request.ray, prepared, progress) as workers,
    ):
        progress.say(folder_line("run", folder))
        return climb(
            prepared,
            folder,
            settings=request.settings,
            until=request.until,
            gate=gate,
            compare=compare,
            more=request.more,
            progress=progress,
            stop=stop,
            workers=workers,
            go_on=go_on,
        )


def _with_recorded_settings(request: ClimbRequest) -> ClimbRequest:
    """With the run named, and the settings it was started with where none are given now."""
    from lastresort.climb.identity import merged_settings, settings_of

    name = "" if request.run is not None else given_task(request.task, dict(request.settings)).task
    folder = _folder(name, request)
    recorded = settings_of(folder) if isinstance(request.task, Path) else {}
    return replace(request, run=folder, settings=merged_settings(recorded, request.settings))


def _with_recorded_options(request: ClimbRequest) -> ClimbRequest:
    """With the last rung, the gate and the comparison that the run was started with, where none are given now."""
    from lastresort.records.events.after_test import GateChosen, WaysChosen
    from lastresort.records.events.run import OptionsChosen
    from lastresort.records.record import Record

    if request.run is None:
        return request
    with Record.open(request.run, read_only=True) as record:
        options, gate, ways = record.last(OptionsChosen), record.last(GateChosen), record.last(WaysChosen)
    if request.until is None and options is not None:
        request = replace(request, until=options.until)
    if request.gate is None and gate is not None:
        request = replace(request, gate=gate.mode)
    if request.compare is None and ways is not None and ways.names:
        request = replace(request, compare=",".join(ways.names), compare_seeds=ways.seeds)
    return request


def _refuse_recorded_code(request: ClimbRequest, given: Mapping[str, Any]) -> None:
    """Settings that a run was started with come from the run, not from its user. given: those that are named now."""
    from lastresort.climb.shared_run import code_of, endpoints_of, refuse_code

    if request.settings == given:
        return
    task = given_task(request.task, dict(request.settings))
    code, endpoints = code_of(task), endpoints_of(task)
    if not code and not endpoints:
        return
    user_task = given_task(request.task, dict(given))
    remedy = "If the run is yours, name the setting again with --set."
    refuse_code(code, code_of(user_task), where=str(request.run), remedy=remedy)
    if foreign := endpoints - endpoints_of(user_task):
        raise InputError(
            f"the run was started with the endpoint {sorted(foreign)[0]}, which your task file does not name",
            where=str(request.run),
            expected="endpoints of your own: a run may be somebody else's",
            remedy=remedy,
        )


def forecast_climb(request: ClimbRequest, progress: Progress) -> DryRun:
    """What this climb would do and cost. No model is loaded and nothing is written."""
    request = _with_recorded_options(_with_recorded_settings(request)) if request.resume else request
    task, gate, compare = _read(request)
    from lastresort.app.dry_run import dry_run

    run = request.run if request.resume else None
    return dry_run(task, request.until, compare, gate, progress, run=run, ray=request.ray)


def _read(request: ClimbRequest) -> tuple[Task, GateMode | None, ComparisonRequest | None]:
    task = given_task(request.task, dict(request.settings))
    from lastresort.after.compare.ways import parse_request

    if request.ray is not None:
        from lastresort.scale.cluster import checked_address

        checked_address(request.ray)
    gate = None if request.gate is None else one_of("--gate", request.gate, GATE_MODES)
    return task, gate, None if request.compare is None else parse_request(request.compare, request.compare_seeds)


def reachable_models(task: Task) -> dict[str, str]:
    """By key of the task file, the models that its climb may reach."""
    from lastresort.rungs.prompting.optimise import may_reflect

    named = named_models(task)
    if not may_reflect(task):
        named.pop("prompting.reflect", None)
    return named


def check_models(task: Task) -> None:
    """Refuse a model that does not exist. Reads a script at most, and no weights."""
    from lastresort.models.open import open_model, refuse_no_weights
    from lastresort.models.protocol import is_endpoint

    for name in dict.fromkeys(reachable_models(task).values()):
        if is_endpoint(name):
            kwargs = task.chat_template_kwargs if name == task.model else None
            open_model(name, base_folder=task.folder, template_kwargs=kwargs)
        else:
            refuse_no_weights(name, task.folder)


def _folder(name: str, request: ClimbRequest) -> Path:
    """The folder of the run, which is made where none is named. Raises InputError where it holds something else, TaskError where no
    run is there to resume.
    """
    from lastresort.climb.workspace import new_run, newest_run

    run, resume = request.run, request.resume
    if run is None:
        return (
            newest_run(request.runs, name, unfinished=request.more is None) if resume else new_run(request.runs, name)
        )
    if run.exists() and not run.is_dir():
        raise InputError("found a file", where=str(run), expected="the folder of a run", remedy="Name a folder.")
    if resume and not (run / RECORD).is_file():
        raise InputError(
            f"no {RECORD} there",
            where=str(run),
            expected="a run to resume",
            remedy="Leave --resume out to start one.",
        )
    if not resume and run.exists() and any(run.iterdir()):
        raise InputError(
            "the folder is not empty",
            where=str(run),
            expected="a new folder",
            remedy="Add --resume to go on, or name another.",
        )
    return run
