"""One measurement of benchmarks.gpu: `python -m benchmarks.gpu_row SHAPE WORK WHO STEPS HALVINGS` prints one JSON line.

A pass holds what the plan says fits, at most PASS_TOKENS. Each halving halves it, after a run that was out of memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from benchmarks import fewshot, groups, preferences, sft
from benchmarks.gpu_material import (
    FLOPS_A_WEIGHT,
    SHAPES,
    WORKS,
    Built,
    Part,
    Shape,
    Work,
    answered,
    build,
    preference_pairs,
    sft_rows,
)
from benchmarks.gpu_peers import WHO, Who, reward_of, transformers_scores, trl_update
from benchmarks.meter import forget_peak, now, peak_bytes, reserved_bytes
from benchmarks.trl_side import TrlSetting, prepared
from lastresort.engine.support import use_kernel
from lastresort.hardware.environment import card_here
from lastresort.hardware.memory import is_lack_of_memory
from lastresort.hardware.plan.fit import PlannedTraining
from lastresort.hardware.plan.memory import Memory
from lastresort.hardware.plan.time import TrainingWork, training_time
from lastresort.objectives.grpo import group_advantages
from lastresort.train.files.memory import plan_of_loaded
from lastresort.train.loop.batches import TrainingItem, completions, pairs
from lastresort.train.loop.policy import unit_sums
from lastresort.train.settings import AdapterSettings, Objective, TrainSettings

PASS_TOKENS, ROOM = 16_384, 0.9
LEARNING_RATE = 1e-4
OBJECTIVES = {"pairs": Objective("dpo", (("beta", 0.1),)), "update": Objective("grpo"), "groups": Objective("grpo")}


@dataclass
class Found:
    """One measurement. rows, tokens and computed: of the time that is counted. passing: of the plan, what comes and goes."""

    rows: float = 0.0
    tokens: float = 0.0
    computed: float = 0.0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    path: str = ""
    pass_rows: int | None = None
    pass_tokens: int | None = None
    planned_bytes: int | None = None
    planned_passing_bytes: int | None = None
    planned_card_bytes: int | None = None
    planned_rows_per_s: float | None = None


def head_of(shape: str, work: Work, who: Who) -> dict[str, Any]:
    return {"shape": shape, "work": work.name, "part": work.part, "who": who.name, "ours": who.ours}


def measured(shape: Shape, work: Work, who: Who, steps: int, halvings: int = 0) -> dict[str, Any]:
    """In this process, on its GPU or else its processor. What cannot be measured is a row too, which says why."""
    head = head_of(shape.name, work, who)
    device, found = ("cuda" if torch.cuda.is_available() else "cpu"), Found()
    try:
        head |= {"device": _name_of(device)}
        built = build(shape, device)
        forget_peak(device)
        _measure(work.small if shape.name == "tiny" else work, built, who, steps, halvings, found)
    except Exception as error:  # noqa: BLE001 a peer or a kernel may fail in any way, and the others are still to be measured
        no_memory = isinstance(error, MemoryError | RuntimeError) and is_lack_of_memory(error)
        cut = {"pass_rows": found.pass_rows, "pass_tokens": found.pass_tokens}
        told = "out of memory" if no_memory else f"{type(error).__name__}: {str(error).strip()[:200]}"
        return head | cut | {"failed": told, "no_memory": no_memory}
    return (
        head
        | asdict(found)
        | {"peak_bytes": peak_bytes(device), "reserved_bytes": reserved_bytes(device)}
        | _rates(shape, work.part, found)
    )


def _name_of(device: str) -> str:
    if device == "cpu":
        return "the processor"
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / (1 << 30):.1f} GiB, CUDA {torch.version.cuda}"


def _rates(shape: Shape, part: Part, found: Found) -> dict[str, float | None]:
    from lastresort.hardware.shape import shape_of

    card, flops = card_here(processor=False), None
    if part in FLOPS_A_WEIGHT:
        weights = shape_of(dict(shape.config), shape.name).parameters
        flops = FLOPS_A_WEIGHT[part] * weights * found.computed / found.seconds
    peak = card.peak_flops_per_s if card is not None else None
    return {
        "rows_per_s": found.rows / found.seconds,
        "tokens_per_s": found.tokens / found.seconds,
        "computed_tokens_per_s": found.computed / found.seconds,
        "tflops_per_s": flops / 1e12 if flops is not None else None,
        "mfu": flops / peak if flops is not None and peak else None,
    }


def _measure(work: Work, built: Built, who: Who, steps: int, halvings: int, found: Found) -> None:
    name, _, dynamic = (who.kernel or "").partition(" ")
    if name:
        use_kernel(built.model, name)
    of_part = {
        "sft": _sft,
        "kernels": _sft,
        "pairs": _pairs,
        "update": _update,
        "groups": _groups,
        "sampling": _answers,
        "fewshot": _answers,
        "scoring": _scores,
    }
    # This is what torch.compile(dynamic=True) sets.
    with torch._dynamo.config.patch(assume_static_by_default=not dynamic):
        of_part[work.part](work, built, who, steps, halvings, found)


def _settings(
    work: Work, built: Built, who: Who, items: Sequence[TrainingItem], halvings: int, found: Found, **changes: Any
) -> tuple[TrainSettings, TrlSetting]:
    """With the largest pass that the plan lets fit; the plan's forecast of it goes into `found`."""
    settings = TrainSettings(
        LEARNING_RATE,
        epochs=1,
        batch_size=work.batch,
        adapter=AdapterSettings(target="all-linear"),
        objective=OBJECTIVES.get(work.part, Objective()),
        warmup=0.0,
        max_pass_tokens=PASS_TOKENS,
        checkpointing=who.checkpointing,
    )
    settings = replace(settings, **changes)
    planned = plan_of_loaded(built.model, settings, items)
    whole = PASS_TOKENS
    if planned is not None:
        if work.part == "update":  # which samples nothing
            planned = replace(planned, setup=replace(planned.setup, sampler="other-gpus"))
        fitting = planned.with_largest_pass(int(ROOM * planned.cards.card.memory_bytes))
        whole = fitting.pass_tokens if fitting is not None else planned.longest_tokens
    if not who.ours:
        fit = max(1, whole // max(sum(len(row.ids) for row in item.rows) for item in items))
        found.pass_rows = max(1, min(1 << (fit - 1).bit_length(), work.rows) >> halvings)
        return settings, replace(who.setting, pass_rows=found.pass_rows)
    found.pass_tokens = max(whole >> halvings, planned.longest_tokens if planned is not None else 1)
    if planned is not None:
        _forecast(replace(planned, pass_tokens=found.pass_tokens), work, items, found)
    return replace(settings, max_pass_tokens=found.pass_tokens), who.setting


def _forecast(planned: PlannedTraining, work: Work, items: Sequence[TrainingItem], found: Found) -> None:
    """planned_bytes: as torch's allocator counts, so without the driver's context and the gaps, unless this is a processor."""
    memory: Memory = planned.memory
    found.planned_card_bytes = memory.per_card_bytes
    on_card = not planned.cards.card.is_cpu
    found.planned_bytes = memory.per_card_bytes - (memory.of("context") if on_card else 0)
    found.planned_passing_bytes = memory.of("activations", "logits", "buffers", "cache")
    rows = [row for item in items for row in item.rows]
    tokens = sum(len(row.ids) for row in rows) / len(rows)
    passes = -(-planned.batch_tokens // planned.pass_tokens)
    setup = replace(
        planned.setup,
        learning="dpo" if work.part == "pairs" else "sft",
        row_tokens=max(len(row.ids) for row in rows),
        shared_tokens=work.shared,
        batch=max(1, work.rows // passes),
    )
    seconds = training_time(planned.shape, setup, planned.cards, TrainingWork(work.rows, tokens, 1)).seconds
    found.planned_rows_per_s = work.rows / seconds if seconds else None


def _take(found: Found, trained: sft.Trained, rows: int) -> None:
    found.losses, found.path, found.seconds = trained.losses, trained.path, trained.seconds
    found.rows, found.tokens, found.computed = (
        trained.share * count for count in (rows, trained.nominal, trained.computed)
    )


def _sft(work: Work, built: Built, who: Who, steps: int, halvings: int, found: Found) -> None:
    rows = sft_rows(work, built, steps)
    settings, setting = _settings(work, built, who, completions(rows), halvings, found)
    trained = sft.ours(built, completions(rows), settings) if who.ours else sft.trl(built, rows, settings, setting)
    _take(found, trained, len(rows))


def _pairs(work: Work, built: Built, who: Who, steps: int, halvings: int, found: Found) -> None:
    material = preference_pairs(work, built, steps)
    settings, setting = _settings(work, built, who, pairs(material.chosen, material.rejected), halvings, found)
    if who.ours:
        times = preferences.ours(built, "dpo", material, settings)
    else:
        times = preferences.trl(built, "dpo", material, settings, setting)
    share = (len(times.losses) - 1) / len(times.losses)
    found.losses, found.seconds, found.rows = times.losses, times.seconds, share * work.rows * steps
    found.tokens, found.computed = share * times.nominal, share * times.computed


def _update(work: Work, built: Built, who: Who, steps: int, halvings: int, found: Found) -> None:
    """The same answers and rewards in every step."""
    prompts = answered(work, built)
    rows = [row for members in prompts for row in members]
    rewards = torch.tensor([reward_of(row.ids) for row in rows])
    numbers = torch.arange(len(prompts)).repeat_interleave(work.members)
    advantages = group_advantages(rewards, numbers, scale="std").tolist()
    items = [TrainingItem((row,), advantage=a) for row, a in zip(rows, advantages, strict=True)]
    ours = {"epochs": steps, "batch_size": len(rows)}
    settings, setting = _settings(work, built, who, items, halvings, found, **ours)
    if who.ours:
        _take(found, sft.ours(built, items, settings), len(rows) * steps)
        return
    _take(found, trl_update(work, built, prompts, settings, setting, steps), len(rows) * steps)


def _groups(work: Work, built: Built, who: Who, steps: int, halvings: int, found: Found) -> None:
    """The plan is not asked: answers and their number follow the weights."""
    case = groups.GroupCase(work.batch, work.members, work.answer, work.prompt)
    texts = groups.prompts_of(work.batch * steps, work.prompt, built.words)
    rows = [TrainingItem((row,)) for members in answered(work, built) for row in members]
    settings, setting = _settings(work, built, who, rows, halvings, found)
    found.planned_bytes = found.planned_rows_per_s = None
    if who.ours:
        ends, rewards, lengths = groups.ours(built, texts, settings, case)
    else:
        ends, rewards, lengths = groups.trl(built, texts, settings, setting, case)
    found.seconds, found.losses = ends[-1] - ends[0], rewards
    found.rows = float(case.answers * (len(ends) - 1))
    found.tokens = found.computed = case.answers * sum(lengths[1:])


def _answers(work: Work, built: Built, who: Who, steps: int, halvings: int, found: Found) -> None:
    """With random weights no answer ends before its limit. Few-shot answers are greedy, groups drawn at temperature 1."""
    questions = [list(members[0].prompt) for members in answered(work, built)]
    prompts = [prompt for prompt in questions for _ in range(work.members)]
    found.pass_rows = batch = max(1, len(prompts) >> halvings)
    temperature = 1.0 if work.part == "sampling" else 0.0
    device, answers = built.model.device, list[list[int]]()
    answer: Any = fewshot.ours
    more: dict[str, Any] = {}
    if not who.ours:
        prepared(built.model, who.setting)
        answer, more = fewshot.transformers, dict(who.generate)
    for limit in (min(4, work.answer), work.answer):  # the first warms up
        began = now(device)
        answers = answer(built, prompts, batch, limit, temperature, **more)
        found.seconds = now(device) - began
    new = sum(map(len, answers))
    found.rows, found.tokens = float(len(prompts)), float(sum(map(len, prompts)) + new)
    own = work.shared + work.prompt * len(questions) + new
    found.computed = float(own) if who.ours else found.tokens


def _scores(work: Work, built: Built, who: Who, steps: int, halvings: int, found: Found) -> None:
    """Log-probabilities of each question's options; "losses" is their mean, in nats, to compare."""
    questions = answered(work, built)
    rows = [row for members in questions for row in members]
    device, sums = built.model.device, list[float]()
    found.pass_rows = batch = max(1, min(len(rows), PASS_TOKENS // len(rows[0].ids)) >> halvings)
    if not who.ours:
        prepared(built.model, who.setting)
    for part in (questions[:2], questions):  # the first warms up
        began = now(device)
        if who.ours:
            sums = [logp for unit in unit_sums(built.model, part, PASS_TOKENS >> halvings) for logp in unit]
        else:
            sums = transformers_scores(built.model, [row for members in part for row in members], batch)
        found.seconds = now(device) - began
    found.rows, found.tokens, found.losses = float(len(rows)), float(sum(len(row.ids) for row in rows)), []
    found.losses = [-sum(sums) / len(sums)]
    own = work.shared + len(questions) * (work.prompt + work.members * work.answer)
    found.computed = float(own) if who.ours else found.tokens


def named(shape: str, work: str, who: str) -> tuple[Shape, Work, Who]:
    found = next(one for one in WORKS if one.name == work)
    return (
        next(one for one in SHAPES if one.name == shape),
        found,
        next(one for one in WHO[found.part] if one.name == who),
    )


if __name__ == "__main__":
    shape_name, work_name, who_name, step_count, halved = sys.argv[1:]
    print(json.dumps(measured(*named(shape_name, work_name, who_name), int(step_count), int(halved))))
