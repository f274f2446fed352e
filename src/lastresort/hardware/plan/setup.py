"""What to plan: how to train, with what rows, and on which cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lastresort.errors import InputError
from lastresort.hardware.cards import Card
from lastresort.types import ReplayLoss

Method = Literal["full", "lora", "qlora"]
Learning = Literal["sft", "dpo", "grpo"]
Sharing = Literal["ddp", "zero1", "zero2", "zero3", "fsdp"]
METHODS: tuple[Method, ...] = ("qlora", "lora", "full")
SHARINGS: tuple[Sharing, ...] = ("ddp", "zero1", "zero2", "zero3", "fsdp")
MOST_COUNT = 10**12  # of tokens, rows or passes: beyond any training, and far from where a float ends


@dataclass(frozen=True, slots=True)
class Setup:
    """One training, of the model's weights or of adapters beside them.

    learning: sft also stands for plain text; dpo for every objective on pairs; grpo for those on groups.
    row_tokens: of the longest row. batch: rows in one pass (dpo: pairs, of two rows each), on each card. shared_tokens: how many
    tokens at the beginning all rows of a pass have in common, which are computed once. accumulation: passes an optimizer step.
    compute: of the products; auto is bfloat16 with adapters and float32 for all weights, as `train` does. reference: of dpo and
    grpo, the model with its adapter off, or a second model. sampler: of grpo: the engine, a vLLM server on the same cards, or
    one elsewhere. rows_at_once: answers decoded together in grpo; measured_at_once: when answers are measured, None for as many as
    a climb takes of a model of this shape. new_tokens: the longest answer, a part of row_tokens. replay_loss: kl where rows of
    replay are held to the base's distribution. held_to_start: of grpo, whether a penalty keeps answers near those of the start
    (kl_weight above 0).
    Raises InputError for contradictions.
    """

    method: Method = "lora"
    learning: Learning = "sft"
    row_tokens: int = 1024
    batch: int = 1
    shared_tokens: int = 0
    accumulation: int = 1
    checkpointing: bool = True
    r: int = 16
    target: Literal["attention", "all-linear"] = "attention"
    optimizer: Literal["adamw", "paged_adamw_8bit"] = "adamw"
    compute: Literal["auto", "bfloat16", "float32"] = "auto"
    reference: Literal["adapter off", "second model"] = "adapter off"
    sampler: Literal["engine", "same-gpus", "other-gpus"] = "engine"
    group_size: int = 8
    rows_at_once: int = 64
    measured_at_once: int | None = None
    new_tokens: int = 256
    replay_loss: ReplayLoss = "likelihood"
    held_to_start: bool = False

    def __post_init__(self) -> None:
        at_once = (self.batch, self.rows_at_once, self.measured_at_once or 1, self.group_size)
        counts = (self.row_tokens, self.accumulation, self.r, *at_once)
        if max(*counts, self.new_tokens) > MOST_COUNT:
            raise InputError(
                f"found a count of {max(*counts, self.new_tokens):,}",
                where="plan",
                expected=f"at most {MOST_COUNT:,} tokens, rows or passes",
                remedy="Lower it.",
            )
        if min(counts) < 1 or self.new_tokens < 0 or not 0 <= self.shared_tokens < self.row_tokens:
            raise InputError(
                f"found {self.row_tokens} tokens of which {self.shared_tokens} are shared, batch {self.batch}, r {self.r}",
                where="plan",
                expected="numbers of at least 1, and fewer shared tokens than a row has",
            )

    @property
    def trains_all(self) -> bool:
        return self.method == "full"

    @property
    def number_bytes(self) -> int:
        """Of one number in the products: 2 or 4."""
        chosen = ("float32" if self.trains_all else "bfloat16") if self.compute == "auto" else self.compute
        return 4 if chosen == "float32" else 2

    @property
    def rows(self) -> int:
        """In one pass."""
        return 2 * self.batch if self.learning == "dpo" else self.batch

    @property
    def computed_tokens(self) -> int:
        """In one pass: what all rows share counts once."""
        return self.shared_tokens + self.rows * (self.row_tokens - self.shared_tokens)

    @property
    def needs_second_model(self) -> bool:
        """Only on request: in full fine-tuning the reference of dpo answers before the first step, and its log-probabilities are
        kept, and that of grpo is the model with the weights of its start."""
        return self.learning != "sft" and self.reference == "second model"

    @property
    def keeps_start(self) -> bool:
        """Where replay, or the answers of groups, are held to the start, and this is not the model with its adapter off."""
        return self.trains_all and (self.replay_loss == "kl" or (self.learning == "grpo" and self.held_to_start))


@dataclass(frozen=True, slots=True)
class Cards:
    """Equal cards, and what each of several holds.

    ddp: the whole model, and rows of its own. zero1, zero2, zero3 (Rajbhandari et al. 2020): a share of the optimizer's state; of
    the gradients too; of the weights too. fsdp: as zero3, and as `train` does it; with an adapter the frozen layers,
    adapters and embeddings whole.
    """

    card: Card
    count: int = 1
    sharing: Sharing = "ddp"

    def share(self, what: Literal["weights", "gradients", "optimizer"]) -> int:
        """Into how many parts it is cut."""
        cut = {"ddp": (), "zero1": ("optimizer",), "zero2": ("optimizer", "gradients")}.get(self.sharing)
        return self.count if cut is None or what in cut else 1
