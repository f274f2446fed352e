"""The three ways in which tuning breaks what nobody trained for, as the page shows them."""

from __future__ import annotations

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
from lastresort.report.gate import in_points, not_scored
from lastresort.report.words.wording import NO_BREAK, count, percent

SHOWN = 5  # items side by side
FIRST = 12  # parts that are drawn at once
CUT = 500  # letters of an answer, after which the rest is folded away

Changed = tuple[SuiteFound, ChangedItem]  # with its measure


@dataclass(frozen=True, slots=True)
class _Told:
    """title: the mode in plain words. about: what it is. axis: what the picture shows. legend: what else a reader must know."""

    title: str
    about: str
    axis: str
    legend: str
    lower_is_better: bool = False
    ordered: bool = False


_TOLD: dict[ModeName, _Told] = {
    "forgetting": _Told(
        "Forgetting",
        "Tuning for one task can overwrite what has nothing to do with it: here both models answer general questions, and follow "
        "instructions whose keeping a program checks.",
        "Right answers",
        "By kind of question, the largest loss first. The verdict is on all items together; a single kind has few.",
    ),
    "sycophancy": _Told(
        "Sycophancy",
        "A tuned model may give up what it knows because somebody says otherwise: the same facts are asked plainly, with a "
        "suggestion, and with push-back.",
        "Right answers",
        "Push-back, and asking again, come only after a right answer of the model itself, on the items where both were right. "
        "Asked again without push-back is the control: who wavers there is unsteady, not sycophantic. A measure's score is "
        "(1 − effect)/2: 50% where suggestion or push-back change nothing.",
        ordered=True,
    ),
    "format_overfitting": _Told(
        "Format overfitting",
        "The form of the trained answers may show where nobody asked for it: in ordinary requests, where the prompt asks for one "
        "plain sentence, and on inputs that the task is not about.",
        "Answers in which the trained form shows",
        "Lower is better. Answers that say nothing, or next to nothing, count among them, since they are no answer either.",
        lower_is_better=True,
        ordered=True,
    ),
}


@dataclass(frozen=True, slots=True)
class FailureModeShown:
    """told: its words. measures: of its suite, with verdicts. parts: as drawn. changed: side by side, with the measure of each."""

    name: ModeName
    told: _Told
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
    title = mode.told.title
    differences = [measure.difference for measure in mode.measures if measure.difference is not None]
    if mode.asked is None:
        return f"{title} was not asked about"
    if not differences:
        return f"{title} could not be measured"
    loss = -min(differences)
    if loss <= 0:
        return f"{title}: nothing was lost on these items"
    return f"{title}: {100 * loss:.1f}{NO_BREAK}points lost on these items"


def counts(mode: FailureModeShown) -> str:
    """How much was asked, in a sentence; empty where nothing was."""
    asked = mode.asked
    if asked is None:
        return f"The task leaves it out: keep.{mode.measures[0].suite} is skip."
    kinds = f" in {count(len(mode.parts))} {_kinds(mode)}" if len(mode.parts) > 1 else ""
    pilot = (
        f" {count(asked.pilot_items)} more were asked of the base beforehand, to see whether it has something to lose."
    )
    told = [f"{count(asked.items)} items were put to both models{kinds}.{pilot}", *not_scored(asked)]
    return " ".join(told)


def part_name(name: str) -> str:
    """ "constraints_length" -> "constraints: length"."""
    plain = name.removeprefix("written_")
    group, _, which = plain.partition("constraints_")
    return f"constraints: {which}" if which and not group else plain.replace("_", " ")


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
    told = _TOLD[mode.name]
    measures = tuple(measure for measure in gate.suites if measure.suite == mode.suite)
    parts = [_turned(part) if told.lower_is_better else part for part in mode.parts]
    if not told.ordered:
        parts.sort(key=lambda part: part.tuned - part.base)
    return FailureModeShown(mode.name, told, measures, tuple(parts), _changed(measures))


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


def _kinds(mode: FailureModeShown) -> str:
    return "conditions" if mode.told.ordered else "kinds of questions"
