"""A drafted task as the text of its file, every line with the reason for what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from lastresort.records.rungs import Skip
from lastresort.report.words.rungs import clause
from lastresort.report.words.wording import count, counted, listed, percent, round_percent, sentence, shortened
from lastresort.types import Json

WIDTH = 44
LONGEST_LINE = 88  # with a reason behind it; a longer one stands above
MOST_LETTERS_SHOWN = 40
END_OF_DOCUMENT = "...\n"
Ungrouped = Literal["few", "connected", "uneven", "type", "files"]


@dataclass(frozen=True, slots=True)
class DraftFacts:
    """What the file says of a draft. name: of the task. data: as the user named it. examples: the key's value. source: what the
    input is called. labels: the most frequent first; () where the answers are none. respelt: (usual spelling, another one that
    differs only by case or spaces, rows of the other). misspelt: alike, of labels that may be typos. perhaps_labels: how many
    different answers may be labels, 0 where they are none or surely are. keys, optional: of JSON objects, those that every
    answer has and the others. schema_file: of the answers' JSON schema. majority: share of the most frequent answer. held:
    parts that have a file of their own. group: a column that names whose row it is, kept apart where `grouped`, and otherwise
    not for the reason in `ungrouped`. left_out: rows of the file that are not in `examples`, in words. untested, skipped: rungs
    that are not in the ladder, since the test rows are too few for them, and since a climb of these rows would skip them.
    """

    name: str
    data: str
    examples: str | Mapping[str, str]
    rows: int
    source: str
    kind: str
    score: str
    bar: float
    majority: float
    most_frequent: str
    ladder: tuple[str, ...]
    dev: int | None
    test: int | None
    labels: tuple[str, ...] = ()
    respelt: tuple[tuple[str, str, int], ...] = ()
    misspelt: tuple[tuple[str, str, int], ...] = ()
    perhaps_labels: int = 0
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    schema_file: str | None = None
    columns: tuple[str, str] | None = None
    group: str | None = None
    grouped: bool = False
    ungrouped: Ungrouped = "few"
    left_out: str = ""
    untested: tuple[str, ...] = ()
    skipped: Mapping[str, Skip] = field(default_factory=dict)


def rows_without(inputs: int, outputs: int) -> str:
    """Rows that lack an input, and rows that lack an answer: "5 rows without an answer and 2 without an input"."""
    if inputs and outputs:
        return f"{counted(outputs, 'row')} without an answer and {count(inputs)} without an input"
    return f"{counted(inputs or outputs, 'row')} without {'an input' if inputs else 'an answer'}"


def left_out_line(data: str, rows: str) -> str:
    """Above the examples of a task: what they lack of the file that somebody gave. rows: in words."""
    return _one_line(f"# A copy of {data}: it leaves out {rows}.")


def values_shown(samples: Sequence[str], distinct: int) -> str:
    """What a column holds, by a few of its values: "Billing, Delivery, Returns, …"."""
    shown = [shortened(text, MOST_LETTERS_SHOWN) for text in samples]
    return ", ".join([*shown, *(["…"] if distinct > len(shown) else [])])


def task_text(facts: DraftFacts) -> str:
    """The task file."""
    lines = [
        f"# Drafted from {facts.data} ({count(facts.rows)} rows). Each line gives its reason: change what you know better.",
        _line("task", facts.name, "runs are named after it"),
        _line("about", _about(facts), "the instruction of every prompt: say it as you would to a colleague"),
        _line("model", "embedded", MODEL),
    ]
    if facts.left_out:
        lines.append(left_out_line(facts.data, facts.left_out))
    lines.append(_line("examples", facts.examples))
    if facts.columns is not None:
        source, target = facts.columns
        lines.append(_line("columns", {"input": source, "output": target}, "the columns of the file that are used"))
    lines += [*_split(facts), *_output(facts)]
    lines.append(_line("score", facts.score, SCORES[facts.score]))
    if facts.kind == "labels":
        lines.append(_one_line(f'# Always answering "{facts.most_frequent}" scores {percent(facts.majority)}.'))
    lines.append(_line("bar", facts.bar, BAR))
    lines.append(_line("ladder", list(facts.ladder), ONE_RUNG if len(facts.ladder) == 1 else _of_ladder(facts.ladder)))
    lines += [
        *_not_in_ladder(facts),
        "# knowledge: docs/          # a folder of documents that hold the answers: add retrieval to the ladder, too",
        "# limits: {hours: 2}        # stop a climb that takes longer; it can be resumed",
    ]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, why: str = "") -> str:
    why = _one_line(why)
    written = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=10_000, default_flow_style=True)
    line = f"{key}: {written.removesuffix(END_OF_DOCUMENT).strip()}"
    if not why:
        return line
    whole = f"{line.ljust(WIDTH)}  # {why}"
    fits = len(line) <= WIDTH and len(whole) <= LONGEST_LINE
    return whole if fits else f"# {sentence(why)}\n{line}"


def _one_line(text: str) -> str:
    """For a comment: a label may hold a line break or what YAML refuses anywhere."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _usual(facts: DraftFacts) -> tuple[str, ...]:
    others = {other for _, other, _ in facts.respelt}
    return tuple(label for label in facts.labels if label not in others)


