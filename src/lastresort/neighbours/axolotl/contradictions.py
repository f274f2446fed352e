"""Values that exclude each other there, and so here."""

from __future__ import annotations

from lastresort.neighbours.given import Given

_EXCLUDE: tuple[tuple[str, str], ...] = (
    ("warmup_steps", "warmup_ratio"),
    ("saves_per_epoch", "save_steps"),
    ("evals_per_epoch", "eval_steps"),
    ("test_datasets", "val_set_size"),
    ("lr_groups", "loraplus_lr_ratio"),
    ("noisy_embedding_alpha", "neftune_noise_alpha"),
)


def check(given: Given) -> None:
    """Raises TaskError for the first that is found."""
    rl = given.text("rl")
    for one, other in _EXCLUDE:
        if _set(given, one) and _set(given, other):
            given.refuse(one, f"it beside {other}", expected="one of them", remedy="Remove one.")
    if rl and given.flag("sample_packing"):
        remedy = "Remove sample_packing; rows are packed here anyway, without a change of results."
        given.refuse("sample_packing", f"true beside rl: {rl}", expected="false", remedy=remedy)
    if rl == "kto" and given.any("remove_unused_columns") is not False:
        remedy = "Write remove_unused_columns: false, which kto needs there."
        given.refuse("remove_unused_columns", "no false beside rl: kto", expected="false", remedy=remedy)
    if rl == "simpo" and _set(given, "warmup_ratio"):
        given.refuse("warmup_ratio", "it beside rl: simpo", expected="warmup_steps", remedy="Write warmup_steps.")
    if rl != "dpo" and "dpo_loss_type" in given:
        given.refuse("dpo_loss_type", f"it beside rl: {rl or 'none'}", expected="it with rl: dpo", remedy="Remove it.")
    _check_evaluation(given)
    for key, steps in (("save_strategy", "save_steps"), ("eval_strategy", "eval_steps")):
        strategy = given.any(key)
        if strategy is not None and _set(given, steps) and strategy != "steps":
            given.refuse(key, f"{strategy} beside {steps}", expected="steps", remedy=f"Remove {steps}, or write steps.")


def _check_evaluation(given: Given) -> None:
    asked = [key for key in ("eval_steps", "eval_strategy") if _set(given, key)]
    none_held_out = given.any("val_set_size") in (0, 0.0) and not given.any("test_datasets")
    if asked and none_held_out and given.any("eval_strategy") not in ("no", False):
        remedy = "Remove it, or hold rows out."
        given.refuse(asked[0], "it beside val_set_size: 0", expected="rows that are held out", remedy=remedy)


def _set(given: Given, key: str) -> bool:
    return given.any(key) not in (None, 0, 0.0, False, "", [])
