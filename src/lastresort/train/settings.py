"""The settings of a training: its loop, adapter, objective and groups, and the rest of a training file.

One frozen value each. A training file is checked by `spec.training`, which makes these of it; a rung makes them of its section of
the task; the loop takes them as they are.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lastresort.errors import InputError
from lastresort.evals.user_code.process import CodeLimits
from lastresort.objectives import OBJECTIVES, Need
from lastresort.types import AdapterChoice, AdapterKind, Json, adapter_choice

if TYPE_CHECKING:
    from torch import Tensor

    from lastresort.train.rewards import RewardChoice

Target = Literal["attention", "all-linear"] | tuple[str, ...]
Optimizer = Literal["adamw", "paged_adamw_8bit"]
Schedule = Literal["linear", "cosine", "constant"]
LongerRows = Literal["refuse", "drop", "truncate"]
TrainedTurns = Literal["all", "last"]
Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]
OnError = Literal["stop", "zero"]
MEMORY = frozenset({"max_pass_tokens", "checkpointing"})


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What is trained on top of the base's weights, or instead of them.

    kind: LoRA (Hu et al. 2021), scaled by alpha/r; rsLoRA (Kalajdzievski 2023), scaled by alpha/sqrt(r); DoRA (Liu et al.
    2024), which also trains each output's magnitude; none: all weights of the base. target: the linear layers that get
    adapters, by short name ("q_proj") where they are named; never the output layer or the embeddings. quantize: nf4 is
    QLoRA, on a base that was loaded so. Raises InputError for settings that contradict each other.
    """

    kind: AdapterKind = "lora"
    r: int = 16
    alpha: float = 32
    target: Target = "attention"
    dropout: float = 0.0
    quantize: Literal["nf4"] | None = None

    def __post_init__(self) -> None:
        if self.kind == "none" and self.quantize is not None:
            raise InputError(
                "full fine-tuning of a 4-bit base",
                where="adapter",
                expected="weights that can be trained",
                remedy="Choose an adapter, or leave the quantisation out.",
            )
        if self.r < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise InputError(
                f"found r {self.r}, alpha {self.alpha:g}, dropout {self.dropout:g}",
                where="adapter",
                expected="r at least 1, alpha above 0, dropout in [0, 1)",
            )

    @property
    def choice(self) -> AdapterChoice:
        """As a training file names it: qlora is LoRA on a base in 4 bits, full trains all weights."""
        return adapter_choice(self.kind, in_4_bits=self.quantize is not None)


