"""Objectives: pure functions on log-probabilities that return unreduced losses. Values are `module:name`."""

OBJECTIVES: dict[str, str] = {
    "sft": "lastresort.objectives.sft:sft",
}
