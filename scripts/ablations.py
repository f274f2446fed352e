"""What other settings than the tasks' own do to the target and to what is forgotten: the ablations of docs/defaults.md.

    python -m scripts.forgetting --out FOLDER --data ../shared/data --recipes today "rank 8" "rank 64"     runs cells
    python -m scripts.ablations --out FOLDER                                                               prints the page's table

Cells and rows are those of the study of forgetting. Only the rule differs: there a recipe has to forget less, here it has to learn
more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from scripts.forgetting import Against, Row, against, points, rows_of
from scripts.recipes import DEFAULTS, TODAY

LEAST_GAIN, MOST_OF_A_TASK, MOST_FORGOTTEN, MOST_TIME, LEAST_CELLS = 0.02, 0.04, 0.01, 2.0, 9
ADAPTERS = "all-linear, against attention"


def passes(found: Against) -> bool:
    """The rule of docs/defaults.md."""
    return found.cells >= LEAST_CELLS and found.low_target > 0 and worth_more_seeds(found) and _spares(found)


def worth_more_seeds(found: Against) -> bool:
    """What the first seed of every task has to show."""
    return found.target >= LEAST_GAIN and found.worst_target >= -MOST_OF_A_TASK


def _spares(found: Against) -> bool:
    return min(found.general, found.others) >= -MOST_FORGOTTEN and found.times <= MOST_TIME


def compared(rows: Sequence[Row]) -> list[Against]:
    """Each setting against the tasks' own, and all linear layers against attention alone, whichever is the task's own."""
    known = {(row["task"], row["recipe"], row["seed"]): row for row in rows if "losses" in row}
    pairs: dict[str, list[tuple[Row, Row]]] = {name: [] for name in (ADAPTERS, *DEFAULTS)}
    for (task, recipe, seed), row in known.items():
        own = known.get((task, TODAY, seed))
        if own is None:
            continue
        if recipe in DEFAULTS:
            pairs[recipe].append((own, row))
        elif recipe == "attention":  # the task itself trains all linear layers
            pairs[ADAPTERS].append((row, own))
        elif recipe == "all-linear":
            pairs[ADAPTERS].append((own, row))
    return [against(name, both) for name, both in pairs.items() if both]


def table(rows: Sequence[Row]) -> str:
    """In Markdown, one line a setting."""
    lines = [
        "| setting | cells | target (lower limit) | its worst task | general | others | training time |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one.recipe} | {one.cells} | {points(one.target)} ({points(one.low_target)}) | {points(one.worst_target)} | "
        f"{points(one.general)} | {points(one.others)} | {one.times:.2f} x |"
        for one in compared(rows)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    rows = rows_of(parser.parse_args().out)
    print(table(rows))
    for one in compared(rows):
        print(f"{one.recipe}: {'passes' if passes(one) else 'more seeds' if worth_more_seeds(one) else 'stops'}")


if __name__ == "__main__":
    main()
