"""`rl: grpo` with its `trl` block -> our keys of groups.

Python functions that a file names as `module.function`, importable there from the current folder: which file, which name.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError, TaskError
from lastresort.interop.axolotl.keys import beta, note_trl_keys
from lastresort.interop.foreign_keys import ForeignKeys, existing_path
from lastresort.spec.values import NumberBounds
from lastresort.types import JsonObject


def function_of(name: str, beside: Path, where: str) -> tuple[Path, str]:
    """The file and the function. Raises TaskError where no such file is, as for a reward that is a model."""
    module, _, function = name.rpartition(".")
    file = module.replace(".", "/") + ".py"
    importable = bool(module) and all(part.isidentifier() for part in name.split("."))
    path = existing_path(file, beside) if importable else None
    if path is None:
        raise TaskError(
            f'found "{name}", which is no function here',
            where=where,
            expected="module.function of a Python file in the current folder; a reward that is a model is not asked",
            remedy=f"Write the file {file if importable else 'rewards.py'}, or correct the name.",
        )
    return path, function


def prompt_reader(name: str, beside: Path, cfg: Mapping[str, Any], where: str) -> Callable[[RawRow], JsonObject]:
    """What makes a row with `prompt` of a row, by the file's own function, which is run as it is there: called with the
    settings it returns a function of a row. Raises TaskError for one that does not, DataError for a row on which it fails.
    """
    path, function = function_of(name, beside, where)
    made: list[Callable[[JsonObject], Any]] = []

    def read(row: RawRow) -> JsonObject:
        if not made:  # the user's code runs when rows are wanted, not when the file is read
            made.append(_made(path, function, cfg, where))
        try:
            with _beside(path):  # for what it imports only now
                found = made[0](dict(row.values))
        except Exception as error:
            raise DataError(
                f"{path.name}:{function} raised {type(error).__name__} ({error})",
                where=row.place,
                expected="a row with prompt",
                remedy="Correct the function, or the row.",
            ) from error
        if not isinstance(found, Mapping) or "prompt" not in found:
            raise DataError(
                f"{path.name}:{function} returned no prompt", where=row.place, remedy="Return a mapping with prompt."
            )
        return {**row.values, **found}

    return read


def _made(path: Path, function: str, cfg: Mapping[str, Any], where: str) -> Callable[[JsonObject], Any]:
    try:
        with _beside(path):
            made = getattr(_module(path), function)(dict(cfg))
    except Exception as error:
        raise TaskError(
            f"{path.name}:{function} raised {type(error).__name__} ({error})",
            where=where,
            expected="a function of the settings that returns a function of a row",
            remedy="Correct it.",
        ) from error
    found: Callable[[JsonObject], Any] = made[0] if isinstance(made, tuple) else made
    return found


def _module(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location(f"lastresort_neighbour_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    sys.path.insert(0, str(path.parent))
    try:
        yield
    finally:
        sys.path.remove(str(path.parent))


_LOSSES = {"grpo": "grpo", "dr_grpo": "dr_grpo", "dapo": "dapo", "bnpo": "dapo"}


def group_keys(given: ForeignKeys, path: Path, completions: int) -> JsonObject:
    """objective, reward and the other keys of groups. completions: answers a step, which is what a batch counts there.

    Raises TaskError for rewards that are no functions here, and for a batch that does not hold whole groups.
    """
    trl = ForeignKeys(given.mapping("trl"), given.where("trl"))
    size = trl.count("num_generations", 8, least=2)
    completions = _of_a_step(trl, completions, size)
    if completions % size:
        found = f"{completions} answers a step beside groups of {size}"
        remedy = f"Set gradient_accumulation_steps so that a step is a multiple of {size}."
        given.refuse("micro_batch_size", found, expected="whole groups", remedy=remedy)
    longest = trl.count("max_completion_length", 512, least=1)
    if "max_completion_length" not in trl:
        trl.note_difference("max_completion_length", "max_completion_length is not set; it is 512 here, as in TRL.")
    document: JsonObject = {
        "objective": _objective(trl, beta(given, 0.0, NumberBounds(at_least=0))),
        "reward": _rewards(trl, path),
        "group_size": size,
        "batch_size": completions // size,
        "max_new_tokens": longest,
        "temperature": trl.number("temperature", 1.0, NumberBounds(above=0, at_most=2)),
        "top_p": trl.number("top_p", 1.0, NumberBounds(above=0, at_most=1)),
        "top_k": trl.count("top_k", 0),
        "tries": 1,
    }
    if "chat_template_kwargs" in trl:
        document["chat_template_kwargs"] = dict(trl.mapping("chat_template_kwargs"))
    note_trl_keys(trl)
    given.remarks += trl.remarks
    given.note_trap(
        "trl.reward_funcs",
        "Reward functions get prompts and completions as texts here. There these are lists of messages if the prompts are.",
    )
    given.note_difference(
        "datasets", "A prompt that is a text becomes a user's turn in the model's template. There it is used as it is."
    )
    return document


def _of_a_step(trl: ForeignKeys, completions: int, size: int) -> int:
    """Answers of an optimizer step. Of generation_batch_size only where a step is no whole groups: it says how many are sampled at
    once, of which a step may train a part."""
    sampled = trl.count("generation_batch_size", completions, least=1)
    if sampled == completions:
        return completions
    found = completions if completions % size == 0 else sampled
    trl.note_difference(
        "generation_batch_size",
        f"There {sampled} answers are sampled at once and {completions} trained in a step. Here {found} are sampled for each step.",
    )
    return found


def _objective(trl: ForeignKeys, kl_weight: float) -> JsonObject:
    loss = trl.choice("loss_type", tuple(_LOSSES), "dapo")
    if loss == "bnpo":
        trl.note_difference(
            "loss_type",
            "bnpo is trained as dapo: the loss is divided by the tokens of the whole step, there by those of each pass. Without "
            "accumulation that is the same.",
        )
    low = trl.number("epsilon", 0.2, NumberBounds(above=0, below=1))
    high = trl.number("epsilon_high", low, NumberBounds(above=0))
    _say_scale(trl, _LOSSES[loss])
    iterations = trl.count("num_iterations", 1, least=1)
    if iterations > 1:
        trl.note_ignored("num_iterations", "Each batch of answers gives one update here.")
    trl.any("beta")
    return {_LOSSES[loss]: {"eps_low": low, "eps_high": high, "kl_weight": kl_weight}}


def _say_scale(trl: ForeignKeys, ours: str) -> None:
    """Advantages are divided by the group's deviation in grpo and dapo, and by nothing in dr_grpo."""
    scale = str(trl.any("scale_rewards", "group")).lower()
    there = {"true": "group", "false": "none"}.get(scale, scale)
    here = "none" if ours == "dr_grpo" else "group"
    if there == here:
        return
    note = trl.note_ignored if "scale_rewards" in trl else trl.note_difference
    note("scale_rewards", f"Rewards of {ours} are scaled by {here} here, not by {there}.")


def _rewards(trl: ForeignKeys, path: Path) -> list[JsonObject]:
    names = trl.names("reward_funcs")
    if not names:
        trl.refuse("reward_funcs", "nothing", expected="functions", remedy="Write reward_funcs: [rewards.score].")
    weights = trl.any("reward_weights") or [1.0] * len(names)
    numbers = isinstance(weights, list) and all(type(weight) in (int, float) for weight in weights)
    if not numbers or len(weights) != len(names):
        trl.refuse("reward_weights", str(weights), expected=f"{len(names)} numbers", remedy="Write one for each.")
    found: list[JsonObject] = []
    for number, (name, weight) in enumerate(zip(names, weights, strict=True)):
        file, function = function_of(name, path, trl.where(f"reward_funcs[{number}]"))
        found.append({"python": f"{file}:{function}", "weight": float(weight)})
    return found
