"""`decision.json`: checked when it is written. The record is what a decision is read from; the file is its copy for others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from lastresort.errors import ContractError, DataError
from lastresort.evals.judged import judge_view
from lastresort.records.atomic import is_held, write_atomically
from lastresort.records.decision import FILE_NAME, RunView
from lastresort.records.record import Record
from lastresort.records.view import Fold, fold_of, refuse_study
from lastresort.systems.running import decision_on_disk, recorded_decisions, refuse_changed_run


def write_decision(folder: Path, decision: RunView) -> None:
    """Write `decision.json` of a run, whole or not at all. Raises ContractError unless the decision is coherent."""
    refuse_incoherent(decision)
    write_atomically(folder / FILE_NAME, decision.as_text)


def restore_decision(record: Record, decision: RunView) -> None:
    """Write `decision.json` of a run again where it is missing or is an earlier one, as after a kill between record and file.

    Leaves it to the process that climbs the run, where there is one. Raises DataError where the file cannot be read.
    """
    folder = record.folder
    if is_held(folder) or decision_on_disk(folder) == (written := recorded_decisions(record)[-1]):
        return
    refuse_incoherent(decision)
    write_atomically(folder / FILE_NAME, written)


def decision_in(record: Record) -> RunView:
    """The decision of a run. Raises DataError where it has none, or has gone on up since, and of a study."""
    refuse_study(record)
    found = fold_of(record).decided
    if found is None:
        remedy = f"Finish it with `lastresort climb TASK --resume {quote(str(record.folder))}`."
        if is_held(record.folder):
            remedy = (
                f"A process is climbing it now: `lastresort watch {quote(str(record.folder))}` shows how far it is."
            )
        raise DataError(
            "the run has not decided, or has gone on since",
            where=str(record.folder),
            expected="a run with a decision",
            remedy=remedy,
        )
    return found


def read_decision(folder: Path) -> RunView:
    """The decision of the run in this folder. Raises DataError as `decision_in`, and where there is no run, or it was changed."""
    with Record.open(folder, read_only=True) as record:
        found = decision_in(record)
        if not is_held(folder):
            refuse_changed_run(record, found)
        return found


def read_view(folder: Path) -> RunView:
    """The state of a run: its decision, or what its record holds so far.

    Raises DataError where there is no run, it was changed, or it has not read its task.
    """
    with Record.open(folder, read_only=True) as record:
        return view_in(record)


def view_in(record: Record) -> RunView:
    """The state of a run, as `read_view`, from its open record."""
    refuse_study(record)
    fold = fold_of(record)
    if not is_held(record.folder):  # whoever climbs it may be writing them
        refuse_changed_run(record, fold.decided)
    found = view_of(fold)
    if found is None:
        raise DataError(
            "the run has not read its task yet",
            where=str(record.folder),
            expected="a run that has started",
            remedy="Look again in a moment, or start it with `lastresort climb TASK`.",
        )
    return found


def view_of(run: Fold) -> RunView | None:
    """The state of the run, with its judge's verdicts so far. None before it has read its task."""
    found = run.view()
    return found if found is None or found.decided else found.replaced(judge=judge_view(run))


def refuse_incoherent(decision: RunView) -> None:
    """Raises ContractError, naming the first fault."""
    fault = next(_incoherent(decision), None)
    if fault is not None:
        raise _no_decision(fault)


def _incoherent(found: RunView) -> Iterator[str]:
    names = [rung.name for rung in found.rungs]
    if found.answer is None or found.verdict is None or found.winner is None or found.provenance is None:
        yield "found no answer, verdict, winner or provenance: the run has not decided"
    if len(set(names)) < len(names):
        yield f"found a rung twice in {names}"
    if found.stopped_at not in {None, *names}:
        yield f'found at key "stopped_at" {found.stopped_at!r}, which is none of the rungs {names}'
    if found.meets_bar and not any(rung.test and rung.test.verdict == "MET" for rung in found.rungs):
        yield 'found at key "meets_bar" true, though no rung is MET'
    yield from _incoherent_rungs(found)
    yield from _incoherent_gate(found)
    yield from _incoherent_compare(found)
    yield from _incoherent_costs(found, names)


def _incoherent_rungs(found: RunView) -> Iterator[str]:
    for rung in found.rungs:
        test = rung.test
        if not rung.applies and (rung.skipped_because is None or test is not None):
            yield f"found {rung.name} skipped without a reason, or with a test"
        if test and not test.interval[0] <= test.interval[1]:
            yield f"found an interval of {rung.name} that ends before it begins"
        if test and (test.decided is None) != (test.verdict == "UNDECIDED"):
            yield f"found a verdict of {rung.name} without the rule that decided, or a rule without a verdict"
        if test and test.n_used > test.n_available:
            yield f"found more items used than available in the test of {rung.name}"
        if rung.chosen and rung.chosen not in {candidate.name for candidate in rung.candidates}:
            yield f"found a chosen system of {rung.name} that is none of its candidates"


def _incoherent_gate(found: RunView) -> Iterator[str]:
    gate, said = found.gate, {rung.name: rung.gate for rung in found.rungs if rung.gate}
    if (gate is None) != (not said):
        yield 'found at key "gate" one though no rung was gated, or none though one was'
    elif gate is not None and said.get(gate.rung) != gate.verdict:
        yield f'found at key "gate" {gate.verdict} of {gate.rung}, of which the rung says {said.get(gate.rung)}'
    winner = found.winner
    if winner is None:
        return
    if winner.held and (gate is None or gate.verdict != "HOLD"):
        yield "found a winner that is held though no gate holds it"
    missing = [winner.path is None, winner.sha256 is None]
    if any(missing) != all(missing) or all(missing) != (winner.kind == "none"):
        yield f'found at key "winner" one of the kind {winner.kind} with a path or a hash that it should not have, or without one'


def _incoherent_compare(found: RunView) -> Iterator[str]:
    ways = [entry.way for entry in found.compare]
    if len(set(ways)) < len(ways) or len(ways) == 1:
        yield f'found at key "compare" the ways {ways}, expected two or more, each once'
    for entry in found.compare:
        known = [part is not None for part in (entry.difference, entry.interval, entry.verdict)]
        if any(known) != all(known) or (any(known) and entry is found.compare[0]):
            yield f'found at key "compare" {entry.way} with a difference of which a part is missing, or of the first from itself'
        if entry.made_of is not None and entry.made_of not in ways:
            yield f'found at key "compare" {entry.way} made of {entry.made_of}, which is not among them'


def _incoherent_costs(found: RunView, rungs: list[str]) -> Iterator[str]:
    costs = found.break_even
    if costs is None:
        return
    systems = [system.rung for system in costs.systems]
    if not set(systems) <= set(rungs) or len(set(systems)) < len(systems):
        yield f'found at key "break_even" systems of {systems}, expected some of the rungs {rungs}, each once'
    for pair in costs.pairs:
        if not {pair.tuned, pair.untuned} <= set(systems):
            yield f'found at key "break_even" a pair of {pair.tuned} and {pair.untuned}, which are not both priced'
        if (pair.calls is None) != (pair.crossing in ("never", "unknown")):
            yield 'found at key "break_even" a crossing without its number of calls, or a number without a crossing'


def _no_decision(fault: str) -> ContractError:
    return ContractError(fault, where=FILE_NAME, expected="a decision as in decision_schema.json")
