"""`datasets` and `test_datasets` -> sources of our rows, with remarks; and whether a named template fits the model's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.formats.rows import RawRow
from lastresort.embedded import embedded_folder
from lastresort.errors import InputError, LastresortError
from lastresort.foreign import DOCUMENT, read_json, read_text
from lastresort.interop.axolotl.entries import IDLE, places_of, source_of
from lastresort.interop.axolotl.groups import prompt_reader
from lastresort.interop.axolotl.keys import ObjectiveChoice
from lastresort.interop.axolotl.markup import MARKUPS, Markup, text_of
from lastresort.interop.axolotl.types import Reader, TypeContext, prompt_as_it_is, reader_of
from lastresort.interop.foreign_keys import ForeignKeys, RowSource
from lastresort.spec.values import describe
from lastresort.types import JsonObject

_FALLBACK = "tokenizer_default_fallback_"
NAMED: Mapping[str, tuple[str, ...]] = {
    **{f"mistral_{version}": ("mistral", "mixtral") for version in ("v1", "v2v3", "v3_tekken", "v7_tekken")},
    **{f"command_a{kind}": ("commanda", "c4aicommand") for kind in ("", "_tool_use", "_rag")},
    "cohere": ("command", "cohere"),
    "aya": ("aya",),
    "gemma": ("gemma2b", "gemma7b", "gemma2", "gemma11"),
    "gemma3": ("gemma3",),
    "gemma3n": ("gemma3n",),
    "gemma4": ("gemma4",),
    "gemma4_unified": ("gemma4",),
    "llama3_2_vision": ("llama32",),
    "llama4": ("llama4",),
    "phi_3": ("phi3",),
    "phi_35": ("phi35",),
    "phi_4": ("phi4",),
    "deepseek_v2": ("deepseekv2", "deepseekcoderv2"),
    "deepseek_v3": ("deepseekv3",),
    "jamba": ("jamba",),
    "qwen_25": ("qwen25",),
    "qwen3": ("qwen3",),
    "qwen3_5": ("qwen35",),
    "qwen2_vl": ("qwen2vl", "qwen25vl"),
    "falcon_h1": ("falconh1",),
    "nemotron_h": ("nemotronh", "nemotronnano"),
    "exaone": ("exaone3",),
    "exaone4": ("exaone4",),
    "pixtral": ("pixtral",),
    "llava": ("llava",),
}
"""Its further templates, and what the name of a model of their family holds."""
_BY_NAME = ((re.compile(r"llama-?3", re.IGNORECASE), "llama3"), (re.compile(r"qwen|smollm", re.IGNORECASE), "chatml"))


def model_template(model: str, folder: Path | None) -> str | None:
    """The chat template in a model's files, "" for none; None where they are not on this machine."""
    try:
        place = embedded_folder() if model == "embedded" else folder if folder is not None else _cached(model)
    except LastresortError:
        return None
    if place is None or not place.is_dir():
        return None
    try:
        if (place / "chat_template.jinja").is_file():
            return read_text(place / "chat_template.jinja")
        settings = read_json(place / "tokenizer_config.json", DOCUMENT, lenient=True)
    except (OSError, InputError):
        return None
    found: Any = (settings.get("chat_template") or "") if isinstance(settings, dict) else ""
    if isinstance(found, list):
        named = (one for one in found if isinstance(one, dict) and one.get("name") == "default")
        found = next((one.get("template") for one in named), "")
    return str(found)


def named_markup(given: ForeignKeys, entry: ForeignKeys, own: str | None) -> Markup | None:
    """What `chat_template` of the entry, or of the file, names; None for the model's own. Raises TaskError for other names."""
    source = entry if entry.any("chat_template") is not None else given
    name = str(source.any("chat_template", "tokenizer_default"))
    if given.any("chat_template_jinja") or entry.any("chat_template_jinja"):
        name = "jinja"
    if name.startswith(_FALLBACK):
        if own != "":
            return None
        name = name.removeprefix(_FALLBACK)
    if name == "tokenizer_default":
        return None
    if name not in MARKUPS and _is_family(name, str(given.any("base_model", ""))) and own != "":
        sentence = f"{name} is the template of the model's family; rows are rendered with the model's own."
        source.note_difference("chat_template", sentence)
        return None
    if name not in MARKUPS:
        source.refuse(
            "chat_template",
            name,
            expected=f"tokenizer_default, {_FALLBACK}… or one of {', '.join(MARKUPS)}",
            remedy="Write tokenizer_default, and save the template as chat_template.jinja in the model's folder.",
        )
    return MARKUPS[name]


def _is_family(name: str, model: str) -> bool:
    """Whether a template of this name is that of the model's family, by the model's name: gemma3 of google/gemma-3-1b-it."""
    bare = re.sub(r"[^a-z0-9]", "", model.lower())
    return any(part in bare for part in NAMED.get(name, ()))


def template_mismatch(markup: Markup, model: str, own: str | None) -> str | None:
    """The remark on a markup that is not the model's, None where it fits or the model has no template."""
    if own is None:
        by_name = next((MARKUPS[name] for pattern, name in _BY_NAME if pattern.search(model)), None)
        if by_name is None or by_name is markup:
            return None
        return f"{markup.name} is written into every row, but {model}, by its name, was trained on {by_name.name}."
    if own == "" or markup.mark in own:
        return None
    return f"{markup.name} is written into every row, but the chat template of {model} has no {markup.mark}."


