"""GRPO's batches: groups of answers sampled for each step, rewarded, and compared with their group.

All answers of a run are logged with their rewards: one JSON line each, in the order of steps.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.engine.forest import Row
from lastresort.errors import DataError, InputError, LastresortError
from lastresort.evals.user_code.process import CodeLimits
from lastresort.keys import without_keys
from lastresort.models.api.model import ApiModel
from lastresort.objectives.grpo import ADVANTAGE_SCALE, group_advantages
from lastresort.records.atomic import disk_errors
from lastresort.train.groups.sampling import EngineSampler, GroupPrompt, Sampled, Sampler
from lastresort.train.groups.server import ServedAdapter, ServerSampler
from lastresort.train.loop.batches import Batch, TrainingItem, batch_of
from lastresort.train.loop.processes import Processes
from lastresort.train.rewards import LIMITS, RewardChoice, Rewards, RewardScores, WrapScorer
from lastresort.train.settings import GroupSettings, OnError, usual_tries
from lastresort.types import Example, Json, JsonObject, Message


@dataclass(frozen=True, slots=True)
class Group:
    """answers, scored, advantages: one a member. items: () where all were rewarded alike, so that nothing can be learned."""

    prompt: GroupPrompt
    answers: tuple[Sampled, ...]
    scored: tuple[RewardScores, ...]
    advantages: tuple[float, ...]
    items: tuple[TrainingItem, ...]

    def lines(self) -> Iterator[JsonObject]:
        """One for each member, as the log shows it."""
        messages = [message.as_dict() for message in self.prompt.messages]
        for answer, scored, advantage in zip(self.answers, self.scored, self.advantages, strict=True):
            yield {
                "example": self.prompt.example.id,
                "prompt": messages,
                "completion": answer.text,
                "rewards": dict(scored.values),
                "reward": scored.total,
                "advantage": advantage,
                "dropped": not self.items,
                "cut": answer.cut,
                **({"faults": dict(scored.faults)} if scored.faults else {}),
            }


def figures(groups: Sequence[Group], rewards: Sequence[str]) -> dict[str, float]:
    """Over all answers of a step, dropped ones too: mean and deviation of the reward, the mean of each reward by name, the
    share of dropped groups, the mean length in tokens, the share of answers cut, and how many rewards failed, if any did."""
    answers = [answer for group in groups for answer in group.answers]
    scored = [answer for group in groups for answer in group.scored]
    totals = [answer.total for answer in scored]
    faults = sum(len(answer.faults) for answer in scored)
    return {
        "reward": fmean(totals),
        "reward_std": stdev(totals),
        **{f"reward_{name}": fmean(answer.values[name] for answer in scored) for name in rewards},
        "dropped_groups": sum(not group.items for group in groups) / len(groups),
        "answer_length": fmean(len(answer.ids) for answer in answers),
        "cut_answers": sum(answer.cut for answer in answers) / len(answers),
        **({"reward_faults": float(faults)} if faults else {}),
    }


class CompletionsLog:
    """A file that holds each step once, whatever was done twice: a resumed run repeats the steps after its checkpoint, and
    their earlier lines, like one that was cut half way, go before they are written again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: int | None = None

    def append(self, step: int, lines: Sequence[Mapping[str, Json]]) -> None:
        """Write the lines of one step, each of which gets the key "step" first. Raises InfrastructureError when the disk
        refuses."""
        texts = [json.dumps({"step": step, **line}, ensure_ascii=False, default=str) + "\n" for line in lines]
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._last is None or step <= self._last:
                self._cut_from(step)
            with self._path.open("ab") as file:
                file.write(without_keys("".join(texts)).encode("utf-8", "backslashreplace"))
        self._last = step

    def _cut_from(self, step: int) -> None:
        if not self._path.exists():
            return
        kept_bytes = 0
        with self._path.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n") or _step_of(line) >= step:
                    break
                kept_bytes += len(line)
            file.seek(kept_bytes)
            file.truncate()


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


Reference = Callable[[Sequence[Row]], Any] | None


