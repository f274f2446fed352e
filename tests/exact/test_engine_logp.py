"""Packed = plain: log-probabilities and gradients against each model's own forward, row by row, on full logits."""

import pytest
import torch

from engine_support import FAMILIES, draw, every_row, gradients, reference, relative_difference, row, shapes, tiny, twin
from lastresort.engine.attention import TOGETHER, calls_of
from lastresort.engine.forest import split_passes
from lastresort.engine.logp import score_continuations, target_logps
from lastresort.engine.plain import plain_logps
from lastresort.engine.support import TOLERANCES, check_first_batch
from lastresort.errors import ContractError
from lastresort.objectives.answers import sft


def compare(model, rows, loss_limit, gradient_limit):
    other = twin(model)
    found = target_logps(model, rows)
    assert found.path == "packed", found.reason
    expected = reference(other, rows)
    assert found.row.tolist() == [i for i, r in enumerate(rows) for wanted in r.targets if wanted]
    scale = max(1.0, float(expected.abs().max()))
    assert float((found.per_token - expected).abs().max()) <= loss_limit * scale
    assert relative_difference(gradients(model, found.per_token), gradients(other, expected)) <= gradient_limit


@pytest.fixture(params=[0, TOGETHER], ids=["apart", "together"])
def calls(request, monkeypatch):
    """Small nodes in calls of their own, whose parts are merged, and sharing one."""
    monkeypatch.setattr(
        "lastresort.engine.attention.calls_of",
        lambda nodes, device, **_: calls_of(nodes, device, together=request.param),
    )


