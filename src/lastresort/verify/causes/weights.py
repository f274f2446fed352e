"""Does another model compute? The tuned weights are not applied, or the same weights are rounded otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lastresort.models.open import parameter_count
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.verify.causes.case import NEARLY_ALL, Case, Measured, found, open_measured, untested

NEAR_NATS = 1.0  # a token that rounding can put first: at least e^-1 times as likely as the one that was measured
_CUT = "\ufffd"  # half a character
MOST_PARAMETERS = 2_000_000_000  # of a model that is loaded once more, in another precision


def adapter(case: Case) -> CauseTested | None:
    """Is it what the base answers to these prompts, without the adapter?"""
    if case.system.adapter is None and not case.system.tuned_from:
        return None
    if isinstance(case.local, str):
        return untested("ADAPTER", case.local)
    if case.system.adapter is None:
        return _of_base(case)
    with case.local.untuned():
        texts = case.local.answers(case.prompts, case.decoding)
    return _by_base(case, texts)


def _of_base(case: Case) -> CauseTested:
    """Of fully trained weights, whose base is another model."""
    base = replace(
        case.system, model=case.system.tuned_from, tuned_from="", fingerprint="", rendering="", trained_rendering=""
    )
    opened = open_measured(base, Path.cwd())
    if isinstance(opened, str):
        return untested("ADAPTER", opened)
    try:
        return _by_base(case, opened.answers(case.prompts, case.decoding))
    finally:
        opened.model.close()


def _by_base(case: Case, texts: Sequence[str]) -> CauseTested:
    same, explains = case.reproduced(texts)
    seen = f"{words.of_tried(same, case.n)} are what the base model answers"
    return found("ADAPTER", explains, "the base model with the same prompts", seen)


def precision(case: Case) -> CauseTested:
    """Was the server's first other token nearly as likely as the measured one? Does another precision give its answers?"""
    if case.explained:
        return untested("PRECISION", "another cause explains the differences")
    if isinstance(case.local, str):
        return untested("PRECISION", case.local)
    same = case.as_served(case.plain)
    if case.most(same):
        seen = f"{words.of_tried(same, case.n)} are what the measured model answers here, alone and not in a batch"
        return found("PRECISION", True, "the measured model once more", seen)
    gaps = _gaps(case, case.local)
    if not gaps:
        return untested("PRECISION", "the answers differ in no token that can be compared")
    near = sum(gap <= NEAR_NATS for gap in gaps)
    seen = (
        f"in {near} of {len(gaps)} differing answers the measured weights find the server's first other token nearly as "
        "likely as their own"
    )
    tried = "the likelihood of the first token that differs"
    explains = near >= NEARLY_ALL * len(gaps)
    if explains and (other := _other_precision(case)) is not None:
        name, reproduced = other
        tried, seen = f"{tried}, and {name}", f"{seen}; {words.of_tried(reproduced, case.n)} are those of {name}"
    return found("PRECISION", explains, tried, seen)


def _gaps(case: Case, local: Measured) -> list[float]:
    """For each answer that differs in a token: how much less likely the server's is, in nats."""
    tokenizer = local.model.loaded.tokenizer
    asked, pairs = [], []
    for prompt, one in zip(case.prompts, case.differing, strict=False):
        measured, served = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (one.recorded.answer.strip(), one.answer.text)
        )
        place = next((i for i, (a, b) in enumerate(zip(measured, served, strict=False)) if a != b), None)
        if place is None:
            continue
        texts = [tokenizer.decode(ids[: place + 1]) for ids in (measured, served)]
        if not any(_CUT in text for text in texts):  # whose tokens are known
            asked.append(prompt)
            pairs.append(texts)
    if not asked or local.model.score is None:
        return []
    return [own - other for own, other in local.model.score(asked, pairs)]


def _other_precision(case: Case) -> tuple[str, int] | None:
    """Its name, and how many of the server's answers it gives."""
    assert not isinstance(case.local, str), "asked where it is open"
    parameters = parameter_count(str(case.local.model.loaded.folder), Path.cwd())
    if parameters is None or parameters > MOST_PARAMETERS:
        return None
    name = "bfloat16" if case.local.model.precision == "float32" else "float32"
    folder = str(case.local.model.loaded.folder)
    opened = open_measured(replace(case.system, model=folder, precision=name, fingerprint=""), Path.cwd())
    if isinstance(opened, str):
        return None
    try:
        return name, case.as_served(opened.answers(case.prompts, case.decoding))
    finally:
        opened.model.close()
