"""Trainings apart from a climb: the fields of their files, and which files of `tasks/NAME/` are theirs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lastresort.app.train import training_output
from lastresort.app.watch import training_files
from lastresort.errors import LastresortError
from lastresort.objectives import OBJECTIVES
from lastresort.records.atomic import is_held
from lastresort.spec.task import Task
from lastresort.ui.drafts import TRAINING_DRAFT as DRAFT
from lastresort.ui.drafts import data_file, task_from, text_of
from lastresort.ui.findings import files_state
from lastresort.ui.workspace import NotThere, Workspace, mark_of
from lastresort.ui.yaml_form import FormField

STEM, FILE = "train", "train.yaml"

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


def mark(path: Path, log: Path, *, loads: bool) -> str:
    """Changes with what `training_now` and the log of the process say. loads: whether a process of the page works on it."""
    files, works = [path, log], loads
    with suppress(LastresortError):
        output = training_output(path)
        files += training_files(output)
        works = works or is_held(output)
    return mark_of(files_state(files), works=works)


def task_of_rows(folder: Path) -> Task | None:
    """The task that is made in a folder from its rows, None where there is none. Raises TaskError where it has a fault."""
    text = text_of(folder)
    return None if text is None or data_file(folder) is None else task_from(text, folder)


def task_next_to(folder: Path) -> Task | None:
    """As `task_of_rows`; None also where it has a fault."""
    with suppress(LastresortError):
        return task_of_rows(folder)
    return None
