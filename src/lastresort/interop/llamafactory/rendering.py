"""How rows become text: template, cutoff_len and the keys about thoughts, turns, prompts and tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.chat_template import rendered_text, start_of_text, template_of
from lastresort.errors import DataError
from lastresort.interop.foreign_keys import ForeignKeys
from lastresort.interop.llamafactory.data_sets import NamedRows
from lastresort.interop.llamafactory.keys import Stage
from lastresort.interop.llamafactory.rows import TEMPLATES, RowWriting, TokenizerWriting, TurnTemplate, tools_of
from lastresort.interop.llamafactory.turns import AlignedRow, Turn
from lastresort.models.tokenizer import ModelTokenizer, tokenizer_on_disk
from lastresort.spec.values import listed, nearest
from lastresort.types import JsonObject, Message

_QUESTION, _ANSWER = "Why?", "Because."
_SHOWN, _BEFORE = 200, 60


def note_template(given: ForeignKeys, name: str, writing: RowWriting, base: ModelTokenizer | None) -> None:
    """Remarks on a template that differs from the model's own, and on the empty thoughts that it adds."""
    if writing.template.thinks:
        given.note_trap(
            "enable_thinking" if "enable_thinking" in given else "template",
            "Answers without a thought get an empty <think></think>, "
            f"{'which is trained' if writing.thinking else 'as part of the prompt'}, as in LLaMA-Factory. A template such as "
            "qwen3_nothink adds none.",
        )
    if base is None:
        return
    tokenizer = base.tokenizer
    try:
        own = template_of(tokenizer, None)
        messages = (Message("user", _QUESTION),)
        theirs = rendered_text(tokenizer, own, messages, prompt=True)
    except DataError:
        return
    prompt, _ = writing.answered(
        AlignedRow("", (Turn("user", _QUESTION),), (Turn("assistant", _ANSWER),), None, "", "")
    )
    end = tokenizer.eos_token or ""
    text = "".join(segment["text"] + (end if segment.get("end") else "") for segment in prompt)
    start = start_of_text(tokenizer)
    ours = text if text.startswith(start) else start + text
    if ours != theirs:
        pairs = enumerate(zip(ours, theirs, strict=False))
        at = next((number for number, (one, other) in pairs if one != other), min(len(ours), len(theirs)))
        given.note_trap(
            "template",
            f"template: {name} asks {shown(ours, at)} where the model's own chat template asks {shown(theirs, at)}. The tuned "
            "model needs the prompt it was trained on, and chat and the gate use the model's own.",
        )


def shown(text: str, at: int) -> str:
    """The text with its special tokens; of a long one what is around the first difference."""
    start = max(0, min(at - _BEFORE, len(text) - _SHOWN))
    stop = start + _SHOWN
    quoted = json.dumps(text[start:stop], ensure_ascii=False)
    return f"{'…' if start else ''}{quoted}{'…' if stop < len(text) else ''}"


CUTOFF = 2048
_OWN_DECIDES = "the model's own chat template decides"


@dataclass(frozen=True, slots=True)
class Rendering:
    """writing: None for turns, which the model's own chat template renders later. document: keys of our training file. by: the
    template that is written out, as the file names it."""

    writing: RowWriting | TokenizerWriting | None
    document: JsonObject
    by: str | None = None


def rendering_of(given: ForeignKeys, stage: Stage, model: str, path: Path, data_sets: Sequence[NamedRows]) -> Rendering:
    """Raises TaskError for keys that contradict each other, DataError for different tools and a model that is not here."""
    base = tokenizer_on_disk(model, path.absolute().parent)
    document = _length(given, stage, base)
    whole, last = given.flag("train_on_prompt"), given.flag("mask_history")
    if (whole and last) or ((whole or last) and stage != "sft"):
        key = "train_on_prompt" if whole else "mask_history"
        beside = "mask_history" if whole and last else f"stage: {stage}"
        given.refuse(key, f"it beside {beside}", expected="it alone, with stage: sft", remedy="Remove it.")
    name = given.text("template")
    if stage == "pt":
        _note_text(given, name)
        return Rendering(None, document)
    _note_packing(given)
    template = _template(given, name, data_sets)
    thinking, keep = given.any("enable_thinking", True), given.flag("preserve_thinking")
    if template is None:
        own = _own(given, base, data_sets, thinking=thinking, whole=whole, last=last)
        return Rendering(own.writing, document | own.document)
    writing = RowWriting(template, None if thinking is None else given.flag("enable_thinking", True), keep, whole, last)
    note_template(given, str(name), writing, base)
    return Rendering(writing, document, f"template: {name}")


