"""What any neighbour's training file becomes: keys of our own training file, rows in our own shapes, and remarks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Framework = Literal["axolotl", "llamafactory"]
Kind = Literal["ignored", "differs", "trap"]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a neighbour's file that the reader must know.

    key: of that file, dotted. kind: ignored (a key that is not honoured), differs (honoured, with another meaning of
    detail), trap (honoured, and probably not what was meant).
    """

    key: str
    kind: Kind
    sentence: str


@dataclass(frozen=True, slots=True)
class Source:
    """Rows in our own shapes, read when they are wanted.

    name: for errors and the record. rows(): dictionaries in a shape that `lastresort train` reads, each beside its
    place ("FILE, row 3").
    """

    name: str
    rows: Callable[[], Iterator[tuple[str, dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Imported:
    """A neighbour's training in our words.

    document: keys of our training file (docs/train.md), without `data`. eval_share: a share or a count of the rows
    that are held out. rendered_by: the key and value of the neighbour's file by which rows become text ("template: llama3"),
    None where they stay turns.
    """

    framework: Framework
    document: dict[str, Any]
    train: tuple[Source, ...]
    held_out: tuple[Source, ...]
    eval_share: float | int | None
    remarks: tuple[Remark, ...]
    rendered_by: str | None = None
