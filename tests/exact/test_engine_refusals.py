"""What the packed form cannot do is refused with its reason, and still answered by the plain path."""

import pytest
import torch

from engine_support import REFUSED, every_row, reference, row, tiny, twin, why_plain
from lastresort.engine.attention import ByNode, Packed, attention, enable
from lastresort.engine.forest import plan_forest
from lastresort.engine.kernel_choice import HeadShape, trial
from lastresort.engine.kernels import CudaEfficient
from lastresort.engine.logp import target_logps
from lastresort.engine.parts import packed_hidden, take_apart, target_logps_of
from lastresort.engine.support import check_first_batch, sliding_window, support
from lastresort.errors import ContractError
from pretend_device import pretend

ROWS = every_row()[:5]


@pytest.mark.parametrize("family", REFUSED)
def test_refused(family):
    changes, reason = REFUSED[family]
    model = tiny(family, torch.float32, **changes)
    other = twin(model)
    assert reason in (why_plain(model) or "")
    found = target_logps(model, ROWS)
    assert (found.path, found.reason) == ("plain", why_plain(model))
    torch.testing.assert_close(found.per_token, reference(other, ROWS), atol=2e-5, rtol=2e-5)
    check = check_first_batch(model, ROWS)
    assert (check.ok, check.kernel) == (False, None)
    assert check.reason == why_plain(model)


def test_dynamic_angles_are_never_padded():
    changes, _ = REFUSED["llama"]
    model = tiny(max_position_embeddings=24, **changes)
    other = twin(model)
    rows = [row((5, 6, 7) * n, (8, 9)) for n in (3, 12, 3)]  # the second one is long enough to change the angles
    torch.testing.assert_close(target_logps(model, rows).per_token, reference(other, rows))


def test_a_window_is_looked_at_batch_by_batch():
    model = tiny("mistral", sliding_window=30)
    other = twin(model)
    assert why_plain(model) is None
    short, long = [row((5,) * 28, (6, 7))], [row((5,) * 29, (6, 7))]
    assert target_logps(model, short).path == "packed"
    found = target_logps(model, long)
    assert found.reason == "a text of 31 tokens is longer than the sliding window of 30"
    torch.testing.assert_close(found.per_token, reference(other, long))


def test_windows_of_configurations():
    from transformers import AutoConfig

    assert sliding_window(AutoConfig.for_model("mistral", sliding_window=8)) == 8
    assert sliding_window(AutoConfig.for_model("mistral", sliding_window=None)) is None
    assert sliding_window(AutoConfig.for_model("qwen2", sliding_window=8, use_sliding_window=False)) is None
    assert sliding_window(AutoConfig.for_model("llama")) is None


OPT = {"word_embed_proj_dim": 32, "ffn_dim": 48, "dropout": 0.0, "attention_dropout": 0.0}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt2", {"resid_pdrop": 0.1}),
        ("llama", {"attention_dropout": 0.1}),
        ("opt", {**OPT, "dropout": 0.1}),  # by functional.dropout, as the next one
        ("opt", {**OPT, "layerdrop": 0.1}),
        ("starcoder2", {"embedding_dropout": 0.1}),
    ],
)
def test_dropout_is_refused_only_while_training(family, changes):
    model = tiny(family, torch.float32, **changes)
    assert why_plain(model) is None
    model.train()
    assert "dropout is on while training" in (why_plain(model) or "")
    assert target_logps(model, ROWS).path == "plain"
    model.eval()
    assert target_logps(model, ROWS).path == "packed"


def test_a_model_that_is_not_what_it_seems_is_found_by_trying(monkeypatch):
    """Attention that ignores what the engine passes down."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def deaf(module, query, key, value, attention_mask, lastresort=None, **kwargs):
        return sdpa_attention_forward(module, query, key, value, None, **kwargs)

    monkeypatch.setattr("lastresort.engine.attention.attention", deaf)
    model = tiny()
    assert "otherwise than by its own forward" in (why_plain(model) or "")
    assert model.config._attn_implementation != "lastresort"
    monkeypatch.undo()
    assert why_plain(tiny()) is None


def test_an_implementation_that_was_set_since_is_replaced():
    """Under torch's own, the packed form would be attention without any mask."""
    model = tiny()
    other = twin(model)
    assert why_plain(model) is None
    model.set_attn_implementation("sdpa")
    found = target_logps(model, ROWS)
    assert found.path == "packed"
    torch.testing.assert_close(found.per_token, reference(other, ROWS))


def test_unknown_logits_are_taken_from_the_model(monkeypatch):
    model = tiny(dtype=torch.float32)
    other = twin(model)
    own = type(model).forward

    def doubled(self, *args, **kwargs):
        output = own(self, *args, **kwargs)
        output.logits = output.logits * 2
        return output

    monkeypatch.setattr(type(model), "forward", doubled)
    found = target_logps(model, ROWS)
    assert "known function" in (found.reason or "")
    assert support(model).head is None
    torch.testing.assert_close(found.per_token, reference(other, ROWS), atol=1e-5, rtol=1e-5)