def _length(given: ForeignKeys, stage: Stage, base: ModelTokenizer | None) -> JsonObject:
    limit = given.count("cutoff_len", CUTOFF, least=2)
    context = base.context_tokens if base else None
    if context is not None and limit > context:
        given.note_difference(
            "cutoff_len", f"cutoff_len: {limit} exceeds the model's context, so {context} tokens are used."
        )
        limit = context
    if stage == "pt":
        return {"max_tokens": limit}
    given.note_difference(
        "cutoff_len",
        f"Rows longer than {limit} tokens are cut at their end here, and dropped if no answer remains; both are counted. "
        "LLaMA-Factory silently shortens prompts and answers in proportion.",
    )
    return {"max_tokens": limit, "longer_rows": "truncate"}


def _note_text(given: ForeignKeys, name: str | None) -> None:
    if name is not None:
        given.note_difference("template", "Documents end with the end-of-text token of the model's tokenizer.")
    if given.flag("packing", True) is False:
        given.note_difference("packing", "Documents are always packed here, and never cut.")
    else:
        given.note_difference(
            "packing", "The last packed row, which is not full, is trained on here and dropped there."
        )


def _note_packing(given: ForeignKeys) -> None:
    for key in ("packing", "neat_packing"):
        if given.flag(key):
            given.note_difference(
                key,
                "A batch counts rows here, not packs, and rows never see each other. For batches of the same size multiply "
                "per_device_train_batch_size by the rows of a pack.",
            )


def _template(given: ForeignKeys, name: str | None, data_sets: Sequence[NamedRows]) -> TurnTemplate | None:
    """The template as text, None where rows are rendered with the model's own."""
    system, tools = given.text("default_system"), given.text("tool_format")
    if name is None:
        given.note_difference(
            "template",
            "Rows are rendered with the model's own chat template. LLaMA-Factory takes that apart, and adds an empty "
            "<think></think> to answers where the template has one.",
        )
    elif name not in TEMPLATES:
        close = nearest(name, TEMPLATES, likeness=0.8)
        meant = f"; did you mean {close}?" if close and not name.startswith(close) else "."  # gemma4 is not gemma
        given.note_trap(
            "template",
            f"template: {name} is not known here{meant} Rows are rendered with the model's own chat template, which may differ "
            f"(known are {listed(TEMPLATES, most=len(TEMPLATES))}).",
        )
    elif any(row.uses_tools for data_set in data_sets for row in data_set.rows):
        given.note_difference("template", "Rows with tools are rendered with the model's own chat template.")
    else:
        return TEMPLATES[name].with_system(system)
    if system is not None:
        given.note_ignored("default_system", f"default_system is ignored: {_OWN_DECIDES}.")
    if tools is not None:
        given.note_ignored("tool_format", f"tool_format is ignored: {_OWN_DECIDES}.")
    return None


def _own(
    given: ForeignKeys,
    base: ModelTokenizer | None,
    data_sets: Sequence[NamedRows],
    *,
    thinking: Any,
    whole: bool,
    last: bool,
) -> Rendering:
    """Rendering with the model's own chat template: by the trainer, or here where rows have different tools."""
    if whole:
        given.note_ignored(
            "train_on_prompt", f"train_on_prompt is ignored: {_OWN_DECIDES}, and only answers are trained."
        )
    if given.any("preserve_thinking"):
        given.note_ignored("preserve_thinking", f"preserve_thinking is ignored: {_OWN_DECIDES}.")
    arguments: JsonObject = {}
    if "enable_thinking" in given and thinking is not None:
        arguments["enable_thinking"] = given.flag("enable_thinking", True)
    rows = [row for data_set in data_sets for row in data_set.rows]
    # A training file has one list of tools, and its rows end with an answer in text.
    by_itself = next((row for row in rows if row.tools != rows[0].tools or row.ends_with_a_call), None)
    if by_itself is not None:
        if base is None:
            raise DataError(
                "found a call as the answer"
                if by_itself.ends_with_a_call
                else "found other tools than in the rows before",
                where=by_itself.place,
                expected="a model on this machine, whose chat template writes the tools and calls of each row",
                remedy="Download the model, and name its folder.",
            )
        return Rendering(TokenizerWriting(base.tokenizer, arguments, last), {})
    if rows[0].tools:
        arguments["tools"] = tools_of(rows[0])
    document: JsonObject = {"chat_template_kwargs": arguments} if arguments else {}
    return Rendering(None, document | ({"trained_turns": "last"} if last else {}))
