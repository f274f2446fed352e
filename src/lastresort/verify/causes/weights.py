"""Does another model compute? The tuned weights are not applied, or the same weights are rounded otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lastresort.models.open import parameter_count
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.verify.causes.case import FEWEST, NEARLY_ALL, Case, Measured, cause_tested, open_measured, untested

NEAR_NATS = 1.0  # a token that rounding can put first: at least e^-1 times as likely as the one that was measured
SPREADS = 2  # of what rounding to 4 bits moves, which it seldom exceeds
BLOCK = 32  # weights with one scale
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
    given = case.reproduced(texts)
    seen = words.of_base(given.hits, case.n)
    return cause_tested("ADAPTER", given.alike, words.TRIED_BASE, seen, chance=given.chance)


def precision(case: Case) -> CauseTested:
    """Was the server's first other token nearly as likely as the measured one? Does another precision give its answers?

    In 16 bits the server may well compute as measured: another batch rounds otherwise, which the remedy says.
    """
    if case.explained:
        return untested("PRECISION", words.EXPLAINED)
    if isinstance(case.local, str):
        return untested("PRECISION", case.local)
    same, measured_in = case.as_served(case.plain), case.local.model.precision
    if case.most(same):
        seen, all_same = words.of_measured_again(same, case.n), same >= NEARLY_ALL * case.n
        if case.undecided and not all_same:
            return cause_tested("PRECISION", None, words.TRIED_AGAIN, words.both_seen(seen, words.ANOTHER_MAY))
        remedy = words.no_fault(measured_in) if all_same else words.of_rounding(measured_in)
        return cause_tested("PRECISION", True, words.TRIED_AGAIN, seen, remedy=remedy)
    gaps = _gaps(case, case.local)
    if not gaps:
        return untested("PRECISION", words.NO_TOKEN)
    near = sum(gap <= NEAR_NATS for gap in gaps)
    tried, seen = words.TRIED_TOKEN, words.of_first_token(near, len(gaps))
    explains = near >= FEWEST and near >= NEARLY_ALL * len(gaps)
    remedy = words.of_rounding(measured_in) if explains else ""
    other = _other_precision(case) if explains else _four_bits(case, gaps)
    if other is not None:
        tried, seen = words.both_tried(tried, other.name), words.both_seen(seen, other.seen)
        explains = explains or other.explains
    if explains and case.undecided:
        return cause_tested("PRECISION", None, tried, words.both_seen(seen, words.ANOTHER_MAY))
    return cause_tested("PRECISION", explains, tried, seen, remedy=remedy)


def _gaps(case: Case, local: Measured) -> list[float]:
    """For each answer that differs in a token: how much less likely the server's is, in nats."""
    tokenizer = local.model.loaded.tokenizer
    asked, pairs = [], []
    for prompt, answered in zip(case.prompts, case.differing, strict=False):
        measured, served = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (answered.recorded.answer.strip(), answered.answer.text)
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
    return [measured_logp - served_logp for measured_logp, served_logp in local.model.score(asked, pairs)]


@dataclass(frozen=True, slots=True)
class _Coarser:
    """The measured model in other numbers. explains: whether they alone give answers such as the server's."""

    name: str
    seen: str
    explains: bool = False


def _other_precision(case: Case) -> _Coarser | None:
    assert not isinstance(case.local, str), "asked where it is open"
    name = "bfloat16" if case.local.model.precision == "float32" else "float32"
    with _once_more(case, name) as opened:
        if opened is None:
            return None
        same = case.as_served(opened.answers(case.prompts, case.decoding))
    return _Coarser(name, words.of_precision(same, case.n, name))


def _four_bits(case: Case, gaps: Sequence[float]) -> _Coarser | None:
    """Can rounding to 4 bits put the server's tokens first? How far it moves their likelihoods is measured on these answers;
    another scheme of 4 bits moves them as far, in other directions.
    """
    with _once_more(case, "as measured") as opened:
        if opened is None:
            return None
        round_to_four_bits(opened.model.loaded.model)
        moved = [rounded - gap for rounded, gap in zip(_gaps(case, opened), gaps, strict=True)]
        same = case.as_served(opened.answers(case.prompts, case.decoding))
    spread = math.sqrt(sum(move * move for move in moved) / len(moved))
    within = sum(gap <= SPREADS * spread for gap in gaps)
    seen = words.of_four_bits(spread, within, len(gaps), SPREADS, same, case.n)
    return _Coarser(words.ROUNDED, seen, within >= FEWEST and within >= NEARLY_ALL * len(gaps))


@contextmanager
def _once_more(case: Case, precision: str) -> Iterator[Measured | None]:
    """The measured model, opened a second time; None where it is too large or cannot be."""
    assert not isinstance(case.local, str), "asked where it is open"
    folder = str(case.local.model.loaded.folder)
    parameters = parameter_count(folder, Path.cwd())
    if parameters is None or parameters > MOST_PARAMETERS:
        yield None
        return
    settled = case.system.precision if precision == "as measured" else precision
    opened = open_measured(replace(case.system, model=folder, precision=settled, fingerprint=""), Path.cwd())
    if isinstance(opened, str):
        yield None
        return
    try:
        yield opened
    finally:
        opened.model.close()


def round_to_four_bits(model: Any) -> None:
    """In blocks with a scale of their own, as files of quantised weights hold them. The head and the adapter stay as they are."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora_" not in name and "lm_head" not in name:
            weight = module.weight.data
            width = BLOCK if weight.shape[1] % BLOCK == 0 else weight.shape[1]
            blocks = weight.float().reshape(-1, width)
            scale = blocks.abs().amax(1, keepdim=True).clamp(min=1e-12) / 7
            module.weight.data = ((blocks / scale).round() * scale).reshape(weight.shape).to(weight.dtype)
