"""Rows of the rung preference: pairs, labelled answers, pairs of the model's own samples, or prompts with their reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.errors import DataError
from lastresort.ladder.exported.source import Source
from lastresort.neighbours.exporting.job import Row
from lastresort.neighbours.exporting.rows import messages, pair_row, prompt_row
from lastresort.neighbours.exporting.trained import absolute_term
from lastresort.rungs.preference_data import Preferred, render_preferences, shown
from lastresort.rungs.preference_items import columns_of, divided, with_room
from lastresort.rungs.preference_samples import noted_pairs
from lastresort.spec.values import Reading
from lastresort.systems.compose import compose
from lastresort.systems.files import load_system
from lastresort.systems.system import PromptDesign

Made = tuple[tuple[Row, ...], tuple[Row, ...], tuple[str, ...], Mapping[str, Any]]


def preference_rows(source: Source) -> Made:
    """Rows, rows held out, what cannot be said of them, and keys of the training file."""
    start = _start(source)
    if source.noted["learns_from"] == "reward":
        return _prompts(source, start)
    tokenizer, limit = source.tokenizer()
    design, kwargs = source.system.prompt, dict(source.system.template_kwargs)
    rendered = render_preferences(_preferences(source), design, tokenizer, context_tokens=limit, template_kwargs=kwargs)
    train, held = divided(list(rendered.rows), source.prepared.task.split.seed)
    source.refuse_other(len(train))
    used = [preferred for preferred, _ in train]
    rows, held_out = _rows(design, used), _rows(design, [preferred for preferred, _ in held])
    return rows, held_out, tuple(_notes(used)), start


def _preferences(source: Source) -> Sequence[Preferred]:
    if source.noted["learns_from"] == "samples":
        known = source.record.last("samples", "preference")
        if known is None:
            raise DataError(
                "the record does not hold the samples", where=str(source.run), expected="those of the training"
            )
        return noted_pairs(known, source.prepared.split.train)
    return source.prepared.preferences or ()


def _rows(design: PromptDesign, preferences: Sequence[Preferred]) -> tuple[Row, ...]:
    return tuple(_row(design, preferred) for preferred in preferences)


def _row(design: PromptDesign, preferred: Preferred) -> Row:
    prompt = shown(design, preferred.prompt)
    if preferred.label is None:
        return pair_row(prompt, *preferred.answers)
    return {"messages": messages([*prompt, *preferred.answers[0]]), "label": preferred.label}


def _notes(used: Sequence[Preferred]) -> list[str]:
    cut = sum(not all(preferred.ends) for preferred in used)
    return [f"In {cut} rows an answer was cut: here its end token was not trained, there it is."] if cut else []


def _start(source: Source) -> dict[str, Any]:
    """The adapter that the training went on from; it has no adapter of its own then."""
    frozen = source.record.last("frozen", "sft")
    if source.noted["start"] == "base" or frozen is None:
        return {}
    system = load_system(source.run / "candidates" / "sft" / source.noted["start"])
    return {"start_from": str(system.adapter), "adapter": None} if system.adapter is not None else {}


def _prompts(source: Source, start: Mapping[str, Any]) -> Made:
    task, train = source.prepared.task, source.prepared.split.train
    new_tokens = int((source.record.last("sizes") or {})["max_new_tokens"])
    tokenizer, limit = source.tokenizer()
    design, kwargs = source.system.prompt, dict(source.system.template_kwargs)
    asked = with_room(train, design, tokenizer, limit, kwargs, new_tokens)
    source.refuse_other(len(asked))
    columns = columns_of(train)
    rows = tuple(
        prompt_row(compose(design, example.input, ()), example, dict(columns.get(example.id, {}))) for example in asked
    )
    reading = Reading(task.folder)
    keys = {
        **start,
        "reward": [absolute_term(term.written(reading), task.folder) for term in task.reward],
        "group_size": task.preference.samples,
        "max_new_tokens": new_tokens,
    }
    formed = task.output.json_schema is not None or task.output.choices is not None
    notes = ("output: rewards that look at the task's form of the output do not see it there.",) if formed else ()
    return rows, (), notes, keys
