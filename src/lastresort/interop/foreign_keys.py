"""The keys of another framework's file, read one by one, and what the file becomes.

It becomes keys of our training file, rows in our shapes, and remarks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from pydantic_core import PydanticCustomError

from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.foreign import reason_of
from lastresort.libraries import quiet_logger
from lastresort.spec.values import NumberBounds, describe, listed, nearest, shortened
from lastresort.types import JsonObject

Framework = Literal["axolotl", "llamafactory"]
Kind = Literal["ignored", "differs", "trap"]


@dataclass(frozen=True, slots=True)
class ImportRemark:
    """Something about the file that its reader must know.

    key: of that file, dotted. kind: ignored (the key has no effect here), differs (honoured, but differs in a detail), trap
    (honoured, but probably does not do what was intended).
    """

    key: str
    kind: Kind
    sentence: str


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows in our own shapes, read when they are wanted.

    name: for errors and the record. rows(): dictionaries in a shape that `lastresort train` reads, each with its
    place ("FILE, row 3").
    """

    name: str
    rows: Callable[[], Iterator[tuple[str, JsonObject]]]


@dataclass(frozen=True, slots=True)
class ImportedTraining:
    """document: keys of our training file (docs/train.md), without `data`. eval_share: a share or a count of the rows to hold
    out, eval_key: where the foreign file says so. rendered_by: the key and value of the foreign file by which rows become text
    ("template: llama3"), None where they stay turns.
    """

    framework: Framework
    document: JsonObject
    train: tuple[RowSource, ...]
    held_out: tuple[RowSource, ...]
    eval_share: float | int | None
    remarks: tuple[ImportRemark, ...]
    rendered_by: str | None = None
    eval_key: str = ""


def hub_rows(
    path: str,
    *,
    where: str,
    name: str | None,
    split: str,
    revision: str | None,
    data_files: Sequence[str] = (),
    data_dir: str | None = None,
) -> list[RawRow]:
    """The rows of one split of data on the Hub. where: the file and key that name it.

    Raises PrerequisiteError without `datasets`, InfrastructureError where the Hub cannot be reached, DataError where the data
    cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise PrerequisiteError(
            f'"{path}" is not on this machine, and the package datasets is not installed',
            where=where,
            remedy="Run: pip install datasets, or name a local file.",
        ) from error
    wanted: JsonObject = {"name": name, "split": split, "revision": revision}
    if data_files:
        wanted["data_files"] = list(data_files)
    if data_dir is not None:
        wanted["data_dir"] = data_dir
    try:
        # The hub's client reports each of its attempts. Before version 4, data brought code.
        with quiet_logger("huggingface_hub"):
            found = datasets.load_dataset(path, trust_remote_code=False, **wanted)
    except ConnectionError as error:
        raise InfrastructureError(
            f'the hub cannot be reached and "{path}" is not in the local cache',
            where=where,
            remedy="Try again when online, or name a local file.",
        ) from error
    except Exception as error:  # the library's call alone
        raise DataError(
            f'"{path}" is not on this machine and cannot be loaded from the Hub ({reason_of(error)})',
            where=where,
            expected="a local file or folder, or a data set that can be reached",
            remedy="Download it, or correct its name.",
        ) from error
    return [RawRow(dict(row), number, f"{path}, row {number}") for number, row in enumerate(found, 1)]


_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


class ForeignKeys:
    """Reads a key at a time and remembers which, so that the keys nobody read can be named.

    name: the file, for errors. remarks: on its keys, in order. A null counts as not given. Every reader raises TaskError for a
    value of another type.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self.name = name
        self.remarks: list[ImportRemark] = []
        self._values = {key: value for key, value in values.items() if value is not None}
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def any(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return self._values.get(key, default)

    def text(self, key: str) -> str | None:
        value = self.any(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return None if value is None else value.strip()
        return self.refuse(key, describe(value), expected="text", remedy="Write a name.")

    def choice(self, key: str, options: Sequence[str], default: str) -> str:
        value = str(self.any(key, default)).strip()
        if value in options:
            return value
        close = nearest(value, options)
        remedy = f"Write {close}." if close else "Write one of them."
        return self.refuse(key, shortened(value), expected=listed(options, "or", most=len(options)), remedy=remedy)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.any(key, default)
        value = _WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value
        if isinstance(value, bool):
            return value
        return self.refuse(key, describe(value), expected="true or false", remedy="Write true or false.")

    def number(self, key: str, default: float, bounds: NumberBounds = NumberBounds()) -> float:  # noqa: B008 - frozen
        value = self.any(key, default)
        try:
            return bounds.check(value)
        except PydanticCustomError as error:
            detail = dict(error.context or {})
            found = str(detail["found"]).removeprefix("found ")
            return self.refuse(key, found, expected=str(detail["expected"]), remedy=str(detail["remedy"]))

    def count(self, key: str, default: int, least: int = 0) -> int:
        return int(self.number(key, default, NumberBounds(at_least=least, whole=True)))

    def names(self, key: str) -> list[str]:
        """Names as a list, or in one text between commas."""
        value = self.any(key, [])
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) and part.strip() for part in parts):
            self.refuse(key, describe(value), expected="names", remedy="Write them in a list, or between commas.")
        return [part.strip() for part in parts]

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.any(key, {})
        if not isinstance(value, Mapping):
            self.refuse(key, describe(value), expected="a mapping", remedy="Write it as NAME: VALUE lines.")
        return value

    def note_ignored(self, key: str, sentence: str) -> None:
        self.remarks.append(ImportRemark(key, "ignored", sentence))

    def note_difference(self, key: str, sentence: str) -> None:
        self.remarks.append(ImportRemark(key, "differs", sentence))

    def note_trap(self, key: str, sentence: str) -> None:
        self.remarks.append(ImportRemark(key, "trap", sentence))

    def refuse(self, key: str, found: str, *, expected: str, remedy: str = "Correct it.") -> NoReturn:
        raise TaskError(f"found {found}", where=self.where(key), expected=expected, remedy=remedy)

    def refuse_missing(
        self, key: str, table: KeyTable, *, found: str = "nothing", expected: str, remedy: str
    ) -> NoReturn:
        """Raise TaskError for a key that the file lacks, or for the key that is probably it, misspelt."""
        unknown = [name for name in self.unread() if not _named(table.known(), name)]
        if typo := nearest(key, unknown, likeness=0.8):
            self.refuse(typo, "an unknown key", expected=key, remedy=f'Write "{key}".')
        self.refuse(key, found, expected=expected, remedy=remedy)

    def where(self, key: str) -> str:
        return f'{self.name}, key "{key}"'

    def read_keys(self) -> frozenset[str]:
        """Every key that was read, whether or not the file has it."""
        return frozenset(self._read)

    def unread(self) -> JsonObject:
        """The keys with a value that were not read, in the file's order."""
        return {key: value for key, value in self._values.items() if key not in self._read}


