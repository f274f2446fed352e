"""How far training has moved a model from its start: KL divergence on its own answers, and margins of preferences."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.divergence import Far
from lastresort.engine.forest import Row, split_units
from lastresort.engine.logp import row_sums, target_states
from lastresort.engine.support import support
from lastresort.train.adapters.adapters import adapters_in_base_precision, as_base
from lastresort.train.loop.batches import TrainingItem
from lastresort.train.loop.optimizers import StartWeights
from lastresort.train.loop.policy import evaluating, passes, unit_sums

HELD_BYTES = 256 << 20
PASS_TOKENS = 1536

Distributions = Callable[[Sequence[Row]], list[Tensor]]


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL(policy || start) of an answer, in nats, over `answers` answers that the policy sampled at temperature 1.

    At every token of an answer the divergence of the next-token distributions is computed over the whole vocabulary, and
    these are summed: for answers drawn from the policy that is unbiased, and it varies less than log ratios of the tokens
    drawn (and than the estimator k3 of them). error: standard error of the mean, None of one answer. tokens: of all answers.
    """

    kl: float
    error: float | None
    answers: int
    tokens: int

    @property
    def kl_per_token(self) -> float:
        return self.kl * self.answers / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Margins:
    """How much better the better answers fare than the worse: a mean, and the share above 0. n: pairs; of labelled answers every
    good one against every bad one.

    before: None where it is a movement, [log pi - log start](better) - [same](worse) in nats. Of log odds, which know no start,
    it is the mean at the start.
    """

    mean: float
    above_0: float
    n: int
    before: float | None = None


def divergence(model: Any, start: StartWeights, rows: Sequence[Row]) -> Divergence:
    """Of the model as it is now from its start. rows: prompts with answers that the model sampled, the answers as targets."""

    def at_start(part: Sequence[Row]) -> list[Tensor]:
        with start.inside():
            return _distributions(model, part)

    with evaluating(model):
        return _divergence(rows, _vocabulary(model), partial(_distributions, model), at_start)


def divergence_from_base(model: Any, rows: Sequence[Row]) -> Divergence:
    """KL(base || model) of an adapter around its base. rows: prompts with answers that the base sampled, the answers as targets.

    By the engine, which shares what the rows share and holds no full logits; by plain forwards where it does not know the head.
    """

    def at_base(part: Sequence[Row]) -> list[Tensor]:
        with as_base(model):
            return _distributions(model, part)

    with evaluating(model):
        if support(model).head is None:
            return _divergence(rows, _vocabulary(model), at_base, partial(_distributions, model))
        with as_base(model), adapters_in_base_precision(model):
            parts = split_units([(row,) for row in rows], PASS_TOKENS)
            far: list[Far | None] = [None] * len(rows)
            for part in parts:
                for number, row_states in zip(part, target_states(model, [rows[i] for i in part]), strict=True):
                    far[number] = Far([row_states])
        sums = [0.0] * len(rows)
        for part, logps in passes(model, [(row,) for row in rows], PASS_TOKENS, far=far):
            for number, total in zip(part, row_sums(logps.per_token, logps.row, len(part)).tolist(), strict=True):
                sums[number] = -total
    return _of_sums(sums, rows)


def _divergence(rows: Sequence[Row], vocabulary: int, own: Distributions, other: Distributions) -> Divergence:
    sums: list[float] = []
    for part in _parts(rows, vocabulary):
        for near, far in zip(own(part), other(part), strict=True):
            sums.append(float((near.exp() * (near - far)).sum(dtype=torch.float64)))
    return _of_sums(sums, rows)


def _of_sums(sums: Sequence[float], rows: Sequence[Row]) -> Divergence:
    error = stdev(sums) / len(sums) ** 0.5 if len(sums) > 1 else None
    return Divergence(fmean(sums) if sums else 0.0, error, len(sums), sum(sum(row.targets) for row in rows))


def _vocabulary(model: Any) -> int:
    return int(_causal(model).config.get_text_config().vocab_size)


