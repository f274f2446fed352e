"""Does Unsloth's source have what these scripts call? It refuses to be imported without a GPU, so it is read, not run.

Run by any python, with the environment's site-packages before the scripts: every call in a script is looked up in the source of the
package that it is imported from, and each argument must stand in the signature by its own name (a **kwargs does not count). One
line of JSON a file.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

LOADER, MODELS = "unsloth/models/loader.py", "unsloth/models/llama.py"
CONFIGS = {
    "SFT": ("trl/trainer/sft_config.py", "trl/trainer/sft_trainer.py"),
    "DPO": ("trl/trainer/dpo_config.py", "trl/trainer/dpo_trainer.py"),
    "KTO": ("trl/trainer/kto_config.py", "trl/trainer/kto_trainer.py"),
    "GRPO": ("trl/trainer/grpo_config.py", "trl/trainer/grpo_trainer.py"),
    "ORPO": ("trl/experimental/orpo/orpo_config.py", "trl/experimental/orpo/orpo_trainer.py"),
    "CPO": ("trl/experimental/cpo/cpo_config.py", "trl/experimental/cpo/cpo_trainer.py"),
}
BASES = ("trl/trainer/base_config.py", "transformers/training_args.py")


def main() -> None:
    site = Path(sys.argv[1])
    for name in sys.argv[2:]:
        try:
            found = {"file": name, "ok": True, "seen": accepted(site, Path(name))}
        except Exception as error:  # noqa: BLE001  whatever is wrong is the answer
            found = {"file": name, "ok": False, "seen": f"{type(error).__name__}: {error}"[:1500]}
        print("ANSWER " + json.dumps(found), flush=True)


def accepted(site: Path, script: Path) -> str:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    looked = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        known = parameters(site, called)
        if known is None:
            continue
        given = {keyword.arg for keyword in node.keywords if keyword.arg}
        if unknown := sorted(given - known):
            raise ValueError(f"{called} has no {', '.join(unknown)}")
        looked.append(f"{called}({len(given)})")
    if not any(call.startswith("FastLanguageModel") for call in looked):
        raise ValueError("no call of FastLanguageModel was found")
    return f"compiled; arguments found in the source: {', '.join(looked)}"


def parameters(site: Path, called: str) -> set[str] | None:
    """Names that the callable takes, None for what is not Unsloth's or TRL's."""
    if called == "FastLanguageModel.from_pretrained":
        return signature(site / LOADER, "FastLanguageModel", "from_pretrained")
    if called == "FastLanguageModel.get_peft_model":
        return signature(site / MODELS, "FastLlamaModel", "get_peft_model")
    for name, (config, trainer) in CONFIGS.items():
        if called == f"{name}Config":
            return set().union(*(fields(site / path) for path in (config, *BASES)))
        if called == f"{name}Trainer":
            return signature(site / trainer, f"{name}Trainer", "__init__")
    return None


def signature(path: Path, owner: str, function: str) -> set[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == function:
                    return {argument.arg for argument in (*inner.args.args, *inner.args.kwonlyargs)}
    raise LookupError(f"{owner}.{function} is not in {path.name}")


def fields(path: Path) -> set[str]:
    """Of all dataclasses in a file."""
    return {
        inner.target.id
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
    }


if __name__ == "__main__":
    main()
