"""The grid of simulated climbs and the tables of docs/simulations.md. `python tests/climb_table.py` writes them anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from page_tables import filled, table
from simulated_climb import Cell, Tally, simulate

PAGE = Path(__file__).parent.parent / "docs" / "simulations.md"
CLIMBS = 10_000
BETA = 0.05  # as promised, whatever the program reads
LEAST_TOLD = 100  # climbs, below which a share among them is left out of the findings

LADDERS = (
    (0.5, 0.6, 0.7),
    (0.7, 0.75, 0.78),
    (0.79, 0.79, 0.79),
    (0.8, 0.8, 0.8),
    (0.82, 0.82, 0.82),
    (0.9, 0.95, 0.95),
    (0.5, 0.9, 0.95),
    (0.5, 0.7, 0.9),
    (0.79, 0.79, 0.9),
    (0.79, 0.8, 0.81),
    (0.7, 0.79, 0.8),
)
GRID = tuple(
    Cell(rates, n=n, on_undecided=on_undecided)
    for rates, n, on_undecided in product(LADDERS, (60, 150, 300), ("lead", "collect"))
)


@dataclass(frozen=True, slots=True)
class Named:
    """A cell, and in what it differs from the grid."""

    name: str
    cell: Cell


AT_THE_BAR, BELOW = Cell((0.8, 0.8, 0.8)), Cell((0.79, 0.79, 0.79))
EIGHT = (0.0,) * 8
OTHERS = (
    Named("the same items are hard for all rungs", replace(AT_THE_BAR, shared=1.0)),
    Named("the same items are hard for all rungs", Cell((0.79, 0.8, 0.81), n=300, shared=1.0)),
    Named("each rung has hard items of its own", replace(AT_THE_BAR, shared=0.0)),
    Named("each rung has hard items of its own", Cell((0.79, 0.8, 0.81), n=300, shared=0.0)),
    Named("one rung", Cell((0.8,))),
    Named("two rungs", Cell((0.8, 0.8))),
    Named("five rungs", Cell((0.8,) * 5)),
    Named("five rungs, each with hard items of its own", Cell((0.8,) * 5, shared=0.0)),
    Named("five rungs", Cell((0.79,) * 5)),
    Named("five rungs, two of them skipped", Cell((None, 0.8, None, 0.8, 0.8))),
    Named("bar 50%", Cell((0.5, 0.5, 0.5), bar=0.5)),
    Named("bar 95%", Cell((0.95, 0.95, 0.95), bar=0.95)),
    Named("bar 95%", Cell((0.94, 0.94, 0.97), bar=0.95)),
    Named("confidence 90%", replace(AT_THE_BAR, confidence=0.9)),
    Named("confidence 99%", replace(AT_THE_BAR, confidence=0.99)),
    Named("the best of eight equal ways on 60 dev items", replace(BELOW, ways=EIGHT)),
    Named("the best of eight equal ways on 60 dev items", replace(AT_THE_BAR, ways=EIGHT, shared=0.0)),
    Named(
        "the best of four ways, 20, 10 and 4 points apart",
        Cell((0.83, 0.83, 0.83), ways=(-0.2, -0.1, -0.04, 0.0)),
    ),
    Named(
        "a cheaper way where it is as good, 150 dev items",
        replace(AT_THE_BAR, ways=(-0.05, -0.005, 0.0), dearer=True, shared=1.0, n_dev=150),
    ),
    Named("scores in quarters", replace(AT_THE_BAR, kind="in quarters")),
    Named("scores in quarters", Cell((0.5, 0.7, 0.9), kind="in quarters")),
    Named("60 groups of five items", replace(AT_THE_BAR, kind="groups of five", n=300)),
    Named("60 groups of five items", Cell((0.5, 0.7, 0.95), kind="groups of five", n=300)),
)
BROKEN = (
    Named("five rungs share 40%, not 5%", Cell((0.8,) * 5, shared=0.0, confidence=0.6)),
    Named(
        "the best of eight equal ways, chosen on the test items",
        Cell((0.79,), ways=EIGHT, shared=0.0, n_dev=150, tested_on_dev=True),
    ),
)


def shown(count: int, of: int) -> str:
    """A share in percent with its standard error, of one climb at least."""
    share, least = count / of, 1 / of
    error = math.sqrt(max(share * (1 - share), least * (1 - least)) / of)
    return f"{100 * share:.2f} ± {100 * error:.2f}"


def scores_in_words(cell: Cell) -> str:
    return " / ".join("skipped" if rate is None else f"{100 * rate:g}" for rate in cell.rates)


def figures(cell: Cell, tally: Tally) -> tuple[str, ...]:
    """The columns of COLUMNS after the first."""
    n, rates = tally.climbs, [rate + way for rate in cell.rates if rate is not None for way in cell.ways]
    places: list[int | None] = [*range(1, len(cell.rates) + 1), None]
    return (
        scores_in_words(cell),
        str(cell.n),
        cell.on_undecided,
        shown(tally.wrong_met, n) if min(rates) <= cell.bar else "",
        shown(tally.lost, n) if max(rates) >= cell.bar else "",
        shown(tally.lost, tally.first_good) if tally.first_good else "",
        f"{100 * tally.led_below / n:.1f}" if min(rates) < cell.bar and cell.on_undecided == "lead" else "",
        *(f"{100 * tally.verdicts[verdict] / n:.1f}" for verdict in ("MET", "NOT_MET", "UNDECIDED")),
        f"{tally.items / n:.0f}",
        " / ".join(f"{100 * tally.stops[place] / n:.1f}" for place in places),
    )


COLUMNS = (
    "true scores",
    "test items",
    "undecided",
    "wrongly MET",
    "first good rung NOT MET",
    "of climbs that tested it",
    "provisional winner below the bar",
    "MET",
    "NOT MET",
    "UNDECIDED",
    "items used",
    "stops at 1 / 2 / … / no rung",
)


def row(named: Named, tally: Tally) -> tuple[str, ...]:
    """A line of a table; the grid's cells have no name."""
    return (named.name, *figures(named.cell, tally)) if named.name else figures(named.cell, tally)


