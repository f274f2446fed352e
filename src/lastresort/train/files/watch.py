"""What a run of a training file compares with its base at the ends of epochs; kept in its folder, so that a resumed run has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lastresort.records.atomic import write_atomically
from lastresort.train.adapters.adapters import is_adapter
from lastresort.train.files.model import Named, Opened
from lastresort.train.files.run_folder import CHECKPOINT
from lastresort.train.loop.batches import Item
from lastresort.train.loop.checkpoints import STATE
from lastresort.train.settings import TrainingFile
from lastresort.train.watch.early_warnings import (
    MOST_PROMPTS,
    Baseline,
    Sums,
    baseline,
    own_tokens,
    watch,
    watch_size,
    watched_from_json,
    watched_to_json,
)
from lastresort.types import Progress

ANSWERS, MOST_LOOKS = "base_answers.json", 8


def look_every(epochs: int) -> int:
    """Of how many epochs the last is looked at, so that there are at most MOST_LOOKS looks."""
    return -(-epochs // MOST_LOOKS)


def file_baseline(
    file: TrainingFile, named: Named, opened: Opened, trained: Sequence[Item], asked: Sequence[Item], progress: Progress
) -> Baseline | None:
    """Made before the first step and read back afterwards. trained: the items of an epoch, none where groups are sampled. asked:
    those whose prompts the base answers. None where all weights have been trained before it was made.
    """
    path = file.output / ANSWERS
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Baseline(watched_from_json(kept["watched"]), Sums(**kept["sums"]))
    if not is_adapter(opened.model) and (file.output / CHECKPOINT / STATE).is_file():
        return None
    progress.stage("answers of the base, from which training will move", None)
    looks = -(-file.settings.epochs // look_every(file.settings.epochs))
    watched = watch(
        opened.model,
        named.tokenizer,
        task_prompts(asked),
        size=watch_size(own_tokens([item.rows[0].ids for item in trained]) * file.settings.epochs, looks),
        context_tokens=named.context_tokens,
        seed=file.settings.seed,
        template_kwargs=file.chat_template_kwargs,
    )
    found = baseline(opened.model, watched)
    _write(path, found)
    return found


def _write(path: Path, found: Baseline) -> None:
    body: dict[str, Any] = {"watched": watched_to_json(found.watched), "sums": asdict(found.base)}
    write_atomically(path, json.dumps(body) + "\n")


def task_prompts(items: Sequence[Item]) -> list[tuple[int, ...]]:
    """What stands before the answers of the first items, each prompt once; plain text has none."""
    found: dict[tuple[int, ...], None] = {}
    for item in items:
        row = item.rows[0]
        if any(row.targets) and len(row.prompt) > 1:  # the first token of plain text is no target either
            found[row.prompt] = None
        if len(found) == 2 * MOST_PROMPTS:
            break
    return list(found)
