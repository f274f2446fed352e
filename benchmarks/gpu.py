"""Compare lastresort with TRL and transformers on one GPU: `python -m benchmarks.gpu` (or `make bench-gpu`).

    python -m benchmarks.gpu --models Qwen2.5-0.5B --only sft kernels --out first
    python -m benchmarks.gpu --models Llama-3-8B --only sft --out second
    python -m benchmarks.gpu --merge first.json second.json --out all

Every measurement is a process of its own, with random weights in bf16 and LoRA of rank 16 on all linear layers; nothing is
downloaded. What is not installed, does not fit or fails is a row that says so. After --minutes no further measurement begins, and
the same command goes on with those that its file lacks. `--models tiny` shows on a processor that all of it runs.

A peak is what tensors held, as torch's allocator counts it. The plan's forecast beside it leaves out the same: the driver's context
and fragmentation.
Operations count 4 a weight and token (6 with DPO's reference, 2 without a backward) for all weights and every computed token. The
first step of a training warms up.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_material import SHAPES, WORKS, Work
from benchmarks.gpu_peers import WHO, Who, missing
from benchmarks.gpu_row import head_of
from benchmarks.plan_memory import least_squares

STEPS, MINUTES, MOST_HALVINGS = 4, 9.0, 5
ALLOWED = 0.10  # how far a forecast may lie from the peak
ANCHOR = ("Llama-3-8B", "SFT, 4,096 tokens, nothing shared", 12_473)
"""tokens/s of NVIDIA NeMo AutoModel on one H100, LoRA of rank 16 on all linear layers: 402 TFLOP/s, 40.6% of 989."""
PACKAGES = ("torch", "triton", "transformers", "peft", "trl", "liger-kernel", "flash-attn", "flash-attn-3")
PARTS = tuple(WHO)
PLANNED_PARTS = ("sft", "pairs", "update")
Row = Mapping[str, Any]


def measure(shape: str, work: Work, who: Who, steps: int, until: float) -> dict[str, Any] | None:
    """The measurement, with half the pass as long as it is out of memory; None where the time is up."""
    found: dict[str, Any] = {}
    if (what := missing(work, who)) is not None:
        return head_of(shape, work, who) | {"failed": what}
    for halvings in range(MOST_HALVINGS):
        print(f"  {shape} | {work.name} | {who.name}{f' | 1/{1 << halvings}' if halvings else ''} ...", file=sys.stderr)
        command = [sys.executable, "-m", "benchmarks.gpu_row", shape, work.name, who.name, str(steps), str(halvings)]
        try:
            left_s = max(1.0, until - time.monotonic())
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left_s)
        except subprocess.TimeoutExpired:
            print("    the time is up", file=sys.stderr)
            return None
        lines = done.stdout.splitlines()
        if done.returncode or not lines:  # killed, or torch could not be loaded
            said = (done.stderr.strip().splitlines() or [""])[-1]
            return head_of(shape, work, who) | {"failed": f"exit code {done.returncode}: {said[:200]}"}
        before, found = _pass(found), json.loads(lines[-1])
        if not found.get("no_memory") or _pass(found) == before:
            break
    return found


def _pass(row: Row) -> tuple[int | None, int | None]:
    return row.get("pass_rows"), row.get("pass_tokens")


def wanted(models: Sequence[str], parts: Sequence[str], who: Sequence[str]) -> Iterator[tuple[str, Work, Who]]:
    """who: parts of names, none for all."""
    for shape in models:
        for work in WORKS:
            for one in WHO[work.part] if work.part in parts else ():
                if not who or any(name in one.name for name in who):
                    yield shape, work, one


def key(row: Row) -> tuple[str, str, str]:
    return row["shape"], row["work"], row["who"]


def machine() -> dict[str, str]:
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": ", ".join(versions),
    }


def table(document: Mapping[str, Any]) -> str:
    """In Markdown: each measurement, the ratios of each work, then the forecasts."""
    rows: Sequence[Row] = document["rows"]
    any_tiny = any(row["shape"] == "tiny" for row in rows)
    devices = list(dict.fromkeys(row["device"] for row in rows if "failed" not in row))
    lines = [
        f"Device: {'; '.join(devices) or 'none'}\n",
        *(
            ["tiny: a sixteenth of each length and a quarter of the rows; its figures say nothing but that it runs.\n"]
            * any_tiny
        ),
        *(f"Machine: {one['machine']}; {one['versions']}\nCommand: `{one['command']}`\n" for one in document["calls"]),
        "| model | work | who | rows/s | tokens/s | computed tokens/s | TFLOP/s | MFU | peak | plan | off | plan, rows/s | "
        "a pass | losses | |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["shape"], row["work"]), []).append(row)
    for (shape, work), own in groups.items():
        lines += [line(row) for row in own]
        for device in devices:
            lines += ratio(shape, work, [row for row in own if row.get("device") == device and "failed" not in row])
    return "\n".join([*lines, "", *forecasts(rows)]) + "\n"


def line(row: Row) -> str:
    head = f"| {row['shape']} | {row['work']} | {row['who']} |"
    if "failed" in row:
        return f"{head} | | | | | | | | | | | {row['failed']} |".replace("\n", " ")
    cells = [
        f"{row['rows_per_s']:,.2f}",
        f"{row['tokens_per_s']:,.0f}",
        f"{row['computed_tokens_per_s']:,.0f}",
        _cell(row["tflops_per_s"], "{:,.1f}"),
        _cell(row["mfu"], "{:.1%}"),
        f"{row['peak_bytes'] / 1e9:.2f} GB",
        _cell(row["planned_bytes"], "{:.2f} GB", 1e-9),
        _cell(_off(row), "{:+.0%}"),
        _cell(row["planned_rows_per_s"], "{:,.2f}"),
        f"{row['pass_tokens']:,} tokens" if row["pass_tokens"] else f"{row['pass_rows']} rows",
        " ".join(f"{loss:.4f}" for loss in row["losses"][:8]),
        row["path"].replace("|", "/"),
    ]
    return f"{head} {' | '.join(cells)} |"


def _cell(value: float | None, form: str, scale: float = 1.0) -> str:
    return "" if value is None else form.format(scale * value)


def _off(row: Row) -> float | None:
    planned = row.get("planned_bytes")
    return None if planned is None else planned / row["peak_bytes"] - 1


def ratio(shape: str, work: str, rows: Sequence[Row]) -> list[str]:
    """Our fastest against the peer's fastest setting, our leanest against its leanest."""
    ours, peers = ([row for row in rows if row["ours"] is mine] for mine in (True, False))
    lines = []
    if ours and peers:
        speed = max(row["rows_per_s"] for row in ours) / max(row["rows_per_s"] for row in peers)
        memory = min(row["peak_bytes"] for row in ours) / min(row["peak_bytes"] for row in peers)
        empty = " |" * 4
        lines.append(
            f"| {shape} | {work} | **ratio** | **{speed:.2f} x** |{empty} **{memory:.2f} of the peer's** |" + " |" * 6
        )
    if ours and (shape, work) == ANCHOR[:2]:
        speed = max(row["tokens_per_s"] for row in ours) / ANCHOR[2]
        lines.append(
            f"| {shape} | {work} | NVIDIA NeMo AutoModel on an H100, as it says | | {ANCHOR[2]:,} |"
            + " |" * 9
            + f" ours {speed:.2f} x |"
        )
    return lines