def test_the_finding_leaves_mode_and_own_forward_as_they_were():
    model = tiny()
    other = twin(model)
    model.train()
    model.model.layers[1].eval()
    modes = [m.training for m in model.modules()]
    assert why_plain(model) is None
    assert [m.training for m in model.modules()] == modes
    ids = torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    torch.testing.assert_close(
        model(ids, attention_mask=mask).logits, other(ids, attention_mask=mask).logits, atol=0, rtol=0
    )


def test_virtual_tokens_are_refused():
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(tiny(dtype=torch.float32), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ContractError, match="virtual tokens"):
        target_logps(model, ROWS)


def forced(model, rows):
    """What the packed form would say if nothing were refused."""
    parts = take_apart(model)
    enable(parts.causal)
    forest = plan_forest(rows)
    hidden = packed_hidden(parts.trunk, forest.ids, forest.positions, Packed(forest.nodes), torch.device("cpu"))
    return target_logps_of(hidden, torch.tensor(forest.pick), torch.tensor(forest.target), parts.head)


def error_of(model, rows):
    """Largest error in nats of the packed form by force; the engine itself is right on the same rows."""
    right = reference(twin(model), rows)
    torch.testing.assert_close(target_logps(twin(model), rows).per_token, right)
    with torch.no_grad():
        return float((forced(model, rows) - right).abs().max())


def test_forced_is_right_where_nothing_is_refused():
    assert error_of(tiny(), ROWS) < 1e-9


def test_the_wrong_number_behind_a_short_window():
    long = [row((5, 9, 4) * 12, (6, 7)), row((5, 9, 4) * 12, (8, 7))]
    assert error_of(tiny("mistral", sliding_window=16), long) > 1e-2


def test_the_wrong_number_behind_angles_that_depend_on_the_length():
    """The longest row would change the angles of all."""
    rows = [row((5, 6, 7) * n, (8, 9)) for n in (3, 20)]
    assert error_of(tiny(max_position_embeddings=24, **REFUSED["llama"][0]), rows) > 1e-3


def test_the_wrong_number_behind_a_recurrent_state():
    """The state of one row would flow into the next."""
    model = tiny("mamba", torch.float32)
    rows = [row((5, 6, 7), (8, 9)), row((11, 12, 13), (14, 15))]
    packed_ids = torch.tensor([[*rows[0].ids, *rows[1].ids]])
    with torch.no_grad():
        logps = model(input_ids=packed_ids).logits[0].log_softmax(-1)
    picked = logps[torch.tensor([2, 3, 7, 8]), torch.tensor([8, 9, 14, 15])]
    right = reference(twin(model), rows)
    torch.testing.assert_close(picked[:2], right[:2], atol=1e-4, rtol=1e-4)
    assert float((picked[2:] - right[2:]).abs().max()) > 1e-2


def test_the_wrong_number_behind_soft_capped_scores(monkeypatch):
    """Kernels that know no cap would leave it out."""
    changes, _ = REFUSED["gemma2"]
    model = tiny("gemma2", torch.float32, attn_logit_softcapping=0.5, **changes)
    capped = twin(model)
    capped.set_attn_implementation("eager")  # which newer transformers choose themselves
    right = reference(capped, ROWS)

    def uncapped(module, query, key, value, mask, softcap=None, **kwargs):
        return attention(module, query, key, value, mask, **kwargs)

    monkeypatch.setattr("lastresort.engine.attention.attention", uncapped)
    with torch.no_grad():
        assert float((forced(model, ROWS) - right).abs().max()) > 1e-2


def test_the_wrong_number_behind_dropout_in_a_shared_piece():
    """Rows that share a piece would share its dropout: their losses are no longer independent draws."""
    model = tiny("gpt2", resid_pdrop=0.3)
    model.train()
    rows = [row((5, 9, 4) * 7, (6,))] * 2
    torch.manual_seed(0)
    with torch.no_grad():
        together = torch.stack([forced(model, rows) for _ in range(200)])
        apart = torch.stack([target_logps(model, rows).per_token for _ in range(200)])
    correlated, independent = (float(torch.corrcoef(x.T)[0, 1].abs()) for x in (together, apart))
    assert correlated > 0.99
    assert independent < 0.25


@pytest.mark.parametrize(
    ("dtype", "size", "served"),
    [(torch.float32, 12, True), (torch.float32, 10, False), (torch.bfloat16, 16, True), (torch.bfloat16, 100, False)],
)
def test_heads_whose_rows_are_not_aligned_are_not_left_to_the_number_of_tokens(dtype, size, served):
    """On a GPU efficient attention would take them or fail by how many tokens a pass has."""
    with pretend("cuda") as device:
        reason = trial(ByNode(CudaEfficient()), HeadShape(4, 2, size), device, dtype)
    assert (reason is None) == served, reason
    assert served or "steps of 16 bytes" in reason
