"""A batch of prompts as a job, and the worker that answers it: values go in and come out, and the driver alone keeps anything.

Nothing here knows what carries jobs to workers.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from lastresort.errors import DataError, LastresortError, PrerequisiteError
from lastresort.keys import HOSTS, KEYS, SECRETS, passed_names
from lastresort.models.cached import CachedModel, ModelCall
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import Model, Prompt
from lastresort.types import Answer, Decoding
from lastresort.version import __version__

PYTHON = platform.python_version()


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
    def of(cls, error: LastresortError) -> JobFailure:
        return cls(type(error), error.found, error.where, error.expected, error.remedy)

    def error(self) -> LastresortError:
        return self.kind(self.found, where=self.where, expected=self.expected, remedy=self.remedy)


@dataclass(frozen=True, slots=True)
class JobAnswers:
    """answers: by the place of their prompts, all of them unless there was a failure. lost_usd: of calls without an answer."""

    answers: Mapping[int, Answer]
    failure: JobFailure | None = None
    lost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """Who a worker is. host: the name of its machine."""

    host: str
    process: int
    version: str
    python: str


def refuse_other_version(worker: WorkerFacts) -> None:
    """Raises PrerequisiteError where a worker runs another lastresort or another Python than the driver."""
    for what, theirs, ours in (("lastresort", worker.version, __version__), ("Python", worker.python, PYTHON)):
        if theirs != ours:
            raise PrerequisiteError(
                f"the worker runs {what} {theirs}",
                where=worker.host,
                expected=f"{ours}, as the driver does",
                remedy="Install the same version on every machine of the cluster.",
            )


def environment_that_travels(own: Mapping[str, str]) -> dict[str, str]:
    """What a worker gets of the driver's environment: what LASTRESORT_PASS_ENV names, and to which hosts a key may go."""
    names = {*passed_names(own), HOSTS}
    return {name: value for name, value in own.items() if name in names}


class AnsweringWorker:
    """Answers jobs, with at most one model open. It keeps nothing, so that its end loses at most the batch it was at.

    environment: the driver's variables that travelled here. It has no other keys, wherever it runs.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        for name in {*SECRETS, KEYS, HOSTS} - environment.keys():
            os.environ.pop(name, None)
        os.environ.update(environment)
        self._opening: ModelOpening | None = None
        self._model: Model | None = None
        self._lost_usd = 0.0

    def about(self) -> WorkerFacts:
        return WorkerFacts(socket.gethostname(), os.getpid(), __version__, PYTHON)

    def answer(self, job: BatchJob) -> JobAnswers:
        """Errors of ours come back as values, with the answers that came before them: these may have been paid for."""
        arrived: dict[int, Answer] = {}
        failure: JobFailure | None = None
        self._lost_usd = 0.0
        try:
            self._opened(job).generate(job.prompts, job.decoding, arrived.__setitem__)
        except LastresortError as error:
            failure = JobFailure.of(error)
        return JobAnswers(arrived, failure, self._lost_usd)

    def _opened(self, job: BatchJob) -> Model:
        if self._model is None or job.opening != self._opening:
            if self._model is not None:
                self._model.close()
                self._model = None
            # Whoever started the climb was asked about an endpoint when the driver opened it.
            self._model = job.opening.open(on_lost=self._lose, approve=lambda question: True)
            self._opening = job.opening
        _refuse_another_model(self._model, job, socket.gethostname())
        return self._model

    def _lose(self, usd: float) -> None:
        self._lost_usd += usd


def _refuse_another_model(model: Model, job: BatchJob, host: str) -> None:
    """Raises DataError for other weights than the driver's, PrerequisiteError for a machine that computes otherwise."""
    if model.fingerprint != job.fingerprint:
        raise DataError(
            f"the weights, precision or template of {job.opening.name} differ from those of the driver",
            where=f"worker on {host}",
            expected="the same model on every machine",
            remedy="Put it where all of them see it, such as a shared folder, and set precision in the task.",
        )
    if model.computed_by != job.computed_by:
        raise PrerequisiteError(
            f"the worker computes by {model.computed_by}",
            where=f"worker on {host}",
            expected=f"{job.computed_by}, as the driver does, so that answers do not depend on the machine",
            remedy="Start the climb on a machine like those of its workers.",
        )
