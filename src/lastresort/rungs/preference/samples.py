"""A system's own samples, made once a run.

Scored by the task's scorer: first the best of several on dev, which shows what they can teach; then pairs of them on train. Scored
by a reward: whether it tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from lastresort.data.duplicates import normalised
from lastresort.data.preferences import PreferenceRow
from lastresort.data.split import one_row_a_prompt
from lastresort.evals.evidence.paired import unseen_share
from lastresort.evals.measure import mean_so_far
from lastresort.evals.scorers import scores_of
from lastresort.records.events.training import BestSampled, GroupsDrawn, RankedAnswer, RankedPair, SamplesPaired
from lastresort.records.record import ItemScore
from lastresort.records.rungs import RewardsAlike, SamplesOutOfReach
from lastresort.rungs.preference.items import columns_of, reward_prompts, seated
from lastresort.rungs.race import GIVE_UP_ERROR, judge_scores_on_dev
from lastresort.rungs.rung import Workbench
from lastresort.synthesis.pairs import Sample, pairs_from_samples, samples_of, with_room
from lastresort.systems.system import System
from lastresort.types import Answer, Example, Judgement, Message

MOST_PROMPTS = 500
BEST_OF = 8  # samples to a dev item, or as many as pairs are made of
MOST_ASKED = 96  # dev items, if fewer do not decide


@dataclass(frozen=True, slots=True)
class SampledPreferences:
    """summary: what became of the prompts, in words."""

    preferences: tuple[PreferenceRow, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class BestOfSamples:
    """What the best of so many samples reach on the first items of dev. judged: None where that does not decide."""

    samples: int
    alone: float
    best: float
    n: int
    judged: Judgement | None

    def out_of_reach(self, bar: float, missed_below: float | None = None) -> SamplesOutOfReach | None:
        """Why pairs of such samples are not worth making, None where they may be."""
        if self.judged is None or self.judged.outcome != "NOT_MET":
            return None
        return SamplesOutOfReach(bar, self.samples, self.alone, self.judged, GIVE_UP_ERROR, missed_below)

    def summary(self) -> str:
        return f"the best of {self.samples} samples scored {self.best:.1%} on {self.n} dev items"


def best_of_samples(bench: Workbench, rung: str, start: System, start_scores: Sequence[ItemScore]) -> BestOfSamples:
    """Sample several answers to dev, item after item, until the rule of the test decides whether the best of them reach the bar.
    The answer that the system gave anyway counts among them.

    A pair's better answer is at most the best of its samples, so where not even these reach the bar, training on them has
    nothing to learn it from. It is no proof: what is learnt on one prompt can help on another.

    start_scores: of the answers given anyway, by dev item.
    """
    best_sampled = bench.record.last(BestSampled, rung)
    if best_sampled is None:
        best_sampled = _best_sampled(bench, rung, start, start_scores)
        bench.record.append(best_sampled)
    return BestOfSamples(
        best_sampled.samples,
        fmean(best_sampled.alone),
        fmean(best_sampled.best),
        len(best_sampled.best),
        _judge_best(bench, rung, best_sampled.best),
    )


def _judge_best(bench: Workbench, rung: str, best: Sequence[float]) -> Judgement | None:
    return judge_scores_on_dev(bench, rung, best, min(len(bench.dev), MOST_ASKED))


def _best_sampled(bench: Workbench, rung: str, start: System, start_scores: Sequence[ItemScore]) -> BestSampled:
    count = max(BEST_OF, bench.task.preference.samples)
    examples = bench.dev[:MOST_ASKED] if bench.dev_groups() is None else bench.dev  # half a group proves nothing
    greedy = {item.id: item.score for item in start_scores}
    bench.progress.stage(f"{rung}: best of {count} samples of {start.name}", len(examples) * count)
    size = bench.models.open(start).batch_size
    alone, best, answers, all_scores = list[float](), list[float](), list[Answer](), list[float]()
    for offset in range(0, len(examples), size):
        batch = examples[offset : offset + size]
        batch_samples = _sample_batch(bench, start, batch, count, all_scores)
        alone += [samples[0].score for samples in batch_samples.samples]
        best += [
            max(greedy.get(example.id, 0.0), *(sample.score for sample in samples))
            for example, samples in zip(batch, batch_samples.samples, strict=True)
        ]
        answers += batch_samples.answers
        if _judge_best(bench, rung, best) is not None:
            break
    return BestSampled(
        rung=rung,
        samples=count,
        alone=tuple(alone),
        best=tuple(best),
        tokens_in=sum(answer.prompt_tokens for answer in answers),
        tokens_out=sum(answer.completion_tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
    )


def own_pairs(bench: Workbench, rung: str, start: System) -> SampledPreferences:
    """Sample `preference.samples` answers of the system to each prompt, at temperature 1, and pair them by their scores."""
    samples_paired = bench.record.last(SamplesPaired, rung)
    if samples_paired is None:
        samples_paired = _pair_samples(bench, rung, start)
        bench.record.append(samples_paired)
    return SampledPreferences(noted_pairs(samples_paired, bench.train), samples_paired.counts.summary())


def noted_pairs(samples_paired: SamplesPaired, train: Sequence[Example]) -> tuple[PreferenceRow, ...]:
    """train: the examples that it speaks of."""
    prompts = {example.id: example for example in train}
    return tuple(_preference_row(prompts[pair.example], pair) for pair in samples_paired.pairs)


def _pair_samples(bench: Workbench, rung: str, start: System) -> SamplesPaired:
    rows, conflicting = one_row_a_prompt(bench.train)
    examples = with_room(bench.answerer(start), rows, MOST_PROMPTS)
    bench.progress.stage(f"{rung}: samples of {start.name}", len(examples) * bench.task.preference.samples)
    size = bench.models.open(start).batch_size
    samples, answers, all_scores = list[list[Sample]](), list[Answer](), list[float]()
    for offset in range(0, len(examples), size):
        batch_samples = _sample_batch(
            bench, start, examples[offset : offset + size], bench.task.preference.samples, all_scores
        )
        samples += batch_samples.samples
        answers += batch_samples.answers
    pairing = pairs_from_samples(samples)
    pairs = tuple(
        RankedPair(
            example=examples[pair.prompt].id,
            chosen=RankedAnswer(**asdict(pair.chosen)),
            rejected=RankedAnswer(**asdict(pair.rejected)),
        )
        for pair in pairing.pairs
    )
    return SamplesPaired(
        rung=rung,
        pairs=pairs,
        counts=replace(pairing.counts, conflicting=conflicting),
        tokens_in=sum(answer.prompt_tokens for answer in answers),
        tokens_out=sum(answer.completion_tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
    )


GROUPS_AT_ONCE = 16  # mostly the first tell, so few are drawn at once; the verdicts of a judge cost money
# Drawn where the reward tells no answers apart; to 96 prompts, 3% may then still differ (rule of three).
MOST_GROUPS = 96


def rewards_alike(bench: Workbench, rung: str, start: System) -> RewardsAlike | None:
    """Why a reward teaches nothing, None where it tells answers of a first draw of groups apart.

    The groups are those that training would draw, `preference.samples` answers to a prompt of train, and drawn only until two
    answers to the same prompt are rewarded differently. Where train has too few prompts, they are asked again, but what was
    not seen is bounded by the different ones, as answers to the same prompt are not independent.
    """
    groups_drawn = bench.record.last(GroupsDrawn, rung)
    if groups_drawn is None:
        groups_drawn = _draw_groups(bench, rung, start)
        bench.record.append(groups_drawn)
    if groups_drawn.differ or not groups_drawn.groups:
        return None
    return RewardsAlike(
        groups_drawn.groups, groups_drawn.prompts, groups_drawn.samples, unseen_share(groups_drawn.prompts, 0.05)
    )


def _draw_groups(bench: Workbench, rung: str, start: System) -> GroupsDrawn:
    from lastresort.train.rewards import Rewards

    task, count = bench.task, bench.task.preference.samples
    unconstrained = replace(start, decoding=replace(start.decoding, grammar=None))  # as training samples
    examples = reward_prompts(bench.train)
    rewards = Rewards(
        task.reward,
        columns_of(examples),
        json_schema=task.output.json_schema,
        choices=task.output.choices,
        wrap=lambda scorer, parameters: seated(bench, rung, scorer, parameters),
    )
    bench.progress.stage(f"{rung}: does the reward tell samples of {start.name} apart?", None)
    n_groups, prompts, differ, answers = 0, set[str](), False, list[Answer]()
    try:
        rewards.check(examples)
        fitting = with_room(bench.answerer(start), examples, MOST_PROMPTS)
        for round_, batch in _batches(fitting, GROUPS_AT_ONCE, MOST_GROUPS):
            groups: list[set[float]] = [set() for _ in batch]
            for batch_answers in samples_of(
                bench.answerer(unconstrained), batch, count, first=round_ * count, stop=bench.stop
            ):
                answers += batch_answers
                batch_rewards = rewards.score(batch, [answer.text for answer in batch_answers])
                for group, reward in zip(groups, batch_rewards, strict=True):
                    group.add(reward.total)
                differ = any(len(group) > 1 for group in groups)
                if differ:
                    break
            n_groups += len(batch)
            prompts |= {normalised(example.input_text) for example in batch}
            if differ:
                break
    finally:
        rewards.close()
    return GroupsDrawn(
        rung=rung,
        groups=n_groups,
        prompts=len(prompts),
        samples=count,
        differ=differ,
        tokens_in=sum(answer.prompt_tokens for answer in answers),
        tokens_out=sum(answer.completion_tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
    )


def _batches(prompts: Sequence[Example], size: int, most: int) -> Iterator[tuple[int, Sequence[Example]]]:
    """`most` prompts in batches, from the first on again where there are fewer; with how often they came before."""
    n_left, round_ = most if prompts else 0, 0
    while n_left > 0:
        for offset in range(0, min(n_left, len(prompts)), size):
            yield round_, prompts[offset : min(offset + size, n_left)]
        n_left, round_ = n_left - len(prompts), round_ + 1


@dataclass(frozen=True, slots=True)
class _BatchSamples:
    """samples: of each example. answers: all of them."""

    samples: list[list[Sample]]
    answers: list[Answer]


def _sample_batch(
    bench: Workbench, start: System, batch: Sequence[Example], count: int, all_scores: list[float]
) -> _BatchSamples:
    """So many scored samples to each example. all_scores: of all batches, to which these are added."""
    sampled = _BatchSamples([[] for _ in batch], [])
    for batch_answers in samples_of(bench.answerer(start), batch, count, stop=bench.stop):
        scores = scores_of(bench.scorer, [answer.text for answer in batch_answers], batch)
        for example_samples, answer, score in zip(sampled.samples, batch_answers, scores, strict=True):
            example_samples.append(Sample(answer.text, score, answer.finish == "stop"))
        sampled.answers.extend(batch_answers)
        all_scores += scores
        bench.progress.advance(len(batch), note=mean_so_far(all_scores))
    return sampled


def _preference_row(example: Example, pair: RankedPair) -> PreferenceRow:
    return PreferenceRow(
        example.input,
        tuple((Message("assistant", side.text),) for side in (pair.chosen, pair.rejected)),
        example.place,
        ends=(pair.chosen.whole, pair.rejected.whole),
    )
