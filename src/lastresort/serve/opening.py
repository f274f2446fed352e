"""What is served: the winner as it was measured, and next to it, on request, its base model and the best prompt of its run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.app.servable import PROMPTS, is_uncleared
from lastresort.errors import InputError
from lastresort.models.endpoint import Approve
from lastresort.models.open import open_model
from lastresort.models.protocol import Model
from lastresort.records.events import GateRun, SystemFrozen, SystemKept
from lastresort.records.gate import ClimbGate
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.records.record import Record
from lastresort.serve.upstream import open_upstream
from lastresort.serve.work import MODEL
from lastresort.systems.answerer import Answerer
from lastresort.systems.files import artefact_sha256, candidate_folder, load_measured
from lastresort.systems.running import checked_system, open_answerer
from lastresort.systems.system import PromptDesign, System

BASE, PROMPT = "base", "prompt"
NEAR = 4  # folders between a saved system and its run


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """run: folder of a run or of a saved system. port: 0 for any that is free. slots: answers computed at once, None for what suits
    the model. upstream, model: another server that answers in place of the winner's own model, and its model there. beside: also
    serve the base model and the best prompt. longest_tokens: of a prompt with its answer, None for what suits the model.
    rungs: also serve the systems that these rungs of the run tested, each by the name of its rung; "rung/candidate" for another
    one that was measured.
    """

    run: Path
    host: str = "127.0.0.1"
    port: int = 8000
    raw: bool = False
    allow_held: bool = False
    log_bodies: bool = False
    slots: int | None = None
    upstream: str | None = None
    model: str | None = None
    beside: bool = False
    longest_tokens: int | None = None
    rungs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServedSystem:
    """name: by which clients ask for it. raw: its messages are the client's alone. Systems may share a model."""

    name: str
    answerer: Answerer
    raw: bool


def open_served(request: ServeRequest, *, approve: Approve, log: Callable[[str], None]) -> list[ServedSystem]:
    """The winner is the first. log: gets what is left out, and why.

    Raises as `open_system` and `open_upstream` do.
    """
    system, saved = checked_system(request.run, allow_held=request.allow_held)
    if request.upstream is not None and request.model is not None:
        return [ServedSystem(MODEL, open_upstream(system, request.upstream, request.model), request.raw)]
    winner = open_answerer(system, saved, approve)
    served = [ServedSystem(MODEL, winner, request.raw)]
    try:
        if request.beside:
            base = Answerer(_bare(system), _base_model(winner, saved, approve))
            served.append(ServedSystem(BASE, base, raw=True))
            prompt = _best_prompt(saved, log)
            if prompt is not None:
                served.append(ServedSystem(PROMPT, _answering(*prompt, base.model, approve), raw=False))
        for rung in dict.fromkeys(request.rungs):
            tested, folder = _system_of_rung(saved, rung, allow_held=request.allow_held)
            models = [one.answerer.model for one in served]
            same = next((model for model in models if model.fingerprint == tested.fingerprint), models[0])
            served.append(ServedSystem(rung, _answering(tested, folder, same, approve), raw=False))
    except BaseException:
        close_served(served)
        raise
    return served


def close_served(served: Sequence[ServedSystem]) -> None:
    models = {id(one.answerer.model): one.answerer for one in served}
    for answerer in models.values():
        answerer.close()


def refuse_exclusive(request: ServeRequest) -> None:
    """Raises InputError for options that exclude each other."""
    if (request.upstream is None) != (request.model is None):
        raise InputError(
            "--upstream and --model belong together", remedy="Name the other server and its model, or neither."
        )
    if request.rungs and (request.raw or request.upstream is not None):
        raise InputError("--rung does not go with --raw or --upstream", remedy="Leave it out.")
    if request.beside and request.raw:
        raise InputError(
            "--all serves the base without a prompt already, so that --raw would be left for the winner alone",
            remedy="Leave one of them out.",
        )
    if request.beside and request.upstream is not None:
        raise InputError(
            "with --upstream another server answers, which does not hold the base model of this run",
            where="--all",
            remedy="Leave one of them out.",
        )


