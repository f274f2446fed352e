"""Kinds of constraints on an answer, by group. A new one is a line in its group's table."""

from lastresort.evals.suites.constraints.frame import FRAME
from lastresort.evals.suites.constraints.kind import Facts, Kind
from lastresort.evals.suites.constraints.length import LENGTH
from lastresort.evals.suites.constraints.letters import LETTERS
from lastresort.evals.suites.constraints.shape import SHAPE
from lastresort.evals.suites.constraints.wording import WORDING

GROUPS: dict[str, tuple[Kind, ...]] = {
    "shape": SHAPE,
    "length": LENGTH,
    "wording": WORDING,
    "letters": LETTERS,
    "frame": FRAME,
}
KINDS: dict[str, Kind] = {kind.name: kind for kinds in GROUPS.values() for kind in kinds}

__all__ = ["GROUPS", "KINDS", "Facts", "Kind"]
