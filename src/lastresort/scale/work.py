"""A batch of prompts as a job, and the worker that answers it: values go in and come out, and the driver alone keeps anything.

Nothing here knows what carries jobs to workers.
"""

from __future__ import annotations

import hashlib
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lastresort.errors import CandidateError, DataError, LastresortError, PrerequisiteError
from lastresort.models.cached import CachedModel, ModelCall
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import Model, Prompt, is_endpoint
from lastresort.types import Answer, Decoding
from lastresort.version import __version__

SCRIPT = "scripted:"


def is_loaded(name: str, prices: tuple[float, float] = (0.0, 0.0)) -> bool:
    """Whether a model of this name answers from weights, as workers do. Endpoints stay with the driver: one process makes
    as many calls at once, and no key leaves it. A script takes the place of weights, or, with prices, of an endpoint.
    """
    return not any(prices) if name.startswith(SCRIPT) else not is_endpoint(name)


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A batch to answer. Doing it twice does no harm: its answers have one key each in the driver's cache.

    opening: of the model; the weights do not travel with the job, so its path or hub id must lead to them on every machine.
    fingerprint, computed_by: of the driver's model, which the worker's must equal. sha256: of everything that an answer depends on.
    """

    opening: ModelOpening
    fingerprint: str
    computed_by: str
    prompts: tuple[Prompt, ...]
    decoding: Decoding
    sha256: str


def job_of(opening: ModelOpening, model: CachedModel, call: ModelCall) -> BatchJob:
    """model: the driver's, opened in the same way."""
    content = hashlib.sha256("\n".join(call.keys).encode()).hexdigest()
    return BatchJob(opening, model.fingerprint, model.computed_by, call.prompts, call.decoding, content)


@dataclass(frozen=True, slots=True)
class JobFailure:
    """An error of ours as a value."""

    kind: type[LastresortError]
    found: str
    where: str
    expected: str
    remedy: str

    @classmethod
    def of(cls, error: LastresortError, host: str) -> JobFailure:
        """host: of the worker. What is wrong with a candidate is wrong on every machine."""
        where = error.where if isinstance(error, CandidateError) else f"worker on {host}, {error.where}".rstrip(", ")
        return cls(type(error), error.found, where, error.expected, error.remedy)

    def error(self) -> LastresortError:
        return self.kind(self.found, where=self.where, expected=self.expected, remedy=self.remedy)


@dataclass(frozen=True, slots=True)
class JobAnswers:
    """answers: by the place of their prompts, all of them unless there was a failure."""

    answers: Mapping[int, Answer]
    failure: JobFailure | None = None


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """Who a worker is. host: the name of its machine. software: see `software_here`."""

    host: str
    software: Mapping[str, str] = field(default_factory=dict)


@cache
def software_here() -> Mapping[str, str]:
    """What answers depend on, by name: versions, and a hash of this package's code, as two checkouts may have one version."""
    code = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        code.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    found = {"lastresort": __version__, "Python": platform.python_version()}
    for name in ("torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return {**found, "lastresort's code": code.hexdigest()[:12]}


def refuse_other_software(worker: WorkerFacts) -> None:
    """Raises PrerequisiteError where a worker runs other versions or other code than the driver."""
    for name, ours in software_here().items():
        theirs = worker.software.get(name, "none")
        if theirs != ours:
            raise PrerequisiteError(
                f"the worker runs {name} {theirs}",
                where=f"worker on {worker.host}",
                expected=f"{ours}, as the driver does",
                remedy="Install the same version on every machine of the cluster.",
            )


class AnsweringWorker:
    """Answers jobs, with at most one model open. It keeps nothing, so that its end loses at most the batch it was at."""

    def __init__(self) -> None:
        self._opening: ModelOpening | None = None
        self._model: Model | None = None

    def about(self) -> WorkerFacts:
        return WorkerFacts(socket.gethostname(), software_here())

    def answer(self, job: BatchJob) -> JobAnswers:
        """Errors of ours come back as values, with the answers that came before them."""
        arrived: dict[int, Answer] = {}
        failure: JobFailure | None = None
        try:
            self._opened(job).generate(job.prompts, job.decoding, arrived.__setitem__)
        except LastresortError as error:
            failure = JobFailure.of(error, socket.gethostname())
        return JobAnswers(arrived, failure)

    def _opened(self, job: BatchJob) -> Model:
        if self._model is None or job.opening != self._opening:
            if self._model is not None:
                self._model.close()
                self._model = None
            self._model = job.opening.open()
            self._opening = job.opening
        _refuse_another_model(self._model, job)
        return self._model


def _refuse_another_model(model: Model, job: BatchJob) -> None:
    """Raises DataError for other weights than the driver's, PrerequisiteError for a machine that computes otherwise."""
    if model.fingerprint != job.fingerprint:
        raise DataError(
            f"the weights, precision or template of {job.opening.name} differ from those of the driver",
            expected="the same model on every machine",
            remedy="Put it where all of them see it, such as a shared folder, and set precision in the task.",
        )
    if model.computed_by != job.computed_by:
        raise PrerequisiteError(
            f"the worker computes by {model.computed_by}",
            expected=f"{job.computed_by}, as the driver does",
            remedy="Start the climb on a machine like those of its workers.",
        )
