"""What the names of candidates mean, a line each: the one table of these words. Nothing is decided by them."""

from __future__ import annotations

import re

from lastresort.report.words.wording import capital

PARTS: tuple[tuple[str, str], ...] = (
    ("zero-shot", "the instruction alone, without examples"),
    ("structured", "the instruction in marked sections, without examples"),
    (r"few-shot-(\d+)", "the instruction with {} solved examples, the same for every input"),
    (r"nearest-(\d+)", "the instruction with the {} solved examples that are most similar to the input"),
    ("chain-of-thought", "the instruction with a request to reason before the answer"),
    ("optimised", "the instruction as a model rewrote it on training rows"),
    ("closed-book", "no passages"),
    ("constrained", "decoding is limited to what the output's format allows"),
    ("1-passage", "the best passage of the search in the prompt"),
    (r"(\d+)-passages", "the {} best passages of the search in the prompt"),
    ("right-passage", "the right passages in the prompt, as dev names them"),
    ("likeliest-passages?", "the likeliest passages in the prompt"),
    ("base", "the model before training, with the instruction alone"),
)
# The parts of the name of what was trained, in their order.
TRAINED: tuple[tuple[str, str], ...] = (
    (r"lora-", "LoRA adapter"),
    (r"qlora-", "QLoRA adapter"),
    (r"full-", "all weights trained"),
    (r"(dpo|ipo|hinge|simpo|apo_zero|orpo|kto|grpo|dr_grpo|dapo)-", "trained on preferences ({})"),
    (r"replay([\d.]+)-", "{}% replay rows among the training rows"),
    (r"lr([\d.]+(?:e[+-]?\d+)?)-", "learning rate {}"),
    (r"(epoch|step)(\d+)", "stopped after {} {}"),
    (r"-scale([\d.]+)", "the adapter at {} of its strength"),
)


def about_candidate(name: str) -> str:
    """`few-shot-5+constrained` -> "The instruction with 5 solved examples, …; decoding is limited …". "" for a name that holds
    something else.
    """
    said = [_of_part(part) or _of_trained(part) for part in name.split("+")]
    return capital("; ".join(said)) if all(said) else ""


def _of_part(part: str) -> str:
    for pattern, words in PARTS:
        if found := re.fullmatch(pattern, part):
            return words.format(*found.groups())
    return ""


def _of_trained(part: str) -> str:
    said, rest = list[str](), part
    for pattern, words in TRAINED:
        if found := re.match(pattern, rest):
            said.append(words.format(*found.groups()))
            rest = rest[found.end() :]
    return ", ".join(said) if not rest else ""
