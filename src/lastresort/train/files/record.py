"""The record of a training: OUTPUT/training.json, by which a finished run is known."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from lastresort.records.document import Amount, Count, JsonDocument

RECORD = "training.json"


class RowFinding(JsonDocument):
    """Something about rows. what: a clause after "n rows". places: files and rows, the first 20."""

    what: str
    count: Count
    places: tuple[str, ...]


class TrainingData(JsonDocument):
    """items: that were trained on; what they are, in the plural. eval_items: held out. longest_row_tokens: allowed."""

    items: Count
    what: str
    eval_items: Count
    rows_read: Count
    longest_row_tokens: int | None
    findings: tuple[RowFinding, ...]


class FirstBatch(JsonDocument):
    """Packed against plain on the first batch; as `engine.support.FirstBatchCheck`."""

    model_config = ConfigDict(allow_inf_nan=True)

    loss_difference: float
    gradient_difference: float | None
    ok: bool
    reason: str | None
    kernel: str | None
    passed_over: str


class TrainedSteps(JsonDocument):
    """As `train.loop.loop.Trained`: seconds over all calls, with the reference and the items held out."""

    step: Count
    steps: Count
    computed_tokens: Count
    nominal_tokens: Count
    seconds: Amount
    path: str
    reason: str | None
    check: FirstBatch | None
    processes: Count
    sharded: bool


class Quantised(JsonDocument):
    """dtype: what the weights were rounded to before they were quantised, and what they computed in."""

    quantize: str
    dtype: str


class AdaptedLayers(JsonDocument):
    """layers: that hold an adapter, of all_layers. parameters: that are trained."""

    layers: Count
    all_layers: Count
    parameters: Count


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
