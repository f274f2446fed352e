"""What preference training learns from, ready for the loop: items of pairs or labels, or groups that are sampled for a reward.

What preference training a task's data allow, and why: a pure choice.

A judge as a term of the reward: its model behind the response cache, its money within the task's limits, its forecast.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from lastresort.data.files import read_rows
from lastresort.data.preferences import Kind, PreferenceRow
from lastresort.evals.scorers import Scorer, build_scorer
from lastresort.evals.scorers.judge import Judge, JudgeScore
from lastresort.evals.scorers.judge_model import JudgeCase
from lastresort.models.api.requests import room_to_think
from lastresort.models.protocol import Model, estimated_prompt_tokens
from lastresort.records.data_report import PREFERENCE_FAULTS, PreferenceFault
from lastresort.records.events.run import JudgeCalls
from lastresort.records.events.training import RewardsJudged
from lastresort.records.rungs import PreferenceLoss, PreferencePlan
from lastresort.rungs.forecast import Forecast, Machine, Workload, answering
from lastresort.rungs.rung import Workbench
from lastresort.spec.judge import JudgeKeys
from lastresort.spec.paths import is_paid
from lastresort.spec.sections import PreferenceSettings
from lastresort.spec.task import Task
from lastresort.stop import check
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Example, Message

if TYPE_CHECKING:
    from lastresort.engine.forest import Row
    from lastresort.models.loading import Loaded
    from lastresort.train.groups.groups import SampledGroups
    from lastresort.train.loop.batches import TrainingItem


PARTS = 3  # of a training of one epoch, after each of which a candidate is kept; of several epochs after each


@dataclass(frozen=True, slots=True)
class PreferenceCourse:
    """learning_rates: raced. option: name and value of what `preference.beta` sets, None for the objective's own default."""

    learning_rates: tuple[float, ...]
    epochs: int
    batch_size: int
    option: tuple[str, float] | None

    def stops(self, steps: int) -> tuple[int, ...]:
        """The steps after which a candidate is kept and measured."""
        parts = self.epochs if self.epochs > 1 else PARTS
        return tuple(sorted({max(1, round(steps * part / parts)) for part in range(1, parts + 1)}))


# Ten times and more what trains all weights, as usual for LoRA (Schulman et al. 2025); orpo also learns the answers, like sft.
_USUAL: dict[PreferenceLoss, PreferenceCourse] = {
    "dpo": PreferenceCourse((2e-5, 1e-4), 3, 16, None),
    "orpo": PreferenceCourse((1e-4, 3e-4), 3, 16, None),
    "kto": PreferenceCourse((2e-5, 1e-4), 3, 32, None),
    "grpo": PreferenceCourse((2e-5, 1e-4), 1, 8, None),
}
_BETA: dict[PreferenceLoss, str] = {"dpo": "beta", "kto": "beta", "orpo": "weight", "grpo": "kl_weight"}


def plan_of(task: Task, kind: Kind | None, *, on_sft: bool) -> PreferencePlan:
    """kind: what the file of preferences holds, None without one. on_sft: whether the rung sft left an adapter to start from."""
    unused = bool(task.reward)
    if kind == "pairs":
        return PreferencePlan("dpo" if on_sft else "orpo", "pairs", on_sft, reward_unused=unused)
    if kind == "labels":
        return PreferencePlan("kto", "labels", on_sft, reward_unused=unused)
    if task.reward:
        return PreferencePlan("grpo", "reward", on_sft)
    return PreferencePlan("dpo", "samples", on_sft, scorer=task.score.name)


def option_of(objective: PreferenceLoss) -> str:
    """The option of the objective that `preference.beta` sets."""
    return _BETA[objective]


def course_of(section: PreferenceSettings, objective: PreferenceLoss) -> PreferenceCourse:
    """What the task file says, and what is usual for the objective where it says auto."""
    defaults = _USUAL[objective]
    return PreferenceCourse(
        defaults.learning_rates if section.learning_rates == "auto" else section.learning_rates,
        defaults.epochs if section.epochs == "auto" else int(section.epochs),
        defaults.batch_size if section.batch_size == "auto" else int(section.batch_size),
        None if section.beta == "auto" else (_BETA[objective], float(section.beta)),
    )


def seated(bench: Workbench, rung: str, scorer: Scorer, parameters: Mapping[str, Any]) -> Scorer:
    """A judge that knows the task, asks through the climb's cache and pays from its purse; any other scorer as it is.

    What the answers of a step took is recorded. A limit that is reached stops the training after a judgement: what was said is
    kept, so that a run that goes on pays for nothing twice.
    """
    if not isinstance(scorer, Judge):
        return scorer
    keys = JudgeKeys.model_validate(parameters)

    def open_judge() -> Model:
        return bench.models.judge(keys.model, prompt_price=keys.prompt_price, output_price=keys.output_price)

    def on_scores(examples: Sequence[Example], answers: Sequence[str], judge_scores: Sequence[JudgeScore]) -> None:
        spent = JudgeCalls.sum_of(one.spent for one in judge_scores)
        judged_answers = [[example.id, answer] for example, answer in zip(examples, answers, strict=True)]
        asked = hashlib.sha256(json.dumps([dict(parameters), judged_answers]).encode()).hexdigest()[:16]
        bench.record.append(RewardsJudged(rung=rung, asked=asked, spent=spent, priced=keys.price_known))
        if spent.paid_usd:
            check(bench.stop)

    return replace(scorer.with_model(open_judge, bench.pay), about=bench.task.about, on_scores=on_scores)


