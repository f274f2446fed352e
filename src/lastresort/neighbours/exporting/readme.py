"""README.md of an exported training: what it is, what differs, and the commands."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort import __version__
from lastresort.neighbours.exporting.job import Job, Written

TITLES = {
    "axolotl": "Axolotl",
    "llamafactory": "LLaMA-Factory",
    "trl": "TRL",
    "unsloth": "Unsloth",
    "skypilot": "SkyPilot",
}


def readme(job: Job, to: str, written: Written, notes: Sequence[str]) -> str:
    rows = f"{counted(len(job.train))} to train on" + (f", {len(job.held_out)} held out" if job.held_out else "")
    title = TITLES[to]
    differs = "\n".join(f"- {note}" for note in notes) or "- Nothing that is known of."
    return f"""# {job.name} for {title}

`{job.file.objective}` on `{job.base.name}`, {rows}; written by lastresort {__version__}. Run it in this folder: paths are
relative to it.{"".join(f" {told}" for told in written.told)}

## Run

```sh
{_lines(written.install)}
{_lines(written.commands)}
```

## What differs

{differs}
- The order of rows and the fresh adapter are drawn from the same seed by another program: losses agree in their course, not in
  every digit.
"""


def counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def header(job: Job, title: str, notes: Sequence[str], files: str) -> list[str]:
    """The comment at the top of a configuration, a line each, without its comment marks. notes: of the framework's writer."""
    notes = tuple(dict.fromkeys((*job.notes, *notes)))
    lines = [f"{job.name}: {job.file.objective} for {title}, written by lastresort {__version__}. {files}"]
    if notes:
        lines += ["", "What cannot be said here, or means something else:", *(f"- {note}" for note in notes)]
    return lines


def commented(lines: Sequence[str], width: int = 116) -> str:
    """Lines as comments of YAML or Python, broken at words."""
    from textwrap import wrap

    found: list[str] = []
    for line in lines:
        rest = "  " if line.startswith("- ") else ""
        found += wrap(line, width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False) or [""]
    return "".join(f"# {line}".rstrip() + "\n" for line in found)
