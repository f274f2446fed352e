"""The task file, or the training file, as YAML: plain values, and the line of each key.

Narrower than PyYAML's YAML 1.1, so that a label stays what its author wrote: `yes`, `no`, `on`, `off`, dates, 12:30 and
010 are text. Repeated keys, aliases, tags and keys that are not text are refused. Whatever yaml.safe_dump writes of
text, numbers, true, false, lists and mappings is read back as it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn

import yaml

from lastresort.errors import TaskError
from lastresort.foreign import SETTINGS, CountingLoader, MiB, TooManyValues, lone_surrogate, read_content
from lastresort.spec.values import Key, describe, dotted, nearest_file, shortened
from lastresort.types import Json, JsonObject


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is meant to be, as errors speak of it. least: what to write into an empty one. line: one of its lines."""

    noun: str
    holds: str
    least: str
    line: str


DATA_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})
TASK = FileKind("task file", "a task", "Write at least task, about, examples, score and bar.", "bar: 0.85")
_BINARY_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a zip archive", b"\x1f\x8b": "gzip"}


def read_text(path: Path, kind: FileKind = TASK) -> str:
    """The file's text without its byte order mark. Raises TaskError where it holds no text, and says what it holds."""
    name = str(path)
    try:
        _refuse_other_than_file(path, name, kind)
        data = read_content(path, raised=TaskError)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TaskError(
            f"found a file that cannot be read ({reason})", where=name, remedy="Check its name and its permissions."
        ) from None
    binary = next((what for mark, what in _BINARY_MARKS.items() if data.startswith(mark)), None)
    if binary or b"\0" in data:
        raise TaskError(
            f"found {binary or 'binary data'}", where=name, expected="YAML in UTF-8", remedy="Save it as UTF-8 text."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"found a byte (0x{data[error.start]:02x}) that is not UTF-8",
            where=f"{name}, line {data.count(bytes([10]), 0, error.start) + 1}",
            expected="YAML in UTF-8",
            remedy="Save the file as UTF-8.",
        ) from None
    if not text.strip():
        raise TaskError(
            "found an empty file",
            where=name,
            expected=kind.holds,
            remedy=kind.least,
        )
    return text


def _refuse_other_than_file(path: Path, name: str, kind: FileKind) -> None:
    if path.is_dir():
        word, inside = kind.noun.split()[0], sorted(p.name for p in path.glob("*.y*ml"))
        likely = nearest_file(f"{word}.yaml", inside) or (inside[0] if len(inside) == 1 else None)
        hint = f'Name the file: "{path / likely}".' if likely else f"Name a {kind.noun}, such as {word}.yaml."
        raise TaskError("found a folder", where=name, expected=f"a {kind.noun}", remedy=hint)
    if not path.exists():
        others = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        close = nearest_file(path.name, others) or (others[0] if len(others) == 1 else None)
        hint = f'Did you mean "{path.parent / close}"?' if close else "Check the name."
        raise TaskError("found no such file", where=name, expected=f"a {kind.noun}", remedy=hint)
    if not path.is_file():
        raise TaskError(
            "found something that is not a file", where=name, expected=f"a {kind.noun}", remedy="Name a file."
        )
    size = path.stat().st_size
    if size > SETTINGS:
        raise TaskError(
            f"found {size / MiB:.0f} MiB",
            where=name,
            expected=f"a {kind.noun} of a few kilobytes",
            remedy=f"Name the {kind.noun}, not the data.",
        )


@dataclass(frozen=True)
class YamlDocument:
    """name: the file as its user named it. lines: 1-based line of each key. overridden: keys that came from outside."""

    name: str
    values: JsonObject
    lines: dict[Key, int] = field(default_factory=dict)
    overridden: frozenset[Key] = frozenset()

    def where(self, key: Key) -> str:
        """`task.yaml, line 3, key "split.seed"`; without a line where the key is not in the file."""
        if any(key[: len(override)] == override for override in self.overridden):
            return f'{self.name}, key "{dotted(key)}" (from --set)'
        known = next((self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines), None)
        line = f", line {known}" if known is not None else ""
        return f'{self.name}{line}, key "{dotted(key)}"' if key else f"{self.name}{line}"


