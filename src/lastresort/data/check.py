"""Everything that can be wrong with labelled examples and preferences before a model sees them."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import PurePath

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.data.duplicates import Slips, exact_groups, misspelt, near_pairs, normalised, usual_spellings
from lastresort.data.formats.rows import in_rows, more_in
from lastresort.data.preferences import PreferenceRow
from lastresort.data.sources import SharedSources
from lastresort.data.split import find_leaks
from lastresort.errors import DataError
from lastresort.foreign import NotJson, parse_json
from lastresort.records.data_report import (
    DataReport,
    Finding,
    FindingKind,
    Place,
    PreferenceFault,
    PreferenceReport,
    Severity,
    Side,
)
from lastresort.types import Example, JsonObject

Check = Callable[[str], str | None]


def output_checks(
    choices: tuple[str, ...] | None, json_schema: JsonObject | None
) -> tuple[tuple[str, str, Check], ...]:
    """What an output has to pass: (what one that fails is, what several are, output -> its fault, or None).

    Raises TaskError if json_schema is not a schema that can be used.
    """
    checks: list[tuple[str, str, Check]] = []
    if choices is not None:
        allowed = frozenset(choices)
        close = {normalised(choice): choice for choice in reversed(choices)}

        slips = cache(partial(Slips, choices))

        def check_choice(output: str) -> str | None:
            if output in allowed:
                return None
            meant = close.get(normalised(output)) or next(iter(slips().of(output)), None)
            return f'"{short(output)}"{_perhaps(meant)}'

        checks.append(("is not among the choices", "are not among the choices", check_choice))
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
        others = _like_it(first, [item for item, _ in faults if item is not first])
        raise DataError(
            f"found an output that {words}: {fault}{f' ({others})' if others else ''}",
            where=f'{first.place}, key "output"' if first.source else first.place,
            expected="JSON that output.schema allows" if choices is None else allowed(choices, first.output),
            remedy="Correct the rows, or the key `output` of the task file.",
        )


MOST_CHOICES, CLOSEST = 10, 3  # that an error names


def allowed(choices: Sequence[str], output: str) -> str:
    """What was expected in place of an output: all choices, or the closest where they are many."""
    from rapidfuzz.fuzz import ratio
    from rapidfuzz.process import extract

    if len(choices) <= MOST_CHOICES:
        return f"one of {', '.join(choices)}"
    found = extract(short(output), choices, scorer=ratio, processor=normalised, limit=CLOSEST)
    *some, last = (f'"{short(choice)}"' for choice, *_ in found)
    return f"one of the {len(choices):,} choices, of which {', '.join(some)} and {last} are the closest"


def _like_it(first: Example, others: Sequence[Example]) -> str:
    """Where the same fault occurs besides: in its own file first, then in each of the others."""
    rows: dict[str, list[int]] = {}
    for item in others:
        rows.setdefault(item.source, []).append(item.row)
    own = sorted(rows.pop(first.source, ()))
    parts = [more_in(own)] if own else []
    for source, found in sorted(rows.items()):
        parts.append(
            f"{len(found)}{'' if parts else ' more like it'} in {PurePath(source).name}, {in_rows(sorted(found))}"
        )
    return "; ".join(parts)


def refuse_synthetic(examples: Sequence[Example]) -> None:
    """Raises DataError where some of the examples, on which something is to be measured, are synthetic, as their rows say."""
    made = sorted((item for item in examples if item.synthetic), key=lambda item: item.row)
    if made:
        others = [item.row for item in made[1:]]
        raise DataError(
            f"found a synthetic row{f' ({more_in(others)})' if others else ''}",
            where=f'{made[0].place}, key "synthetic"',
            expected="real rows, as a score on invented ones says nothing about them",
            remedy="Move such rows to a file of their own, and name it under `examples.synthetic`.",
        )


def short(text: str, limit: int = 60) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _perhaps(meant: str | None) -> str:
    return "" if meant is None else f', perhaps "{short(meant)}"'


def _schema_check(schema: JsonObject) -> Check:
    validator = schema_validator(schema)

    def check(output: str) -> str | None:
        try:
            value = parse_json(output)
        except NotJson as error:
            return f'"{short(output)}" is not JSON' + ("" if error.line is not None else f" ({short(error.reason)})")
        fault = violation(validator, value)
        return None if fault is None else short(fault, 120)

    return check


MOST_LABELS, LEAST_ROWS_A_LABEL = 50, 4
CODE, MOSTLY_CODES = re.compile(r"(?=.*\d)[A-Za-z0-9#./:_-]{1,40}"), 0.9
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
    sources: SharedSources | None = None,
) -> DataReport:
    """Duplicates, leaks, conflicting labels, outputs that are not allowed, lengths and the share of each label.

    count_tokens: tokens of an example, prompt and answer. context_tokens: the longest the model can hold; neither is
    checked where it is None. sources: what rows share that belong to no group. Raises TaskError if json_schema is not a schema that
    can be used.
    """
    sides: tuple[tuple[Side, Sequence[Example]], ...] = (("train", train), ("dev", dev), ("test", test))
    placed = [(side, item) for side, items in sides for item in items]
    counted = [(side, item, count_tokens(item)) for side, item in placed] if count_tokens else []
    labels = _labels(placed, choices)
    findings = [
        *_duplicates(sides),
        *_leaks(train, dev, test),
        *_dev_in_test(dev, test),
        *_shared_source(sources, {item.id: side for side, item in placed}),
        *_conflicts(placed),
        *_invalid_outputs(placed, choices, json_schema),
        *_too_long(counted, context_tokens),
        *_codes(placed),
        *_unseen_labels(labels),
        *_unused_labels(labels),
        *_respelt_labels(placed, labels),
        *_stripped_labels(placed, labels),
        *_rare_labels(labels),
    ]
    tokens = {side: [n for where, _, n in counted if where == side] for side, _ in sides}
    return DataReport(
        ok=all(finding.severity != "error" for finding in findings),
        counts={side: len(items) for side, items in sides},
        labels=labels,
        tokens={side: _quantiles(found) for side, found in tokens.items() if found},
        findings=tuple(findings),
        synthetic=sum(item.synthetic for item in train),
    )


def _place(side: Side, item: Example) -> Place:
    return Place(side=side, id=item.id, row=item.row, source=item.source, line=item.line)


def _finding(
    kind: FindingKind,
    severity: Severity,
    says: tuple[str, str],
    places: Sequence[tuple[Place, ...]],
    details: Sequence[str] = (),
) -> Iterator[Finding]:
    """Nothing where it does not occur. says: of one occurrence, and of {n}."""
    count = len(places) or len(details)
    if count:
        sentence = says[count > 1].replace("{n}", str(count))
        yield Finding(
            kind=kind, severity=severity, says=sentence, count=count, places=tuple(places), details=tuple(details)
        )


def _duplicates(sides: Sequence[tuple[Side, Sequence[Example]]]) -> Iterator[Finding]:
    exact: list[tuple[Place, ...]] = []
    near: list[tuple[Place, ...]] = []
    for side, items in sides:
        texts = [item.input_text for item in items]
        exact += [tuple(_place(side, items[i]) for i in group) for group in exact_groups(texts)]
        near += [(_place(side, items[a]), _place(side, items[b])) for a, b in near_pairs(texts)]
    repeated = ("1 input occurs more than once in its split", "{n} inputs occur more than once in their split")
    similar = (
        "1 pair of inputs in one split is nearly the same",
        "{n} pairs of inputs in one split are nearly the same",
    )
    yield from _finding("exact_duplicates", "note", repeated, exact)
    yield from _finding("near_duplicates", "note", similar, near)


def _leaks(train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example]) -> Iterator[Finding]:
    leaks = find_leaks(train, dev, test)
    exact, near = (
        [(_place("train", leak.train), _place(leak.side, leak.held)) for leak in leaks if leak.kind == kind]
        for kind in ("exact", "near")
    )
    left_out = "a climb leaves it out of train", "a climb leaves them out of train"
    same = (
        f"1 train input is also in dev or test; {left_out[0]}",
        f"{{n}} train inputs are also in dev or test; {left_out[1]}",
    )
    alike = (
        f"1 train input is nearly the same as one in dev or test; {left_out[0]}",
        f"{{n}} train inputs are nearly the same as some in dev or test; {left_out[1]}",
    )
    yield from _finding("exact_leaks", "warning", same, exact)
    yield from _finding("near_leaks", "warning", alike, near)


def _dev_in_test(dev: Sequence[Example], test: Sequence[Example]) -> Iterator[Finding]:
    places = [(_place("dev", leak.train), _place("test", leak.held)) for leak in find_leaks(dev, (), test)]
    says = (
        "1 dev input is also in test; a climb leaves it out of dev",
        "{n} dev inputs are also in test; a climb leaves them out of dev",
    )
    yield from _finding("dev_in_test", "warning", says, places)


def _shared_source(sources: SharedSources | None, side_of: Mapping[str, Side]) -> Iterator[Finding]:
    if sources is None:
        return
    places = [tuple(_place(side_of[item.id], item) for item in found[:2]) for found in sources.members]
    shared = "long passages of their inputs" if sources.column is None else f'values of "{sources.column}"'
    how = "a column group" if sources.column is None else f"split.group_by: {sources.column}"
    says = f"{sources.rows} rows share {{n}} {shared} and belong to no group; {how} would keep them on one side and count them once"
    yield from _finding("shared_source", "warning", (says.replace("{n}", "1"), says), places)


def _conflicts(placed: Sequence[_Placed]) -> Iterator[Finding]:
    by_input: dict[str, list[_Placed]] = {}
    for side, item in placed:
        by_input.setdefault(normalised(item.input_text), []).append((side, item))
    groups = [group for group in by_input.values() if len({_same_output(item.output) for _, item in group}) > 1]
    places = [tuple(_place(side, item) for side, item in group) for group in groups]
    details = [" / ".join(sorted({short(item.output) for _, item in group})) for group in groups]
    says = "1 input has more than one output", "{n} inputs have more than one output"
    yield from _finding("conflicting_labels", "warning", says, places, details)


def _same_output(output: str) -> str:
    """Key order and spacing of JSON do not make a conflict, nor do spaces around text."""
    try:
        return json.dumps(parse_json(output), sort_keys=True)
    except NotJson:
        return " ".join(output.split())


def _invalid_outputs(
    placed: Sequence[_Placed], choices: tuple[str, ...] | None, json_schema: JsonObject | None
) -> Iterator[Finding]:
    for one, many, check in output_checks(choices, json_schema):
        faults = [(side, item, fault) for side, item in placed if (fault := check(item.output)) is not None]
        places = [(_place(side, item),) for side, item, _ in faults]
        says = f"1 output {one}", f"{{n}} outputs {many}"
        yield from _finding("invalid_outputs", "error", says, places, [fault for _, _, fault in faults])


def _too_long(counted: Sequence[tuple[Side, Example, int]], context_tokens: int | None) -> Iterator[Finding]:
    if context_tokens is None:
        return
    found = [(side, item, n) for side, item, n in counted if n > context_tokens]
    places = [(_place(side, item),) for side, item, _ in found]
    limit = f"longer than the model's context of {context_tokens} tokens"
    says = f"1 example is {limit}", f"{{n}} examples are {limit}"
    yield from _finding("too_long", "error", says, places, [f"{n} tokens" for _, _, n in found])


def are_codes(texts: Sequence[str]) -> bool:
    """Whether nearly all texts are numbers, dates or names such as T-1001: one word of Latin letters with a digit in it."""
    return sum(map(_is_code, texts)) >= MOSTLY_CODES * max(1, len(texts))


def _is_code(text: str) -> bool:
    return CODE.fullmatch(text.strip()) is not None


def _codes(placed: Sequence[_Placed]) -> Iterator[Finding]:
    if not are_codes([item.input_text for _, item in placed]):
        return
    found = [(side, item) for side, item in placed if _is_code(item.input_text)]
    says = (
        "1 input is a code or a number, without words; if another column holds the text, name it in `columns.input`",
        "{n} inputs are codes or numbers, without words; if another column holds the text, name it in `columns.input`",
    )
    places = [(_place(side, item),) for side, item in found]
    yield from _finding("inputs_codes", "warning", says, places, [short(item.input_text) for _, item in found])


def _labels(placed: Sequence[_Placed], choices: tuple[str, ...] | None) -> dict[str, dict[Side, int]]:
    """Examples by label and side. Without choices, outputs count as labels where few stand for many examples."""
    counts = Counter((item.output, side) for side, item in placed)
    found = dict.fromkeys(item.output for _, item in placed)
    if choices is None and (len(found) > MOST_LABELS or 2 * len(found) > len(placed)):
        return {}
    names = dict.fromkeys((*(choices or ()), *found))
    sides: tuple[Side, ...] = ("train", "dev", "test")
    return {label: {side: counts[label, side] for side in sides} for label in names}


def _counts(labels: Mapping[str, Mapping[Side, int]]) -> Counter[str]:
    return Counter({label: sum(sides.values()) for label, sides in labels.items()})


def _unseen_labels(labels: Mapping[str, Mapping[Side, int]]) -> Iterator[Finding]:
    if not any(sides["train"] for sides in labels.values()):
        return
    unseen = [label for label, sides in labels.items() if not sides["train"] and any(sides.values())]
    typos = misspelt(_counts(labels), LEAST_ROWS_A_LABEL) if unseen else {}
    says = "1 label has no training example", "{n} labels have no training example"
    details = [f'"{short(label)}"{_perhaps(typos.get(label))}' for label in unseen]
    yield from _finding("labels_unseen", "warning", says, (), details)


def _unused_labels(labels: Mapping[str, Mapping[Side, int]]) -> Iterator[Finding]:
    unused = [f'"{short(label)}"' for label, sides in labels.items() if not any(sides.values())]
    says = "1 of the choices is the label of no row", "{n} of the choices are the label of no row"
    yield from _finding("labels_unused", "warning", says, (), unused)


def _respelt_labels(placed: Sequence[_Placed], labels: Mapping[str, Mapping[Side, int]]) -> Iterator[Finding]:
    """Rows whose label differs from a more frequent one by case or spaces alone."""
    counts = _counts(labels)
    usual = usual_spellings(counts)
    rare = {label: usual[label] for label, n in counts.items() if n and usual[label] != label}
    rows = [(side, item) for side, item in placed if item.output in rare]
    pairs = [_beside(short(label), short(other)) for label, other in rare.items()]
    shown = ", ".join(pairs[:3]) + (", …" if len(pairs) > 3 else "")
    says = (
        f"1 row has a label that differs from another only by case or spaces, and counts as one of its own: {shown}",
        f"{{n}} rows have a label that differs from another only by case or spaces, and counts as one of its own: {shown}",
    )
    yield from _finding(
        "labels_respelt",
        "warning",
        says,
        [(_place(side, item),) for side, item in rows],
        [item.output for _, item in rows],
    )


def _stripped_labels(placed: Sequence[_Placed], labels: Mapping[str, Mapping[Side, int]]) -> Iterator[Finding]:
    found = [(side, item) for side, item in placed if item.stripped and item.output in labels]
    says = (
        "1 row of a table has spaces around its label; they are left out",
        "{n} rows of tables have spaces around their label; they are left out",
    )
    places = [(_place(side, item),) for side, item in found]
    yield from _finding("labels_stripped", "note", says, places, [f'"{short(item.output)}"' for _, item in found])


def _rare_labels(labels: Mapping[str, Mapping[Side, int]]) -> Iterator[Finding]:
    """Those of few rows among labels that have enough on average, but for what is found already: labels without training examples,
    and other spellings.
    """
    counts = _counts(labels)
    if counts.total() < LEAST_ROWS_A_LABEL * len(counts):
        return
    usual, typos = usual_spellings(counts), misspelt(counts, LEAST_ROWS_A_LABEL)
    rare = [
        f'"{short(label)}": {n}{_perhaps(typos.get(label))}'
        for label, n in counts.items()
        if n < LEAST_ROWS_A_LABEL and labels[label]["train"] and usual[label] == label
    ]
    few = f"fewer than {LEAST_ROWS_A_LABEL} rows, too few to learn and to test"
    yield from _finding("labels_rare", "warning", (f"1 label has {few} it", f"{{n}} labels have {few} them"), (), rare)


def _beside(label: str, usual: str) -> str:
    return f'"{usual}" with other spaces' if label == usual else f'"{label}" beside "{usual}"'


def _quantiles(tokens: Sequence[int]) -> dict[str, int]:
    """Nearest-rank quantiles: each is the length of a real example."""
    ordered = sorted(tokens)
    shares = {"shortest": 0.0, "half": 0.5, "90%": 0.9, "99%": 0.99, "longest": 1.0}
    return {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in shares.items()}


def check_preferences(
    preferences: Sequence[PreferenceRow], leaking: int, left_out: Mapping[PreferenceFault, int]
) -> PreferenceReport:
    """preferences: without those that leak, of which there are `leaking`. left_out: how many cannot be trained on, and why."""
    labels = [preferred.label for preferred in preferences]
    keys = Counter(_key(preferred) for preferred in preferences)
    return PreferenceReport(
        pairs=labels.count(None),
        good=labels.count(True),
        bad=labels.count(False),
        leaking=leaking,
        opposed=sum(n for key, n in keys.items() if _opposite(key) in keys and _opposite(key) != key),
        repeated=sum(n - 1 for n in keys.values()),
        left_out=dict(left_out),
        longer=_longer(preferences),
    )


_Key = tuple[str, tuple[str, ...], bool | None]


def _key(preferred: PreferenceRow) -> _Key:
    answers = tuple(normalised(_text(preferred, side)) for side in range(len(preferred.answers)))
    return normalised(preferred.prompt_text), answers, preferred.label


def _opposite(key: _Key) -> _Key:
    prompt, answers, label = key
    return prompt, answers[::-1], None if label is None else not label


def _text(preferred: PreferenceRow, side: int) -> str:
    return "\n".join(turn.content for turn in preferred.answers[side])


def _longer(preferences: Sequence[PreferenceRow]) -> float | None:
    """Of labelled answers every good one is compared with every bad one."""
    if preferences and preferences[0].label is None:
        lengths = [(len(_text(one, 0)), len(_text(one, 1))) for one in preferences]
        longer, shorter = sum(a > b for a, b in lengths), sum(a < b for a, b in lengths)
    else:
        good, bad = (sorted(len(_text(one, 0)) for one in preferences if one.label is kind) for kind in (True, False))
        longer = sum(bisect_left(bad, length) for length in good)
        shorter = sum(len(bad) - bisect_right(bad, length) for length in good)
    return longer / (longer + shorter) if longer + shorter else None
