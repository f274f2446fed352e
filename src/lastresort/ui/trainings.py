"""Trainings apart from a climb: their files in `tasks/NAME/`, what they wrote so far, what a person agrees to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastresort.app.held_out import UnreadTask, held_out_rows, write_train_split
from lastresort.app.plan import TARGETS
from lastresort.climb.shared_run import SCRIPTED
from lastresort.data.files import read_rows
from lastresort.errors import InputError, LastresortError
from lastresort.models.endpoint import parse_endpoint
from lastresort.models.protocol import is_endpoint
from lastresort.models.scripted import writes_elsewhere
from lastresort.objectives import OBJECTIVES
from lastresort.records.atomic import is_held
from lastresort.report.charts.loss import Curve
from lastresort.report.words.draft import OBJECTIVES as DRAFTED
from lastresort.report.words.draft import TRAINED_MODEL
from lastresort.report.words.training import of_train_split
from lastresort.spec.document import YamlDocument
from lastresort.spec.edit import written
from lastresort.spec.training import load_training, training_of
from lastresort.stop import FILE_NAME as STOP
from lastresort.train.files.run_folder import BEGUN, LOG, RECORD, StepLog, TrainingRecord, finished_record
from lastresort.train.settings import TrainingFile
from lastresort.ui.drafts import TRAINING_DRAFT as DRAFT
from lastresort.ui.drafts import Consent, ForeignCode, code_text, columns_of, data_file, task_from, text_of
from lastresort.ui.findings import files_state
from lastresort.ui.workspace import NotThere, Workspace, mark_of
from lastresort.ui.yaml_form import FormField

STEM, FILE = "train", "train.yaml"
SENDING = ("mlflow", "wandb", "trackio")  # trackers that may send figures away
TrainingState = Literal["new", "running", "stopped", "finished"]

FIELDS = (
    FormField("model", "Model", "text", hint="embedded, a hub id, a folder or a .gguf file"),
    FormField("objective", "Objective", "choice", tuple(OBJECTIVES), "Set options such as beta in the text."),
    FormField("data.train", "Training data", "text", hint="A file next to this one.", short="train"),
    FormField("data.eval", "Held out", hint="A share, a count, or a file.", short="train"),
    FormField("columns.input", "Input column", "text", hint="If not input, for sft."),
    FormField("columns.output", "Answer column", "text", hint="If not output, for sft."),
    FormField("adapter.kind", "Adapter", "choice", ("lora", "rslora", "dora", "qlora", "full"), short="kind"),
    FormField("adapter.r", "Rank", short="kind"),
    FormField("adapter.alpha", "Alpha", short="kind"),
    FormField("adapter.dropout", "Dropout", short="kind"),
    FormField("adapter.target", "Layers", "choice", ("attention", "all-linear"), short="kind"),
    FormField("start_from", "Start from", "text", hint="An adapter to continue from."),
    FormField("learning_rate", "Learning rate"),
    FormField("epochs", "Epochs"),
    FormField("batch_size", "Batch size", hint="Rows of an optimizer step."),
    FormField("max_steps", "Maximum steps"),
    FormField("schedule", "Schedule", "choice", ("linear", "cosine", "constant")),
    FormField("warmup", "Warm-up", hint="A share, or steps."),
    FormField("weight_decay", "Weight decay"),
    FormField("max_grad_norm", "Max gradient norm"),
    FormField("loraplus_lr_ratio", "LoRA+ ratio"),
    FormField("optimizer", "Optimizer", "choice", ("adamw", "paged_adamw_8bit")),
    FormField("precision", "Precision", "choice", ("auto", "float32", "bfloat16")),
    FormField("max_tokens", "Longest row"),
    FormField("longer_rows", "Longer rows", "choice", ("refuse", "drop", "truncate")),
    FormField("trained_turns", "Trained turns", "choice", ("all", "last")),
    FormField("max_pass_tokens", "Tokens per batch", hint="Less saves memory."),
    FormField("checkpointing", "Checkpointing", "choice", ("true", "false")),
    FormField("seed", "Seed"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainingNow:
    """A training as its folder is now. curve: a figure a step. record: of a finished one. fault: why it cannot be read."""

    stem: str
    state: TrainingState
    output: Path
    curve: Curve = ()
    record: TrainingRecord | None = None
    stopping: bool = False
    fault: str = ""

    @property
    def figures(self) -> Mapping[str, float]:
        """Of its last step."""
        return self.curve[-1] if self.curve else {}


def drafted_on(data: Path) -> str:
    """The text to begin with on the data of a folder: on the train split alone where a task of the folder divides it.

    Raises TaskError and DataError where that task cannot be read: what it holds out is not known then.
    """
    text = text_of(data.parent)
    task = None if text is None else task_from(text, data.parent)
    if task is None or data not in (task.examples.all, task.examples.train):
        return drafted(data)
    split = write_train_split(task)
    return drafted(split.path, of_train_split(split.rows, split.given, data.name, split.dev, split.test))


def refuse_held_out(file: TrainingFile, data: Path | None) -> None:
    """Raises InputError for a training whose rows a task next to it holds out, or may hold out. data: of the folder."""
    for found in held_out_rows(file):
        if isinstance(found, UnreadTask):
            raise InputError(
                found.said.rstrip("."),
                expected="tasks next to the training whose dev and test items are known",
                remedy="Correct that file, or move it to another folder.",
            )
        if found.leaks:
            raise InputError(
                f"found {found.dev} dev items and {found.test} test items of {found.task} among the {found.rows} training rows",
                where=f'{FILE}, key "data"',
                expected="rows that a gate or a climb of that task is not tested on",
                remedy=_train_split_named(data) or "Name other rows.",
            )


def _train_split_named(data: Path | None) -> str:
    task = None if data is None else text_of(data.parent)
    if data is None or task is None:
        return ""
    try:
        split = write_train_split(task_from(task, data.parent))
    except LastresortError:
        return ""
    return f"Write data: {split.path.name}, its train split of {split.rows} rows."


def drafted(data: Path, about: Sequence[str] = ()) -> str:
    """The text to begin with: the objective that the columns of the rows are made for, and which are input and output where their
    names do not say. about: what the rows are, in lines. Raises DataError.
    """
    keys = read_rows(data)[0].values.keys()
    objective = "sft"
    if {"chosen", "rejected"} <= keys:
        objective = "dpo"
    elif "label" in keys and {"completion", "prompt"} & keys:
        objective = "kto"
    elif keys == {"text"}:
        objective = "text"
    lines = [
        f"# A training apart from a climb, on {data.name}.",
        *(f"# {line}" for line in about),
        f"model: embedded       # {TRAINED_MODEL}",
        f"objective: {objective}".ljust(20) + f"  # {DRAFTED[objective]}",
        f"data: {written(data.name)}",
        *(_columns(data) if objective == "sft" and "segments" not in keys else ()),
        "adapter: lora         # or rslora, dora, qlora, full",
        "epochs: 3",
    ]
    return "\n".join(lines) + "\n"


def _columns(data: Path) -> list[str]:
    """The line that names them, as a comment where a person has to say which they are; none where the rows have a known shape."""
    found = columns_of(data)
    if found.shape:
        return []
    if found.input and found.output:
        return [f"columns: {written({'input': found.input, 'output': found.output})}"]
    return ["# columns: {input: …, output: …}   # name the column of the input and that of the answer"]


def training_from(document: YamlDocument, folder: Path, file: str = FILE) -> TrainingFile:
    """Raises TaskError, and InputError for an output outside of the folder, which the page would not find again."""
    found = training_of(document, folder / file)
    if not found.output.resolve().is_relative_to(folder.resolve()) or found.output == folder:
        raise InputError(
            f'found the output "{found.output}"',
            where=f'{FILE}, key "output"',
            expected="a folder next to the file",
            remedy="Leave it out, or start the training in a terminal.",
        )
    return found


def plan_of(file: TrainingFile, folder: Path) -> dict[str, str]:
    """What the plan's page is to begin with, as its address says it. folder: the workspace, from which a model's name is read."""
    settings, adapter = file.settings, file.settings.adapter
    model = Path(file.model)
    below = model.is_absolute() and model.is_relative_to(folder)
    methods = "full" if adapter.kind == "none" else "qlora" if adapter.quantize else "lora"
    found = {
        "model": f"./{model.relative_to(folder).as_posix()}" if below else file.model,
        "method": methods,
        "objective": {"pairs": "dpo", "groups": "grpo"}.get(settings.objective.need, "sft"),
        "rows": str(sum(len(read_rows(path)) for path in file.data.train)),
        "epochs": f"{settings.epochs:g}",
        "r": str(adapter.r),
        "optimizer": settings.optimizer,
        "precision": file.precision,
        "checkpointing": "on" if settings.checkpointing else "off",
    }
    if adapter.target in TARGETS:
        found["target"] = str(adapter.target)
    return found | ({} if file.max_tokens is None else {"tokens": str(file.max_tokens)})


def consent_for(file: TrainingFile) -> Consent:
    """What this training would run, and where it would send anything."""
    code: list[ForeignCode] = []
    groups = file.groups
    for number, term in enumerate(groups.reward if groups is not None else ()):
        if term.name == "python":
            path = Path(str(term.parameters["file"]))
            code.append(ForeignCode(f"reward[{number}]", f"{path.name}:{term.parameters['function']}", code_text(path)))
        elif term.name == "judge":
            judge = str(term.parameters["model"])
            if judge.startswith(SCRIPTED) and writes_elsewhere(file.folder / judge.removeprefix(SCRIPTED)):
                code.append(ForeignCode(f"reward[{number}]", judge, ""))
    sends = (name for name in reached_by(file) if name in SENDING or not parse_endpoint(name).host.is_this_machine)
    return Consent(tuple(code), tuple(sends))


def reached_by(file: TrainingFile) -> tuple[str, ...]:
    """Trackers that may send figures away, and endpoints, also those on this machine."""
    found, groups = {str(name) for name in file.track if name in SENDING}, file.groups
    if groups is not None:
        judges = (str(term.parameters["model"]) for term in groups.reward if term.name == "judge")
        found |= {name for name in judges if is_endpoint(name) and not name.startswith(SCRIPTED)}
        found |= set() if groups.server is None else {groups.server.model}
    return tuple(sorted(found))


def file_in(workspace: Workspace, name: str, stem: str) -> Path:
    """A training file that was started. Raises NotThere."""
    path = workspace.task_folder(name) / f"{stem}.yaml"
    if not stem.startswith(STEM) or path.name == DRAFT or path.is_symlink() or not path.is_file():
        raise NotThere(f'There is no training "{stem}" of {name} here.')
    return path


def stems_in(folder: Path) -> list[str]:
    """The trainings that were started, the newest first."""
    files = [path for path in folder.glob(f"{STEM}*.yaml") if path.name != DRAFT and path.is_file()]
    return [path.stem for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)]


def names_in(workspace: Workspace) -> list[str]:
    found = []
    for folder in workspace.task_folders():
        with suppress(LastresortError):
            if text_of(folder, DRAFT, STEM) is not None:
                found.append(folder.name)
    return found


def data_in(workspace: Workspace) -> list[str]:
    """The data files of all tasks, as NAME/FILE."""
    found = [data for folder in workspace.task_folders() if (data := data_file(folder)) is not None]
    return [f"{path.parent.name}/{path.name}" for path in found]


def output_of(path: Path) -> Path:
    """Where a training that was started from this file writes. Raises TaskError, InputError for a place outside of its folder."""
    output = load_training(path).output
    if not output.resolve().is_relative_to(path.parent.resolve()):
        raise InputError("Its output lies outside of this workspace")
    return output


def mark(path: Path, log: Path, *, loads: bool) -> str:
    """Changes with what `now` and the log of the process say. loads: whether a process of the page works on it."""
    files, works = [path, log], loads
    with suppress(LastresortError):
        output = output_of(path)
        files += [output / name for name in (LOG, RECORD, BEGUN, STOP)]
        works = works or is_held(output)
    return mark_of(files_state(files), works=works)


def now(path: Path) -> TrainingNow:
    """A training that was started from this file."""
    try:
        output = output_of(path)
    except LastresortError as error:
        return TrainingNow(path.stem, "stopped", path.with_name(f"{path.stem}-out"), fault=str(error))
    working = is_held(output)
    curve = tuple(_as_drawn(line) for line in StepLog(output / LOG).lines())
    stopping = working and (output / STOP).exists()
    if working:
        return TrainingNow(path.stem, "running", output, curve, stopping=stopping)
    if (output / RECORD).is_file():
        try:
            return TrainingNow(path.stem, "finished", output, curve, finished_record(output))
        except LastresortError as error:
            return TrainingNow(path.stem, "stopped", output, curve, fault=str(error))
    begun = (output / BEGUN).is_file()
    return TrainingNow(path.stem, "stopped" if begun else "new", output, curve)


def _as_drawn(line: Mapping[str, float]) -> dict[str, float]:
    """The chart's name for the loss on what is held out is that of a climb's dev."""
    numbers = {key: value for key, value in line.items() if type(value) in (int, float)}
    return {("dev_loss" if key == "eval_loss" else key): value for key, value in numbers.items()}
