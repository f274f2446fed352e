"""-KL(far || model) at the targets of some rows, packed and plain, against full logits of both models, row by row."""

from dataclasses import replace

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from engine_support import FAMILIES, every_row, gradients, reference, relative_difference, tiny, twin
from lastresort.engine import parts
from lastresort.engine.divergence import Far, divergence_of
from lastresort.engine.logp import target_logps, target_states
from lastresort.engine.parts import Head, take_apart, target_logps_of
from lastresort.engine.support import support
from lastresort.errors import ContractError
from lastresort.hardware.plan.memory import DIVERGENCE_BYTES


def moved(model, *, head=False):
    """Another model of the same form: its trunk, and where asked its output layer, are moved at random."""
    other = twin(model)
    own = {id(p) for p in other.get_output_embeddings().parameters()}
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in other.parameters():
            if head or id(p) not in own:
                p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return other


def frozen(model):
    for p in model.get_output_embeddings().parameters():
        p.requires_grad_(False)
    return model


def full_divergence(model, other, rows):
    """Row by row on full logits."""
    parts = []
    for r in rows:
        ids = torch.tensor([r.ids])
        wanted = torch.tensor(r.targets[1:])
        own = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)[wanted]
        with torch.no_grad():
            far = other(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)[wanted]
        parts.append(-(far.exp() * (far - own)).sum(-1))
    return torch.cat(parts)


def expected(model, other, rows, soft):
    return torch.cat(
        [full_divergence(model, other, [r]) if s else reference(model, [r]) for r, s in zip(rows, soft, strict=True)]
    )


def compare(model, other, *, plain=False, far_head=None, loss=1e-9, gradient=1e-6):
    rows = every_row()
    soft = [number % 3 != 1 for number in range(len(rows))]
    states = target_states(other, rows, plain=plain)
    far = Far([one if s else None for one, s in zip(states, soft, strict=True)], far_head)
    own = twin(model)
    wanted = expected(own, other, rows, soft)
    found = target_logps(model, rows, plain=plain, far=far)
    assert found.path == ("plain" if plain else "packed")
    assert float((found.per_token - wanted).abs().max()) <= loss * max(1.0, float(wanted.abs().max()))
    assert relative_difference(gradients(model, found.per_token), gradients(own, wanted)) <= gradient


@pytest.mark.sampled(10, each="plain")
@pytest.mark.parametrize("plain", [False, True], ids=["packed", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, plain):
    model = frozen(tiny(family, tie_word_embeddings=False))
    compare(model, moved(model), plain=plain)


def test_many_pieces(monkeypatch):
    monkeypatch.setattr("lastresort.engine.parts.PIECE_LOGITS", 7 * 97)
    model = frozen(tiny(tie_word_embeddings=False))
    compare(model, moved(model))


def test_a_frozen_head_with_bias_and_scale(monkeypatch):
    monkeypatch.setattr("lastresort.engine.parts.PIECE_LOGITS", 7 * 97)
    for family in ("phi", "granite"):
        model = frozen(tiny(family, tie_word_embeddings=False))
        compare(model, moved(model))


def test_capped_logits(monkeypatch):
    monkeypatch.setattr("lastresort.engine.parts.PIECE_LOGITS", 7 * 97)
    model = frozen(
        tiny("gemma2", head_dim=16, attn_logit_softcapping=None, final_logit_softcapping=2.0, tie_word_embeddings=False)
    )
    compare(model, moved(model), loss=1e-6, gradient=1e-5)  # its eager attention has its softmax in float32


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_head_that_is_trained_is_compared_with_the_other_models_own(tied):
    model = tiny(tie_word_embeddings=tied)
    other = moved(model, head=True)
    compare(model, other, far_head=take_apart(other).head)


def test_float32():
    model = frozen(tiny(dtype=torch.float32, tie_word_embeddings=False))
    compare(model, moved(model), loss=1e-5, gradient=1e-4)


def test_a_model_is_at_no_distance_from_itself():
    model = frozen(tiny(tie_word_embeddings=False))
    rows = every_row()
    found = target_logps(model, rows, far=Far(target_states(model, rows)))
    assert float(found.per_token.abs().max()) < 1e-12
    assert max(float(g.abs().max()) for g in gradients(model, found.per_token).values()) < 1e-12


def test_far_states_get_no_gradient():
    model = frozen(tiny(tie_word_embeddings=False))
    rows = every_row()
    states = [one.requires_grad_() for one in target_states(moved(model), rows)]
    target_logps(model, rows, far=Far(states)).per_token.sum().backward()
    assert all(one.grad is None for one in states)


def test_a_model_whose_head_is_not_known_is_refused(monkeypatch):
    model = tiny("llama")
    rows = every_row()
    far = Far(target_states(model, rows))
    unknown = replace(support(model), head=None, refused="its head is not known")
    monkeypatch.setattr("lastresort.engine.logp.support", lambda _: unknown)
    with pytest.raises(ContractError, match="whose logits are not known to follow"):
        target_logps(model, rows, plain=True, far=far)
    with pytest.raises(ContractError, match="whose logits are not known to follow"):
        target_states(model, rows, plain=True)


class LargeTensors(TorchDispatchMode):
    """The most bytes that tensors of at least `least_bytes` held at once."""

    def __init__(self, least_bytes):
        super().__init__()
        self._least_bytes, self._live, self.most_bytes = least_bytes, {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() >= self._least_bytes:
                storage = tensor.untyped_storage()
                self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._live = {key: kept for key, kept in self._live.items() if not kept[0].expired()}
        self.most_bytes = max(self.most_bytes, sum(size for _, size in self._live.values()))
        return result


@pytest.mark.parametrize(
    ("dtype", "trained", "loss", "bytes_a_logit"),
    [
        (torch.float32, False, "kl", DIVERGENCE_BYTES),
        (torch.float32, True, "kl", DIVERGENCE_BYTES),
        (torch.bfloat16, False, "kl", DIVERGENCE_BYTES),
        (torch.float32, False, "likelihood", 4),
        (torch.bfloat16, False, "likelihood", 6),
    ],
)
def test_at_most_what_the_memory_plan_counts_of_a_piece_is_alive(dtype, trained, loss, bytes_a_logit, monkeypatch):
    """Over several pieces, of which one must not wait for the next, and in the backward."""
    words, width, places, piece = 1000, 4, 100, 40
    monkeypatch.setattr(parts, "PIECE_LOGITS", piece * words)
    draws = torch.Generator().manual_seed(3)
    own, far = (
        Head(torch.nn.Linear(width, words, bias=False, dtype=dtype).requires_grad_(learns), 1.0, None)
        for learns in (trained, False)
    )
    states = torch.randn(places, width, generator=draws).to(dtype).requires_grad_()
    other, every = states.detach() + 1, torch.arange(places)
    with LargeTensors(piece * words // 2) as found:
        if loss == "kl":
            values = divergence_of(states, other, own, far if trained else None)
        else:
            values = target_logps_of(states, every, every, own)
        values.sum().backward()
    assert found.most_bytes == piece * words * bytes_a_logit
