"""A batch or a training as a job, and the workers that do it: values go in and come out, and the driver alone keeps answers.

Nothing here knows what carries jobs to workers.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from lastresort.errors import CandidateError, DataError, InfrastructureError, LastresortError, PrerequisiteError
from lastresort.evals.measure import JobFailure
from lastresort.hardware.environment import answered_with
from lastresort.models.cached import ModelCall
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import Model, Prompt, is_endpoint
from lastresort.records.atomic import disk_errors
from lastresort.types import Answer, Decoding
from lastresort.version import __version__

SCRIPT = "scripted:"
PROOF = "shared-"  # of the name of the file by which machines know the disk
K = TypeVar("K")
V = TypeVar("V")
K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Sign = frozenset[tuple[str, int, int]]
"""Of a training that gets on: another one than before. The files that it writes, with their times and sizes."""
NO_SIGN: Sign = frozenset()


def is_loaded(name: str, prices: tuple[float, float] = (0.0, 0.0)) -> bool:
    """Whether a model of this name answers from weights, as workers do. Endpoints stay with the driver: one process makes
    as many calls at once, and no key leaves it. A script takes the place of weights, or, with prices, of an endpoint.
    """
    return not any(prices) if name.startswith(SCRIPT) else not is_endpoint(name)


@dataclass(frozen=True, slots=True)
class JobModel:
    """The model that answers a job. The weights do not travel with it, so their path or hub id must lead to them on every machine.

    opening: how it is opened. fingerprint, computed_by: of the driver's, which the worker's must equal.
    """

    opening: ModelOpening
    fingerprint: str
    computed_by: str

    @classmethod
    def of(cls, opening: ModelOpening, model: Model) -> JobModel:
        """model: the driver's, opened in the same way."""
        return cls(opening, model.fingerprint, model.computed_by)


class WorkerJob(Protocol[K_co, V_co]):
    """A batch to answer. Doing it twice does no harm: its answers have one key each in the driver's cache."""

    @property
    def model(self) -> JobModel: ...

    def answered_by(self, model: Model, arrived: Callable[[K_co, V_co], None]) -> None:
        """Give each answer to `arrived`, with its place or name in the batch. Raises as `Model.generate` does."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """Prompts. The key of an answer is the place of its prompt."""

    model: JobModel
    prompts: tuple[Prompt, ...]
    decoding: Decoding

    @classmethod
    def of(cls, model: JobModel, call: ModelCall) -> BatchJob:
        return cls(model, call.prompts, call.decoding)

    def answered_by(self, model: Model, arrived: Callable[[int, Answer], None]) -> None:
        model.generate(self.prompts, self.decoding, arrived)


@dataclass(frozen=True, slots=True)
class JobAnswers(Generic[K, V]):
    """answers: by their keys, all of them unless there was a failure."""

    answers: Mapping[K, V]
    failure: JobFailure | None = None


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """Who a worker is. host: the name of its machine. process: its number there. depends_on: see `answers_depend_on`."""

    host: str
    depends_on: Mapping[str, str] = field(default_factory=dict)
    process: int = 0


@cache
def answers_depend_on() -> Mapping[str, str]:
    """What answers depend on here, by name: versions, what computes them, and a hash of this package's code, as two checkouts may
    have one version.
    """
    code = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        code.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    found = {"lastresort": __version__, "Python": platform.python_version(), **answered_with()}
    return {**found, "lastresort's code": code.hexdigest()[:12]}


def refuse_unlike(worker: WorkerFacts) -> None:
    """Raises PrerequisiteError where a worker has other versions, code or hardware than the driver."""
    ours, theirs = answers_depend_on(), worker.depends_on
    for name in {**ours, **theirs}:
        if name == "card" and name not in theirs:  # it was given none, and says so by what computes its answers
            continue
        here, there = ours.get(name, "none"), theirs.get(name, "none")
        if here != there:
            raise PrerequisiteError(
                f"the worker has {name} {there}",
                where=f"worker on {worker.host}",
                expected=f"{here}, as the driver has",
                remedy="Use machines of one kind, with the same versions on all of them.",
            )


class AnsweringWorker:
    """Answers jobs, with at most one model open. It keeps nothing, so that its end loses at most the batch it was at."""

    def __init__(self) -> None:
        self._opening: ModelOpening | None = None
        self._model: Model | None = None

    def about(self) -> WorkerFacts:
        return WorkerFacts(socket.gethostname(), answers_depend_on(), os.getpid())

    def answer(self, job: WorkerJob[K, V]) -> JobAnswers[K, V]:
        """Errors of ours come back as values, with the answers that came before them."""
        arrived: dict[K, V] = {}
        failure: JobFailure | None = None
        try:
            job.answered_by(self._opened(job.model), arrived.__setitem__)
        except LastresortError as error:
            is_of_candidate = isinstance(error, CandidateError)  # what is wrong with it is wrong on every machine
            failure = JobFailure.of(error) if is_of_candidate else _on_this_machine(error)
        return JobAnswers(arrived, failure)

    def close(self) -> None:
        """Free the memory of the model, which the next job opens again."""
        if self._model is not None:
            self._model.close()
            self._model = None

    def _opened(self, wanted: JobModel) -> Model:
        if self._model is None or wanted.opening != self._opening:
            self.close()
            self._model = wanted.opening.open()
            self._opening = wanted.opening
        _refuse_another_model(self._model, wanted)
        return self._model


@runtime_checkable
class TrainingJob(Protocol[R_co]):
    """A training, in a folder of its own on a disk that all machines share. Doing it twice does no harm: what is finished is there,
    and one whose worker is lost goes on elsewhere from its last checkpoint.
    """

    @property
    def model(self) -> JobModel:
        """The base, as it answers."""

    def last_sign(self) -> Sign:
        """Changes as the training gets on, wherever it runs."""

    def so_far(self) -> str:
        """Its name, and how far it was when its worker last showed it."""

    def trained(self) -> R_co:
        """Train, or go on. Raises StopRequestedError, after a checkpoint, where it is told to stop."""


@dataclass(frozen=True, slots=True)
class JobTrained(Generic[R]):
    """Exactly one of the fields is set."""

    result: R | None = None
    failure: JobFailure | None = None


class TrainingWorker:
    """Trains, once it is known to have the driver's weights and to compute alike."""

    def __init__(self) -> None:
        self._checked: JobModel | None = None

    def train(self, job: TrainingJob[R]) -> JobTrained[R]:
        """Errors of ours come back as values. What is wrong with a training itself is wrong on every machine."""
        try:
            self._check(job.model)
        except LastresortError as error:
            return JobTrained(failure=_on_this_machine(error))
        try:
            return JobTrained(job.trained())
        except (InfrastructureError, PrerequisiteError) as error:
            return JobTrained(failure=_on_this_machine(error))
        except LastresortError as error:
            return JobTrained(failure=JobFailure.of(error))

    def _check(self, wanted: JobModel) -> None:
        if wanted == self._checked:
            return
        model = wanted.opening.open()
        try:
            _refuse_another_model(model, wanted)
        finally:
            model.close()
        self._checked = wanted


