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
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from scripts.forgetting import MEASURES, TASKS, Row, mean_loss, points, rows_of
from scripts.recipes import DEFAULTS, TODAY

LEAST_GAIN, MOST_OF_A_TASK, MOST_FORGOTTEN, MOST_TIME, LEAST_SEEDS = 0.02, 0.04, 0.01, 2.5, 3
ROUNDING = 1e-9  # a difference of two shares of 300 items may be exactly 4 points
ADAPTERS = "all-linear, against attention"


@dataclass(frozen=True, slots=True)
class Compared:
    """A setting less what it is set against, as means over the seeds of each task. general, others: of the tasks whose losses were
    measured. seeds: of the task with the fewest. times: its training seconds as a multiple.
    """

    setting: str
    targets: dict[str, float]
    general: dict[str, float]
    others: dict[str, float]
    seeds: int
    times: float

    @property
    def gain(self) -> float:
        return fmean(self.targets.values())

    @property
    def low_gain(self) -> float:
        """One-sided limit at 95%, by Student's t over the tasks: what another task like these would gain on average."""
        from scipy.stats import t

        gains = list(self.targets.values())
        return self.gain - float(t.ppf(0.95, len(gains) - 1)) * stdev(gains) / sqrt(len(gains))

    @property
    def fell(self) -> bool:
        """One task is enough, so that the others need not be run."""
        return min(self.targets.values()) < -MOST_OF_A_TASK - ROUNDING

    @property
    def goes_on(self) -> bool:
        """After the first seed. Without all tasks the mean says nothing yet."""
        return not self.fell and set(self.targets) == set(TASKS) and self.gain >= LEAST_GAIN - ROUNDING

    @property
    def passes(self) -> bool:
        return (
            self.goes_on
            and self.seeds >= LEAST_SEEDS
            and self.low_gain > 0
            and set(self.general) == set(self.others) == set(TASKS)
            and min(fmean(self.general.values()), fmean(self.others.values())) >= -MOST_FORGOTTEN - ROUNDING
            and self.times <= MOST_TIME
        )


def compared(rows: Sequence[Row]) -> list[Compared]:
    """Each setting against the tasks' own, and all linear layers against attention alone, whichever of them is a task's own."""
    found: dict[str, list[tuple[Row, Row]]] = {}
    for setting, other, row in _pairs(rows):
        found.setdefault(setting, []).append((other, row))
    return [_compared(setting, both) for setting, both in found.items()]


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Setting, the row of what it is set against, and its own row."""
    known = {(row["task"], row["recipe"], row["seed"]): row for row in rows if "target" in row}
    for (task, recipe, seed), row in known.items():
        today = known.get((task, TODAY, seed))
        if today is None:
            continue
        if recipe in DEFAULTS:
            yield recipe, today, row
        elif recipe == "attention":  # the task itself trains all linear layers
            yield ADAPTERS, row, today
        elif recipe == "all-linear":
            yield ADAPTERS, today, row


def _compared(setting: str, both: Sequence[tuple[Row, Row]]) -> Compared:
    tasks = {
        task: [pair for pair in both if pair[1]["task"] == task]
        for task in dict.fromkeys(row["task"] for _, row in both)
    }
    gated = {task: pairs for task, pairs in tasks.items() if all("losses" in row for pair in pairs for row in pair)}

    def lost(names: Sequence[str]) -> dict[str, float]:
        return {
            task: fmean(mean_loss(row, names) - mean_loss(other, names) for other, row in pairs)
            for task, pairs in gated.items()
        }

    return Compared(
        setting,
        {
            task: fmean(row["target"]["score"] - other["target"]["score"] for other, row in pairs)
            for task, pairs in tasks.items()
        },
        general=lost(MEASURES[:1]),
        others=lost(MEASURES[1:]),
        seeds=min(map(len, tasks.values())),
        times=sum(row["training_s"] for _, row in both) / sum(other["training_s"] for other, _ in both),
    )


def table(found: Sequence[Compared]) -> str:
    """In Markdown, one line a setting."""
    lines = [f"| setting | {' | '.join(TASKS)} | mean | training time |", f"|---|{'--:|' * (len(TASKS) + 2)}"]
    for one in found:
        by_task = [points(one.targets[task]) if task in one.targets else "not run" for task in TASKS]
        mean = points(one.gain) if set(one.targets) == set(TASKS) else ""
        lines.append(f"| {one.setting} | {' | '.join(by_task)} | {mean} | {one.times:.2f} x |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    found = compared(rows_of(parser.parse_args().out))
    print(table(found))
    for one in found:
        missing = not one.fell and set(one.targets) != set(TASKS)
        said = "passes" if one.passes else "to be run" if missing else "further seeds" if one.goes_on else "stops"
        print(f"{one.setting}: {said}")


if __name__ == "__main__":
    main()
