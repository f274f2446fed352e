"""From a task file to split, checked examples: everything that can be refused before a model is asked anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.check import check_data, remove_leaks
from lastresort.data.read import read_examples
from lastresort.data.split import Split, split_examples
from lastresort.evals.evidence import check_test_size
from lastresort.evals.scorers import Scorer, build_scorer
from lastresort.spec.task import Task
from lastresort.types import Example

BETA = 0.05  # the rate of false NOT_MET (DESIGN part 8)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task ready to climb. leaks: how many rows left train because dev or test hold them too. files: name -> sha256."""

    task: Task
    split: Split
    scorer: Scorer
    leaks: int
    files: dict[str, str]

    @property
    def n_units(self) -> int:
        """What the statistics count: test items, or groups of them."""
        if self.task.split.group_by is None:
            return len(self.split.test)
        return len({example.group for example in self.split.test})


def prepare(task: Task) -> Prepared:
    """Read, split and check the task's examples. Raises TaskError or DataError with what is wrong and where."""
    split, files = _split(task)
    files |= {path.name: _sha256(path) for path in _rule_files(task)}
    split, leaks = remove_leaks(split)
    scorer = build_scorer(
        task.score.name, task.score.parameters, json_schema=task.output.json_schema, choices=task.output.choices
    )
    prepared = Prepared(task, split, scorer, len(leaks), files)
    check_test_size(
        prepared.n_units,
        bar=task.bar,
        alpha=task.alpha_per_rung,
        beta=BETA,
        binary=scorer.binary and task.split.group_by is None,
        where=f'{task.path.name}, key "split.test"',
    )
    return prepared


def data_report(prepared: Prepared, count_tokens: Callable[[Example], int] | None, context_tokens: int | None) -> Any:
    """The findings about the data, for the record and the report."""
    output = prepared.task.output
    return check_data(
        prepared.split.train,
        prepared.split.dev,
        prepared.split.test,
        count_tokens=count_tokens,
        context_tokens=context_tokens,
        choices=output.choices,
        json_schema=output.json_schema,
    )


def _split(task: Task) -> tuple[Split, dict[str, str]]:
    sources, group_by = task.examples, task.split.group_by
    files: dict[str, str] = {}

    def read(path: Path | None) -> list[Example] | None:
        if path is None:
            return None
        files[path.name] = _sha256(path)
        return read_examples(path, group_by=group_by)

    pool = read(sources.all if sources.all is not None else sources.train)
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
    return split, files


def _rule_files(task: Task) -> list[Path]:
    """Files that decide how an answer is judged."""
    scorer = task.score.parameters.get("file")
    return [path for path in (task.output.schema_path, Path(scorer) if scorer else None) if path is not None]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
