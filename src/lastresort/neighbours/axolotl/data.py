"""`datasets` and `test_datasets` -> sources of our rows, with what a reader must know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.rows import RawRow
from lastresort.neighbours.axolotl.entries import IDLE, places_of, source_of
from lastresort.neighbours.axolotl.modules import prompt_reader
from lastresort.neighbours.axolotl.objective import Chosen
from lastresort.neighbours.axolotl.passed import prompt
from lastresort.neighbours.axolotl.rendered import text_of
from lastresort.neighbours.axolotl.template import chosen_markup, misfit
from lastresort.neighbours.axolotl.types import Reader, Wanted, reader
from lastresort.neighbours.given import Given
from lastresort.neighbours.imported import Source
from lastresort.spec.wording import describe

_NOT_HONOURED = {
    "train_on_eos": "the end token of each trained turn is trained, and no other",
    "train_on_eot": "the end token of each trained turn is trained, and no other",
    "split_thinking": "thinking stays in the text as it stands there",
    "field_tools": "tools of a row are not shown; name them for all rows under chat_template_kwargs",
    "message_field_training_detail": "a turn is trained whole or not at all",
    "input_transform": "rows are not transformed first",
}


@dataclass(frozen=True, slots=True)
class Model:
    """name: as the file has it. template: its own, "" for none, None where that is not known."""

    name: str
    template: str | None


def entries_of(given: Given, key: str) -> list[Given]:
    """Raises TaskError for what is no list of mappings."""
    value = given.any(key, [])
    entries = [value] if isinstance(value, Mapping) else value
    if isinstance(entries, str) and key == "pretraining_dataset":
        entries = [{"path": entries}]
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        given.refuse(
            key, describe(value), expected="a list of entries with path and type", remedy="Write - path: FILE."
        )
    return [Given(one, f"{given.name}, {key}[{number}]") for number, one in enumerate(entries)]


def is_text(given: Given) -> bool:
    """Whether all rows are plain text that is trained whole: then they are one stream of documents."""
    if "pretraining_dataset" in given:
        return True
    entries = [*entries_of(given, "datasets"), *entries_of(given, "test_datasets")]
    return bool(entries) and all(entry.any("type") == "completion" for entry in entries)


def rendered_by(given: Given) -> str | None:
    """The key and value by which rows become text, where they do: that of the first entry that says more than chat_template."""
    for entry in entries_of(given, "datasets"):
        kind = entry.any("type")
        if not str(kind).startswith("chat_template"):
            return f"type: {kind}" if isinstance(kind, str) else "a type of columns and formats"
        named = entry.any("chat_template") or given.any("chat_template")
        if named not in (None, "tokenizer_default"):
            return f"chat_template: {named}"
    return None


def sources(given: Given, key: str, chosen: Chosen, model: Model, path: Path) -> tuple[Source, ...]:
    """Raises TaskError for an entry that cannot be read."""
    found: list[Source] = []
    seed = given.count("seed", 42) if not chosen.rl else None
    for entry in entries_of(given, key):
        read = _reader(given, entry, chosen, model, path)
        split = "test" if key == "test_datasets" and not chosen.rl and "ds_type" not in entry else "train"
        for place in places_of(entry, path, shard_seed=seed, default_split=split):
            found.append(source_of(place, read.row))
        _say(given, entry, read, model)
    return tuple(found)


def _reader(given: Given, entry: Given, chosen: Chosen, model: Model, path: Path) -> Reader:
    if chosen.family == "text":
        return Reader(_document(entry, "text_column" if "text_column" in entry else "field"))
    if chosen.family == "groups":
        return Reader(_prompts(given, entry, path))
    if chosen.family == "orpo" and entry.any("type") is None:
        return reader(entry, Wanted("pairs", None, False))
    rendered = str(entry.any("type")).startswith("chat_template")
    markup = chosen_markup(given, entry, model.template) if rendered else None
    return reader(entry, Wanted(chosen.family, markup, given.flag("train_on_inputs")))


def _document(entry: Given, key: str) -> Callable[[RawRow], dict[str, Any]]:
    entry.any("type")
    column = entry.text(key) or "text"
    return lambda row: {"text": text_of(row, column)}


def _prompts(given: Given, entry: Given, path: Path) -> Callable[[RawRow], dict[str, Any]]:
    name = entry.text("type")
    if name is None or name in ("passthrough", "passthrough.default"):
        return prompt
    settings = {
        key: given.any(key) for key in ("base_model", "sequence_len", "chat_template", "seed", "trl", "datasets")
    }
    return prompt_reader(name, path, settings, entry.where("type"))


def _say(given: Given, entry: Given, read: Reader, model: Model) -> None:
    kind = entry.any("type")
    if read.markup is not None and (told := misfit(read.markup, model.name, model.template)) is not None:
        given.remark(f"{_key(given, entry)}.type", "trap", f"{kind}: {told}")
    if kind == "zephyr.nectar":
        sentence = (
            "zephyr.nectar takes the answers of the two highest rank numbers; where 1 is the best, these are the worst."
        )
        given.remark(f"{_key(given, entry)}.type", "trap", sentence)
    given.remarks += entry.remarks
    for name, value in entry.unread().items():
        if (
            name in IDLE
            or value in (False, "", [], {})
            or (name in ("train_on_eos", "train_on_eot") and value == "turn")
        ):
            continue
        why = _NOT_HONOURED.get(name, f"{name} is not honoured with the type {kind}")
        given.remark(f"{_key(given, entry)}.{name}", "ignored", f"{why[0].upper()}{why[1:]}.")


def _key(given: Given, entry: Given) -> str:
    return entry.name.removeprefix(f"{given.name}, ")
