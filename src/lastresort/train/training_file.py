"""What a training file says, with every default filled in: one run of training, apart from a climb."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lastresort.objectives import NEEDS, Need
from lastresort.train.rewards.process import RewardLimits

if TYPE_CHECKING:
    from lastresort.train.loop.objective import Objective
    from lastresort.train.settings import AdapterSettings, TrainSettings


AdapterChoice = Literal["lora", "rslora", "dora", "qlora", "full"]
LongerRows = Literal["refuse", "drop", "truncate"]
TrainedTurns = Literal["all", "last"]
Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]


@dataclass(frozen=True, slots=True)
class DataFiles:
    """train, eval: files or folders, absolute. eval_share: a share (below 1) or a count (from 1) of the training prompts that
    are held out instead of files, None without."""

    train: tuple[Path, ...]
    eval: tuple[Path, ...] = ()
    eval_share: float | int | None = None


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """What is trained: an adapter by its kind (qlora: LoRA on a 4-bit base), or with "full" the base's own weights."""

    kind: AdapterChoice = "lora"
    r: int = 16
    alpha: float = 32
    target: str | tuple[str, ...] = "attention"
    dropout: float = 0.0

    def settings(self) -> AdapterSettings:
        from lastresort.train.settings import AdapterSettings

        kind: Any = {"qlora": "lora", "full": "none"}.get(self.kind, self.kind)
        target: Any = self.target
        quantize: Any = "nf4" if self.kind == "qlora" else None
        return AdapterSettings(kind, self.r, self.alpha, target, self.dropout, quantize)


@dataclass(frozen=True, slots=True)
class RewardTerm:
    """One term of the reward of group objectives: weight times the value of the scorer of this name."""

    name: str
    parameters: Mapping[str, Any]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """What samples groups in place of the engine. model: openai:NAME or http://host/v1#NAME. sync: steps between two times that
    it gets the weights that are trained, None for never. adapter_name: what they are called there. output_seen_as: the output
    folder as the server sees it, None for the same path."""

    model: str
    sync: int | None = 1
    adapter_name: str = "policy"
    output_seen_as: str | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    """What the objectives on groups need besides. on_error: whether a reward function that fails stops the run, or counts as 0.
    The others: see `sampling.GroupSettings`."""

    reward: tuple[RewardTerm, ...]
    group_size: int
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: tuple[str, ...]
    tries: int
    rows_at_once: int
    on_error: Literal["stop", "zero"]
    limits: RewardLimits
    server: ServerPlan | None


def usual_tries(objective: str) -> int:
    """Rounds of drawing in a step: DAPO draws again where groups were dropped (Yu et al. 2025, section 3.2)."""
    return 4 if objective == "dapo" else 1


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """One training run as its file describes it; paths are absolute.

    path: the file. resolved: the file with every default written out, paths relative to its folder: the record keeps it, and
    a resumed run must have the same. start_from: an adapter to go on from, which is also the reference. options: of the
    objective. max_tokens: the longest row, None for the model's context. groups: None but for objectives on groups. The
    other fields are the keys of the file (docs/train.md).
    """

    path: Path
    resolved: Mapping[str, Any]
    model: str
    start_from: Path | None
    objective: str
    options: tuple[tuple[str, float], ...]
    data: DataFiles
    adapter: AdapterPlan
    learning_rate: float
    epochs: int
    batch_size: int
    max_steps: int | None
    schedule: Literal["linear", "cosine", "constant"]
    warmup: float
    weight_decay: float
    max_grad_norm: float
    loraplus_lr_ratio: float
    optimizer: Literal["adamw", "paged_adamw_8bit"]
    max_pass_tokens: int
    checkpointing: bool
    checkpoint_every_s: float
    seed: int
    precision: str
    max_tokens: int | None
    longer_rows: LongerRows
    trained_turns: TrainedTurns
    pairs_as_labels: bool
    output: Path
    track: tuple[Tracker, ...]
    chat_template_kwargs: Mapping[str, Any]
    groups: Groups | None = None

    @property
    def folder(self) -> Path:
        """Base of the file's relative paths."""
        return self.path.parent

    @property
    def need(self) -> Need:
        return NEEDS[self.objective]

    def settings(self) -> TrainSettings:
        """What the loop takes. Raises InputError for settings that contradict each other."""
        from lastresort.train.settings import TrainSettings

        return TrainSettings(
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size,
            adapter=self.adapter.settings(),
            objective=self.loss(),
            optimizer=self.optimizer,
            schedule=self.schedule,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            loraplus_lr_ratio=self.loraplus_lr_ratio,
            max_steps=self.max_steps,
            max_pass_tokens=self.max_pass_tokens,
            checkpointing=self.checkpointing,
            seed=self.seed,
        )

    def loss(self) -> Objective:
        from lastresort.train.loop.objective import Objective

        return Objective(self.objective, self.options)
