"""From a task file to split, checked examples: everything that can be refused before the first model call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.climb.llm_judge import labelled_cases
from lastresort.climb.shares import refuse_few_items, shares_of
from lastresort.data.check import check_data, refuse_invalid_outputs, refuse_synthetic, short
from lastresort.data.files import read_rows
from lastresort.data.formats import COMMON_COLUMNS
from lastresort.data.held_passages import HeldPassages
from lastresort.data.preferences import PreferenceRow, read_preferences, without_leaks
from lastresort.data.read import MissingColumnError, examples_of, read_examples, renamed
from lastresort.data.sources import SharedSources, find_sources
from lastresort.data.split import Split, clean, groups_of, ordered, split_examples
from lastresort.errors import DataError, SplitError, TaskError
from lastresort.evals.scorers import AsksAModel, Scorer, build_scorer
from lastresort.evals.scorers.python_file import PythonFunction
from lastresort.evals.scorers.scorer import expected_place
from lastresort.evals.scorers.text import Regex
from lastresort.foreign import ROWS, read_content
from lastresort.records.data_report import DataReport, RowsLeftOut
from lastresort.records.reasons import KeyIgnored, ReplayKeyIgnored, RowsFromChangedPassages, RowsShareSource
from lastresort.rungs.preference.items import columns_of, reward_prompts
from lastresort.rungs.retrieval.rung import cut_for
from lastresort.rungs.rung import find_rung
from lastresort.spec.document import read_document, with_overrides
from lastresort.spec.sections import FullSettings, PreferenceSettings, SftSettings
from lastresort.spec.task import Task
from lastresort.spec.values import nearest_column
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message


@dataclass(frozen=True, slots=True)
class FreshItems:
    """A file of items that the tests which ended UNDECIDED go on with, in a fixed random order."""

    path: Path
    sha256: str
    examples: tuple[Example, ...]


PreparedNote = RowsLeftOut | RowsShareSource | RowsFromChangedPassages


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task ready to climb.

    split: what is trained and measured on. as_read: the split before anything was left out. leaks: how many rows left
    train because dev or test hold them too. files: name -> sha256. notes: for the decision, on what was left out or may belong
    together. sources: what rows share that belong to no group. preferences: those that hold nothing
    of dev or test, None where the task names none. fresh: what was added after a test ended UNDECIDED, in the order in which it
    came.
    """

    task: Task
    split: Split
    scorer: Scorer
    leaks: int
    files: dict[str, str]
    as_read: Split
    notes: tuple[PreparedNote, ...]
    sources: SharedSources | None = None
    preferences: tuple[PreferenceRow, ...] | None = None
    fresh: tuple[FreshItems, ...] = ()

    @property
    def left_out(self) -> tuple[RowsLeftOut, ...]:
        """Of the notes, those on rows that a climb neither trains nor measures on."""
        return tuple(note for note in self.notes if isinstance(note, RowsLeftOut))

    @property
    def fresh_files(self) -> dict[str, str]:
        """sha256 by name."""
        return {f"--more {file.path.name}": file.sha256 for file in self.fresh}

    @property
    def n_units(self) -> int:
        """What the statistics count: test items, or groups of them."""
        labels = groups_of(self.split.test)
        return len(self.split.test) if labels is None else len(set(labels))

    @property
    def counts_right(self) -> bool:
        """Whether the test counts right answers, and takes no means of graded scores or of groups."""
        return self.scorer.binary and groups_of(self.split.test) is None

    @property
    def shares(self) -> dict[str, float]:
        """Of the error, by test, for a climb that begins now."""
        return shares_of(self.task, self.split.train, self.n_units if self.counts_right else None)


