"""The gates in a climb: the system that would win is put beside its base before the decision is written; after a repair, once more.

What it found is noted in the record under the rung, so that a resumed climb does not ask again, whatever mode it names: a second
look at the same system would have an error of its own. A gate that was cut off finds what was answered before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.ladder.decide import Gating, RungOutcome
from lastresort.ladder.gate.best_prompt import best_prompt, target_of
from lastresort.ladder.gate.command import ANSWERS
from lastresort.ladder.gate.document import gate_document
from lastresort.ladder.gate.drawing import training_texts
from lastresort.ladder.gate.named import Named, named_sides
from lastresort.ladder.gate.run import Gated, Settings, run_gate
from lastresort.ladder.gate.said import gating_of
from lastresort.ladder.gate.suites import further_suites, known_of, plans_of
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.repair.when import CLIMB_ALPHA
from lastresort.records.record import Record
from lastresort.records.suite_answers import SuiteAnswers
from lastresort.report.gate import completed
from lastresort.rungs.rung import Workbench
from lastresort.types import Progress

Mode = Literal["quick", "full", "none"]
SEED = 0  # of the first gate's items; the second has the next


def mode_of(record: Record, asked: Mode | None) -> Mode:
    """What was asked for now, else when the run was begun or last resumed, else all: nothing that was tuned ships unmeasured."""
    noted = record.last("gate_mode")
    mode: Mode = asked or (noted["mode"] if noted is not None else "full")
    if noted is None or noted["mode"] != mode:
        record.note("gate_mode", {"mode": mode})
    return mode


def gated(
    bench: Workbench, prepared: Prepared, outcomes: Sequence[RungOutcome], won: RungOutcome, mode: Mode
) -> Gating | None:
    """The gate's word on a tuned system; None where none is to be asked.

    outcomes: of the climb so far, among which is the best prompt to compare it with. won: the outcome of the tuned system.
    Raises StoppedError where a limit is reached or a model cannot be asked: a resumed climb goes on from there.
    """
    known = bench.record.last("gate", won.rung)
    if known is None and mode == "none":
        return None
    if known is None:
        settings = Settings(SEED, mode == "quick", CLIMB_ALPHA)
        known = _asked(bench, prepared, best_prompt(outcomes), won, settings)
        bench.record.note("gate", known, key=won.rung)
    elif mode not in ("none", known["mode"]):
        bench.progress.say(f"{won.rung}: its {known['mode']} gate was run before and stands")
    return gating_of(known)


def gated_again(
    bench: Workbench, prepared: Prepared, outcomes: Sequence[RungOutcome], repaired: RungOutcome, first: dict[str, Any]
) -> dict[str, Any]:
    """The second gate, of a repaired system: what it found, as the decision has it. first: the gate that led to the repair."""
    key = f"{repaired.rung}, repaired"
    known = bench.record.last("gate", key)
    if known is None:
        settings = Settings(first["seed"] + 1, first["mode"] == "quick", CLIMB_ALPHA, facts="most")
        known = _asked(bench, prepared, best_prompt(outcomes), repaired, settings)
        bench.record.note("gate", known, key=key)
    return known


def gate_of(record: Record, rung: str, system: str | None) -> dict[str, Any] | None:
    """What the gate found of this system, None where none was asked."""
    noted = [note for note in record.notes("gate") if (note["rung"], note["system"]) == (rung, system)]
    return completed(noted[-1]) if noted else None


def shown(record: Record, outcomes: Sequence[RungOutcome], winner: str | None) -> dict[str, Any] | None:
    """The `gate` of decision.json: the winner's; where nothing that was gated won, the last one's."""
    gated = [outcome for outcome in outcomes if outcome.gate is not None]
    won = [outcome for outcome in gated if outcome.rung == winner]
    return next((gate_of(record, one.rung, one.system) for one in (*won, *reversed(gated))), None)


def _asked(
    bench: Workbench, prepared: Prepared, prompt: RungOutcome | None, won: RungOutcome, settings: Settings
) -> dict[str, Any]:
    assert won.system is not None
    target = target_of(bench, prepared.split.test, prompt, won, settings.alpha, quick=settings.quick)
    bench.models.close()  # the gate opens base and tuned model itself, one at a time
    folder = bench.candidate_folder(won.rung, won.system)
    named = named_sides(bench.models.tuned_name, str(folder.absolute()), bench.task.chat_template_kwargs, folder)
    found = _run(bench, prepared, named, settings, target)
    return {
        "rung": won.rung,
        "system": won.system,
        "mode": "quick" if settings.quick else "full",
        "seed": settings.seed,
        "artefact_sha256": named.artefact,
        **gate_document(found),
    }


def _run(bench: Workbench, prepared: Prepared, named: Named, settings: Settings, target: Any) -> Gated:
    assert bench.shared is not None
    assert named.system is not None
    scores, texts = named.base.scores and named.tuned.scores, training_texts(prepared)
    with SuiteAnswers(bench.shared / ANSWERS) as kept:
        return run_gate(
            named.base,
            named.tuned,
            plans_of(known_of(prepared, scores, named.system.prompt, quick=settings.quick)),
            bench.task.keep,
            settings=settings,
            kept=kept,
            training_texts=texts,
            progress=WithinLimits(bench.progress, bench.check_budget),
            target=target,
            further=further_suites(bench.task, settings, texts, scores=scores),
        )


@dataclass(frozen=True, slots=True)
class WithinLimits:
    """Progress that stops at the task's limits: after every batch, which is kept by then. label: before that of each stage."""

    shown: Progress
    check: Callable[[], None]
    label: str = "gate"

    def stage(self, label: str, total: int | None = None) -> None:
        self.check()
        self.shown.stage(f"{self.label}: {label}", total)

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.shown.advance(amount, note)
        self.check()

    def say(self, text: str) -> None:
        self.shown.say(text)
