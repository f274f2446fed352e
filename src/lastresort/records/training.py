"""What a record says of one training: its settings, its adapters, how far it is and what it computed.

The events of a climb and training.json hold the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import ConfigDict

from lastresort.records.document import Amount, Count, JsonDocument
from lastresort.types import AdapterChoice, AdapterKind, adapter_choice

Number = int | float  # an integer stays one, as the file wrote it


def loss_on_task(point: Mapping[str, float]) -> float | None:
    """Of a point of a curve: the loss without the rows that are held to the base, in nats a target. None where it has no other row,
    and of a point that is no step.
    """
    return point.get("task_loss") if "kl_to_base" in point else point.get("loss")


class RecordedAdapter(JsonDocument):
    """As `train.settings.AdapterSettings`."""

    kind: AdapterKind
    r: int
    alpha: Number
    target: str | tuple[str, ...]
    dropout: Number
    quantize: Literal["nf4"] | None

    @property
    def choice(self) -> AdapterChoice:
        return adapter_choice(self.kind, in_4_bits=self.quantize is not None)


class RecordedObjective(JsonDocument):
    """As `train.settings.Objective`."""

    name: str
    options: tuple[tuple[str, bool | Number], ...]


class RecordedSettings(JsonDocument):
    """As `train.settings.TrainSettings`, which checks them and needs the objectives for that."""

    learning_rate: Number
    epochs: int
    batch_size: int
    adapter: RecordedAdapter
    objective: RecordedObjective
    optimizer: str
    schedule: str
    warmup: Number
    weight_decay: Number
    max_grad_norm: Number
    max_steps: int | None
    loraplus_lr_ratio: Number
    max_pass_tokens: int
    checkpointing: bool
    seed: int


class AdaptedLayers(JsonDocument):
    """layers: that hold an adapter, of all_layers. parameters: that are trained."""

    layers: Count
    all_layers: Count
    parameters: Count


class FirstBatch(JsonDocument):
    """Packed against plain on a few rows of the first batch, by the negative log-likelihood of their targets, whatever the
    objective makes of it.

    loss_difference: largest of a row's mean loss per token, in nats. largest_loss: of these rows, by the plain form; where it is
    above 1, loss_limit is a share of it, otherwise in nats. gradient_difference: norm of the difference over the norm of the
    plain gradient, None where nothing is trained; a large one is held against the difference of the plain gradient from that
    of the same rows one by one, which raises gradient_limit. reason: why not, if not ok. kernel: what computed the packed
    attention, None where there was none. passed_over: faster kernels, with the reason against each.
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    loss_difference: float
    gradient_difference: float | None
    ok: bool
    reason: str | None
    kernel: str | None
    passed_over: str
    largest_loss: float
    loss_limit: float
    gradient_limit: float

    @classmethod
    def not_compared(
        cls, reason: str, passed_over: str = "", *, gradient_difference: float | None = None, kernel: str | None = None
    ) -> Self:
        """Of a model without the packed form, or whose packed pass fails, which counts as having given no gradient."""
        return cls(
            loss_difference=0.0,
            gradient_difference=gradient_difference,
            ok=False,
            reason=reason,
            kernel=kernel,
            passed_over=passed_over,
            largest_loss=0.0,
            loss_limit=0.0,
            gradient_limit=0.0,
        )


class TrainedSteps(JsonDocument):
    """How far a training got. seconds: over all its sessions, with the reference and the items held out. path: "packed" or "plain",
    with its reason. check: None where no batch was compared. processes: of the last session. sharded: each held a share of the
    frozen base, or of all weights. threads: of a training on a processor, from its first step on; None where that was not noted.
    """

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
    threads: Count | None = None
