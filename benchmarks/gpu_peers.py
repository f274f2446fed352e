"""Who benchmarks.gpu compares: ours with its settings, TRL and transformers with theirs, and what only the peers need."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu_material import Built, Part, Work
from benchmarks.sft import Trained
from benchmarks.trl_side import NotInstalled, TrlSetting, prepared, trl_arguments, watch
from lastresort.engine.forest import Row
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.settings import TrainSettings

REDUCED = TrlSetting(reduced=True)


@dataclass(frozen=True)
class Who:
    """One of those compared: ours, with a kernel of its own choice unless one is named, or a peer with a setting. generate: what
    transformers' generate is given besides."""

    name: str
    ours: bool = True
    checkpointing: bool = False
    kernel: str | None = None
    setting: TrlSetting = REDUCED
    generate: tuple[tuple[str, Any], ...] = ()


OURS = (Who("lastresort"), Who("lastresort, checkpointing", checkpointing=True))
# flex with shapes that stay symbolic is compiled once for all lengths.
KERNELS = tuple(
    Who(f"lastresort, {name}", kernel=name)
    for name in ("levels", "flash", "efficient", "flex", "flex dynamic", "products")
)


def _trl(name: str, *, checkpointing: bool = False, **setting: Any) -> Who:
    return Who(name, ours=False, checkpointing=checkpointing, setting=TrlSetting(reduced=True, **setting))


PADDED = (
    _trl("TRL"),
    _trl("TRL, Liger", liger=True),
    _trl("TRL, FlashAttention, Liger", flash=True, liger=True),
    _trl("TRL, Liger, checkpointing", liger=True, checkpointing=True),
)
UNPADDED = (
    _trl("TRL, packed", packing="packed"),
    _trl("TRL, FlashAttention, packed", flash=True, packing="packed"),
    _trl("TRL, FlashAttention, packed, Liger", flash=True, liger=True, packing="packed"),
    _trl("TRL, FlashAttention, padding-free, Liger", flash=True, liger=True, packing="padding-free"),
    _trl(
        "TRL, FlashAttention, packed, Liger, checkpointing",
        flash=True,
        liger=True,
        packing="packed",
        checkpointing=True,
    ),
)
GENERATE = (
    Who("transformers", ours=False),
    Who("transformers, FlashAttention", ours=False, setting=TrlSetting(reduced=True, flash=True)),
    Who("transformers, static cache", ours=False, generate=(("cache_implementation", "static"),)),
)
PAIRED = tuple(who for who in UNPADDED if who.setting.packing == "padding-free")  # DPO does not pack
WHO: dict[Part, tuple[Who, ...]] = {
    "sft": (*OURS, *PADDED, *UNPADDED),
    "kernels": KERNELS,
    "pairs": (*OURS, *PADDED, *PAIRED),
    "update": (*OURS, *PADDED),
    "groups": (OURS[0], *PADDED[:3]),
    "sampling": (OURS[0], *GENERATE),
    "fewshot": (OURS[0], *GENERATE),
    "scoring": (OURS[0], *GENERATE[:2]),
}


def missing(work: Work, who: Who) -> str | None:
    """What a peer needs and is not here."""
    if not who.ours and work.part not in ("sampling", "fewshot", "scoring") and importlib.util.find_spec("trl") is None:
        return "trl is not installed"
    try:
        _ = who.setting.attention
    except NotInstalled as error:
        return str(error)
    return None


def reward_of(ids: Sequence[int]) -> float:
    return sum(ids) % 7 / 7


def trl_update(
    work: Work, built: Built, prompts: list[list[Row]], settings: TrainSettings, setting: TrlSetting, steps: int
) -> Trained:
    """GRPOTrainer with answers that are there: `rollout_func` takes the place of its sampling."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    ends, logged, device = list[float](), list[dict[str, float]](), built.model.device
    texts = [" ".join(built.tokenizer.convert_ids_to_tokens(list(members[0].prompt))) for members in prompts]
    rows_of = dict(zip(texts, prompts, strict=True))

    def rollout(asked: list[str], _: Any) -> dict[str, Any]:
        left = {text: iter(members) for text, members in rows_of.items()}
        rows = [next(left[text]) for text in asked]
        return {
            "prompt_ids": [list(row.prompt) for row in rows],
            "completion_ids": [list(row.ids[len(row.prompt) :]) for row in rows],
            "logprobs": None,
            "reward": [reward_of(row.ids) for row in rows],
        }

    def rewarded(reward: list[float], **_: Any) -> list[float]:
        return reward

    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            **trl_arguments(settings, folder, setting, device=device, rows=work.rows) | {"num_train_epochs": steps},
            num_generations=work.members,
            max_completion_length=work.answer,
            beta=0.0,
            loss_type="grpo",
        )
        trainer = GRPOTrainer(
            model=attach_adapter(
                prepared(built.model, setting), settings.adapter, base_name="random", seed=settings.seed
            ),
            reward_funcs=[rewarded],
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
            processing_class=built.tokenizer,
            callbacks=[watch(ends, logged, "loss", device)],
            rollout_func=rollout,
        )
        trainer.train()
    tokens = steps * sum(len(row.ids) for members in prompts for row in members)
    return Trained([logs["loss"] for logs in logged], ends, tokens, tokens, (len(ends) - 1) / len(ends))


def transformers_scores(model: Any, rows: Sequence[Row], batch: int) -> list[float]:
    """Rows of equal length and equally long answers, so that nothing is padded; logits of the answers alone."""
    sums: list[float] = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ids = torch.tensor([row.ids for row in part], device=model.device)
        answer = sum(part[0].targets)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=answer + 1).logits[:, :-1].float()
        logps = logits.log_softmax(-1).gather(2, ids[:, -answer:, None])[..., 0]
        sums += logps.sum(1).tolist()
    return sums
