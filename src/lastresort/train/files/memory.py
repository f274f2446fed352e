"""The memory that a training will need, from its settings, its model's shape and its rows; and what to lower if it does not fit.

A training that runs out of memory ends with one sentence instead of a library's traceback. There is a warning beforehand, since
Linux kills without a word a process that it promised more memory than there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from lastresort.engine.forest import Row, common_length
from lastresort.errors import InputError, OutOfMemoryError, PrerequisiteError
from lastresort.hardware.environment import card_here
from lastresort.hardware.memory import free_memory_bytes, is_lack_of_memory, swap_bytes
from lastresort.hardware.plan.fit import PlannedTraining, gib, lowered, smallest
from lastresort.hardware.plan.setup import Cards, Learning, Method, Setup
from lastresort.hardware.shape import shape_of
from lastresort.train.adapters.adapters import in_attention, ranks_of
from lastresort.train.groups.groups import SampledGroups
from lastresort.train.loop.batches import Batches, TrainingItem
from lastresort.train.settings import AdapterSettings, TrainingFile, TrainSettings

_LEARNING: Mapping[str, Learning] = {"pairs": "dpo", "groups": "grpo"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """In computed tokens. longest: of what stays in one pass. batch: of an optimizer step, at most."""

    longest: int
    batch: int


def plan_of(
    config: Mapping[str, Any],
    settings: TrainSettings,
    source: Sequence[TrainingItem] | Batches,
    compute: Literal["float32", "bfloat16"],
) -> PlannedTraining | None:
    """config: the model's config.json. compute: what the products are in. None for a model whose shape is not known, and where the
    machine does not say how much memory it has."""
    try:
        shape = shape_of(config, "the model")
    except InputError:
        return None
    card = card_here(processor=True)
    if card is None:
        return None
    sizes = sizes_of(source, settings.batch_size)
    setup = _setup(settings, source, compute, sizes.longest)
    return PlannedTraining(shape, setup, Cards(card), sizes.longest, sizes.batch, settings.max_pass_tokens)


def plan_of_loaded(
    model: Any, settings: TrainSettings, source: Sequence[TrainingItem] | Batches
) -> PlannedTraining | None:
    """As `plan_of`, of a model in memory, with its adapter."""
    reduced = next(model.parameters()).element_size() == 2
    settings = replace(settings, adapter=with_ranks(settings.adapter, ranks_of(model)))
    return plan_of(model.config.to_dict(), settings, source, "bfloat16" if reduced else "float32")


def with_ranks(adapter: AdapterSettings, ranks: Mapping[str, int]) -> AdapterSettings:
    """The settings as they would be of an adapter that is there. ranks: of its layers, by path; none where all weights are
    trained. Layers of several ranks count as of the largest, and some layers of attention as all of them."""
    if not ranks:
        return adapter
    target: Literal["attention", "all-linear"] = "attention" if all(map(in_attention, ranks)) else "all-linear"
    return replace(adapter, r=max(ranks.values()), target=target)


def sizes_of(source: Sequence[TrainingItem] | Batches, batch_size: int) -> Sizes:
    """What all rows share at their beginning counts once in a batch."""
    if isinstance(source, SampledGroups):
        longest = source.longest_tokens
        return Sizes(longest, batch_size * source.settings.group_size * longest)
    items = source if isinstance(source, Sequence) else source.items
    units = [[row for row in item.trained if any(row.targets)] for item in items]
    tokens = sorted((_computed(rows) for rows in units if rows), reverse=True)
    if not tokens:
        return Sizes(1, 1)
    first, *rest = (row.ids for rows in units for row in rows)
    shared = min((common_length(first, ids) for ids in rest), default=0)
    return Sizes(tokens[0], shared + sum(row_tokens - shared for row_tokens in tokens[:batch_size]))


def _computed(rows: Sequence[Row]) -> int:
    """Of a row, or of the two of a pair, whose common beginning is computed once."""
    shared = common_length(rows[0].ids, rows[1].ids) if len(rows) == 2 else 0
    return sum(row.needed for row in rows) - min(shared, *(row.needed for row in rows))


def _setup(
    settings: TrainSettings,
    source: Sequence[TrainingItem] | Batches,
    compute: Literal["float32", "bfloat16"],
    row_tokens: int,
) -> Setup:
    adapter = settings.adapter
    method: Method = "full" if adapter.kind == "none" else "qlora" if adapter.quantize else "lora"
    target = adapter.target if isinstance(adapter.target, str) else "all-linear"
    setup = Setup(
        method,
        learning=_LEARNING.get(settings.objective.need, "sft"),
        row_tokens=row_tokens,
        checkpointing=settings.checkpointing,
        r=adapter.r,
        target=target,
        optimizer=settings.optimizer,
        compute=compute,
    )
    if not isinstance(source, SampledGroups):
        items = source if isinstance(source, Sequence) else source.items
        return replace(setup, replay_loss="kl" if any(item.held for item in items) else "likelihood")
    return replace(
        setup,
        group_size=source.settings.group_size,
        rows_at_once=source.settings.rows_at_once,
        new_tokens=source.settings.max_new_tokens,
        sampler="engine" if source.by_engine else "other-gpus",
        held_to_start=settings.objective.needs_reference,
    )


_BYTES = re.compile(r"tried to allocate (\d+) bytes", re.IGNORECASE)
_GIB = re.compile(r"tried to allocate ([\d.]+ [KMG]i?B)", re.IGNORECASE)
NOTHING = "No setting makes it fit: take a smaller model, or a machine with more memory."


@dataclass(frozen=True, slots=True)
class MemoryAdvice:
    """What to do about too little memory. forecast: the plan's numbers, "" without them. remedy: what the user can do."""

    forecast: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Room:
    """A training, and the memory that was free before it was loaded; None where the system does not say."""

    planned: PlannedTraining
    free_bytes: int | None

    def warning(self) -> str | None:
        """One sentence where the plan says that it will not fit; None where it does, or where nothing is known."""
        if self.free_bytes is None or self.planned.needed_bytes <= self.free_bytes:
            return None
        return f"this training may not fit: {self.forecast()}. {self._remedy(self.free_bytes, 'Set')}"

    def refuse_the_impossible(self) -> None:
        """Raise PrerequisiteError where weights, gradients and the optimizer alone are more than the machine has, with its swap."""
        card = self.planned.cards.card
        least, there = self.planned.least_bytes, card.memory_bytes + (swap_bytes() if card.is_cpu else 0)
        if least > there:
            raise PrerequisiteError(
                f"weights, gradients and the optimizer's state alone take {gib(least)} and there are {gib(there)}",
                where="training",
                remedy=self._remedy(there, "Set"),
            )

    def answer(self, *, begun: bool) -> MemoryAdvice:
        """To a training that ran out of memory, so that its plan was too low or others took what was free.

        begun: whether there is a run to go on with.
        """
        return MemoryAdvice(
            self.forecast(), self._remedy(self.planned.room_below(self.free_bytes), "Go on" if begun else "Set")
        )

    def forecast(self) -> str:
        """ "the plan says that this training holds 5.3 GiB (most of it activations, 3.1 GiB), and 4.0 GiB were free"."""
        free = "" if self.free_bytes is None else f", and {gib(self.free_bytes)} were free before it"
        return f"the plan says that it holds {gib(self.planned.needed_bytes)} (most of it {self.planned.largest_part()}){free}"

    def _remedy(self, room_bytes: int, verb: Literal["Set", "Go on"]) -> str:
        lowered_plan = lowered(self.planned, room_bytes)
        if lowered_plan is None or not lowered_plan.keys:
            least = smallest(self.planned)
            how = "with checkpointing and in 4 bits" if least.setup.method == "qlora" else "with checkpointing"
            return f"{NOTHING} Row by row, {how}, it would hold {gib(least.needed_bytes)}."
        settings = f"{lowered_plan.written()}, with which the plan comes to {gib(lowered_plan.planned.needed_bytes)}"
        if verb == "Set":
            return f"Set {settings}."
        if lowered_plan.same_run:
            return f"Go on with {settings}, by --resume from the last checkpoint."
        return f"Begin a new run with {settings}; this one cannot use them."


