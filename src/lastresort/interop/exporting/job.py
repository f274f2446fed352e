"""What an export exchanges: the training, the job of a framework's writer, the files it returns, and their README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from lastresort.interop.exporting import TARGETS
from lastresort.systems.files import TextDumper, as_yaml
from lastresort.train.settings import TrainingFile
from lastresort.types import AdapterChoice
from lastresort.version import __version__

Row = dict[str, Any]
EXPECTED = "expected"
"""The column of a row that holds the right answer for rewards."""


@dataclass(frozen=True, slots=True)
class ExportableTraining:
    """A training, whatever it was: that of a climb, or a training file's.

    name: for titles. document: keys of our training file without `data` and `output`, its paths absolute. train, held_out:
    rows as `rows.py` makes them, as they were trained. layers: short names of the layers that got adapters, () where only
    `adapter.target` says it. row_tokens: the longest row that was allowed, None where nobody looked. notes: sentences on what
    none of the frameworks can be told. rendered_by: what of another framework's file made text of the rows, where it did.
    """

    name: str
    document: Mapping[str, Any]
    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    layers: tuple[str, ...] = ()
    row_tokens: int | None = None
    notes: tuple[str, ...] = ()
    rendered_by: str | None = None


@dataclass(frozen=True, slots=True)
class ExportAdapter:
    """The adapter that is trained. layers: short names, or "all-linear". dropout: of its input."""

    kind: AdapterChoice
    r: int
    alpha: float
    dropout: float
    layers: tuple[str, ...] | str


@dataclass(frozen=True, slots=True)
class ExportBase:
    """The base model. name: what the files call it, a hub id or a path as seen from their folder. here: its folder on this machine,
    None where only the name is known. is_path: whether the name is one."""

    name: str
    here: Path | None
    is_path: bool


@dataclass(frozen=True, slots=True)
class ExportJob:
    """One training to be written. file: the training file in the folder that is written, beside whose rows train.jsonl and
    eval.jsonl it stands. adapter: None where all weights are trained. row_tokens: None for no limit. tokenizer: loads that of the
    base; raises PrerequisiteError where it is not here. rewards: names of the functions in rewards.py, in the order of `file`.
    notes: what is said of the training and its base, whatever framework it is written for. rendered_by: as of `ExportableTraining`.
    """

    name: str
    file: TrainingFile
    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    base: ExportBase
    adapter: ExportAdapter | None
    row_tokens: int | None
    tokenizer: Callable[[], Any]
    rewards: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rendered_by: str | None = None

    @property
    def in_4_bits(self) -> bool:
        """Whether the base is held in 4 bits below the adapter."""
        return self.adapter is not None and self.adapter.kind == "qlora"

    @property
    def starts_from_adapter(self) -> bool:
        return self.file.start_from is not None

    def option(self, name: str) -> Any:
        """Of the objective, its default where the file says nothing."""
        objective = self.file.settings.objective
        return {**objective.defaults(), **dict(objective.options)}[name]


@dataclass(frozen=True, slots=True)
class ExportFiles:
    """texts: name -> content of each file but the rows. train, held_out: rows in the shape that the framework reads. notes: what it
    cannot be told, or takes otherwise. install, commands: for the README. told: what was chosen for the user."""

    texts: Mapping[str, str]
    train: Sequence[Row]
    held_out: Sequence[Row]
    notes: tuple[str, ...]
    install: tuple[str, ...]
    commands: tuple[str, ...]
    told: tuple[str, ...] = ()


ASSUMED_TOKENS = 2048


def row_limit(job: ExportJob) -> tuple[int, tuple[str, ...]]:
    """Tokens, and a sentence where they are assumed."""
    if job.row_tokens is not None:
        return job.row_tokens, ()
    return ASSUMED_TOKENS, (
        f"The longest row is assumed to have {ASSUMED_TOKENS:,} tokens: neither max_tokens nor the base, which is not on this "
        "machine, says it.",
    )


def readme(job: ExportJob, to: str, written: ExportFiles, notes: Sequence[str]) -> str:
    rows = f"{counted(len(job.train))} to train on" + (f", {len(job.held_out)} held out" if job.held_out else "")
    title = TARGETS[to].title
    differs = "\n".join(f"- {one_line(note)}" for note in notes) or "- Nothing that is known of."
    return f"""# {one_line(job.name)} for {title}

`{job.file.objective}` on `{one_line(job.base.name)}`, {rows}; written by lastresort {__version__}. Run it in this folder: paths are
relative to it.{"".join(f" {told}" for told in written.told)}

## Run

```sh
{chr(10).join(written.install)}
{chr(10).join(written.commands)}
```

## What differs

{differs}
- The order of rows and the fresh adapter are drawn from the same seed by another program: losses agree in their course, not in
  every digit.
"""


def one_line(text: str) -> str:
    """The text with what could end a line, or is no character, as spaces: all that follows stays in the comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def header(job: ExportJob, title: str, notes: Sequence[str], files: str) -> list[str]:
    """The comment at the top of a configuration, a line each, without its comment marks. notes: of the framework's writer."""
    notes = tuple(dict.fromkeys((*job.notes, *notes)))
    lines = [f"{job.name}: {job.file.objective} for {title}, written by lastresort {__version__}. {files}"]
    if notes:
        lines += ["", "What cannot be said here, or means something else:", *(f"- {note}" for note in notes)]
    return lines


def yaml_file(top: Sequence[str], config: Mapping[str, Any], dumper: type[yaml.SafeDumper] = TextDumper) -> str:
    """A configuration below its comment."""
    return commented(top) + as_yaml(config, dumper)


def commented(lines: Sequence[str]) -> str:
    """Lines as comments of YAML or Python, broken at words."""
    found: list[str] = []
    for line in map(one_line, lines):
        rest = "  " if line.startswith("- ") else ""
        found += wrap(line, 116, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False) or [""]
    return "".join(f"# {line}".rstrip() + "\n" for line in found)
