"""A gate alone, of any tuned model: what `lastresort gate` runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from lastresort.climb.identity import machine, versions, without_division
from lastresort.climb.llm_judge import correction_by_labels
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.workspace import RESPONSES, SHARED, count_use
from lastresort.errors import SAME_COMMAND, StoppedError
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import Judge
from lastresort.evals.user_code.process import without_limits
from lastresort.gate.built_in import further_suites, suite_inputs, suite_plans
from lastresort.gate.document import gate_folder
from lastresort.gate.drawing import training_texts
from lastresort.gate.run import OnLook, run_gate, unseen
from lastresort.gate.scored import GateSettings
from lastresort.gate.sides import GateSides, resolve_sides
from lastresort.gate.suites.asking import KeptAnswers, kept_answers
from lastresort.gate.target import HeldOutTarget, plain_system, test_order
from lastresort.gate.workers import loaded_openings
from lastresort.models.cached import CachedModel
from lastresort.models.open import ModelOpening, absolute_name, open_model
from lastresort.models.protocol import Model
from lastresort.records.gate import GateDocument, GateFindings, Provenance, TargetFound, Tuned
from lastresort.records.responses import ResponseCache
from lastresort.report.gate import write_gate
from lastresort.report.words.progress import folder_line
from lastresort.scale.crew import Crew
from lastresort.spec.task import Task
from lastresort.stop import NEVER, FirstOf, Stop, stop_file
from lastresort.systems.system import System
from lastresort.types import SILENT, JsonObject, Progress

FindWorkers = Callable[[Sequence[ModelOpening]], AbstractContextManager[Crew | None]]
"""Workers for these models, None where this process answers alone."""


def no_workers(models: Sequence[ModelOpening]) -> AbstractContextManager[Crew | None]:
    return nullcontext()


def gate_alone(
    task: Task,
    tuned: str,
    *,
    base: str | None = None,
    quick: bool = False,
    seed: int = 0,
    workspace: Path,
    gates: Path,
    out: Path | None = None,
    progress: Progress = SILENT,
    stop: Stop = NEVER,
    here: Path | None = None,
    workers: FindWorkers = no_workers,
) -> tuple[GateDocument, Path]:
    """Ask both models, conclude, and write `gate.json`. Returns the document and its folder.

    tuned: as of `resolve_sides`. base: None for the model that the task may train.
    workspace: the folder of runs, whose kept answers, response cache and ledger are used. gates: where a new folder is made.
    out: the folder itself instead. stop: checked before each model is opened and after every batch, as is a file named stop in
    the gate's folder, which is removed at the end. here: what relative names start from. workers: opens those that answer for these
    models too, for as long as the gate runs. Raises InputError for what cannot be compared, StoppedError where it stopped: the same
    call then goes on.
    """
    here = here or Path.cwd()
    progress.stage("reading the task", None)
    prepared = prepare(task)
    base_as = "--base" if base else "the task, what it may train"
    base = base or absolute_name(task.tuned_model, task.folder)
    sides = resolve_sides(base, tuned, task.chat_template_kwargs, here, base_as=base_as)
    # What makes two calls the same gate: one that was stopped is resumed by a call with the same key.
    key: JsonObject = {
        "task": _task_hash(prepared),
        "base": absolute_name(base, here),
        "tuned": absolute_name(sides.tuned.name, here),
        "quick": quick,
        "seed": seed,
    }
    shared_path = workspace / SHARED
    with (
        gate_folder(gates, task.task, key, out) as folder,
        stop_file(folder) as file,
        kept_answers(shared_path, scores=sides.base.scores) as answers,
        ResponseCache(shared_path / RESPONSES) as cache,
    ):
        progress.say(folder_line("gate", folder))
        order = test_order(prepared, quick)
        system = sides.system or replace(plain_system(prepared, task.about.strip()), name=sides.tuned.name)
        scorer, settings, requests = _scorer(prepared, cache), GateSettings(seed, quick), FirstOf((stop, file))
        try:
            correction = correction_by_labels(task, scorer, progress, requests)
            target = HeldOutTarget(prepared, order, scorer, system, cache, correction)
            with workers(loaded_openings([sides.base, sides.tuned])) as crew:
                gated = gate_sides(prepared, sides, system, target, settings, answers, progress, requests, crew=crew)
        except StoppedError as error:
            raise error.going_on(SAME_COMMAND) from error
        # Another training in the same folder is another look.
        look_key = json.dumps({**key, "weights": gated.fingerprints.tuned}, sort_keys=True)
        document = GateDocument(
            task=task.task,
            base=base,
            tuned=Tuned(name=sides.tuned.name, kind=sides.kind),
            mode="quick" if quick else "full",
            seed=seed,
            artefact_sha256=sides.artefact,
            bar=task.bar,
            notes=tuple(sides.notes),
            provenance=_provenance(prepared, key),
            test_reuse=count_use(shared_path, order, f"gate {hashlib.sha256(look_key.encode()).hexdigest()}"),
            **dict(gated),
        )
        write_gate(folder, document)
    return document, folder


def gate_sides(
    prepared: PreparedTask,
    sides: GateSides,
    system: System,
    target: HeldOutTarget | TargetFound,
    settings: GateSettings,
    kept: KeptAnswers,
    progress: Progress,
    stop: Stop,
    on_look: OnLook = unseen,
    crew: Crew | None = None,
    *,
    together: bool = True,
) -> GateFindings:
    """The gate of two sides on the suites of the task, alone or in a climb. system: gives the prompt of the tuned model. crew,
    together: as of `run_gate`.
    """
    task, texts = prepared.task, training_texts(prepared)
    return run_gate(
        sides.base,
        sides.tuned,
        suite_plans(suite_inputs(prepared, sides.scores, system.prompt, quick=settings.quick)),
        task.keep,
        settings=settings,
        kept=kept,
        training_texts=texts,
        progress=progress,
        target=target,
        further=further_suites(task, settings, texts, scores=sides.scores),
        stop=stop,
        on_look=on_look,
        crew=crew,
        together=together,
    )


def _scorer(prepared: PreparedTask, cache: ResponseCache) -> Scorer:
    """A judge stays open next to the model that it judges. Its verdicts are cached like other answers."""
    scorer, keys, folder = prepared.scorer, prepared.task.score.judge, prepared.task.folder
    if not isinstance(scorer, Judge) or keys is None:
        return scorer

    def open_judge() -> Model:
        return CachedModel(open_model(keys.model, base_folder=folder), cache)

    return scorer.with_model(open_judge)


def _task_hash(prepared: PreparedTask) -> str:
    resolved = {
        key: without_limits(value)
        for key, value in without_division(prepared.task.resolved()).items()
        if key != "limits"
    }
    text = json.dumps([resolved, prepared.files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _provenance(prepared: PreparedTask, key: Mapping[str, Any]) -> Provenance:
    hashes = {**prepared.files, "question": key["task"]}
    return Provenance(versions=versions(), hashes=hashes, machine=machine())