def margins(
    model: Any, start: StartWeights, items: Sequence[TrainingItem], max_pass_tokens: int, *, plain: bool = False
) -> Margins | None:
    """Of pairs or labelled answers; None where labelled answers are all of one kind. plain: by the plain path, as they were
    trained.
    """
    units = [item.trained for item in items]
    now = unit_sums(model, units, max_pass_tokens, plain=plain)
    with start.inside():
        before = unit_sums(model, units, max_pass_tokens, plain=plain)
    gains = [[a - b for a, b in zip(unit_logps, far, strict=True)] for unit_logps, far in zip(now, before, strict=True)]
    if items[0].desirable is None:
        gaps = [better - worse for better, worse in gains]
    else:
        labelled = [(gain, item.desirable) for (gain,), item in zip(gains, items, strict=True)]
        good, bad = ([gain for gain, label in labelled if label is kind] for kind in (True, False))
        gaps = [better - worse for better in good for worse in bad]
    return Margins(fmean(gaps), sum(gap > 0 for gap in gaps) / len(gaps), len(gaps)) if gaps else None


def odds_margins(
    model: Any, start: StartWeights, items: Sequence[TrainingItem], max_pass_tokens: int, *, plain: bool = False
) -> Margins:
    """By how much the log odds of the better answer exceed those of the worse, a token, as ORPO compares them. items: pairs.

    Summed log-probabilities would not do: training on answers raises those of every answer that resembles them, and most those
    of the longest.
    """
    now = odds_of_pairs(model, items, max_pass_tokens, plain=plain)
    with start.inside():
        before = odds_of_pairs(model, items, max_pass_tokens, plain=plain)
    return Margins(fmean(now), sum(margin > 0 for margin in now) / len(now), len(now), fmean(before))


def odds_of_pairs(
    model: Any,
    items: Sequence[TrainingItem],
    max_pass_tokens: int,
    *,
    plain: bool = False,
    on_units: Callable[[int], None] | None = None,
) -> list[float]:
    """Of each pair the log odds of the better answer less those of the worse, a token, in nats, under the model as it is now.
    on_units: as of `unit_sums`.
    """
    units = [item.trained for item in items]
    sums = unit_sums(model, units, max_pass_tokens, plain=plain, on_units=on_units)
    odds = [[_log_odds(total, row) for total, row in zip(*unit, strict=True)] for unit in zip(sums, units, strict=True)]
    return [better - worse for better, worse in odds]


def _log_odds(total: float, row: Row) -> float:
    """Of the mean log-probability of a target; a certain answer is kept just below certainty."""
    mean = min(total / sum(row.targets), -sys.float_info.epsilon)
    return mean - math.log(-math.expm1(mean))


def _parts(rows: Sequence[Row], vocabulary: int) -> Iterator[list[Row]]:
    """Rows whose distributions are held at once, so that the weights are not put back and forth for each."""
    part: list[Row] = []
    for row in rows:
        if part and 4 * vocabulary * sum(sum(other.targets) for other in (*part, row)) > HELD_BYTES:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _distributions(model: Any, rows: Sequence[Row]) -> list[Tensor]:
    """Log-probabilities of every next token at the targets of each row, [targets, vocabulary], float32. Plain forwards without
    padding.
    """
    few = "logits_to_keep" in inspect.signature(_causal(model).forward).parameters
    distributions: list[Tensor] = []
    with adapters_in_base_precision(model):
        for row in rows:
            places = [place for place, wanted in enumerate(row.targets) if wanted]
            tail = len(row.ids) - places[0] + 1
            ids = torch.tensor([row.ids], device=model.device)
            logits = model(input_ids=ids, **({"logits_to_keep": tail} if few else {})).logits[0, -tail:]
            wanted = torch.tensor([place - places[0] for place in places], device=logits.device)
            distributions.append(logits[wanted].float().log_softmax(-1))
    return distributions


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
