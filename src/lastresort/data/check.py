"""Everything that can be wrong with labelled examples before a model sees them.

What a check of the data found, as frozen values.

Outputs that the task itself does not allow: none of its choices, or not valid against its schema.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from lastresort.data.answer_schema import misfit, schema_validator
from lastresort.data.duplicates import exact_groups, near_pairs, normalised
from lastresort.data.formats.rows import NotJson, parse_json
from lastresort.data.split import Leak, find_leaks, remove_leaks
from lastresort.errors import DataError
from lastresort.types import Example, JsonObject

Severity = Literal["error", "warning", "note"]
Side = Literal["train", "dev", "test"]
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where an example stands."""

    side: Side
    id: str
    row: int
    source: str

    def __str__(self) -> str:
        return f"{self.side} row {self.row}" if self.row else f'{self.side} "{self.id}"'


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault and every place of it.

    kind: exact_duplicates, near_duplicates, exact_leaks, near_leaks, dev_in_test, conflicting_labels, invalid_outputs,
    too_long, labels_unseen. places: one tuple an occurrence, the examples that make it up (two for a pair, one for an
    output). Occurrences and details run in parallel. severity: an error makes what is measured worthless unless it is
    mended (a climb leaves leaking rows out of train by itself); a warning distorts it; a note costs only effort.
    """

    kind: str
    severity: Severity
    says: str
    places: tuple[tuple[Place, ...], ...] = ()
    details: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.places) or len(self.details)

    def line(self) -> str:
        """One sentence with the first few places."""
        shown = []
        for index in range(min(SHOWN, self.count)):
            where = " = ".join(str(place) for place in self.places[index]) if self.places else ""
            detail = self.details[index] if self.details else ""
            shown.append(f"{where}: {detail}" if where and detail else where or detail)
        more = f" and {self.count - SHOWN} more" if self.count > SHOWN else ""
        return f"{self.severity}: {self.says} ({'; '.join(shown)}{more})"


@dataclass(frozen=True, slots=True)
class DataReport:
    """Counts and findings. labels: examples by label and side, empty for free text. tokens: quantiles by side."""

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tokens: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def finding(self, kind: str) -> Finding | None:
        return next((finding for finding in self.findings if finding.kind == kind), None)

    def as_dict(self) -> JsonObject:
        return {
            "ok": self.ok,
            "counts": dict(self.counts),
            "labels": {label: dict(sides) for label, sides in self.labels.items()},
            "tokens": {side: dict(quantiles) for side, quantiles in self.tokens.items()},
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "says": finding.says,
                    "count": finding.count,
                    "places": [[asdict(place) for place in places] for places in finding.places],
                    "details": list(finding.details),
                }
                for finding in self.findings
            ],
        }

    def lines(self, beside: Sequence[str] = ()) -> list[str]:
        """Short sentences, what matters most first. beside: of what belongs to the examples, put behind them."""
        sides = ", ".join(f"{count} {side}" for side, count in self.counts.items())
        lines = [f"examples: {sides}"]
        for side, quantiles in self.tokens.items():
            lines.append(f"tokens in {side}: " + ", ".join(f"{name} {value}" for name, value in quantiles.items()))
        if self.labels:
            total = sum(self.counts.values())
            by_share = sorted(self.labels.items(), key=lambda item: -sum(item[1].values()))
            shares = [f"{label} {sum(sides.values()) / total:.0%}" for label, sides in by_share[:10]]
            more = f" and {len(by_share) - 10} more" if len(by_share) > 10 else ""
            lines.append("labels: " + ", ".join(shares) + more)
        order = {"error": 0, "warning": 1, "note": 2}
        lines += [finding.line() for finding in sorted(self.findings, key=lambda found: order[found.severity])]
        complaints = [*self.findings, *(line for line in beside if line.startswith("warning"))]
        return [*lines, *beside] if complaints else [*lines, *beside, "nothing to complain about"]


SHOWN_ROWS = 5
Check = Callable[[str], str | None]


def output_checks(
    choices: tuple[str, ...] | None, json_schema: JsonObject | None
) -> tuple[tuple[str, str, Check], ...]:
    """What an output has to pass: (what one that fails is, what several are, output -> its fault, or None).

    Raises TaskError if json_schema is not a schema that can be used.
    """
    checks: list[tuple[str, str, Check]] = []
    if choices is not None:
        allowed = choices
        checks.append(
            ("is not among the choices", "are not among the choices", lambda output: _not_chosen(output, allowed))
        )
    if json_schema is not None:
        check = _schema_check(json_schema)
        checks.append(("is not valid against the schema", "are not valid against the schema", check))
    return tuple(checks)


def refuse_invalid_outputs(
    examples: Sequence[Example], *, choices: tuple[str, ...] | None, json_schema: JsonObject | None
) -> None:
    """Raises DataError on the first output that is not allowed, with the rows of the next few that are not either."""
    for words, _, check in output_checks(choices, json_schema):
        faults = [(item, fault) for item in examples if (fault := check(item.output)) is not None]
        if not faults:
            continue
        first, fault = min(faults, key=lambda found: (found[0].source, found[0].row))
        others = sorted(item.row for item, _ in faults if item is not first)
        raise DataError(
            f"found an output that {words}: {fault}{_and_others(others)}",
            where=f'{first.source}, row {first.row}, key "output"' if first.source else f"example {first.id}",
            expected=f"one of {', '.join(choices)}" if choices is not None else "JSON that output.schema allows",
            remedy="Correct the rows, or the key `output` of the task file.",
        )


def short(text: str, limit: int = 60) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _and_others(rows: Sequence[int]) -> str:
    if not rows:
        return ""
    named = ", ".join(map(str, rows[:SHOWN_ROWS])) + (" …" if len(rows) > SHOWN_ROWS else "")
    return f" ({len(rows)} more like it, in row{'s' if len(rows) > 1 else ''} {named})"


def _not_chosen(output: str, choices: tuple[str, ...]) -> str | None:
    if output in choices:
        return None
    close = next((choice for choice in choices if normalised(choice) == normalised(output)), None)
    return f'"{short(output)}"' + (f', perhaps "{close}"' if close else "")


def _schema_check(schema: JsonObject) -> Check:
    validator = schema_validator(schema)

    def check(output: str) -> str | None:
        try:
            value = parse_json(output)
        except NotJson as error:
            return f'"{short(output)}" is not JSON' + ("" if error.line is not None else f" ({short(error.reason)})")
        fault = misfit(validator, value)
        return None if fault is None else short(fault, 120)

    return check


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
    json_schema: JsonObject | None,
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
    placed: Sequence[_Placed], choices: tuple[str, ...] | None, json_schema: JsonObject | None
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
    shares = {"shortest": 0.0, "half": 0.5, "90%": 0.9, "99%": 0.99, "longest": 1.0}
    return {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in shares.items()}
