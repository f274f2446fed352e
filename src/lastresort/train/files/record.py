"""The record of a training: OUTPUT/training.json, by which a finished run is known."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from lastresort.records.document import Count, JsonDocument
from lastresort.records.training import AdaptedLayers, TrainedSteps

RECORD = "training.json"


class RowFinding(JsonDocument):
    """Something about rows. what: a clause after "n rows". places: files and rows, the first 20."""

    what: str
    count: Count
    places: tuple[str, ...]

    def sentence(self) -> str:
        more = ", …" if self.count > len(self.places[:3]) else ""
        return f"{self.count} {self.what} ({', '.join(self.places[:3])}{more})"


class TrainingData(JsonDocument):
    """items: that were trained on; what they are, in the plural. eval_items: held out. longest_row_tokens: allowed."""

    items: Count
    what: str
    eval_items: Count
    rows_read: Count
    longest_row_tokens: int | None
    findings: tuple[RowFinding, ...]


class Quantised(JsonDocument):
    """dtype: what the weights were rounded to before they were quantised, and what they computed in."""

    quantize: str
    dtype: str


class TrainedModel(JsonDocument):
    """rendering: how its tokenizer renders conversations, by which a gate compares it."""

    name: str
    fingerprint: str
    rendering: str
    precision: str
    quantised: Quantised | None
    trained_parameters: Count
    adapted: AdaptedLayers | None


class SavedWeights(JsonDocument):
    """folder: below the output."""

    kind: Literal["adapter", "model"]
    folder: str


class TrainingRecord(JsonDocument):
    """What `lastresort train FILE` writes as training.json and prints with --json.

    file: the training file with every default. epochs: mean loss of each, and what was found on the items held out at its end.
    steps: a step a line, with the figures of its objective.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # an objective's figures may be no number where the loss is one

    version: Literal[1] = Field(default=1, alias="schema")
    file: dict[str, Any]
    data: TrainingData
    trained: TrainedSteps
    epochs: tuple[dict[str, int | float], ...]
    steps: tuple[dict[str, int | float], ...]
    early_warning: str | None
    versions: dict[str, str]
    model: TrainedModel
    saved: SavedWeights
