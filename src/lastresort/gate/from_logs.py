"""A gate on logs that were made elsewhere: the same paired verdict for who evaluates with lm-eval or Inspect.

The margins of measures that come from logs: those named on the command line, then the task's `keep`, then the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lastresort.climb.identity import machine, versions
from lastresort.errors import DataError, InputError
from lastresort.gate.document import changed_most, gate_folder
from lastresort.gate.logs import LoggedItem, Logs, PairedMeasure, pair_measures, read_logs
from lastresort.gate.suites.suite import SuiteItem, SuiteReply, Transcript
from lastresort.gate.verdict import GateConclusion, conclude, judge_measure, no_target, planned_power, skipped_measure
from lastresort.gate.verdict.findings import why_no_headroom
from lastresort.records.gate import (
    ChangedItem,
    Fingerprints,
    GateDocument,
    GateForecast,
    GateSpent,
    Provenance,
    SuiteFound,
    Tuned,
)
from lastresort.report.gate import write_gate
from lastresort.report.words.wording import listed
from lastresort.spec.sections import SUITES
from lastresort.spec.task import Task

Margin = float | Literal["skip"]
EVERY = ""  # the name under which a margin without a name stands


def read_margins(told: Sequence[str]) -> dict[str, Margin]:
    """`0.03`, of every measure, or `NAME=0.03`, `NAME=skip`. Raises InputError for anything else."""
    found: dict[str, Margin] = {}
    for text in told:
        name, _, value = text.rpartition("=")
        if name in found:
            raise _refused(text, "each measure once")
        found[name] = "skip" if value == "skip" and name else _share(text, value)
    return found


def margins_of(names: Sequence[str], told: Mapping[str, Margin], task: Task | None) -> dict[str, Margin]:
    """Of each measure. Raises InputError where a margin is told of one that is not there."""
    for name in told:
        if name != EVERY and name not in names:
            raise _refused(name, f"a measure that both logs hold: {', '.join(names)}")
    keep = {} if task is None else task.keep
    general = keep.get("general", "skip")
    default = SUITES["general"].margin if general == "skip" else general
    return {name: told.get(name, told.get(EVERY, keep.get(name, default))) for name in names}


def _share(text: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise _refused(text, "a share strictly between 0 and 1, or NAME=share, or NAME=skip")
    return share


def _refused(found: str, expected: str) -> InputError:
    return InputError(
        f'found "{found}"', where="--margin", expected=expected, remedy="For three points: --margin lm_eval:mmlu=0.03"
    )


NAME = "logs"
ALPHA = 0.05
UNCHECKED = (
    "These figures come from logs: that both were asked the same is known as far as the logs hold documents, prompts and targets; "
    "weights, precision and tokenizers are not known, and no item was compared with the training rows."
)


@dataclass(frozen=True, slots=True)
class LogGateArguments:
    """base, tuned: a log or a folder of logs each. task: whose `keep` sets margins. margins: as `read_margins` gives them."""

    base: Path
    tuned: Path
    task: Task | None = None
    margins: Mapping[str, Margin] = field(default_factory=dict)


def gate_logs(question: LogGateArguments, *, gates: Path, out: Path | None = None) -> tuple[GateDocument, Path]:
    """Pair, judge, and write `gate.json`; returns the document and its folder.

    gates: where folders are made. out: the folder itself. Raises InputError for a margin of nothing and where every measure is left
    out, DataError for logs that cannot be read or do not belong together.
    """
    base, tuned = read_logs(question.base), read_logs(question.tuned)
    measures, alone = _together(question, base, tuned)
    margins = margins_of([one.name for one in measures], question.margins, question.task)
    if all(margin == "skip" for margin in margins.values()):
        raise InputError(
            "every measure is left out",
            where="--margin, keep",
            expected="one that is compared",
            remedy="Take one skip away.",
        )
    found, power = _judged(measures, margins)
    name = NAME if question.task is None else question.task.task
    fingerprints = Fingerprints(base=base.sha256, tuned=tuned.sha256)
    document = GateDocument(
        task=name,
        base=str(question.base),
        tuned=Tuned(name=str(question.tuned), kind="logs"),
        mode="logs",
        seed=0,
        artefact_sha256=None,
        bar=None,
        notes=(*base.notes, *tuned.notes, *alone, *_notes(measures, margins), UNCHECKED),
        provenance=Provenance(versions=versions(), hashes={}, machine=machine()),
        verdict=found.verdict,
        reasons=found.reasons,
        would_decide=found.would_decide,
        alpha=found.alpha,
        power=power,
        target=found.target,
        suites=_shown(found, measures),
        failure_modes=(),
        forecast=GateForecast(items=0, seconds=0.0),
        spent=GateSpent(),
        fingerprints=fingerprints,
        test_reuse=None,
    )
    asked = {"logs": fingerprints.as_json(), "margins": margins}
    with gate_folder(gates, name, asked, out) as folder:
        write_gate(folder, document)
    return document, folder


def judge_logged(measure: PairedMeasure, margin: float, *, power: float, alpha: float = ALPHA) -> SuiteFound:
    """The verdict on one measure; whether the base has something to lose is seen on the items themselves, for want of others."""
    scores = [pair.base for pair in measure.pairs]

    def judged(uninformative: str) -> SuiteFound:
        return judge_measure(
            measure.name,
            measure.name,
            measure.pairs,
            margin=margin,
            binary=measure.binary,
            alpha=alpha,
            uninformative=uninformative,
            power=power,
        )

    found = judged(why_no_headroom(scores, chance=measure.chance or 0.0, margin=margin, of="in the logs"))
    hidden = _unanswered(measure, margin)
    return judged(hidden) if hidden and found.verdict == "NON_INFERIOR" else found


def _unanswered(measure: PairedMeasure, margin: float) -> str:
    """Why too many items have no score of the tuned model: the loss could lie in what it could not be scored on."""
    if measure.unanswered <= margin * measure.asked:
        return ""
    without = f"{measure.unanswered:.1f}".removesuffix(".0")
    return (
        f"{without} of {measure.asked} items that the base has a score on have none of the tuned model, "
        f"which could hide a loss of more than {100 * margin:g} points"
    )


def changed_items(measure: PairedMeasure) -> tuple[ChangedItem, ...]:
    """What changed most, side by side."""
    items = {name: SuiteItem(name, one.stratum, 0, one.asked) for name, one in measure.base.items()}
    base, tuned = (_said(side) for side in (measure.base, measure.tuned))
    return changed_most(measure.pairs, items, base, tuned)


def _said(side: Mapping[str, LoggedItem]) -> dict[str, Transcript]:
    return {name: {"": SuiteReply(one.answered)} for name, one in side.items()}


def _together(question: LogGateArguments, base: Logs, tuned: Logs) -> tuple[list[PairedMeasure], list[str]]:
    """The measures that both have, paired, and which stand alone."""
    before, after = ({one.name: one for one in side.measures} for side in (base, tuned))
    both = [name for name in before if name in after]
    if not both:
        raise DataError(
            f"found {listed(before)} in the one and {listed(after)} in the other",
            where=f"{question.base} and {question.tuned}",
            expected="the same task in both",
            remedy="Name two logs of the same task.",
        )
    told = [f"{name} is not in {question.tuned} and was left out." for name in before if name not in after]
    told += [f"{name} is not in {question.base} and was left out." for name in after if name not in before]
    return [pair_measures(before[name], after[name]) for name in both], told


def _judged(measures: Sequence[PairedMeasure], margins: Mapping[str, Margin]) -> tuple[GateConclusion, float]:
    power = planned_power(max(1, sum(margin != "skip" for margin in margins.values())))
    suites = []
    for one in measures:
        margin = margins[one.name]
        suites.append(
            skipped_measure(one.name, one.name) if margin == "skip" else judge_logged(one, margin, power=power)
        )
    return conclude(suites, no_target(), alpha=ALPHA, leaves_out=lambda suite: f"--margin {suite}=skip"), power


def _notes(measures: Sequence[PairedMeasure], margins: Mapping[str, Margin]) -> list[str]:
    asked = [one for one in measures if margins[one.name] != "skip"]
    told = [note for one in asked for note in one.notes]
    unknown = [one.name for one in asked if one.chance is None]
    if unknown:
        told.append(f"What guessing would score is not told by the logs of {listed(unknown)}; it was taken as 0%.")
    return told


def _shown(found: GateConclusion, measures: Sequence[PairedMeasure]) -> tuple[SuiteFound, ...]:
    by_name = {one.name: one for one in measures}
    return tuple(
        one if one.verdict == "SKIPPED" else one.replaced(changed=changed_items(by_name[one.name]))
        for one in found.suites
    )
