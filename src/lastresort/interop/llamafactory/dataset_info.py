"""`dataset_info.json`: where a data set lies and how its rows are written.

Where an entry names `columns`, every column that it leaves out is unset, also those that have a name by default; so it is
with `tags`. Source: data/parser.py of the released package (0.9.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from lastresort.data.formats.rows import NotJson, parse_json
from lastresort.errors import TaskError
from lastresort.interop.given import ForeignKeys
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
class Columns:
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


Group = TypeVar("Group", Columns, Tags)


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
    columns: Columns = Columns()
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
    tried = list(dict.fromkeys((here / Path(value).expanduser(), own / Path(value).expanduser(), own)))
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
    try:
        found = parse_json(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, NotJson) as error:
        raise TaskError(f"found {error}", where=str(path), expected="JSON in UTF-8", remedy="Correct it.") from error
    if not isinstance(found, Mapping):
        raise TaskError(
            f"found {describe(found)}", where=str(path), expected="a mapping of data sets", remedy="Correct it."
        )
    return found


def entry_of(info: DataSetInfo, name: str) -> DataSetEntry:
    """The data set of this name. Raises TaskError where it is not there, lies elsewhere, or is written in a way that is unknown."""
    if name not in info.entries:
        close = nearest(name, info.entries)
        remedy = f'Did you mean "{close}"?' if close else "Add it, or correct the name."
        raise TaskError(f'found no data set "{name}"', where=info.name, expected="its entry", remedy=remedy)
    value, where = info.entries[name], f'{info.name}, "{name}"'
    if not isinstance(value, Mapping):
        raise TaskError(f"found {describe(value)}", where=where, expected="a mapping", remedy="Correct it.")
    _refuse_unknown(value, _KNOWN, where)
    formatting = value.get("formatting", "alpaca")
    if formatting not in get_args(Formatting):
        options = listed(get_args(Formatting), "or")
        raise TaskError(f'found the formatting "{formatting}"', where=where, expected=options, remedy="Correct it.")
    columns = _named(Columns(), value.get("columns"), f"{where}, columns")
    for media in _MEDIA:
        if getattr(columns, media):
            raise TaskError(
                f"found {media}",
                where=f"{where}, columns",
                expected="text, since nothing else is trained",
                remedy="Leave it out.",
            )
    hub = _hub(value, where)
    return DataSetEntry(
        name,
        () if hub is not None else _files(value, info.folders, where),
        hub,
        cast(Formatting, formatting),
        bool(value.get("ranking", False)),
        _samples(value.get("num_samples"), where),
        columns,
        _named(Tags(), value.get("tags"), f"{where}, tags"),
    )


def _named(defaults: Group, value: Any, where: str) -> Group:
    if value is None:
        return defaults
    names = tuple(field.name for field in fields(defaults))
    if not isinstance(value, Mapping):
        raise TaskError(f"found {describe(value)}", where=where, expected="a mapping", remedy="Correct it.")
    _refuse_unknown(value, names, where)
    return replace(defaults, **{name: value.get(name) for name in names})


def _refuse_unknown(value: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in known:
            close = nearest(str(key), known)
            expected = close or listed(known, "or", most=len(known))
            remedy = f'Write "{close}".' if close else "Remove it."
            raise TaskError(f'found the unknown key "{key}"', where=where, expected=expected, remedy=remedy)


def _samples(value: Any, where: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise TaskError(
        f"found {describe(value)} as num_samples", where=where, expected="a count of rows", remedy="Correct it."
    )


def _hub(value: Mapping[str, Any], where: str) -> HubDataSet | None:
    """Where the hub is named it goes before a file, as there; a file has no subset, folder or split of its own."""
    subset, split, folder = value.get("subset"), str(value.get("split") or "train"), value.get("folder")
    name = value.get("hf_hub_url")
    if name is not None:
        if not isinstance(name, str) or not name:
            raise TaskError(
                f"found {describe(name)} as hf_hub_url", where=where, expected="org/name", remedy="Correct it."
            )
        return HubDataSet(name, subset, split, folder)
    if split != "train" or subset or folder:
        beside = next(key for key in ("subset", "folder", "split") if value.get(key))
        raise TaskError(
            f'found {beside}: "{value[beside]}"', where=where, expected="a file, which has none", remedy="Remove it."
        )
    return None


def _files(value: Mapping[str, Any], folders: tuple[Path, ...], where: str) -> tuple[Path, ...]:
    name = value.get("file_name")
    elsewhere = next((key for key in _ELSEWHERE if key in value), None)
    # A hub's name goes before a file's there.
    if elsewhere is not None or not isinstance(name, str) or not name:
        found = f'found {elsewhere}: "{value[elsewhere]}"' if elsewhere else "found no file_name"
        why = f", since {_ELSEWHERE[elsewhere]}" if elsewhere else ""
        raise TaskError(
            found,
            where=where,
            expected=f"file_name{why}",
            remedy="Download the data set, and write file_name: FILE in place of it.",
        )
    for folder in folders:
        place = folder / Path(name).expanduser()
        if place.is_file():
            return (place.resolve(),)
        if place.is_dir():
            return _of_folder(place.resolve(), where)
    raise TaskError(
        f'found no file "{name}"',
        where=where,
        expected=f"it in {listed(folders, 'or')}",
        remedy="Create it or correct the name.",
    )


def _of_folder(folder: Path, where: str) -> tuple[Path, ...]:
    files = tuple(sorted(file for file in folder.iterdir() if file.is_file()))
    suffixes = sorted({file.suffix for file in files})
    if len({suffix.replace(".jsonl", ".json") for suffix in suffixes}) != 1:
        found = f"files of {listed(suffixes)}" if files else "no file"
        raise TaskError(f"found {found} in {folder}", where=where, expected="files of one kind", remedy="Sort them.")
    return files