@dataclass(frozen=True, slots=True)
class Objective:
    """Name and options of an objective, as its function takes them (beta, label_smoothing, …).

    Raises InputError for a name or an option that does not exist.
    """

    name: str = "sft"
    options: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise InputError(f'found "{self.name}"', where="objective", expected=f"one of {', '.join(OBJECTIVES)}")
        known = tuple(self.defaults()) if self.options else ()
        for name, _ in self.options:
            if name not in known:
                raise InputError(
                    f'{self.name} has no option "{name}"',
                    where="objective",
                    expected=f"one of {', '.join(known)}" if known else "no options",
                )

    @property
    def need(self) -> Need:
        return OBJECTIVES[self.name].need

    @property
    def needs_reference(self) -> bool:
        when = OBJECTIVES[self.name].reference
        return when == "always" or (when == "for_kl" and self.option("kl_weight", 0.0) > 0)

    def option(self, name: str, default: float) -> float:
        return dict(self.options).get(name, default)

    def defaults(self) -> dict[str, float]:
        """Each option with its default; one that is true or false is a switch."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.function()).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not name.startswith("per_token_ref")
        }

    def function(self) -> Callable[..., Tensor]:
        module, name = OBJECTIVES[self.name].path.split(":")
        function: Callable[..., Tensor] = getattr(import_module(module), name)
        return function


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of one training run.

    learning_rate: peak, after `warmup` (a share of all steps, or from 1 on a count); then by `schedule`. batch_size: items
    (rows, pairs, prompts of a group) an optimizer step, whatever number of passes they take. epochs: passes over the items.
    max_steps: stop the schedule there, None for all epochs. max_pass_tokens: computed tokens in one forward and backward,
    the knob for memory; it changes no result. weight_decay applies to nothing by default, as in PEFT's LoRA examples.
    loraplus_lr_ratio: how many times `learning_rate` the B of an adapter, and DoRA's magnitudes, learn at (LoRA+, Hayou et al.
    2024), as in PEFT. Raises InputError for a ratio without an adapter.
    """

    learning_rate: float
    epochs: int = 3
    batch_size: int = 16
    adapter: AdapterSettings = AdapterSettings()
    objective: Objective = field(default_factory=Objective)
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_steps: int | None = None
    max_pass_tokens: int = 1536
    checkpointing: bool = False
    seed: int = 0
    loraplus_lr_ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.loraplus_lr_ratio != 1 and self.adapter.kind == "none":
            raise InputError(
                f"found {self.loraplus_lr_ratio:g} beside a training of all weights",
                where="loraplus_lr_ratio",
                expected="an adapter, whose B it speeds up",
                remedy="Choose an adapter, or leave the ratio out.",
            )

    def fingerprint(self) -> str:
        """Of all that decides the result, but for its rounding: a run may go on with less memory."""
        decides = {name: value for name, value in asdict(self).items() if name not in MEMORY}
        if self.loraplus_lr_ratio == 1:  # the same training as before there was the setting
            del decides["loraplus_lr_ratio"]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class DataFiles:
    """train, eval: files or folders, absolute. eval_share: a share (below 1) or a count (from 1) of the training prompts that
    are held out instead of files, None without."""

    train: tuple[Path, ...]
    eval: tuple[Path, ...] = ()
    eval_share: float | int | None = None


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How groups are drawn.

    group_size: answers to a prompt. max_new_tokens: of an answer, its end token included. temperature, top_p, top_k: other
    than 1, 1 and 0 they draw from another distribution than the one that is trained. tries: rounds of drawing in a step, of
    which those after the first draw further prompts in place of groups that were dropped; None is `usual_tries`. rows_at_once:
    answers that the engine decodes together, in whole groups; a knob for memory. stop: an answer ends with the first token
    after which its text holds one of these strings; that token is the last that is trained, no end token follows it, and
    rewards see the text before the string. Special tokens are no text. Raises InputError.
    """

    group_size: int = 8
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    tries: int | None = None
    rows_at_once: int = 64
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, ok, expected in (
            ("group_size", self.group_size, self.group_size >= 2, "at least 2, since answers are compared"),
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, self.temperature > 0, "above 0, since answers must differ"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k, self.top_k >= 0, "0 for all, or more"),
            ("tries", self.tries, self.tries is None or self.tries >= 1, "at least 1"),
            ("rows_at_once", self.rows_at_once, self.rows_at_once >= 1, "at least 1"),
            ("stop", "an empty string", "" not in self.stop, "strings that an answer may hold"),
        ):
            if not ok:
                raise InputError(f"found {value}", where=f"grpo.{name}", expected=expected)


def usual_tries(objective: str) -> int:
    """Rounds of drawing in a step: DAPO draws again where groups were dropped (Yu et al. 2025, section 3.2)."""
    return 4 if objective == "dapo" else 1


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
    """What the objectives on groups also need. reward: its terms, which are summed. on_error: whether a reward function that fails
    stops the run, or counts as 0. server: what samples in place of the engine, None for the engine."""

    reward: tuple[RewardChoice, ...]
    sampling: GroupSettings
    on_error: OnError
    limits: CodeLimits
    server: ServerPlan | None


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """One training run as its file describes it, every default filled in; paths are absolute.

    path: the file. resolved: the file with every default written out, paths relative to its folder: the record keeps it, and
    a resumed run must have the same. start_from: an adapter to go on from, which is also the reference. settings: what the loop
    takes. max_tokens: the longest row, None for the model's context. groups: None but for objectives on groups. columns: our
    key -> the columns of the rows, {} where these are found by their names. The other fields
    are the keys of the file (docs/train.md).
    """

    path: Path
    resolved: Mapping[str, Any]
    model: str
    start_from: Path | None
    data: DataFiles
    settings: TrainSettings
    checkpoint_every_s: float
    precision: str
    max_tokens: int | None
    longer_rows: LongerRows
    trained_turns: TrainedTurns
    pairs_as_labels: bool
    output: Path
    track: tuple[Tracker, ...]
    chat_template_kwargs: Mapping[str, Json]
    groups: Groups | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Base of the file's relative paths."""
        return self.path.parent

    @property
    def objective(self) -> str:
        return self.settings.objective.name

    @property
    def need(self) -> Need:
        return self.settings.objective.need

    @property
    def trains_all(self) -> bool:
        """Whether all weights are trained, and no adapter."""
        return self.settings.adapter.kind == "none" and self.start_from is None
