"""Rows of the rungs sft and full: the task's under its instruction, replay beside them, dev held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.errors import DataError
from lastresort.ladder.exported.source import Source
from lastresort.neighbours.exporting.job import Row
from lastresort.neighbours.exporting.rows import messages
from lastresort.rungs.replay_rows import noted_replay, replay_size
from lastresort.spec.sections import Sft
from lastresort.spec.tuning_sections import Full
from lastresort.synthesis.replay import Replay
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message


def supervised_rows(
    source: Source, rung: str
) -> tuple[tuple[Row, ...], tuple[Row, ...], tuple[str, ...], Mapping[str, Any]]:
    """Rows, rows held out, what cannot be said of them, and keys of the training file."""
    task, split = source.prepared.task, source.prepared.split
    section: Sft | Full = task.full if rung == "full" else task.sft
    too_long = frozenset((source.record.last("too_long") or {"train": ()})["train"])
    own = [example for example in split.train if example.id not in too_long]
    replay = _replay(source, len(own), _share(str(source.noted["candidate"]), section.replay))
    design = PromptDesign(task.about.strip())
    rows = (*_rows(design, own), *(_row(example.input, example.output) for example in replay.examples))
    source.refuse_other(len(rows))
    return rows, tuple(_rows(design, split.dev)), tuple(_notes(replay)), _start(source, rung)


def _rows(design: PromptDesign, examples: Sequence[Example]) -> list[Row]:
    return [_row(compose(design, example.input, ()), example.output) for example in examples]


def _row(turns: Sequence[Message], answer: str) -> Row:
    return {"messages": messages([*turns, Message("assistant", answer)])}


def _share(run_name: str, share: float) -> float:
    """A repair with more replay says so in its name."""
    told = run_name.partition("replay")[2].partition("-")[0]
    return float(told) / 100 if told else share


def _replay(source: Source, rows: int, share: float) -> Replay:
    size = replay_size(rows, share)
    if not size:
        return Replay()
    found = noted_replay(source.record, size)
    if found is None:
        raise DataError(
            f"the record does not hold the {size} rows of replay",
            where=str(source.run),
            expected="those of the training",
        )
    return found


def _notes(replay: Replay) -> list[str]:
    if not replay.examples:
        return []
    cut = sum(not end for end in replay.ends)
    found = [f"The last {len(replay.examples)} rows are replay: general requests with the base model's own answers."]
    if cut:
        found.append(f"{cut} answers of replay were cut: here their end token was not trained, there it is.")
    return found


def _start(source: Source, rung: str) -> Mapping[str, Any]:
    """Full training may start from a base that has read the task's documents first."""
    pretrained = source.run / "models" / "pretrained"
    if rung != "full" or source.record.last("pretrained", rung) is None or not pretrained.is_dir():
        return {}
    return {"model": str(pretrained.resolve())}
