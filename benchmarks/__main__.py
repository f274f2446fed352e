"""`make bench`: every row of the table, peers beside each other, each in a process of its own.

Speed is quoted against the peer's faster setting, memory against its leaner one; the bound is what the token counts alone
allow (nominal / computed tokens).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.material import CHAT, CHAT_DATA, PAIR_CASES, SFT_CASES

STEPS = 4
PARTS = ["sft", "pairs", "groups", "fewshot"]


def measure(module: str, *arguments: str) -> dict[str, Any]:
    """Run one measurement in a process of its own; its last line is the result."""
    print(f"  {module} {' '.join(arguments)} ...", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} {arguments} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def sft_rows(precision: str, steps: int) -> list[str]:
    lines = []
    rate = measure("benchmarks.rate", precision)
    for case in (*SFT_CASES, CHAT):
        if case is CHAT and not CHAT_DATA.is_dir():
            print(f"  {CHAT_DATA} is not here: no row for {case.name}", file=sys.stderr)
            continue
        ours = measure("benchmarks.sft", "ours", case.name, precision, str(steps), "off")
        peers = [measure("benchmarks.sft", "trl", case.name, precision, str(steps), on) for on in ("off", "on")]
        lines += compared(f"SFT, {case.name}, {precision}", "rows/s", ours, peers)
        lines.append(used(f"SFT, {case.name}, {precision}", ours, rate))
    return lines


def pair_rows(precision: str, steps: int) -> list[str]:
    lines = []
    for objective, case in [("dpo", PAIR_CASES[0]), *((name, PAIR_CASES[1]) for name in ("dpo", "kto", "orpo"))]:
        ours = measure("benchmarks.preferences", "ours", objective, case.name, precision, str(steps), "off")
        peers = [
            measure("benchmarks.preferences", "trl", objective, case.name, precision, str(steps), on)
            for on in ("off", "on")
        ]
        lines += compared(f"{objective.upper()}, {case.name}, {precision}", "pairs/s", ours, peers)
    return lines


def used(what: str, ours: dict[str, Any], rate: dict[str, Any]) -> str:
    """The share of the machine's matrix products that training reaches: by linear layers alone, 2 operations a weight forward
    and 2 backward (the base is frozen) for every computed token; and with the output layer, which is multiplied for targets
    alone, twice forward (its gradient is formed there). Adapters and attention are counted in neither."""
    steps = len(ours["losses"])
    linear = computed_tokens_per_s(ours) * 4 * rate["linear_parameters"]
    head = ours["targets"] * (steps - 1) / steps / ours["seconds"] * 4 * rate["head_parameters"]
    shares = (f"{100 * found / rate['flops_per_s']:.0f}%" for found in (linear, linear + head))
    return (
        f"| {what} | lastresort | {next(shares)} of the machine's matrix products in linear layers, {next(shares)} with the output "
        f"layer ({rate['flops_per_s'] / 1e9:.0f} GFLOP/s measured) | | | | |"
    )


def computed_tokens_per_s(found: dict[str, Any]) -> float:
    """Of all steps but the first, whose time is not counted."""
    steps = len(found["losses"])
    return float(found["computed_tokens"]) * (steps - 1) / steps / float(found["seconds"])


def group_rows(precision: str, steps: int) -> list[str]:
    what, lines = f"GRPO, 4 prompts of 100 x 8 answers of 40, one update, {precision}", []
    ours = measure("benchmarks.groups", "ours", precision, str(steps), "off")
    peers = [measure("benchmarks.groups", "trl", precision, str(steps), on) for on in ("off", "on")]
    for label, found in zip(("lastresort", "TRL", "TRL, activation checkpointing"), (ours, *peers), strict=True):
        length, reward = sum(found["lengths"]) / steps, sum(found["rewards"]) / steps
        lines.append(
            f"| {what} | {label} | {found['rows_per_s']:.2f} answers/s | {found['peak_bytes'] / 1e9:.2f} GB | "
            f"mean length {length:.1f}, mean reward {reward:.3f} | | |"
        )
    fastest, leanest = max(peer["rows_per_s"] for peer in peers), min(peer["peak_bytes"] for peer in peers)
    lines.append(
        f"| {what} | **ratio** | **{ours['rows_per_s'] / fastest:.2f} x** | "
        f"**{ours['peak_bytes'] / leanest:.2f} of TRL's** | | | |"
    )
    return lines


def compared(what: str, unit: str, ours: dict[str, Any], peers: list[dict[str, Any]]) -> list[str]:
    """Lines of one workload: ours, TRL without and with activation checkpointing, and the ratios."""
    lines = []
    named = zip(("lastresort", "TRL", "TRL, activation checkpointing"), (ours, *peers), strict=True)
    for label, found in named:
        speed, peak = f"{found['rows_per_s']:.2f} {unit}", f"{found['peak_bytes'] / 1e9:.2f} GB"
        lines.append(f"| {what} | {label} | {speed} | {peak} | | | |")
    fastest = max(peer["rows_per_s"] for peer in peers)
    leanest = min(peer["peak_bytes"] for peer in peers)
    bound = ours["nominal_tokens"] / ours["computed_tokens"]
    computed = computed_tokens_per_s(ours)
    curves = (" ".join(f"{x:.4f}" for x in found["losses"][:8]) for found in (ours, peers[0]))
    lines.append(
        f"| {what} | **ratio** | **{ours['rows_per_s'] / fastest:.2f} x** | "
        f"**{ours['peak_bytes'] / leanest:.2f} of TRL's** | bound {bound:.2f} x, {computed:.0f} computed tokens/s | "
        f"losses {next(curves)} | TRL {next(curves)} |"
    )
    return lines


def few_shot_rows(precision: str) -> list[str]:
    ours = measure("benchmarks.fewshot", "ours", precision, "48")
    peers = {batch: measure("benchmarks.fewshot", "transformers", precision, batch) for batch in ("16", "48")}
    fastest = max(peer["questions_per_s"] for peer in peers.values())
    leanest = min(peer["peak_bytes"] for peer in peers.values())
    same = sum(a == b for a, b in zip(ours["answers"], peers["16"]["answers"], strict=True))
    lines = [
        f"| few-shot, 5 shots, 48 questions, {precision} | lastresort | {ours['questions_per_s']:.2f} questions/s | "
        f"{ours['peak_bytes'] / 1e9:.2f} GB | | | |"
    ]
    for batch, peer in peers.items():
        lines.append(
            f"| few-shot, 5 shots, 48 questions, {precision} | transformers generate, batch {batch} | "
            f"{peer['questions_per_s']:.2f} questions/s | {peer['peak_bytes'] / 1e9:.2f} GB | | | |"
        )
    bound = (ours["prompt_tokens"] + ours["new_tokens"]) / (ours["prompt_tokens"] / 48 + ours["new_tokens"])
    lines.append(
        f"| few-shot, 5 shots, 48 questions, {precision} | **ratio** | **{ours['questions_per_s'] / fastest:.2f} x** | "
        f"**{ours['peak_bytes'] / leanest:.2f}** | bound below {bound:.2f} x | {same} of 48 answers the same text | |"
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--precision", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "latest.md")
    chosen = parser.parse_args()
    lines = [
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}; "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "peft", "trl")),
        "Command: `" + " ".join(["python -m benchmarks", *sys.argv[1:]]) + "`",
        "",
        "| what | who | speed | peak memory | bound | ours | peer |",
        "|---|---|---|---|---|---|---|",
    ]
    for precision in chosen.precision:
        if "sft" in chosen.only:
            lines += sft_rows(precision, chosen.steps)
        if "pairs" in chosen.only:
            lines += pair_rows(precision, chosen.steps)
        if "groups" in chosen.only:
            lines += group_rows(precision, chosen.steps)
        if "fewshot" in chosen.only:
            lines += few_shot_rows(precision)
    text = "\n".join(lines) + "\n"
    print(text)
    chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