def new_proof(folder: Path) -> Path:
    """A new file in this folder, that no other machine can have looked up before."""
    remove_proofs(folder)
    path = folder / f"{PROOF}{secrets.token_hex(16)}"
    with disk_errors(folder):
        path.touch()
    return path


def remove_proofs(folder: Path) -> None:
    """Also those of a driver that was killed."""
    with suppress(OSError):
        for path in folder.glob(f"{PROOF}*"):
            path.unlink(missing_ok=True)


def refuse_another_disk(proof: Path, remedy: str, *, machine: str = "") -> None:
    """proof: a file that the driver has made. machine: this one, where the error has to name it. Raises PrerequisiteError where
    this machine sees another folder than the driver.
    """
    if not proof.is_file():
        raise PrerequisiteError(
            "the folder here is not the one that the driver writes",
            where=f"{proof.parent} on {machine}" if machine else str(proof.parent),
            expected="a disk that all machines share, below the same path",
            remedy=remedy,
        )


def _on_this_machine(error: LastresortError) -> JobFailure:
    where = f"worker on {socket.gethostname()}, {error.where}".rstrip(", ")
    return replace(JobFailure.of(error), where=where)


def _refuse_another_model(model: Model, wanted: JobModel) -> None:
    """Raises DataError for other weights than the driver's, PrerequisiteError for a machine that computes otherwise."""
    if model.fingerprint != wanted.fingerprint:
        raise DataError(
            f"the weights, precision or template of {wanted.opening.name} differ from those of the driver",
            expected="the same model on every machine",
            remedy="Put it where all of them see it, such as a shared folder, and use machines of one kind.",
        )
    if model.computed_by != wanted.computed_by:
        raise PrerequisiteError(
            f"the worker computes by {model.computed_by}",
            expected=f"{wanted.computed_by}, as the driver does",
            remedy="Give the command on a machine like those of its workers.",
        )