def read_document(path: Path, kind: FileKind = TASK) -> YamlDocument:
    """Read one task file, or a file of another kind. Raises TaskError for all that is not a mapping in UTF-8 YAML."""
    name = str(path)
    if kind is TASK and path.suffix.lower() in DATA_SUFFIXES and path.is_file():
        raise TaskError(
            "found a data file",
            where=name,
            expected="a task file",
            remedy=f"`lastresort init {quote(name)}` drafts one.",
        )
    return parse_document(read_text(path, kind), name, kind)


def parse_document(text: str, name: str, kind: FileKind = TASK) -> YamlDocument:
    """As `read_document`, of a text that stands in no file yet. name: what errors call it."""
    return document_of(compose_document(text, name, kind), name)


def document_of(node: yaml.MappingNode, name: str) -> YamlDocument:
    lines: dict[Key, int] = {}
    return YamlDocument(name, _Walk(name, lines).value(node, ()), lines)


def compose_document(text: str, name: str, kind: FileKind = TASK) -> yaml.MappingNode:
    """The nodes of a text, with where each stands in it. Raises TaskError for all that is not a mapping in YAML."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except TooManyValues as error:
        where = f"{name}, line {error.line}"
        raise TaskError(f"found {error.reason}", where=where, expected=kind.holds, remedy="Write less.") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(name, error, kind) from None
    except yaml.reader.ReaderError as error:
        raise TaskError(
            f"found the control character #x{error.character:04x}",
            where=f"{name}, line {text.count(chr(10), 0, error.position) + 1}",
            expected="text",
            remedy="Remove it.",
        ) from None
    except RecursionError:
        raise TaskError("found brackets nested too deeply", where=name, remedy="Write it flat.") from None
    if node is None or node.value in ("", []):
        raise TaskError(
            "found no keys",
            where=name,
            expected=kind.holds,
            remedy=kind.least,
        )
    if not isinstance(node, yaml.MappingNode):
        held = "a list" if isinstance(node, yaml.SequenceNode) else f"text ({shortened(node.value)})"
        raise TaskError(
            f"found {held}",
            where=name,
            expected=f"keys with values, such as `{kind.line}`",
            remedy=f"Name the {kind.noun}, not the data, and write one key a line.",
        )
    return node


def read_value(text: str, name: str) -> Any:
    """A value written as in a task file. name: where it comes from. Raises TaskError if it is not YAML."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "brackets nested too deeply"
        raise TaskError(
            f"found a value that cannot be read ({problem})",
            where=name,
            expected="a value as in the task file",
            remedy="Quote it as the file would: KEY='\"a: b\"'.",
        ) from None
    return None if node is None else _Walk(name, {}).value(node, ())


def with_overrides(document: YamlDocument, overrides: Mapping[str, Any]) -> YamlDocument:
    """The document with dotted keys set from outside, such as {"split.seed": 3}; the values are not checked here."""
    values, changed = plain(document.values), set(document.overridden)
    for name, value in overrides.items():
        key = tuple(name.split("."))
        if not all(key):
            raise TaskError(
                f"found the key {name!r} in --set",
                where=document.name,
                expected="names joined by dots",
                remedy='Write for instance "split.seed".',
            )
        changed.add(key)
        inner = values
        for depth, part in enumerate(key[:-1], 1):
            if inner.get(part) is None:
                inner[part] = {}
            inner = inner[part]
            if not isinstance(inner, dict):
                raise TaskError(
                    f"found {describe(inner)} at {dotted(key[:depth])!r}",
                    where=f'{document.name}, key "{name}" (from --set)',
                    expected="a key with keys below it",
                    remedy=f'Set "{dotted(key[:depth])}" as a whole.',
                )
        inner[key[-1]] = plain(value)
    return replace(document, values=values, overridden=frozenset(changed))


