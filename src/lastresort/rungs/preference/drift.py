"""Whether a system answers better or only longer: the same dev items before and after.

How far a candidate of preference training has moved from its start, for the record: KL on dev prompts, and margins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lastresort.records.measurement import ItemScore
from lastresort.rungs.preference.items import Given
from lastresort.rungs.rung import Workbench
from lastresort.systems.compose import compose
from lastresort.systems.system import System

if TYPE_CHECKING:
    from lastresort.engine.forest import Row
    from lastresort.models.loading import Loaded
    from lastresort.train.loop.optimizers import StartWeights


@dataclass(frozen=True, slots=True)
class Drift:
    """Mean answer tokens and score on dev before and after; and the scores on the `level` items whose answers did not grow
    (0 where there are none).
    """

    tokens_before: float
    tokens_after: float
    score_before: float
    score_after: float
    level: int
    level_before: float
    level_after: float


def drift_of(before: Sequence[ItemScore], after: Sequence[ItemScore]) -> Drift:
    """Both measured on the same items. Raises ValueError where they were not."""
    known = {item.id: item for item in before}
    if {item.id for item in after} != set(known) or not after:
        raise ValueError("drift is measured on the same items")
    level = [item for item in after if item.completion_tokens <= known[item.id].completion_tokens]
    return Drift(
        _mean([item.completion_tokens for item in before]),
        _mean([item.completion_tokens for item in after]),
        _mean([item.score for item in before]),
        _mean([item.score for item in after]),
        len(level),
        _mean([known[item.id].score for item in level]),
        _mean([item.score for item in level]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


KL_PROMPTS, KL_ANSWERS = 16, 2  # of dev, and sampled to each: twice as many cost as much as an epoch on 144 short pairs


@dataclass(frozen=True, slots=True)
class Moved:
    """kl: of the candidate to its start, nats an answer; how it is computed says `train.divergence.Divergence`. margin: of
    preferences, see `train.divergence.Margins`, of the rows that margin_of names; None where answers are rewarded. margin_before:
    of log odds, which are compared where the objective has no reference; else None.
    """

    kl: float
    kl_error: float | None
    kl_per_token: float
    kl_answers: int
    margin: float | None = None
    margin_above_0: float | None = None
    margin_n: int = 0
    margin_of: str = ""
    margin_before: float | None = None


def moved(
    bench: Workbench,
    start: System,
    loaded: Loaded,
    model: Any,
    weights: StartWeights,
    given: Given | None,
    *,
    plain: bool,
    odds: bool,
) -> Moved:
    """Of the model as it stands. The answers for the KL are sampled from it at temperature 1, to the first dev prompts.

    plain: the path by which it was trained. odds: whether its objective compares log odds, as ORPO does.
    """
    from lastresort.train.settings import TrainSettings
    from lastresort.train.watch.divergence import divergence, margins, odds_margins

    found = divergence(model, weights, _answered(bench, start, loaded, model, plain))
    kl = (found.kl, found.error, found.kl_per_token, found.answers)
    judged = None
    if given is not None and given.judged:
        judged = (odds_margins if odds else margins)(
            model, weights, given.judged, TrainSettings(1.0).max_pass_tokens, plain=plain
        )
    if judged is None or given is None:
        return Moved(*kl)
    return Moved(*kl, judged.mean, judged.above_0, judged.n, given.judged_as, judged.before)


def _answered(bench: Workbench, start: System, loaded: Loaded, model: Any, plain: bool) -> list[Row]:
    """Prompts of dev with answers that the model samples."""
    from lastresort.data.rendering import render_prompt, stop_token_ids
    from lastresort.engine.forest import Row
    from lastresort.train.groups.sampling import Asked, EngineSampler
    from lastresort.train.settings import GroupSettings

    tokenizer, kwargs = loaded.tokenizer, start.template_kwargs
    asked = []
    for example in bench.dev[:KL_PROMPTS]:
        messages = compose(start.prompt, example.input, ())
        asked.append(Asked(example, messages, tuple(render_prompt(tokenizer, messages, template_kwargs=kwargs))))
    settings = GroupSettings(group_size=KL_ANSWERS, max_new_tokens=bench.max_new_tokens)
    ends = stop_token_ids(tokenizer, template_kwargs=kwargs)
    groups = EngineSampler(tokenizer, ends, settings, bench.task.split.seed).answers(model, 0, asked, plain=plain)
    return [
        Row((*prompt.ids, *answer.ids), (*[False] * len(prompt.ids), *[True] * len(answer.ids)))
        for prompt, group in zip(asked, groups, strict=True)
        for answer in group
    ]
