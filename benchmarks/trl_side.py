"""What every training with TRL has in common here: its arguments, and a callback that keeps the ends of steps and the logs."""

from __future__ import annotations

import time
from typing import Any

from lastresort.train.settings import TrainSettings


def trl_arguments(settings: TrainSettings, folder: str, *, reduced: bool) -> dict[str, Any]:
    """Of a TRL config, as ours are: one epoch, linear schedule, no warm-up, no decay. reduced: bf16."""
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
        "use_cpu": True,
        "bf16": reduced,
        "gradient_checkpointing": settings.checkpointing,
        "disable_tqdm": True,
    }


def watch(ends: list[float], logged: list[dict[str, float]], key: str) -> Any:
    """A callback that adds the end of each step in seconds, and each log that holds `key`."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and key in logs:
                logged.append(dict(logs))

    return Watch()
