"""What is held out, and when it is looked at: val_size, eval_dataset, eval_strategy."""

from __future__ import annotations

from lastresort.neighbours.given import Given
from lastresort.spec.values import Number


def held_out_share(given: Given) -> float | int | None:
    """val_size as a share or a count, None without. Raises TaskError beside eval_dataset."""
    size = given.number("val_size", 0.0, Number(at_least=0))
    if size and given.any("eval_dataset") is not None:
        given.refuse("val_size", f"{size:g} beside eval_dataset", expected="one of them", remedy="Remove one.")
    return (int(size) if size >= 1 else size) or None


def name_evaluation(given: Given, held_out: bool) -> None:
    """Says where what is held out is looked at otherwise than there, or never."""
    old = given.any("evaluation_strategy", "no")
    strategy = str(given.any("eval_strategy", old)).lower()
    key = "val_size" if "val_size" in given else "eval_dataset"
    if not held_out:
        if strategy not in ("no", "false") or given.flag("do_eval"):
            given.refuse(
                "eval_strategy" if strategy not in ("no", "false") else "do_eval",
                f"{strategy} without rows to evaluate"
                if strategy not in ("no", "false")
                else "true without rows to evaluate",
                expected="val_size or eval_dataset beside it",
                remedy="Add one, or remove it.",
            )
        return
    at_the_end = given.flag("do_eval")
    if strategy in ("no", "false") and not at_the_end:
        given.remark(
            key,
            "trap",
            "Without eval_strategy LLaMA-Factory never looks at what is held out; here it is evaluated at the end of each epoch.",
        )
    elif strategy != "epoch":
        given.remark(
            "eval_strategy" if strategy == "steps" else "do_eval",
            "differs",
            "What is held out is evaluated at the end of each epoch here.",
        )
    if key == "val_size":
        given.remark(key, "differs", "All rows with one prompt are held out together here, from another random stream.")
