"""`dataset_info.json`: where a data set is and how its rows are written.

Where an entry names `columns`, every column that it leaves out is unset, also those that have a name by default; so it is
with `tags`. Source: data/parser.py of the released package (0.9.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from lastresort.errors import TaskError
from lastresort.foreign import read_json
from lastresort.interop.foreign_keys import ForeignKeys, at_home
from lastresort.spec.values import describe, listed, nearest

INFO = "dataset_info.json"
Formatting = Literal["alpaca", "sharegpt", "openai"]
_ELSEWHERE = {
    "ms_hub_url": "data sets are not fetched from ModelScope",
    "om_hub_url": "data sets are not fetched from openMind",
    "script_url": "no code of a data set is run",
    "cloud_file_name": "data sets are not fetched from S3 or GCS",
}
_KNOWN = (
    "file_name",
    "hf_hub_url",
    *_ELSEWHERE,
    "formatting",
    "ranking",
    "subset",
    "split",
    "folder",
    "num_samples",
    "columns",
    "tags",
)
_MEDIA = ("images", "videos", "audios")


@dataclass(frozen=True, slots=True)
class RowColumns:
    prompt: str | None = "instruction"
    query: str | None = "input"
    response: str | None = "output"
    history: str | None = None
    messages: str | None = "conversations"
    system: str | None = None
    tools: str | None = None
    images: str | None = None
    videos: str | None = None
    audios: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    kto_tag: str | None = None


@dataclass(frozen=True, slots=True)
class Tags:
    role_tag: str | None = "from"
    content_tag: str | None = "value"
    user_tag: str | None = "human"
    assistant_tag: str | None = "gpt"
    observation_tag: str | None = "observation"
    function_tag: str | None = "function_call"
    system_tag: str | None = "system"


Group = TypeVar("Group", RowColumns, Tags)


@dataclass(frozen=True, slots=True)
class HubDataSet:
    """A data set of the Hugging Face hub. folder: of its files, None for all."""

    name: str
    subset: str | None
    split: str
    folder: str | None


@dataclass(frozen=True, slots=True)
class DataSetEntry:
    """A data set. files: absolute, of one suffix; none where it is on the hub. num_samples: rows that are drawn from it,
    None for all."""

    name: str
    files: tuple[Path, ...]
    hub: HubDataSet | None = None
    formatting: Formatting = "alpaca"
    ranking: bool = False
    num_samples: int | None = None
    columns: RowColumns = RowColumns()
    tags: Tags = Tags()


@dataclass(frozen=True, slots=True)
class DataSetInfo:
    """The entries by name. name: the file, for errors. folders: where their files may lie, the first one first."""

    name: str
    entries: Mapping[str, Any]
    folders: tuple[Path, ...]


def read_info(given: ForeignKeys, path: Path) -> DataSetInfo:
    """What `dataset_dir` names: a folder, seen from the working directory or from the file's own, or the entries themselves.

    Raises TaskError where there is none, or it cannot be read.
    """
    value = given.any("dataset_dir", "data")
    here, own = Path.cwd(), path.absolute().parent
    if isinstance(value, Mapping):
        return DataSetInfo(f'{given.name}, key "dataset_dir"', value, (own, here))
    if not isinstance(value, str) or value.startswith("REMOTE:") or value == "ONLINE":
        given.refuse(
            "dataset_dir",
            describe(value),
            expected=f"a folder with a {INFO}, since data sets are not fetched from a hub",
            remedy="Download the data set, and name its file in one.",
        )
    tried = list(dict.fromkeys((here / at_home(value), own / at_home(value), own)))
    for folder in tried:
        if (folder / INFO).is_file():
            return DataSetInfo(str(folder / INFO), _read(folder / INFO), (folder,))
    return given.refuse(
        "dataset_dir",
        f"no {INFO} in {listed(tried, 'or')}",
        expected="the folder that holds it",
        remedy="Write dataset_dir: FOLDER.",
    )


def _read(path: Path) -> Mapping[str, Any]:
    return _mapping(read_json(path, raised=TaskError), str(path), "a mapping of data sets")


def entry_of(info: DataSetInfo, name: str) -> DataSetEntry:
    """The data set of this name. Raises TaskError if it is missing, elsewhere, or described in an unknown way."""
    if name not in info.entries:
        close = nearest(name, info.entries)
        remedy = f'Did you mean "{close}"?' if close else "Add it, or correct the name."
        raise TaskError(f'found no data set "{name}"', where=info.name, expected="its entry", remedy=remedy)
    where = f'{info.name}, "{name}"'
    value = _mapping(info.entries[name], where)
    _refuse_unknown(value, _KNOWN, where)
    entry = ForeignKeys(value, where)
    columns = _named(RowColumns(), entry, "columns")
    for media in _MEDIA:
        if getattr(columns, media):
            entry.refuse("columns", media, expected="text, since nothing else is trained", remedy="Leave it out.")
    hub = _hub(entry)
    return DataSetEntry(
        name,
        () if hub is not None else _files(entry, info.folders),
        hub,
        cast(Formatting, entry.choice("formatting", get_args(Formatting), "alpaca")),
        bool(entry.any("ranking", False)),
        entry.count("num_samples", 0, least=1) if "num_samples" in entry else None,
        columns,
        _named(Tags(), entry, "tags"),
    )


def _mapping(value: Any, where: str, expected: str = "a mapping") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TaskError(f"found {describe(value)}", where=where, expected=expected, remedy="Correct it.")
    return value


def _named(defaults: Group, entry: ForeignKeys, key: str) -> Group:
    value = entry.any(key)
    if value is None:
        return defaults
    names = tuple(field.name for field in fields(defaults))
    _refuse_unknown(_mapping(value, entry.where(key)), names, entry.where(key))
    wrong = [one for one in value.values() if one is not None and not isinstance(one, str)]
    if wrong:
        entry.refuse(key, describe(wrong[0]), expected="the names of columns or tags", remedy="Write names.")
    return replace(defaults, **{name: value.get(name) for name in names})


def _refuse_unknown(value: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in known:
            close = nearest(str(key), known)
            expected = close or listed(known, "or", most=len(known))
            remedy = f'Write "{close}".' if close else "Remove it."
            raise TaskError(f'found the unknown key "{key}"', where=where, expected=expected, remedy=remedy)


def _hub(entry: ForeignKeys) -> HubDataSet | None:
    """Where the hub is named it goes before a file, as there; a file has no subset, folder or split of its own."""
    subset, folder, split = (entry.text(key) if entry.any(key) else None for key in ("subset", "folder", "split"))
    name = entry.text("hf_hub_url")
    if name is not None:
        return HubDataSet(name, subset, split or "train", folder)
    for key in ("subset", "folder", "split"):
        if entry.any(key) not in (None, "", "train"):
            entry.refuse(key, f'"{entry.any(key)}"', expected="a file, which has none", remedy="Remove it.")
    return None


def _files(entry: ForeignKeys, folders: tuple[Path, ...]) -> tuple[Path, ...]:
    for key, why in _ELSEWHERE.items():
        if key in entry:
            remedy = "Download the data set, and write file_name: FILE in place of it."
            entry.refuse(key, f'"{entry.any(key)}"', expected=f"file_name, since {why}", remedy=remedy)
    name = entry.text("file_name")
    if name is None:
        entry.refuse("file_name", "nothing", expected="the file of the data set", remedy="Write file_name: FILE.")
    for folder in folders:
        place = folder / at_home(name)
        if place.is_file():
            return (place.resolve(),)
        if place.is_dir():
            return _of_folder(place.resolve(), entry)
    expected = f"it in {listed(folders, 'or')}"
    return entry.refuse("file_name", f'no file "{name}"', expected=expected, remedy="Create it or correct the name.")


def _of_folder(folder: Path, entry: ForeignKeys) -> tuple[Path, ...]:
    files = tuple(sorted(file for file in folder.iterdir() if file.is_file()))
    suffixes = sorted({file.suffix for file in files})
    if len({suffix.replace(".jsonl", ".json") for suffix in suffixes}) != 1:
        found = f"files of {listed(suffixes)}" if files else "no file"
        entry.refuse("file_name", f"{found} in {folder}", expected="files of one kind", remedy="Sort them.")
    return files
