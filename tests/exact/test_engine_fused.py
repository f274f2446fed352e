"""Layers with their adapters as one step of autograd: the same numbers as the packed form through PEFT, and no other model's."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from engine_support import row, saved_beside_weights, shapes, tiny
from lastresort.engine import parts as forward
from lastresort.engine.choose import Sampling
from lastresort.engine.fused import fused_layers
from lastresort.engine.logp import target_logps
from lastresort.engine.parts import take_apart
from lastresort.engine.sampling import generate
from lastresort.train.adapters.adapters import adapters_in_base_precision

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


def assert_the_same(model, rows, monkeypatch):
    """Whether the layers are fused or not. Llama's norms are in float32 whatever the weights are in, so that gradients round."""
    logps, gradients = learnt(model, rows, monkeypatch, fused=True)
    expected, expected_gradients = learnt(model, rows, monkeypatch, fused=False)
    assert torch.allclose(logps, expected, rtol=0, atol=1e-6)
    assert apart(gradients.values(), expected_gradients.values()) < 1e-5
    return gradients, expected_gradients


@pytest.mark.parametrize("name", shapes())
def test_a_fused_layer_computes_what_peft_and_autograd_compute(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients, expected_gradients = assert_the_same(adapted(), shapes()[name], monkeypatch)
    for parameter, gradient in expected_gradients.items():
        assert apart([gradients[parameter]], [gradient]) < 1e-5, parameter


@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("targets", ["all-linear", ATTENTION], ids=["all", "attention"])
def test_every_family_and_any_of_its_linear_layers(
    family: str, targets: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = adapted(family, targets=targets, use_rslora=True), shapes()["several levels"]
    assert_the_same(model, rows, monkeypatch)


def test_biases_of_all_linear_layers_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = adapted(changes=BIASED), shapes()["several levels"]
    assert_the_same(model, rows, monkeypatch)


def test_ranks_and_scales_of_single_layers_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(rank_pattern={"q_proj": 2, "down_proj": 7}, alpha_pattern={"v_proj": 20})
    assert_the_same(model, shapes()["one row"], monkeypatch)


def test_in_bf16_it_is_as_near_to_the_true_gradient_as_peft_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, off = shapes()["several levels"], {True: 0.0, False: 0.0}
    for seed in range(6):
        low, exact = adapted(dtype=torch.bfloat16, seed=seed), adapted(seed=seed)
        exact.load_state_dict({name: weight.double() for name, weight in low.state_dict().items()})
        _, true = learnt(exact, rows, monkeypatch, fused=False)
        for fused in off:
            off[fused] += apart(learnt(low, rows, monkeypatch, fused=fused)[1].values(), true.values()) / 6
    assert off[True] < 1.1 * off[False]


def test_adapters_of_some_layers_and_a_first_layer_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(targets=["k_proj", "gate_proj"], layers_to_transform=[1])
    assert_the_same(model, shapes()["several levels"], monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("targets", ["all-linear", ATTENTION], ids=["all", "attention"])
def test_backward_keeps_less_than_autograd_does(
    dtype: torch.dtype, targets: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which the plan of a run's memory counts on every device."""
    model, rows, kept = adapted(dtype=dtype, targets=targets), shapes()["several levels"], {}
    for fused in (True, False):
        with saved_beside_weights(model) as saved:
            learnt(model, rows, monkeypatch, fused=fused)
        kept[fused] = sum(saved.values())
    assert kept[True] < kept[False]


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_answers_with_an_adapter_are_those_of_the_models_own_forward(
    trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a common prefix, prompts of several lengths and rows that end at different steps."""
    model = adapted(trained=trained).eval()
    prompts = [(*range(3, 40), *range(50, 50 + more)) for more in (1, 4, 9, 2)]
    settings = Sampling(max_new_tokens=12, temperature=1.0, seed=3, rows_at_once=3, stop_ids=frozenset({5, 6, 7}))
    found = generate(model, prompts, settings=settings)
    assert fused_layers(take_apart(model).trunk) is not None
    with monkeypatch.context() as patch:
        patch.setattr(forward, "fused_layers", lambda trunk: None)
        expected = generate(model, prompts, settings=settings)
    assert [one.tokens for one in found] == [one.tokens for one in expected]


def test_a_call_looks_at_the_layers_once_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, looked, known = adapted().eval(), [], forward.fused_layers
    generate(model, [(3, 4)], settings=Sampling(max_new_tokens=1))  # the model itself is looked at once
    monkeypatch.setattr(forward, "fused_layers", lambda trunk: looked.append(1) or known(trunk))
    for shared in ((3, 4), tuple(range(3, 36))):  # of the second the beginning is computed once, and looks for itself
        counts = []
        for steps in (2, 12):
            looked.clear()
            generate(model, [(*shared, 5), (*shared, 6, 7)], settings=Sampling(max_new_tokens=steps))
            counts.append(len(looked))
        assert counts == [1 + (len(shared) > 2)] * 2


def test_bf16_answers_are_as_near_to_the_truth_as_those_of_an_adapter_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT would answer with the adapter in float32: what is trained in bf16 is answered in bf16."""
    rows, off = shapes()["several levels"], {"fused": 0.0, "own, in bf16": 0.0}
    for seed in range(6):
        low, exact = adapted(dtype=torch.bfloat16, seed=seed), adapted(seed=seed)
        exact.load_state_dict({name: weight.double() for name, weight in low.state_dict().items()})
        with torch.no_grad():
            true = target_logps(exact, rows).per_token
            found = target_logps(low, rows).per_token
            with monkeypatch.context() as patch, adapters_in_base_precision(low):
                patch.setattr(forward, "fused_layers", lambda trunk: None)
                own = target_logps(low, rows).per_token
        off["fused"] += float((found - true).norm()) / 6
        off["own, in bf16"] += float((own - true).norm()) / 6
    assert off["fused"] < 1.1 * off["own, in bf16"]


def layer_of(model):
    return take_apart(model).trunk.layers[1]


def checkpointed(model):
    take_apart(model).causal.gradient_checkpointing_enable()


def several(model):
    model.add_adapter("second", model.peft_config["default"])
    model.base_model.set_adapter(["default", "second"])


def answered_by_another(model):
    layer_of(model).self_attn.forward = lambda *arguments, **others: None


def of_another_class(model):
    attention = layer_of(model).self_attn
    attention.__class__ = type("Attention", (type(attention),), {})


CHANGES = {
    "activation checkpointing": checkpointed,
    "a hook": lambda model: layer_of(model).mlp.register_forward_hook(lambda *_: None),
    "a hook of a linear layer": lambda model: layer_of(model).mlp.up_proj.register_forward_pre_hook(lambda *_: None),
    "merged": lambda model: model.merge_adapter(),
    "a norm that is trained": lambda model: layer_of(model).input_layernorm.weight.requires_grad_(True),
    "the last norm trained": lambda model: take_apart(model).trunk.norm.weight.requires_grad_(True),
    "a weight that is trained": lambda model: layer_of(model).mlp.up_proj.base_layer.weight.requires_grad_(True),
    "several adapters": several,
    "another layer in place of one": lambda model: setattr(layer_of(model).self_attn, "o_proj", nn.Identity()),
    "another norm": lambda model: setattr(layer_of(model), "input_layernorm", nn.RMSNorm(32)),
    "another activation": lambda model: setattr(layer_of(model).mlp, "act_fn", nn.GELU()),
    "a forward of its own": answered_by_another,
    "a class of its own": of_another_class,
    "attention both ways": lambda model: setattr(layer_of(model).self_attn, "is_causal", False),
    "a weight in another precision": lambda model: layer_of(model).mlp.up_proj.base_layer.to(torch.float32),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_computes_anything_else_is_not_fused(name: str) -> None:
    model = adapted()
    assert fused_layers(take_apart(model).trunk) is not None
    CHANGES[name](model)
    assert fused_layers(take_apart(model).trunk) is None


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("qwen3", {}),  # norms of queries and keys
        ("gemma", {}),
        ("llama", {"use_dora": True}),
        ("llama", {"lora_bias": True}),
        ("llama", {"modules_to_save": ["embed_tokens"]}),
        ("llama", {"changes": {"hidden_act": "gelu"}}),
    ],
)
def test_other_layers_and_adapters_are_not_fused(family: str, settings: dict[str, object]) -> None:
    assert fused_layers(take_apart(adapted(family, **settings)).trunk) is None


def test_layers_whose_own_weights_are_trained_are_not_fused() -> None:
    assert fused_layers(take_apart(tiny().train()).trunk) is None


def test_an_adapter_that_is_off_is_left_out() -> None:
    model, rows = adapted(), [row((3, 4, 5), (6, 7))]
    with model.disable_adapter():
        assert all(linear.a is None for layer in fused_layers(take_apart(model).trunk) for linear in layer.linears)
        off = target_logps(model, rows).per_token
    assert torch.allclose(off, target_logps(tiny(), rows).per_token, rtol=0, atol=1e-6)
    assert not torch.allclose(off, target_logps(model, rows).per_token, rtol=0, atol=1e-3)