NO_CLIPPING = 1e9
"""Our max_grad_norm for a file whose 0 clips nothing."""
PAGED_8BIT = "paged_adamw_8bit"
NO_REMOTE_CODE = "lastresort never runs a model's own code. A model that needs it is refused when it is loaded."
NOT_IN_4_BITS = (
    "The base is loaded in 16 bits: an adapter is trained further on the base it was trained on, and only adapters trained by "
    "lastresort record that it was in 4 bits."
)
_LORA_PLUS = "loraplus_lr_ratio"


@dataclass(frozen=True, slots=True)
class KeyTable:
    """A framework's keys, as its keys.yaml has them. A name that ends in `*` matches every key with that prefix.

    no_effect: what they decide -> keys that change no result. ignored: reason -> keys. refused: key -> reason. defaults: values
    that say what happens anyway.
    """

    honoured: tuple[str, ...]
    no_effect: Mapping[str, tuple[str, ...]]
    ignored: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str]
    defaults: Mapping[str, Any]

    def has_no_effect(self, key: str) -> bool:
        return any(_named(names, key) for names in self.no_effect.values())

    def known(self) -> tuple[str, ...]:
        groups = (*self.no_effect.values(), *self.ignored.values())
        return (*self.honoured, *chain(*groups), *self.refused)


def key_tables(framework: str) -> dict[str, KeyTable]:
    """The tables of interop/FRAMEWORK/keys.yaml, by the part of the file that they are of."""
    text = files(f"lastresort.interop.{framework}").joinpath("keys.yaml").read_text("utf-8")
    return {part: _key_table(groups) for part, groups in yaml.safe_load(text).items()}


def _key_table(groups: Mapping[str, Any]) -> KeyTable:
    def of(group: str) -> dict[str, tuple[str, ...]]:
        return {reason: tuple(names.split()) for reason, names in groups.get(group, {}).items()}

    refused = {key: reason for reason, keys in of("refused").items() for key in keys}
    honoured = tuple(groups.get("honoured", "").split())
    return KeyTable(honoured, of("no_effect"), of("ignored"), refused, groups.get("defaults", {}))


def _named(names: Sequence[str], key: str) -> bool:
    return any(key == name or (name.endswith("*") and key.startswith(name[:-1])) for name in names)


