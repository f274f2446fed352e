"""Kinds of constraints on an answer, by group. A new one is a line in its group's table."""

from lastresort.gate.suites.constraints.kinds import FRAME, LENGTH, LETTERS, SHAPE, WORDING, ConstraintKind, Facts

GROUPS: dict[str, tuple[ConstraintKind, ...]] = {
    "shape": SHAPE,
    "length": LENGTH,
    "wording": WORDING,
    "letters": LETTERS,
    "frame": FRAME,
}
KINDS: dict[str, ConstraintKind] = {kind.name: kind for kinds in GROUPS.values() for kind in kinds}

__all__ = ["GROUPS", "KINDS", "ConstraintKind", "Facts"]
