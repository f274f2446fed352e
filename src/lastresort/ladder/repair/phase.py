"""The repairs of a climb: after the first gate milder systems are tried, and the best of the good ones is tested and gated once.

There is at most one such phase a climb. Every repair is noted when it is measured, so that a climb that was killed goes on after it
and chooses the same; nothing that was tried is left out, whatever became of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from lastresort.errors import CandidateError
from lastresort.ladder.decide import RungOutcome, as_test
from lastresort.ladder.gate.best_prompt import best_prompt
from lastresort.ladder.gate.in_climb import Mode, gate_of, gated_again
from lastresort.ladder.gate.said import gating_of
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.repair.entries import PHASE, TESTED, TRIED, repairs_of
from lastresort.ladder.repair.judging import Measured, Tried, best, faults, goes_to_the_gate, stands, why_good
from lastresort.ladder.repair.losses import Losses
from lastresort.ladder.repair.making import Making
from lastresort.ladder.repair.sentences import what_became
from lastresort.ladder.repair.stages import Repair, stages
from lastresort.ladder.repair.time_left import beyond_time, has_other_time
from lastresort.ladder.repair.when import Needed, repairs_after
from lastresort.ladder.testing import run_test
from lastresort.records.record import ItemScore
from lastresort.rungs.choosing import on_dev
from lastresort.rungs.rung import Workbench, mean_score
from lastresort.systems.files import load_system


def after_repairs(
    bench: Workbench, prepared: Prepared, outcomes: Sequence[RungOutcome], gated: RungOutcome, mode: Mode
) -> RungOutcome:
    """The outcome of the rung after its gate: of the repaired system where it takes the place of the gated one, else `gated`.

    outcomes: of the climb so far, among which is the best prompt. mode: of the gate; with "none" no phase is begun. Raises
    StoppedError where a limit is reached or a model cannot be asked: a resumed climb goes on from there.
    """
    first, begun = gate_of(bench.record, gated.rung, gated.system), bench.record.last(PHASE)
    needed = repairs_after(first) if first is not None and prepared.task.counts_repair else None
    if begun is None and mode == "none":
        return gated
    if first is None or needed is None or (begun is not None and begun["rung"] != gated.rung):
        return gated
    if begun is None:
        bench.record.note(PHASE, {"rung": gated.rung, "system": gated.system, **asdict(needed)}, key=gated.rung)
    chosen = best(_tried(bench, prepared, outcomes, gated, needed))
    found = gated if chosen is None else _tested(bench, prepared, outcomes, gated, chosen, first)
    told = what_became(repairs_of(bench.record), first["verdict"], stands=found is not gated)
    bench.progress.say(f"{gated.rung}: {told}")
    return replace(found, repairs=told)


def _tried(
    bench: Workbench, prepared: Prepared, outcomes: Sequence[RungOutcome], gated: RungOutcome, needed: Needed
) -> list[Tried]:
    """Stage after stage until one holds a good repair."""
    assert gated.system is not None
    system = load_system(bench.candidate_folder(gated.rung, gated.system))
    making = Making(bench, gated.rung, system)
    trying = _Trying(bench, prepared, gated.rung, needed, making, _prompted(bench, outcomes))
    found: list[Tried] = []
    for stage in stages(needed.kinds, trying.making.training()):
        found += [tried for repair in stage if (tried := trying.tried(repair)) is not None]
        if any(tried.good for tried in found):
            break
    return found


class _Trying:
    """Repairs one by one, each in the record when it is measured. prompted: scores of the best prompt on dev, by item."""

    def __init__(
        self,
        bench: Workbench,
        prepared: Prepared,
        rung: str,
        needed: Needed,
        making: Making,
        prompted: dict[str, float],
    ) -> None:
        self.making = making
        self._bench, self._rung, self._needed, self._prompted = bench, rung, needed, prompted
        self._losses = Losses(bench, prepared)

    def tried(self, repair: Repair) -> Tried | None:
        """None where there is no such system."""
        known = self._bench.record.last(TRIED, f"{self._rung} {repair.key}")
        if known is None or has_other_time(self._bench, self._rung, repair):
            known = self._measured(repair)
            self._bench.record.note(TRIED, known, key=f"{self._rung} {repair.key}")
        if known["dev"] is None:
            return None
        measures = tuple(Measured(**measure) for measure in known["measures"])
        return Tried(known["system"], known["dev"]["score"], measures, known["good"])

    def _measured(self, repair: Repair) -> dict[str, Any]:
        bench, rung = self._bench, self._rung
        if beyond := beyond_time(bench, rung, repair):
            return _not_made(rung, repair, beyond)
        try:
            system = self.making.made(repair)
        except CandidateError as error:
            return _not_made(rung, repair, f"it could not be made: {error}")
        if system is None:
            return _not_made(rung, repair, "its training diverged")
        items = on_dev(bench, rung, system)
        dev = mean_score(items)
        measures = self._losses.of(bench.candidate_folder(rung, system.name))
        wrong = faults(dev, measures, self._needed, bar=bench.task.bar, won=_won(items, self._prompted))
        return {
            **_head(rung, repair),
            "system": system.name,
            "dev": {"score": dev, "n": len(items)},
            "measures": [asdict(measure) for measure in measures],
            "good": not wrong,
            "why": "; ".join(wrong) if wrong else why_good(dev, measures, self._needed),
        }


def _tested(
    bench: Workbench,
    prepared: Prepared,
    outcomes: Sequence[RungOutcome],
    gated: RungOutcome,
    chosen: Tried,
    first: dict[str, Any],
) -> RungOutcome:
    """The frozen repair against the bar, once, and its gate on fresh items."""
    system = load_system(bench.candidate_folder(gated.rung, chosen.system))
    judgement, _ = run_test(bench, gated.rung, system, prepared.split.test)
    if bench.record.last(TESTED, gated.rung) is None:
        body = {"rung": gated.rung, "system": system.name, "test": as_test(judgement)}
        bench.record.note(TESTED, body, key=gated.rung)
    if not goes_to_the_gate(judgement, bench.task.bar):
        return gated
    repaired = RungOutcome(gated.rung, judgement, system.name)
    second = gated_again(bench, prepared, outcomes, repaired, first)
    assert gated.judgement is not None
    if not stands(first["verdict"], gated.judgement, second["verdict"], judgement):
        return gated
    return replace(repaired, gate=gating_of(second))


def _prompted(bench: Workbench, outcomes: Sequence[RungOutcome]) -> dict[str, float]:
    """Scores of the best prompt on dev, as far as its race went; none where there is no prompt."""
    prompt = best_prompt(outcomes)
    if prompt is None:
        return {}
    return {name: item.score for name, item in bench.record.dev_items(prompt.rung, prompt.system).items()}


def _won(items: Sequence[ItemScore], prompted: Mapping[str, float]) -> float | None:
    """By how much these items are better than the prompt's, on those that both answered; None without any."""
    both = [item for item in items if item.id in prompted]
    return mean_score(both) - sum(prompted[item.id] for item in both) / len(both) if both else None


def _head(rung: str, repair: Repair) -> dict[str, Any]:
    return {"rung": rung, "kind": repair.kind, "setting": repair.setting}


def _not_made(rung: str, repair: Repair, why: str) -> dict[str, Any]:
    return {**_head(rung, repair), "system": None, "dev": None, "measures": [], "good": False, "why": why}
