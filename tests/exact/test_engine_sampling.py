"""Sampled tokens: against each model's own generate, and against the engine itself under other batches."""

import pytest
import torch

from engine_support import FAMILIES, VOCABULARY, draw, tiny, twin
from lastresort.engine.cache import PrefixCache, shared_prefix_length
from lastresort.engine.sampling import Sampling, generate, stream
from lastresort.errors import ContractError

ROOT = draw(40, 1)
PROMPTS = [ROOT + draw(2 + 3 * (i % 4), i) for i in range(7)]
WITHOUT_ROOT = [draw(3 + i, 20 + i) for i in range(4)]
NEW = 10


def tokens(results):
    return [result.tokens for result in results]


def own_generate(model, prompt, new_tokens=NEW):
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
    )
    return tuple(out[0, len(prompt) :].tolist())


def same_up_to_near_ties(model, prompt, a, b):
    """At the first token that differs, the model's own logits of the two must be within 1e-4."""
    at = next((i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1]), None)
    if at is None:
        return True
    logits = model(input_ids=torch.tensor([(*prompt, *b[:at])])).logits[0, -1]
    return abs(float(logits[a[at]] - logits[b[at]])) < 1e-4


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_float64(family):
    model = tiny(family)
    other = twin(model)
    results = generate(model, PROMPTS, settings=Sampling(NEW))
    assert {r.path for r in results} == {"packed"}
    assert tokens(results) == [own_generate(other, p) for p in PROMPTS]
    assert len(set(tokens(results))) > 3  # else this test would see nothing
    assert {r.finish for r in results} == {"length"}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_float32_up_to_near_ties(family):
    model = tiny(family, torch.float32)
    other = twin(model)
    for prompt, result in zip(PROMPTS, generate(model, PROMPTS, settings=Sampling(NEW)), strict=True):
        assert same_up_to_near_ties(other, prompt, result.tokens, own_generate(other, prompt))


@pytest.mark.parametrize("prompts", [WITHOUT_ROOT, PROMPTS[:1], [PROMPTS[0]] * 3, [(5,), (5, 6)], [(5,)]])
def test_other_batches(prompts):
    model = tiny()
    other = twin(model)
    assert tokens(generate(model, prompts, settings=Sampling(NEW))) == [own_generate(other, p) for p in prompts]


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_refill_changes_nothing(rows_at_once, temperature):
    model = tiny()
    stop = frozenset(range(3, 20))
    whole = generate(model, PROMPTS, settings=Sampling(NEW, temperature, seed=4, stop_ids=stop))
    cut = generate(
        model, PROMPTS, settings=Sampling(NEW, temperature, seed=4, stop_ids=stop, rows_at_once=rows_at_once)
    )
    assert whole == cut
    assert len({len(r.tokens) for r in whole}) > 1  # rows end at different times


def test_prefill_in_several_forests(monkeypatch):
    model = tiny()
    whole = generate(model, PROMPTS, settings=Sampling(NEW))
    monkeypatch.setattr("lastresort.engine.sampling.PREFILL_TOKENS", 3)
    assert generate(model, PROMPTS, settings=Sampling(NEW)) == whole


@pytest.mark.parametrize("reuse_parts", [False, True])
def test_prefix_cache(reuse_parts):
    model = tiny()
    cache = PrefixCache(reuse_parts=reuse_parts)
    first = generate(model, PROMPTS[:3], settings=Sampling(NEW), prefixes=cache)
    assert len(cache) == 1
    again = generate(model, PROMPTS[3:], settings=Sampling(NEW), prefixes=cache)
    assert len(cache) == 1
    assert tokens(first + again) == tokens(generate(model, PROMPTS, settings=Sampling(NEW)))
    longer = [ROOT + draw(30, 9) + draw(3, i) for i in range(3)]
    found = generate(model, longer, settings=Sampling(NEW), prefixes=cache)
    assert len(cache) == 2
    assert tokens(found) == [own_generate(twin(model), p) for p in longer]


def test_prefix_cache_is_used():
    model = tiny()
    cache = PrefixCache()
    generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache)
    expected = generate(model, PROMPTS, settings=Sampling(NEW))
    entry = next(iter(cache._entries.values()))
    for _, values in entry.layers:
        values.zero_()
    assert generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache) != expected


def test_prefix_cache_forgets_other_weights():
    model = tiny()
    cache = PrefixCache()
    generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache)
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight.mul_(-1.0)
    assert tokens(generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache)) == [
        own_generate(twin(model), p) for p in PROMPTS
    ]


def test_prefix_cache_forgets_weights_that_a_fused_optimizer_wrote():
    """Whose writing torch does not count."""
    model = tiny()
    cache = PrefixCache()
    generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache)
    model(torch.tensor([PROMPTS[0]])).logits[..., :9].sum().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()
    assert tokens(generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache)) == [
        own_generate(twin(model), p) for p in PROMPTS
    ]