def prepare(task: Task, *, run_code: bool = True, begins: bool = True) -> PreparedTask:
    """Read, split and check the task's examples. Raises TaskError or DataError with what is wrong and where.

    run_code: whether Python that the user wrote may run, to check it on the right answers. A forecast and a look at the data run
    none, and read from its text what they need. begins: whether a run may begin with it, whose test set must be large enough for
    its shares of the error. A run that has begun keeps the shares that are in its record.
    """
    as_read, files = read_split(task)
    files |= {_file_name(path, task): sha256_of(path) for path in (*_rule_files(task), *_preference_files(task))}
    output, scorer = task.output, _scorer(task)
    if isinstance(scorer, PythonFunction):
        if run_code:
            scorer.open()
        else:
            scorer = scorer.without_running()
    labelled_cases(task, scorer)
    everything = (*as_read.train, *as_read.dev, *as_read.test)
    refuse_invalid_outputs(everything, choices=output.choices, json_schema=output.json_schema)
    if run_code or not isinstance(scorer, PythonFunction):
        check_right_answers(scorer, (*as_read.dev, *as_read.test))
    cleaned = clean(as_read, held_passages(task, as_read))
    preferences, leaking = _preferences(task, cleaned.split)
    sources = _sources(everything)
    changed = (RowsFromChangedPassages(cleaned.changed),) if cleaned.changed else ()
    notes: tuple[PreparedNote, ...] = (*cleaned.notes, *leaking, *changed, *_source_notes(sources, cleaned.split))
    leaks = len(cleaned.leaks)
    prepared = PreparedTask(task, cleaned.split, scorer, leaks, files, as_read, notes, sources, preferences)
    _check_rewards(task, cleaned.split, run_code=run_code)
    if begins:
        refuse_few_items(prepared)
    return prepared


def ignored_keys(task: Task) -> list[KeyIgnored | ReplayKeyIgnored]:
    """Keys that the task file sets and no rung acts on."""
    ignored: list[KeyIgnored | ReplayKeyIgnored] = []
    if task.limits.gpu != "auto":
        ignored.append(KeyIgnored("limits.gpu", str(task.limits.gpu)))
    sections: dict[str, SftSettings | PreferenceSettings | FullSettings] = {
        "sft": task.sft,
        "preference": task.preference,
        "full": task.full,
    }
    for rung, section in sections.items():
        usual = type(section)()
        for key in ("replay_loss", "replay_weight", "replay_prompts"):
            value = getattr(section, key)
            if not section.replay and value != getattr(usual, key):
                ignored.append(ReplayKeyIgnored(rung, key, f"{value:g}" if isinstance(value, float) else value))
    return ignored


def check_sizes(task: Task) -> PreparedTask:
    """The examples split, with nothing left in them that leaks, by the rows and their number alone: a first look, before `prepare`.

    Raises TaskError, which names the key, where the rows are too few for the split or the bar, and DataError as `prepare` does.
    """
    try:
        as_read, files = read_split(task)
    except SplitError as error:
        where = f'{task.path.name}, key "split"'
        key = ("split", "test")
        raise TaskError(error.found, where=where, expected=error.expected, remedy=error.remedy, key=key) from error
    scorer, cleaned = _scorer(task), clean(as_read, held_passages(task, as_read))
    prepared = PreparedTask(task, cleaned.split, scorer, len(cleaned.leaks), files, as_read, cleaned.notes)
    if not isinstance(scorer, PythonFunction):  # whether its scores are 0 and 1 may only show once it runs
        refuse_few_items(prepared)
    return prepared


def _scorer(task: Task) -> Scorer:
    """Not opened yet."""
    output = task.output
    return build_scorer(
        task.score.name,
        task.score.parameters,
        json_schema=output.json_schema,
        choices=output.choices,
        about=task.about.strip(),
    )


def trained_turns(task: Task, example: Example) -> tuple[Message, ...]:
    """The conversation that a tuned model is trained on, by which lengths are counted: instruction, input and answer."""
    return (*compose(PromptDesign(task.about.strip()), example.input, ()), Message("assistant", example.output))


def data_report(
    prepared: PreparedTask, count_tokens: Callable[[Example], int] | None, context_tokens: int | None
) -> DataReport:
    """The findings about the data as it was read, leaks and repeats included, for the record and the report."""
    output, as_read = prepared.task.output, prepared.as_read
    report = check_data(
        as_read.train,
        as_read.dev,
        as_read.test,
        count_tokens=count_tokens,
        context_tokens=context_tokens,
        choices=output.choices,
        json_schema=output.json_schema,
        sources=prepared.sources,
    )
    return report.model_copy(update={"left_out": prepared.left_out})


