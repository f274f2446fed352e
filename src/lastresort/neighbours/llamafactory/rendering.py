"""How rows become text: `template`, cutoff_len and the keys about thoughts, turns, prompts and tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.models.tokenizer import ModelTokenizer, tokenizer_on_disk
from lastresort.neighbours.given import Given
from lastresort.neighbours.llamafactory.data_sets import DataSet
from lastresort.neighbours.llamafactory.stage import Stage
from lastresort.neighbours.llamafactory.templates import TEMPLATES, Template, Writing
from lastresort.neighbours.llamafactory.traps import name_own_template
from lastresort.spec.wording import listed

CUTOFF = 2048


@dataclass(frozen=True, slots=True)
class Rendering:
    """writing: None for the model's own chat template. document: the keys of our training file that belong to it."""

    writing: Writing | None
    document: dict[str, Any]


def rendering_of(given: Given, stage: Stage, model: str, path: Path, data_sets: Sequence[DataSet]) -> Rendering:
    """Raises TaskError for keys that contradict each other, DataError for tools that differ between rows."""
    base = tokenizer_on_disk(model, path.absolute().parent)
    document = _length(given, stage, base)
    whole, last = given.flag("train_on_prompt"), given.flag("mask_history")
    if (whole and last) or ((whole or last) and stage != "sft"):
        key = "train_on_prompt" if whole else "mask_history"
        beside = "mask_history" if whole and last else f"stage: {stage}"
        given.refuse(key, f"it beside {beside}", expected="it alone, with stage: sft", remedy="Remove it.")
    name = given.text("template")
    if stage == "pt":
        _name_text(given, name)
        return Rendering(None, document)
    _name_packing(given)
    template = _template(given, name, data_sets)
    thinking, keep = given.any("enable_thinking", True), given.flag("preserve_thinking")
    if template is None:
        return Rendering(None, document | _own(given, data_sets, thinking=thinking, whole=whole, last=last))
    writing = Writing(template, None if thinking is None else given.flag("enable_thinking", True), keep, whole, last)
    name_own_template(given, str(name), writing, base)
    return Rendering(writing, document)


def _length(given: Given, stage: Stage, base: ModelTokenizer | None) -> dict[str, Any]:
    limit = given.count("cutoff_len", CUTOFF, least=2)
    context = base.context_tokens if base else None
    if context is not None and limit > context:
        given.remark("cutoff_len", "differs", f"{limit} tokens are more than the model's context: {context} are taken.")
        limit = context
    if stage == "pt":
        return {"max_tokens": limit}
    given.remark(
        "cutoff_len",
        "trap",
        f"rows longer than {limit} tokens are cut at their end here, counted and named, and left out if no answer remains; "
        "LLaMA-Factory shortens prompts and answers in proportion, without a word.",
    )
    return {"max_tokens": limit, "longer_rows": "truncate"}


def _name_text(given: Given, name: str | None) -> None:
    if name is not None:
        given.remark("template", "differs", "documents end with the end-of-text token of the model's tokenizer.")
    if given.flag("packing", True) is False:
        given.remark("packing", "differs", "documents are always packed here, and none is cut.")


def _name_packing(given: Given) -> None:
    for key in ("packing", "neat_packing"):
        if given.flag(key):
            given.remark(
                key,
                "differs",
                "a batch counts rows here, not packs of them, and no row sees another: "
                "raise per_device_train_batch_size to the rows of a pack for batches of the same size.",
            )


def _template(given: Given, name: str | None, data_sets: Sequence[DataSet]) -> Template | None:
    """The template as text, None where rows are rendered with the model's own."""
    system, tools = given.text("default_system"), given.text("tool_format")
    if name is None:
        given.remark(
            "template",
            "differs",
            "rows are rendered with the model's own chat template; LLaMA-Factory takes that apart, and adds an empty "
            "<think></think> to answers where it holds one.",
        )
    elif name not in TEMPLATES:
        given.remark(
            "template",
            "trap",
            f'"{name}" is not written out here: rows are rendered with the model\'s own chat template, which may differ from it '
            f"(written out are {listed(TEMPLATES, most=len(TEMPLATES))}).",
        )
    elif any(row.uses_tools for data_set in data_sets for row in data_set.rows):
        given.remark("template", "differs", "rows with tools are rendered with the model's own chat template.")
    else:
        return TEMPLATES[name].with_system(system)
    if system is not None:
        given.remark("default_system", "ignored", "not honoured; the model's own chat template has its own.")
    if tools is not None:
        given.remark("tool_format", "ignored", "not honoured; the model's own chat template writes tools.")
    return None


def _own(given: Given, data_sets: Sequence[DataSet], *, thinking: Any, whole: bool, last: bool) -> dict[str, Any]:
    """Keys for rendering with the model's own chat template."""
    if whole:
        given.remark(
            "train_on_prompt", "ignored", "not honoured; with the model's own chat template answers alone are trained."
        )
    if given.any("preserve_thinking"):
        given.remark("preserve_thinking", "ignored", "not honoured; the model's own chat template decides.")
    arguments: dict[str, Any] = {}
    if "enable_thinking" in given and thinking is not None:
        arguments["enable_thinking"] = given.flag("enable_thinking", True)
    tools = _tools(data_sets)
    if tools:
        arguments["tools"] = tools
    document: dict[str, Any] = {"chat_template_kwargs": arguments} if arguments else {}
    return document | ({"trained_turns": "last"} if last else {})


def _tools(data_sets: Sequence[DataSet]) -> list[Any]:
    """The one list of tools that all rows have, [] where none has any."""
    rows = [row for data_set in data_sets for row in data_set.rows]
    first = rows[0].tools
    other = next((row for row in rows if row.tools != first), None)
    if other is not None:
        raise DataError(
            "found other tools than in the rows before",
            where=other.place,
            expected="the same tools in every row, since the chat template is given one list",
            remedy="Sort the rows by their tools, and train on one list, or write the tools into the system turn.",
        )
    return list(json.loads(first)) if first else []
