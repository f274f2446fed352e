"""What of a run answers who wants to try it: its winner, else its best prompt, and with them what other rungs tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.climb.shared_run import asks_endpoint
from lastresort.errors import DataError, InputError
from lastresort.ladder import PROMPT_RUNG, RUNGS, trains
from lastresort.records.decision import RunView, winner_notes
from lastresort.records.decision_parts import CandidateFacts
from lastresort.records.events.after_test import GateRun
from lastresort.records.events.search import CandidateProposed, SystemFrozen
from lastresort.records.gate import ClimbGate, is_uncleared
from lastresort.records.record import Record
from lastresort.records.rung_view import facts_in
from lastresort.report.decision import view_in
from lastresort.systems.files import FILE, artefact_sha256, candidate_folder, load_measured, load_system
from lastresort.systems.system import System

WINNER = "winner"  # as `serve` calls it


@dataclass(frozen=True, slots=True)
class TestedSystem:
    """What a rung tested, or measured on dev alone: `dev` is then its score there. held: whether a gate did not clear it.
    measured_tokens: as in `Servable`.
    """

    __test__ = False

    rung: str
    name: str
    held: bool
    reaches: tuple[str, ...]
    measured_tokens: int = 0
    dev: float | None = None
    facts: CandidateFacts | None = None

    @property
    def key(self) -> str:
        """By which `serve` knows it, and answers as it."""
        return self.rung if self.dev is None else f"{self.rung}/{self.name}"


@dataclass(frozen=True, slots=True)
class Servable:
    """folder: what `serve` is given: the run for its winner, else that of the best prompt, which nothing can hold.

    held: whether the gate holds it, by the checked record. reaches: the models that answer and are endpoints. others: what other
    rungs tested, and what was measured on dev alone. opened: those of them that are served, too, by their key. measured_tokens: the
    limit of an answer when it was measured, the larger one of the winner and the best prompt. notes: what to say of the winner,
    such as that it is not shown to meet the bar. decided: whether the run has.
    """

    folder: Path
    name: str
    held: bool = False
    is_winner: bool = True
    reaches: tuple[str, ...] = ()
    others: tuple[TestedSystem, ...] = ()
    opened: tuple[str, ...] = ()
    measured_tokens: int = 0
    notes: tuple[str, ...] = ()
    decided: bool = True

    @property
    def held_ones(self) -> tuple[str, ...]:
        """What of it the gate did not clear: WINNER, and rungs that are opened with it."""
        rungs = (one.key for one in self.others if one.held and one.key in self.opened)
        return (*((WINNER,) if self.held else ()), *rungs)

    def most_tokens(self, names: Sequence[str]) -> int:
        """The largest limit of an answer with which one of the systems of these names was measured."""
        return max([self.measured_tokens, *(one.measured_tokens for one in self.others if one.key in names)])

    def with_others(self, rungs: Sequence[str]) -> Servable:
        """To be served with the systems of these rungs. Raises InputError for a rung that has none."""
        by_key = {system.key: system for system in self.others}
        if unknown := [rung for rung in rungs if rung not in by_key]:
            raise InputError(
                f'found "{unknown[0][:40]}"', expected=f"some of {', '.join(by_key)}", remedy="Reload the page."
            )
        reaches = {name for rung in rungs for name in by_key[rung].reaches}
        return replace(self, opened=tuple(rungs), reaches=tuple(sorted({*self.reaches, *reaches})))


def servable(run: Path) -> Servable | None:
    """None where the run has neither a winner nor a prompt that was tested. Raises DataError where its record was changed, and
    where the files of that prompt are not those that were measured.
    """
    with Record.open(run, read_only=True) as record:
        view = view_in(record)
        frozen_by_rung = {event.rung: event for event in record.all(SystemFrozen)}
        gates = [event.gate for event in record.all(GateRun)]
        proposed = record.all(CandidateProposed)
        facts = {(one.rung, one.name): facts_in(record, one.rung, one.name) for one in proposed}
    candidates = _candidates(run, view, frozen_by_rung, gates)
    winner = view.winner
    if winner is not None and winner.path is not None and (run / winner.path / FILE).is_file():
        others = _others(run, facts, frozen_by_rung, gates, but=artefact_sha256(run / winner.path))
        # `serve` checks its files.
        servable_system = _servable(run, load_system(run / winner.path), held=winner.held, is_winner=True)
        return replace(
            servable_system,
            notes=winner_notes(view.winner_verdict, ungated=view.winner_ungated),
            others=(*(one for one in others if one.key != PROMPT_RUNG), *candidates),
            measured_tokens=max(
                servable_system.measured_tokens, *(one.measured_tokens for one in others if one.key == PROMPT_RUNG), 0
            ),
        )
    tested_rungs = [rung.name for rung in view.rungs if rung.test is not None and not trains(rung.name)]
    for event in (frozen_by_rung[rung] for rung in reversed(tested_rungs) if rung in frozen_by_rung):
        folder = candidate_folder(run, event.rung, event.name)
        if (folder / FILE).is_file():
            servable_system = _servable(folder, load_measured(folder, event.sha256), held=False, is_winner=False)
            others = (*_others(run, facts, frozen_by_rung, gates, but=event.sha256), *candidates)
            return replace(servable_system, others=others, decided=view.decided)
    return None


def _others(
    run: Path,
    facts: Mapping[tuple[str, str], CandidateFacts | None],
    frozen_by_rung: Mapping[str, SystemFrozen],
    gates: Sequence[ClimbGate],
    but: str,
) -> tuple[TestedSystem, ...]:
    """What the rungs tested, without the system of this hash. `serve` checks their files."""
    return tuple(
        system
        for event in (frozen_by_rung[rung] for rung in RUNGS if rung in frozen_by_rung)
        if event.sha256 != but
        and (system := _tested(run, gates, event.rung, event.name, facts.get((event.rung, event.name)))) is not None
    )


def _candidates(
    run: Path, view: RunView, frozen_by_rung: Mapping[str, SystemFrozen], gates: Sequence[ClimbGate]
) -> list[TestedSystem]:
    """What was measured on dev alone, the best of a rung first. `serve` checks their files."""
    return [
        one
        for rung in view.rungs
        for candidate in sorted(rung.candidates, key=lambda one: -one.dev.score)
        if (rung.name not in frozen_by_rung or frozen_by_rung[rung.name].name != candidate.name)
        and (one := _tested(run, gates, rung.name, candidate.name, candidate.facts, candidate.dev.score)) is not None
    ]


def _tested(
    run: Path, gates: Sequence[ClimbGate], rung: str, name: str, facts: CandidateFacts | None, dev: float | None = None
) -> TestedSystem | None:
    """None where its files cannot be read."""
    system = _readable(candidate_folder(run, rung, name))
    if system is None:
        return None
    is_held, tokens = is_uncleared(gates, rung, name), system.decoding.max_new_tokens
    return TestedSystem(rung, name, is_held, _reached(system), tokens, dev, facts)


def _readable(folder: Path) -> System | None:
    """None where nothing readable is in the folder: the other systems of the run can be talked to all the same."""
    try:
        return load_system(folder)
    except (DataError, InputError):  # a damaged one, or one with a link out of its folder
        return None


def _servable(folder: Path, system: System, *, held: bool, is_winner: bool) -> Servable:
    return Servable(
        folder, system.name, held, is_winner, _reached(system), measured_tokens=system.decoding.max_new_tokens
    )


def _reached(system: System) -> tuple[str, ...]:
    return (system.model,) if asks_endpoint(system.model) else ()
