"""The engine on a device that is not the CPU: a pretended one, where a tensor in the wrong place or layout is found out.

No test here runs a kernel of CUDA; tests/exact/test_engine_kernels.py does, where there is a GPU.
"""

import pytest
import torch

from engine_support import draw, every_row, gradients, relative_difference, tiny, twin
from lastresort.engine import kernels, levels
from lastresort.engine.attention import ByNode
from lastresort.engine.cache import PrefixCache
from lastresort.engine.choose import choose, restrict, to_choose_from
from lastresort.engine.kernel_choice import CANDIDATES, HeadShape, trial
from lastresort.engine.kernels import CudaEfficient, CudaFlash
from lastresort.engine.levels import ByLevel
from lastresort.engine.logp import row_sums, score_continuations, target_logps
from lastresort.engine.sampling import Sampling, generate
from lastresort.engine.support import check_first_batch, support
from pretend_device import Far, moved, pretend

PROMPTS = [draw(40, 1) + draw(2 + 3 * (i % 4), i) for i in range(7)]
CASES = [
    ("cuda", "llama", torch.float32, "efficient"),
    ("cuda", "qwen3", torch.float32, "efficient"),
    ("cuda", "gpt2", torch.float64, "products"),
    ("mps", "phi", torch.float32, "products"),
    ("xpu", "llama", torch.float32, "products"),
]
LIMITS = {torch.float64: (1e-9, 1e-6), torch.float32: (1e-5, 1e-4)}


def near(x):
    return x.cpu() if isinstance(x, Far) else x


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("name", "family", "dtype", "kernel"), CASES)
def test_log_probabilities_and_gradients(name, family, dtype, kernel):
    model = tiny(family, dtype)
    other = twin(model)
    loss_limit, gradient_limit = LIMITS[dtype]
    expected = target_logps(other, every_row())
    with pretend(name) as device:
        moved(model, device)
        found = target_logps(model, every_row())
        assert (found.path, support(model).kernel.name, support(model).passed_over) == ("packed", kernel, ())
        assert found.per_token.device == found.row.device == device
        computed = {name: near(x) for name, x in gradients(model, found.per_token).items()}
        sums = near(row_sums(found.per_token, found.row, len(every_row())))
        check = check_first_batch(model, every_row()[:4])
        assert check.ok, check.reason
    assert relative_difference(computed, gradients(other, expected.per_token)) <= gradient_limit
    torch.testing.assert_close(
        sums.detach(), row_sums(expected.per_token, expected.row, len(every_row())).detach(), atol=1e-3, rtol=loss_limit
    )


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("name", "family", "dtype", "kernel"), CASES)
def test_the_same_tokens_as_on_the_cpu(name, family, dtype, kernel):
    """Random numbers are the host's, so that a seed means the same everywhere."""
    model = tiny(family, dtype)
    settings = Sampling(6, 0.8, seed=3, rows_at_once=3)
    expected = generate(twin(model), PROMPTS, settings=settings)
    with pretend(name) as device:
        found = generate(moved(model, device), PROMPTS, settings=settings, prefixes=PrefixCache(reuse_parts=True))
    assert found == expected


@pytest.mark.parametrize(
    "settings", [Sampling(1), Sampling(1, 1.0), Sampling(1, 0.7, top_p=0.8), Sampling(1, 1.3, top_k=5, top_p=0.9)]
)
def test_tokens_are_chosen_where_cuda_has_the_logits(settings, monkeypatch):
    logits = torch.randn(6, 70, generator=torch.Generator().manual_seed(3)) * 3
    bits, flags = torch.tensor([-4, 2**31 - 1], dtype=torch.int32), torch.arange(60) % 3 == 0
    masks, draws = [None, bits, flags, None, flags, None], [0.0, 0.2, 0.5, 0.7, 0.9, 1 - 2**-53]
    with pretend("cuda") as device:
        far = to_choose_from(logits.to(device))
        restrict(logits, masks)
        expected = choose(logits, settings, draws)
        monkeypatch.setattr(Far, "cpu", lambda self: pytest.fail("all logits are copied to the host"))
        restrict(far, masks)
        assert choose(far, settings, draws) == expected


@pytest.mark.slow
def test_bfloat16_trains_and_samples_by_levels():
    model = tiny(dtype=torch.bfloat16)
    exact = twin(model).float()
    expected = target_logps(exact, every_row())
    plain = target_logps(twin(model), every_row(), plain=True)
    with pretend("cuda") as device:
        moved(model, device)
        found = target_logps(model, every_row())
        assert (found.path, support(model).kernel.name) == ("packed", "levels")
        computed = {name: near(x) for name, x in gradients(model, found.per_token).items()}
        results = generate(model, PROMPTS, settings=Sampling(6))
        assert {r.path for r in results} == {"packed"}
        check = check_first_batch(model, every_row()[:4])
        assert check.ok, check.reason
    errors = [float((near(x.per_token) - expected.per_token).detach().abs().mean()) for x in (found, plain)]
    assert errors[0] <= 1.25 * errors[1] + 1e-3
    assert relative_difference(computed, gradients(exact, expected.per_token)) < 0.1


