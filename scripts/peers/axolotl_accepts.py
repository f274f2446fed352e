"""Run by Axolotl's own python: does it accept these configurations, and read their rows? One line of JSON a file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")  # else it tells its authors of every run
os.environ.setdefault("HF_HUB_OFFLINE", "1")

A100 = {"bf16": True, "fp8": False, "tf32": True, "n_gpu": 1, "n_node": 1, "compute_capability": "sm_80"}


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name).resolve()
        os.chdir(path.parent)
        sys.path.insert(0, str(path.parent))
        try:
            found = {"file": name, "ok": True, "seen": accepted(path)}
        except Exception as error:  # noqa: BLE001  whatever it says is the answer
            found = {"file": name, "ok": False, "seen": f"{type(error).__name__}: {error}"[:1500]}
        sys.path.remove(str(path.parent))
        for module in ("prompts", "rewards"):
            sys.modules.pop(module, None)
        print("ANSWER " + json.dumps(found), flush=True)


def accepted(path: Path) -> str:
    """Its schema with the capabilities of an A100, then its own reading of the rows by the types that are named."""
    import yaml
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    cfg = DictDefault(yaml.safe_load(path.read_text(encoding="utf-8")))
    cfg = validate_config(cfg, capabilities=dict(A100), env_capabilities={"torch_version": "2.11.0"})
    unknown = sorted(set(yaml.safe_load(path.read_text(encoding="utf-8"))) - set(cfg))
    if unknown:
        raise ValueError(f"keys that its schema does not have: {unknown}")
    rows = read_rows(cfg)
    return f"schema; {rows}"


def read_rows(cfg) -> str:  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cfg.base_model)
    cfg.base_model_config = cfg.tokenizer_config = cfg.base_model
    cfg.dataset_num_proc = cfg.world_size = 1
    cfg.batch_size = cfg.micro_batch_size * cfg.gradient_accumulation_steps
    cfg.is_preprocess = True
    if cfg.rl:
        from axolotl.utils.data.rl import prepare_preference_datasets

        train, held_out = prepare_preference_datasets(cfg, tokenizer)
    else:
        from axolotl.utils.data.sft import prepare_datasets

        train, held_out, _, _ = prepare_datasets(cfg, tokenizer)
    shown = "" if held_out is None else f", {len(held_out)} held out"
    first = train[0]
    if "labels" in first:
        learned = tokenizer.decode([token for token in first["labels"] if token != -100])
        return f"{len(train)} rows{shown}; of the first is trained: {learned!r}"
    answers = {key: first[key] for key in ("prompt", "chosen", "rejected", "completion", "label") if key in first}
    return f"{len(train)} rows{shown}; the first: {answers!r}"


if __name__ == "__main__":
    main()