def verdicts(task: Task, work: Workload, answers: int) -> Iterator[Forecast]:
    """What each judge of the reward would take of so many answers, every one as long as allowed; of its speed nothing is known."""
    for term in task.reward:
        if term.judge is None:
            continue
        judge = build_scorer(term.name, term.parameters, about=task.about)
        assert isinstance(judge, Judge)
        prompts = judge.question.prompts(judge.about, JudgeCase("", "answer", "reference"))
        with_instruction = work.input_tokens + work.max_new_tokens + (work.output_tokens if judge.needs_output else 0)
        tokens = sum(map(estimated_prompt_tokens, prompts)) / len(prompts) + with_instruction
        machine = Machine(None, 1.0)
        if is_paid(term.judge.model):
            thinking = room_to_think(term.judge.reasoning_effort)
            machine = Machine(None, 1.0, term.judge.prompt_price, term.judge.output_price, thinking_tokens=thinking)
        n = answers * len(prompts)
        longest = judge.model.decoding.max_new_tokens
        yield answering("verdicts of the reward", machine, n, tokens, 0, longest).unscored()


HELD_SHARE, LEAST_HELD_PROMPTS = 0.1, 20  # of the prompts, which are held out where there are so many
PreferredRows: TypeAlias = "tuple[PreferenceRow, tuple[Row, ...]]"
CROWD = 100  # labelled answers that are compared each with each


@dataclass(frozen=True, slots=True)
class PreferenceItems:
    """items: to train on. judged: those on which margins are measured, and what they are called. summary: the counts in words."""

    items: tuple[TrainingItem, ...]
    judged: tuple[TrainingItem, ...]
    judged_as: str
    summary: str


def given_items(
    bench: Workbench, start: System, loaded: Loaded, preferences: Sequence[PreferenceRow]
) -> PreferenceItems:
    """Pairs or labelled answers as items, some prompts held out to measure margins on."""
    rendered = render_preferences(
        preferences,
        start.prompt,
        loaded.tokenizer,
        context_tokens=loaded.context_tokens,
        template_kwargs=start.template_kwargs,
    )
    rows = list(rendered.rows)
    noun = "pairs" if preferences[0].label is None else "labelled answers"
    train, held_out = split_held_out(rows, bench.task.split.seed)
    if not held_out:
        items = _items(rows, loaded.context_tokens)
        return PreferenceItems(items, items[:CROWD], f"{noun} trained on", f"{len(rows)} {noun}{rendered.summary()}")
    judged_items = _items(held_out, loaded.context_tokens)
    summary = f"{len(train)} {noun}, {len(held_out)} more held out{rendered.summary()}"
    return PreferenceItems(_items(train, loaded.context_tokens), judged_items[:CROWD], f"{noun} held out", summary)


def split_held_out(rows: list[PreferredRows], seed: int) -> tuple[list[PreferredRows], list[PreferredRows]]:
    """Those to train on, and those held out; none where too few prompts, or one kind of labels alone, would be held out."""
    from lastresort.train.files.items import split

    if len({preferred.prompt_text for preferred, _ in rows}) < LEAST_HELD_PROMPTS:
        return rows, []
    train, held_out = split(rows, lambda row: row[0].prompt_text, HELD_SHARE, seed)
    labels = {preferred.label for preferred, _ in held_out}
    if len(labels) < len({preferred.label for preferred, _ in rows}):  # nothing to compare there
        return rows, []
    return train, held_out


def _items(rows: Sequence[tuple[PreferenceRow, tuple[Row, ...]]], limit: int | None) -> tuple[TrainingItem, ...]:
    from lastresort.engine.forest import Row
    from lastresort.train.loop.batches import TrainingItem, labelled, pairs

    if not rows or rows[0][0].label is None:
        return tuple(pairs([own[0] for _, own in rows], [own[1] for _, own in rows]))
    if len({own[0].prompt for _, own in rows}) < 2:  # nothing to mismatch, nor to train on
        return tuple(TrainingItem((own[0], own[0]), desirable=bool(preferred.label)) for preferred, own in rows)
    items = labelled([own[0] for _, own in rows], [bool(preferred.label) for preferred, _ in rows])
    fitted = []
    for item in items:
        row, other = item.rows  # a prompt with another row's answer may be longer than either row
        cut_row = Row(other.ids[:limit], other.targets[:limit]) if limit is not None else other
        fitted.append(replace(item, rows=(row, cut_row)))
    return tuple(fitted)


