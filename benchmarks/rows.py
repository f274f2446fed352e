"""A million rows converted and mixed: `python -m benchmarks.rows [ROWS [WAY…]]` prints a JSON line a way, and removes its files.

Rows a second, and the most memory that the process held, which must not grow with the rows. Each way runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lastresort.app.data_convert import convert_file
from lastresort.app.data_mix import MixRequest, mix_files, source_of
from lastresort.types import SilentProgress

ROWS = 1_000_000
WAYS = {
    "jsonl to messages": ("rows.jsonl", "messages", "out.jsonl"),
    "jsonl to csv": ("rows.jsonl", "prompt-completion", "out.csv"),
    "csv to parquet": ("rows.csv", "input-output", "out.parquet"),
    "parquet to alpaca": ("rows.parquet", "alpaca", "out.jsonl"),
}
WORDS = "parcel lamp invoice refund broken late cable screen order again please never arrived account login".split()


def write_rows(path: Path, rows: int) -> None:
    """Rows of about 100 bytes, as those of a support desk."""
    dice = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = " ".join(dice.choices(WORDS, k=9))
            file.write(json.dumps({"input": f"{text} {number}", "output": dice.choice(WORDS), "id": number}) + "\n")


def convert(folder: Path, source: str, to: str, out: str) -> int:
    return convert_file(folder / source, to, SilentProgress(), out=folder / out).written


def mix(folder: Path) -> int:
    sources = tuple(source_of(f"{folder}/{name}") for name in ("rows.jsonl", "rows.jsonl=0.2"))
    return mix_files(MixRequest(sources, folder / "mix.jsonl", repeat=True), SilentProgress()).rows


def peak_mib() -> int:
    """Of this program alone: what `getrusage` says begins with the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024)


def measure(folder: Path, way: str) -> None:
    """In this process; one JSON line."""
    began, used = time.perf_counter(), time.process_time()
    rows = mix(folder) if way == "mix" else convert(folder, *WAYS[way])
    seconds = time.perf_counter() - began
    line = {
        "way": way,
        "rows": rows,
        "seconds": round(seconds, 1),
        "rows_a_second": round(rows / seconds),
        "rows_a_cpu_second": round(rows / (time.process_time() - used)),
        "peak_mib": peak_mib(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", rows)
        for way in sys.argv[2:] or (*WAYS, "mix"):
            for kind in ("csv", "parquet"):
                if f"rows.{kind}" in WAYS.get(way, ()):
                    convert(folder, "rows.jsonl", "input-output", f"rows.{kind}")
            subprocess.run([sys.executable, "-m", "benchmarks.rows", "--of", name, way], check=True)
            for path in folder.iterdir():
                if path.name != "rows.jsonl":
                    path.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--of"]:
        measure(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