def forecasts(rows: Sequence[Row]) -> list[str]:
    """How far the plan's memory is off, with what it lacks fitted to every second training."""
    known = [row for row in rows if row["part"] in PLANNED_PARTS and row.get("planned_bytes") is not None]
    if not known:
        return []
    as_is = [abs(_off(row) or 0.0) for row in known]
    lines = [
        f"The plan's memory, as it is: within {ALLOWED:.0%} in {sum(off <= ALLOWED for off in as_is)} of {len(known)} trainings, "
        f"at most {max(as_is):.0%} off."
    ]
    if len(known) >= 4:
        figures = [(row["planned_bytes"], row["planned_passing_bytes"], row["peak_bytes"]) for row in known]
        more, share = least_squares(figures[::2])
        off = [abs((planned + more + share * passing) / peak - 1) for planned, passing, peak in figures[1::2]]
        lines.append(
            f"With {more / 1e9:+.2f} GB and {share:+.1%} of what comes and goes, fitted to every second of them: "
            f"within {ALLOWED:.0%} in {sum(one <= ALLOWED for one in off)} of the {len(off)} others, at most {max(off):.0%} off."
        )
    return lines


def keep(out: Path, document: Mapping[str, Any]) -> None:
    out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(table(document), encoding="utf-8")


def known_of(paths: Sequence[Path]) -> dict[str, Any]:
    """What these files hold together; of the same measurement the last."""
    calls: list[dict[str, str]] = []
    rows: dict[tuple[str, str, str], Row] = {}
    for path in paths:
        if path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            calls += document["calls"]
            rows |= {key(row): row for row in document["rows"]}
    return {"calls": calls, "rows": list(rows.values())}


def main() -> None:
    names = [shape.name for shape in SHAPES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="*", default=[name for name in names if name != "tiny"], choices=names)
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--who", nargs="*", default=[], help="parts of names, such as packed or lastresort")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a training, at least 2: the first warms up")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "gpu_latest", help="without an ending")
    parser.add_argument(
        "--merge", type=Path, nargs="*", default=[], help="JSON files: measure nothing, write one table"
    )
    chosen = parser.parse_args()
    until = time.monotonic() + 60 * chosen.minutes
    document = known_of(chosen.merge or [chosen.out.with_suffix(".json")])
    if not chosen.merge:
        command = " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])
        document["calls"].append({**machine(), "command": command})
        done = {key(row) for row in document["rows"] if "failed" not in row}
        for shape, work, who in wanted(chosen.models, chosen.only, chosen.who):
            if (shape, work.name, who.name) in done:
                continue
            if time.monotonic() > until or (row := measure(shape, work, who, chosen.steps, until)) is None:
                print("  the time is up: the same command goes on", file=sys.stderr)
                break
            document["rows"] = [old for old in document["rows"] if key(old) != key(row)] + [row]
            keep(chosen.out, document)
    keep(chosen.out, document)
    print(table(document))


if __name__ == "__main__":
    main()