def blocks(climbs: int = CLIMBS) -> dict[str, str]:
    """What the page shows between its marks, by name."""
    grid, others, broken = (
        [(named, simulate(named.cell, climbs)) for named in group]
        for group in ([Named("", cell) for cell in GRID], OTHERS, BROKEN)
    )
    return {
        "findings": "\n".join(f"- {sentence}" for sentence in findings([*grid, *others])),
        "grid": table(COLUMNS, (row(*one) for one in grid)),
        "others": table(("what differs", *COLUMNS), (row(*one) for one in others)),
        "broken": table(("what is broken", *COLUMNS), (row(*one) for one in broken)),
    }


def findings(simulated: Sequence[tuple[Named, Tally]]) -> list[str]:
    """The cells that come nearest to what is promised, or beyond it."""

    def worst(share: Callable[[Tally], float], cells: Iterable[tuple[Named, Tally]]) -> str:
        named, tally = max(cells, key=lambda one: share(one[1]))
        cell = named.cell
        where = ", ".join(filter(None, (scores_in_words(cell), f"{cell.n} items", cell.on_undecided, named.name)))
        return f"{100 * share(tally):.2f}% ({where})"

    usual = [one for one in simulated if one[0].cell.confidence == Cell(()).confidence]
    told = [one for one in simulated if one[1].first_good >= LEAST_TOLD]
    led = [one for one in told if one[0].cell.on_undecided == "lead"]
    over = sum(
        tally.wrong_met / tally.climbs > alpha or tally.lost / tally.climbs > beta
        for named, tally in simulated
        for alpha, beta in [promises(named.cell)]
    )
    return [
        f"Cells: {len(simulated)}, of {simulated[0][1].climbs:,} climbs each. Cells in which a guarantee is exceeded: {over}.",
        f"Wrongly MET, guaranteed to be at most 5% per climb: at most {worst(lambda t: t.wrong_met / t.climbs, usual)}.",
        f"First good rung NOT MET, guaranteed to be at most 5% per climb: at most {worst(lambda t: t.lost / t.climbs, simulated)}.",
        "The same among the climbs that tested that rung, without a guarantee: at most "
        f"{worst(lambda t: t.lost / t.first_good, led)} under `lead` and "
        f"{worst(lambda t: t.lost / t.first_good, told)} otherwise, in cells with at least {LEAST_TOLD} such climbs.",
        "A provisional winner below the bar, without a guarantee: at most "
        f"{worst(lambda t: t.led_below / t.climbs, simulated)}.",
    ]


def promises(cell: Cell) -> tuple[float, float]:
    """The chance that a climb ends wrongly MET, and that its first good rung is NOT_MET."""
    return 1 - cell.confidence, BETA


def write() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, body in blocks().items():
        text = filled(text, name, body)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