def _about(facts: DraftFacts) -> str:
    read = f"Read the {facts.source}."
    if facts.kind == "labels":
        return f"{read} Answer with its label."  # the prompt lists the choices
    if facts.kind == "json":
        return f"{read} Answer with one JSON {_keys(facts)}."
    if facts.kind == "number":
        return f"{read} End the answer with the number."
    return f"{read} Answer in a few words." if facts.kind == "short" else f"{read} Write the answer."


def _keys(facts: DraftFacts) -> str:
    if not facts.keys and not facts.optional:
        return "list"
    always = f"the key{'s' if len(facts.keys) > 1 else ''} {listed(facts.keys)}" if facts.keys else ""
    rest = f"those of {listed(facts.optional)} that apply" if facts.optional else ""
    return f"object with {', and '.join(filter(None, (always, rest)))}"


SCORES = {
    "choice": "the label and nothing else counts",
    "json_exact": "the whole object has to be right; json_fields gives a share for each right field",
    "number": "the last number of an answer counts",
    "normalized": "the same words, whatever their case and punctuation",
    "rouge_l": "shared wording, not meaning; for meaning take a judge: {judge: openai:NAME}, or your own {python: FILE:FUNCTION}",
}


OBJECTIVES = {
    "sft": "rows with an input and its right answer",
    "dpo": "pairs of a better and a worse answer",
    "kto": "answers with a label each",
    "text": "plain text",
}
_EMBEDDED = "or embedded (135M parameters, for a first try)"
MODEL = f"a hub id, a folder, http://host/v1#NAME, {_EMBEDDED}"
TRAINED_MODEL = f"a hub id, a folder, a .gguf file, {_EMBEDDED}"
SPLIT = "prompts and settings are chosen on dev, the verdict comes from test, the other rows are for training"
SCHEMA = "what all answers of the file share; a text is limited to the values seen only where a new one is improbable"
BAR = "the drafted bar is a common starting point: set the score from which you would use the system"
OWN_BAR = "the score from which you would use the system"
WHOLE_LADDER = "cheapest first; a climb stops at the first rung that meets the bar; preference samples its own pairs"
SHORT_LADDER = "cheapest first; a climb stops at the first rung that meets the bar"
ONE_RUNG = "all that a climb can try with so few rows"
MORE_TEST_ROWS = "every added rung needs more test rows"


def _of_ladder(rungs: Json) -> str:
    return WHOLE_LADDER if isinstance(rungs, list | tuple) and "preference" in rungs else SHORT_LADDER


_OF_VALUES: dict[str, Callable[[Json], str]] = {
    "score": lambda name: SCORES.get(str(name), ""),
    "objective": lambda name: OBJECTIVES.get(str(name), ""),
    "bar": lambda _: OWN_BAR,
    "ladder": _of_ladder,
}
# Those of keys without a reason of their own for each value hold for whatever they are set to.
_DRAFTED = {
    "model": (MODEL, TRAINED_MODEL),
    "split": (SPLIT,),
    "bar": (BAR, OWN_BAR),
    "ladder": (WHOLE_LADDER, SHORT_LADDER, ONE_RUNG),
    "score": tuple(SCORES.values()),
    "objective": tuple(OBJECTIVES.values()),
}


def reason_for(key: str, why: str, value: Json) -> str:
    """The comment of a key that is now `value`, None where it was removed; "" for none. why: the comment before, which stays unless
    the whole of it is a reason that a draft gives.
    """
    drafted = next((reason for reason in _DRAFTED.get(key, ()) if why in (reason, sentence(reason))), None)
    if drafted is None:
        return why
    if value is None:
        return ""
    if key not in _OF_VALUES:
        return why
    now = _OF_VALUES[key](value)
    return now if why == drafted or not now else sentence(now)


