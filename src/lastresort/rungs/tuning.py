"""One training run of a rung, up to a step: its curve and what it did in the record, its checkpoint below the run's folder.

What is finished is read from the record; what was cut goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lastresort.rungs.room import PASS, answer_noted, lowered_settings, settings_that_fit
from lastresort.rungs.rung import Workbench
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.train.loop import StepSeen, Trained
    from lastresort.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Run:
    """name: of its curve, its notes and its checkpoint. label: how progress calls it. base: fingerprint of the model that it
    starts from. facts: what the record says of it beside its settings, such as rows.
    """

    rung: str
    name: str
    label: str
    base: str
    settings: TrainSettings
    facts: Mapping[str, Any]


def train_to(
    bench: Workbench, run: Run, model: Any, source: Any, until: int, *, max_new_tokens: int | None = None
) -> Trained:
    """Train `model`, which stands at the start of the run, up to a step. source: items or batches, as `train` takes them.

    Raises BudgetError at the time limit, Diverged where the loss is not finite, InfrastructureError where memory runs out.
    """
    from lastresort.train.loop import train
    from lastresort.train.memory_error import free_now, memory_errors
    from lastresort.train.planned import plan_of_loaded

    tell_reach(bench, run, model)
    planned = plan_of_loaded(model, run.settings, source)
    settings = settings_that_fit(bench, run.name, run.settings, planned, free_now())
    if planned is not None:
        planned = planned.lowered_to(settings.max_pass_tokens, checkpointing=settings.checkpointing)

    def on_step(seen: StepSeen) -> None:
        values = {"loss": seen.loss, "grad_norm": seen.grad_norm, "learning_rate": seen.learning_rate, **seen.shown}
        bench.record.add_curve_point(run.name, seen.step, values)
        bench.progress.advance(1, note=f"loss {seen.loss:.3f}")

    with memory_errors(answer_noted(bench, run.name, planned)):
        trained = train(
            model,
            source,
            settings,
            folder=bench.folder / "checkpoints" / run.name,
            base=run.base,
            until=until,
            max_new_tokens=max_new_tokens,
            on_step=on_step,
            out_of_time=bench.out_of_time,
            progress=_Labelled(bench.progress, f"{run.rung}, {run.label}"),
        )
    reason = trained.reason if trained.path == "plain" else None
    if trained.check is not None and not trained.check.ok:
        reason = trained.check.reason
    if reason is not None and not bench.record.last("training", run.name):
        bench.progress.say(f"{run.rung}: training by the plain path: {reason}")
    return trained


def tell_reach(bench: Workbench, run: Run, model: Any) -> None:
    """How far the adapters reach, before the first training of a rung."""
    from lastresort.train.targets import adapted

    found = adapted(model)
    if found is None or any(note.get("rung", "sft") == run.rung for note in bench.record.notes("training")):
        return
    warned = found.warning("sft.target", run.settings.adapter.target)
    for told in (found.sentence(), warned):
        if told is not None:
            bench.progress.say(f"{run.rung}: {told}")


def note_training(bench: Workbench, run: Run, trained: Trained) -> None:
    """Note how far the run is, what it computed and by which settings."""
    settings = lowered_settings(run.settings, bench.record.last(PASS, run.name) or {})
    body = {"rung": run.rung, "candidate": run.name, **run.facts, **asdict(trained), **asdict(settings)}
    bench.record.note("training", body, key=run.name)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Progress whose stages say whose they are."""

    inner: Progress
    label: str

    def stage(self, label: str, total: int | None = None) -> None:
        self.inner.stage(f"{self.label}: {label}", total)

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.inner.advance(amount, note)

    def say(self, text: str) -> None:
        self.inner.say(text)
