"""LLaMA-Factory's keys that are not honoured (keys.yaml): each is refused, or named with the reason.

Refused: what would make it another training, such as another method, loss or model. Ignored: a detail of the optimizer, of
evaluation or of loading. Without effect: what only decides speed, memory, logs and files.
"""

from __future__ import annotations

from typing import Any

from lastresort.interop.foreign_keys import ForeignKeys, key_tables, note_unread
from lastresort.spec.values import nearest

FILE = key_tables("llamafactory")["file"]
_OFF = (False, "", "none", "no", "auto", "default")


def refuse_other_trainings(given: ForeignKeys) -> None:
    """Raises TaskError for a key that makes it another training."""
    for key, expected in FILE.refused.items():
        value = given.any(key)
        if key.startswith("ref_model") and reference_is_start(given):
            continue
        if value is not None and value not in _OFF and value != 0:
            given.refuse(
                key, f"{key}: {str(value).lower()}", expected=expected, remedy="Remove it, or train with LLaMA-Factory."
            )


def reference_is_start(given: ForeignKeys) -> bool:
    """Whether the reference is the model with the very adapter that is trained further, as it is here anyway."""
    start, reference = given.any("adapter_name_or_path"), given.any("ref_model_adapters")
    return reference is not None and (given.any("ref_model"), reference) == (given.any("model_name_or_path"), start)


def note_other_keys(given: ForeignKeys) -> None:
    """Remarks on the keys that nobody read, but for values that are off or the default.

    Raises TaskError for a key that is nearly one that is honoured.
    """
    for key in note_unread(given, FILE, is_off=_is_off, no_effect=_no_effect):
        if (meant := nearest(key, given.read_keys(), likeness=0.85)) is not None:
            given.refuse(key, "an unknown key", expected=meant, remedy=f'Write "{meant}", or remove the key.')
        given.note_ignored(key, f"{key} is ignored: it is no key that this program knows.")


def _no_effect(key: str, value: Any) -> bool:
    return FILE.has_no_effect(key) and not _is_off(key, value)


def _is_off(key: str, value: Any) -> bool:
    if key in FILE.defaults:
        return bool(value == FILE.defaults[key])
    return value is False or (isinstance(value, str) and value.strip().lower() in _OFF)
