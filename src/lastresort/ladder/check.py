"""Checking a task's data alone: what `lastresort data check` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.data.report import DataReport
from lastresort.ladder.preference_check import PreferencesFound, check_preferences
from lastresort.ladder.prepare import Prepared, data_report, prepare
from lastresort.models.open import open_model
from lastresort.models.protocol import Model
from lastresort.rungs.preference_data import read_preferences, render_preferences
from lastresort.rungs.prompting import instruction
from lastresort.rungs.sft_training import tuned_model
from lastresort.spec.task import Task
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message


@dataclass(frozen=True, slots=True)
class Checked:
    """report: all findings about the examples. preferences: about the task's preferences, None where none would be trained
    on. shown: rows with their tokens and mask, as lines. must_mend: True where a finding is an error.
    """

    report: DataReport
    preferences: PreferencesFound | None
    shown: tuple[str, ...]
    must_mend: bool

    def as_dict(self) -> dict[str, Any]:
        return {**self.report.as_dict(), "preferences": self.preferences.as_dict() if self.preferences else None}

    def lines(self) -> list[str]:
        """What was found, as it is printed."""
        return [*self.report.lines(self.preferences.lines() if self.preferences else ()), *self.shown]


def check_task(task: Task, *, show: int = 0) -> Checked:
    """Check the examples against each other and against the model that would be trained, and the preferences likewise.

    show: how many training rows to show token by token. Raises InputError where the task or its data cannot be used.
    """
    prepared = prepare(task)
    model = open_model(tuned_model(task), base_folder=task.folder, template_kwargs=task.chat_template_kwargs)
    report = data_report(prepared, lambda example: model.count_tokens(_turns(task, example)), model.context_tokens)
    shown = _masks(model, task, prepared.split.train[:show])
    return Checked(report, _preferences(model, prepared), tuple(shown), not report.ok)


def _preferences(model: Model, prepared: Prepared) -> PreferencesFound | None:
    task, kept = prepared.task, prepared.preferences
    if kept is None or task.preferences is None:
        return None
    return check_preferences(kept, len(read_preferences(task.preferences)) - len(kept), _left_out(model, prepared))


def _left_out(model: Model, prepared: Prepared) -> Mapping[str, int]:
    """How many of the preferences training would leave out, by why; nothing where the model has no tokenizer here."""
    from lastresort.models.local import LocalModel

    if not isinstance(model, LocalModel):
        return {}
    rendered = render_preferences(
        prepared.preferences or (),
        PromptDesign(instruction(prepared.task)),
        model.loaded.tokenizer,
        context_tokens=model.context_tokens,
        template_kwargs=prepared.task.chat_template_kwargs,
    )
    return rendered.left_out


def _turns(task: Task, example: Example) -> tuple[Message, ...]:
    """The conversation that a tuned model would be trained on."""
    prompt = compose(PromptDesign(task.about.strip()), example.input, ())
    return (*prompt, Message("assistant", example.output))


def _masks(model: Model, task: Task, examples: Sequence[Example]) -> list[str]:
    """The tokens of each example and which of them are trained; a sentence where the model keeps its tokens to itself."""
    if not examples:
        return []
    from lastresort.data.rendering import mask_lines, render_training
    from lastresort.models.local import LocalModel

    if not isinstance(model, LocalModel):
        return [f"no tokens can be shown: {model.name} has no tokenizer here"]
    tokenizer, lines = model.loaded.tokenizer, []
    for example in examples:
        where = f"{example.source}, row {example.row}"
        rendered = render_training(
            tokenizer, _turns(task, example), template_kwargs=task.chat_template_kwargs, where=where
        )
        lines += ["", f"{example.id} ({where})", *mask_lines(tokenizer, rendered)]
    return lines
