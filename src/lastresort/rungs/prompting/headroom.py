"""Whether optimising the prompt can help, as far as the hand-made prompts show on dev.

Where they differ by noise alone, the wording does not matter to this model on this task, and an optimised prompt mostly ends below
the plain one. Source: arXiv 2604.14585.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lastresort.evals.evidence.paired import p_above_zero, paired_differences
from lastresort.records.measurement import ItemScore
from lastresort.records.rungs import NoHeadroom

LEVEL = 0.05
MOST_ILL_FORMED = 0.02  # of the answers of the best prompt


def without_headroom(
    items: Mapping[str, Sequence[ItemScore]],
    plain: str,
    best: str,
    *,
    binary: bool,
    groups: Sequence[str] | None,
    seed: int,
) -> NoHeadroom | None:
    """None where some prompt differs from the plain one, or the best one's answers often lack the required form.

    Each prompt is compared with the plain one on the items that both answered: paired, two-sided, the p-values times the number of
    comparisons (Bonferroni), at 0.05. items: of each candidate, in the order of dev. groups: of each dev item, None without.
    """
    ill_formed = sum(item.format_ok is False for item in items[best])
    if ill_formed > MOST_ILL_FORMED * len(items[best]):
        return None
    others = {name: found for name, found in items.items() if name != plain and found}
    if plain not in items or not items[plain] or not others:
        return None
    values = {name: _p(items[plain], found, binary, groups, seed) for name, found in others.items()}
    nearest = min(values, key=values.__getitem__)
    p = min(1.0, values[nearest] * len(values))
    if p <= LEVEL:
        return None
    n_compared = min(len(items[plain]), len(items[nearest]))
    return NoHeadroom(len(values), nearest, n_compared, p, LEVEL, best, ill_formed, len(items[best]))


def _p(
    plain: Sequence[ItemScore], other: Sequence[ItemScore], binary: bool, groups: Sequence[str] | None, seed: int
) -> float:
    """Two-sided p of a difference on the items that both answered."""
    n = min(len(plain), len(other))
    a, b = [item.score for item in plain[:n]], [item.score for item in other[:n]]
    shared = None if groups is None else list(groups[:n])
    binary = binary and groups is None
    change = paired_differences(a, b, binary=binary, groups=shared)
    return min(1.0, 2 * min(p_above_zero(way, binary=binary, seed=seed) for way in (change, -change)))
