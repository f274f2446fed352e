"""Write sums.jsonl: every number from 12 to 211 as an input, and as its output one of the many right answers, drawn by lot.

People split a number in several ways: they take off all tens (80 + 7), some (50 + 37), a few (3 + 84) or anything (46 + 41).
Each way is drawn as often, and all are right; which of them a model can do, no example tells.

Run: python make_sums.py   (writes the same bytes every time; a test checks it)
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED, SMALLEST, LARGEST = 9, 12, 211


def split_up(total: int, draw: random.Random) -> str:
    """A right answer for a total of 12 or more."""
    tens = (total - 2) // 10
    ways = (10 * tens, 10 * draw.randint(1, tens), draw.randint(2, 9), draw.randint(2, total - 2))
    first = draw.choice(ways)
    return f"{first} + {total - first}"


def made() -> list[dict[str, str]]:
    """The rows, in random order."""
    draw = random.Random(SEED)
    totals = draw.sample(range(SMALLEST, LARGEST + 1), LARGEST + 1 - SMALLEST)
    return [{"id": f"sum-{total}", "input": str(total), "output": split_up(total, draw)} for total in totals]


if __name__ == "__main__":
    lines = "".join(json.dumps(row) + "\n" for row in made())
    (HERE / "sums.jsonl").write_text(lines, encoding="utf-8", newline="\n")
