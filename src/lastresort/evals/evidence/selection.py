"""Which variant goes to the test, and what its dev score is worth after having been picked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.bar import FALSE_NOT_MET, met_of_each, outcome_of
from lastresort.evals.evidence.noninferiority import non_inferior
from lastresort.evals.evidence.paired import generator_of
from lastresort.evals.evidence.sequential import log_evidence
from lastresort.evals.evidence.units import Array, as_scores
from lastresort.types import Selection

CHEAPER_MARGIN = 0.02
RESAMPLES = 2_000
PREDICTED, TEST_DRAWS = 0.8, 400
_TIE = 1e-9


def choose(
    dev_scores: Mapping[str, Sequence[float]], cost: Mapping[str, float], *, groups: Sequence[str] | None = None
) -> Selection:
    """The variant with the highest dev score; a cheaper one where it is as good.

    Scores that differ by at most one item count as equal, and the cheapest of them is taken. Otherwise a cheaper
    variant replaces the best only if it is shown non-inferior to it at 0.02. (Taking the cheapest that is "not
    significantly worse" would mostly pick a variant that fails.) Variants that were dropped early, with fewer
    scores than the longest, do not compete. Equal scores at equal cost: the one named first.

    dev_scores: per variant, on the same items in the same order. cost: per variant, in any one unit. groups: label of
    each dev item where items belong together. Raises ContractError on no variants, no scores, or a missing cost.
    Simulations: docs/simulations.md.
    """
    full = _full_variants(dev_scores)
    missing = [name for name in full if name not in cost]
    if missing:
        raise ContractError(f"no cost of variant {missing[0]!r}", expected="a cost for every variant")
    totals = {name: float(np.sum(scores)) for name, scores in full.items()}
    means = {name: totals[name] / len(full[name]) for name in full}
    best = max(full, key=lambda name: (totals[name], -cost[name]))
    level = [name for name in full if totals[name] >= totals[best] - 1 - _TIE]
    leader = min(level, key=lambda name: (cost[name], -totals[name]))
    cheaper = [name for name in full if cost[name] < cost[leader]]
    for name in sorted(cheaper, key=cost.__getitem__):
        p = _p_non_inferior(full, best, name, groups)
        if p is not None:
            n = len(full[name])
            return Selection(name, "NON_INFERIOR", means[name], n, best, means[best], CHEAPER_MARGIN, p)
    score, n = means[leader], len(full[leader])
    if totals[leader] < totals[best] - _TIE:
        return Selection(leader, "WITHIN_ONE_ITEM", score, n, best, means[best])
    tied = tuple(name for name in full if name != leader and totals[name] >= totals[leader] - _TIE)
    return Selection(leader, "ONLY" if len(full) == 1 else "HIGHEST", score, n, tied=tied)


def evidence_not_best(
    dev_scores: Mapping[str, Sequence[float]], *, groups: Sequence[str] | None = None, n_refused: int = 0
) -> dict[str, float]:
    """Of each variant the evidence that another one is better: the mean over its rivals of the bets of `log_evidence`.

    While a variant is the best, no bet on a rival gains on average, nor does their mean: that reaches 1/a at any look with
    probability at most a, however many rivals there are. Two variants compare on the items that both answered, since one that was
    dropped answered fewer, from the first on.

    dev_scores: per variant, on the first items of the same order. groups: label of each dev item where items belong together; the
    first item of each group counts. n_refused: rivals refused after answering some items. Bets on them count as lost from the
    start: they say nothing of the best of those that are left, and a mean over fewer would give back what was lost on them. What
    an earlier look concluded from such a bet no longer holds, so compare again after a refusal. The promise then holds for the
    best of those that are left, if models refuse by input and not by what was answered. A variant without rivals has 0.
    Source: Waudby-Smith and Ramdas 2024 (bets); Vovk and Wang 2021 (means of e-values). Simulations: docs/simulations.md.
    """
    scores = {name: as_scores(found, binary=False) for name, found in dev_scores.items()}
    found = {}
    for name, own in scores.items():
        rivals = [other for rival, other in scores.items() if rival != name]
        bets = [_bet(rival, own, groups) for rival in rivals]
        found[name] = sum(bets) / (len(bets) + n_refused) if bets else 0.0
    return found


def _bet(rival: Array, own: Array, groups: Sequence[str] | None) -> float:
    """What a bet on the rival has become."""
    n = min(len(rival), len(own))
    counted = np.arange(n) if groups is None else np.unique(groups[:n], return_index=True)[1]
    if not n:
        return 1.0
    return float(np.exp(log_evidence((rival[:n] - own[:n])[np.sort(counted)], 0.0)[-1]))


def selection_bias_corrected(
    dev_scores: Mapping[str, Sequence[float]], seed: int, *, groups: Sequence[str] | None = None
) -> float:
    """What the best dev score would be on items that did not help to pick it.

    2,000 seeded resamples of the items; in each the variant that is best in-bag is scored on the items left out (the
    mean over those tied for best), and the mean over resamples is returned. With one variant: its plain mean.
    dev_scores: as in `choose`; only variants measured to the end take part. groups: label of each dev item where items
    belong together; then whole groups are drawn, so that no group is on both sides.
    Source: Tsamardinos, Greasidou and Borboudakis 2018 (bootstrap bias correction).
    """
    full = _full_variants(dev_scores)
    scores = np.stack(list(full.values()))
    codes = np.unique(range(scores.shape[1]) if groups is None else groups, return_inverse=True)[1]
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, weights=row) for row in scores])
    n = len(sizes)
    if len(full) == 1 or n < 2:
        return float(scores.mean(axis=1).max())
    counts = generator_of(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    left_out = (counts == 0).astype(np.float64)
    usable = left_out.sum(axis=1) > 0
    in_bag = (counts @ sums.T)[usable]
    out_of_bag = (left_out @ sums.T)[usable] / (left_out @ sizes)[usable, None]
    winners = in_bag >= in_bag.max(axis=1, keepdims=True) - _TIE
    return float(((out_of_bag * winners).sum(axis=1) / winners.sum(axis=1)).mean())


def chance_of_met(
    dev_scores: Sequence[float],
    n_test: int,
    *,
    bar: float,
    alpha: float,
    beta: float = FALSE_NOT_MET,
    binary: bool,
    seed: int,
    groups: Sequence[str] | None = None,
) -> float:
    """How likely the test says MET, as far as dev can tell: the share of 400 test sets drawn from the dev scores that it calls MET.

    Each draw weights the scores anew (Bayesian bootstrap), with a 0 and a 1 among them, so that a perfect dev set is no proof of a
    perfect system; for 0/1 scores that is a rate from Beta(1 + right, 1 + wrong). From these weights come n_test scores, which the
    rule of the test judges.

    n_test: size of the test set, in groups where `groups` is given. groups: label of each dev item where items belong together.
    Source: Rubin 1981. Oracle: for 0/1 scores, the tail of a beta-binomial distribution.
    """
    units = as_scores(dev_scores, binary=binary and groups is None)
    if groups is not None:
        codes = np.unique(groups, return_inverse=True)[1]
        units, binary = np.bincount(codes, weights=units) / np.bincount(codes), False
    values, random = np.concatenate([units, [0.0, 1.0]]), generator_of(seed)
    weights = random.dirichlet(np.ones(len(values)), TEST_DRAWS)
    drawn = (random.choice(values, n_test, p=each) for each in weights)
    if binary:
        return float(met_of_each(np.stack([test > 0 for test in drawn]), bar, alpha, beta).mean())
    return float(np.mean([outcome_of(test, bar, alpha, beta, binary=False) == "MET" for test in drawn]))


def mildest(chances: Mapping[str, float], distances: Mapping[str, float]) -> str | None:
    """Of the variants whose test is likely to say MET (`chance_of_met` at least 0.8) the one that moved least; None without any.

    distances: how far each is from its base. Of equals the likeliest, then the one named first.
    """
    likely = [name for name, chance in chances.items() if chance >= PREDICTED]
    return min(likely, key=lambda name: (distances[name], -chances[name]), default=None)


def _full_variants(dev_scores: Mapping[str, Sequence[float]]) -> dict[str, Array]:
    """The variants measured to the end, that is on as many items as the longest."""
    longest = max((len(scores) for scores in dev_scores.values()), default=0)
    if longest == 0:
        raise ContractError("no variant with a dev score", expected="at least one")
    full = {name: scores for name, scores in dev_scores.items() if len(scores) == longest}
    return {name: as_scores(scores, binary=False) for name, scores in full.items()}


def _p_non_inferior(full: dict[str, Array], best: str, name: str, groups: Sequence[str] | None) -> float | None:
    """p of "name loses less than 0.02 against best" where that is shown, else None."""
    binary = bool(np.isin([full[best], full[name]], (0.0, 1.0)).all())
    tested = non_inferior(full[best].tolist(), full[name].tolist(), margin=CHEAPER_MARGIN, binary=binary, groups=groups)
    return tested.p if tested.verdict == "NON_INFERIOR" else None
