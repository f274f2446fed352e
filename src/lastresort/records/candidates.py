"""What a candidate is made of, from the events that proposed and trained it. Nothing is read from its name."""

from __future__ import annotations

from typing import cast

from lastresort.records.decision_parts import CandidateFacts, TrainedFacts, TrainedMethod, TrainedObjective
from lastresort.records.events import CandidateProposed, CandidateTrained, TrainingReached
from lastresort.records.record import Record
from lastresort.records.training import RecordedSettings


def facts_in(record: Record, rung: str, candidate: str) -> CandidateFacts | None:
    """None where the record does not say what was proposed."""
    proposed = record.last(CandidateProposed, f"{rung}/{candidate}")
    if proposed is None:
        return None
    trained = record.last(CandidateTrained, candidate)
    reached = None if trained is None else record.last(TrainingReached, trained.run)
    return facts_of(proposed, trained, None if reached is None else reached.settings)


def facts_of(
    proposed: CandidateProposed, trained: CandidateTrained | None, settings: RecordedSettings | None
) -> CandidateFacts:
    """settings: of the training that the candidate came of."""
    training = None
    if proposed.weights == "trained" and trained is not None and settings is not None:
        training = _training(trained, settings)
    return CandidateFacts(weights=proposed.weights, prompt=proposed.prompt, trained=training)


def _training(trained: CandidateTrained, settings: RecordedSettings) -> TrainedFacts:
    """The validation of the facts refuses what no rung trains."""
    adapter = settings.adapter
    return TrainedFacts(
        method=cast("TrainedMethod", adapter.choice),
        rank=None if adapter.choice == "full" else adapter.r,
        objective=cast("TrainedObjective", settings.objective.name),
        learning_rate=trained.learning_rate,
        stop=trained.stop,
        unit=trained.unit,
        replay=trained.replay,
        scale=trained.scale,
    )
