"""Axolotl's YAML -> a training in our words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.neighbours.axolotl import contradictions
from lastresort.neighbours.axolotl.adapter import adapter_keys
from lastresort.neighbours.axolotl.course import batch_of, course_keys, held_out, length_keys
from lastresort.neighbours.axolotl.data import Model, is_text, sources
from lastresort.neighbours.axolotl.groups import group_keys
from lastresort.neighbours.axolotl.keys import HONOURED, IGNORED, OWN, REFUSED, USUAL, known
from lastresort.neighbours.axolotl.objective import Chosen, chosen_objective
from lastresort.neighbours.axolotl.template import own_template
from lastresort.neighbours.given import Given
from lastresort.neighbours.imported import Imported, Remark
from lastresort.neighbours.places import found_place, new_place
from lastresort.spec.wording import nearest

OUTPUT = "./model-out"
_FAST_PLUGINS = ("liger.", "cut_cross_entropy.", "kernels.")


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
        **_adapter(given, chosen, path),
        **_course(given, chosen, path),
        "output": str(new_place(given.text("output_dir") or OUTPUT)),
    }
    if chosen.family == "groups" and (share or kept_out):
        given.remark("val_set_size" if share else "test_datasets", "ignored", "Prompts of grpo are all trained on.")
        share, kept_out = None, ()
    return Imported("axolotl", document, train, kept_out, share, (*given.remarks, *_of_other_keys(given)))


def _adapter(given: Given, chosen: Chosen, path: Path) -> dict[str, Any]:
    return adapter_keys(given, path, rl=chosen.rl)


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
        return found | {"max_tokens": length_keys(given)["max_tokens"]}
    if given.flag("sample_packing"):
        given.remark(
            "sample_packing",
            "differs",
            f"A step there takes {batch} packed sequences of sequence_len, here {batch} rows, which are fewer tokens: raise "
            "micro_batch_size to train as many.",
        )
    return found | length_keys(given)


def _of_other_keys(given: Given) -> list[Remark]:
    """What no reader asked for: keys of no result in one remark, the others one by one."""
    unread = {key: value for key, value in given.unread().items() if value not in (False, "", [], {})}
    own = {key for names in OWN.values() for key in names}
    own |= {"plugins"} if _of_speed(unread.get("plugins")) else set()
    told = [key for key in given.unread() if key in own]
    found = []
    if told:
        sentence = f"{', '.join(told)}: of no result there; how that is done, the program decides itself here."
        found.append(Remark(", ".join(told), "differs", sentence))
    reasons = {key: reason for reason, names in IGNORED.items() for key in names}
    for key, value in unread.items():
        if key in own or (key in USUAL and value == USUAL[key]) or _idle(key, value):
            continue
        if key in reasons:
            found.append(Remark(key, "ignored", f"{key} is not heard: {reasons[key]}."))
        elif key == "chat_template":
            sentence = "No row is rendered by chat_template; there it is saved with the tokenizer, here the model keeps its own."
            found.append(Remark(key, "differs", sentence))
        elif key == "eot_tokens":
            sentence = "The token with which the template ends a turn is trained, whatever eot_tokens names."
            found.append(Remark(key, "differs", sentence))
        elif key in HONOURED:
            found.append(Remark(key, "ignored", f"{key} decides nothing beside the other keys."))
        elif key not in REFUSED:
            close = nearest(key, known())
            meant = f"; did you mean {close}?" if close else ""
            found.append(Remark(key, "ignored", f"{key} is no key that this program knows{meant}"))
    if given.any("shuffle_merged_datasets") is False:
        found.append(Remark("shuffle_merged_datasets", "ignored", "Rows are drawn in a shuffled order."))
    return found


def _of_speed(plugins: Any) -> bool:
    """Whether all plugins only compute the same in another way."""
    names = plugins if isinstance(plugins, list) else [plugins]
    return all(any(part in str(name) for part in _FAST_PLUGINS) for name in names)


def _idle(key: str, value: Any) -> bool:
    """Special tokens that only fill: there is no padding here. 0 switches most of the rest off."""
    return (key == "special_tokens" and isinstance(value, Mapping) and set(value) <= {"pad_token"}) or value == 0
