"""`decision.json`: checked when it is written and when it is read; and how a run stands that has not written one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from lastresort.errors import ContractError, DataError
from lastresort.records.decision import VERSION, RunView
from lastresort.records.record import Record
from lastresort.records.view import view
from lastresort.report.schema import write_document
from lastresort.systems.running import DECISION as FILE_NAME


def validate_decision(document: object) -> RunView:
    """The decision in a JSON document. Raises ContractError, naming the first fault: of its shape, else of its coherence."""
    try:
        found = RunView.model_validate_json(json.dumps(document, allow_nan=False), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        raise _no_decision(f'found at key "${place}" a fault: {fault["msg"]}') from error
    except (TypeError, ValueError) as error:
        raise _no_decision(f"found a value that is no JSON ({error})") from error
    if isinstance(document, Mapping) and "schema" not in document:  # its default is for those who make one
        raise _no_decision('found at key "$.schema" a fault: Field required')
    _refuse_incoherent(found)
    return found


def write_decision(folder: Path, decision: RunView) -> Path:
    """Write `decision.json` of a run, whole or not at all. Raises ContractError unless the decision is coherent."""
    _refuse_incoherent(decision)
    return write_document(folder / FILE_NAME, decision)


def read_decision(folder: Path) -> RunView:
    """The decision of a finished run. Raises DataError if it is missing, damaged, or of another version."""
    path = folder / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"found no {FILE_NAME}",
            where=str(folder),
            expected="a finished run",
            remedy="Finish it with `lastresort climb TASK --resume`.",
        ) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or a number that Python does not read
        raise _unreadable(path, f"found no JSON ({error})") from error
    version = document.get("schema") if isinstance(document, dict) else None
    if isinstance(version, int) and version != VERSION:
        newer = version > VERSION
        raise DataError(
            f"found schema version {version}",
            where=f'{path}, key "schema"',
            expected=str(VERSION),
            remedy="It was written by a newer lastresort: upgrade this one."
            if newer
            else "It was written by an older lastresort: use that one, or climb again.",
        )
    try:
        return validate_decision(document)
    except ContractError as error:
        raise _unreadable(path, error.found) from error


def read_view(folder: Path) -> RunView:
    """How a run stands: its decision, or before it has one what its record says so far.

    Raises DataError where there is no run, it has not read its task, or its decision is damaged.
    """
    with Record.open(folder, read_only=True) as record:
        found = view(event for _, event in record.since())
    if found is not None and not found.decided:
        return found
    if found is None and not (folder / FILE_NAME).is_file():
        raise DataError(
            "the run has not read its task yet",
            where=str(folder),
            expected="a run that has begun",
            remedy="Look again in a moment, or start it with `lastresort climb TASK`.",
        )
    return read_decision(folder)


def _refuse_incoherent(decision: RunView) -> None:
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


def _unreadable(path: Path, found: str) -> DataError:
    return DataError(
        found,
        where=str(path),
        expected="a decision written by lastresort",
        remedy="Delete it and run `lastresort climb TASK --resume`, which rewrites it from the record.",
    )