def _sources(examples: Sequence[Example]) -> SharedSources | None:
    """Synthetic rows are left out: those made from one row are alike, and none is ever evidence."""
    real_rows = [example for example in examples if not example.synthetic]
    return find_sources(real_rows, columns_of(real_rows))


def _source_notes(sources: SharedSources | None, split: Split) -> tuple[RowsShareSource, ...]:
    if sources is None:
        return ()
    n = len(sources.members)
    return (RowsShareSource(sources.column, n, sources.rows, sources.among(split.test), len(split.test)),)


def read_split(task: Task) -> tuple[Split, dict[str, str]]:
    """The examples as they were read and divided, and the sha256 of each of their files by name. Raises DataError."""
    sources, group_by = task.examples, task.split.group_by
    files: dict[str, str] = {}

    def read(path: Path | None, *, measured: bool = True) -> list[Example] | None:
        if path is None:
            return None
        files[_file_name(path, task)] = sha256_of(path)
        names = None if task.columns is None else task.columns.names
        try:
            examples = read_examples(path, group_by=group_by, names=names)
        except MissingColumnError as error:
            raise _unknown_column(task, path, error) from error
        if measured:
            refuse_synthetic(examples)
        return examples

    divided = sources.dev is None or sources.test is None
    pool = read(sources.all if sources.all is not None else sources.train, measured=divided)
    assert pool is not None, "the task file names all or train"
    split = split_examples(
        pool,
        dev=task.split.dev,
        test=task.split.test,
        group_by=group_by,
        seed=task.split.seed,
        fixed_dev=read(sources.dev),
        fixed_test=read(sources.test),
    )
    files |= {_file_name(path, task): sha256_of(path) for path in sources.synthetic}
    synthetic_rows = _with_own_ids([row for path in sources.synthetic for row in _synthetic(task, path)], split)
    split = replace(split, train=ordered((*split.train, *synthetic_rows), task.split.seed))
    return split, files


def _unknown_column(task: Task, path: Path, error: MissingColumnError) -> TaskError:
    """Where the task names the column: at a line of its file, or from outside."""
    nearest = nearest_column(error.column, error.free)
    return TaskError(
        f'{path.name} has no column "{error.column}"',
        where=_where_named(task, error),
        expected=f"one of {', '.join(error.known)}",
        remedy=f'Did you mean "{nearest}"?' if nearest else "Name one of them.",
        key=tuple(error.key.split(".")),
    )


def _where_named(task: Task, error: MissingColumnError) -> str:
    """The place of the key. The task does not keep which of its keys were set from outside the file, so that one with
    another value there counts as set.
    """
    if not task.path.is_file():
        return f'key "{error.key}"'
    document = read_document(task.path)
    section, name = error.key.split(".")
    file_section = document.values.get(section)
    file_value = file_section.get(name) if isinstance(file_section, dict) else None
    if error.column not in (file_value if isinstance(file_value, list) else [file_value]):
        document = with_overrides(document, {error.key: error.column})
    return document.where((section, name))


def held_passages(task: Task, as_read: Split) -> HeldPassages | None:
    """Those of dev and test; None where no row of train was made from a passage. Reads the documents. Raises DataError."""
    seed_passages = [row.seed_passage for row in as_read.train if row.seed_passage is not None]
    return HeldPassages(cut_for(task), (*as_read.dev, *as_read.test), seed_passages) if seed_passages else None


def _with_own_ids(synthetic_rows: Sequence[Example], split: Split) -> list[Example]:
    """Those whose id a row of any side or an earlier one has get another: files of several origins may all number their rows."""
    used_ids, rows = {example.id for side in (split.train, split.dev, split.test) for example in side}, []
    for example in synthetic_rows:
        name, number = example.id, 1
        while name in used_ids:
            number += 1
            name = f"{example.id} ({Path(example.source).name}, {number})"
        used_ids.add(name)
        rows.append(replace(example, id=name))
    return rows


