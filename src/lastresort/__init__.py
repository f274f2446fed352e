"""lastresort: should I fine-tune, how, and did it work? Answered with evidence.

    import lastresort as lr

    run = lr.climb("task.yaml")

The functions are what the commands of these names run (docs/python.md). Importing the package does not load torch. A function
loads what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import update_wrapper
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from lastresort.app.arguments import checked, checked_fields
from lastresort.version import __version__

if TYPE_CHECKING:
    from lastresort.app.advise import Recommendation
    from lastresort.app.data_check import DataCheck
    from lastresort.app.gate import GateResult
    from lastresort.app.init import Drafted
    from lastresort.app.plan import Plan
    from lastresort.app.runs import Run
    from lastresort.app.study import Study, StudyForecast
    from lastresort.app.train import Training
    from lastresort.app.verify import Verification
    from lastresort.handoff.write import HandedOver
    from lastresort.report.forecast import DryRun
    from lastresort.report.words.data_files import ConvertedFile, MixedFile, PairedFile, PairsForecast
    from lastresort.report.words.synthetic import SyntheticRows, SynthForecast
    from lastresort.spec.task import Task
    from lastresort.stop import Stop
    from lastresort.systems.running import Running
    from lastresort.types import GateMode, Progress, StudyGate, StudyKind

__all__ = [
    "Run", "__version__", "advise", "check_data", "climb", "convert_data", "forecast", "forecast_pairs", "forecast_study",
    "forecast_synth", "gate", "handoff", "init", "load_task", "make_pairs", "mix_data", "open_run", "open_system", "plan", "study",
    "synth_data", "train", "verify",
]  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__]


def __getattr__(name: str) -> Any:
    if name != "Run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lastresort.app.runs import Run

    return Run


P = ParamSpec("P")
R = TypeVar("R")


class _Command(Generic[P, R]):
    """A function with the name of a folder. The folder's modules stay reachable, as in `import lastresort.climb.loop as loop`."""

    def __init__(self, function: Callable[P, R]) -> None:
        update_wrapper(self, function)
        self._function = checked(function)
        self._folder = import_module(f"lastresort.{function.__name__}")  # now, so that no later import takes the name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> _Command[P, R]:
        return self  # has it only so that `help` shows a function

    def __reduce__(self) -> str:
        return self._function.__name__  # copied and pickled by its name, as a function is

    def __getattr__(self, name: str) -> Any:
        return getattr(self._folder, name)


@checked
def load_task(path: str | PathLike[str], settings: Mapping[str, object] | None = None) -> Task:
    """Read a task file. settings: dotted keys that override it, such as {"split.seed": 3}. Raises TaskError."""
    from lastresort.spec.task import load_task

    return load_task(Path(path), dict(settings or {}))


@checked
def init(
    data: str | PathLike[str],
    *,
    input: str | None = None,
    output: str | None = None,
    task_file: str | PathLike[str] = "task.yaml",
    leave_out_empty: bool = False,
) -> Drafted:
    """Draft a task file from a file of labelled rows, with the reason for each line, and check its data.

    input, output: the columns, where their names do not show them. leave_out_empty: use a copy without the rows that lack an input
    or an answer. Raises InputError where a file is there already or a column is open, DataError for rows that cannot be used.
    """
    from lastresort.app.init import InitRequest, init_task

    return init_task(InitRequest(Path(data), input, output, Path(task_file), leave_out_empty=leave_out_empty))


