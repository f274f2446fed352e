"""What is said of the keys that no reader asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.neighbours.axolotl.keys import HONOURED, IGNORED, OWN, REFUSED, USUAL, known
from lastresort.neighbours.given import Given
from lastresort.neighbours.imported import Remark
from lastresort.neighbours.said_by_both import NO_REMOTE_CODE
from lastresort.spec.wording import nearest

_FAST_PLUGINS = ("liger.", "cut_cross_entropy.", "kernels.")
_DIFFERS = {
    "chat_template": "No row is rendered by chat_template; there it is saved with the tokenizer, here the model keeps its own.",
    "trust_remote_code": NO_REMOTE_CODE,
    "eot_tokens": "The token with which the template ends a turn is trained, whatever eot_tokens names.",
}


def of_other_keys(given: Given) -> list[Remark]:
    """Keys of no result in one remark, the others one by one; what is switched off, or says what happens anyway, in none."""
    unread = given.unread()
    own = {key for names in OWN.values() for key in names} | (
        {"plugins"} if _of_speed(unread.get("plugins")) else set()
    )
    told = [key for key in unread if key in own]
    sentence = f"{', '.join(told)}: of no result there; how that is done, the program decides itself here."
    found = [Remark(", ".join(told), "differs", sentence)] if told else []
    return found + [
        _remark(key) for key, value in unread.items() if key not in {*own, *REFUSED} and not _idle(key, value)
    ]


def _remark(key: str) -> Remark:
    if key in _DIFFERS:
        return Remark(key, "differs", _DIFFERS[key])
    if key in HONOURED:
        return Remark(key, "ignored", f"{key} decides nothing beside the other keys.")
    for reason, names in IGNORED.items():
        if key in names:
            return Remark(key, "ignored", f"{key} is not honoured: {reason}.")
    close = nearest(key, HONOURED) or nearest(key, known())
    meant = f"; did you mean {close}?" if close else "."
    return Remark(key, "ignored", f"{key} is no key that this program knows{meant}")


def _of_speed(plugins: Any) -> bool:
    """Whether all plugins only compute the same in another way."""
    names = plugins if isinstance(plugins, list) else [plugins]
    return all(any(part in str(name) for part in _FAST_PLUGINS) for name in names)


def _idle(key: str, value: Any) -> bool:
    """Off, or what happens anyway. Special tokens that only fill count so, since there is no padding here."""
    if key == "shuffle_merged_datasets":
        return value is not False
    if key == "special_tokens" and isinstance(value, Mapping):
        return set(value) <= {"pad_token"}
    return value in (False, 0, "", [], {}) or value == USUAL.get(key)
