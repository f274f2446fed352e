"""Types that a file defines itself: a mapping of columns and Python format strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lastresort.data.rows import RawRow
from lastresort.neighbours.axolotl.rendered import Row, answered, labelled, optional_text, pair, text_of
from lastresort.neighbours.given import Given

Read = Callable[[RawRow], Row]
SFT_KEYS = tuple(
    """system_prompt system_format field_system field_instruction field_input field_output format no_input_format""".split()
)
PAIR_KEYS = tuple(
    "field_prompt field_system field_chosen field_rejected prompt_format chosen_format rejected_format".split()
)
LABEL_KEYS = ("field_prompt", "field_system", "field_completion", "field_label", "prompt_format", "completion_format")


def instructions(words: Given, *, whole: bool) -> Read:
    """Of supervised training: format with {instruction} and {input}, system_format with {system}."""
    columns = {name: words.text(f"field_{name}") or name for name in ("system", "instruction", "input", "output")}
    turn = _format(words, "format", "{instruction} {input} ", "instruction", "input")
    bare = _format(words, "no_input_format", "{instruction} ", "instruction")
    system_format = _format(words, "system_format", "{system}", "system")
    usual = str(words.any("system_prompt", ""))

    def read(row: RawRow) -> Row:
        system = optional_text(row, columns["system"]) if columns["system"] in row.values else usual
        given = optional_text(row, columns["input"])
        said = {"instruction": text_of(row, columns["instruction"])}
        prompt = turn(said | {"input": given}) if given else bare(said)
        before = system_format({"system": system}) if system else ""
        return answered(before + prompt, optional_text(row, columns["output"]), whole=whole)

    return read


def pairs(words: Given) -> Read:
    columns = {name: words.text(f"field_{name}") or name for name in ("prompt", "system", "chosen", "rejected")}
    prompt = _format(words, "prompt_format", "{prompt}", "prompt", "system")
    sides = {name: _format(words, f"{name}_format", f"{{{name}}}", name) for name in ("chosen", "rejected")}

    def read(row: RawRow) -> Row:
        said = {"prompt": text_of(row, columns["prompt"]), "system": optional_text(row, columns["system"])}
        chosen, rejected = (side({name: text_of(row, columns[name])}) for name, side in sides.items())
        return pair(prompt(said), chosen, rejected)

    return read


def labels(words: Given) -> Read:
    columns = {name: words.text(f"field_{name}") or name for name in ("prompt", "system", "completion", "label")}
    prompt = _format(words, "prompt_format", "{prompt}", "prompt", "system")
    answer = _format(words, "completion_format", "{completion}", "completion")

    def read(row: RawRow) -> Row:
        said = {"prompt": text_of(row, columns["prompt"]), "system": optional_text(row, columns["system"])}
        completion = answer({"completion": text_of(row, columns["completion"])})
        return labelled(prompt(said), completion, row.values.get(columns["label"]))

    return read


def _format(words: Given, key: str, default: str, *names: str) -> Callable[[Mapping[str, Any]], str]:
    """A format string that was tried on empty texts. Raises TaskError for one that names something else."""
    value = words.any(key) or default
    try:
        str(value).format(**dict.fromkeys(names, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = " and ".join(f"{{{name}}}" for name in names)
        words.refuse(
            key, f"a format that cannot be filled ({error})", expected=f"text with {known}", remedy="Correct it."
        )
    return lambda said: str(value).format(**{name: said.get(name, "") for name in names})