@pytest.mark.slow
def test_scores_of_continuations():
    model = tiny(dtype=torch.float32)
    prompts, choices = [list(p) for p in PROMPTS[:3]], [[[11], [12, 13]], [[12], []], [[13], [11, 12]]]
    expected = score_continuations(twin(model), prompts, choices)
    with pretend("cuda") as device:
        found = score_continuations(moved(model, device), prompts, choices)
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_a_misplaced_tensor_is_found_out(monkeypatch):
    """As decoding's positions once were."""
    begin_step = "lastresort.engine.cache.Slots.begin_step"

    def misplaced(self):
        self.lengths = [length + 1 for length in self.lengths]
        self._rows, self._places = torch.arange(len(self.lengths)), torch.tensor(self.lengths) - 1
        self._bias = torch.zeros(len(self.lengths), 1, 1, max(self.lengths))

    monkeypatch.setattr(begin_step, misplaced)
    with pretend("cuda") as device, pytest.raises(RuntimeError, match="same device"):
        generate(moved(tiny(dtype=torch.float32), device), PROMPTS, settings=Sampling(6))


# The kernels of CUDA against what they ask of their callers

KERNELS = [ByLevel(), ByNode(CudaFlash()), ByNode(CudaEfficient())]
HEADS = [HeadShape(4, 2, 8), HeadShape(3, 3, 16), HeadShape(4, 1, 16)]


@pytest.mark.sampled_slow(4)
@pytest.mark.sampled(13)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", HEADS)
def test_kernels_keep_the_demands_of_16_bits(kernel, dtype, shape):
    with pretend("cuda") as device:
        assert trial(kernel, shape, device, dtype) is None


@pytest.mark.sampled(3)
@pytest.mark.parametrize("shape", HEADS)
def test_efficient_attention_keeps_them_in_float32(shape):
    with pretend("cuda") as device:
        assert trial(ByNode(CudaEfficient()), shape, device, torch.float32) is None


@pytest.mark.parametrize("kernel", [ByLevel(), ByNode(CudaFlash())], ids=lambda kernel: kernel.name)
def test_heads_that_flash_does_not_take_are_passed_over(kernel):
    with pretend("cuda") as device:
        assert "multiple of 8" in (trial(kernel, HeadShape(4, 2, 12), device, torch.bfloat16) or "")
        assert "fp16 and bf16" in (trial(kernel, HeadShape(4, 2, 16), device, torch.float32) or "")


@pytest.mark.parametrize("kernel", [ByLevel(), ByNode(CudaFlash())], ids=lambda kernel: kernel.name)
def test_the_wrong_gradient_behind_a_log_sum_exp_that_is_not_contiguous(kernel, monkeypatch):
    """Flash attention reads it by its pointer alone."""
    monkeypatch.setattr(Far, "contiguous", lambda self: self)
    with pretend("cuda") as device:
        assert "gradient" in (trial(kernel, HeadShape(4, 2, 8), device, torch.bfloat16) or "")


def test_the_wrong_gradient_behind_an_output_in_another_layout(monkeypatch):
    """Efficient attention assumes the stride of its output over queries."""
    monkeypatch.setattr(Far, "contiguous", lambda self: self)
    with pretend("cuda") as device:
        assert "gradient" in (trial(ByNode(CudaEfficient()), HeadShape(4, 2, 8), device, torch.float32) or "")


@pytest.mark.slow
def test_a_kernel_that_is_wrong_here_is_passed_over(monkeypatch):
    model = tiny(dtype=torch.bfloat16)
    backward = levels.ranges_backward
    monkeypatch.setattr(levels, "ranges_backward", lambda *given: tuple(2 * x for x in backward(*given)))
    with pretend("cuda") as device:
        found = support(moved(model, device))
        check = check_first_batch(model, every_row()[:4])
    assert (check.kernel, check.passed_over) == ("flash", "; ".join(found.passed_over))  # as training.json tells it
    assert found.refused is None
    assert found.kernel.name == "flash"
    assert found.passed_over == ("levels: its gradient of the query is off by 1e+02%",)


def test_every_precision_of_cuda_ends_in_a_kernel_for_all_shapes():
    assert {found[-1].name for found in CANDIDATES.values()} == {"products"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_signatures_are_those_of_the_installed_torch(dtype):
    """Its own shape functions take these calls and say what comes back."""
    device = torch.device("meta")
    query, key = (torch.empty(2, heads, 10, 16, dtype=dtype, device=device) for heads in (3, 1))
    lse = torch.empty(2, 3, 10, device=device)
    for kernel in (CudaFlash(), CudaEfficient()):
        wide = kernel.shared(key, 3)
        out, found = kernel.forward(query, wide, wide, True, 0.3)
        assert (out.shape, found.shape) == (query.shape, lse.shape)
        computed = kernel.backward(query, query, wide, wide, out, lse, True, 0.3)
        assert [x.shape for x in computed] == [query.shape, wide.shape, wide.shape]
    rows, keys = query.view(20, 3, 16), key.view(20, 1, 16)
    ranges = levels.Ranges(slice(0, 20), torch.empty(3, dtype=torch.int32, device=device), 10)
    out, found = levels.ranges_forward(rows, keys, keys, ranges, ranges, True, 0.3)
    assert (out.shape, found.shape) == (rows.shape, (3, 20))
    computed = levels.ranges_backward(rows, rows, keys, keys, out, found, ranges, ranges, True, 0.3)
    assert [x.shape for x in computed] == [rows.shape, keys.shape, keys.shape]
    assert kernels.no_random_state(rows).device == device
