"""Answers of a model with an adapter: what a 16-bit base multiplies its adapter in, and how exact that is."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters_support import family_folder, family_model, logits, tuned
from lastresort.engine.attention import attention
from lastresort.models.loading import Loaded, load_local, round_adapter
from lastresort.models.local import LocalModel
from lastresort.models.open import open_model
from lastresort.train.adapters.adapters import adapters_in_base_precision, save_adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_folder(tmp_path_factory.mktemp("base"))


def adapter_of(kind: str, folder: Path) -> Path:
    save_adapter(tuned(family_model(), kind), folder)
    return folder


def with_adapter(folder: Path, adapter: Path, precision: str) -> Loaded:
    return load_local(folder, precision=precision, adapter=adapter)


def off_by(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_an_adapter_in_the_precision_of_its_base_adds_no_more_error_than_the_base_has(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    adapter = adapter_of(kind, tmp_path)
    exact = logits(with_adapter(folder, adapter, "float64").model)
    whole = logits(with_adapter(folder, adapter, "bfloat16").model)
    rounded = logits(round_adapter(with_adapter(folder, adapter, "bfloat16")).model)
    assert not torch.equal(rounded, whole)
    assert off_by(rounded, exact) < 2 * off_by(
        whole, exact
    )  # of an update as large as the base; see docs/log.md for a real one


def test_it_answers_as_it_was_trained(folder: Path, tmp_path: Path) -> None:
    loaded = with_adapter(folder, adapter_of("lora", tmp_path), "bfloat16")
    with adapters_in_base_precision(loaded.model):
        trained = logits(loaded.model)
    assert off_by(logits(round_adapter(loaded).model), trained.double()) < 1e-3


@pytest.mark.parametrize(("kind", "precision"), [("dora", "bfloat16"), ("lora", "float32"), ("lora", "float64")])
def test_norms_of_weights_and_wider_bases_are_left_as_they_are(
    folder: Path, tmp_path: Path, kind: str, precision: str
) -> None:
    loaded = with_adapter(folder, adapter_of(kind, tmp_path), precision)
    before = deepcopy(loaded.model.state_dict())
    after = round_adapter(loaded).model.state_dict()
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == before[name].dtype for name in before)


def test_a_model_that_is_opened_to_answer_has_it_and_one_that_is_loaded_has_not(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of("lora", tmp_path)
    model = open_model(str(folder), base_folder=tmp_path, precision="bfloat16", adapter=adapter)
    assert isinstance(model, LocalModel)
    opened = {weight.dtype for name, weight in model.loaded.model.named_parameters() if "lora" in name}
    loaded = with_adapter(folder, adapter, "bfloat16").model.named_parameters()
    assert opened == {torch.bfloat16}
    assert {weight.dtype for name, weight in loaded if "lora" in name} == {torch.float32}


@pytest.mark.parametrize("inside", [torch.bfloat16, None])
def test_attention_inside_autocast_is_in_its_precision(inside: torch.dtype | None) -> None:
    """On CUDA a layer norm gives float32 there and a layer in 4 bits gives back what it got, so that values come in float32."""
    seen: list[torch.dtype] = []

    class Noting:
        def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> Any:
            seen.extend(x.dtype for x in (query, key, value))
            return query

    layer = SimpleNamespace(layer_idx=0)
    wide, exact, nowhere = (
        torch.ones(1, 2, 3, 8),
        torch.ones(1, 2, 3, 8).double(),
        torch.ones(1, 2, 3, 8, device="meta"),
    )
    with torch.autocast("cpu", dtype=inside, enabled=inside is not None):
        attention(layer, wide.bfloat16(), wide, wide, None, lastresort=Noting())
        attention(layer, wide, wide, wide.bfloat16(), None, lastresort=Noting())
        attention(layer, exact, exact, exact, None, lastresort=Noting())
        attention(layer, nowhere, nowhere, nowhere, None, lastresort=Noting())
    first = torch.float32 if inside is None else inside
    assert seen == [first] * 3 + [torch.bfloat16] * 3 + [torch.float64] * 3 + [torch.float32] * 3