def _split(facts: DraftFacts) -> list[str]:
    parts = {name: n for name, n in (("dev", facts.dev), ("test", facts.test)) if n is not None}
    lines = []
    if parts:
        split: dict[str, Any] = dict(parts)
        if facts.grouped:
            split["group_by"] = facts.group
        lines.append(_line("split", split, SPLIT))
    if facts.group is not None and facts.grouped:
        lines.append(f"# group_by: rows of one {facts.group} stay together, so that test holds no one seen in training")
    elif facts.group is not None:
        lines.append(f"# Rows share a {facts.group}{_UNGROUPED[facts.ungrouped].format(facts.group)}.")
    return lines


_UNGROUPED: dict[Ungrouped, str] = {
    "few": ": with more of them, split by it (split.group_by: {})",
    "type": ": make it text or a whole number, then split by it (split.group_by: {})",
    "connected": ", but equal inputs connect them, so that no split can keep them apart",
    "uneven": ", but too many of them belong together, by {} or by equal inputs, for a split that keeps them apart",
    "files": ": split.group_by: {} keeps them together, and refuses files that share one",
}


def _not_in_ladder(facts: DraftFacts) -> list[str]:
    """The rungs that are missing, a line for each reason."""
    whys = {
        **{rung: clause(skip) for rung, skip in facts.skipped.items()},
        **dict.fromkeys(facts.untested, MORE_TEST_ROWS),
    }
    together: dict[str, list[str]] = {}
    for rung, why in whys.items():
        together.setdefault(why, []).append(rung)
    return [_one_line(f"# Not in the draft: {listed(rungs)}, since {why}.") for why, rungs in together.items()]


def _output(facts: DraftFacts) -> list[str]:
    if facts.labels:
        why = f"the {len(_usual(facts))} labels of the file"
        if facts.misspelt:
            why += f", {len(facts.misspelt)} of them perhaps {'a typo' if len(facts.misspelt) == 1 else 'typos'},"
        if facts.respelt:
            why += f" and {counted(len(facts.respelt), 'other spelling')}"
        return [*_respelt(facts), *_misspelt(facts), _line("output", {"choices": list(facts.labels)}, why.rstrip(","))]
    if facts.schema_file is not None:
        return [_line("output", {"schema": facts.schema_file}, SCHEMA)]
    if facts.perhaps_labels:
        return [
            f"# {count(facts.rows)} rows are too few to say that their {facts.perhaps_labels} different answers are all labels.",
            "# If they are, list them with output: {choices: [...]} and set score: choice.",
        ]
    return []


def _respelt(facts: DraftFacts) -> list[str]:
    return _label_rows(
        facts.respelt,
        ("spells a label in another case or with other spaces:", "spell a label in another case or with other spaces:"),
        lambda usual, other: f'"{other}" for "{usual}"',
        "Each spelling counts as a label of its own. Correct those rows, then remove the other spellings from choices.",
    )


def _misspelt(facts: DraftFacts) -> list[str]:
    return _label_rows(
        facts.misspelt,
        ("has a label that may be a typo:", "have a label that may be a typo:"),
        lambda usual, label: f'"{label}", perhaps "{usual}"',
        "If so, correct those rows and remove the typos from choices.",
    )


def _label_rows(
    found: Sequence[tuple[str, str, int]], says: tuple[str, str], pair: Callable[[str, str], str], remedy: str
) -> list[str]:
    """Comments on labels that may stand for others. found: (usual label, the other one, its rows). says: of one row, of several."""
    if not found:
        return []
    rows = sum(n for _, _, n in found)
    return [
        f"# {counted(rows, 'row')} of the file {says[rows != 1]}",
        *("#   " + _one_line(f"{pair(usual, other)} ({n})") for usual, other, n in found),
        f"# {remedy}",
    ]


def drafted_line(rows: int, score: str, bar: float) -> str:
    return f"{counted(rows, 'row')}, score {score}, bar {round_percent(bar)}"


def few_test_items(n: int, enough: int, bar: float) -> str:
    """n: test items that there are. enough: how many tell scores near the bar from it, with power 0.8."""
    return (
        f"with {counted(n, 'test item')}, a rung close to the bar of {round_percent(bar)} may end UNDECIDED; about "
        f"{count(enough)} give 80% power"
    )


def rows_to_train_on(rows: int, few: str = "") -> str:
    """Of the split as the text has it now. few: what follows from its test items, where they are few."""
    left = f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'} left to train."
    return f"{left} {sentence(few)}" if few else left
