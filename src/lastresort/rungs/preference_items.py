"""What preference training learns from, ready for the loop: items of pairs or labels, or groups that are sampled for a reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lastresort.data.files import read_rows
from lastresort.rungs.preference_data import Preferred, render_preferences
from lastresort.rungs.reward_judge import seated
from lastresort.rungs.rung import Workbench
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Example

if TYPE_CHECKING:
    from lastresort.engine.forest import Row
    from lastresort.models.loading import Loaded
    from lastresort.train.groups import SampledGroups
    from lastresort.train.items import Item

HELD_SHARE, LEAST_HELD_PROMPTS = 0.1, 20  # of the prompts, which are held out where there are so many
PreferredRows: TypeAlias = "tuple[Preferred, tuple[Row, ...]]"
CROWD = 100  # labelled answers that are compared each with each


@dataclass(frozen=True, slots=True)
class Given:
    """items: to train on. judged: those on which margins are measured, and what they are called. told: the counts in words."""

    items: tuple[Item, ...]
    judged: tuple[Item, ...]
    judged_as: str
    told: str


def given_items(bench: Workbench, start: System, loaded: Loaded, preferences: Sequence[Preferred]) -> Given:
    """Pairs or labelled answers as items, some prompts held out to measure margins on."""
    rendered = render_preferences(
        preferences,
        start.prompt,
        loaded.tokenizer,
        context_tokens=loaded.context_tokens,
        template_kwargs=start.template_kwargs,
    )
    rows = list(rendered.rows)
    noun = "pairs" if preferences[0].label is None else "labelled answers"
    train, held = divided(rows, bench.task.split.seed)
    if not held:
        items = _items(rows, loaded.context_tokens)
        return Given(items, items[:CROWD], f"{noun} trained on", f"{len(rows)} {noun}{rendered.told()}")
    judged = _items(held, loaded.context_tokens)
    told = f"{len(train)} {noun}, {len(held)} more held out{rendered.told()}"
    return Given(_items(train, loaded.context_tokens), judged[:CROWD], f"{noun} held out", told)


def divided(rows: list[PreferredRows], seed: int) -> tuple[list[PreferredRows], list[PreferredRows]]:
    """Those to train on, and those held out; none where too few prompts, or one kind of labels alone, would be held out."""
    from lastresort.train.file_units import split

    if len({preferred.asked for preferred, _ in rows}) < LEAST_HELD_PROMPTS:
        return rows, []
    train, held = split(rows, lambda row: row[0].asked, HELD_SHARE, seed)
    labels = {preferred.label for preferred, _ in held}
    if len(labels) < len({preferred.label for preferred, _ in rows}):  # nothing to compare there
        return rows, []
    return train, held


def _items(rows: Sequence[tuple[Preferred, tuple[Row, ...]]], limit: int | None) -> tuple[Item, ...]:
    from lastresort.engine.forest import Row
    from lastresort.train.items import Item, labelled, pairs

    if not rows or rows[0][0].label is None:
        return tuple(pairs([own[0] for _, own in rows], [own[1] for _, own in rows]))
    if len({own[0].prompt for _, own in rows}) < 2:  # nothing to mismatch, nor to train on
        return tuple(Item((own[0], own[0]), desirable=bool(preferred.label)) for preferred, own in rows)
    items = labelled([own[0] for _, own in rows], [bool(preferred.label) for preferred, _ in rows])
    fitted = []
    for item in items:
        row, other = item.rows  # a prompt with another row's answer may be longer than either row
        cut = Row(other.ids[:limit], other.targets[:limit]) if limit is not None else other
        fitted.append(replace(item, rows=(row, cut)))
    return tuple(fitted)


def reward_groups(
    bench: Workbench, rung: str, start: System, loaded: Loaded, batch_size: int, log: Path
) -> SampledGroups:
    """Groups of answers to the prompts of train, to be closed at the end. Raises DataError where a reward cannot work."""
    from lastresort.train.groups import groups_from
    from lastresort.train.sampling import GroupSettings

    task = bench.task
    settings = GroupSettings(group_size=task.preference.samples, max_new_tokens=bench.max_new_tokens)
    return groups_from(
        with_room(
            bench.train,
            start.prompt,
            loaded.tokenizer,
            loaded.context_tokens,
            start.template_kwargs,
            bench.max_new_tokens,
        ),
        task.reward,
        objective="grpo",
        tokenizer=loaded.tokenizer,
        batch_size=batch_size,
        seed=task.split.seed,
        settings=settings,
        columns=columns_of(bench.train),
        compose=lambda turns: compose(start.prompt, turns, ()),
        template_kwargs=start.template_kwargs,
        context_tokens=loaded.context_tokens,
        json_schema=task.output.json_schema,
        choices=task.output.choices,
        seated=lambda scorer, parameters: seated(bench, rung, scorer, parameters),
        log=log,
    )


def with_room(
    examples: Sequence[Example],
    design: PromptDesign,
    tokenizer: Any,
    context_tokens: int | None,
    template_kwargs: dict[str, Any],
    new_tokens: int,
) -> tuple[Example, ...]:
    """Those whose prompt leaves room for an answer."""
    from lastresort.data.rendering import render_prompt

    if context_tokens is None:
        return tuple(examples)
    most = context_tokens - new_tokens
    return tuple(
        example
        for example in examples
        if len(render_prompt(tokenizer, compose(design, example.input, ()), template_kwargs=template_kwargs)) <= most
    )


def columns_of(examples: Sequence[Example]) -> dict[str, Mapping[str, Any]]:
    """The further columns of the rows that the examples come from, by example id: what reward functions may ask for."""
    files = {example.source for example in examples if example.source}
    rows = {(source, row.number): row.values for source in files for row in read_rows(Path(source))}
    return {
        example.id: rows[example.source, example.row] for example in examples if (example.source, example.row) in rows
    }