def _bare(system: System) -> System:
    """The base model of the system as a system: decoded as the winner, but without prompt, passages and weights of its own."""
    return replace(
        system,
        name=BASE,
        model=system.tuned_from or system.model,
        prompt=PromptDesign(""),
        retriever=None,
        adapter=None,
        tuned_from="",
        rendering="",
        fingerprint="",
        trained_rendering="",
    )


def _base_model(winner: Answerer, saved: Path, approve: Approve) -> Model:
    """The winner's own where it was not tuned. Else its base, on the same weights where an adapter leaves them as they are."""
    from lastresort.models.loading import without_adapter
    from lastresort.models.local import LocalModel

    system, model = winner.system, winner.model
    if system.adapter is None and not system.tuned_from:
        return model
    if system.adapter is not None and isinstance(model, LocalModel):
        loaded = without_adapter(model.loaded, system.adapter)
        if loaded is not None:
            kwargs = model.template_kwargs
            return LocalModel(loaded, name=system.model, template_kwargs=kwargs, threads=model.threads)
    return open_model(
        system.tuned_from or system.model,
        base_folder=saved,
        precision=system.precision,
        template_kwargs=system.template_kwargs,
        named=False,
        approve=approve,
    )


def _best_prompt(saved: Path, log: Callable[[str], None]) -> tuple[System, Path] | None:
    """The prompt that the run tested, and where it is. None, with the reason in the log, where there is no other than the winner.

    Raises DataError where its files are not those that were measured.
    """
    run = saved.absolute().parent
    frozen = None
    if (run / RECORD).exists():
        with Record.open(run, read_only=True) as record:
            frozen = record.last(SystemFrozen, PROMPTS)
    if frozen is None:
        log("No prompt is served next to the winner: no run that tested one is around it.")
        return None
    if artefact_sha256(saved) == frozen.sha256:
        log("The best prompt is the winner itself, so it is not served a second time.")
        return None
    folder = candidate_folder(run, PROMPTS, frozen.name)
    return load_measured(folder, frozen.sha256), folder


def _system_of_rung(saved: Path, named: str, *, allow_held: bool) -> tuple[System, Path]:
    """The system that a rung of the run around `saved` froze and tested, or the candidate "rung/candidate" of it that was measured
    on dev alone, and where it is.

    Raises InputError for what was not tested or measured, or whose system no gate has cleared, DataError where its files are not
    those that were measured.
    """
    rung, is_candidate, candidate = named.partition("/")
    run = next((path for path in saved.absolute().parents[:NEAR] if (path / RECORD).is_file()), None)
    frozen, kept, gates = None, None, list[ClimbGate]()
    if run is not None:
        with Record.open(run, read_only=True) as record:
            frozen, kept = record.last(SystemFrozen, rung), record.last(SystemKept, named)
            gates = [event.gate for event in record.all(GateRun)]
    if is_candidate and run is not None and (frozen is None or frozen.name != candidate):
        if kept is None:
            raise InputError(
                f'the run around this one measured no system "{named}"',
                where=str(saved),
                expected="a rung that the run tested, or RUNG/CANDIDATE",
                remedy="Leave --rung out.",
            )
        may_ship, sha256 = allow_held, kept.sha256
    elif run is None or frozen is None or frozen.rung != rung:  # the key "" finds any
        raise InputError(
            f'no system of the rung "{rung}" was tested in the run around this one',
            where=str(saved),
            expected="a rung that the run tested",
            remedy="Leave --rung out.",
        )
    else:
        named, candidate, sha256 = rung, frozen.name, frozen.sha256
        may_ship = sha256 == artefact_sha256(saved) or allow_held  # what is served has the leave that it needed
    if not may_ship and is_uncleared(gates, rung, candidate):
        raise InputError(
            f"no gate has cleared the system of {named}",
            where=str(run),
            expected="one that may ship",
            remedy="Add --allow-held to look at it all the same.",
        )
    folder = candidate_folder(run, rung, candidate)
    return load_measured(folder, sha256), folder


def _answering(system: System, folder: Path, base: Model, approve: Approve) -> Answerer:
    """By this model if the system was measured with it, else by a model of its own."""
    if system.adapter is None and system.fingerprint and system.fingerprint == base.fingerprint:
        return Answerer(system, base)
    return open_answerer(system, folder, approve)
