"""What makes a training fit that does not: the changes of its settings, by what they cost, the first that the plan finds enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lastresort.hardware.plan.planned import Planned


@dataclass(frozen=True, slots=True)
class Lowered:
    """planned: with the changes. keys: what changed, as a training file writes it. same_run: whether a run that has begun may go on
    so, since nothing but its rounding changes."""

    planned: Planned
    keys: Mapping[str, Any] = field(default_factory=dict)
    same_run: bool = True

    def written(self) -> str:
        """ "max_pass_tokens: 512 and checkpointing: true"; "" where nothing changed."""
        *most, last = [f"{key}: {'true' if value is True else value}" for key, value in self.keys.items()] or [""]
        return f"{', '.join(most)} and {last}" if most else last


def lowered(planned: Planned, room_bytes: int) -> Lowered | None:
    """The first change with which it fits, with the largest pass; None where none is enough."""
    for one in _changes(planned):
        found = one.planned.with_largest_pass(room_bytes)
        if found is not None:
            smaller = {} if found.pass_tokens == planned.pass_tokens else {"max_pass_tokens": found.pass_tokens}
            return replace(one, planned=found, keys={**smaller, **one.keys})
    return None


def smallest(planned: Planned) -> Planned:
    """With every change, one row at a time: what no setting comes below."""
    last = list(_changes(planned))[-1].planned
    return replace(last, pass_tokens=last.longest_tokens)


def _changes(planned: Planned) -> Iterator[Lowered]:
    """From the one that costs nothing to those that train something else. Checkpointing stays on once it was needed."""
    yield Lowered(planned)
    keys: dict[str, Any] = {}
    if planned.setup.learning == "grpo" and planned.setup.sampler == "engine":
        while planned.setup.rows_at_once > planned.setup.group_size:
            fewer = max(planned.setup.group_size, planned.setup.rows_at_once // 2)
            planned, keys = _with(planned, rows_at_once=fewer), {"rows_at_once": fewer}
            yield Lowered(planned, dict(keys))
    if not planned.setup.checkpointing:
        planned, keys = _with(planned, checkpointing=True), {**keys, "checkpointing": True}
        yield Lowered(planned, dict(keys))
    if planned.keeps_method:
        return
    if planned.setup.method == "full":
        planned = _with(planned, method="lora", compute="auto")
        yield Lowered(planned, {**keys, "adapter": "lora"}, same_run=False)
    if planned.setup.method == "lora":
        yield Lowered(_with(planned, method="qlora", compute="auto"), {**keys, "adapter": "qlora"}, same_run=False)


def _with(planned: Planned, **changes: Any) -> Planned:
    return replace(planned, setup=replace(planned.setup, **changes))
