"""What other settings than the tasks' own do to the target and to what is forgotten: the ablations of docs/defaults.md.

    python -m scripts.forgetting --out FOLDER --data ../shared/data --gate none --seeds 1 --recipes "rank 8"     a first look
    python -m scripts.ablations --out FOLDER                                                                     prints the table

Cells and rows are those of the study of forgetting. Only the rule differs: there a recipe has to forget less, here it has to learn
more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from scripts.forgetting import TASKS, Against, Row, against, points, rows_of
from scripts.recipes import DEFAULTS, TODAY

LEAST_GAIN, MOST_OF_A_TASK, MOST_FORGOTTEN, MOST_TIME, LEAST_CELLS = 0.02, 0.04, 0.01, 2.0, 9
ADAPTERS = "all-linear, against attention"


@dataclass(frozen=True, slots=True)
class FirstLook:
    """A setting on the first seed of the tasks that were run. targets: its gain in the target by task. times: its training seconds
    as a multiple of those of what it is set against.
    """

    setting: str
    targets: dict[str, float]
    times: float

    @property
    def gain(self) -> float:
        return fmean(self.targets.values())

    @property
    def fell(self) -> bool:
        """One task is enough, so that the others need not be run."""
        return min(self.targets.values()) < -MOST_OF_A_TASK

    @property
    def goes_on(self) -> bool:
        """The rule of docs/defaults.md for further seeds. Without all tasks the mean says nothing yet."""
        return not self.fell and set(self.targets) == set(TASKS) and self.gain >= LEAST_GAIN


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Setting, what it is set against, and its own row."""
    known = {(row["task"], row["recipe"], row["seed"]): row for row in rows if "target" in row}
    for (task, recipe, seed), row in known.items():
        own = known.get((task, TODAY, seed))
        if own is None:
            continue
        if recipe in DEFAULTS:
            yield recipe, own, row
        elif recipe == "attention":  # the task itself trains all linear layers
            yield ADAPTERS, row, own
        elif recipe == "all-linear":
            yield ADAPTERS, own, row


def first_looks(rows: Sequence[Row]) -> list[FirstLook]:
    found: dict[str, list[tuple[Row, Row]]] = {}
    for setting, other, own in _pairs(rows):
        if own["seed"] == 0:
            found.setdefault(setting, []).append((other, own))
    return [
        FirstLook(
            setting,
            {own["task"]: own["target"]["score"] - other["target"]["score"] for other, own in both},
            sum(own["training_s"] for _, own in both) / sum(other["training_s"] for other, _ in both),
        )
        for setting, both in found.items()
    ]


def compared(rows: Sequence[Row]) -> list[Against]:
    """Over all cells whose losses were measured."""
    found: dict[str, list[tuple[Row, Row]]] = {}
    for setting, other, own in _pairs([row for row in rows if "losses" in row]):
        found.setdefault(setting, []).append((other, own))
    return [against(setting, both) for setting, both in found.items()]


def passes(found: Against) -> bool:
    """The rule of docs/defaults.md for a new default."""
    return (
        found.cells >= LEAST_CELLS
        and found.target >= LEAST_GAIN
        and found.low_target > 0
        and found.worst_target >= -MOST_OF_A_TASK
        and min(found.general, found.others) >= -MOST_FORGOTTEN
        and found.times <= MOST_TIME
    )


def table(looks: Sequence[FirstLook]) -> str:
    """In Markdown, one line a setting."""
    lines = [f"| setting | {' | '.join(TASKS)} | mean | training time |", f"|---|{'--:|' * (len(TASKS) + 2)}"]
    for one in looks:
        by_task = [points(one.targets[task]) if task in one.targets else "not run" for task in TASKS]
        lines.append(f"| {one.setting} | {' | '.join(by_task)} | {points(one.gain)} | {one.times:.2f} x |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    rows = rows_of(parser.parse_args().out)
    looks = first_looks(rows)
    print(table(looks))
    for look in looks:
        missing = set(TASKS) - set(look.targets)
        said = "further seeds" if look.goes_on else "to be run" if missing and not look.fell else "stops"
        print(f"{look.setting}: {said}")
    for one in compared(rows):
        print(f"{one.recipe}, {one.cells} cells: {'the new default' if passes(one) else 'does not pass'}")


if __name__ == "__main__":
    main()