def note_unread(
    given: ForeignKeys, table: KeyTable, *, is_off: Callable[[str, Any], bool], no_effect: Callable[[str, Any], bool]
) -> list[str]:
    """Remark on the keys that nobody read: one remark for those without effect, one for each reason why keys are ignored.

    is_off: whether a value says what happens anyway, which needs no remark. Returns the keys that the table does not explain.
    """
    unread = given.unread()
    idle = [key for key, value in unread.items() if no_effect(key, value)]
    if idle:
        verb, names = "does" if len(idle) == 1 else "do", listed(idle, most=len(idle))
        given.note_difference(", ".join(idle), f"{names} {verb} not change the result; lastresort decides this itself.")
    left = [key for key, value in unread.items() if key not in idle and not is_off(key, value)]
    for reason, names_of in table.ignored.items():
        if found := [key for key in left if _named(names_of, key)]:
            verb, names = "is" if len(found) == 1 else "are", listed(found, most=len(found))
            given.note_ignored(", ".join(found), f"{names} {verb} ignored: {reason}.")
            left = [key for key in left if key not in found]
    return left


def clip_norm(given: ForeignKeys) -> float:
    return given.number("max_grad_norm", 1.0, NumberBounds(at_least=0)) or NO_CLIPPING


def note_steps_win(given: ForeignKeys, epochs_key: str) -> None:
    """For a file with max_steps above 0."""
    if epochs_key in given:
        steps, epochs = given.any("max_steps"), given.any(epochs_key)
        given.note_difference(
            epochs_key,
            f"max_steps: {steps} ends the training, there and here, whatever {epochs_key}: {epochs} says. epochs in the written "
            "file only repeats the data until then.",
        )


def few_bits(given: ForeignKeys, key: str, name: str, *, full: bool) -> str:
    """Our optimizer for an AdamW that keeps its state in few bits, but not paged. full: whether all weights are trained."""
    if full:
        given.note_difference(key, f"{name} keeps its state in few bits; here that is {PAGED_8BIT}.")
        return PAGED_8BIT
    given.note_difference(
        key, f"{name} keeps its state in few bits; an adapter's state is small, so torch's AdamW is used."
    )
    return "adamw"


def lora_plus(given: ForeignKeys, *, full: bool) -> JsonObject:
    """Our key for LoRA+, where the file sets it. full: whether all weights are trained."""
    ratio = given.number(_LORA_PLUS, 1.0, NumberBounds(at_least=1))
    if ratio == 1:
        return {}
    if full:
        given.refuse(
            _LORA_PLUS, f"{ratio:g} beside a training of all weights", expected="an adapter", remedy="Remove it."
        )
    return {_LORA_PLUS: ratio}


def note_kto_baseline(given: ForeignKeys) -> None:
    key = "gradient_accumulation_steps"
    if given.count(key, 1, least=1) > 1:
        given.note_difference(
            key, "KTO's baseline is formed over the whole batch of a step here, over each pass there."
        )


def lora_dropout(given: ForeignKeys, off: str | None) -> float:
    """off: the key and value with which the framework switches every dropout off, None for none."""
    dropout = given.number("lora_dropout", 0.0, NumberBounds(at_least=0, below=1))
    if dropout and off is not None:
        given.note_trap(
            "lora_dropout", f"There every dropout is off with {off}, so {dropout:g} had no effect. Here it is 0 too."
        )
        return 0.0
    return dropout


def quantized_base(adapter: Path) -> bool:
    """Whether the adapter was trained here on a base in 4 bits, which is then loaded so again."""
    from lastresort.models.quantized import read_quantized_base

    return read_quantized_base(adapter) is not None


def at_home(name: str) -> Path:
    """The path of this name, a tilde at its start replaced. Raises TaskError for the home of nobody."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise TaskError(
            f"found {shortened(name)}, the home of an unknown user", expected="a path", remedy="Write the whole path."
        ) from error


def existing_path(name: str, file: Path) -> Path | None:
    """The absolute path of what exists under this name, seen from the current folder or else from that of `file`."""
    for folder in (Path.cwd(), file.absolute().parent):
        path = Path(os.path.abspath(folder / at_home(name)))  # noqa: PTH100 - resolve() would follow links
        if os.path.exists(path):  # noqa: PTH110 - Path.exists() raises for names that are too long or hold a NUL
            return path
    return None


def output_path(name: str) -> Path:
    """The absolute path of what will be written under this name, seen from the current folder."""
    return Path(os.path.abspath(at_home(name)))  # noqa: PTH100