def test_prefix_cache_sees_an_adapter_switched_off():
    from peft import LoraConfig, get_peft_model

    base = tiny()
    expected = [own_generate(twin(base), p) for p in PROMPTS]
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model = model.double()
    cache = PrefixCache()
    adapted = generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache)
    with model.disable_adapter():
        found = generate(model, PROMPTS, settings=Sampling(NEW), prefixes=cache)
    assert tokens(found) == expected
    assert tokens(adapted) != expected


def test_prefix_cache_is_bounded():
    model = tiny()
    cache = PrefixCache(limit_bytes=20_000)
    for i in range(4):
        generate(model, [draw(20, i) + draw(2, j) for j in range(2)], settings=Sampling(1), prefixes=cache)
    # 2 layers of keys and values, 2 heads, 16 tokens, 8 numbers of 8 bytes: 8192 bytes an entry
    assert len(cache) == 2


def test_shared_prefix_is_rounded_down_and_leaves_a_token():
    assert shared_prefix_length([ROOT[:33], ROOT[:33]]) == 32
    assert shared_prefix_length([ROOT[:32]]) == 16
    assert shared_prefix_length([ROOT, ROOT[:17] + draw(9, 3)]) == 16
    assert shared_prefix_length(WITHOUT_ROOT) == 0


def test_stop_ids_end_a_row_and_are_not_kept():
    model = tiny()
    free = generate(model, PROMPTS, settings=Sampling(NEW))
    stop = free[0].tokens[4]
    for before, after in zip(
        free, generate(model, PROMPTS, settings=Sampling(NEW, stop_ids=frozenset({stop}))), strict=True
    ):
        cut = before.tokens.index(stop) if stop in before.tokens else None
        assert after.tokens == before.tokens[:cut]
        assert after.finish == ("length" if cut is None else "stop")


def test_stopped_ends_a_row_with_its_tokens_kept():
    results = generate(tiny(), PROMPTS, settings=Sampling(NEW), stopped=lambda row, seen: len(seen) == row + 1)
    assert [len(r.tokens) for r in results] == [1, 2, 3, 4, 5, 6, 7]
    assert {r.finish for r in results} == {"stop"}


@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.9, 0), (1.0, 12)])
def test_sampling_depends_on_seed_and_row_alone(top_p, top_k):
    model = tiny()
    settings = Sampling(NEW, 1.0, top_p=top_p, top_k=top_k, seed=3)
    found = tokens(generate(model, PROMPTS, settings=settings))
    assert found == tokens(generate(model, PROMPTS, settings=settings))
    others = [PROMPTS[0], *WITHOUT_ROOT, PROMPTS[5]]  # rows 0 and 5 as before, all else different
    mixed = tokens(generate(model, others, settings=settings))
    assert (mixed[0], mixed[5]) == (found[0], found[5])
    assert found != tokens(generate(model, PROMPTS, settings=Sampling(NEW, 1.0, top_p=top_p, top_k=top_k, seed=4)))
    same = tokens(generate(model, [PROMPTS[0]] * 4, settings=settings))
    assert len(set(same)) == 4


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_masks_are_respected(family, temperature):
    """Row r may only say tokens that are r modulo 7; row 6 is free."""
    asked = []

    def allowed(row, seen):
        asked.append((row, len(seen)))
        return None if row == 6 else torch.arange(VOCABULARY) % 7 == row

    model = tiny(family, torch.float32)
    results = generate(model, PROMPTS, settings=Sampling(NEW, temperature, rows_at_once=3), allowed=allowed)
    assert all(token % 7 == row for row, r in enumerate(results[:6]) for token in r.tokens)
    assert sorted(asked) == [(row, count) for row in range(7) for count in range(NEW)]
    assert {token % 7 for token in results[6].tokens} != {6}


def test_the_wrong_tokens_behind_a_short_window(monkeypatch):
    """What the cache form would say if it did not look at the window: every step sees all that came before."""
    model = tiny("mistral", sliding_window=16)
    expected = [own_generate(twin(model), p) for p in PROMPTS[:3]]
    monkeypatch.setattr("lastresort.engine.sampling.why_plain_batch", lambda found, longest: None)
    assert tokens(generate(model, PROMPTS[:3], settings=Sampling(NEW))) != expected


@pytest.mark.parametrize("family", ["gemma2", "mamba", "bloom"])
def test_plain_path_says_why_and_agrees_with_own_generate(family):
    changes = {"bloom": {"n_layer": 2, "n_head": 4}}.get(family, {})
    model = tiny(family, torch.float32, **changes)
    other = twin(model)
    prompts = PROMPTS[:4]
    results = generate(model, prompts, settings=Sampling(NEW, rows_at_once=3))
    for prompt, result in zip(prompts, results, strict=True):
        assert (result.path, result.finish) == ("plain", "length")
        assert result.reason
        assert same_up_to_near_ties(other, prompt, result.tokens, own_generate(other, prompt))
    assert generate(model, prompts, settings=Sampling(NEW, rows_at_once=3)) == results


