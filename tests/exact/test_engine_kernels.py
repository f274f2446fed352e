"""Each kernel = plain: the same numbers whatever computes attention, here and, where there is one, on a GPU."""

from itertools import pairwise

import pytest
import torch

from engine_support import (
    FAMILIES,
    VOCABULARY,
    draw,
    every_row,
    gradients,
    reference,
    relative_difference,
    shapes,
    tiny,
    twin,
    why_plain,
)
from lastresort.engine import kernels
from lastresort.engine.attention import ByNode, calls_of
from lastresort.engine.forest import Row, plan_forest
from lastresort.engine.kernel_choice import (
    BLOCK,
    PRODUCTS,
    TRIAL_FOREST,
    TRIAL_LIMITS,
    ByMask,
    HeadShape,
    block_mask,
    blocks,
    candidates,
    trial,
)
from lastresort.engine.kernels import CpuFlash, Products
from lastresort.engine.levels import parents_by_level
from lastresort.engine.logp import target_logps
from lastresort.engine.sampling import Sampling, generate
from lastresort.engine.support import check_first_batch, support, use_kernel
from lastresort.errors import ContractError

pytestmark = pytest.mark.usefixtures("compiles")
CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
PROMPTS = [draw(40, 1) + draw(2 + 3 * (i % 4), i) for i in range(7)]


def compare(model, rows, kernel, loss_limit, gradient_limit, device="cpu"):
    other = twin(model)
    model.to(device)
    use_kernel(model, kernel)
    found = target_logps(model, rows)
    assert found.path == "packed", found.reason
    expected = reference(other, rows)
    assert float((found.per_token.detach().cpu() - expected).abs().max()) <= loss_limit * max(
        1.0, float(expected.abs().max())
    )
    computed = {name: x.cpu() for name, x in gradients(model, found.per_token).items()}
    assert relative_difference(computed, gradients(other, expected)) <= gradient_limit


@pytest.mark.sampled(4)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_products_float64(family, device):
    compare(tiny(family), every_row(), "products", 1e-9, 1e-6, device)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_products_float32(family, device):
    compare(tiny(family, torch.float32), every_row(), "products", 1e-5, 1e-4, device)


@pytest.mark.parametrize("kernel", ["efficient", None])
@pytest.mark.cuda
def test_cuda_float32(kernel):
    compare(tiny(dtype=torch.float32), every_row(), kernel, 1e-4, 1e-3, "cuda")


@pytest.mark.parametrize("kernel", ["levels", "flash", "efficient", "flex", None])
@pytest.mark.cuda
def test_cuda_bfloat16(kernel):
    model = tiny(dtype=torch.bfloat16).to("cuda")
    use_kernel(model, kernel)
    assert why_plain(model) is None
    assert check_first_batch(model, every_row()).ok


@pytest.mark.parametrize("name", shapes())
def test_products_shape(name):
    compare(tiny(), shapes()[name], "products", 1e-9, 1e-6)


@pytest.mark.parametrize("heads", [1, 4])
def test_products_key_heads(heads):
    compare(tiny(num_key_value_heads=heads), every_row(), "products", 1e-9, 1e-6)


@pytest.mark.slow
def test_products_under_checkpointing(monkeypatch):
    monkeypatch.setattr(kernels, "PIECE_SCORES", 300)  # many pieces, the last one short
    model = tiny()
    other = twin(model)
    use_kernel(model, "products")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    found = target_logps(model, every_row())
    assert found.path == "packed", found.reason
    assert (
        relative_difference(gradients(model, found.per_token), gradients(other, reference(other, every_row()))) < 1e-6
    )


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_products_sample_the_same_tokens(temperature):
    model = tiny()
    settings = Sampling(8, temperature, seed=4, rows_at_once=3)
    expected = generate(twin(model), PROMPTS, settings=settings)
    use_kernel(model, "products")
    assert generate(model, PROMPTS, settings=settings) == expected


