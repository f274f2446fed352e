"""docs/simulations.md shows what the present code gives. `python tests/climb_table.py` writes its figures anew."""

from __future__ import annotations

import pytest

from climb_table import BROKEN, CLIMBS, COLUMNS, GRID, OTHERS, PAGE, Named, findings, row, scores_in_words
from page_tables import block, line
from simulated_climb import Cell, Tally, simulate

ALL = {"grid": [Named("", cell) for cell in GRID], "others": OTHERS, "broken": BROKEN}
AGAIN = [
    ("grid", Named("", Cell((0.8, 0.8, 0.8), n=60))),
    ("grid", Named("", Cell((0.79, 0.8, 0.81), n=150, on_undecided="collect"))),
    *(("others", named) for named in OTHERS if named.name == "the best of four ways, 20, 10 and 4 points apart"),
    ("broken", BROKEN[1]),
]


def lines(name: str) -> list[str]:
    """The rows of a table on the page."""
    found = block(name).search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return found[2].strip().splitlines()[2:]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("name", "named"), AGAIN, ids=lambda one: one if isinstance(one, str) else scores_in_words(one.cell)
)
def test_a_line_of_the_page_is_what_the_code_gives(name: str, named: Named) -> None:
    assert named in ALL[name]
    assert line(row(named, simulate(named.cell, CLIMBS))) in lines(name), "run python tests/climb_table.py"


@pytest.mark.parametrize("name", ALL)
def test_the_page_has_a_line_for_every_cell(name: str) -> None:
    shown = lines(name)
    assert len(shown) == len(ALL[name])
    for named, text in zip(ALL[name], shown, strict=True):
        cell = named.cell
        known = [*filter(None, [named.name]), scores_in_words(cell), str(cell.n), cell.on_undecided]
        assert text.startswith(line(known).removesuffix(" |")), "run python tests/climb_table.py"


def test_the_findings_of_the_page_are_those_of_its_tables() -> None:
    told = block("findings").search(PAGE.read_text(encoding="utf-8"))
    assert told is not None
    assert (
        f"Cells: {len(GRID) + len(OTHERS)}, of {CLIMBS:,} climbs each. Cells in which a guarantee is exceeded: 0."
        in told[2]
    )
    others = [text for text in lines("others") if not text.startswith("| confidence")]  # the findings are of 95%
    rows = [text.split(" | ") for text in lines("grid")] + [text.split(" | ")[1:] for text in others]
    for column in ("wrongly MET", "first good rung NOT MET"):
        shares = [cells[COLUMNS.index(column)].split(" ± ")[0] for cells in rows]
        worst = max(float(share) for share in shares if share.strip())
        assert f"at most {worst:.2f}%" in told[2], "run python tests/climb_table.py"


def test_the_findings_tell_of_a_promise_that_was_not_kept() -> None:
    kept, broken = Tally(100, wrong_met=5, lost=5, first_good=100), Tally(100, wrong_met=6, first_good=100)
    cell = Named("", Cell((0.8,)))
    assert "a guarantee is exceeded: 0." in findings([(cell, kept)])[0]
    told = findings([(cell, kept), (Named("this one", cell.cell), broken)])
    assert "a guarantee is exceeded: 1." in told[0]
    assert "at most 6.00% (80, 150 items, lead, this one)" in told[1]
