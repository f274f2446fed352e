"""What produced a decision: versions, seeds, hashes, machine. No path and no name of a person or host."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lastresort import __version__
from lastresort.hardware.memory import physical_memory_bytes
from lastresort.records.record import Record
from lastresort.spec.task import Task

PACKAGES = ("torch", "transformers", "peft", "accelerate", "llguidance", "openai", "scipy", "numpy")


def provenance(task: Task, files: dict[str, str], record: Record) -> dict[str, Any]:
    """For `decision.json`."""
    sizes, judge = record.last("sizes") or {}, record.last("judge")
    return {
        "versions": versions(),
        "seeds": {"split": task.split.seed, "training": task.split.seed, "decoding": task.split.seed},
        "hashes": {**files, "model": sizes.get("model", ""), **({"judge": judge["fingerprint"]} if judge else {})},
        "machine": machine(),
    }


def machine() -> dict[str, str | int]:
    """System, processor, cores and memory of this machine; 0 bytes where it does not say."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_bytes": physical_memory_bytes() or 0,
    }


def versions() -> dict[str, str]:
    """Of this program, of Python, and of the packages that decide what a model says."""
    found = {"lastresort": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
        )
    except OSError:
        return platform.processor()