class _Loader(CountingLoader):
    """Composes nodes only; `_Walk` makes values of them."""

    yaml_implicit_resolvers: JsonObject = {}  # noqa: RUF012 - PyYAML reads this attribute of the class

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"the alias *{event.anchor}", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?\Z")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:[Tt]rue|TRUE|[Ff]alse|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))

_SCALARS: dict[str, tuple[re.Pattern[str], Callable[[str], Json]]] = {
    "null": (re.compile(r".*\Z"), lambda text: None),
    "bool": (re.compile(r"(?i:true|false)\Z"), lambda text: text.lower() == "true"),
    "int": (_INTEGER, int),
    "float": (_FLOAT, float),
    "str": (re.compile(r"(?s:.*)\Z"), str),
}


@dataclass(frozen=True)
class _Walk:
    """Nodes to values. lines is filled on the way."""

    name: str
    lines: dict[Key, int]

    def value(self, node: yaml.Node, key: Key) -> Any:
        self.lines.setdefault(key, node.start_mark.line + 1)
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.MappingNode) and tag == "map":
            return self.mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and tag == "seq":
            return [self.value(child, (*key, index)) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and tag in _SCALARS:
            if lone_surrogate(node.value) is not None:
                self._refuse(
                    node, key, f"half of a surrogate pair ({lone_surrogate(node.value)})", "text", "Remove it."
                )
            pattern, convert = _SCALARS[tag]
            if pattern.match(node.value):
                return convert(node.value)
        return self._refuse(node, key, f"the tag {node.tag!r}", "a plain value", "Remove the tag.")

    def mapping(self, node: yaml.MappingNode, key: Key) -> JsonObject:
        values: JsonObject = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode) or name_node.tag != "tag:yaml.org,2002:str":
                what = getattr(name_node, "value", "")
                shown = what if isinstance(what, str) else "a list or mapping"
                self._refuse(name_node, key, f"the key {shown or 'nothing'}", "text as a key", "Put it in quotes.")
            name = name_node.value
            inner = (*key, name)
            line = name_node.start_mark.line + 1
            if name in values:
                before = self.lines[inner]
                self.lines[inner] = line
                self._refuse(
                    name_node, inner, f"the key a second time (first on line {before})", "it once", "Remove one."
                )
            self.lines[inner] = line
            values[name] = self.value(value_node, inner)
        return values

    def _refuse(self, node: yaml.Node, key: Key, found: str, expected: str, remedy: str) -> NoReturn:
        place = f', key "{dotted(key)}"' if key else ""
        where = f"{self.name}, line {node.start_mark.line + 1}{place}"
        raise TaskError(f"found {found}", where=where, expected=expected, remedy=remedy)


def _syntax_error(name: str, error: yaml.MarkedYAMLError, kind: FileKind) -> TaskError:
    mark = error.problem_mark or error.context_mark
    where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
    problem = error.problem or "text"
    if problem.startswith("the alias"):
        return TaskError(f"found {problem}", where=where, expected="plain values", remedy="Write the value out.")
    if isinstance(error, yaml.composer.ComposerError):
        return TaskError(
            "found a second document",
            where=where,
            expected=f"one {kind.holds.removeprefix('a ')} a file",
            remedy="Remove the line ---.",
        )
    remedy = 'Indent with spaces, and quote text that holds ": ", " #", brackets or quotes.'
    return TaskError(
        f"found text that is not YAML ({problem})", where=where, expected="`key: value` lines", remedy=remedy
    )


def plain(value: Any) -> Any:
    """A deep copy in which tuples are lists, paths are text, and numbers and arrays of other libraries Python's own."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if hasattr(value, "tolist") and not isinstance(value, type):  # of numpy, torch or pandas
        own = value.tolist()
        return own if type(own) is type(value) else plain(own)
    return os.fspath(value) if isinstance(value, os.PathLike) else value