@_Command
def climb(
    task: str | PathLike[str] | Task,
    *,
    run: str | PathLike[str] | None = None,
    resume: bool = False,
    until: str | None = None,
    gate: GateMode | None = None,
    compare: str | None = None,
    compare_seeds: int = 3,
    more: str | PathLike[str] | None = None,
    ray: str | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Run:
    """Climb the ladder of a task and stop at the cheapest rung that meets its bar.

    run: folder of the run, by default runs/<task>-<n>. resume: continue `run`, or the newest unfinished run of the task; options
    that are not given are those of its start. until: last rung to try. gate: "full" (by default), "quick" or "none". compare: ways
    to train the SFT winner, such as "lora,qlora". more: with resume, a file of fresh items, with which the tests that ended
    UNDECIDED go on. ray: "local", "auto" or "HOST:PORT" to answer in parallel on a Ray cluster (docs/scale.md); resume does not
    remember it.
    settings: keys that override the task file. progress: shown on stderr by default. stop: checked
    between batches and training steps, as is a file named stop in the run's folder.
    Raises InputError for bad input, PrerequisiteError if something is missing on this machine, StoppedError if the climb stopped
    and can be resumed.
    """
    from lastresort.app.runs import Run
    from lastresort.app.start import ClimbRequest, start_climb
    from lastresort.stop import NEVER

    request = ClimbRequest(
        _file(task), settings or {}, _path(run), resume, until, gate, compare, compare_seeds, _path(more), ray
    )  # fmt: skip
    with _computing(progress) as shown:
        return Run(start_climb(request, shown, stop or NEVER).run)


@checked
def forecast(
    task: str | PathLike[str] | Task,
    *,
    run: str | PathLike[str] | None = None,
    resume: bool = False,
    until: str | None = None,
    gate: GateMode | None = None,
    compare: str | None = None,
    compare_seeds: int = 3,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> DryRun:
    """Say what a climb would do and cost, rung by rung, as `lastresort climb --dry-run` does. Runs no model and writes nothing.

    The options are those of `climb` that change the forecast. Raises InputError for bad input.
    """
    from lastresort.app.start import ClimbRequest, forecast_climb

    request = ClimbRequest(_file(task), settings or {}, _path(run), resume, until, gate, compare, compare_seeds)
    with _computing(progress) as shown:
        return forecast_climb(request, shown)


@_Command
def gate(
    task: str | PathLike[str] | Task | None = None,
    tuned: str | PathLike[str] | None = None,
    *,
    base: str | PathLike[str] | None = None,
    quick: bool = False,
    seed: int = 0,
    from_logs: tuple[str | PathLike[str], str | PathLike[str]] | None = None,
    margin: Sequence[str] = (),
    junit: str | PathLike[str] | None = None,
    markdown: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> GateResult:
    """Compare a tuned model with its base on the task, general ability, sycophancy and format leak.

    tuned: folder of an adapter, folder or name of a model, the output of lastresort train, or winner/ of a run. base: by default
    the model that the task may train. quick: use a limited number of items. seed: change it for fresh items. from_logs: compare the
    logs of base and tuned instead, from lm-eval or Inspect; margin: then the largest accepted losses, such as
    "lm_eval:mmlu=0.03". ray: "local", "auto" or "HOST:PORT" to answer in parallel on a Ray cluster (docs/scale.md). stop: checked
    between batches, as is a file named stop in the gate's folder.
    Raises InputError for models that cannot be compared, StoppedError if the gate stopped. The same call resumes it.
    """
    from lastresort.app.gate import GateRequest, start_gate
    from lastresort.stop import NEVER

    logs = None if from_logs is None else (Path(from_logs[0]), Path(from_logs[1]))
    request = GateRequest(
        None if task is None else _file(task), _model(tuned), _model(base), quick, seed, logs, tuple(margin), _path(junit),
        _path(markdown), _path(out), ray,
    )  # fmt: skip
    with _computing(progress) as shown:
        return start_gate(request, shown, stop or NEVER)


@_Command
def train(
    file: str | PathLike[str],
    *,
    settings: Mapping[str, object] | None = None,
    resume: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Training:
    """Train from a training file, or from a YAML of Axolotl or LLaMA-Factory.

    settings: keys that override the file. resume: continue the run in the output folder. strict: refuse another framework's file
    if it has keys that would be ignored. stop: checked before each step, as is a file named stop in the output folder.
    Raises InputError or DataError, or StoppedError if the training stopped and can be resumed.
    """
    from lastresort.app import train as use_case
    from lastresort.stop import NEVER

    with _computing(progress) as shown:
        return use_case.train(Path(file), shown, stop or NEVER, settings=settings, resume=resume, strict=strict)


@_Command
def verify(
    run: str | PathLike[str],
    url: str,
    *,
    model: str | None = None,
    n: int | None = None,
    task: str | PathLike[str] | None = None,
    send: str | None = None,
    request: str | PathLike[str] | None = None,
    junit: str | PathLike[str] | None = None,
    markdown: str | PathLike[str] | None = None,
    allow_held: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Verification:
    """Check whether a running OpenAI-compatible server answers as a run measured.

    model: its name there, by default the only one. n: recorded items to send, by default enough to show a loss, or all. task:
    the run's task file, if it was moved. send: "input" or "prompt", by default what suits the server. request: a file with the
    parameters that clients send, such as the request.json of a handoff. allow_held: also of a winner that the gate holds.
    stop: checked between batches.
    Raises InputError for what cannot be compared, StoppedError if the server cannot be reached. The same call resumes it.
    """
    from lastresort.app.verify import verify_server
    from lastresort.stop import NEVER

    with _computing(progress) as shown:
        return verify_server(
            Path(run), url, shown, stop or NEVER, model=model, n=n, task=_path(task), send=send, request=_path(request),
            junit=_path(junit), markdown=_path(markdown), allow_held=allow_held,
        )  # fmt: skip


@_Command
def study(
    task: str | PathLike[str] | Task,
    kind: StudyKind,
    *,
    sizes: str | Sequence[int] | None = None,
    seeds: int | None = None,
    dpo_rate: float | None = None,
    orpo_rate: float | None = None,
    gate: StudyGate | None = None,
    optimised: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    ray: str | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Study:
    """Study how many examples a training needs, which training is better, or whether synthetic rows help (docs/study.md).

    kind: "crossover", "min-data", "orpo-vs-dpo" or "synthetic". sizes: numbers of examples, by default spread up to all of train;
    the last two kinds have none. seeds: by default 3, of the last two kinds 5. dpo_rate, orpo_rate: learning rates of orpo-vs-dpo,
    by default the middle of those of the task. gate: "quick" or "full", of each adapter of orpo-vs-dpo; by default none. optimised:
    the run whose optimised prompt crossover also measures. out: by default studies/<task>-<kind>. ray: "local", "auto" or
    "HOST:PORT" to answer on a Ray cluster (docs/scale.md). stop: checked between batches and training steps, as is a file named
    stop in the study's folder.
    Raises InputError for bad input, StoppedError if the study stopped. The same call resumes it.
    """
    from lastresort.app.study import StudyRequest, kind_named, run_study, sizes_named
    from lastresort.stop import NEVER

    request = StudyRequest(
        kind_named(kind), _file(task), settings or {}, sizes_named(sizes), seeds, _path(out), dpo_rate, orpo_rate, ray, gate,
        _path(optimised),
    )  # fmt: skip
    with _computing(progress) as shown:
        return run_study(request, shown, stop or NEVER)


@checked
def forecast_study(
    task: str | PathLike[str] | Task,
    kind: StudyKind,
    *,
    sizes: str | Sequence[int] | None = None,
    seeds: int | None = None,
    gate: StudyGate | None = None,
    optimised: str | PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> StudyForecast:
    """Say what a study would do and take, as `lastresort study --dry-run` does. Runs no model and writes nothing.

    The options are those of `study` that change the forecast. Raises InputError for bad input.
    """
    from lastresort.app import study

    known = _file(task), settings or {}, study.sizes_named(sizes), seeds
    request = study.StudyRequest(study.kind_named(kind), *known, gate=gate, optimised=_path(optimised))
    with _computing(progress) as shown:
        return study.forecast_study(request, shown)


@checked
def plan(model: str | PathLike[str], **options: Any) -> Plan:
    """Forecast memory, time and cost of a training. Nothing is loaded or downloaded.

    model: a name from the catalogue, a folder, a .gguf file, or a hub id. options: those of `lastresort plan`, such as
    method="qlora", gpu="2xl40s", rows=10_000 (`lastresort.app.plan.PlanRequest` lists them). Raises InputError.
    """
    from lastresort.app.plan import PlanRequest, make_plan

    return make_plan(PlanRequest(**checked_fields("plan", PlanRequest, {"model": model, **options})))


@checked
def advise(
    task: str | PathLike[str] | Task | None = None,
    facts: Mapping[str, object] | None = None,
    *,
    settings: Mapping[str, object] | None = None,
) -> Recommendation:
    """Say whether to prompt, retrieve or fine-tune, and why, by published rules of thumb. No model is run.

    facts: facts that are in no file, such as {"wrong": ["format", "style"], "best_prompt_score": 0.8}. Raises InputError.
    """
    from lastresort.app.advise import AdviceRequest, give_advice

    known = None if task is None else _file(task)
    return give_advice(AdviceRequest(known, tuple((facts or {}).items()), settings or {}))


@checked
def check_data(
    task: str | PathLike[str] | Task, *, show: int = 0, settings: Mapping[str, object] | None = None
) -> DataCheck:
    """Check a task's examples and preferences for duplicates, leaks, conflicts and lengths. show: rows to print by token."""
    from lastresort.app.data_check import check_task
    from lastresort.spec.task import given_task

    with _computing(None):
        return check_task(given_task(_file(task), dict(settings or {})), show=show)


@checked
def convert_data(
    file: str | PathLike[str],
    to: str,
    *,
    out: str | PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> ConvertedFile:
    """Write the rows of a file in another shape, such as "messages" or "preference" (docs/data.md).

    out: by default <file>-<to>.jsonl beside the file, never over another. columns: what the file calls input, output, prompt ….
    drop: what to leave out, such as "system" or the name of a column. stop: checked every thousand rows.
    Raises DataError naming row and field for what the new shape cannot hold.
    """
    from lastresort.app.data_convert import convert_file
    from lastresort.stop import NEVER

    with _computing(progress) as shown:
        return convert_file(Path(file), to, shown, stop or NEVER, out=_path(out), columns=columns, drop=drop)


@checked
def make_pairs(
    task: str | PathLike[str] | Task,
    samples: str | PathLike[str] | None = None,
    *,
    run: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    margin: float = 0.0,
    own_answers: bool = False,
    most: int = 4,
    model: str | None = None,
    n: int | None = None,
    rows: int | None = None,
    usd: float | None = None,
    prompt_price: float | None = None,
    output_price: float | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> PairedFile:
    """Write preference pairs for train rows of a task, from samples that its scorer scores (docs/data.md).

    samples: a file of answers. run: instead of it, a run whose rung preference made pairs. model: instead of both, a model that is
    sampled now, n answers (by default 8) to each of so many rows (by default all of train). out: by default <task>-pairs.jsonl
    beside the task, never over another. margin: least difference of the scores. own_answers: choose the row's own answer where no
    sample is right. most: pairs of a prompt, at most 4. usd: most money for the model, by default limits.usd; a paid one starts
    without asking. prompt_price, output_price: of it, USD per million tokens. Raises InputError and DataError for what cannot be
    used, StoppedError where it stopped: the same call goes on.
    """
    from lastresort.app.data_pairs import PairsRequest, pair_samples
    from lastresort.stop import NEVER

    request = PairsRequest(
        _file(task), _path(samples), _path(run), _path(out), margin, own_answers, most, settings or {}, model, n, rows, usd,
        prompt_price, output_price,
    )  # fmt: skip
    with _computing(progress) as shown:
        return pair_samples(request, shown, stop or NEVER)


@checked
def forecast_pairs(
    task: str | PathLike[str] | Task,
    *,
    model: str,
    out: str | PathLike[str] | None = None,
    n: int | None = None,
    rows: int | None = None,
    usd: float | None = None,
    prompt_price: float | None = None,
    output_price: float | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> PairsForecast:
    """Say what sampling a model would take for `make_pairs`, as `lastresort data pairs --dry-run` does. Opens the model and asks it
    nothing.

    The options are those of `make_pairs` that change the forecast. Raises InputError for bad input.
    """
    from lastresort.app import data_pairs

    request = data_pairs.PairsRequest(
        _file(task), out=_path(out), settings=settings or {}, model=model, n=n, rows=rows, usd=usd, prompt_price=prompt_price,
        output_price=output_price,
    )  # fmt: skip
    with _computing(progress) as shown:
        return data_pairs.forecast_pairs(request, shown)


@checked
def mix_data(
    *files: str | PathLike[str],
    out: str | PathLike[str],
    to: str | None = None,
    rows: int | None = None,
    repeat: bool = False,
    seed: int = 0,
    drop: Sequence[str] = (),
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> MixedFile:
    """Mix files of rows into one, never over another (docs/data.md).

    files: "FILE" for all of its rows, "FILE=0.3" for a share of the mix, "FILE=500" for so many rows. to: a shape, by default that
    of the first file. rows: of the mix, where every file has a share or none has. repeat: take the rows of a file again once it is
    used up, else the mix ends there. drop: as in `convert_data`. Raises InputError for portions that contradict each other,
    DataError naming row and field for rows that cannot be used.
    """
    from lastresort.app.data_mix import MixRequest, mix_files, source_of
    from lastresort.stop import NEVER

    sources = tuple(source_of(str(file)) for file in files)
    request = MixRequest(sources, Path(out), to, rows, repeat, seed, tuple(drop))
    with _computing(progress) as shown:
        return mix_files(request, shown, stop or NEVER)


@checked
def synth_data(
    task: str | PathLike[str] | Task,
    *,
    teacher: str | None = None,
    n: int | None = None,
    kinds: Sequence[str] = (),
    balance: str = "train",
    agreement: int | None = None,
    usd: float | None = None,
    calls: int | None = None,
    prompt_price: float | None = None,
    output_price: float | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    ray: str | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SyntheticRows:
    """Make synthetic training rows for a task and write them beside it. A teacher writes them from train rows and documents.

    teacher: a model, by default prompting.reflect or the task's own. n: rows, by default as many as train has, at most 200.
    kinds: by default all that fit. balance: "train", "even" or "any". agreement: how often the teacher must give a row's answer
    again. usd, calls: limits. Prices: USD per million tokens of the teacher. ray: "local", "auto" or "HOST:PORT" to have a local
    teacher answer in parallel on a Ray cluster (docs/scale.md). stop: checked between calls.
    Raises InputError for what cannot be used, StoppedError if it stopped. The same call goes on, and a higher n makes more.
    """
    from lastresort.app import synth
    from lastresort.stop import NEVER

    request = synth.SynthRequest(
        _file(task), teacher, n, tuple(kinds), balance, agreement, calls, usd, prompt_price, output_price, seed, _path(out),
        settings or {}, ray,
    )  # fmt: skip
    with _computing(progress) as shown:
        return synth.synth_data(request, shown, stop or NEVER)


@checked
def forecast_synth(
    task: str | PathLike[str] | Task,
    *,
    teacher: str | None = None,
    n: int | None = None,
    kinds: Sequence[str] = (),
    balance: str = "train",
    agreement: int | None = None,
    prompt_price: float | None = None,
    output_price: float | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> SynthForecast:
    """Say what the rows still to be made would take, and show the next requests, as `lastresort data synth --dry-run` does. Opens
    no model and writes nothing.

    The options are those of `synth_data` that change the forecast. Raises InputError for bad input.
    """
    from lastresort.app import synth

    request = synth.SynthRequest(
        _file(task), teacher, n, tuple(kinds), balance, agreement, prompt_price=prompt_price, output_price=output_price,
        seed=seed, out=_path(out), settings=settings or {},
    )  # fmt: skip
    with _computing(progress) as shown:
        return synth.forecast_synth(request, shown)


@checked
def open_run(folder: str | PathLike[str]) -> Run:
    """Open a run from its folder, whether finished, stopped or still running. Raises DataError if there is none."""
    from lastresort.app import runs

    return runs.open_run(Path(folder))


@checked
def open_system(folder: str | PathLike[str], *, allow_held: bool = False) -> Running:
    """Open the winner of a run, or a saved system, as it was measured.

    In bfloat16 and float16 the rounding depends on which inputs are answered together, so a close answer can differ.
    allow_held: also open a winner that the gate holds. Raises InputError if the gate holds it, DataError if files changed.
    """
    from lastresort.app.runtime import set_environment
    from lastresort.systems import running

    set_environment()
    return running.open_system(Path(folder), allow_held=allow_held)


@_Command
def handoff(
    run: str | PathLike[str],
    to: str,
    *,
    merged: bool = False,
    out: str | PathLike[str] | None = None,
    name: str | None = None,
    allow_held: bool = False,
    port: int | None = None,
    progress: Progress | None = None,
) -> HandedOver:
    """Write what another server needs to serve the winner of a run: the model, its launch, and the client's request.

    to: "vllm", "sglang", "llamacpp", "ollama", "litellm" or "transformers". merged: base and adapter as one model. out: by default
    handoff-TO in the run, or FOLDER-handoff-TO next to a saved system. name: to serve it under, by default that of the run's
    folder. port: where the server listens, by default its usual one.
    Raises InputError for a winner that is held or that the server cannot serve, DataError if files changed.
    """
    from lastresort.app.runs import hand_over

    return hand_over(
        Path(run), to, merged=merged, out=_path(out), name=name, allow_held=allow_held, port=port, progress=progress
    )


def _computing(progress: Progress | None) -> AbstractContextManager[Progress]:
    """The progress to use, by default on stderr."""
    from lastresort.app.runtime import computing

    return computing(progress)


def _file(task: str | PathLike[str] | Task) -> Path | Task:
    return Path(task) if isinstance(task, str | PathLike) else task


def _path(place: str | PathLike[str] | None) -> Path | None:
    return None if place is None else Path(place)


def _model(name: str | PathLike[str] | None) -> str | Path | None:
    """A model may have a name that is no path."""
    return Path(name) if isinstance(name, PathLike) else name
