"""Run by LLaMA-Factory's own python: does it accept these configurations, read their rows, and train? One line of JSON a file."""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")


# Reads sound, of which these rows have none, and its wheel wants torch with CUDA.
_SOUND = ModuleType("torchaudio")
_SOUND.__spec__ = ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = _SOUND


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name).resolve()
        os.chdir(path.parent)
        try:
            found = {"file": name, "ok": True, "seen": accepted(path)}
        except Exception as error:  # noqa: BLE001  whatever it says is the answer
            found = {"file": name, "ok": False, "seen": f"{type(error).__name__}: {error}"[:1500]}
        print("ANSWER " + json.dumps(found), flush=True)


def accepted(path: Path) -> str:
    """Its argument parser, its reading of the rows with the template that it makes of the tokenizer's, and a few steps."""
    import yaml
    from llamafactory.data.loader import get_dataset
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from transformers import AutoTokenizer

    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    bf16 = config.pop("bf16")  # asks the machine whether it can
    quantised = {key: config.pop(key) for key in ("quantization_bit", "quantization_method") if key in config}
    model_args, data_args, training_args, finetuning_args, _ = get_train_args({**config, "bf16": False})
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    stage = {"dpo": "rm"}.get(finetuning_args.stage, finetuning_args.stage)  # its DPO reads the rows of a reward model
    found = get_dataset(template, model_args, data_args, training_args, stage, tokenizer=tokenizer)
    train = found["train_dataset"]
    key = next(key for key in ("labels", "chosen_labels", "input_ids") if key in train[0])  # of text all is trained
    learned = tokenizer.decode([token for token in train[0][key] if token != -100])
    held = f", {len(found['eval_dataset'])} held out" if found.get("eval_dataset") else ""
    read = f"{len(train)} rows{held}; of the first is trained: {learned!r}"
    if quantised or bf16:
        return f"parser; {read}; not run, since it asks for a card"
    return f"parser; {read}; {run(config)}"


def run(config: dict[str, Any]) -> str:
    """Train it: the model is tiny."""
    from llamafactory.train.tuner import run_exp

    run_exp({**config, "bf16": False})
    states = Path(config["output_dir"]).glob("checkpoint-*/trainer_state.json")
    state = max((json.loads(path.read_text(encoding="utf-8")) for path in states), key=lambda one: one["global_step"])
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    return f"run: {state['global_step']} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}"


if __name__ == "__main__":
    main()
