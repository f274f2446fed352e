"""What a task's file of preferences holds, without what dev or test would be given away by; and how it becomes rows.

A prompt is shown as the system shows its inputs: below the task's instruction, unless the file's own prompt holds it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lastresort.data.duplicates import normalised
from lastresort.data.files import read_rows
from lastresort.data.leaks import find_leaks
from lastresort.data.preferences import are_pairs, read_labelled, read_pairs
from lastresort.errors import DataError
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message

if TYPE_CHECKING:
    from lastresort.engine.forest import Row


Kind = Literal["pairs", "labels"]
LEAST_HELD_TEXT = 32  # characters; a shorter input may stand in a prompt by chance


@dataclass(frozen=True, slots=True)
class Preferred:
    """One preference. prompt: the turns before the answers. answers: chosen and rejected, or the labelled one, each the turns
    of one answer. label: None for a pair. ends: whether the end of each answer is trained. place: for errors.
    """

    prompt: tuple[Message, ...]
    answers: tuple[tuple[Message, ...], ...]
    place: str
    label: bool | None = None
    ends: tuple[bool, ...] = (True, True)

    @property
    def asked(self) -> str:
        """The text of the prompt without what a system says."""
        return "\n".join(turn.content for turn in self.prompt if turn.role != "system")


def kind_of_preferences(preferences: Sequence[Preferred]) -> Kind:
    return "pairs" if preferences[0].label is None else "labels"


def read_preferences(path: Path) -> tuple[Preferred, ...]:
    """The pairs or the labelled answers of a file, by what its first row holds. Raises DataError naming file, row and key."""
    first = read_rows(path)[0]
    if are_pairs(first):
        return tuple(Preferred(pair.prompt, (pair.chosen, pair.rejected), pair.place) for pair in read_pairs(path))
    if "label" not in first.values:
        raise DataError(
            f"found the keys {', '.join(sorted(first.values)) or 'none'}",
            where=first.place,
            expected='{"prompt", "chosen", "rejected"} or {"prompt", "completion", "label"}',
            remedy="Name the columns so.",
        )
    return tuple(
        Preferred(
            example.input,
            ((Message("assistant", example.output),),),
            f"{example.source}, row {example.row}",
            label,
            (True,),
        )
        for example, label in read_labelled(path)
    )


def without_leaks(
    preferences: Sequence[Preferred], dev: Sequence[Example], test: Sequence[Example]
) -> tuple[tuple[Preferred, ...], int]:
    """Those whose prompt is no dev or test input, nor holds one; and how many were left out."""
    asked = [
        Example(str(number), (Message("user", preferred.asked),), "") for number, preferred in enumerate(preferences)
    ]
    leaking = {int(leak.train.id) for leak in find_leaks(asked, dev, test)}
    held = {normalised(example.input_text) for example in (*dev, *test)}
    long = [text for text in held if len(text) >= LEAST_HELD_TEXT]
    for number, example in enumerate(asked):
        text = normalised(example.input_text)
        if number not in leaking and any(other in text for other in long):
            leaking.add(number)
    kept = tuple(preferred for number, preferred in enumerate(preferences) if number not in leaking)
    return kept, len(leaking)


def shown(design: PromptDesign, prompt: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation of a prompt: with the task's instruction, unless it stands there already."""
    instruction = design.instruction.strip()
    if not instruction or any(instruction in turn.content for turn in prompt):
        return tuple(prompt)
    return compose(design, prompt, ())


@dataclass(frozen=True, slots=True)
class Rendered:
    """rows: of each preference that can be trained on, in order, with the preference. left_out: how many could not, by why."""

    rows: tuple[tuple[Preferred, tuple[Row, ...]], ...]
    left_out: dict[str, int]

    def told(self) -> str:
        return "".join(f"; {n} left out, {why}" for why, n in self.left_out.items() if n)


def render_preferences(
    preferences: Sequence[Preferred],
    design: PromptDesign,
    tokenizer: Any,
    *,
    context_tokens: int | None,
    template_kwargs: dict[str, Any],
) -> Rendered:
    """Rows with the answers as their targets. Raises DataError where the template refuses a conversation."""
    found: list[tuple[Preferred, tuple[Row, ...]]] = []
    left_out = {"longer than the context": 0, "chosen and rejected the same": 0, "their prompts' tokens differ": 0}
    for preferred in preferences:
        rows = _rows(preferred, design, tokenizer, template_kwargs)
        if context_tokens is not None and max(len(row.ids) for row in rows) > context_tokens:
            left_out["longer than the context"] += 1
        elif len(rows) == 2 and rows[0] == rows[1]:
            left_out["chosen and rejected the same"] += 1
        elif len({row.prompt for row in rows}) > 1:
            left_out["their prompts' tokens differ"] += 1
        else:
            found.append((preferred, rows))
    return Rendered(tuple(found), left_out)


def _rows(
    preferred: Preferred, design: PromptDesign, tokenizer: Any, template_kwargs: dict[str, Any]
) -> tuple[Row, ...]:
    from lastresort.data.rendering import render_training
    from lastresort.engine.forest import Row

    prompt, rows = shown(design, preferred.prompt), []
    for answer, end in zip(preferred.answers, preferred.ends, strict=True):
        rendered = render_training(
            tokenizer,
            (*prompt, *answer),
            trained_turns=len(answer),
            template_kwargs=template_kwargs,
            where=preferred.place,
        )
        targets = list(rendered.targets)
        if not end:
            targets[max(place for place, trained in enumerate(targets) if trained)] = False
        rows.append(Row(rendered.ids, tuple(targets)))
    return tuple(rows)
