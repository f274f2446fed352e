"""A gate on the logs of another tool, lm-eval or Inspect: the same paired verdict, and no model is opened.

Margins: those named on the command line, then the task's `keep`, then the default.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastresort.climb.identity import machine, versions
from lastresort.errors import DataError, InputError
from lastresort.foreign import printable
from lastresort.gate.document import changed_most, gate_folder
from lastresort.gate.logs.inspect import inspect_log, json_of
from lastresort.gate.logs.lm_eval import lm_eval_file, lm_eval_folder
from lastresort.gate.logs.logged import LoggedItem, LoggedMeasure, MeasuresAndFaults, PairedMeasure, pair_measures
from lastresort.gate.suites.suite import SuiteItem, SuiteReply, Transcript
from lastresort.gate.verdict.compare import judge_measure, planned_power, skipped_measure, why_no_headroom
from lastresort.gate.verdict.decide import conclude, no_target
from lastresort.records.atomic import disk_errors
from lastresort.records.gate import (
    ChangedItem,
    Fingerprints,
    GateConclusion,
    GateDocument,
    GateForecast,
    GateSpent,
    Provenance,
    SuiteFound,
    Tuned,
)
from lastresort.records.uninformative import ManyUnscored, WhyUninformative
from lastresort.report.gate import write_gate
from lastresort.report.words import gate as words
from lastresort.report.words.wording import listed
from lastresort.spec.sections import SUITES
from lastresort.spec.task import Task
from lastresort.systems.files import file_sha256

Margin = float | Literal["skip"]
EVERY = ""  # the name of a margin without a name


def read_margins(options: Sequence[str]) -> dict[str, Margin]:
    """`0.03`, of every measure, or `NAME=0.03`, `NAME=skip`. Raises InputError for anything else."""
    margins: dict[str, Margin] = {}
    for text in options:
        name, _, value = text.rpartition("=")
        if name in margins:
            raise _refused(text, "each measure once")
        margins[name] = "skip" if value == "skip" and name else _share(text, value)
    return margins


def margins_of(names: Sequence[str], given: Mapping[str, Margin], task: Task | None) -> dict[str, Margin]:
    """The margin of each measure. Raises InputError for a margin of a measure that is not there."""
    for name in given:
        if name != EVERY and name not in names:
            raise _refused(name, f"a measure that both logs hold: {', '.join(names)}")
    keep = {} if task is None else task.keep
    general = keep.get("general", "skip")
    default = SUITES["general"].margin if general == "skip" else general
    return {name: given.get(name, given.get(EVERY, keep.get(name, default))) for name in names}


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


def gate_logs(
    base: Path,
    tuned: Path,
    task: Task | None,
    given: Mapping[str, Margin],
    *,
    gates: Path,
    out: Path | None = None,
) -> tuple[GateDocument, Path]:
    """Pair the items, conclude, and write `gate.json`. Returns the document and its folder.

    base, tuned: a log or a folder of logs each. task: its `keep` sets margins. given: from `read_margins`. gates: where a new
    folder is made. out: the folder itself instead. Raises InputError for a margin of an unknown measure, if every measure is
    skipped, or if one log is a copy of the other, DataError for logs that cannot be read or do not belong together.
    """
    before, after = read_logs(base), read_logs(tuned)
    if before.sha256 == after.sha256:
        _refuse_copy(base, tuned)
    measures, left_out = _pair(before, after, str(base), str(tuned))
    margins = margins_of([measure.name for measure in measures], given, task)
    if all(margin == "skip" for margin in margins.values()):
        raise InputError(
            "every measure is skipped",
            where="--margin, keep",
            expected="at least one to compare",
            remedy="Remove one skip.",
        )
    conclusion = _conclude(measures, margins)
    name = NAME if task is None else task.task
    fingerprints = Fingerprints(base=before.sha256, tuned=after.sha256)
    document = GateDocument(
        task=name,
        base=str(base),
        tuned=Tuned(name=str(tuned), kind="logs"),
        mode="logs",
        seed=0,
        artefact_sha256=None,
        bar=None,
        notes=(*before.notes, *after.notes, *left_out, *_notes(measures, margins), words.UNCHECKED),
        provenance=Provenance(versions=versions(), hashes={}, machine=machine()),
        **dict(conclusion.replaced(suites=_with_examples(conclusion, measures))),
        failure_modes=(),
        forecast=GateForecast(items=0, seconds=0.0, expected_items=0, expected_seconds=0.0),
        spent=GateSpent(),
        fingerprints=fingerprints,
        test_reuse=None,
    )
    key = {"logs": fingerprints.as_json(), "margins": margins}
    with gate_folder(gates, name, key, out) as folder:
        write_gate(folder, document)
    return document, folder


def judge_logged(measure: PairedMeasure, margin: float) -> SuiteFound:
    """The verdict on one measure. There is no pilot, so the items themselves show whether the base has something to lose."""
    scores = [pair.base for pair in measure.pairs]

    def judge(uninformative: WhyUninformative | None) -> SuiteFound:
        return judge_measure(
            measure.name,
            measure.name,
            measure.pairs,
            margin=margin,
            binary=measure.binary,
            alpha=ALPHA,
            uninformative=uninformative,
        )

    finding = judge(why_no_headroom(scores, chance=measure.chance or 0.0, margin=margin, among="logs"))
    unanswered = _why_unanswered(measure, margin)
    return judge(unanswered) if unanswered and finding.verdict == "NON_INFERIOR" else finding


def _why_unanswered(measure: PairedMeasure, margin: float) -> ManyUnscored | None:
    """Of a tuned model that lacks too many scores: a loss could lie in the missing ones."""
    if measure.unanswered <= margin * measure.asked:
        return None
    return ManyUnscored(unscored=measure.unanswered, asked=measure.asked, margin=margin)


def changed_items(measure: PairedMeasure) -> tuple[ChangedItem, ...]:
    """The items that changed most, side by side."""
    items = {name: SuiteItem(name, item.stratum, 0, item.asked) for name, item in measure.base.items()}
    base, tuned = (_transcripts(side) for side in (measure.base, measure.tuned))
    return changed_most(measure.pairs, items, base, tuned)


def _transcripts(side: Mapping[str, LoggedItem]) -> dict[str, Transcript]:
    return {name: {"": SuiteReply(item.answered)} for name, item in side.items()}


def _pair(before_logs: Logs, after_logs: Logs, base: str, tuned: str) -> tuple[list[PairedMeasure], list[str]]:
    """The measures in both logs, paired, and notes on those in only one. base, tuned: as they were named."""
    base_measures, tuned_measures = (
        {measure.name: measure for measure in side.measures} for side in (before_logs, after_logs)
    )
    common = [name for name in base_measures if name in tuned_measures]
    if not common:
        raise DataError(
            f"found {listed(base_measures)} in one and {listed(tuned_measures)} in the other",
            where=f"{base} and {tuned}",
            expected="the same task in both",
            remedy="Name two logs of the same task.",
        )
    notes = [words.in_one_log(name, tuned) for name in base_measures if name not in tuned_measures]
    notes += [words.in_one_log(name, base) for name in tuned_measures if name not in base_measures]
    return [pair_measures(base_measures[name], tuned_measures[name]) for name in common], notes


def _conclude(measures: Sequence[PairedMeasure], margins: Mapping[str, Margin]) -> GateConclusion:
    power = planned_power(max(1, sum(margin != "skip" for margin in margins.values())))
    suites = []
    for measure in measures:
        margin = margins[measure.name]
        suites.append(
            skipped_measure(measure.name, measure.name) if margin == "skip" else judge_logged(measure, margin)
        )
    return conclude(suites, no_target(), power=power, alpha=ALPHA, leaves_out=lambda suite: f"--margin {suite}=skip")


def _notes(measures: Sequence[PairedMeasure], margins: Mapping[str, Margin]) -> list[str]:
    compared = [measure for measure in measures if margins[measure.name] != "skip"]
    notes = [note for measure in compared for note in measure.notes]
    unknown = [measure.name for measure in compared if measure.chance is None]
    if unknown:
        notes.append(words.unknown_chance(unknown))
    return notes


def _with_examples(conclusion: GateConclusion, measures: Sequence[PairedMeasure]) -> tuple[SuiteFound, ...]:
    by_name = {measure.name: measure for measure in measures}
    return tuple(
        finding if finding.verdict == "SKIPPED" else finding.replaced(changed=changed_items(by_name[finding.name]))
        for finding in conclusion.suites
    )


@dataclass(frozen=True, slots=True)
class Logs:
    """measures: sorted by name. notes: for the reader, as sentences. sha256: over measures and scores."""

    measures: tuple[LoggedMeasure, ...]
    notes: tuple[str, ...]
    sha256: str


def read_logs(path: Path) -> Logs:
    """The measures at a path. Those that cannot be used are named in a note.

    Raises DataError for a path without logs, a log that cannot be read, a measure that occurs twice, and if no measure can be used.
    """
    (readable, faults), notes = _read(path)
    if not readable:
        raise faults[0]
    twice = next((name for name, times in Counter(measure.name for measure in readable).items() if times > 1), None)
    if twice is not None:
        raise DataError(
            f"found {twice} in more than one log",
            where=str(path),
            expected="each measure once",
            remedy="Name the log of a single run.",
        )
    measures = tuple(sorted(readable, key=lambda one: one.name))
    return Logs(measures, (*notes, *(words.log_left_out(str(fault)) for fault in faults)), _hash(measures))


def _read(path: Path) -> tuple[MeasuresAndFaults, list[str]]:
    if path.is_file():
        return _file(path), []
    if not path.is_dir():
        raise _no_logs(path, "nothing on disk")
    (measures, faults), notes = lm_eval_folder(path)
    for file in sorted(path.rglob("*")):
        file_measures, file_faults = _of_inspect(file) if file.is_file() else ([], [])
        measures, faults = [*measures, *file_measures], [*faults, *file_faults]
    if not measures and not faults:
        raise _no_logs(path, "a folder without logs")
    return (measures, faults), notes


def _file(path: Path) -> MeasuresAndFaults:
    if path.suffix == ".jsonl":
        return lm_eval_file(path)
    if path.suffix in (".eval", ".json"):
        return inspect_log(path)
    raise _no_logs(path, "another kind of file")


def _of_inspect(path: Path) -> MeasuresAndFaults:
    """Other files of a folder are ignored."""
    if path.suffix == ".eval":
        return inspect_log(path)
    if path.suffix != ".json" or path.name.startswith("results_"):
        return [], []
    try:
        document = json_of(path)
    except DataError:
        return [], []
    return inspect_log(path) if isinstance(document.get("eval"), dict) else ([], [])


def _hash(measures: tuple[LoggedMeasure, ...]) -> str:
    digest = hashlib.sha256()
    for measure in measures:
        for item in measure.items:
            digest.update(repr((measure.name, measure.metric, item.id, item.score, sorted(item.same.items()))).encode())
    return digest.hexdigest()


def _refuse_copy(base: Path, tuned: Path) -> None:
    """Raises InputError where one holds the files of the other, whatever their names and what else is there: a log has its date in
    it, or the last digit of its log-likelihoods, so that two models do not write the same.
    """
    before, after = _contents(base), _contents(tuned)
    if before <= after or after <= before:
        raise InputError(
            f"found the same logs twice: {printable(str(base))} and {printable(str(tuned))} hold the same bytes",
            where="--from-logs",
            expected="the logs of the base and those of the tuned model",
            remedy="Name first what the base wrote, then what the tuned model wrote. If both models did answer alike in every "
            "character, name the folders that also hold their results_*.json.",
        )


def _contents(path: Path) -> set[str]:
    """The sha256 of each file."""
    with disk_errors(path):
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return set(map(file_sha256, files))


def _no_logs(path: Path, found: str) -> DataError:
    return DataError(
        f"found {found}",
        where=str(path),
        expected="samples_*.jsonl of lm-eval, a log of Inspect (.eval, .json), or a folder of these",
        remedy="lm-eval writes them with --log_samples --output_path FOLDER.",
    )
