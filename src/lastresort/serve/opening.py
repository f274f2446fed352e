"""What is served: the winner as it was measured, and next to it, on request, its base model and the best prompt of its run.

Another server may answer in place of the winner's own model: it is asked at the start, and told to put its own defaults aside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.errors import InfrastructureError, InputError, TaskError
from lastresort.handoff import TARGETS
from lastresort.ladder import PROMPT_RUNG
from lastresort.models.api.model import ApiModel
from lastresort.models.api.replies import OfferedModel
from lastresort.models.endpoint import Approve, Endpoint, parse_endpoint
from lastresort.models.open import open_model
from lastresort.models.protocol import Model
from lastresort.records.events.after_test import GateRun
from lastresort.records.events.search import SystemFrozen, SystemKept
from lastresort.records.gate import ClimbGate, is_uncleared
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.records.record import Record
from lastresort.report.words import progress as words
from lastresort.serve.work import MODEL
from lastresort.spec.values import listed
from lastresort.systems.answerer import Answerer
from lastresort.systems.files import artefact_sha256, candidate_folder, load_measured
from lastresort.systems.running import checked_system, open_answerer
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, JsonObject, Message
from lastresort.verify.server import FIRST_PATIENCE, address_of, offered_models

BASE, PROMPT = "base", "prompt"
NEAR = 4  # folders between a saved system and its run
_QUESTION, _ONE_TOKEN = ((Message("user", "Hello"),),), Decoding(1)


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
            frozen = record.last(SystemFrozen, PROMPT_RUNG)
    if frozen is None:
        log(words.NO_PROMPT)
        return None
    if artefact_sha256(saved) == frozen.sha256:
        log(words.PROMPT_WON)
        return None
    folder = candidate_folder(run, PROMPT_RUNG, frozen.name)
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


def open_upstream(system: System, url: str, model: str) -> Answerer:
    """The system, answered by this model of the server.

    The server's list of models is asked for. Not every server has one, and not every list is complete, so that a model that is not
    in it is asked for one token.
    Raises InputError for an address or a model that is not there, InfrastructureError for a server that does not answer,
    PrerequisiteError for a key that it refuses.
    """
    address = address_of(url, "--upstream")
    endpoint = parse_endpoint(f"{address}#{model}")
    asking = ApiModel(endpoint, patience=FIRST_PATIENCE)
    try:
        offered = offered_models(asking, address, named=True)
        if offered and all(one.name != model for one in offered):
            _refuse_unknown(asking, address, model, offered)
    finally:
        asking.close()
    answering = ApiModel(endpoint, neutral=_accepted(endpoint, _neutral(offered)))
    return Answerer(system.answered_by(answering.name), answering)


def _refuse_unknown(asking: ApiModel, address: str, model: str, offered: Sequence[OfferedModel]) -> None:
    try:
        asking.replies(_QUESTION, _ONE_TOKEN)
    except (TaskError, InfrastructureError) as error:
        raise InputError(
            f'the server does not answer as "{model}" ({error.found})',
            where=address,
            expected=f"one of its models: {listed([one.name for one in offered], 'or', most=8)}",
            remedy="Name one with --model.",
        ) from error


def _neutral(offered: Sequence[OfferedModel]) -> JsonObject:
    """The keys that make a server neutral whose list says what it is. Others may refuse what they do not know."""
    owners = {one.owned_by for one in offered}
    found = [target for target in TARGETS.values() if owners and owners <= set(target.owned_by)]
    return dict(found[0].neutral) if found else {}


def _accepted(endpoint: Endpoint, neutral: JsonObject) -> JsonObject:
    """None of the keys where the server refuses a request that has them: then it is another one than its list says."""
    if not neutral:
        return {}
    asking = ApiModel(endpoint, neutral=neutral, patience=FIRST_PATIENCE)
    try:
        asking.replies(_QUESTION, _ONE_TOKEN)
    except TaskError:
        return {}
    finally:
        asking.close()
    return neutral
