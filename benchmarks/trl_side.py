"""What every training with TRL has in common here: its setting, its arguments, and a callback that keeps ends of steps and logs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.meter import now
from lastresort.train.settings import TrainSettings

Packing = Literal["no", "padding-free", "packed"]
FLASH = {"flash_attn_interface": "flash_attention_3", "flash_attn": "flash_attention_2"}  # by module, best first


class NotInstalled(Exception):
    """What a setting of the peer needs is not here."""


@dataclass(frozen=True)
class TrlSetting:
    """reduced: bf16. flash: FlashAttention, in the newest version that is installed, in place of torch's attention. pass_rows: rows
    (or pairs) in one forward and backward, None for those of a step; packed, as many rows' tokens."""

    reduced: bool = False
    flash: bool = False
    liger: bool = False
    packing: Packing = "no"
    pass_rows: int | None = None

    @property
    def attention(self) -> str | None:
        """As transformers names it, None for the model's own. Raises NotInstalled."""
        if self.liger and importlib.util.find_spec("liger_kernel") is None:
            raise NotInstalled("liger_kernel is not installed")
        if not self.flash:
            return None
        for module, name in FLASH.items():
            if importlib.util.find_spec(module) is not None:
                return name
        raise NotInstalled("flash_attn is not installed")


def prepared(model: Any, setting: TrlSetting) -> Any:
    """The model with the attention of the setting."""
    if setting.attention is not None:
        model.set_attn_implementation(setting.attention)
    return model


def trl_arguments(
    settings: TrainSettings, folder: str, setting: TrlSetting, *, device: Any, rows: int | None = None
) -> dict[str, Any]:
    """Of a TRL config, as ours are: one epoch, linear schedule, no warm-up, no decay. rows: of a step, if not `batch_size`."""
    step_rows = rows or settings.batch_size
    pass_rows = min(setting.pass_rows or step_rows, step_rows)
    return {
        "output_dir": folder,
        "num_train_epochs": 1,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": settings.max_grad_norm,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": getattr(device, "type", device) == "cpu",
        "bf16": setting.reduced,
        "gradient_checkpointing": settings.checkpointing,
        "disable_tqdm": True,
        "per_device_train_batch_size": pass_rows,
        "gradient_accumulation_steps": -(-step_rows // pass_rows),
        **({"use_liger_kernel": True} if setting.liger else {}),
    }


def watch(ends: list[float], logged: list[dict[str, float]], key: str, device: Any) -> Any:
    """A callback that adds the end of each step in seconds, and each log that holds `key`."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(now(device))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and key in logs:
                logged.append(dict(logs))

    return Watch()
