"""`decision.json`: checked against its schema when it is written and when it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lastresort.errors import ContractError, DataError
from lastresort.report.gate import completed
from lastresort.report.schema import misfit, write_document
from lastresort.systems.running import DECISION as FILE_NAME

VERSION, OLDEST = 7, 5


def validate_decision(decision: Mapping[str, Any]) -> None:
    """Raises ContractError, naming the first fault, unless the decision has the shape of DESIGN part 12 and is coherent."""
    fault = next(_faults(decision), None)
    if fault is not None:
        raise ContractError(fault, where=FILE_NAME, expected="a decision as in decision_schema.json")


def write_decision(folder: Path, decision: Mapping[str, Any]) -> Path:
    """Write `decision.json` of a run, whole or not at all. Raises ContractError if it is not a valid decision."""
    validate_decision(decision)
    return write_document(folder / FILE_NAME, decision)


def read_decision(folder: Path) -> dict[str, Any]:
    """The decision of a finished run, of an older version as this one would have written it.

    Raises DataError if it is missing, damaged, newer than this program, or too old to be read.
    """
    path = folder / FILE_NAME
    try:
        decision = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"found no {FILE_NAME}",
            where=str(folder),
            expected="a finished run",
            remedy="Finish it with `lastresort climb TASK --resume`.",
        ) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or a number that Python does not read
        raise _unreadable(path, f"found no JSON ({error})") from error
    version = decision.get("schema") if isinstance(decision, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise DataError(
            f"found schema version {version}",
            where=f'{path}, key "schema"',
            expected=f"at most {VERSION}",
            remedy="It was written by a newer lastresort: upgrade this one.",
        )
    if isinstance(version, int) and version < OLDEST:
        raise DataError(
            f"found schema version {version}",
            where=f'{path}, key "schema"',
            expected=f"{OLDEST} to {VERSION}",
            remedy="It was written by an older lastresort: run `lastresort climb TASK --resume RUN`, which writes it anew "
            "from the record without asking a model.",
        )
    decision = _of_this_version(decision)
    fault = next(_faults(decision), None)
    if fault is not None:
        raise _unreadable(path, fault)
    return dict(decision)


def _of_this_version(decision: Any) -> Any:
    """Version 5 had no gate, of which version 6 speaks in every rung; in version 6 a gate had no failure modes at first; version 7
    tells of repairs. At first no gate counted its tokens.
    """
    version = decision.get("schema") if isinstance(decision, dict) else None
    if isinstance(decision, dict):
        gates = {key: completed(decision[key]) for key in ("gate", "first_gate") if _is_gate(decision.get(key))}
        decision = {**decision, **gates}
    if version not in range(OLDEST, VERSION) or not isinstance(decision.get("rungs"), list):
        return decision
    decision = {**decision, "schema": VERSION, "first_gate": None}
    if version == OLDEST:
        rungs = [{**rung, "gate": None} if isinstance(rung, dict) else rung for rung in decision["rungs"]]
        decision = {**decision, "rungs": rungs}
    return decision


def _is_gate(gate: Any) -> bool:
    """Enough of one to be completed; the rest is for the schema to tell."""
    if not isinstance(gate, dict) or not isinstance(gate.get("spent"), dict):
        return False
    suites = gate.get("suites")
    return isinstance(suites, list) and all(isinstance(suite, dict) and "suite" in suite for suite in suites)


def _faults(decision: Any) -> Iterator[str]:
    """What is wrong, in words: the shape first, then what a schema cannot say."""
    try:
        plain = json.loads(json.dumps(decision, allow_nan=False))  # tuples are arrays; NaN is no JSON
    except (TypeError, ValueError) as error:
        yield f"found a value that is no JSON ({error})"
        return
    fault = misfit(plain, "decision")
    if fault is not None:
        yield fault
        return
    yield from _incoherent(plain)


def _incoherent(decision: dict[str, Any]) -> Iterator[str]:
    names = [rung["name"] for rung in decision["rungs"]]
    if len(set(names)) < len(names):
        yield f"found a rung twice in {names}"
    if decision["stopped_at"] not in {None, *names}:
        yield f'found at key "stopped_at" {decision["stopped_at"]!r}, which is none of the rungs {names}'
    if decision["meets_bar"] and not any(
        rung["test"] and rung["test"]["verdict"] == "MET" for rung in decision["rungs"]
    ):
        yield 'found at key "meets_bar" true, though no rung is MET'
    for rung in decision["rungs"]:
        test = rung["test"]
        if test and not test["interval"][0] <= test["interval"][1]:
            yield f"found an interval of {rung['name']} that ends before it begins"
        if test and (test["decided"] is None) != (test["verdict"] == "UNDECIDED"):
            yield f"found a verdict of {rung['name']} without the rule that decided, or a rule without a verdict"
        if test and test["n_used"] > test["n_available"]:
            yield f"found more items used than available in the test of {rung['name']}"
        if rung["chosen"] and rung["chosen"] not in {candidate["name"] for candidate in rung["candidates"]}:
            yield f"found a chosen system of {rung['name']} that is none of its candidates"
    yield from _incoherent_gate(decision)
    yield from _incoherent_compare(decision["compare"])
    yield from _incoherent_costs(decision, names)


def _incoherent_gate(decision: dict[str, Any]) -> Iterator[str]:
    gate, said = decision["gate"], {rung["name"]: rung["gate"] for rung in decision["rungs"] if rung["gate"]}
    if (gate is None) != (not said):
        yield 'found at key "gate" one though no rung was gated, or none though one was'
    elif gate is not None and said.get(gate["rung"]) != gate["verdict"]:
        yield f'found at key "gate" {gate["verdict"]} of {gate["rung"]}, of which the rung says {said.get(gate["rung"])}'
    if decision["winner"]["held"] and (gate is None or gate["verdict"] != "HOLD"):
        yield "found a winner that is held though no gate holds it"


def _incoherent_compare(entries: list[dict[str, Any]]) -> Iterator[str]:
    ways = [entry["way"] for entry in entries]
    if len(set(ways)) < len(ways) or len(ways) == 1:
        yield f'found at key "compare" the ways {ways}, expected two or more, each once'
    for entry in entries:
        known = [entry[key] is not None for key in ("difference", "interval", "verdict")]
        if any(known) != all(known) or (any(known) and entry is entries[0]):
            yield f'found at key "compare" {entry["way"]} with a difference of which a part is missing, or of the first from itself'
        if entry["made_of"] is not None and entry["made_of"] not in ways:
            yield f'found at key "compare" {entry["way"]} made of {entry["made_of"]}, which is not among them'


def _incoherent_costs(decision: dict[str, Any], rungs: list[str]) -> Iterator[str]:
    costs = decision["break_even"]
    if costs is None:
        return
    systems = [system["rung"] for system in costs["systems"]]
    if not set(systems) <= set(rungs) or len(set(systems)) < len(systems):
        yield f'found at key "break_even" systems of {systems}, expected some of the rungs {rungs}, each once'
    for pair in costs["pairs"]:
        if not {pair["tuned"], pair["untuned"]} <= set(systems):
            yield f'found at key "break_even" a pair of {pair["tuned"]} and {pair["untuned"]}, which are not both priced'
        if (pair["calls"] is None) != (pair["crossing"] in ("never", "unknown")):
            yield 'found at key "break_even" a crossing without its number of calls, or a number without a crossing'


def _unreadable(path: Path, found: str) -> DataError:
    return DataError(
        found,
        where=str(path),
        expected="a decision written by lastresort",
        remedy="Delete it and run `lastresort climb TASK --resume`, which writes it anew from the record.",
    )
