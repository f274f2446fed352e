"""Draft a training file, train from one, and merge an adapter into its base: all apart from a climb."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lastresort.app.runtime import resumable
from lastresort.errors import DataError, InputError, LastresortError, TaskError
from lastresort.stop import NEVER, Stop
from lastresort.types import JsonObject, Progress

if TYPE_CHECKING:
    from lastresort.spec.document import YamlDocument
    from lastresort.spec.task import Task
    from lastresort.train.adapters.gguf import ExportedGguf
    from lastresort.train.adapters.merge import Merged
    from lastresort.train.files.run_folder import TrainingRecord
    from lastresort.train.settings import TrainingFile


@dataclass(frozen=True, slots=True)
class Training:
    """A finished training. record: what training.json holds. output: the folder that holds that, and what was trained."""

    record: TrainingRecord
    objective: str
    output: Path

    @property
    def saved(self) -> Path:
        """The folder of the adapter, or of the whole model."""
        return self.output / self.record.saved.folder

    def __repr__(self) -> str:
        return f"<Training {self.saved}: {self._lines()[0]}>"

    def _repr_html_(self) -> str:
        from lastresort.report.notebook import lines_html

        first, *others = self._lines()
        return lines_html(first, others)

    def _lines(self) -> list[str]:
        """As `lastresort train` prints them."""
        from lastresort.report.words.training import training_lines

        return training_lines(self.record, self.objective, self.output)


def leads() -> bool:
    """Whether this process reports what happens: the first of those that were started together, or the only one."""
    from lastresort.train.loop import launch

    return launch.leads(os.environ)


def refuse_several_processes(command: str) -> None:
    """Raise InputError for a command that is started in several processes and does not divide its work; those that do not lead end
    by SystemExit.
    """
    from lastresort.train.loop import launch

    refused = launch.refused_command(os.environ, command)
    if refused is not None:
        raise refused if leads() else SystemExit(refused.exit_code)


def train(
    path: Path,
    progress: Progress,
    stop: Stop = NEVER,
    *,
    settings: Mapping[str, object] | None = None,
    resume: bool = False,
    strict: bool = False,
) -> Training:
    """Train what the file says. All processes that were started together call this; those that do not lead end by SystemExit on
    errors that the first one reports.

    path: a training file, or a YAML of Axolotl or LLaMA-Factory, which strict refuses where it has keys that are not honoured.
    settings: dotted keys that override the file's own. stop: checked before each step, as is a file named stop in the output
    folder. Raises InputError or DataError for what cannot be trained, StoppedError where it stopped and can be resumed.
    """
    try:
        file = _training_file(path, settings or {}, progress, resume=resume or not leads(), strict=strict)
    except LastresortError as error:
        if leads():
            raise
        raise SystemExit(error.exit_code) from error
    from lastresort.train.files.run import run_training
    from lastresort.train.files.run_folder import BEGUN

    if leads():
        _say_what_is_held_out(file, progress)
    with resumable(file.output / BEGUN):
        record = run_training(file, resume=resume, progress=progress, stop=stop)
    return Training(record, file.objective, file.output)


def _say_what_is_held_out(file: TrainingFile, progress: Progress) -> None:
    """A training may read any rows, but nobody should learn from a gate that it read those of its test."""
    from lastresort.app.held_out import SUFFIX, HeldOutRows, held_out_rows
    from lastresort.report.words.training import held_out_line

    for found in held_out_rows(file):
        suffix = SUFFIX if isinstance(found, HeldOutRows) and found.leaks else None
        progress.say(held_out_line(found.said, leaks=found.leaks, suffix=suffix))


def _training_file(
    path: Path, settings: Mapping[str, object], progress: Progress, *, resume: bool, strict: bool
) -> TrainingFile:
    """Our own training file, or one translated from another framework's, whose remarks are shown first. resume: it may be written
    already, as it is by the first of several processes.
    """
    from lastresort.interop import reading
    from lastresort.report.words.training import dropout_line
    from lastresort.spec.training import load_training
    from lastresort.train.files.run_folder import BEGUN

    overrides = dict(settings)
    if (path / BEGUN).is_file():
        raise TaskError(
            "found the output folder of a training",
            where=str(path),
            expected="the training file that it came of",
            remedy="`lastresort train FILE --resume` goes on with it.",
        )
    dropout_key = "adapter.dropout"
    if reading.framework_of(path) is not None:
        dropout_key = "lora_dropout"
        imported = reading.read(path, overrides, strict=strict)
        for line in reading.remark_lines(imported.remarks):
            progress.say(line)
        output = reading.output_folder(imported, path)
        path, overrides = reading.write_imported(imported, output, path, resume=resume), {}
    file = load_training(path, overrides)
    begun = (file.output / BEGUN).is_file()  # and so keeps its keys
    if (dropout := file.settings.adapter.dropout) and not begun:
        progress.say(dropout_line(dropout, dropout_key))
    return file


def draft_training(data: Path, task: Task | None = None) -> str:
    """The text of a training file to begin with: the objective that the columns of the rows are made for, and which are input and
    output where their names do not say. task: of the same folder, None for none; where it divides this data, the training is on its
    train split alone. Raises TaskError and DataError.
    """
    from lastresort.app.held_out import write_train_split
    from lastresort.data.files import read_rows
    from lastresort.report.words.draft import OBJECTIVES, TRAINED_MODEL
    from lastresort.report.words.training import of_train_split
    from lastresort.spec.edit import written

    about: Sequence[str] = ()
    if task is not None and data in (task.examples.all, task.examples.train):
        split = write_train_split(task)
        about = of_train_split(split.rows, split.given, data.name, split.dev, split.test)
        data = split.path
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
        f"objective: {objective}".ljust(20) + f"  # {OBJECTIVES[objective]}",
        f"data: {written(data.name)}",
        *(_column_lines(data) if objective == "sft" and "segments" not in keys else ()),
        "adapter: lora         # or rslora, dora, qlora, full",
        "epochs: 3",
    ]
    return "\n".join(lines) + "\n"


def _column_lines(data: Path) -> list[str]:
    """The line that names them, as a comment where a person has to say which they are; none where the rows have a known shape."""
    from lastresort.app.columns import table_columns
    from lastresort.spec.edit import written

    found = table_columns(data)
    if found.shape:
        return []
    if not found.is_open:
        return [f"columns: {written({'input': found.input, 'output': found.output})}"]
    return ["# columns: {input: …, output: …}   # name the column of the input and that of the answer"]


def training_from(document: YamlDocument, path: Path) -> TrainingFile:
    """The training of a file that need not be written yet. Raises TaskError, and InputError for an output outside of its folder, in
    which whoever follows it would not find it.
    """
    from lastresort.spec.training import training_of

    found, folder = training_of(document, path), path.parent.resolve()
    if folder not in found.output.resolve().parents:
        raise InputError(
            f'found the output "{found.output}"',
            where=f'{path.name}, key "output"',
            expected="a folder next to the file",
            remedy="Leave it out, or start the training in a terminal.",
        )
    return found


def training_output(path: Path) -> Path:
    """Where a training that was started from this file writes. Raises as `training_from` does."""
    from lastresort.spec.document import read_document
    from lastresort.spec.training import TRAINING

    return training_from(read_document(path, TRAINING), path).output


@dataclass(frozen=True, slots=True)
class MergeResult:
    """merged: the model with the check of its answers. gguf: None if none was requested."""

    merged: Merged
    gguf: ExportedGguf | None

    def as_dict(self) -> JsonObject:
        found = {**asdict(self.merged), "folder": str(self.merged.folder)}
        found["check"]["drowned"] = self.merged.check.drowned
        found["gguf"] = None if self.gguf is None else {**asdict(self.gguf), "path": str(self.gguf.path)}
        if self.gguf is not None:
            found["gguf"]["modelfile"] = str(self.gguf.modelfile)
        return found


def merge(
    adapter: Path,
    *,
    base: str | None = None,
    out: Path | None = None,
    into: str | None = None,
    scale: float = 1.0,
    dtype: str | None = None,
    gguf: bool = False,
    gguf_type: str | None = None,
    progress: Progress | None = None,
) -> MergeResult:
    """Merge an adapter into its base, check that both give the same answers, and export that.

    base: None for the one that the adapter names. out: None for ADAPTER-merged; it appears when all of it is written and checked.
    into: None for the weights that the adapter was trained on. gguf: also write a GGUF and an Ollama Modelfile; gguf_type alone
    asks for them too. What cannot become a GGUF is refused before anything is merged. Raises InputError and DataError.
    """
    from lastresort.app.runtime import computing
    from lastresort.records.atomic import new_folder, replace_folder
    from lastresort.train.adapters.gguf import export_gguf
    from lastresort.train.adapters.merge import check_out, merge_adapter

    base, out = base or _base_of(adapter), out or _merged_folder(adapter)
    kind, wants_gguf = _into(into), gguf or bool(gguf_type)
    if wants_gguf:
        _check_export(base, gguf_type)
    check_out(out)
    with computing(progress) as shown, new_folder(out) as working:
        model = working / "model"
        merged = merge_adapter(base, adapter, model, into=kind, scale=scale, dtype=dtype, progress=shown)
        exported = None
        if wants_gguf:
            shown.stage("writing the GGUF")
            found = export_gguf(model, model / "gguf", name=adapter.resolve().name, dtype=gguf_type)
            path, modelfile = (out / "gguf" / file.name for file in (found.path, found.modelfile))
            exported = replace(found, path=path, modelfile=modelfile)
        replace_folder(model, out)
    return MergeResult(replace(merged, folder=out), exported)


def _merged_folder(adapter: Path) -> Path:
    """ADAPTER-merged, also where the path ends without a name of its own, such as "." does."""
    named = adapter if adapter.name not in ("", "..") else adapter.resolve()
    return named.parent / f"{named.name}-merged"


def _base_of(adapter: Path) -> str:
    from lastresort.train.adapters.folder import read_adapter

    found = read_adapter(adapter).base_name
    if not found:
        raise DataError(
            "the adapter does not say which model it was trained on", where=str(adapter), remedy="Name it with --base."
        )
    return found


def _into(name: str | None) -> Literal["16bit", "nf4"] | None:
    if name == "16bit":
        return "16bit"
    if name == "nf4":
        return "nf4"
    if name is None:
        return None
    raise InputError(f'found "{name}"', where="--into", expected="16bit or nf4", remedy="Name one of them.")


def _check_export(base: str, gguf_type: str | None) -> None:
    from lastresort.models.loading import weights_folder
    from lastresort.models.open import local_weights
    from lastresort.train.adapters.gguf import check_exportable

    check_exportable(weights_folder(local_weights(base, Path.cwd())), gguf_type)
