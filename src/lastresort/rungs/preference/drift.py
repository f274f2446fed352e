"""What preference training changed: the length of answers on the same dev items, and the distance from the start, as KL on dev
prompts and as margins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lastresort.records.events.training import AnswerLengths, Movement
from lastresort.records.measurement import ItemScore
from lastresort.rungs.preference.items import PreferenceItems
from lastresort.rungs.rung import Workbench
from lastresort.systems.compose import compose
from lastresort.systems.system import System

if TYPE_CHECKING:
    from lastresort.engine.forest import Row
    from lastresort.models.loading import Loaded
    from lastresort.train.loop.optimizers import StartWeights


def answer_lengths(before: Sequence[ItemScore], after: Sequence[ItemScore]) -> AnswerLengths:
    """Lengths and scores of the same items before and after. Raises ValueError if the items differ."""
    before_by_id = {item.id: item for item in before}
    if {item.id for item in after} != set(before_by_id) or not after:
        raise ValueError("drift is measured on the same items")
    level = [item for item in after if item.completion_tokens <= before_by_id[item.id].completion_tokens]
    return AnswerLengths(
        tokens_before=_mean([item.completion_tokens for item in before]),
        tokens_after=_mean([item.completion_tokens for item in after]),
        score_before=_mean([item.score for item in before]),
        score_after=_mean([item.score for item in after]),
        level=len(level),
        level_before=_mean([before_by_id[item.id].score for item in level]),
        level_after=_mean([item.score for item in level]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


KL_PROMPTS, KL_ANSWERS = 16, 2  # prompts of dev, samples of each; twice as many cost an epoch on 144 short pairs


def measure_movement(
    bench: Workbench,
    start: System,
    loaded: Loaded,
    model: Any,
    weights: StartWeights,
    preference_items: PreferenceItems | None,
    *,
    plain: bool,
    odds: bool,
) -> Movement:
    """The distance of the model from its start. Answers for the KL are sampled from it at temperature 1, on the first dev prompts.

    plain: the path of its training. odds: whether its objective compares log odds, as ORPO does.
    """
    from lastresort.train.settings import TrainSettings
    from lastresort.train.watch.divergence import divergence, margins, odds_margins

    estimate = divergence(model, weights, _sampled_rows(bench, start, loaded, model, plain))
    movement = Movement(
        kl=estimate.kl, kl_error=estimate.error, kl_per_token=estimate.kl_per_token, kl_answers=estimate.answers
    )
    margin = None
    if preference_items is not None and preference_items.judged:
        margin = (odds_margins if odds else margins)(
            model, weights, preference_items.judged, TrainSettings(1.0).max_pass_tokens, plain=plain
        )
    if margin is None or preference_items is None:
        return movement
    return Movement.from_fields_of(
        movement,
        margin=margin.mean,
        margin_above_0=margin.above_0,
        margin_n=margin.n,
        margin_of=preference_items.judged_as,
        margin_before=margin.before,
    )


def _sampled_rows(bench: Workbench, start: System, loaded: Loaded, model: Any, plain: bool) -> list[Row]:
    """Prompts of dev with sampled answers of the model."""
    from lastresort.data.rendering import render_prompt, stop_token_ids
    from lastresort.engine.forest import Row
    from lastresort.train.groups.sampling import EngineSampler, GroupPrompt
    from lastresort.train.settings import GroupSettings

    tokenizer, kwargs = loaded.tokenizer, start.template_kwargs
    prompts = []
    for example in bench.dev[:KL_PROMPTS]:
        messages = compose(start.prompt, example.input, ())
        prompts.append(
            GroupPrompt(example, messages, tuple(render_prompt(tokenizer, messages, template_kwargs=kwargs)))
        )
    settings = GroupSettings(group_size=KL_ANSWERS, max_new_tokens=bench.max_new_tokens)
    ends = stop_token_ids(tokenizer, template_kwargs=kwargs)
    groups = EngineSampler(tokenizer, ends, settings, bench.task.split.seed).answers(model, 0, prompts, plain=plain)
    return [
        Row((*prompt.ids, *answer.ids), (*[False] * len(prompt.ids), *[True] * len(answer.ids)))
        for prompt, group in zip(prompts, groups, strict=True)
        for answer in group
    ]
