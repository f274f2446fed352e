"""The tables of docs/gate-simulations.md. `python tests/gate_table.py` writes them anew, in about 20 minutes on one core;
with the names of tables, only these.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from gate_looks import LookedGates, looked_gates, planned
from gate_simulation import (
    ALPHA,
    BCA_RUNS,
    GATES,
    Asked,
    GradedSize,
    Rates,
    gates,
    graded_size,
    plan,
    power,
    size,
)
from lastresort.evals.evidence.noninferiority import items_needed
from lastresort.gate.plans import QUICK_FIXED, QUICK_ITEMS, QUICK_MOST
from page_tables import block, filled, table

PAGE = Path(__file__).parent.parent / "docs" / "gate-simulations.md"
SEED = 0
RUNS = 10_000
ITEMS = (50, 100, 200, 500, 1_000, 2_000)
BCA_UP_TO = 200  # items, beyond which 9,999 resamples of every table take too long


@dataclass(frozen=True, slots=True)
class SizeCell:
    margin: float
    n: int


@dataclass(frozen=True, slots=True)
class GradedCell:
    kind: str
    margin: float
    share: float
    n: int


@dataclass(frozen=True, slots=True)
class PowerCell:
    margin: float
    share: float
    alpha: float
    wanted: float


@dataclass(frozen=True, slots=True)
class GateCell:
    """losses: "none", "the margin in all" or "the margin in one", the first measure. quick: at most QUICK_ITEMS of each."""

    measures: int
    losses: str
    together: float
    quick: bool = False


@dataclass(frozen=True, slots=True)
class LookCell:
    """A gate of four equal measures. The first loses `loss`, the others nothing; `share` of the answers differ where nothing is
    lost. Planned for a tenth that differ, whatever the share is.
    """

    margin: float
    share: float
    loss: float


@dataclass(frozen=True, slots=True)
class LookedGateCell:
    """As `GateCell`. share: of what is planned to differ, how much of it does."""

    measures: int
    losses: str
    together: float
    share: float = 1.0
    quick: bool = False


SIZES = [SizeCell(margin, n) for margin, n in product((0.02, 0.03, 0.05), ITEMS)]
PATTERNS = (
    ("halves", 0.025, 0.1),
    ("halves", 0.05, 0.3),
    ("wholes and halves", 0.025, 0.1),
    ("wholes and halves", 0.05, 0.2),
    ("rare", 0.025, 0.03),
    ("rare", 0.05, 0.06),
)
GRADED = [GradedCell(*pattern, n) for pattern, n in product(PATTERNS, ITEMS)]
POWERS = [
    PowerCell(margin, share, alpha, wanted)
    for (margin, share), (alpha, wanted) in product(
        ((0.02, 0.02), (0.02, 0.05), (0.03, 0.01), (0.03, 0.03), (0.03, 0.1), (0.05, 0.05), (0.05, 0.1), (0.05, 0.3)),
        ((0.05, 0.8), (0.05, 0.96), (0.025, 0.96)),
    )
]
WHOLE = [
    *[GateCell(k, losses, 0.0) for k, losses in product((4, 5, 6), ("none", "the margin in all", "the margin in one"))],
    *[GateCell(5, losses, 0.5) for losses in ("none", "the margin in all", "the margin in one")],
    *[GateCell(5, losses, 0.0, True) for losses in ("none", "the margin in all")],
]


LOOKED_RUNS = 2_000
LOOKS = [
    *[LookCell(0.03, share, 0.0) for share in (0.0, 0.01, 0.02, 0.05, 0.1)],
    *[LookCell(0.03, 0.05, loss) for loss in (0.03, 0.06, 0.1, 0.2, 0.4)],
]
LOSSES = ("none", "the margin in all", "the margin in one")
LOOKED = [
    *[LookedGateCell(4, losses, together) for together, losses in product((0.0, 0.5), LOSSES)],
    *[LookedGateCell(4, losses, 0.0, 0.2) for losses in ("none", "10 points in one", "30 points in one")],
    *[LookedGateCell(4, losses, 0.0, 0.2, quick=True) for losses in ("none", "10 points in one", "30 points in one")],
    *[LookedGateCell(4, losses, 0.0, quick=True) for losses in LOSSES],
]


def shown(share: float) -> str:
    return f"{100 * share:.2f}"


def with_error(share: float, runs: int) -> str:
    """In percent, with its standard error, of one run at least."""
    least = 1 / runs
    return f"{shown(share)} ± {shown(math.sqrt(max(share * (1 - share), least * (1 - least)) / runs))}"


SIZE_HEAD = ("margin", "items", "NON_INFERIOR", "at share", "score test", "REGRESSED", "at share", "score test")


def size_row(cell: SizeCell) -> tuple[str, ...]:
    found = [
        (size(cell.n, cell.margin, side=side, exact=True), size(cell.n, cell.margin, side=side, exact=False))
        for side in ("NON_INFERIOR", "REGRESSED")
    ]
    told = [(shown(exact.chance), f"{exact.share:.3f}", shown(score.chance)) for exact, score in found]
    return (f"{100 * cell.margin:g}", f"{cell.n:,}", *told[0], *told[1])


GRADED_HEAD = (
    "what changes",
    "margin",
    "share that differs",
    "items",
    "NON_INFERIOR",
    "REGRESSED",
    "NON_INFERIOR by BCa",
)


def graded_row(cell: GradedCell, runs: int = RUNS) -> tuple[str, ...]:
    found: GradedSize = graded_size(
        cell.kind, cell.share, cell.n, cell.margin, cell.margin, runs, seed=SEED, bca=cell.n <= BCA_UP_TO
    )
    return (
        *graded_known(cell),
        with_error(found.non_inferior, runs),
        with_error(found.regressed, runs),
        "" if found.bca is None else with_error(found.bca, min(runs, BCA_RUNS)),
    )


def graded_known(cell: GradedCell) -> tuple[str, ...]:
    return (cell.kind, f"{100 * cell.margin:g}", f"{cell.share:g}", f"{cell.n:,}")


POWER_HEAD = ("margin", "share that differs", "alpha", "planned power", "items", "power")


def power_row(cell: PowerCell) -> tuple[str, ...]:
    n = items_needed(cell.margin, cell.share, power=cell.wanted, alpha=cell.alpha)
    reached = power(n, cell.margin, cell.share, cell.alpha)
    return (
        f"{100 * cell.margin:g}",
        f"{cell.share:g}",
        f"{cell.alpha:g}",
        shown(cell.wanted),
        f"{n:,}",
        shown(reached),
    )


GATE_HEAD = (
    "measures",
    "true loss",
    "correlation",
    "items",
    "SHIP",
    "HOLD",
    "REJECT",
    "SHIP in two gates",
    "REJECT in two gates",
)


def gate_row(cell: GateCell, runs: int = RUNS) -> tuple[str, ...]:
    """One gate at .05; and two at .025, of which the second follows where the first does not ship."""
    alone, first, second = (_rates(cell, alpha, runs, seed) for alpha, seed in ((0.05, 0), (0.025, 1), (0.025, 2)))
    ship = first.ship + (1 - first.ship) * second.ship
    reject = first.reject + first.hold * second.reject
    return (
        *gate_known(cell),
        _items(cell),
        with_error(alone.ship, runs),
        with_error(alone.hold, runs),
        with_error(alone.reject, runs),
        with_error(ship, runs),
        with_error(reject, runs),
    )


def _items(cell: GateCell) -> str:
    """Of one gate; a quick one asks as many of each measure, and each of two more than one alone."""
    sizes = _sizes(cell, ALPHA)
    if cell.quick:
        return f"{max(sizes)}, {max(_sizes(cell, ALPHA / 2))} in each of two"
    return f"{min(sizes):,} to {max(sizes):,}"


def _sizes(cell: GateCell, alpha: float) -> list[int]:
    return plan(GATES[cell.measures], alpha, QUICK_ITEMS[alpha] if cell.quick else None)


def gate_known(cell: GateCell) -> tuple[str, ...]:
    return (str(cell.measures), cell.losses, f"{cell.together:g}")


def _rates(cell: GateCell, alpha: float, runs: int, seed: int) -> Rates:
    asked = GATES[cell.measures]
    lost = {"none": 0, "the margin in all": len(asked), "the margin in one": 1}[cell.losses]
    losses = [one.margin if number < lost else 0.0 for number, one in enumerate(asked)]
    return gates(asked, _sizes(cell, alpha), losses, alpha=alpha, runs=runs, together=cell.together, seed=SEED + seed)


LOOK_HEAD = (
    "margin",
    "share that differs",
    "true loss",
    "fixed size",
    "most",
    "items, mean",
    "SHIP",
    "REJECT",
)
FIXED_POWER = 0.95


def look_row(cell: LookCell, runs: int = LOOKED_RUNS) -> tuple[str, ...]:
    """Items of the first measure of four, in a gate at .05."""
    four = [Asked(str(number), cell.margin, cell.share) for number in range(4)]
    assumed = [Asked(one.name, one.margin, 0.1) for one in four]
    sizes = planned(assumed, ALPHA)
    found = looked_gates(four, sizes, [cell.loss, 0.0, 0.0, 0.0], alpha=ALPHA, runs=runs, seed=SEED)
    return (
        *look_known(cell),
        f"{items_needed(cell.margin, 0.1, power=FIXED_POWER, alpha=ALPHA):,}",
        f"{sizes[0]:,}",
        f"{found.first:,.0f}",
        with_error(found.ship, runs),
        with_error(found.reject, runs),
    )


def look_known(cell: LookCell) -> tuple[str, ...]:
    return (f"{100 * cell.margin:g}", f"{cell.share:g}", f"{100 * cell.loss:g}")


LOOKED_HEAD = (
    "measures",
    "true loss",
    "correlation",
    "share that differs",
    "items of a fixed gate",
    "most",
    "items, mean",
    "SHIP",
    "REJECT",
    "SHIP in two gates",
    "REJECT in two gates",
)


def looked_row(cell: LookedGateCell, runs: int = LOOKED_RUNS) -> tuple[str, ...]:
    """One gate at .05; and two at .025, as `gate_row`."""
    alone, first, second = (
        looked_rates(cell, alpha, runs, seed) for alpha, seed in ((ALPHA, 0), (ALPHA / 2, 1), (ALPHA / 2, 2))
    )
    return (
        *looked_known(cell),
        f"{sum(plan(GATES[cell.measures], ALPHA)):,}",
        f"{sum(looked_most(cell, ALPHA)):,}",
        f"{alone.items:,.0f}",
        with_error(alone.ship, runs),
        with_error(alone.reject, runs),
        with_error(first.ship + (1 - first.ship) * second.ship, runs),
        with_error(first.reject + first.hold * second.reject, runs),
    )


def looked_known(cell: LookedGateCell) -> tuple[str, ...]:
    share = "as planned" if cell.share == 1 else f"{cell.share:g} of it"
    return (str(cell.measures), cell.losses, f"{cell.together:g}", f"{share}, quick" if cell.quick else share)


def looked_sizes(cell: LookedGateCell, alpha: float) -> list[int]:
    return planned(GATES[cell.measures], alpha, QUICK_FIXED if cell.quick else None)


def looked_most(cell: LookedGateCell, alpha: float) -> list[int]:
    return planned(GATES[cell.measures], alpha, QUICK_MOST if cell.quick else None)


def looked_rates(cell: LookedGateCell, alpha: float, runs: int, seed: int) -> LookedGates:
    asked = [replace(one, share=one.share * cell.share) for one in GATES[cell.measures]]
    points = cell.losses.removesuffix(" points in one")
    lost = {"none": 0, "the margin in all": len(asked)}.get(cell.losses, 1)
    losses = [
        (one.margin if points == cell.losses else float(points) / 100) if number < lost else 0.0
        for number, one in enumerate(asked)
    ]
    return looked_gates(
        asked,
        looked_sizes(cell, alpha),
        losses,
        alpha=alpha,
        runs=runs,
        together=cell.together,
        seed=SEED + seed,
        most=looked_most(cell, alpha),
    )


def findings(rows: dict[str, list[tuple[str, ...]]]) -> list[str]:
    """The cells that come nearest to what is promised, or beyond it."""

    def most(name: str, column: int, kept: Sequence[str] = ()) -> str:
        cells = [row for row in rows[name] if row[column].strip() and (not kept or row[1] in kept)]
        worst = max(cells, key=lambda row: float(row[column].split(" ± ")[0]))
        return f"{worst[column]}%"

    lost = ("the margin in all", "the margin in one")
    least = min(float(row[4].split(" ± ")[0]) for row in rows["gates"] if row[1] == "none" and " to " in row[3])
    short = min(float(row[5]) - float(row[3]) for row in rows["powers"])
    return [
        f"0/1 scores, a loss equal to the margin, summed exactly: NON_INFERIOR at most {most('sizes', 2)} (the score test "
        f"{most('sizes', 4)}), REGRESSED at most {most('sizes', 5)} (the score test {most('sizes', 7)}).",
        f"Scores of 0, .5 and 1, {RUNS:,} measures per cell: NON_INFERIOR at most {most('graded', 4)} (BCa {most('graded', 6)}), "
        f"REGRESSED at most {most('graded', 5)}.",
        f"A model that lost its margin in all measures or in one, {RUNS:,} gates per cell: one gate ships it at most "
        f"{most('gates', 4, lost)} and rejects it at most {most('gates', 6, lost)}; two gates ship it at most "
        f"{most('gates', 7, lost)} and reject it at most {most('gates', 8, lost)}.",
        f"An unchanged model: rejected at most {most('gates', 6, ('none',))} in one gate and {most('gates', 8, ('none',))} in two. "
        f"One gate of planned size ships it in at least {least:.2f}%.",
        f"Sequential gates, {LOOKED_RUNS:,} per cell: a model that lost its margin in all or one ships at most "
        f"{most('looked gates', 7, lost)} of the time and is rejected at most {most('looked gates', 8, lost)}, in two gates "
        f"{most('looked gates', 9, lost)} and {most('looked gates', 10, lost)}; an unchanged one is rejected at most "
        f"{most('looked gates', 8, ('none',))} and {most('looked gates', 10, ('none',))}.",
        f"Planned sizes: the power is at least {short:+.2f} points above the plan.",
    ]


TABLES: dict[str, tuple[Sequence[str], Sequence[Any], Callable[[Any], tuple[str, ...]]]] = {
    "sizes": (SIZE_HEAD, SIZES, size_row),
    "powers": (POWER_HEAD, POWERS, power_row),
    "gates": (GATE_HEAD, WHOLE, gate_row),
    "graded": (GRADED_HEAD, GRADED, graded_row),
    "looks": (LOOK_HEAD, LOOKS, look_row),
    "looked gates": (LOOKED_HEAD, LOOKED, looked_row),
}


def shown_rows(name: str) -> list[tuple[str, ...]]:
    """The rows of a table on the page."""
    found = block(name).search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return [
        tuple(text.removeprefix("| ").removesuffix(" |").split(" | ")) for text in found[2].strip().splitlines()[2:]
    ]


def put(name: str, body: str) -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), name, body), encoding="utf-8")


def write(names: Sequence[str]) -> None:
    """A table is on the page as soon as it is done; what was found is told of what the page then shows."""
    for name in names or list(TABLES):
        head, cells, row = TABLES[name]
        put(name, table(head, map(row, cells)))
    put("findings", "\n".join(f"- {sentence}" for sentence in findings({name: shown_rows(name) for name in TABLES})))


if __name__ == "__main__":
    write(sys.argv[1:])
