"""Which template a model has, and where a hard-coded or a named one does not fit it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.embedded import embedded_folder
from lastresort.errors import LastresortError
from lastresort.neighbours.axolotl.markup import MARKUPS, Markup
from lastresort.neighbours.given import Given

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


def own_template(model: str, folder: Path | None) -> str | None:
    """The chat template in a model's files, "" for none; None where they are not on this machine."""
    try:
        place = embedded_folder() if model == "embedded" else folder if folder is not None else _cached(model)
    except LastresortError:
        return None
    if place is None or not place.is_dir():
        return None
    if (place / "chat_template.jinja").is_file():
        return (place / "chat_template.jinja").read_text(encoding="utf-8")
    try:
        settings = json.loads((place / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found: Any = settings.get("chat_template") or ""
    if isinstance(found, list):
        found = next((one.get("template") for one in found if one.get("name") == "default"), "")
    return str(found)


def chosen_markup(given: Given, entry: Given, own: str | None) -> Markup | None:
    """What `chat_template` of the entry, or of the file, names; None for the model's own. Raises TaskError for other names."""
    whence = entry if entry.any("chat_template") is not None else given
    name = str(whence.any("chat_template", "tokenizer_default"))
    if given.any("chat_template_jinja") or entry.any("chat_template_jinja"):
        name = "jinja"
    if name.startswith(_FALLBACK):
        if own != "":
            return None
        name = name.removeprefix(_FALLBACK)
    if name == "tokenizer_default":
        return None
    if name not in MARKUPS and _is_family(name, str(given.any("base_model", ""))) and own != "":
        sentence = f"{name} is the template of the model's family; the model's own renders the rows."
        whence.remark("chat_template", "differs", sentence)
        return None
    if name not in MARKUPS:
        whence.refuse(
            "chat_template",
            name,
            expected=f"tokenizer_default, {_FALLBACK}… or one of {', '.join(MARKUPS)}",
            remedy="Write tokenizer_default, and save the template as chat_template.jinja in the model's folder.",
        )
    return MARKUPS[name]


def _is_family(name: str, model: str) -> bool:
    """Whether a template of this name is that of the model's family, by the model's name: gemma3 of google/gemma-3-1b-it."""
    family, said = NAMED.get(name), re.sub(r"[^a-z0-9]", "", model.lower())
    return family is not None and any(part in said for part in family)


def misfit(markup: Markup, model: str, own: str | None) -> str | None:
    """What the reader must know of a markup that is not the model's, None where it fits or the model has no template."""
    if own is None:
        by_name = next((MARKUPS[name] for pattern, name in _BY_NAME if pattern.search(model)), None)
        if by_name is None or by_name is markup:
            return None
        return f"{markup.name} is written into every row, and {model}, by its name, has learnt the marks of {by_name.name}."
    if own == "" or markup.mark in own:
        return None
    return f"{markup.name} is written into every row, and the chat template of {model} is another: it has no {markup.mark}."


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