@contextmanager
def memory_errors(answer: Callable[[], MemoryAdvice]) -> Iterator[None]:
    """Whatever inside does not get its memory becomes an OutOfMemoryError with the answer, which is asked for then."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        asked, advice = _asked_for(str(error)), answer()
        more = f" for {asked} more" if asked else ""
        forecast = f": {advice.forecast}" if advice.forecast else ""
        raise OutOfMemoryError(
            f"there is not enough memory{more}{forecast}",
            where="training",
            expected="a pass that fits",
            remedy=advice.remedy,
        ) from error


def what_to_lower(file: TrainingFile) -> str:
    """Where no plan can be made: the keys of the file that memory follows, first those that a run may change as it goes on, since
    they change no more of the result than its rounding."""
    knobs, lengths = f"max_pass_tokens ({file.settings.max_pass_tokens})", "max_tokens"
    if file.groups is not None:
        lengths = f"max_new_tokens ({file.groups.sampling.max_new_tokens})"
        knobs += f" or rows_at_once ({file.groups.sampling.rows_at_once})" if file.groups.server is None else ""
    recompute = "" if file.settings.checkpointing else ", or write checkpointing: true"
    instead = " or train an adapter in place of all weights" if file.trains_all else ""
    return f"Lower {knobs}{recompute}, and go on with --resume from the last checkpoint; a new run may lower {lengths}{instead}."


def free_now() -> int | None:
    """See `free_memory_bytes`; a function of its own, so that a test can say otherwise."""
    return free_memory_bytes()


def _asked_for(said: str) -> str:
    in_bytes = _BYTES.search(said)
    if in_bytes:
        return f"{int(in_bytes[1]) / (1 << 30):,.1f} GiB"
    in_gib = _GIB.search(said)
    return in_gib[1] if in_gib else ""
