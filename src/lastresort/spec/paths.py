"""Paths in a task file, relative to its folder, and of what a command is to write; and names of models: `embedded`, a hub id,
a folder, a .gguf file, `openai:NAME`, `http://host/v1#NAME`.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from lastresort.errors import InputError
from lastresort.spec.values import ReadContext, Text, describe, nearest_file, refuse


def _model_name(value: Any, info: ValidationInfo) -> Any:
    return check_model_name(value, info.context)


def is_paid(name: str) -> bool:
    """Whether calls of a model of this name may cost money: it answers from somewhere else."""
    return name.startswith(("openai:", "http://", "https://"))


def check_model_name(value: Any, reading: ReadContext | None) -> Any:
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
    elif isinstance(reading, ReadContext) and (re.match(r"\.{0,2}/", name) or name.endswith(".gguf")):
        existing_path(name, reading, folders=True)
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


def _existing(value: Any, info: ValidationInfo, *, folders: bool) -> Any:
    reading = info.context
    return (
        existing_path(value, reading, folders=folders)
        if value is not None and isinstance(reading, ReadContext)
        else value
    )


def existing_path(value: Any, reading: ReadContext, *, folders: bool = False) -> Path:
    """The absolute path that `value` names, seen from the task file's folder. Refuses what does not exist.

    folders: whether a folder will do as well as a file.
    """
    expected = "a file or folder" if folders else "a file"
    if not isinstance(value, str | os.PathLike) or not os.fspath(value).strip():
        refuse(f"found {describe(value)}", expected=f"the name of {expected}", remedy="Write one name.")
    given = os.fspath(value)
    path = Path(os.path.abspath(reading.folder / given))  # noqa: PTH100 - resolve() would follow links out of the folder
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):
        is_file = is_folder = False
    if is_file or (is_folder and folders):
        return path
    name = relative_name(path, reading.folder)
    if is_folder:
        refuse(f'found the folder "{name}"', expected=expected, remedy="Name a file in it.")
    close = nearest_file(path.name, _beside(path))
    remedy = f"Create it or correct the name; names are relative to the folder of the {reading.file}."
    if close:
        remedy = f'Did you mean "{relative_name(path.with_name(close), reading.folder)}"?'
    return refuse(f'found no file "{name}"', expected=f"{expected} that exists", remedy=remedy)


def _beside(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.parent.iterdir())
    except (OSError, ValueError):
        return []


def refuse_unwritable(option: str, path: Path | None) -> None:
    """Before hours are spent on a result that cannot be written. Missing folders are made later."""
    if path is None:
        return
    existing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if path.is_dir():
        found = "found a folder"
    elif existing != path.absolute() and not existing.is_dir():
        found = f"found a file at {existing}"
    elif not os.access(existing, os.W_OK):
        found = f"{existing} is not writable"
    else:
        return
    raise InputError(found, where=f"{option} {path}", expected="a writable file", remedy="Name another.")


def relative_name(path: Path, folder: Path) -> str:
    """`path` as a file in `folder` would name it, with / between parts; absolute where they share only the root."""
    try:
        shared = os.path.commonpath([path, folder])
    except ValueError:  # on different drives
        return path.as_posix()
    if path.is_absolute() and shared == path.anchor and folder != Path(path.anchor):
        return path.as_posix()
    return Path(os.path.relpath(path, folder)).as_posix()


FilePath = Annotated[Path, BeforeValidator(partial(_existing, folders=False)), WithJsonSchema({"type": "string"})]
FileOrFolder = Annotated[Path, BeforeValidator(partial(_existing, folders=True)), WithJsonSchema({"type": "string"})]
