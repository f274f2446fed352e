"""The distance of a checkpoint from its base: exact over the whole vocabulary, packed and plain, and at every adapter scale."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_support import family_folder, tuned
from lastresort.data.duplicates import near_pairs
from lastresort.data.wording import entries, filled
from lastresort.engine.forest import Row
from lastresort.gate.drawing import without_duplicates
from lastresort.gate.suites.constraints.request import REQUESTS as CONSTRAINED
from lastresort.gate.suites.general import STRATA, StratumItems
from lastresort.models.loading import load_local
from lastresort.synthesis.replay import COUNTER_REQUESTS, general_prompts
from lastresort.train.adapters.adapters import rescaled, save_adapter, scale_adapter
from lastresort.train.watch.divergence import divergence_from_base

ROWS = [
    Row(tuple(range(10, 10 + prompt + answer)), (*[False] * prompt, *[True] * answer))
    for prompt, answer in ((5, 3), (7, 1), (4, 6), (4, 2))
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base in float64 and an adapter of it that has moved, as folders."""
    folder = tmp_path_factory.mktemp("distance")
    base = family_folder(folder / "base", "llama", torch.float64)
    model = load_local(base, precision="float64").model
    save_adapter(tuned(model, "lora", base_name=str(base)), folder / "adapter")
    return base, folder / "adapter"


def opened(base: Path, adapter: Path | None = None) -> Any:
    return load_local(base, precision="float64", adapter=adapter).model


def by_hand(base: Any, model: Any) -> list[float]:
    """Of each row, from full logits."""
    found = []
    for row in ROWS:
        with torch.no_grad():
            far, own = (one(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1) for one in (base, model))
        places = [place - 1 for place, wanted in enumerate(row.targets) if wanted]
        found.append(sum(float((far[p].exp() * (far[p] - own[p])).sum()) for p in places))
    return found


@pytest.mark.parametrize("head", [True, False], ids=["by the engine", "by plain forwards"])
def test_it_is_the_kl_of_full_logits(head: bool, saved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from lastresort.train.watch import divergence

    base, adapter = saved
    if not head:
        known = divergence.support
        monkeypatch.setattr(divergence, "support", lambda model: replace(known(model), head=None))
    expected = by_hand(opened(base), opened(base, adapter))
    found = divergence_from_base(opened(base, adapter), ROWS)
    assert sum(expected) > 0.01
    assert (found.answers, found.tokens) == (4, 12)
    tolerance = 1e-9 if head else 1e-4  # full logits are compared in float32
    assert found.kl_per_token == pytest.approx(sum(expected) / 12, rel=tolerance)
    assert found.error == pytest.approx(torch.tensor(expected, dtype=torch.float64).std().item() / 2, rel=tolerance)


def test_an_adapter_at_a_scale_is_as_far_as_its_copy_at_that_scale(saved: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = saved
    model, found = opened(base, adapter), []
    for scale in (0.5, 0.75, 1.0):
        scale_adapter(adapter, scale, tmp_path / f"{scale}")
        with rescaled(model, scale):
            found.append(divergence_from_base(model, ROWS).kl)
        copied = divergence_from_base(opened(base, tmp_path / f"{scale}"), ROWS).kl
        assert found[-1] == pytest.approx(copied, rel=1e-9)
    assert found[0] < found[1] < found[2]
    assert divergence_from_base(model, ROWS).kl == found[2], "the scale is what it was"


def test_what_is_trained_stays_trained(saved: tuple[Path, Path]) -> None:
    """Training goes on after a checkpoint is measured."""
    base, _ = saved
    model = tuned(opened(base), "lora", base_name="base")
    model.train()
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    divergence_from_base(model, ROWS)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert model.training


def test_nothing_else_asks_these_requests() -> None:
    """Of all kinds: replay, early warnings and probes. None is a near copy of another's sentence either."""
    own = entries("distance")
    assert len(set(own)) >= 40
    off_task = {filled("off_task", seed, number) for seed in range(3) for number in range(300)}
    asked = {*general_prompts(10**6, 0), *general_prompts(10**6, 0, "wide"), *off_task}
    assert not set(own) & asked
    items = [item for stratum in STRATA.values() for item in islice(StratumItems(stratum, 5), 8)]
    assert without_duplicates(items, own) == items
    sentences = [*own, *entries("watched"), *entries("off_task"), *entries("off_topic"), *COUNTER_REQUESTS]
    sentences += [*entries("counter"), *(request.format(subject="wool socks") for request in CONSTRAINED)]
    assert not near_pairs(sentences, border=len(own))
