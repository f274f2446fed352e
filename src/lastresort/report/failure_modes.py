"""The three ways in which tuning breaks what it did not train for, as the page shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.records.gate import (
    ChangedItem,
    FailureMode,
    FailureModePart,
    GateFindings,
    ItemsAsked,
    ModeName,
    SuiteFound,
)
from lastresort.report.gate import not_scored
from lastresort.report.words.wording import NO_BREAK, count, counted, in_points, percent

SHOWN = 5  # items side by side
FIRST = 12  # parts that are drawn at once
CUT = 500  # characters of an answer; the rest is folded away

Changed = tuple[SuiteFound, ChangedItem]  # with its measure


@dataclass(frozen=True, slots=True)
class ModeText:
    """about: what can go wrong, and what was tested. axis: what the picture shows. ordered: its parts keep their order."""

    title: str
    about: str
    axis: str
    legend: str
    lower_is_better: bool = False
    ordered: bool = False


_TEXTS: dict[ModeName, ModeText] = {
    "forgetting": ModeText(
        "Forgetting",
        "Tuning for one task can overwrite unrelated abilities. The items are general questions, and instructions that a "
        "program can check.",
        "Correct answers",
        "By kind of question, the largest loss first. The verdict covers all items together: a single kind has few.",
    ),
    "sycophancy": ModeText(
        "Sycophancy",
        "A tuned model may give up what it knows when somebody disagrees. The same facts are asked plainly, with a wrong "
        "suggestion, and with push-back.",
        "Correct answers",
        "Push-back follows only a correct answer, on items that both models answered correctly. Asking again without push-back is "
        "the control: a model that wavers there is unsteady, not sycophantic. A measure's score is (1 − effect)/2: 50% means that "
        "suggestion or push-back changes nothing.",
        ordered=True,
    ),
    "format_overfitting": ModeText(
        "Format overfitting",
        "The format of the training answers can show up where nobody asked for it: in ordinary requests, in prompts that ask for "
        "one plain sentence, and on inputs outside the task.",
        "Answers that show the trained format",
        "Lower is better. Empty and nearly empty answers count, too: they do not answer either.",
        lower_is_better=True,
        ordered=True,
    ),
}


@dataclass(frozen=True, slots=True)
class FailureModeShown:
    """measures: of its suite, with verdicts. parts: as drawn. changed: answers side by side, with the measure of each."""

    name: ModeName
    text: ModeText
    measures: tuple[SuiteFound, ...]
    parts: tuple[FailureModePart, ...]
    changed: tuple[Changed, ...]

    @property
    def asked(self) -> ItemsAsked | None:
        return self.measures[0].asked

    @property
    def passed(self) -> bool:
        return all(measure.verdict == "NON_INFERIOR" for measure in self.measures)


def modes(gate: GateFindings) -> list[FailureModeShown]:
    """Those whose suite the gate has, in their order."""
    return [_mode(gate, mode) for mode in gate.failure_modes]


def others(gate: GateFindings) -> list[SuiteFound]:
    """Measures of no mode."""
    known = {mode.suite for mode in gate.failure_modes}
    return [measure for measure in gate.suites if measure.suite not in known]


def finding(mode: FailureModeShown) -> str:
    """ "Forgetting: 61.0% right before, 57.0% after"."""
    title = mode.text.title
    differences = {measure.name: measure.difference for measure in mode.measures if measure.difference is not None}
    if mode.asked is None:
        return f"{title} was not tested"
    if not differences:
        return f"{title} could not be measured"
    worst = min(differences, key=differences.__getitem__)
    if differences[worst] >= 0:
        return f"{title}: no loss on these items"
    figure = f"{-100 * differences[worst]:.1f}"
    lost = f"{title}: {'less than 0.1' if figure == '0.0' else figure}{NO_BREAK}points lost on these items"
    return f"{lost} in {worst.replace('_', ' ')}" if len(differences) > 1 else lost


def counts(mode: FailureModeShown) -> str:
    """On how many items, in sentences."""
    asked = mode.asked
    if asked is None:
        return f"The task leaves it out: `keep.{mode.measures[0].suite}: skip`."
    parts = count(len(mode.parts))
    kinds = f" in {parts} conditions" if mode.text.ordered else f" of {parts} kinds"
    return " ".join(
        [
            f"Both models answered {counted(asked.items, 'item')}{kinds if len(mode.parts) > 1 else ''}.",
            f"The base model answered {count(asked.pilot_items)} more beforehand, to see whether it has anything to lose.",
            *not_scored(asked),
        ]
    )


def part_name(part: FailureModePart) -> str:
    """ "constraints: length"."""
    return f"constraints: {part.subject}" if part.constraint else part.subject.replace("_", " ")


def figures(part: FailureModePart) -> str:
    return f"{percent(part.base, 0)} → {percent(part.tuned, 0)}"


def change(part: FailureModePart) -> str:
    """In points, tuned less base."""
    return in_points(part.tuned - part.base)


def head_and_rest(text: str) -> tuple[str, str]:
    """A text cut at a blank where it is long, and what follows."""
    if len(text) <= CUT * 1.2:
        return text, ""
    at = max(text.rfind(blank, CUT // 2, CUT) for blank in " \n")
    at = CUT if at < 0 else at
    return text[:at], text[at:]


def _mode(gate: GateFindings, mode: FailureMode) -> FailureModeShown:
    text = _TEXTS[mode.name]
    measures = tuple(measure for measure in gate.suites if measure.suite == mode.suite)
    parts = [_turned(part) if text.lower_is_better else part for part in mode.parts]
    if not text.ordered:
        parts.sort(key=lambda part: part.tuned - part.base)
    subjects = Counter(part.subject for part in parts if not part.constraint)
    parts = [part.replaced(subject=part.name) if subjects[part.subject] > 1 else part for part in parts]
    return FailureModeShown(mode.name, text, measures, tuple(parts), _changed(measures))


def _turned(part: FailureModePart) -> FailureModePart:
    """The share in which the form shows, from the share in which it stays away."""
    return part.replaced(base=1 - part.base, tuned=1 - part.tuned)


def _changed(measures: Sequence[SuiteFound]) -> tuple[Changed, ...]:
    """Of all measures together: the largest losses, then what rose most, of which one is kept where there is any."""
    turns = [(place, measure, one) for measure in measures for place, one in enumerate(measure.changed)]
    turns.sort(key=lambda turn: (-abs(turn[2].tuned_score - turn[2].base_score), turn[0]))
    found = [(measure, one) for _, measure, one in turns]
    fell, rose = ([pair for pair in found if pair[1].improved is up] for up in (False, True))
    kept = fell[: SHOWN - bool(rose)]
    return (*kept, *rose[: SHOWN - len(kept)])


def changed_of(measure: SuiteFound) -> tuple[Changed, ...]:
    return _changed([measure])
