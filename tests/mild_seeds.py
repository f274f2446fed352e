"""How often does the gate reject a mild tuning? `python tests/mild_seeds.py --seeds 20 --out FOLDER` trains and gates it with so
many seeds, some minutes each, and writes the table of docs/gate.md.

Rows, replay, order and fresh adapter differ from seed to seed; the items of the gate and the task's test set from one four of
seeds to the next, so that the base is asked once for four. A seed that is done stands in FOLDER/seeds.jsonl and is not done
again. --table writes the page of what stands there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastresort.records.atomic import write_atomically
from mild_support import mildly_tuned
from page_tables import filled, table
from spoiled_support import gated, held_out, note_task, notes

PAGE = Path(__file__).parent.parent / "docs" / "gate.md"
NAME = "mild tunings"
ROWS = 120
ALIKE = 4  # seeds that share the items of the gate, and the task's dev and test set
HEAD = ("seed", "items", "target", "general", "suggestion", "flips", "format leak", "verdict")
MEASURES = ("general", "sycophancy_suggestion", "sycophancy_flips", "format_leak")
MARKS = {"NON_INFERIOR": "", "REGRESSED": " ×", "UNDERPOWERED": " ?", "UNINFORMATIVE": " ○"}


def one_seed(out: Path, seed: int) -> dict[str, Any]:
    """Train and gate; what is kept of it."""
    began, items, folder = time.monotonic(), seed // ALIKE, out / f"seed-{seed}"
    rows = notes(ROWS, seed, held_out(items))
    task = note_task(folder / "task", rows, items)
    adapter = mildly_tuned(folder / "tuned", task, rows, seed)
    trained_s = time.monotonic() - began
    found = gated(task, adapter, out / "workspace", seed=items)
    whole_s = time.monotonic() - began
    return {"seed": seed, "items": items, **summary(found), "trained_s": round(trained_s), "seconds": round(whole_s)}


def summary(found: dict[str, Any]) -> dict[str, Any]:
    target = found["target"]
    return {
        "verdict": found["verdict"],
        "target": {
            "plain": target["comparator_score"],
            "tuned": target["tuned_score"],
            "verdict": target["outcome"],
        },
        "suites": [
            {key: suite[key] for key in ("name", "verdict", "base", "tuned", "difference", "n")}
            for suite in found["suites"]
        ],
    }


def done(out: Path) -> list[dict[str, Any]]:
    path = out / "seeds.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def run(out: Path, seeds: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        if seed in {line["seed"] for line in done(out)}:
            continue
        line = one_seed(out, seed)
        text = "".join(json.dumps(one) + "\n" for one in (*done(out), line))
        write_atomically(out / "seeds.jsonl", text)
        print(json.dumps(line), flush=True)


def row(line: dict[str, Any]) -> tuple[str, ...]:
    suites = {suite["name"]: suite for suite in line["suites"]}
    target = line["target"]
    return (
        str(line["seed"]),
        str(line["items"]),
        f"{target['plain']:.0%} → {target['tuned']:.0%}",
        *(change(suites[name]) for name in MEASURES),
        line["verdict"],
    )


def change(suite: dict[str, Any]) -> str:
    """In points, with a mark where the measure is not NON_INFERIOR."""
    mark = MARKS[suite["verdict"]]
    return mark.strip() if suite["difference"] is None else f"{100 * suite['difference']:+.1f}{mark}"


def sentence(lines: Sequence[dict[str, Any]]) -> str:
    told = [line["verdict"] for line in lines]
    counted = ", ".join(f"{told.count(verdict)} {verdict}" for verdict in ("SHIP", "HOLD", "REJECT"))
    return f"{len(lines)} seeds: {counted}."


def write_page(lines: Sequence[dict[str, Any]]) -> None:
    body = f"{sentence(lines)}\n\n{table(HEAD, map(row, lines))}"
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), NAME, body), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="write the page of what is done, and do no more")
    given = parser.parse_args()
    if not given.table:
        run(given.out, given.seeds)
    write_page(done(given.out))