def _synthetic(task: Task, path: Path) -> list[Example]:
    """The rows of a synthetic file, with the columns that the task names or with ours, and with groups if they have the column."""
    rows, group_by = read_rows(path), task.split.group_by
    columns = frozenset(rows[0].values)
    if group_by is not None and group_by not in columns:
        group_by = None
    names = None if task.columns is None else task.columns.names
    if names is not None and columns >= set().union(*names.values()):
        rows = renamed(rows, names, COMMON_COLUMNS if group_by is None else {*COMMON_COLUMNS, group_by})
    return [replace(example, seeds=example.seeds or ()) for example in examples_of(rows, path, group_by=group_by)]


def check_right_answers(scorer: Scorer, examples: Sequence[Example]) -> None:
    """Raises DataError where an expected answer cannot be scored, or would itself be scored as wrong; asks no judge."""
    if isinstance(scorer, AsksAModel):
        return
    for example in examples:
        try:
            score = scorer(example.output, example)
        except DataError as error:
            if scorer.name != "python":
                raise
            raise DataError(
                f'found "{short(example.output)}", on which the scorer failed ({error.where}: {error.found})',
                where=expected_place(example),
                expected=error.expected or "a right answer that the scorer can score",
                remedy="Correct the row or the function.",
            ) from error
        if score < 1 and _must_accept_its_own(scorer):
            raise DataError(
                f'found "{short(example.output)}", a right answer that the scorer {scorer.name} takes for wrong',
                where=expected_place(example),
                expected="an output that scores 1",
                remedy="No answer equal to it can ever be right: correct the row, or change `score`.",
            )


def _must_accept_its_own(scorer: Scorer) -> bool:
    """Not a graded scorer, not the user's own, not a pattern with a group, which may want words around the output."""
    if isinstance(scorer, Regex) and scorer.pattern.groups:
        return False
    return scorer.binary and scorer.name != "python"


def files_read(task: Task) -> list[Path]:
    """Every file that `prepare` reads."""
    return [*task.examples.files, *_rule_files(task), *_preference_files(task)]


def _rule_files(task: Task) -> list[Path]:
    """Files that decide how an answer is judged, or whether its judge is to be trusted."""
    labelled = None if task.score.judge is None else task.score.judge.labelled
    return [path for path in (task.output.schema_path, task.score.python_file, labelled) if path is not None]


def _preference_files(task: Task) -> list[Path]:
    """Files that decide what the rung preference learns."""
    reward_files = [reward.python_file for reward in task.reward]
    return [path for path in (task.preferences, *reward_files) if path is not None]


def _preferences(task: Task, split: Split) -> tuple[tuple[PreferenceRow, ...] | None, tuple[RowsLeftOut, ...]]:
    """What the rung preference may train on, and what was left out. Raises DataError where it cannot be read."""
    if task.preferences is None or "preference" not in task.ladder:
        return None, ()
    rows, leaking = without_leaks(read_preferences(task.preferences), split.dev, split.test)
    if not leaking:
        return rows, ()
    return rows, (RowsLeftOut("preferences", "in dev or test", leaking),)


def _check_rewards(task: Task, split: Split, *, run_code: bool) -> None:
    """Raises TaskError or DataError where a reward that would be trained on cannot be built, or misses what it needs.

    No judge is opened.
    """
    rung = find_rung("preference")
    if not task.reward or task.preferences is not None or "preference" not in task.ladder:
        return
    if rung.skip_reason(task, split.train) is not None:
        return
    from lastresort.train.rewards import Rewards

    output = task.output
    prompts = reward_prompts(split.train)
    rewards = Rewards(task.reward, columns_of(prompts), json_schema=output.json_schema, choices=output.choices)
    try:
        rewards.check(prompts, open_judges=False, run_code=run_code)
    finally:
        rewards.close()


def _file_name(path: Path, task: Task) -> str:
    """The path from the task's folder; of a file elsewhere its folder and name, which say nothing about this machine."""
    if path.is_relative_to(task.folder):
        return path.relative_to(task.folder).as_posix()
    return "/".join(path.parts[-2:])


def sha256_of(path: Path) -> str:
    return hashlib.sha256(read_content(path, ROWS, raised=DataError)).hexdigest()
