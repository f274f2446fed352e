"""KL from the base and perplexity, against what plain forwards say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A base, and the same with other weights in its output layer."""
    import torch

    from lastresort.models.open import open_model

    folder = tmp_path_factory.mktemp("drift") / "tiny"
    save_tiny_model(folder)
    base, tuned = (open_model(str(folder), base_folder=Path(), precision="float32") for _ in range(2))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        weight = tuned.loaded.model.get_output_embeddings().weight  # type: ignore[attr-defined]
        weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return base, tuned


def logps(model: Any, row: Any) -> Any:
    """Of the next token at every place, float64."""
    import torch

    with torch.no_grad():
        return model.loaded.model(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)


def test_kl_is_of_the_base_from_the_tuned_model_on_the_bases_answers(models: tuple[Any, Any]) -> None:
    from lastresort.train.watch.divergence import divergence_between
    from lastresort.train.watch.early_warnings import off_task_prompts, sampled_answers

    base, tuned = models
    tokenizer = base.loaded.tokenizer
    rows = sampled_answers(base.loaded.model, tokenizer, off_task_prompts(tokenizer, 2, 1), tokens=48, seed=1)
    expected = 0.0
    for row in rows:
        own, other = logps(base, row), logps(tuned, row)
        places = [place - 1 for place, wanted in enumerate(row.targets) if wanted]
        expected += sum(float((own[p].exp() * (own[p] - other[p])).sum()) for p in places) / len(rows)
    found = divergence_between(base.loaded.model, tuned.loaded.model, rows)
    back = divergence_between(tuned.loaded.model, base.loaded.model, rows)
    assert found.kl == pytest.approx(expected, rel=1e-4)
    assert found.kl > 0.01
    assert back.kl != pytest.approx(found.kl, rel=1e-3)


def test_perplexity_is_that_of_plain_forwards(models: tuple[Any, Any]) -> None:
    from lastresort.engine.forest import Row
    from lastresort.train.watch.early_warnings import perplexity

    rows = [Row(tuple(range(20, 40)), (False, *[True] * 19)), Row((9, 8, 7), (False, True, True))]
    total = sum(float(logps(models[0], row)[p - 1, row.ids[p]]) for row in rows for p in range(1, len(row.ids)))
    assert perplexity(models[0].loaded.model, rows) == pytest.approx(math.exp(-total / 21), rel=1e-5)


def test_a_model_has_not_drifted_from_itself(models: tuple[Any, Any]) -> None:
    from lastresort.train.watch.early_warnings import base_drift

    base, tuned = models
    same = base_drift(base, base, prompts=2)
    assert same.kl.kl == pytest.approx(0, abs=1e-9)
    assert same.base_perplexity == same.tuned_perplexity
    assert same.tokens > 1000
    other = base_drift(base, tuned, prompts=2)
    assert other.kl.kl > 0.01
    assert other.base_perplexity == same.base_perplexity != other.tuned_perplexity
