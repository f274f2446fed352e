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
from lastresort.interop.axolotl.keys import TRL_IGNORED, TRL_OWN, USUAL
from lastresort.interop.axolotl.objective import beta
from lastresort.interop.given import ForeignKeys, found_place
from lastresort.interop.imported import Kind
from lastresort.spec.values import NumberBounds
from lastresort.types import JsonObject


def function_of(name: str, beside: Path, where: str) -> tuple[Path, str]:
    """The file and the function. Raises TaskError where no such file is, as for a reward that is a model."""
    module, _, function = name.rpartition(".")
    file = module.replace(".", "/") + ".py"
    importable = bool(module) and all(part.isidentifier() for part in name.split("."))
    path = found_place(file, beside) if importable else None
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
    value = given.any("trl", {})
    trl = ForeignKeys(value if isinstance(value, Mapping) else {}, given.where("trl"))
    size = trl.count("num_generations", 8, least=2)
    completions = _of_a_step(trl, completions, size)
    if completions % size:
        given.refuse(
            "micro_batch_size",
            f"{completions} answers a step beside groups of {size}",
            expected="whole groups",
            remedy=f"Write gradient_accumulation_steps so that it is a multiple of {size}.",
        )
    longest = trl.count("max_completion_length", 512, least=1)
    if "max_completion_length" not in trl:
        trl.remark("max_completion_length", "differs", "max_completion_length is not set; it is 512 here, as in TRL.")
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
    if isinstance(kwargs := trl.any("chat_template_kwargs"), Mapping):
        document["chat_template_kwargs"] = dict(kwargs)
    _say(trl)
    given.remarks += trl.remarks
    given.remark(
        "trl.reward_funcs",
        "trap",
        "A reward function gets prompts and completions as texts here; there they are lists of messages where prompts are.",
    )
    sentence = (
        "A prompt that is a text is a user's turn here, which the model's template renders; there it is given as it is."
    )
    given.remark("datasets", "differs", sentence)
    return document


def _of_a_step(trl: ForeignKeys, completions: int, size: int) -> int:
    """Answers of an optimizer step. Of generation_batch_size only where a step is no whole groups: it says how many are sampled at
    once, of which a step may train a part."""
    sampled = trl.count("generation_batch_size", completions, least=1)
    if sampled == completions:
        return completions
    found = completions if completions % size == 0 else sampled
    trl.remark(
        "generation_batch_size",
        "differs",
        f"There {sampled} answers are sampled at once and {completions} trained in a step; here the {found} of a step are sampled "
        "before it.",
    )
    return found


def _objective(trl: ForeignKeys, kl_weight: float) -> JsonObject:
    loss = trl.choice("loss_type", tuple(_LOSSES), "dapo")
    if loss == "bnpo":
        sentence = (
            "bnpo is trained as dapo: the loss is divided by the tokens of the whole step here, there by those of each pass, which "
            "is the same without accumulation."
        )
        trl.remark("loss_type", "differs", sentence)
    low = trl.number("epsilon", 0.2, NumberBounds(above=0, below=1))
    high = trl.number("epsilon_high", low, NumberBounds(above=0))
    _say_scale(trl, _LOSSES[loss])
    iterations = trl.count("num_iterations", 1, least=1)
    if iterations > 1:
        trl.remark("num_iterations", "ignored", "One update is made of each batch of answers here.")
    trl.any("beta")
    return {_LOSSES[loss]: {"eps_low": low, "eps_high": high, "kl_weight": kl_weight}}


def _say_scale(trl: ForeignKeys, ours: str) -> None:
    """Advantages are divided by the group's deviation in grpo and dapo, and by nothing in dr_grpo."""
    scale = str(trl.any("scale_rewards", "group")).lower()
    there = {"true": "group", "false": "none"}.get(scale, scale)
    here = "none" if ours == "dr_grpo" else "group"
    if there != here:
        kind: Kind = "differs" if "scale_rewards" not in trl else "ignored"
        trl.remark("scale_rewards", kind, f"Rewards of {ours} are scaled by {here} here; the file says {there}.")


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


def _say(trl: ForeignKeys) -> None:
    for key in TRL_OWN:
        trl.any(key)
    told = [*TRL_IGNORED, *trl.unread()]
    for key in dict.fromkeys(told):
        value = trl.any(key)
        if key not in TRL_IGNORED and value is not None:
            trl.remark(key, "ignored", f"{key} is no key of trl that this program knows.")
        elif value not in (None, False, 0, "", [], {}) and value != USUAL.get(key):
            trl.remark(key, "ignored", f"{key} is not honoured: answers are sampled and trained in one way here.")
