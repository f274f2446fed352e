"""`general` and `keep`: the suites of the gate, and the loss that each may show."""

from __future__ import annotations

from typing import Any, Literal

from lastresort.evals.logs.lm_eval_results import PREFIX
from lastresort.spec.values import Number, below, refuse
from lastresort.spec.wording import describe

Margins = dict[str, float | Literal["skip"]]
KEEP: Margins = {"general": 0.03, "sycophancy": 0.05, "format_leak": 0.02}


def read_suites(value: tuple[str, ...]) -> tuple[str, ...]:
    """Further suites by name, which lm-eval runs; a built-in or repeated one is refused."""
    for index, name in enumerate(value):
        if name in KEEP:
            remedy = f"Remove it; its margin is set by keep.{name}."
            refuse(f'found "{name}", which always runs', expected="a further suite", remedy=remedy, key=(index,))
        if not name.removeprefix(PREFIX) or not name.startswith(PREFIX):
            expected = f'"{PREFIX}" and the name or path of a task of lm-eval'
            refuse(f'found "{name}"', expected=expected, remedy=f"Write {PREFIX}{_task_in(name)}.", key=(index,))
        if name in value[:index]:
            refuse(f'found "{name}" twice', expected="each suite once", remedy="Remove one.", key=(index,))
    return value


def _task_in(name: str) -> str:
    """What somebody meant who wrote "mmlu", "lm-eval:mmlu" or nothing."""
    return name.rpartition(":")[2].strip() or "mmlu"


def read_margins(value: Any) -> Margins:
    """The margins given, over the defaults."""
    if not isinstance(value, dict):
        remedy = "Write for instance keep: {general: 0.03}."
        refuse(f"found {describe(value)}", expected="a mapping from suites to margins", remedy=remedy)
    given: Margins = {}
    for name, margin in value.items():
        with below(name):
            given[name] = "skip" if margin == "skip" else Number(above=0, below=1).check(margin)
    return {**KEEP, **given}
