"""Layers with their adapters as one step of autograd: the same numbers as the packed form through PEFT, and no other model's."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from engine_support import row, shapes, tiny
from lastresort.engine import forward
from lastresort.engine.fused import fused_layers
from lastresort.engine.logp import target_logps
from lastresort.engine.parts import take_apart
from lastresort.train.adapters import adapters_in_base_precision

FUSED = ("llama", "mistral", "qwen2")
BIASED = {"attention_bias": True, "mlp_bias": True}
ATTENTION = ["q_proj", "v_proj"]


def adapted(
    family="llama", dtype=torch.float64, *, targets="all-linear", trained=True, seed=0, changes=None, **settings
):
    """A tiny model with adapters that change its answers."""
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", **settings)
    model = get_peft_model(tiny(family, dtype, seed=seed, **(changes or {})), config)
    if trained:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
    return model.train()


def learnt(model, rows, monkeypatch, *, fused):
    """Log-probabilities, and the gradients of a loss in which every token weighs otherwise."""
    used = []

    def seen(trunk):
        used.append(fused_layers(trunk) if fused else None)
        return used[-1]

    with monkeypatch.context() as patch, adapters_in_base_precision(model):
        patch.setattr(forward, "fused_layers", seen)
        found = target_logps(model, rows)
    assert found.path == "packed"
    assert (used[0] is not None) == fused
    weights = torch.linspace(0.5, 1.5, len(found.per_token), dtype=found.per_token.dtype)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad((found.per_token * weights).sum(), list(trained.values()), allow_unused=True)
    return found.per_token.detach(), dict(zip(trained, gradients, strict=True))


def apart(a, b):
    """Norm of the difference over the norm."""
    top = sum(float((x.double() - y.double()).square().sum()) for x, y in zip(a, b, strict=True))
    return (top / sum(float(y.double().square().sum()) for y in b)) ** 0.5


@pytest.mark.parametrize("name", shapes())
def test_a_fused_layer_computes_what_peft_and_autograd_compute(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = adapted(), shapes()[name]
    logps, gradients = learnt(model, rows, monkeypatch, fused=True)
    expected, expected_gradients = learnt(model, rows, monkeypatch, fused=False)
    # Llama's norms are in float32 whatever the weights are in, so that their gradient rounds.
    assert torch.allclose(logps, expected, rtol=0, atol=1e-6)
    for parameter, gradient in expected_gradients.items():
        assert apart([gradients[parameter]], [gradient]) < 1e-5, parameter


@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("targets", ["all-linear", ATTENTION], ids=["all", "attention"])
def test_every_family_and_any_of_its_linear_layers(
    family: str, targets: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = adapted(family, targets=targets, use_rslora=True), shapes()["several levels"]
    logps, gradients = learnt(model, rows, monkeypatch, fused=True)
    expected, expected_gradients = learnt(model, rows, monkeypatch, fused=False)
    assert torch.allclose(logps, expected, rtol=0, atol=1e-6)
    assert apart(gradients.values(), expected_gradients.values()) < 1e-5


def test_biases_of_all_linear_layers_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = adapted(changes=BIASED), shapes()["several levels"]
    logps, gradients = learnt(model, rows, monkeypatch, fused=True)
    expected, expected_gradients = learnt(model, rows, monkeypatch, fused=False)
    assert torch.allclose(logps, expected, rtol=0, atol=1e-6)
    assert apart(gradients.values(), expected_gradients.values()) < 1e-5


def test_ranks_and_scales_of_single_layers_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(rank_pattern={"q_proj": 2, "down_proj": 7}, alpha_pattern={"v_proj": 20})
    logps, gradients = learnt(model, shapes()["one row"], monkeypatch, fused=True)
    expected, expected_gradients = learnt(model, shapes()["one row"], monkeypatch, fused=False)
    assert torch.allclose(logps, expected, rtol=0, atol=1e-6)
    assert apart(gradients.values(), expected_gradients.values()) < 1e-5


def test_in_bf16_it_is_as_near_to_the_true_gradient_as_peft_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, off = shapes()["several levels"], {True: 0.0, False: 0.0}
    for seed in range(6):
        low, exact = adapted(dtype=torch.bfloat16, seed=seed), adapted(seed=seed)
        exact.load_state_dict({name: weight.double() for name, weight in low.state_dict().items()})
        _, true = learnt(exact, rows, monkeypatch, fused=False)
        for fused in off:
            off[fused] += apart(learnt(low, rows, monkeypatch, fused=fused)[1].values(), true.values()) / 6
    assert off[True] < 1.1 * off[False]


def test_gradients_keep_the_precision_of_the_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(dtype=torch.bfloat16)
    _, gradients = learnt(model, shapes()["one row"], monkeypatch, fused=True)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


def test_what_computes_anything_else_is_not_fused() -> None:
    def fusable(model):
        return fused_layers(take_apart(model).trunk) is not None

    assert fusable(adapted())
    assert not fusable(adapted("qwen3"))  # norms of queries and keys
    assert not fusable(adapted("gemma"))
    assert not fusable(adapted(use_dora=True))
    assert not fusable(adapted(lora_bias=True))
    assert not fusable(adapted(modules_to_save=["embed_tokens"]))
    assert not fusable(adapted(changes={"hidden_act": "gelu"}))
    assert not fusable(tiny().train())  # its own weights are trained

    checkpointed = adapted()
    checkpointed.get_base_model().gradient_checkpointing_enable()
    assert not fusable(checkpointed)

    hooked = adapted()
    hooked.get_base_model().model.layers[1].mlp.register_forward_hook(lambda *_: None)
    assert not fusable(hooked)

    merged = adapted()
    merged.merge_adapter()
    assert not fusable(merged)

    norms = adapted()
    norms.get_base_model().model.layers[0].input_layernorm.weight.requires_grad_(True)
    assert not fusable(norms)

    several = adapted()
    several.add_adapter("second", several.peft_config["default"])
    several.base_model.set_adapter(["default", "second"])
    assert not fusable(several)

    replaced = adapted()
    replaced.get_base_model().model.layers[0].self_attn.o_proj = nn.Identity()
    assert not fusable(replaced)


def test_an_adapter_that_is_off_is_left_out() -> None:
    model, rows = adapted(), [row((3, 4, 5), (6, 7))]
    with model.disable_adapter():
        assert all(linear.a is None for layer in fused_layers(take_apart(model).trunk) for linear in layer.linears)
        off = target_logps(model, rows).per_token
    assert torch.allclose(off, target_logps(tiny(), rows).per_token, rtol=0, atol=1e-6)
    assert not torch.allclose(off, target_logps(model, rows).per_token, rtol=0, atol=1e-3)
