"""A training of a rung in several processes: how many, what each of them holds, and the model afterwards.

The task says how many (`tune.processes`). Where the plan says that a training does not fit one card, it is cut into shards: the
frozen base of an adapter, or all weights with their gradients and the optimizer's state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lastresort.errors import InfrastructureError, PrerequisiteError
from lastresort.hardware.memory import has_gpu, is_lack_of_memory
from lastresort.hardware.plan.fit import PlannedTraining, beyond_our_trainer, lowered
from lastresort.rungs.notes import ModelLeftOff, OneProcess
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import Task
from lastresort.train.loop.spawn import Machines
from lastresort.train.loop.spawned import ModelToTrain, SpawnedTraining
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.records.training import TrainedSteps
    from lastresort.rungs.tuning import TuningRun
    from lastresort.train.loop.batches import TrainingItem
    from lastresort.train.loop.loop import StepSeen


@dataclass(frozen=True, slots=True)
class Division:
    """How a training is divided over processes. sharded: each holds a share of the frozen base, or of all weights. machines: that
    have them, as many on each.
    """

    count: int = 1
    sharded: bool = False
    machines: int = 1


def divide(wanted: int | Literal["auto"], planned: PlannedTraining | None, cards: int) -> Division:
    """wanted: processes; auto takes all cards where one is not enough. planned: the training on one card, None where there is no
    plan. cards: that torch sees, 0 on a processor, where shards save nothing. The model goes into shards where one card is not
    enough for the training, and our trainer can cut it. What samples as it trains (GRPO) does so in one process.
    """
    if planned is not None and planned.setup.learning == "grpo":
        return Division()
    if cards == 0 or planned is None or is_enough(planned, planned.cards.card.memory_bytes):
        return Division(1 if wanted == "auto" else wanted)
    count = cards if wanted == "auto" else wanted
    shards = beyond_our_trainer(planned.setup, replace(planned.cards, count=count, sharing="fsdp")) is None
    if wanted == "auto" and not shards:
        return Division()
    return Division(count, count > 1 and shards)


def is_enough(planned: PlannedTraining, room_bytes: int) -> bool:
    """Whether the training fits there, at the least with smaller passes."""
    lowered_plan = lowered(planned, room_bytes)
    return lowered_plan is not None and lowered_plan.same_run


def base_beyond_card(planned: PlannedTraining) -> bool:
    """Whether no card can hold the whole base, as one has to to answer. planned: the training on one card."""
    return planned.loaded_bytes > planned.cards.card.memory_bytes


def card_count() -> int:
    """CUDA cards that a process here could train on; 0 where trainings compute on the processor."""
    if not has_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def cards_of_training(task: Task) -> int:
    """Over how many a training of the task can be divided; 1 on a processor, too. More than those here are on other machines, or
    refused.
    """
    wanted, cards = task.tune.processes, card_count()
    return max(1, cards if wanted == "auto" or not cards else wanted)


def refuse_more_than_cards(task: Task, machines: Machines | None = None) -> None:
    """machines: of a cluster, None for this one alone. Raises PrerequisiteError for more processes than cards, where there are
    cards.
    """
    processes, cards = task.tune.processes, card_count()
    if not cards or processes == "auto" or processes <= cards:
        return
    if machines is not None and machines.taken_by(processes) is not None:
        return
    more, other = "", ", or name a Ray cluster of several machines with --ray"
    if machines is not None:
        more, other = ", or as many on each of several machines of the cluster", ""
    raise PrerequisiteError(
        f"found {processes}",
        where=f'{task.path.name}, key "tune.processes"',
        expected=f"at most {cards}, one for each CUDA GPU here{more}",
        remedy=f"Lower it, or write auto{other}.",
    )


def divided_plan(
    planned: PlannedTraining, division: Division, free_bytes: int | None
) -> tuple[PlannedTraining, int | None]:
    """What each of several processes holds, and what is free for it next to a model that is loaded. This process keeps its own copy
    in the machine's memory, off the cards.
    """
    if division.count == 1:
        return planned, free_bytes
    loaded_bytes, cards = planned.loaded_bytes, replace(planned.cards, count=division.count)
    per_process = replace(planned, cards=replace(cards, sharing="fsdp") if division.sharded else cards)
    if free_bytes is None:
        return per_process, None
    on_each = division.count // division.machines
    room = free_bytes // on_each if planned.cards.card.is_cpu else free_bytes + loaded_bytes
    return per_process, room - per_process.loaded_bytes


def division_of(bench: Workbench, run: TuningRun, source: Any, planned: PlannedTraining | None) -> Division:
    """Raises PrerequisiteError for more processes than cards."""
    processes = bench.task.tune.processes
    if not isinstance(source, Sequence):
        if processes != 1 and not bench.record.curve(run.name):  # said when it began
            bench.say(run.rung, OneProcess())
        return Division()
    # Once more: a worker of a cluster may have fewer than the machine of the command.
    machines = bench.processes.machines
    refuse_more_than_cards(bench.task, machines)
    division = divide(processes, planned, card_count())
    if machines is None or division.count == 1:
        return division
    return replace(division, machines=machines.taken_by(division.count) or 1)


def train_together(
    bench: Workbench,
    run: TuningRun,
    model: Any,
    items: Sequence[TrainingItem],
    until: int,
    division: Division,
    *,
    on_step: Callable[[StepSeen], None],
    shown: Progress,
) -> TrainedSteps:
    """Train in processes of their own. The model is off its card meanwhile, and has the weights of the checkpoint afterwards."""
    import torch

    from lastresort.train.loop.checkpoints import load_weights
    from lastresort.train.loop.loop import CHECKPOINT_EVERY_S, Diverged

    device = model.device
    job = SpawnedTraining(
        _to_open(bench, run, model),
        tuple(items),
        run.settings,
        folder=bench.folder.resolve() / "checkpoints" / run.name,
        until=until,
        checkpoint_every_s=CHECKPOINT_EVERY_S * bench.share,
        keeps_threads=not bench.at_worker,
        share=bench.share,
        sharded=division.sharded,
    )
    if device.type == "cuda":
        model.to("cpu")
        torch.cuda.empty_cache()
    try:
        trained_steps = bench.processes.train(job, division.count, on_step=on_step, stop=bench.stop, progress=shown)
    except BaseException as error:
        try:
            model.to(device)
        except RuntimeError:  # which must not hide what ended the training
            if isinstance(error, Diverged):  # after which this model would be trained at another rate
                raise InfrastructureError(
                    f"a training diverged, and not all of the model could be moved back to {device}",
                    where="training",
                    expected="the memory that was free before it",
                    remedy="End what else uses this GPU.",
                ) from error
            bench.say(run.rung, ModelLeftOff(str(device)))
        raise
    try:
        model.to(device)
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        raise InfrastructureError(  # not for lack of memory in the training, whose passes fit
            f"training is done to step {until}, but {device} has no room for the model any more",
            where="training",
            expected="the memory that was free before it",
            remedy="End what else uses this GPU.",
        ) from error
    load_weights(job.folder, model)
    model.eval()
    return trained_steps


def _to_open(bench: Workbench, run: TuningRun, model: Any) -> ModelToTrain:
    """An adapter travels as it is, since it may come from a training whose result nobody saved."""
    from lastresort.models.quantized import quantized_base_of
    from lastresort.train.adapters.adapters import is_adapter, trainable

    loaded = run.loaded
    return ModelToTrain(
        loaded.folder.resolve(),
        bench.models.tuned_name,
        str(loaded.dtype).removeprefix("torch."),
        "no" if quantized_base_of(loaded.model) is None else "nf4",
        None if run.start is None else run.start.resolve(),
        bench.task.chat_template_kwargs,
        loaded.fingerprint,
        {name: one.detach().cpu() for name, one in trainable(model)} if is_adapter(model) else None,
    )
