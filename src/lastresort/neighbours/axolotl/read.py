"""Axolotl's YAML -> a training in our words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.neighbours.axolotl import contradictions
from lastresort.neighbours.axolotl.adapter import adapter_keys
from lastresort.neighbours.axolotl.course import batch_of, course_keys, held_out, length_keys, text_row
from lastresort.neighbours.axolotl.data import Model, is_text, rendered_by, sources
from lastresort.neighbours.axolotl.groups import group_keys
from lastresort.neighbours.axolotl.objective import Chosen, chosen_objective
from lastresort.neighbours.axolotl.template import own_template
from lastresort.neighbours.axolotl.unheard import of_other_keys
from lastresort.neighbours.given import Given
from lastresort.neighbours.imported import Imported
from lastresort.neighbours.places import found_place, new_place

OUTPUT = "./model-out"


def read(values: Mapping[str, Any], path: Path) -> Imported:
    """values: of the file, with what was set from outside. path: of the file; relative names start from the current folder, and
    else from its own.

    Raises TaskError for what cannot be trained, there or here.
    """
    given = Given(values, str(path))
    contradictions.check(Given(values, str(path)))  # whose looking does not count as reading
    chosen = chosen_objective(given, text=is_text(given))
    name = given.text("base_model") or ""
    folder = found_place(name, path) if name != "embedded" else None
    model = Model(name, own_template(name, folder))
    key = "datasets" if "datasets" in given else "pretraining_dataset"
    train = sources(given, key, chosen, model, path)
    kept_out = sources(given, "test_datasets", chosen, model, path)
    share = held_out(given)
    document = {
        "model": str(folder) if folder is not None else name,
        "objective": chosen.value,
        **adapter_keys(given, path, rl=chosen.rl),
        **_course(given, chosen, path),
        "output": str(new_place(given.text("output_dir") or OUTPUT)),
    }
    if chosen.family == "groups" and (share or kept_out):
        given.remark("val_set_size" if share else "test_datasets", "ignored", "Prompts of grpo are all trained on.")
        share, kept_out = None, ()
    by = rendered_by(given)
    return Imported("axolotl", document, train, kept_out, share, (*given.remarks, *of_other_keys(given)), by)


def _course(given: Given, chosen: Chosen, path: Path) -> dict[str, Any]:
    batch, kind = batch_of(given), given.text("adapter")
    found = course_keys(given, full=kind is None, four_bits=kind == "qlora")
    if isinstance(kwargs := given.any("chat_template_kwargs"), Mapping) and kwargs:
        found["chat_template_kwargs"] = dict(kwargs)
    if chosen.family == "groups":
        return found | group_keys(given, path, batch)
    found["batch_size"] = batch
    if chosen.family == "text":
        given.flag("sample_packing")
        sentence = "Documents are one stream, cut into rows of sequence_len; there a document begins a row of its own."
        given.remark("datasets", "differs", sentence)
        return found | {"max_tokens": text_row(given)}
    if given.flag("sample_packing"):
        given.remark(
            "sample_packing",
            "differs",
            f"A step there takes {batch} packed sequences of sequence_len, here {batch} rows, which are fewer tokens: raise "
            "micro_batch_size to train as many.",
        )
    return found | length_keys(given)
