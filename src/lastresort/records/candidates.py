"""What a candidate is made of, from the events that proposed and trained it. Nothing is read from its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lastresort.records.decision_parts import CandidateFacts, TrainedFacts
from lastresort.records.events import CandidateProposed, CandidateTrained, OfRung, TrainingReached
from lastresort.records.record import Record
from lastresort.records.training import RecordedSettings

OfRungT = TypeVar("OfRungT", bound=OfRung)


def facts_in(record: Record, rung: str, candidate: str) -> CandidateFacts | None:
    """None where the record does not say what was proposed."""

    def newest(kind: type[OfRungT], key: str) -> OfRungT | None:
        """Of this rung: another one may train under the same name."""
        last = record.last(kind, key)
        if last is None or last.rung == rung:
            return last
        return next((one for one in reversed(record.all(kind, key)) if one.rung == rung), None)

    return facts_of(
        newest(CandidateProposed, f"{rung}/{candidate}"),
        newest(CandidateTrained, candidate),
        lambda run: newest(TrainingReached, run),
    )


def facts_of(
    proposed: CandidateProposed | None,
    trained: CandidateTrained | None,
    reached: Callable[[str], TrainingReached | None],
) -> CandidateFacts | None:
    """From the newest of each event of one rung. reached: of the training that the candidate came of, by its name."""
    if proposed is None:
        return None
    training = None
    if proposed.weights == "trained" and trained is not None and (run := reached(trained.run)) is not None:
        training = _training(trained, run.settings)
    return CandidateFacts(weights=proposed.weights, prompt=proposed.prompt, trained=training)


def _training(trained: CandidateTrained, settings: RecordedSettings) -> TrainedFacts:
    adapter = settings.adapter
    return TrainedFacts(
        method=adapter.choice,
        rank=None if adapter.choice == "full" else adapter.r,
        objective=settings.objective.name,
        learning_rate=trained.learning_rate,
        stop=trained.stop,
        unit=trained.unit,
        replay=trained.replay,
        scale=trained.scale,
    )