def _cached(model: str) -> Path | None:
    """The folder of a model of the Hub that was loaded before."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(model, "tokenizer_config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


_NOT_HONOURED = {
    "train_on_eos": "the end token of each trained turn is trained, and no other",
    "train_on_eot": "the end token of each trained turn is trained, and no other",
    "split_thinking": "thinking stays in the text",
    "field_tools": "a row's tools are not shown to the model; name tools for all rows under chat_template_kwargs",
    "message_field_training_detail": "a turn is trained on as a whole or not at all",
    "input_transform": "rows are not transformed",
}


@dataclass(frozen=True, slots=True)
class TemplateModel:
    """name: as the file has it. template: its own, "" for none, None where that is not known."""

    name: str
    template: str | None


def entries_of(given: ForeignKeys, key: str) -> list[ForeignKeys]:
    """Raises TaskError for what is no list of mappings."""
    value = given.any(key, [])
    entries = [value] if isinstance(value, Mapping) else value
    if isinstance(entries, str) and key == "pretraining_dataset":
        entries = [{"path": entries}]
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        given.refuse(
            key, describe(value), expected="a list of entries with path and type", remedy="Write - path: FILE."
        )
    return [ForeignKeys(one, f"{given.name}, {key}[{number}]") for number, one in enumerate(entries)]


def is_text(given: ForeignKeys) -> bool:
    """Whether all rows are plain text that is trained whole: then they are one stream of documents."""
    if "pretraining_dataset" in given:
        return True
    entries = [*entries_of(given, "datasets"), *entries_of(given, "test_datasets")]
    return bool(entries) and all(entry.any("type") == "completion" for entry in entries)


def rendered_by(given: ForeignKeys) -> str | None:
    """The key and value by which rows become text: of the first entry whose rows are not left to the model's own template."""
    for entry in entries_of(given, "datasets"):
        kind = entry.any("type")
        if not str(kind).startswith("chat_template"):
            return f"type: {kind}" if isinstance(kind, str) else "a type of columns and formats"
        named = entry.any("chat_template") or given.any("chat_template")
        if named not in (None, "tokenizer_default"):
            return f"chat_template: {named}"
    return None


def sources(
    given: ForeignKeys, key: str, chosen: ObjectiveChoice, model: TemplateModel, path: Path
) -> tuple[RowSource, ...]:
    """Raises TaskError for an entry that cannot be read."""
    found: list[RowSource] = []
    seed = given.count("seed", 42) if not chosen.rl else None
    for entry in entries_of(given, key):
        read = _reader(given, entry, chosen, model, path)
        split = "test" if key == "test_datasets" and not chosen.rl and "ds_type" not in entry else "train"
        for place in places_of(entry, path, shard_seed=seed, default_split=split):
            found.append(source_of(place, read.row))
        _note_entry(given, entry, read, model)
    return tuple(found)


def _reader(
    given: ForeignKeys, entry: ForeignKeys, chosen: ObjectiveChoice, model: TemplateModel, path: Path
) -> Reader:
    if chosen.family == "text":
        return Reader(_document(entry, "text_column" if "text_column" in entry else "field"))
    if chosen.family == "groups":
        return Reader(_prompts(given, entry, path))
    if chosen.family == "orpo" and entry.any("type") is None:
        return reader_of(entry, TypeContext("pairs", None, False))
    rendered = str(entry.any("type")).startswith("chat_template")
    markup = named_markup(given, entry, model.template) if rendered else None
    return reader_of(entry, TypeContext(chosen.family, markup, given.flag("train_on_inputs")))


def _document(entry: ForeignKeys, key: str) -> Callable[[RawRow], JsonObject]:
    entry.any("type")
    column = entry.text(key) or "text"
    return lambda row: {"text": text_of(row, column)}


def _prompts(given: ForeignKeys, entry: ForeignKeys, path: Path) -> Callable[[RawRow], JsonObject]:
    name = entry.text("type")
    if name is None or name in ("passthrough", "passthrough.default"):
        return prompt_as_it_is
    settings = {
        key: given.any(key) for key in ("base_model", "sequence_len", "chat_template", "seed", "trl", "datasets")
    }
    return prompt_reader(name, path, settings, entry.where("type"))


def _note_entry(given: ForeignKeys, entry: ForeignKeys, read: Reader, model: TemplateModel) -> None:
    kind = entry.any("type")
    if read.markup is not None and (reason := template_mismatch(read.markup, model.name, model.template)) is not None:
        given.note_trap(f"{_key(given, entry)}.type", f"{kind}: {reason}")
    if kind == "zephyr.nectar":
        given.note_trap(
            f"{_key(given, entry)}.type",
            "zephyr.nectar takes the answers with the two highest rank numbers. Where 1 is the best, these are the worst.",
        )
    given.remarks += entry.remarks
    for name, value in entry.unread().items():
        on_end = name in ("train_on_eos", "train_on_eot") and value == "turn"
        if name in IDLE or value in (False, "", [], {}) or on_end:
            continue
        why = _NOT_HONOURED.get(name, f"{name} is ignored with the type {kind}")
        given.note_ignored(f"{_key(given, entry)}.{name}", f"{why[0].upper()}{why[1:]}.")


def _key(given: ForeignKeys, entry: ForeignKeys) -> str:
    return entry.name.removeprefix(f"{given.name}, ")
