"""Packed weights give the products of the plain ones, and the same answers."""

import copy

import pytest
import torch

from engine_support import draw, tiny
from lastresort.engine import packed_weights
from lastresort.engine.choose import Sampling
from lastresort.engine.continuous import ContinuousBatch, Shelf
from lastresort.engine.live_rows import Continuation
from lastresort.engine.packed_weights import MOST_ROWS, PackedLinear, least_rows, pack_weights
from lastresort.engine.sampling import generate
from lastresort.hardware.threads import pinned

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch packs no weights")
ROOT = draw(40, 1)


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    monkeypatch.setattr(packed_weights, "SMALLEST", 0)


def still(dtype=torch.float32, **changes):
    return tiny(dtype=dtype, **changes).eval().requires_grad_(False)


def packed_layers(model):
    return [module for module in model.modules() if isinstance(module, PackedLinear)]


def answers(model):
    """Of texts that join two at a time, greedily and drawn."""
    batch, rows = ContinuousBatch(model, (Shelf(8, 80),)), []
    asked = [Continuation(ROOT + draw(4 + i, i), Sampling(12, 0.9 * (i % 2)), i) for i in range(8)]
    while len(rows) < len(asked) or batch.rows:
        rows += [batch.join(one) for one in asked[len(rows) : len(rows) + 2]]
        batch.step()
    return [row.result.tokens for row in rows]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 7, MOST_ROWS, MOST_ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_are_those_of_the_plain_layer(dtype, rows, bias, threads):
    torch.manual_seed(0)
    with pinned(threads):
        _check_products(dtype, rows, bias)


def _check_products(dtype, rows, bias):
    plain = torch.nn.Linear(96, 130, bias=bias, dtype=dtype).requires_grad_(False)
    holder = torch.nn.Sequential(copy.deepcopy(plain))
    assert pack_weights([holder])
    assert isinstance(holder[0], PackedLinear)
    given = torch.randn(1, rows, 96, dtype=dtype)
    found, expected = holder(given), plain(given)
    assert (found.shape, found.dtype) == (expected.shape, dtype)
    torch.testing.assert_close(found, expected)
    assert least_rows() <= rows <= MOST_ROWS or torch.equal(found, expected)


def test_the_answers_are_those_of_the_plain_model():
    model = still()
    expected = answers(model)
    alone = generate(model, [ROOT + draw(4, 0)], settings=Sampling(12), seeds=[0])[0].tokens
    assert pack_weights([model])
    assert len(packed_layers(model)) == 2 * 7 + 1  # each layer's seven and the output layer
    assert answers(model) == expected
    assert answers(model)[0] == alone


def test_a_model_and_its_base_share_what_is_packed():
    """As with --all, where the base is computed by the weights of the winner."""
    model = still()
    tensors = {id(x): x for x in (*model.parameters(), *model.buffers())}
    other = copy.deepcopy(model, tensors)
    assert pack_weights([model, other])
    for one, two in zip(packed_layers(model), packed_layers(other), strict=True):
        assert one._packed is two._packed
        assert one.weight is two.weight


def test_gradients_pass_through():
    layer = torch.nn.Sequential(torch.nn.Linear(8, 8).requires_grad_(False))
    assert pack_weights([layer])
    given = torch.randn(2, 8, requires_grad=True)
    layer(given).sum().backward()
    torch.testing.assert_close(given.grad, layer[0].weight.sum(0).expand(2, 8))


def test_what_may_change_or_is_of_another_kind_stays_as_it_is():
    trained, wide = tiny(dtype=torch.float32), still(torch.float64)
    assert not pack_weights([trained, wide])
    assert packed_layers(trained) == packed_layers(wide) == []


def refuses(*_):
    raise NotImplementedError("no such operator")


def differs(given, packed, bias, product=packed_weights._product):
    return product(given, packed, bias) * 1.001


@pytest.mark.parametrize("product", [refuses, differs], ids=lambda fault: fault.__name__)
def test_a_build_of_torch_that_cannot_leaves_the_model_as_it_is(product, monkeypatch):
    monkeypatch.setattr(packed_weights, "_product", product)
    model = still()
    assert not pack_weights([model])
    assert packed_layers(model) == []


def test_nothing_is_packed_where_memory_is_short(monkeypatch):
    model = still()
    needed = sum(module.weight.nbytes for module in model.modules() if isinstance(module, torch.nn.Linear))
    for free in (None, packed_weights.SPARE * needed - 1):
        monkeypatch.setattr(packed_weights, "free_memory_bytes", lambda free=free: free)
        assert not pack_weights([model])
    monkeypatch.setattr(packed_weights, "free_memory_bytes", lambda: packed_weights.SPARE * needed)
    assert pack_weights([model])
