"""How a model is named: `embedded`, a hub id, a folder, a .gguf file, `openai:NAME`, `http://host/v1#NAME`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from lastresort.spec.paths import found_path
from lastresort.spec.values import Reading, Text, refuse
from lastresort.spec.wording import describe


def _model_name(value: Any, info: ValidationInfo) -> Any:
    return check_model_name(value, info.context)


def is_paid(name: str) -> bool:
    """Whether calls of a model of this name may cost money: it answers from somewhere else."""
    return name.startswith(("openai:", "http://", "https://"))


def check_model_name(value: Any, reading: Reading | None) -> Any:
    """The name without spaces around it; refuses a name of no known form, and a local path that is not there."""
    if not isinstance(value, str) or not value.strip():
        return value
    name = value.strip()
    expected = "embedded, a hub id, a folder, a .gguf file, openai:NAME or http://host/v1#NAME"
    if re.match(r"https?:", name):
        _check_endpoint(name)
    elif name in ("openai:", "scripted:"):
        refuse(f"found {describe(value)}", expected=expected, remedy="Write the model's name after the colon.")
    elif re.search(r"\s", name) and not re.match(r"[./]|[A-Za-z]:|scripted:", name):
        refuse(f"found {describe(value)}", expected=expected, remedy="Write the name without spaces.")
    elif isinstance(reading, Reading) and (re.match(r"\.{0,2}/", name) or name.endswith(".gguf")):
        found_path(name, reading, folders=True)
    return name


def _check_endpoint(name: str) -> None:
    expected = "http://host/v1#NAME"
    match = re.fullmatch(r"https?://([^/#\s]+)([^#\s]*)(?:#(\S+))?", name)
    if match is None:
        refuse(f"found {describe(name)}", expected=expected, remedy="Correct the address.")
    if "@" in match[1]:
        refuse(
            "found an address with a user name or password in it",
            expected=expected,
            remedy="Remove it, and give the key in the environment.",
        )
    if not match[3]:
        remedy = "Write the model's name after #, as the endpoint lists it under /models."
        refuse(f"found {describe(name)} without a model's name", expected=expected, remedy=remedy)


ModelName = Annotated[Text, BeforeValidator(_model_name)]
