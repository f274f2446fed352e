"""Checking a task's data alone: what `lastresort data check` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lastresort.data.check import DataReport
from lastresort.ladder.prepare import data_report, prepare
from lastresort.models.open import open_model
from lastresort.rungs.sft_training import tuned_model
from lastresort.spec.task import Task
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message


@dataclass(frozen=True, slots=True)
class Checked:
    """report: all findings. shown: rows with their tokens and mask, as lines. must_mend: True where a finding is an error."""

    report: DataReport
    shown: tuple[str, ...]
    must_mend: bool


def check_task(task: Task, *, show: int = 0) -> Checked:
    """Check the examples against each other and against the model that would be trained."""
    prepared = prepare(task)
    model: Any = open_model(tuned_model(task), base_folder=task.folder, template_kwargs=task.chat_template_kwargs)
    design = PromptDesign(task.about.strip())

    def count(example: Example) -> int:
        return int(model.count_tokens((*compose(design, example.input, ()), Message("assistant", example.output))))

    report = data_report(prepared, count, model.context_tokens)
    shown: list[str] = []
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        from lastresort.data.rendering import mask_lines, render_training

        for example in prepared.split.train[:show]:
            turns = (*compose(design, example.input, ()), Message("assistant", example.output))
            rendered = render_training(tokenizer, turns, template_kwargs=task.chat_template_kwargs)
            lines = mask_lines(tokenizer, rendered)
            shown += [
                "",
                f"{example.id} ({example.source}, row {example.row})",
                *lines,
            ]
    return Checked(report, tuple(shown), report.must_mend)
