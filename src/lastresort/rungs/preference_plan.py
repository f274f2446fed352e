"""What preference training a task's data allow, and why: a pure choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lastresort.rungs.preference_data import Kind
from lastresort.spec.task import Task
from lastresort.spec.tuning_sections import Preference

Loss = Literal["dpo", "orpo", "kto", "grpo"]
Source = Literal["pairs", "labels", "reward", "samples"]

PARTS = 3  # of a training of one epoch, after each of which a candidate is kept; of several epochs after each


@dataclass(frozen=True, slots=True)
class Plan:
    """objective: what is minimised. source: what it learns from. why: in words."""

    objective: Loss
    source: Source
    why: str


@dataclass(frozen=True, slots=True)
class Course:
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
_USUAL: dict[Loss, Course] = {
    "dpo": Course((2e-5, 1e-4), 3, 16, None),
    "orpo": Course((1e-4, 3e-4), 3, 16, None),
    "kto": Course((2e-5, 1e-4), 3, 32, None),
    "grpo": Course((2e-5, 1e-4), 1, 8, None),
}
_BETA: dict[Loss, str] = {"dpo": "beta", "kto": "beta", "orpo": "weight", "grpo": "kl_weight"}


def plan_of(task: Task, kind: Kind | None, *, on_sft: bool) -> Plan:
    """kind: what the file of preferences holds, None without one. on_sft: whether the rung sft left an adapter to start from."""
    start = (
        "from the adapter of sft, which is the reference too" if on_sft else "from the base, which is the reference too"
    )
    beside = "; the reward is not used beside them" if task.reward else ""
    if kind == "pairs" and on_sft:
        return Plan("dpo", "pairs", f"DPO on the task's pairs, {start}{beside}")
    if kind == "pairs":
        why = "since there is no supervised adapter to start from"
        return Plan("orpo", "pairs", f"ORPO on the task's pairs, from the base and without a reference, {why}{beside}")
    if kind == "labels":
        return Plan("kto", "labels", f"KTO on the task's labelled answers, {start}{beside}")
    if task.reward:
        return Plan("grpo", "reward", f"GRPO on the task's reward, {start}")
    why = f"ranked by the scorer {task.score.name}, since the task names neither preferences nor a reward"
    return Plan("dpo", "samples", f"DPO on pairs of the model's own samples, {why}; {start}")


def course_of(section: Preference, objective: Loss) -> Course:
    """What the task file says, and what is usual for the objective where it says auto."""
    usual = _USUAL[objective]
    return Course(
        usual.learning_rates if section.learning_rates == "auto" else section.learning_rates,
        usual.epochs if section.epochs == "auto" else int(section.epochs),
        usual.batch_size if section.batch_size == "auto" else int(section.batch_size),
        None if section.beta == "auto" else (_BETA[objective], float(section.beta)),
    )