def test_constrained_decoding_by_products():
    model = tiny(dtype=torch.float32)
    use_kernel(model, "products")
    results = generate(
        model,
        PROMPTS,
        settings=Sampling(8, 1.0, rows_at_once=3),
        allowed=lambda row, _: torch.arange(VOCABULARY) % 7 == row,
    )
    assert {r.path for r in results} == {"packed"}
    assert all(token % 7 == row for row, r in enumerate(results) for token in r.tokens)


# Kernels by themselves


def numbers(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("piece_scores", [1, 70, 1 << 24])
@pytest.mark.parametrize("causal", [False, True])
def test_products_are_flash(causal, piece_scores, monkeypatch):
    monkeypatch.setattr(kernels, "PIECE_SCORES", piece_scores)
    queries, keys = (9, 9) if causal else (9, 5)
    query, grad = numbers(2, 3, queries, 6, seed=1), numbers(2, 3, queries, 6, seed=2)
    key, value = numbers(2, 1, keys, 6, seed=3), numbers(2, 1, keys, 6, seed=4)
    flash, products = CpuFlash(), Products()
    wide = [flash.shared(x, 3) for x in (key, value)]
    out, lse = flash.forward(query, *wide, causal, 0.3)
    torch.testing.assert_close(products.forward(query, key, value, causal, 0.3), (out, lse))
    # A log-sum-exp over more keys than these, and its output.
    out, lse = out + numbers(2, 3, queries, 6, seed=5), lse + 1
    expected = flash.backward(grad, query, *wide, out, lse, causal, 0.3)
    found = products.backward(grad, query, key, value, out, lse, causal, 0.3)
    torch.testing.assert_close(found, (expected[0], *(x.sum(1, keepdim=True) for x in expected[1:])))


@pytest.mark.parametrize("piece_scores", [1, 1 << 24])
def test_products_take_a_bias(piece_scores, monkeypatch):
    monkeypatch.setattr(kernels, "PIECE_SCORES", piece_scores)
    query, key, bias = numbers(2, 3, 4, 6, seed=1), numbers(2, 3, 5, 6, seed=2), numbers(2, 3, 4, 5, seed=3)
    grad = numbers(2, 3, 4, 6, seed=4)
    bias[:, :, :, 2] = -torch.inf
    out, lse = CpuFlash().forward(query, key, key, False, 0.3, bias)
    torch.testing.assert_close(Products().forward(query, key, key, False, 0.3, bias), (out, lse))
    asked = (grad, query, key, key, out, lse, False, 0.3, bias)
    torch.testing.assert_close(Products().backward(*asked), CpuFlash().backward(*asked))


def test_gradients_through_a_prefix_are_refused():
    """They would lack what the prefix takes of the softmax."""
    query, key = numbers(1, 4, 9, 8, seed=1).requires_grad_(), numbers(1, 2, 9, 8, seed=2)
    prefix = (numbers(1, 2, 5, 8, seed=3), numbers(1, 2, 5, 8, seed=4))
    out = PRODUCTS.attend(query, key, key, PRODUCTS.plan(((0, 9, 9),), CPU), prefix, 0.3)
    with pytest.raises(ContractError, match="external prefix"):
        out.sum().backward()


@pytest.mark.parametrize("dtype", TRIAL_LIMITS)
@pytest.mark.parametrize("shape", [HeadShape(4, 2, 8), HeadShape(3, 3, 7), HeadShape(4, 1, 16)])
def test_the_trial_passes_what_is_right(shape, dtype):
    assert [trial(kernel, shape, CPU, dtype) for kernel in (*candidates(CPU, dtype), PRODUCTS)] == [None, None]


@pytest.mark.parametrize("part", ["out", "lse", 0, 1, 2])
def test_the_trial_sees_one_wrong_token(part, monkeypatch):
    """Of 351, in one head, by a tenth of its size: in the output, in the log-sum-exp, or in one of the gradients."""
    forward, backward = CpuFlash.forward, CpuFlash.backward

    def spoil(x):
        x = x.clone()
        x[0, 0, 0] = x[0, 0, 0] * 1.1 + (0.1 if x.ndim == 3 else 0.0)
        return x

    def wrong_forward(self, query, *rest, **more):
        out, lse = forward(self, query, *rest, **more)
        wrong = query.shape[2] == 126  # one node of the trial's forest
        return (spoil(out) if wrong and part == "out" else out), (spoil(lse) if wrong and part == "lse" else lse)

    def wrong_backward(self, grad, query, *rest):
        found = list(backward(self, grad, query, *rest))
        if query.shape[2] == 126 and isinstance(part, int):
            found[part] = spoil(found[part])
        return tuple(found)

    monkeypatch.setattr(CpuFlash, "forward", wrong_forward)
    monkeypatch.setattr(CpuFlash, "backward", wrong_backward)
    assert "is off by" in (trial(candidates(CPU, torch.float32)[0], HeadShape(4, 2, 8), CPU, torch.float32) or "")


def test_a_kernel_that_fails_is_named_and_the_model_goes_on():
    model = tiny(dtype=torch.float32)
    other = twin(model)
    use_kernel(model, "flex")  # whose gradients do not exist on a CPU
    found = target_logps(model, every_row()[:4])
    assert found.path == "plain"
    assert "the kernel that was asked for fails here (flex: NotImplementedError" in (found.reason or "")
    torch.testing.assert_close(found.per_token, reference(other, every_row()[:4]), atol=2e-5, rtol=2e-5)
    use_kernel(model, None)
    assert target_logps(model, every_row()[:4]).path == "packed"
    assert support(model).kernel.name == "flash"


def test_unknown_kernels_are_refused():
    with pytest.raises(
        ContractError, match='no attention kernel "levels" on cpu, expected one of flash, flex, products'
    ):
        use_kernel(tiny(), "levels")


def test_a_kernel_that_fails_in_the_first_batch_counts_as_wrong(monkeypatch):
    model = tiny(dtype=torch.float32)
    assert why_plain(model) is None

    def fail(*_):
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(CpuFlash, "backward", fail)
    check = check_first_batch(model, every_row()[:4])
    assert (check.ok, check.gradient_difference, check.loss_limit) == (False, 1.0, 0.0)
    assert check.reason == "the packed form fails on the first batch: an illegal memory access"


def test_not_a_number_is_no_agreement(monkeypatch):
    model = tiny(dtype=torch.float32)
    assert why_plain(model) is None
    forward = CpuFlash.forward
    monkeypatch.setattr(CpuFlash, "forward", lambda *a, **k: (forward(*a, **k)[0] * torch.nan, forward(*a, **k)[1]))
    assert not check_first_batch(model, every_row()[:4]).ok


def test_weights_on_several_devices_are_refused():
    model = tiny(dtype=torch.float32)
    model.model.layers[1].mlp = model.model.layers[1].mlp.to("meta")
    from lastresort.engine.parts import take_apart
    from lastresort.engine.support import _refused_by_configuration

    assert _refused_by_configuration(take_apart(model)) == "its weights lie on several devices"


# What a forest's mask is


def forests():
    rows = {name: plan_forest(found).nodes for name, found in shapes().items()}
    long = [Row(draw(200, 1) + draw(90 + 60 * i, 2 + i), (*[False] * (289 + 60 * i), True)) for i in range(4)]
    return {**rows, "long": plan_forest(long).nodes, "trial": TRIAL_FOREST}


def visible(nodes):
    """Straight from what a forest is: a token sees its ancestors' tokens, and its own node up to itself."""
    tokens = nodes[-1][1]
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for start, end, last in nodes:
        seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        seen[end:last, start:end] = True
    return seen


@pytest.mark.parametrize("name", forests())
def test_block_mask(name):
    nodes = forests()[name]
    seen = visible(nodes)
    tokens = len(seen)
    mask = block_mask(nodes, CPU)
    places = torch.arange(tokens)
    assert bool((mask.mask_mod(None, None, places[:, None], places[None]) == seen).all())
    some, whole = blocks(torch.tensor([last for start, end, last in nodes for _ in range(start, end)]))
    for i in range(len(some)):
        for j in range(len(some)):
            block = seen[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
            assert bool(some[i, j]) == bool(block.any())
            assert bool(whole[i, j]) == (i != j and bool(block.all()))  # the diagonal is never whole for a causal mask


@pytest.mark.parametrize("with_prefix", [False, True])
def test_flex_is_products(with_prefix):
    query, key, value = (numbers(1, h, 351, 8, seed=i, dtype=torch.float32) for i, h in enumerate((4, 2, 2)))
    prefix = tuple(numbers(1, 2, 20, 8, seed=9 + i, dtype=torch.float32) for i in range(2)) if with_prefix else None
    flex = ByMask(compiled=False)
    found = flex.attend(query, key, value, flex.plan(TRIAL_FOREST, CPU), prefix, 0.3)
    torch.testing.assert_close(
        found,
        PRODUCTS.attend(query, key, value, PRODUCTS.plan(TRIAL_FOREST, CPU), prefix, 0.3),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", forests())
def test_levels_are_all_that_is_seen(name):
    nodes = forests()[name]
    seen = torch.zeros_like(visible(nodes))
    for start, end, _ in nodes:
        seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
    for level in parents_by_level(nodes):
        assert all(before[2] <= after[0] for before, after in pairwise(level))  # nothing in common
        for start, end, last in level:
            assert not bool(seen[end:last, start:end].any())  # each pair once
            seen[end:last, start:end] = True
    assert bool((seen == visible(nodes)).all())


@pytest.mark.parametrize("together", [0, 6, 60, 1000])
@pytest.mark.parametrize("name", forests())
def test_calls_are_all_that_is_seen(name, together):
    nodes = forests()[name]
    seen = torch.zeros(nodes[-1][1], nodes[-1][1], dtype=torch.int)
    calls = calls_of(nodes, CPU, together=together)
    for start, end, bias in calls.own:
        shown = torch.ones(end - start, end - start).tril() if bias is None else bias[0, 0].exp()
        assert bias is None or end - start <= together
        seen[start:end, start:end] += shown.int()
    for start, end, last in calls.above:
        seen[end:last, start:end] += 1
    assert bool((seen == visible(nodes)).all())  # each pair once
    if together == 0:
        assert (len(calls.own), len(calls.above)) == (len(nodes), sum(last > end for _, end, last in nodes))
    if together == 1000 and nodes[-1][1] <= 1000:
        assert len(calls.own) == 1


@pytest.mark.parametrize("with_prefix", [False, True])
@pytest.mark.parametrize("name", forests())
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str
)
def test_nodes_together_are_nodes_apart(name, dtype, limit, with_prefix):
    """Outputs and gradients do not depend on which nodes share a call."""
    nodes = forests()[name]
    inputs = [numbers(1, heads, nodes[-1][1], 8, seed=i, dtype=dtype) for i, heads in enumerate((4, 2, 2))]
    prefix = tuple(numbers(1, 2, 20, 8, seed=9 + i, dtype=dtype) for i in range(2)) if with_prefix else None
    found = []
    for together in (0, 6, 60, 1000):
        kernel = ByNode(CpuFlash(), together)
        query, key, value = (x.clone().requires_grad_(not with_prefix) for x in inputs)
        out = kernel.attend(query, key, value, kernel.plan(nodes, CPU), prefix, 0.3)
        if not with_prefix:
            (out * numbers(*out.shape, seed=5, dtype=dtype)).sum().backward()
        found.append([x.detach() for x in (out, query.grad, key.grad, value.grad) if x is not None])
    for other in found[1:]:
        for x, y in zip(other, found[0], strict=True):
            assert relative_difference({"x": x}, {"x": y}) <= limit
