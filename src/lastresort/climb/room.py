"""Whether prompts and answers fit the models' contexts, by counting tokens alone, and trainings the cards, by the plan: checked
before anything is spent.

How long an answer of a task may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lastresort.climb.prepare import PreparedTask
from lastresort.climb.workload import answer_limit, counted_answers
from lastresort.climb.workspace import has_result
from lastresort.data.split import Split
from lastresort.errors import CandidateError, DataError, PrerequisiteError
from lastresort.hardware.environment import card_here
from lastresort.hardware.plan.fit import PlannedTraining, gib
from lastresort.hardware.plan.setup import Cards
from lastresort.ladder import RUNGS, Learns, trains
from lastresort.models.protocol import Model
from lastresort.records.record import Record
from lastresort.rungs.divided import base_beyond_card, refuse_more_than_cards
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.preference.rung import planned_course
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.rung import find_rung
from lastresort.rungs.supervised.methods import PASS_TOKENS, adapter_setup, known_shape
from lastresort.rungs.supervised.sft import LEAST_ROWS
from lastresort.spec.task import Task
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign, System
from lastresort.train.loop.spawn import Machines
from lastresort.types import Decoding, Example, Message


def max_new_tokens(prepared: PreparedTask, model: Model) -> int:
    """The task's own limit, or what its training answers need."""
    if prepared.task.decode.max_new_tokens != "auto":
        return int(prepared.task.decode.max_new_tokens)
    return answer_limit(_answer_tokens(prepared, model))


def longer_answers(prepared: PreparedTask, model: Model, limit: int) -> tuple[int, int]:
    """How many of the training answers that were counted are longer than the limit, and how many were counted."""
    tokens = _answer_tokens(prepared, model)
    return sum(count > limit for count in tokens), len(tokens)


def _answer_tokens(prepared: PreparedTask, model: Model) -> list[int]:
    empty = model.count_tokens((Message("user", ""),))
    return [model.count_tokens((Message("user", text),)) - empty for text in counted_answers(prepared.split.train)]


def refuse_what_fits_no_prompt(task: Task, split: Split, models: OpenModels, max_new_tokens: int) -> list[str]:
    """Refuse a dev or test item that leaves no room for its answer even in the shortest prompt of a rung of the ladder.

    Such an item could never be answered, and would stop the climb at the same place for ever. Returns the ids of the
    training rows that are too long for the model that would be tuned, which supervised training leaves out. Raises DataError
    for an item without room, and where too few training rows are left.
    """
    if "prompting" in task.ladder:
        _refuse_items(_answerer_of(task, models, models.base_name, instruction(task)), split, max_new_tokens)
    if not _tries(task, split, "examples"):
        if _tries(task, split, "preferences"):
            _refuse_items(_answerer_of(task, models, models.tuned_name, instruction(task)), split, max_new_tokens)
        return []
    tuned = _answerer_of(task, models, models.tuned_name, task.about.strip())
    _refuse_items(tuned, split, max_new_tokens, loss_items=split.dev)
    limit = tuned.model.context_tokens
    long = [example for example in split.train if limit is not None and _trained_tokens(tuned, example) > limit]
    if len(split.train) - len(long) < LEAST_ROWS <= len(split.train):
        raise DataError(
            f"{len(long)} of {len(split.train)} rows, which leaves fewer than {LEAST_ROWS} to train on",
            where=long[0].place,
            expected=f"rows that fit the context of {limit} tokens",
            remedy="Shorten the rows, name a model with a longer context, or leave sft and full out of `ladder`.",
        )
    return [example.id for example in long]


def rungs_to_train(task: Task, train: Sequence[Example], rungs: Sequence[str]) -> list[str]:
    """Those that train weights and apply to the task, its rows and this machine."""
    return [name for name in rungs if trains(name) and find_rung(name).skip_reason(task, train) is None]