class SampledGroups:
    """Batches for grpo, dr_grpo and dapo; made by `groups_from`, to be closed at the end, best by `with`.

    A step's prompts follow its number; its answers follow the number and the weights. Groups whose answers are all rewarded
    alike are dropped, their KL with them; by what a step then lacks of its groups, `Batch.dropped` counts. With several
    processes each samples whole groups, and all see all of them in the same order.
    """

    items: Sequence[TrainingItem] = ()

    def __init__(
        self,
        prompts: Sequence[GroupPrompt],
        rewards: Rewards,
        sampler: Sampler,
        settings: GroupSettings,
        *,
        objective: str,
        batch_size: int,
        seed: int,
        log: Path | None = None,
    ) -> None:
        self._prompts, self._rewards, self._sampler, self._settings = tuple(prompts), rewards, sampler, settings
        self._objective, self._batch_size, self._seed = objective, batch_size, seed
        self._tries = settings.tries or usual_tries(objective)
        self._log = None if log is None else CompletionsLog(log)

    @property
    def size(self) -> int:
        return len(self._prompts)

    @property
    def settings(self) -> GroupSettings:
        return self._settings

    @property
    def by_engine(self) -> bool:
        """Whether the answers are drawn in the memory of the training."""
        return isinstance(self._sampler, EngineSampler)

    @property
    def longest_tokens(self) -> int:
        """Of a prompt and its answer."""
        return max(len(prompt.ids) for prompt in self._prompts) + self._settings.max_new_tokens

    def fingerprint(self) -> str:
        """Of what a run is a run of: a knob for memory, the server, and reward code that was corrected leave it what it is."""
        digest = hashlib.sha256(self._rewards.fingerprint().encode())
        settings = {**asdict(self._settings), "tries": self._tries, "rows_at_once": None}
        digest.update(repr((settings, self._objective)).encode())
        for prompt in self._prompts:
            digest.update(repr((prompt.example.id, prompt.ids, prompt.example.output)).encode())
        return digest.hexdigest()

    def first_items(self) -> tuple[TrainingItem, ...]:
        """The first two prompts of the run's first step, each answered by the beginnings of its own two halves: groups as they
        will be, before any answer is there."""
        prompts = [self._prompts[number].ids for number in batch_of(0, self.size, self._batch_size, self._seed)[:2]]
        longest = self._settings.max_new_tokens
        return tuple(
            TrainingItem((_row(ids, half[:longest]),))
            for ids in prompts
            for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :])
            if half
        )

    def at(self, step: int, model: Any, reference: Reference, *, plain: bool = False) -> Batch:
        """Raises DataError where a reward function fails and is to stop the run; what a server raises passes through."""
        self._sampler.begin(step, model, _processes())
        wanted = batch_of(step, self.size, self._batch_size, self._seed)
        further = self._further(step, wanted)
        drawn: list[Group] = []
        numbers = wanted
        for _ in range(self._tries):
            drawn += self._shared(step, numbers, model, reference, plain)
            missing = len(wanted) - sum(bool(group.items) for group in drawn)
            numbers = [number for number, _ in zip(further, range(missing), strict=False)]
            if not numbers:
                break
        if self._log is not None and _processes().main:
            self._log.append(step, [line for group in drawn for line in group.lines()])
        shown = figures(drawn, self._rewards.names)
        if self._tries > 1:
            shown["further_groups"] = float(len(drawn) - len(wanted))
        items = tuple(item for group in drawn for item in group.items)
        return Batch(items, (), shown, dropped=len(wanted) * self._settings.group_size - len(items))

    def close(self) -> None:
        """End the processes of the rewards, and what a server holds for the run."""
        self._rewards.close()
        if _processes().main:
            self._sampler.close()

    def __enter__(self) -> SampledGroups:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _further(self, step: int, wanted: Sequence[int]) -> Iterator[int]:
        """Prompts to draw in place of dropped ones, none of them twice in a step."""
        order = sorted(set(range(self.size)) - set(wanted))
        random.Random(f"{self._seed}:{step}:further").shuffle(order)
        return iter(order)

    def _shared(self, step: int, numbers: Sequence[int], model: Any, reference: Reference, plain: bool) -> list[Group]:
        """The groups of all processes, in the order of `numbers`. What fails in one process is raised in all of them."""
        processes = _processes()
        by_process = processes.each(
            lambda: self._groups(step, numbers[processes.place :: processes.count], model, reference, plain)
        )
        return [by_process[i % processes.count][i // processes.count] for i in range(len(numbers))]

    def _groups(self, step: int, numbers: Sequence[int], model: Any, reference: Reference, plain: bool) -> list[Group]:
        if not numbers:
            return []
        prompts, size = [self._prompts[number] for number in numbers], self._settings.group_size
        answers = [answer for group in self._sampler.answers(model, step, prompts, plain=plain) for answer in group]
        owners = [prompt for prompt in prompts for _ in range(size)]
        scored = self._rewards.score([prompt.example for prompt in owners], [answer.text for answer in answers])
        rewards = torch.tensor([scores.total for scores in scored], dtype=torch.float64)
        places = torch.arange(len(prompts)).repeat_interleave(size)
        advantages = group_advantages(rewards, places, scale=ADVANTAGE_SCALE[self._objective]).tolist()
        alike = (rewards.view(-1, size) == rewards.view(-1, size)[:, :1]).all(1).tolist()
        differing = [i for i in range(len(answers)) if not alike[i // size]]
        rows = [_row(owners[i].ids, answers[i].ids) for i in differing]
        old = [answers[i].logps for i in differing]
        items = dict(zip(differing, _items(rows, [advantages[i] for i in differing], old, reference), strict=True))
        return [
            Group(
                prompt,
                tuple(answers[start : start + size]),
                tuple(scored[start : start + size]),
                tuple(advantages[start : start + size]),
                tuple(items[i] for i in range(start, start + size) if i in items),
            )
            for prompt, start in zip(prompts, range(0, len(answers), size), strict=True)
        ]


def groups_from(
    examples: Sequence[Example],
    rewards: Sequence[RewardChoice],
    *,
    objective: str,
    tokenizer: Any,
    batch_size: int,
    seed: int,
    settings: GroupSettings | None = None,
    columns: Mapping[str, Mapping[str, Json]] | None = None,
    compose: Callable[[Sequence[Message]], Sequence[Message]] = tuple,
    template_kwargs: Mapping[str, Json] | None = None,
    context_tokens: int | None = None,
    json_schema: JsonObject | None = None,
    choices: tuple[str, ...] | None = None,
    on_error: OnError = "stop",
    limits: CodeLimits = LIMITS,
    wrap: WrapScorer = lambda scorer, parameters: scorer,
    server: ApiModel | None = None,
    served: ServedAdapter | None = None,
    ask_tokens: bool = True,
    log: Path | None = None,
) -> SampledGroups:
    """What `train` takes in place of items for grpo, dr_grpo and dapo; pass it settings.max_new_tokens too, for dr_grpo.

    examples: their inputs are the prompts, their outputs what scorers and functions get as `expected`. rewards: see
    `rewards.RewardChoice`; a task file's rewards are such. batch_size, seed: of TrainSettings; batch_size counts prompts. columns:
    example id -> the row's further columns, see `data.prompts`. compose: turns of the input -> the conversation shown.
    context_tokens, template_kwargs: of the model. json_schema, choices: for the scorers that need them. on_error: "stop", or
    "zero" to count a failed reward function as 0. wrap: as `Rewards` takes it. server, served, ask_tokens: samples in place of
    the engine, see `ServerSampler`. log: a JSONL file of all answers.
    Loads the reward functions. Raises InputError, TaskError or DataError for what cannot work, before anything is sampled.
    """
    settings = settings or GroupSettings()
    if objective not in ADVANTAGE_SCALE:
        raise InputError(f'found "{objective}"', where="objective", expected=f"one of {', '.join(ADVANTAGE_SCALE)}")
    if not examples:
        raise DataError("found no prompt", where="grpo", expected="at least one")
    _check_ids(examples)
    prompts = []
    for example in examples:
        messages = tuple(compose(example.input))
        ids = tuple(render_prompt(tokenizer, messages, template_kwargs=template_kwargs))
        _check_room(example, len(ids), settings.max_new_tokens, context_tokens)
        prompts.append(GroupPrompt(example, messages, ids))
    ends = stop_token_ids(tokenizer, template_kwargs=template_kwargs)
    sampler: Sampler = EngineSampler(tokenizer, ends, settings, seed)
    if server is not None:
        sampler = ServerSampler(server, tokenizer, ends, settings, seed, adapter=served, ask_tokens=ask_tokens)
    scored = Rewards(
        rewards,
        columns or {},
        json_schema=json_schema,
        choices=choices,
        on_error=on_error,
        limits=limits,
        wrap=wrap,
    )
    groups = SampledGroups(
        prompts,
        scored,
        sampler,
        settings,
        objective=objective,
        batch_size=batch_size,
        seed=seed,
        log=log,
    )
    try:
        scored.check(examples)
    except LastresortError:
        groups.close()
        raise
    return groups


def _check_ids(examples: Sequence[Example]) -> None:
    """Ids tell draws and columns apart."""
    seen: dict[str, Example] = {}
    for example in examples:
        if example.id in seen:
            raise DataError(
                f'found the id "{example.id}" of {seen[example.id].place} again',
                where=example.place,
                expected="an id of its own",
                remedy="Give both rows an id, or remove one if they are the same.",
            )
        seen[example.id] = example


def _check_room(example: Example, prompt_tokens: int, new_tokens: int, context_tokens: int | None) -> None:
    if context_tokens is not None and prompt_tokens + new_tokens > context_tokens:
        raise DataError(
            f"{prompt_tokens} prompt tokens and {new_tokens} for the answer",
            where=example.place,
            expected=f"at most the model's context of {context_tokens} together",
            remedy="Shorten or remove the row, or lower max_new_tokens.",
        )


def _items(
    rows: Sequence[Row], advantages: Sequence[float], old: Sequence[tuple[float, ...]], reference: Reference
) -> Iterator[TrainingItem]:
    far = [()] * len(rows) if reference is None or not rows else reference(rows)
    for row, advantage, before, base in zip(rows, advantages, old, far, strict=True):
        yield TrainingItem((row,), advantage=advantage, old=before, reference=base)


def _row(prompt: Sequence[int], answer: Sequence[int]) -> Row:
    return Row((*prompt, *answer), (*[False] * len(prompt), *[True] * len(answer)))


def _processes() -> Processes:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return Processes()
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())