def reward_groups(
    bench: Workbench, rung: str, start: System, loaded: Loaded, batch_size: int, log: Path
) -> SampledGroups:
    """Groups of answers to the prompts of train, to be closed at the end. Raises DataError where a reward cannot work."""
    from lastresort.train.groups.groups import groups_from
    from lastresort.train.settings import GroupSettings

    task = bench.task
    settings = GroupSettings(group_size=task.preference.samples, max_new_tokens=bench.max_new_tokens)
    return groups_from(
        with_room(
            bench.train,
            start.prompt,
            loaded.tokenizer,
            loaded.context_tokens,
            start.template_kwargs,
            bench.max_new_tokens,
        ),
        task.reward,
        objective="grpo",
        tokenizer=loaded.tokenizer,
        batch_size=batch_size,
        seed=task.split.seed,
        settings=settings,
        columns=columns_of(reward_prompts(bench.train)),
        compose=lambda turns: compose(start.prompt, turns, ()),
        template_kwargs=start.template_kwargs,
        context_tokens=loaded.context_tokens,
        json_schema=task.output.json_schema,
        choices=task.output.choices,
        wrap=lambda scorer, parameters: seated(bench, rung, scorer, parameters),
        log=log,
    )


def with_room(
    examples: Sequence[Example],
    design: PromptDesign,
    tokenizer: Any,
    context_tokens: int | None,
    template_kwargs: dict[str, Any],
    new_tokens: int,
) -> tuple[Example, ...]:
    """The reward prompts that leave room for an answer."""
    from lastresort.data.rendering import render_prompt

    prompts = reward_prompts(examples)
    if context_tokens is None:
        return tuple(prompts)
    max_prompt_tokens = context_tokens - new_tokens
    return tuple(
        example
        for example in prompts
        if len(render_prompt(tokenizer, compose(design, example.input, ()), template_kwargs=template_kwargs))
        <= max_prompt_tokens
    )


def columns_of(examples: Sequence[Example]) -> dict[str, Mapping[str, Any]]:
    """The further columns of the rows that the examples come from, by example id: what reward functions may ask for."""
    files = {example.source for example in examples if example.source}
    rows = {(source, row.number): row.values for source in files for row in read_rows(Path(source))}
    return {
        example.id: rows[example.source, example.row] for example in examples if (example.source, example.row) in rows
    }


def reward_prompts(train: Sequence[Example]) -> list[Example]:
    """Without synthetic rows, which lack the further columns that a reward may ask for."""
    return [example for example in train if not example.synthetic]


def with_instruction(design: PromptDesign, prompt: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation of a prompt: with the task's instruction, unless it holds it already."""
    instruction = design.instruction.strip()
    if not instruction or any(instruction in turn.content for turn in prompt):
        return tuple(prompt)
    return compose(design, prompt, ())


@dataclass(frozen=True, slots=True)
class RenderedPreferences:
    """rows: of each preference that can be trained on, in order, with the preference. left_out: how many could not, and why."""

    rows: tuple[tuple[PreferenceRow, tuple[Row, ...]], ...]
    left_out: dict[PreferenceFault, int]

    def summary(self) -> str:
        """How many were left out, and why."""
        return "".join(f"; {n} left out, {PREFERENCE_FAULTS[fault]}" for fault, n in self.left_out.items() if n)


def render_preferences(
    preferences: Sequence[PreferenceRow],
    design: PromptDesign,
    tokenizer: Any,
    *,
    context_tokens: int | None,
    template_kwargs: dict[str, Any],
) -> RenderedPreferences:
    """Rows with the answers as their targets. Raises DataError where the template refuses a conversation."""
    rendered: list[tuple[PreferenceRow, tuple[Row, ...]]] = []
    left_out = dict.fromkeys(get_args(PreferenceFault), 0)
    for preferred in preferences:
        rows = _rows(preferred, design, tokenizer, template_kwargs)
        if context_tokens is not None and max(len(row.ids) for row in rows) > context_tokens:
            left_out["too_long"] += 1
        elif len(rows) == 2 and rows[0] == rows[1]:
            left_out["same_answers"] += 1
        elif len({row.prompt for row in rows}) > 1:
            left_out["prompts_differ"] += 1
        else:
            rendered.append((preferred, rows))
    return RenderedPreferences(tuple(rendered), left_out)


def _rows(
    preferred: PreferenceRow, design: PromptDesign, tokenizer: Any, template_kwargs: dict[str, Any]
) -> tuple[Row, ...]:
    from lastresort.data.rendering import render_training
    from lastresort.engine.forest import Row

    prompt, rows = with_instruction(design, preferred.prompt), []
    for answer, end in zip(preferred.answers, preferred.ends, strict=True):
        rendered = render_training(
            tokenizer,
            (*prompt, *answer),
            trained_turns=len(answer),
            template_kwargs=template_kwargs,
            where=preferred.place,
        )
        targets = list(rendered.targets)
        if not end:
            targets[max(place for place, trained in enumerate(targets) if trained)] = False
        rows.append(Row(rendered.ids, tuple(targets)))
    return tuple(rows)
