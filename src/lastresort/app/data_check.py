"""Checking a task's data alone: what `lastresort data check` shows.

What `lastresort data check` says of preferences: how many, what cannot be trained on, whether length gives them away.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lastresort.climb.prepare import PreparedTask, data_report, prepare
from lastresort.data.check import DataReport
from lastresort.data.duplicates import normalised
from lastresort.data.preferences import PreferenceRow, read_preferences
from lastresort.models.open import open_model
from lastresort.models.protocol import Model
from lastresort.rungs.preference.items import render_preferences
from lastresort.rungs.prompting import instruction
from lastresort.spec.task import Task
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message

LENGTH_TELLS = 0.65  # the longer answer is the better one (or the worse) this often: worth a warning


@dataclass(frozen=True, slots=True)
class PreferencesFound:
    """pairs, good, bad: how many there are, once those are left out that dev or test hold (`leaking`).

    opposed: pairs that also stand there the other way round, or answers labelled both ways. repeated: those that stand there
    again. left_out: how many cannot be trained on, by why. longer: how often the better answer is the longer one, in
    characters, among comparisons that differ in length; None where nothing can be compared.
    """

    pairs: int
    good: int
    bad: int
    leaking: int
    opposed: int
    repeated: int
    left_out: Mapping[str, int]
    longer: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Short sentences, warnings behind the counts."""
        lines = [f"preferences: {self._counted()}"]
        if self.leaking:
            lines.append(f"note: {self.leaking} more hold inputs of dev or test; a climb leaves them out")
        lines += [f"note: {n} cannot be trained on: {why}" for why, n in self.left_out.items() if n]
        if self.opposed:
            lines.append(f"warning: {self.opposed} contradict another: the same answers preferred the other way round")
        if self.repeated:
            lines.append(f"note: {self.repeated} stand there more than once")
        return [*lines, *self._length()]

    def _counted(self) -> str:
        return (
            f"{self.pairs} pairs" if self.pairs else f"{self.good + self.bad} answers, {self.good} good, {self.bad} bad"
        )

    def _length(self) -> list[str]:
        if self.longer is None:
            return []
        told = f"the better answer is the longer one in {self.longer:.0%} of comparisons"
        if self.longer >= LENGTH_TELLS:
            return [f"warning: {told}, so that a model may learn to answer longer instead of better"]
        if self.longer <= 1 - LENGTH_TELLS:
            return [f"warning: {told}, so that a model may learn to answer shorter instead of better"]
        return [f"note: {told}"]


def check_preferences(
    preferences: Sequence[PreferenceRow], leaking: int, left_out: Mapping[str, int]
) -> PreferencesFound:
    """Of the preferences that hold nothing of dev or test; pure. left_out: as rendering them found."""
    labels = [preferred.label for preferred in preferences]
    keys = Counter(_key(preferred) for preferred in preferences)
    return PreferencesFound(
        labels.count(None),
        labels.count(True),
        labels.count(False),
        leaking,
        sum(n for key, n in keys.items() if _opposite(key) in keys and _opposite(key) != key),
        sum(n - 1 for n in keys.values()),
        dict(left_out),
        _longer(preferences),
    )


_Key = tuple[str, tuple[str, ...], bool | None]


def _key(preferred: PreferenceRow) -> _Key:
    answers = tuple(normalised(_text(preferred, side)) for side in range(len(preferred.answers)))
    return normalised(preferred.asked), answers, preferred.label


def _opposite(key: _Key) -> _Key:
    prompt, answers, label = key
    return prompt, answers[::-1], None if label is None else not label


def _text(preferred: PreferenceRow, side: int) -> str:
    return "\n".join(turn.content for turn in preferred.answers[side])


def _longer(preferences: Sequence[PreferenceRow]) -> float | None:
    """Of labelled answers every good one is compared with every bad one."""
    if preferences and preferences[0].label is None:
        lengths = [(len(_text(one, 0)), len(_text(one, 1))) for one in preferences]
        longer, shorter = sum(a > b for a, b in lengths), sum(a < b for a, b in lengths)
    else:
        good, bad = (sorted(len(_text(one, 0)) for one in preferences if one.label is kind) for kind in (True, False))
        longer = sum(bisect_left(bad, length) for length in good)
        shorter = sum(len(bad) - bisect_right(bad, length) for length in good)
    return longer / (longer + shorter) if longer + shorter else None


@dataclass(frozen=True, slots=True)
class DataCheck:
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


def check_task(task: Task, *, show: int = 0) -> DataCheck:
    """Check the examples against each other and against the model that would be trained, and the preferences likewise.

    show: how many training rows to show token by token. Raises InputError where the task or its data cannot be used.
    """
    prepared = prepare(task)
    model = open_model(task.tuned_model, base_folder=task.folder, template_kwargs=task.chat_template_kwargs)
    report = data_report(prepared, lambda example: model.count_tokens(_turns(task, example)), model.context_tokens)
    shown = _masks(model, task, prepared.split.train[:show])
    return DataCheck(report, _preferences(model, prepared), tuple(shown), not report.ok)


def _preferences(model: Model, prepared: PreparedTask) -> PreferencesFound | None:
    task, kept = prepared.task, prepared.preferences
    if kept is None or task.preferences is None:
        return None
    return check_preferences(kept, len(read_preferences(task.preferences)) - len(kept), _left_out(model, prepared))


def _left_out(model: Model, prepared: PreparedTask) -> Mapping[str, int]:
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
