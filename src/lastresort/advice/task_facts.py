"""From a task file and its data to facts for advice. Reads files; asks no model."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lastresort.advice.facts import WRONG, Facts
from lastresort.climb.llm_judge import errors_of_items
from lastresort.climb.prepare import prepare, read_split
from lastresort.climb.shares import shares_of, smallest_share
from lastresort.data.files import read_rows
from lastresort.data.preferences import are_pairs
from lastresort.data.split import Split, groups_of
from lastresort.errors import InputError
from lastresort.evals.evidence.bar import FALSE_NOT_MET, smallest_deciding_test
from lastresort.evals.scorers import build_scorer
from lastresort.evals.scorers.python_file import PythonFunction
from lastresort.ladder import RUNGS
from lastresort.models.open import parameter_count
from lastresort.models.protocol import BYTES_PER_TOKEN, estimated_tokens, is_endpoint
from lastresort.report.words.rungs import clause
from lastresort.report.words.untuned import why_kept as why_kept_in_words
from lastresort.report.words.wording import counted
from lastresort.rungs.prompting.optimise import why_kept
from lastresort.rungs.rung import find_rung
from lastresort.spec.paths import is_paid
from lastresort.spec.task import Task
from lastresort.types import Example

TEMPLATE_TOKENS = 12  # turn markers of a usual chat template
_NOT_TEXT = (".pdf", ".parquet", ".gz", ".docx")  # files whose size says little about their text


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """notes: sentences that a reader must see with the advice."""

    facts: Facts
    notes: tuple[str, ...]


def facts_of(task: Task) -> TaskFacts:
    """Facts of a task file and its data. Raises DataError where a file cannot be read or its examples cannot be split.

    A missing key is unknown, even if it has a default. What a climb would refuse becomes a note.
    """
    split, _ = read_split(task)
    notes: tuple[str, ...] = ()
    try:
        split = prepare(task, run_code=False).split
    except InputError as error:
        notes = (f"A climb would refuse this task as it stands: {error}",)
    given, use = task.model_fields_set, task.use.model_fields_set
    written = [example for example in split.train if not example.synthetic]
    if synthetic := len(split.train) - len(written):
        rows = f"{counted(synthetic, 'synthetic row')} {'is' if synthetic == 1 else 'are'}"
        notes += (
            f"{rows} not counted here: the rules are about rows that people wrote. A climb trains on them as well.",
        )
    everything = (*written, *split.dev, *split.test)
    model = task.tuned_model
    preferences, n_preferences = _preferences(task.preferences)
    kept = why_kept(task, len(split.train))
    facts = Facts(
        ladder=task.ladder,
        goal=task.goal,
        bar=task.bar,
        n_examples=len(everything),
        n_train=len(written),
        n_test=len(split.test) if (groups := groups_of(split.test)) is None else len(set(groups)),
        test_least=_test_least(task, split),
        output="schema" if task.output.json_schema else "choices" if task.output.choices else "text",
        scorer=task.score.name,
        knowledge=True if task.knowledge else None,
        knowledge_tokens=_text_tokens(task.knowledge) if task.knowledge else None,
        knowledge_changes=task.knowledge_changes if "knowledge_changes" in given else None,
        retrain_every=task.retrain_every,
        context=task.use.context if "context" in use else None,
        reward=True if task.reward else None,
        calls_per_month=task.use.calls_per_month,
        prompt_price=task.use.prompt_price if task.price_known else None,
        instruction_tokens=estimated_tokens(task.about) + TEMPLATE_TOKENS,
        input_tokens=_mean(estimated_tokens(example.input_text) for example in everything),
        answer_tokens=_mean(estimated_tokens(example.output) for example in everything),
        outside=_outside(task.model),
        trainable=not is_endpoint(model),
        parameters=parameter_count(model, task.folder),
        method=task.tune.method,
        target=task.sft.target,
        replay=task.sft.replay,
        skips=_skips(task, split.train),
        names_documents=task.knowledge is not None,
        prompt_kept=None if kept is None or task.prompting.optimise == "off" else why_kept_in_words(kept),
        preferences=preferences,
        n_preferences=n_preferences,
    )
    return TaskFacts(_with_known(facts, task), notes)


def _with_known(facts: Facts, task: Task) -> Facts:
    """With what a person answered in the file, where nothing else of it says so."""
    known = {} if task.facts is None else {name: value for name, value in task.facts if value is not None}
    if "wrong" in known:
        known["wrong"] = tuple(kind for kind in WRONG if kind in known["wrong"])
    return replace(facts, **{name: value for name, value in known.items() if getattr(facts, name) is None})


def _skips(task: Task, train: Sequence[Example]) -> tuple[tuple[str, str], ...]:
    """(rung, why) for every rung that a climb would skip, in the climb's own words, also where the ladder leaves it out."""
    found = []
    for name in RUNGS:
        why = find_rung(name).skip_reason(task, train)
        if why is not None:
            found.append((name, clause(why)))
    return tuple(found)


def _test_least(task: Task, split: Split) -> int | None:
    output = task.output
    try:
        scorer = build_scorer(
            task.score.name, task.score.parameters, json_schema=output.json_schema, choices=output.choices
        )
    except InputError:  # a note says so already
        return None
    if isinstance(scorer, PythonFunction):
        scorer = scorer.without_running()
    binary = scorer.binary and groups_of(split.test) is None
    smallest = smallest_share(shares_of(task, split.train, len(split.test) if binary else None), task)
    if smallest is None:
        return None
    return smallest_deciding_test(task.bar, errors_of_items(task, smallest, FALSE_NOT_MET).alpha, binary=binary)


def _preferences(path: Path | None) -> tuple[Literal["pairs", "labels", "none"] | None, int | None]:
    """The kind of rows in the file of preferences, and how many; unknown without one."""
    if path is None:
        return None, None
    rows = read_rows(path)
    return "pairs" if are_pairs(rows[0]) else "labels" if "label" in rows[0].values else None, len(rows)


def _text_tokens(path: Path) -> int | None:
    """About how many tokens of text a file or folder holds, by its size; None where its files are not plain text."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    if not files or any(file.suffix.lower() in _NOT_TEXT for file in files):
        return None
    return sum(file.stat().st_size for file in files) // BYTES_PER_TOKEN


def _outside(model: str) -> bool:
    """Whether a model of this name runs on an external machine."""
    if not is_paid(model):
        return False
    host = urlsplit(model).hostname or ""
    if host == "localhost" or host.endswith((".local", ".internal", ".localhost")):
        return False
    try:
        return not ipaddress.ip_address(host).is_private
    except ValueError:
        return True


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
