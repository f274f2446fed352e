"""Rows of lm-eval's sample log -> scores of items. A row is a document under a filter, in memory as in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.errors import DataError
from lastresort.evals.logs.lm_eval_results import PREFIX
from lastresort.evals.logs.logged import (
    LONGEST,
    Logged,
    LoggedItem,
    fingerprint,
    number_of,
    refuse_outside,
    refuse_repeated,
)

Row = Mapping[str, Any]

_NO_METRICS = frozenset(
    "doc_id doc target arguments resps filtered_resps filter metrics doc_hash prompt_hash target_hash".split()
)
# Which way is better, where no results file says so: of the metrics that lm-eval brings.
HIGHER = frozenset(
    "acc acc_norm acc_bytes acc_mutual_info exact_match f1 em bleu chrf rouge1 rouge2 rougeL rougeLsum likelihood mcc contains "
    "prompt_level_strict_acc prompt_level_loose_acc".split()
)
LOWER = frozenset("perplexity word_perplexity byte_perplexity bits_per_byte brier_score ter wer".split())


@dataclass(frozen=True, slots=True)
class Metric:
    """higher: whether more of it is better; otherwise it is turned round, 1 - value."""

    name: str
    higher: bool = True

    @property
    def told(self) -> str:
        return self.name if self.higher else f"1 - {self.name}"


def log_of(task: str, rows: Sequence[Row], higher: Mapping[str, bool], where: str) -> Logged:
    """All rows of a task, at least one; the metric and the filter that stand first count, and the others are named in a note.

    higher: as for `metric_of`, whose errors it raises, and those of `item_of` and `refuse_repeated`.
    """
    kept = first_filter(rows)
    metric = metric_of(task, kept[0], higher, where)
    items = tuple(item_of(task, row, metric, where) for row in kept)
    refuse_repeated(task, (item.id for item in items), where)
    told = f"{metric.told}, filter {kept[0].get('filter')}" if len(kept) < len(rows) else metric.told
    others = [name for name in _metrics(kept[0]) if name != metric.name]
    others += list(
        dict.fromkeys(f"filter {row.get('filter')}" for row in rows if row.get("filter") != kept[0].get("filter"))
    )
    note = f"{PREFIX}{task} is judged by {told}; in the log are also {', '.join(others)}."
    return Logged(f"{PREFIX}{task}", told, items, where, (note,) if others else ())


def metric_of(task: str, row: Row, higher: Mapping[str, bool], where: str) -> Metric:
    """The first metric of a task of which more is better; where there is none, the first, turned round.

    higher: by metric, as lm-eval's results say; what they do not say is known of lm-eval's own metrics.
    Raises DataError where a row has no metric, or one of which nothing is known stands before all that would do.
    """
    names = _metrics(row)
    known = {name: _direction(name, higher) for name in names}
    for name in names:
        if known[name] is None:
            raise DataError(
                f'whether more of the metric "{name}" of {task} is better is not said',
                where=where,
                expected="the results_*.json of the same evaluation beside the samples",
                remedy="Put it there.",
            )
        if known[name]:
            return Metric(name)
    if not names:
        raise DataError(
            f"found no metric in the samples of {task}",
            where=where,
            expected="samples with their scores",
            remedy="Evaluate with --log_samples, and without --predict_only.",
        )
    return Metric(names[0], higher=False)


def _metrics(row: Row) -> list[str]:
    """In the order of the task's own list."""
    return [str(name) for name in row.get("metrics") or [key for key in row if key not in _NO_METRICS] if name in row]


def _direction(name: str, higher: Mapping[str, bool]) -> bool | None:
    if name in higher:
        return bool(higher[name])
    return True if name in HIGHER else False if name in LOWER else None


def item_of(task: str, row: Row, metric: Metric, where: str, *, stratum: str = "") -> LoggedItem:
    """Raises DataError where the value of the metric is no number from 0 to 1."""
    value = number_of(row.get(metric.name))
    refuse_outside(task, metric.name, [value], where)
    assert value is not None
    asked = requests_of(row)
    return LoggedItem(
        id=str(row["doc_id"]),
        score=value if metric.higher else 1 - value,
        same=_same(row, asked),
        asked=_question(asked),
        answered=_answer(row, asked)[:LONGEST],
        stratum=stratum,
        chance=_chance(metric, asked),
    )


def first_filter(rows: Sequence[Row]) -> list[Row]:
    """Where answers are read in several ways (filters), each document has a row for each: those of the first way."""
    if not rows:
        return []
    first = rows[0].get("filter")
    return [row for row in rows if row.get("filter") == first]


def requests_of(row: Row) -> list[list[Any]]:
    """What was asked: pairs of a context and a continuation, or of a context and settings. In files they are numbered objects."""
    told = row.get("arguments") or []
    if isinstance(told, Mapping):
        return [list(one.values()) if isinstance(one, Mapping) else [one] for one in told.values()]
    return [list(one) if isinstance(one, list | tuple) else [one] for one in told]


def _same(row: Row, asked: list[list[Any]]) -> dict[str, str]:
    told = {part: str(row[key]) for part, key in (("document", "doc_hash"), ("target", "target_hash")) if row.get(key)}
    told.setdefault("document", fingerprint(row.get("doc")))
    if asked:
        told["prompt"] = fingerprint(asked)
    elif row.get("prompt_hash"):
        told["prompt"] = str(row["prompt_hash"])
    return told


def _chance(metric: Metric, asked: list[list[Any]]) -> float | None:
    """Of an accuracy among choices 1 / their number; of anything else the log does not tell."""
    choices = [one for one in asked if len(one) > 1 and isinstance(one[1], str)]
    # Each choice may stand there once more, without its question.
    conditional = [one for one in choices if one[0]] or choices
    among = metric.name.startswith("acc") and metric.higher and len(conditional) > 1
    return 1 / len(conditional) if among else None


def _question(asked: list[list[Any]]) -> str:
    """The end of the first context, where the question stands behind solved examples."""
    return str(asked[0][0])[-LONGEST:] if asked and asked[0] else ""


def _answer(row: Row, asked: list[list[Any]]) -> str:
    """The likeliest of several choices, else what was said."""
    replies = row.get("filtered_resps") or []
    logps = [_logp(reply) for reply in replies]
    if len(asked) > 1 and len(logps) == len(asked) and all(logp is not None for logp in logps):
        best = max(range(len(logps)), key=lambda index: logps[index] or 0.0)
        return str(asked[best][-1]).strip()
    if not replies:
        return ""
    first = replies[0]
    return str(first[0] if isinstance(first, list | tuple) and first else first).strip()


def _logp(reply: Any) -> float | None:
    """A likelihood is a pair of a number, which files write as text, and whether the choice is what a greedy answer would be."""
    if not isinstance(reply, list | tuple) or len(reply) != 2:
        return None
    try:
        return float(reply[0])
    except (TypeError, ValueError):
        return None
