"""Everything that can be wrong with labelled examples before a model sees them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lastresort.data.duplicates import exact_groups, near_pairs, normalised
from lastresort.data.leaks import Leak, find_leaks, remove_leaks
from lastresort.data.outputs import output_checks, short
from lastresort.data.report import DataReport, Finding, Place, Severity, Side
from lastresort.data.strict_json import NotJson, parse_json
from lastresort.types import Example

__all__ = ["DataReport", "Finding", "Leak", "Place", "check_data", "remove_leaks"]

MOST_LABELS = 50
_Placed = tuple[Side, Example]


def check_data(
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    *,
    count_tokens: Callable[[Example], int] | None,
    context_tokens: int | None,
    choices: tuple[str, ...] | None,
    json_schema: dict[str, Any] | None,
) -> DataReport:
    """Duplicates, leaks, conflicting labels, outputs that are not allowed, lengths and the share of each label.

    count_tokens: tokens of an example, prompt and answer. context_tokens: the longest the model can hold; neither is
    checked where it is None. Raises TaskError if json_schema is not a schema that can be used.
    """
    sides: tuple[tuple[Side, Sequence[Example]], ...] = (("train", train), ("dev", dev), ("test", test))
    placed = [(side, item) for side, items in sides for item in items]
    counted = [(side, item, count_tokens(item)) for side, item in placed] if count_tokens else []
    labels = _labels(placed, choices)
    findings = [
        *_duplicates(sides),
        *_leaks(train, dev, test),
        *_dev_in_test(dev, test),
        *_conflicts(placed),
        *_invalid_outputs(placed, choices, json_schema),
        *_too_long(counted, context_tokens),
        *_unseen_labels(labels),
    ]
    tokens = {side: [n for where, _, n in counted if where == side] for side, _ in sides}
    return DataReport(
        {side: len(items) for side, items in sides},
        tuple(findings),
        labels,
        {side: _quantiles(found) for side, found in tokens.items() if found},
    )


def _place(side: Side, item: Example) -> Place:
    return Place(side, item.id, item.row, item.source)


def _finding(
    kind: str, severity: Severity, says: str, places: list[tuple[Place, ...]], details: Sequence[str] = ()
) -> Iterator[Finding]:
    if places:
        yield Finding(kind, severity, says.format(n=len(places)), tuple(places), tuple(details))


def _duplicates(sides: Sequence[tuple[Side, Sequence[Example]]]) -> Iterator[Finding]:
    exact: list[tuple[Place, ...]] = []
    near: list[tuple[Place, ...]] = []
    for side, items in sides:
        texts = [item.input_text for item in items]
        exact += [tuple(_place(side, items[i]) for i in group) for group in exact_groups(texts)]
        near += [(_place(side, items[a]), _place(side, items[b])) for a, b in near_pairs(texts)]
    yield from _finding("exact_duplicates", "note", "{n} inputs stand more than once on one side", exact)
    yield from _finding("near_duplicates", "note", "{n} pairs of inputs on one side are near duplicates", near)


def _leaks(train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example]) -> Iterator[Finding]:
    leaks = find_leaks(train, dev, test)
    for kind, words in (("exact", "stand"), ("near", "nearly stand")):
        found = [leak for leak in leaks if leak.kind == kind]
        places: list[tuple[Place, ...]] = [
            (_place("train", leak.train), _place(leak.side, leak.held)) for leak in found
        ]
        yield from _finding(
            f"{kind}_leaks",
            "error",
            f"{{n}} training items also {words} in dev or test; a climb leaves them out of train",
            places,
        )


def _dev_in_test(dev: Sequence[Example], test: Sequence[Example]) -> Iterator[Finding]:
    places: list[tuple[Place, ...]] = [
        (_place("dev", leak.train), _place("test", leak.held)) for leak in find_leaks(dev, (), test)
    ]
    says = "{n} dev items also stand in test, so that the choice among candidates has seen them"
    yield from _finding("dev_in_test", "warning", says, places)


def _conflicts(placed: Sequence[_Placed]) -> Iterator[Finding]:
    by_input: dict[str, list[_Placed]] = {}
    for side, item in placed:
        by_input.setdefault(normalised(item.input_text), []).append((side, item))
    groups = [group for group in by_input.values() if len({_same_output(item.output) for _, item in group}) > 1]
    places = [tuple(_place(side, item) for side, item in group) for group in groups]
    details = [" / ".join(sorted({short(item.output) for _, item in group})) for group in groups]
    yield from _finding("conflicting_labels", "warning", "{n} inputs have different outputs", places, details)


def _same_output(output: str) -> str:
    """Key order and spacing of JSON do not make a conflict, nor do spaces around text."""
    try:
        return json.dumps(parse_json(output), sort_keys=True)
    except NotJson:
        return " ".join(output.split())


def _invalid_outputs(
    placed: Sequence[_Placed], choices: tuple[str, ...] | None, json_schema: dict[str, Any] | None
) -> Iterator[Finding]:
    for _, words, check in output_checks(choices, json_schema):
        faults = [(side, item, fault) for side, item in placed if (fault := check(item.output)) is not None]
        places: list[tuple[Place, ...]] = [(_place(side, item),) for side, item, _ in faults]
        yield from _finding("invalid_outputs", "error", f"{{n}} outputs {words}", places, [f for _, _, f in faults])


def _too_long(counted: Sequence[tuple[Side, Example, int]], context_tokens: int | None) -> Iterator[Finding]:
    if context_tokens is None:
        return
    found = [(side, item, n) for side, item, n in counted if n > context_tokens]
    places: list[tuple[Place, ...]] = [(_place(side, item),) for side, item, _ in found]
    says = f"{{n}} examples are longer than the model's context of {context_tokens} tokens"
    yield from _finding("too_long", "error", says, places, [f"{n} tokens" for _, _, n in found])


def _labels(placed: Sequence[_Placed], choices: tuple[str, ...] | None) -> dict[str, dict[str, int]]:
    """Examples by label and side. Without choices, outputs count as labels where few stand for many examples."""
    counts = Counter((item.output, side) for side, item in placed)
    found = dict.fromkeys(item.output for _, item in placed)
    if choices is None and (len(found) > MOST_LABELS or 2 * len(found) > len(placed)):
        return {}
    names = [*(choices or ()), *(label for label in found if label not in (choices or ()))]
    sides: tuple[Side, ...] = ("train", "dev", "test")
    return {label: {side: counts[label, side] for side in sides} for label in names}


def _unseen_labels(labels: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    unseen = [label for label, sides in labels.items() if not sides["train"]]
    if unseen and any(sides["train"] for sides in labels.values()):
        details = tuple(f'"{short(label)}"' for label in unseen)
        yield Finding("labels_unseen", "warning", f"{len(unseen)} labels have no training example", (), details)


def _quantiles(tokens: Sequence[int]) -> dict[str, int]:
    """Nearest-rank quantiles: each is the length of a real example."""
    ordered = sorted(tokens)
    shares = {"shortest": 0.0, "half": 0.5, "90 %": 0.9, "99 %": 0.99, "longest": 1.0}
    return {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in shares.items()}