@pytest.mark.sampled(6)
@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("family", FAMILIES)
def test_family_float64(family):
    compare(tiny(family), every_row(), 1e-9, 1e-6)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_family_float32(family):
    compare(tiny(family, torch.float32), every_row(), 1e-5, 1e-4)


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("name", shapes())
def test_shape(name):
    compare(tiny(), shapes()[name], 1e-9, 1e-6)


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("heads", [1, 4])
def test_key_heads(heads):
    compare(tiny(num_key_value_heads=heads), every_row(), 1e-9, 1e-6)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("family", ["llama", "granite", "phi"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_head(family, tied, frozen, monkeypatch):
    monkeypatch.setattr("lastresort.engine.parts.PIECE_LOGITS", 7 * 97)  # many pieces, the last one short
    model = tiny(family, tie_word_embeddings=tied)
    if frozen:
        for p in model.get_output_embeddings().parameters():
            p.requires_grad_(False)
    compare(model, every_row(), 1e-9, 1e-6)


def test_capped_logits(monkeypatch):
    monkeypatch.setattr("lastresort.engine.parts.PIECE_LOGITS", 7 * 97)
    model = tiny(
        "gemma2", head_dim=16, attn_logit_softcapping=None, final_logit_softcapping=2.0, tie_word_embeddings=False
    )
    model.get_output_embeddings().weight.requires_grad_(False)
    compare(model, every_row(), 1e-6, 1e-5)  # its eager attention has its softmax in float32


@pytest.mark.sampled(5, each="checkpointing")
@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lora(dtype, checkpointing):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        tiny(dtype=dtype), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.data = p.data.to(dtype).normal_(std=0.2)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    exact = dtype == torch.float64
    compare(model, every_row(), 1e-9 if exact else 1e-5, 1e-6 if exact else 1e-4)
    with torch.no_grad():
        adapted = target_logps(model, every_row()).per_token
        with model.disable_adapter():
            base = target_logps(model, every_row()).per_token
            torch.testing.assert_close(base, reference(model, every_row()), atol=1e-5, rtol=1e-5)
    assert float((adapted - base).abs().max()) > 0.1


def test_checkpointing_of_a_full_model_survives_a_plain_forward_before_its_backward():
    model = tiny()
    other = twin(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    packed = target_logps(model, every_row()).per_token
    plain = target_logps(model, every_row(), plain=True).per_token
    torch.testing.assert_close(plain, packed, atol=1e-9, rtol=1e-9)
    assert relative_difference(gradients(model, packed), gradients(other, reference(other, every_row()))) < 1e-6


def test_bfloat16_is_no_worse_than_plain_bfloat16():
    exact = tiny(dtype=torch.float32)
    model = tiny(dtype=torch.bfloat16)
    with torch.no_grad():
        for a, b in zip(exact.parameters(), model.parameters(), strict=True):
            a.copy_(b)
        expected = reference(exact, every_row())
        plain_error = (reference(twin(model), every_row()) - expected).abs().mean()
        found = target_logps(model, every_row())
    assert found.path == "packed", found.reason
    assert found.per_token.dtype == torch.float32
    assert float((found.per_token - expected).abs().mean()) <= 1.25 * float(plain_error) + 1e-3


@pytest.mark.parametrize("budget", [40, 150, 10_000])
def test_accumulation_changes_nothing(budget):
    rows = every_row()
    whole, cut = tiny(), tiny()
    count = sum(sum(r.targets) for r in rows)
    (sft(target_logps(whole, rows).per_token).sum() / count).backward()
    for part in split_passes(rows, budget):
        (sft(target_logps(cut, part).per_token).sum() / count).backward()
    a, b = ({n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (whole, cut))
    assert relative_difference(a, b) < 1e-7


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom", "mamba"])
def test_plain_path(family):
    changes = {"gemma2": {"head_dim": 16}, "bloom": {"n_layer": 2, "n_head": 4}}.get(family, {})
    model = tiny(family, torch.float32, **changes)
    other = twin(model)
    found = target_logps(model, every_row(), plain=True)
    expected = reference(other, every_row())
    assert (found.path, found.reason) == ("plain", None)
    torch.testing.assert_close(found.per_token, expected, atol=2e-5, rtol=2e-5)
    assert relative_difference(gradients(model, found.per_token), gradients(other, expected)) < 1e-4


def test_tokens_are_counted():
    rows = shapes()["prefix longer than any branch"]
    found, plain = target_logps(tiny(), rows), target_logps(tiny(), rows, plain=True)
    assert found.computed_tokens == 60 + 0 + 1 + 2
    assert found.nominal_tokens == plain.nominal_tokens == 61 + 62 + 63
    assert plain.computed_tokens == 3 * 63


def test_rows_must_be_given():
    with pytest.raises(ContractError, match="no rows"):
        target_logps(tiny(), [])


@pytest.mark.parametrize("budget", [40, 4096])
def test_score_continuations(budget):
    model = tiny()
    prompts = [[5, 6, 7, 8] * 6 + [i] for i in range(3)]
    choices = [[[11], [12], [11, 13, 14], []], [[12]], [[13], [11, 12]]]
    found = score_continuations(model, prompts, choices, max_tokens=budget)
    for prompt, options, scores in zip(prompts, choices, found, strict=True):
        for option, score in zip(options, scores, strict=True):
            logps = model(input_ids=torch.tensor([prompt + option])).logits[0].log_softmax(-1)
            assert score == pytest.approx(
                sum(float(logps[len(prompt) - 1 + i, t]) for i, t in enumerate(option)), abs=1e-9
            )
    with pytest.raises(ContractError, match="empty"):
        score_continuations(model, [[]], [[[1]]])


def test_scores_on_the_plain_path_take_no_more_than_asked(monkeypatch):
    """A prompt with many continuations is short when it is shared, and long when it is padded for each of them."""
    taken = []

    def watched(parts, rows, **how):
        taken.append(len(rows) * max(len(row.ids) for row in rows))
        return plain_logps(parts, rows, **how)

    monkeypatch.setattr("lastresort.engine.logp.plain_logps", watched)
    model = tiny("gemma2", torch.float32)
    prompts, choices = [list(draw(40, 1)), list(draw(20, 2))], [[[i] for i in range(20)], [[5, 6], [7]]]
    found = score_continuations(model, prompts, choices, max_tokens=200)
    assert len(taken) > 4
    assert max(taken) <= 200
    for prompt, options, scores in zip(prompts, choices, found, strict=True):
        rows = [row(prompt, option) for option in options]
        torch.testing.assert_close(
            scores, [float(reference(model, [r]).sum().detach()) for r in rows], atol=1e-4, rtol=1e-4
        )


def test_first_batch_check_passes_and_leaves_gradients_alone():
    model = tiny(dtype=torch.float32)
    model.model.norm.weight.grad = torch.full_like(model.model.norm.weight, 7.0)
    check = check_first_batch(model, every_row()[:4])
    assert check.ok, check.reason
    assert check.gradient_difference is not None
    assert check.gradient_difference < 1e-4
    means = [-float(reference(model, [row]).mean().detach()) for row in every_row()[:4]]
    assert check.largest_loss == pytest.approx(max(means), rel=1e-4)
    assert (check.loss_limit, check.gradient_limit) == TOLERANCES[torch.float32][1:]
    assert float(model.model.norm.weight.grad.mean()) == 7.0
    assert model.model.embed_tokens.weight.grad is None


def unmerged(monkeypatch):
    """A fault: nobody sees what it descends from. Each node has a call of its own, as long ones have."""
    monkeypatch.setattr("lastresort.engine.attention.calls_of", lambda nodes, device, **_: calls_of(nodes, device))
    monkeypatch.setattr("lastresort.engine.attention.merge", lambda out, lse, part, part_lse: None)


def test_first_batch_check_sees_a_wrong_packed_form(monkeypatch):
    model = tiny()
    assert check_first_batch(model, every_row()[:4]).ok
    unmerged(monkeypatch)
    check = check_first_batch(model, every_row()[:4])
    assert not check.ok
    assert "first batch" in (check.reason or "")


@pytest.mark.parametrize(("times", "ok"), [(30, True), (1e-3, False)])
def test_rounding_is_known_by_the_plain_form_and_a_fault_is_not_taken_for_it(times, ok, monkeypatch):
    """As with a trained adapter, whose gradient is mostly rounding: here the limit is put below it, and the losses say nothing."""
    monkeypatch.setitem(TOLERANCES, torch.bfloat16, (1.0, torch.inf, 1e-9))
    monkeypatch.setattr("lastresort.engine.support.OWN_DIFFERENCES", times)
    model = tiny(dtype=torch.bfloat16)
    check = check_first_batch(model, every_row()[:4])
    assert check.ok is ok, check.reason
    assert check.gradient_difference is not None
    assert check.gradient_difference > 1e-9
    assert (check.gradient_limit >= check.gradient_difference) is ok
    unmerged(monkeypatch)
    check = check_first_batch(model, every_row()[:4])
    assert not check.ok
    assert "the plain one from itself" in (check.reason or "")