def test_the_models_own_generation_settings_have_no_say():
    """`generate` would take them; the packed form knows none, and answers of one path must be those of the other."""
    model = tiny("gemma2", torch.float32)
    settings = Sampling(NEW, rows_at_once=3)
    expected = generate(model, PROMPTS, settings=settings)
    assert expected[0].path == "plain"
    own = model.generation_config
    own.repetition_penalty, own.eos_token_id, own.num_beams = 5.0, expected[0].tokens[2], 2
    assert generate(model, PROMPTS, settings=settings) == expected
    assert model.generation_config is own


def test_a_row_without_an_end_is_an_error_and_not_left_out(monkeypatch):
    monkeypatch.setattr("lastresort.engine.sampling.generate_plain", lambda *_: None)
    with pytest.raises(ContractError, match="2 of 2 rows were never ended"):
        generate(tiny("gemma2", torch.float32), PROMPTS[:2], settings=Sampling(NEW))


def test_a_window_shorter_than_the_text_takes_the_plain_path():
    model = tiny("mistral", sliding_window=16)
    other = twin(model)
    results = generate(model, PROMPTS[:3], settings=Sampling(NEW))
    assert "sliding window of 16" in (results[0].reason or "")
    assert tokens(results) == [own_generate(other, p) for p in PROMPTS[:3]]
    assert generate(model, [(5, 6, 7)], settings=Sampling(NEW))[0].path == "packed"


def test_both_paths_sample_alike(monkeypatch):
    model = tiny()
    settings = Sampling(NEW, 1.0, seed=5, stop_ids=frozenset(range(3, 12)), rows_at_once=3)
    packed = generate(model, PROMPTS, settings=settings)
    monkeypatch.setattr("lastresort.engine.sampling.why_plain_batch", lambda found, longest: "asked to")
    plain = generate(model, PROMPTS, settings=settings)
    assert [(r.tokens, r.finish) for r in plain] == [(r.tokens, r.finish) for r in packed]
    assert {r.reason for r in plain} == {"asked to"}


def test_rows_are_reported_when_they_end():
    seen = {}
    results = generate(tiny(), PROMPTS, settings=Sampling(NEW, rows_at_once=2), on_finished=seen.__setitem__)
    assert [seen[i] for i in range(len(PROMPTS))] == results


def test_no_prompts_and_empty_prompts():
    assert generate(tiny(), [], settings=Sampling(NEW)) == []
    with pytest.raises(ContractError, match="prompt 1 is empty"):
        generate(tiny(), [(5,), ()], settings=Sampling(NEW))


def streamed(model, prompt, **how):
    """The tokens as they came, and the whole."""
    steps, came = stream(model, prompt, **how), []
    while True:
        try:
            came.append(next(steps))
        except StopIteration as end:
            return tuple(came), end.value


@pytest.mark.sampled(6)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_is_the_row_alone(family, plain):
    model = tiny(family)
    drawn = Sampling(NEW, temperature=1.0, top_p=0.9, seed=5)
    ways = ((Sampling(NEW), None), (drawn, None), (drawn, 70))
    for prompt, (settings, seed) in zip(PROMPTS[:3], ways, strict=True):
        [alone] = generate(model, [prompt], settings=settings, seeds=None if seed is None else [seed], plain=plain)
        assert streamed(model, prompt, settings=settings, seed=seed, plain=plain) == (alone.tokens, alone)


@pytest.mark.parametrize("plain", [False, True])
def test_a_stream_ends_at_a_stop_token_and_keeps_to_what_is_allowed(plain):
    model = tiny()
    whole = generate(model, [PROMPTS[0]], settings=Sampling(NEW), plain=plain)[0].tokens
    settings = Sampling(NEW, stop_ids=frozenset({whole[4]}))
    came, result = streamed(model, PROMPTS[0], settings=settings, plain=plain)
    assert (came, result.finish) == (whole[: whole.index(whole[4])], "stop")
    even = torch.arange(VOCABULARY) % 2 == 0
    how = {"settings": Sampling(NEW), "allowed": lambda row, so_far: even, "plain": plain}
    came, result = streamed(model, PROMPTS[0], **how)
    assert came == generate(model, [PROMPTS[0]], **how)[0].tokens
    assert {token % 2 for token in came} == {0}


@pytest.mark.parametrize("plain", [False, True])
def test_a_stream_computes_as_it_is_read_and_no_more_once_it_is_closed(plain):
    model = tiny()
    asked = []
    settings = Sampling(400 if not plain else 60)
    steps = stream(
        model, PROMPTS[0], settings=settings, stopped=lambda row, so_far: asked.append(len(so_far)), plain=plain
    )
    assert asked == []
    first = [next(steps), next(steps)]
    steps.close()
    seen = len(asked)
    assert first == list(generate(model, [PROMPTS[0]], settings=Sampling(2))[0].tokens)
    assert seen == 2 if not plain else seen < 60
    assert len(asked) == seen


def test_what_fails_in_a_plain_stream_is_raised_where_it_is_read():
    model = tiny()
    with pytest.raises(ContractError, match="no token is allowed"):
        streamed(
            model,
            PROMPTS[0],
            settings=Sampling(NEW),
            allowed=lambda row, so_far: torch.zeros(VOCABULARY, dtype=torch.bool),
            plain=True,
        )
