"""A training file's prompts and rewards -> the batches of objectives on groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lastresort.data.prompts import read_prompts
from lastresort.errors import ContractError
from lastresort.train.batches import Batches
from lastresort.train.file_items import Prepared
from lastresort.train.groups import groups_from
from lastresort.train.sampling import GroupSettings
from lastresort.train.training_file import TrainingFile
from lastresort.types import Example

COMPLETIONS = "completions.jsonl"


@contextmanager
def prepare_groups(
    file: TrainingFile, tokenizer: Any, context_tokens: int | None
) -> Iterator[tuple[Batches, Prepared]]:
    """Batches that are sampled while training goes on, and what the record says of the data.

    Raises InputError, TaskError or DataError for prompts or rewards that cannot work, before anything is sampled.
    """
    if file.groups is None:
        raise ContractError(f"{file.objective} without groups", where="prepare_groups", expected="their settings")
    examples: list[Example] = []
    columns: dict[str, Mapping[str, Any]] = {}
    for path in file.data.train:
        found, rows = read_prompts(path)
        examples += found
        columns |= rows
    limit = min((n for n in (file.max_tokens, context_tokens) if n is not None), default=None)
    with groups_from(
        examples,
        file.groups.reward,
        objective=file.objective,
        tokenizer=tokenizer,
        batch_size=file.batch_size,
        seed=file.seed,
        settings=GroupSettings(file.groups.group_size, file.groups.max_new_tokens, file.groups.temperature),
        columns=columns,
        template_kwargs=file.chat_template_kwargs,
        context_tokens=limit,
        log=file.output / COMPLETIONS,
        max_pass_tokens=file.max_pass_tokens,
    ) as groups:
        yield groups, Prepared((), (), (), len(examples), f"prompts, {file.groups.group_size} answers to each", limit)