def refuse_beyond_cards(
    task: Task,
    rungs: Sequence[str],
    record: Record | None = None,
    *,
    may_end_before: bool = True,
    machines: Machines | None = None,
) -> None:
    """rungs: that apply. record: of a climb that goes on. may_end_before: whether the command has --until. machines: of its
    cluster, None for this one alone. Raises PrerequisiteError for more processes than cards, and where adapters are still to be
    trained of a base that is too large for one card to answer.
    """
    if any(_divides(task, name) for name in rungs):  # also one with its result, which a repair may train once more
        refuse_more_than_cards(task, machines)
    rungs_ahead = [name for name in rungs if record is None or not has_result(record, name)]
    adapted = [name for name in rungs_ahead if RUNGS[name].winner == "adapter"]
    if task.tune.method == "full" or not adapted:
        return
    card, shape = card_here(processor=False), known_shape(task.tuned_model, task.folder)
    if card is None or shape is None:
        return
    # GRPO is planned as any other: its base has to fit a card all the more.
    setup, row = adapter_setup(task, PASS_TOKENS), PASS_TOKENS
    planned = PlannedTraining(shape, setup, Cards(card), row, row, row)
    if base_beyond_card(planned):
        in_4_bits = replace(planned, setup=replace(setup, method="qlora"))
        smaller = f"a smaller model{'' if base_beyond_card(in_4_bits) else ' or tune.method: qlora'}"
        # A climb that goes on would refuse either as another task.
        goes_on = "Continue on a machine with a larger GPU, or start a new run with" if record is not None else "Name"
        # The base answers no rung below where the model is another one.
        base_answers = may_end_before and task.tune.model != "same"
        below = task.ladder[: task.ladder.index(adapted[0])] if base_answers else ()
        last_below = next((name for name in reversed(below) if not trains(name)), None)
        end_hint = "" if last_below is None else f", or end the climb with --until {last_below}"
        raise PrerequisiteError(
            f"{task.tuned_model} takes {gib(planned.loaded_bytes)} by the plan",
            where=f'{task.path.name}, key "{"model" if task.tune.model == "same" else "tune.model"}"',
            expected=f"a base that one GPU of {gib(card.memory_bytes)} can hold to answer, in however many processes it trains",
            remedy=f"{goes_on} {smaller}{end_hint}.",
        )


def _divides(task: Task, rung: str) -> bool:
    """Whether its training goes into several processes where the task says so: GRPO samples as it trains, in one."""
    return trains(rung) and (
        RUNGS[rung].learns != "preferences" or planned_course(task, n_train=0)[0].source != "reward"
    )


def check_room(answerer: Answerer, examples: Sequence[Example]) -> None:
    """Raises CandidateError where an item leaves no room for an answer in this system's own prompt."""
    model, limit = answerer.model, answerer.model.context_tokens
    if limit is None:
        return
    new_tokens = answerer.system.decoding.max_new_tokens
    for example in examples:
        tokens = model.count_tokens(answerer.prompt(example.input))
        if tokens + new_tokens > limit:
            raise CandidateError(
                f"with {example.place} the prompt has {tokens} tokens, and {new_tokens} for the answer",
                expected=f"at most the context of {limit} together",
            )


def _tries(task: Task, split: Split, learns: Learns) -> bool:
    """Whether a rung that trains on this is to be climbed and applies."""
    names = [name for name in task.ladder if RUNGS[name].learns == learns]
    return any(find_rung(name).skip_reason(task, split.train) is None for name in names)


def bare_system(task: Task, name: str, about: str) -> System:
    """The shortest prompt of a rung, on this model. Decoding plays no part in what is counted."""
    return System("bare", name, PromptDesign(about), Decoding(1), template_kwargs=task.chat_template_kwargs)


def _answerer_of(task: Task, models: OpenModels, name: str, about: str) -> Answerer:
    system = bare_system(task, name, about)
    return Answerer(system, models.open(system))


def _refuse_items(answerer: Answerer, split: Split, new_tokens: int, loss_items: Sequence[Example] = ()) -> None:
    """loss_items: items whose right answer must fit too, since the loss on it is measured."""
    model: Model = answerer.model
    limit = model.context_tokens
    if limit is None:
        return
    loss_ids = {example.id for example in loss_items}
    for example in (*split.dev, *split.test):
        prompt_tokens = model.count_tokens(answerer.prompt(example.input))
        needed = prompt_tokens + new_tokens
        if example.id in loss_ids:
            needed = max(needed, _trained_tokens(answerer, example))
        if needed > limit:
            raise DataError(
                f"{prompt_tokens} tokens of prompt and {needed - prompt_tokens} for the answer",
                where=example.place,
                expected=f"at most the context of {limit} tokens of {model.name} together",
                remedy="Shorten or remove the row, lower decode.max_new_tokens, or take a model with a longer context.",
            )


def _trained_tokens(answerer: Answerer, example: Example) -> int:
    turns = compose(answerer.system.prompt, example.input, ())
    return answerer.model.count_tokens((*turns, Message("assistant", example.output)))
