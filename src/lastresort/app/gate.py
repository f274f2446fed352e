"""Compare a tuned model with its base, by asking both or from the logs of another tool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.app.start import RUNS
from lastresort.errors import InputError
from lastresort.foreign import printable
from lastresort.spec.paths import refuse_unwritable
from lastresort.spec.task import Task, given_task
from lastresort.stop import NEVER, Stop
from lastresort.types import GateVerdict, Progress

if TYPE_CHECKING:
    from lastresort.records.gate import GateDocument

GATES = Path("gates")


@dataclass(frozen=True, slots=True)
class GateRequest:
    """The options of `lastresort gate`, by their names.

    Either a task and a tuned model, or from_logs, for which a task only sets margins. out: None for the next free folder in
    `gates`. ray: local, auto or HOST:PORT; None for this process alone. runs: the folder whose kept answers, response cache and
    ledger are used.
    """

    task: Path | Task | None = None
    tuned: str | Path | None = None
    base: str | Path | None = None
    quick: bool = False
    seed: int = 0
    from_logs: tuple[Path, Path] | None = None
    margin: tuple[str, ...] = ()
    junit: Path | None = None
    markdown: Path | None = None
    out: Path | None = None
    ray: str | None = None
    gates: Path = GATES
    runs: Path = RUNS


@dataclass(frozen=True, slots=True)
class GateResult:
    """A finished gate. document: the content of gate.json. path: of that file."""

    document: GateDocument
    path: Path

    @property
    def verdict(self) -> GateVerdict:
        """SHIP, HOLD or REJECT."""
        return self.document.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.document.reasons

    def __repr__(self) -> str:
        from lastresort.report.gate import finding

        return f"<GateResult {self.path}: {finding(self.document)}>"

    def _repr_html_(self) -> str:
        from lastresort.report.notebook import gate_html

        return gate_html(self.document)


def start_gate(request: GateRequest, progress: Progress, stop: Stop = NEVER) -> GateResult:
    """Compare the two models and write gate.json, and the JUnit and Markdown files if they are named.

    stop: checked between batches, as is a file named stop in the gate's folder. The same call resumes a gate that was stopped.
    Raises InputError for what cannot be compared, DataError for logs that do not belong together, StoppedError where it stopped.
    """
    for option, path in (("--junit", request.junit), ("--markdown", request.markdown)):
        refuse_unwritable(option, path)
    document, folder = _of_models(request, progress, stop) if request.from_logs is None else _of_logs(request)
    from lastresort.report.gate import FILE_NAME

    _write(document, request)
    return GateResult(document, folder / FILE_NAME)


def _of_models(request: GateRequest, progress: Progress, stop: Stop) -> tuple[GateDocument, Path]:
    if request.task is None or request.tuned is None:
        raise InputError(
            f"found no {'task file' if request.task is None else 'tuned model'}",
            expected="a task file and a tuned model, or the logs of two models",
            remedy="Write lastresort gate TASK --tuned A, or lastresort gate --from-logs BASE TUNED.",
        )
    if request.margin:
        raise InputError(
            "found --margin without --from-logs",
            expected="the margins in the task file",
            remedy="Set keep: {general: 0.03} there.",
        )
    task = given_task(request.task)
    from lastresort.gate.command import FindWorkers, gate_alone, no_workers

    workers: FindWorkers = no_workers
    if request.ray is not None:
        from lastresort.app.spread import crew_on_ray
        from lastresort.scale.cluster import checked_address

        workers = partial(crew_on_ray, checked_address(request.ray), progress)
    return gate_alone(
        task,
        str(request.tuned),
        base=None if request.base is None else str(request.base),
        quick=request.quick,
        seed=request.seed,
        workspace=request.runs,
        gates=request.gates,
        out=request.out,
        progress=progress,
        stop=stop,
        workers=workers,
    )


def _of_logs(request: GateRequest) -> tuple[GateDocument, Path]:
    assert request.from_logs is not None
    given = {
        "--tuned": request.tuned is not None,
        "--base": request.base is not None,
        "--quick": request.quick,
        "--seed": request.seed != 0,
        "--ray": request.ray is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise InputError(
            f"found {name} with --from-logs",
            expected="either models to ask or logs",
            remedy=f"Remove {name}.",
        )
    base, tuned = request.from_logs
    if base.resolve() == tuned.resolve():
        raise InputError(
            f"found the same place twice, {printable(str(base))} and {printable(str(tuned))}",
            where="--from-logs",
            expected="the logs of the base and those of the tuned model",
            remedy="Name first what the base wrote, then what the tuned model wrote.",
        )
    from lastresort.gate.from_logs import gate_logs, read_margins

    task = None if request.task is None else given_task(request.task)
    return gate_logs(base, tuned, task, read_margins(request.margin), gates=request.gates, out=request.out)


def _write(document: GateDocument, request: GateRequest) -> None:
    from lastresort.records.atomic import write_atomically
    from lastresort.report.gate_files import gate_junit, gate_markdown

    if request.junit is not None:
        write_atomically(request.junit, gate_junit(document))
    if request.markdown is not None:
        write_atomically(request.markdown, gate_markdown(document))
