"""Check a task's data before anything is spent on it: `lastresort data check`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.app.start import RUNS
from lastresort.climb.prepare import PreparedTask, check_sizes, data_report, files_read, prepare, trained_turns
from lastresort.climb.workspace import LEDGER, SHARED, earlier_use
from lastresort.data import files
from lastresort.data.check import check_preferences
from lastresort.data.formats.rows import RawRow
from lastresort.data.preferences import read_preferences
from lastresort.errors import LastresortError, TaskError
from lastresort.foreign import MiB
from lastresort.ladder import RUNGS
from lastresort.models.open import absolute_name, local_model, open_model
from lastresort.models.protocol import Model
from lastresort.records.data_report import DataReport, PreferenceFault, PreferenceReport
from lastresort.records.decision import FILE_NAME as DECISION
from lastresort.records.document import ReuseView
from lastresort.report.words import data as words
from lastresort.rungs.preference.items import render_preferences
from lastresort.rungs.prompting.prompts import instruction
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, JsonObject

if TYPE_CHECKING:
    from lastresort.app.dry_run import FewItems

# Keys that no check reads.
UNREAD = frozenset(("task", "goal", "on_undecided", "facts", "limits", "decode", "general", "keep", *RUNGS))
# Keys that are read only to see whether the test set is large enough for the bar, as `rows_left` does.
OF_SIZES = frozenset(("ladder", "bar", "confidence", "knowledge", "knowledge_changes", "retrain_every", "use"))
MOST_LOOKED_AT = MiB // 2  # of a task's rows, while somebody types
READ_AGAIN = 64 * MiB  # larger files are not read again to show rows of theirs


@dataclass(frozen=True, slots=True)
class DataCheck:
    """report: on the examples. preferences: on the task's preferences, None where none would be trained on. masks: lines that show
    training rows token by token, with what is trained. test_reuse: of the test items, by earlier runs of this workspace, None where
    none used them.
    """

    report: DataReport
    preferences: PreferenceReport | None
    masks: tuple[str, ...]
    test_reuse: ReuseView | None = None

    @property
    def ok(self) -> bool:
        """False where something must be fixed first."""
        return self.report.ok

    def as_dict(self) -> JsonObject:
        """As `lastresort data check --json` prints it."""
        preferences = None if self.preferences is None else self.preferences.as_json()
        reuse = None if self.test_reuse is None else self.test_reuse.as_json()
        return {**self.report.as_json(), "preferences": preferences, "test_reuse": reuse, "masks": list(self.masks)}

    def lines(self) -> list[str]:
        """As `lastresort data check` prints it."""
        reuse = () if self.test_reuse is None else (self.test_reuse.text,)
        return [*words.lines(self.report, self.preferences, *reuse), *self.masks]

    def _repr_html_(self) -> str:
        from lastresort.report.notebook import lines_html

        return lines_html(words.in_short(self.report), self.lines())


def checked_part(task: Task, *, sizes: bool = True) -> str:
    """What of a task decides what `check_task` finds, apart from the contents of its files: two tasks with the same part and
    the same files get the same findings.

    sizes: whether it counts here that the check refuses test sets too small for the bar; False where `rows_left` was asked.
    """
    left_out = UNREAD if sizes else UNREAD | OF_SIZES
    part = {key: value for key, value in task.resolved().items() if key not in left_out}
    return json.dumps([part, "preference" in task.ladder], sort_keys=True)


def files_checked(task: Task, runs: Path) -> list[Path]:
    """What `check_task` reads: the task's files, those of the model whose tokenizer and context decide which examples are too long,
    as far as the task names them by path, and what the runs here noted of their test items and their end.
    """
    path = Path(absolute_name(task.tuned_model, task.folder).removeprefix("scripted:"))
    model = [path] if path.is_absolute() else []
    if path.is_dir():
        model = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    return [*files_read(task), *model, runs / SHARED / LEDGER, *sorted(runs.glob(f"*/{DECISION}"))]


@dataclass(frozen=True, slots=True)
class RowsLeft:
    """train: rows to train on. bar: of the task. few: None where the test items are enough for a verdict near the bar, or where
    it is not known how many are.
    """

    train: int
    bar: float
    few: FewItems | None


def rows_left(task: Task) -> RowsLeft | TaskError | None:
    """What a task leaves to train and to test on, or why that is too little for it. None where that takes the whole check: of rows
    that have faults, and of files that take a while to read.
    """
    if sum(path.stat().st_size for path in task.examples.files if path.is_file()) > MOST_LOOKED_AT:
        return None
    from lastresort.app.dry_run import few_items

    try:
        prepared = check_sizes(task)
        few = few_items(prepared, task.ladder) if task.score.python_file is None else None
        return RowsLeft(len(prepared.split.train), task.bar, few)
    except TaskError as error:
        return error
    except LastresortError:
        return None


def first_rows(path: Path, count: int) -> Sequence[RawRow]:
    """No rows of a file that cannot be read."""
    try:
        return files.first_rows(path, count)
    except (LastresortError, OSError):
        return ()


def rows_by_number(path: Path) -> dict[int, RawRow]:
    """None of a file that is large or cannot be read."""
    try:
        return {} if path.stat().st_size > READ_AGAIN else {row.number: row for row in files.read_rows(path)}
    except (LastresortError, OSError):
        return {}


def check_task(task: Task, *, show: int = 0) -> DataCheck:
    """Check the examples against each other and against the model that would be trained, and the preferences likewise.

    show: how many training rows to show token by token. Raises InputError where the task or its data cannot be used.
    """
    prepared = prepare(task, run_code=False)
    model = open_model(task.tuned_model, base_folder=task.folder, template_kwargs=task.chat_template_kwargs)
    report = data_report(
        prepared, lambda example: model.count_tokens(trained_turns(task, example)), model.context_tokens
    )
    masks = _masks(model, task, prepared.split.train[:show])
    reuse = earlier_use(RUNS, prepared.split.test)
    return DataCheck(report, _preferences(model, prepared), tuple(masks), reuse)


def _preferences(model: Model, prepared: PreparedTask) -> PreferenceReport | None:
    task, kept = prepared.task, prepared.preferences
    if kept is None or task.preferences is None:
        return None
    return check_preferences(kept, len(read_preferences(task.preferences)) - len(kept), _left_out(model, prepared))


def _left_out(model: Model, prepared: PreparedTask) -> Mapping[PreferenceFault, int]:
    """How many preferences cannot be trained on, by what is wrong; nothing where the model has no tokenizer here."""
    local = local_model(model)
    if local is None:
        return {}
    rendered = render_preferences(
        prepared.preferences or (),
        PromptDesign(instruction(prepared.task)),
        local.loaded.tokenizer,
        context_tokens=model.context_tokens,
        template_kwargs=prepared.task.chat_template_kwargs,
    )
    return rendered.left_out


def _masks(model: Model, task: Task, examples: Sequence[Example]) -> list[str]:
    """The tokens of each example and which of them are trained; one sentence where the model has no tokenizer here."""
    if not examples:
        return []
    from lastresort.data.rendering import mask_lines, render_training

    local = local_model(model)
    if local is None:
        return [f"cannot show tokens: {model.name} has no tokenizer here"]
    tokenizer, lines = local.loaded.tokenizer, []
    for example in examples:
        where = example.place
        rendered = render_training(
            tokenizer, trained_turns(task, example), template_kwargs=task.chat_template_kwargs, where=where
        )
        lines += ["", f"{example.id} ({where})", *mask_lines(tokenizer, rendered)]
    return lines
