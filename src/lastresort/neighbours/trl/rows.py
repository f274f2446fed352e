"""Rows in the shapes that TRL reads: a prompt and what follows it, each a list of messages or a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from lastresort.data.segments import CHOSEN, REJECTED, SEGMENTS
from lastresort.errors import InputError
from lastresort.neighbours.exporting.differences import (
    answers_per_row,
    answers_trained,
    has_segments,
    no_counterpart,
    some_answers,
)
from lastresort.neighbours.exporting.job import Job, Row
from lastresort.neighbours.trl.rewards import EXPECTED


def trl_rows(job: Job, rows: Sequence[Row], framework: str) -> list[Row]:
    """Raises InputError for segments that are no prompt with one answer, and for rows of which some answers are not trained."""
    if rows and job.file.need == "completions" and not has_segments(job) and answers_trained(job) == "some":
        raise some_answers(framework)
    kwargs = dict(job.file.chat_template_kwargs)
    beside = {"chat_template_kwargs": kwargs} if kwargs and job.file.need in ("completions", "pairs") else {}
    completion = partial(_completion, several=learns_several(job))  # asked once, since it looks at all rows
    shape: dict[str, Callable[[Job, Row, str], Row]] = {
        "completions": completion,
        "pairs": _pair,
        "labels": _labelled,
        "groups": _prompt,
        "text": _text,
    }
    return [{**shape[job.file.need](job, row, framework), **beside} for row in rows]


def learns_several(job: Job) -> bool:
    """Whether rows have several answers that are all trained: TRL then masks by the chat template."""
    if job.file.need != "completions" or has_segments(job):
        return False
    return answers_trained(job) == "all" and answers_per_row(job) > 1


def _completion(job: Job, row: Row, framework: str, *, several: bool) -> Row:
    if SEGMENTS in row:
        prompt, answer = _split(row[SEGMENTS], framework)
        return {"prompt": prompt, "completion": answer}
    if several:
        return {"messages": row["messages"]}
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


def _pair(job: Job, row: Row, framework: str) -> Row:
    if SEGMENTS not in row:
        return dict(row)
    sides = {"chosen": row[CHOSEN], "rejected": row[REJECTED]}
    return {"prompt": _joined(row[SEGMENTS]), **{name: _joined(own) for name, own in sides.items()}}


def _labelled(job: Job, row: Row, framework: str) -> Row:
    if SEGMENTS in row:
        prompt, answer = _split(row[SEGMENTS], framework)
        return {"prompt": prompt, "completion": answer, "label": row["label"]}
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], "label": row["label"]}


def _prompt(job: Job, row: Row, framework: str) -> Row:
    """The right answer under a name that TRL hands to the rewards: `completion` it keeps for itself."""
    kept = {key: value for key, value in row.items() if key != "completion"}
    return {EXPECTED: row["completion"], **kept} if "completion" in row else kept


def _text(job: Job, row: Row, framework: str) -> Row:
    return dict(row)


def _split(segments: list[Row], framework: str) -> tuple[str, str]:
    first = next(number for number, segment in enumerate(segments) if segment.get("train"))
    if not all(segment.get("train") for segment in segments[first:]):
        raise _several(framework)
    return _joined(segments[:first]), _joined(segments[first:])


def _several(framework: str) -> InputError:
    return no_counterpart(
        framework,
        "segments of which several are trained with others in between",
        "Train it with `lastresort train`, or export it --to axolotl, whose input_output says it.",
    )


def _joined(segments: list[Row]) -> str:
    return "".join(segment["text"] for segment in segments)
