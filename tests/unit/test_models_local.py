"""Local models: loading, fingerprints, answers equal to the plain forward, limits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lastresort.data.rendering import render_prompt
from lastresort.engine import sampling
from lastresort.engine.choose import Sampling
from lastresort.engine.forest import common_length
from lastresort.engine.sampling import generate
from lastresort.engine.support import use_kernel
from lastresort.errors import CandidateError, ContractError, TaskError
from lastresort.models.cached import CachedModel
from lastresort.models.loading import chosen_dtype, is_reduced, processor_computes_bfloat16
from lastresort.models.local import ENGINE_PATH, LocalModel, load_local, row_seeds
from lastresort.models.open import open_model
from lastresort.models.protocol import OnAnswer, Prompt, SharedTokens
from lastresort.records.responses import ResponseCache
from lastresort.types import Answer, Decoding, Grammar, Message
from models_support import CONTEXT_TOKENS, save_adapter, save_tiny

DECODING = Decoding(max_new_tokens=12)
SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["billing", "tech"]}, "ok": {"type": "boolean"}},
    "required": ["team", "ok"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(folder, tmp_path_factory.mktemp("adapter"))


def test_a_batch_says_how_many_prompts_are_read_before_its_first_answer(folder: Path) -> None:
    """Layer by layer, each row of prompts; then come the answers."""
    seen: list[float | str] = []
    model = LocalModel(load_local(folder), name="tiny", on_read=seen.append)
    prompts = [(Message("user", text),) for text in ("one", "two words", "and three words")]
    model.generate(prompts, DECODING, lambda place, answer: seen.append("answered"))
    read = [one for one in seen if isinstance(one, float)]
    layers = model.loaded.model.config.num_hidden_layers
    assert read == pytest.approx([3 * (layer + 1) / layers for layer in range(layers)])
    assert seen == [*read, *["answered"] * 3]


def test_prompts_share_what_is_computed_once_for_them(folder: Path, tmp_path: Path) -> None:
    """In whole steps of 16 tokens, and each has a token of its own; another beginning shares nothing."""
    model = LocalModel(load_local(folder), name="tiny")
    begins = Message("system", "sort the letter to the team that answers it, and say whether it is in a hurry " * 3)
    alike = [(begins, Message("user", text)) for text in ("one", "two words")]
    rendered = [render_prompt(model.loaded.tokenizer, prompt) for prompt in alike]
    common = common_length(*rendered)
    both = common // 16 * 16
    assert model.shared_tokens(alike) == SharedTokens(both, (both, both))
    assert both > 0
    with ResponseCache(tmp_path / "cache") as cache:
        assert CachedModel(model, cache).shared_tokens(alike) == SharedTokens(both, (both, both))
    three = model.shared_tokens([alike[0], (Message("user", "three"),), alike[1]])
    assert three.by_all < 16
    assert (three.by_two[0], three.by_two[2]) == (both, both)
    assert three.by_two[1] == three.by_all


def test_what_comes_before_the_input_may_be_shared_by_calls_that_are_not_among_the_prompts(folder: Path) -> None:
    """Nearest shots that no other prompt has: among many calls, another one has them."""
    model = LocalModel(load_local(folder), name="tiny")
    shots = [
        (Message("user", text * 9), Message("assistant", "billing")) for text in ("the roof leaks ", "a boat left ")
    ]
    prompts = [(*turns, Message("user", "and this one?")) for turns in shots]
    before = [
        common_length(*(render_prompt(model.loaded.tokenizer, (*turns, Message("user", text))) for text in ("a", "z")))
        for turns in shots
    ]
    found = model.shared_tokens(prompts)
    assert found.by_all < 16
    assert found.by_two == tuple(length // 16 * 16 for length in before)
    assert min(found.by_two) > 0


def test_a_prompt_that_is_answered_counts_as_read_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three passes of a prompt each, whose answer is their first token."""
    monkeypatch.setattr(sampling, "PREFILL_TOKENS", 1)
    seen: list[float | str] = []
    model = LocalModel(load_local(folder), name="tiny", on_read=seen.append)
    prompts = [(Message("user", text),) for text in ("one", "two words", "and three words")]
    model.generate(prompts, Decoding(max_new_tokens=1), lambda place, answer: seen.append("answered"))
    layers = model.loaded.model.config.num_hidden_layers
    assert seen == [*[(layer + 1) / layers for layer in range(layers)], "answered"] * 3


class Counting(LocalModel):
    asked = 0

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        self.asked += len(prompts)
        return super().generate(prompts, decoding, on_answer)


def local(folder: Path, **how: Any) -> Counting:
    batch_size, clock = how.pop("batch_size", 4), how.pop("clock", count().__next__)
    template = how.get("template_kwargs")
    return Counting(
        load_local(folder, **how), name="tiny", template_kwargs=template, batch_size=batch_size, clock=clock
    )


def ask(*texts: str) -> list[tuple[Message, ...]]:
    return [(Message("system", "route this ticket"), Message("user", text)) for text in texts]


def plain_greedy(model: LocalModel, prompt: tuple[Message, ...], new_tokens: int) -> list[int]:
    ids = render_prompt(model.loaded.tokenizer, prompt, template_kwargs={})
    grown = list(ids)
    for _ in range(new_tokens):
        logits = model.loaded.model(torch.tensor([grown])).logits[0, -1]
        token = int(logits.argmax())
        if token == model.loaded.tokenizer.eos_token_id:
            break
        grown.append(token)
    return grown[len(ids) :]


@pytest.mark.parametrize("tuned", [False, True])
def test_greedy_answers_are_those_of_the_plain_forward(folder: Path, adapter: Path, tuned: bool) -> None:
    model = local(folder, precision="float64", adapter=adapter if tuned else None)
    prompts = ask("the parcel is late", "a", "billing billing", "late late late late", "x y z")
    answers = model.generate(prompts, DECODING)
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = plain_greedy(model, prompt, DECODING.max_new_tokens)
        assert answer.text == model.loaded.tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.completion_tokens == len(tokens)
        assert answer.prompt_tokens == model.count_tokens(prompt)
        assert answer.finish == ("length" if len(tokens) == DECODING.max_new_tokens else "stop")


def test_an_adapter_changes_the_answers_and_leaves_the_base_as_it_is(folder: Path, adapter: Path) -> None:
    prompts = ask("the parcel is late", "a", "b")
    base = local(folder, precision="float32").generate(prompts, DECODING)
    tuned = local(folder, precision="float32", adapter=adapter).generate(prompts, DECODING)
    assert [a.text for a in base] != [a.text for a in tuned]
    assert [a.text for a in local(folder, precision="float32").generate(prompts, DECODING)] == [a.text for a in base]


def test_answers_arrive_once_each_and_their_seconds_add_up_to_the_time_of_the_batch(folder: Path) -> None:
    arrived: dict[int, Answer] = {}
    ticks = count()
    prompts = ask("a", "b", "c")
    answers = local(folder, precision="float32", clock=ticks.__next__).generate(
        prompts, DECODING, lambda i, answer: arrived.update({i: answer})
    )
    assert [arrived[i] for i in range(3)] == answers
    assert sum(answer.seconds for answer in answers) == pytest.approx(
        next(ticks) - 1
    )  # one tick at the start, one an answer


def test_the_answer_does_not_depend_on_what_shares_its_batch_in_float64(folder: Path) -> None:
    prompts = ask("the parcel is late", "a", "billing", "late", "x", "route")
    whole = [answer.text for answer in local(folder, precision="float64", batch_size=6).generate(prompts, DECODING)]
    alone = [answer.text for answer in local(folder, precision="float64", batch_size=1).generate(prompts, DECODING)]
    assert whole == alone


def test_capped_scores_stay_capped_where_transformers_chooses_an_attention_without_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.gemma2.modeling_gemma2 import Gemma2PreTrainedModel

    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    config = AutoConfig.for_model("gemma2", vocab_size=320, attn_logit_softcapping=0.02, **shape)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    save_tiny(tmp_path / "m")
    model.save_pretrained(tmp_path / "m")
    monkeypatch.setattr(Gemma2PreTrainedModel, "_supports_sdpa", True)  # as in older transformers
    ids = torch.tensor([[5, 60, 7, 80, 9, 11, 12, 80]])
    with torch.no_grad():
        found, wanted = (each(ids).logits for each in (load_local(tmp_path / "m", precision="float32").model, model))
    torch.testing.assert_close(found, wanted)


def test_sampling_follows_its_seed_and_differs_between_batches(folder: Path) -> None:
    model = local(folder, precision="float32", batch_size=2)
    hot = Decoding(max_new_tokens=8, temperature=1.5, seed=5)
    first = [answer.text for answer in model.generate(ask(*["a"] * 6), hot)]
    assert first == [answer.text for answer in model.generate(ask(*["a"] * 6), hot)]
    assert len(set(first)) == 6
    assert first != [answer.text for answer in model.generate(ask(*["a"] * 6), replace(hot, seed=6))]


def test_a_sampled_answer_does_not_depend_on_its_place_or_its_batch(folder: Path) -> None:
    hot = Decoding(max_new_tokens=8, temperature=1.5, seed=5)
    prompts = ask("a", "billing", "late", "a", "x", "a")
    whole = [answer.text for answer in local(folder, precision="float64", batch_size=6).generate(prompts, hot)]
    assert len({whole[0], whole[3], whole[5]}) == 3
    for batch_size in (1, 2):
        model = local(folder, precision="float64", batch_size=batch_size)
        assert [answer.text for answer in model.generate(prompts, hot)] == whole
        order = (4, 0, 2, 3, 1, 5)
        moved = [answer.text for answer in model.generate([prompts[i] for i in order], hot)]
        assert moved == [whole[i] for i in order]
    assert model.generate(ask("a"), replace(hot, seed=6))[0].text == whole[3]  # as a cache asks for the second sample


def test_rows_of_different_batches_draw_different_numbers(folder: Path) -> None:
    seeds = row_seeds([[1, 2], [1, 3], [12], [1, 2]], 5)
    assert len(set(seeds)) == 4
    assert row_seeds([[1, 2]], 6) == seeds[3:]
    assert not set(row_seeds([[1, 3], [12]], 6)) & set(seeds)


def test_both_paths_of_the_engine_draw_by_the_seeds_of_the_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = local(folder, precision="float64").loaded.model
    prompts, settings = [(5, 6, 7), (5, 6), (5, 6, 7)], Sampling(8, 1.5, seed=1)
    packed = [row.tokens for row in generate(model, prompts, settings=settings, seeds=[7, 8, 7])]
    assert packed[0] == packed[2]
    assert packed[0] != generate(model, prompts[:1], settings=settings, seeds=[9])[0].tokens
    monkeypatch.setattr("lastresort.engine.sampling.why_plain_batch", lambda found, longest: "asked to")
    assert [row.tokens for row in generate(model, prompts, settings=settings, seeds=[7, 8, 7])] == packed
    with pytest.raises(ContractError, match="2 seeds for 3 prompts"):
        generate(model, prompts, settings=settings, seeds=[7, 8])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_samples_behind_a_cache_differ_and_are_those_of_the_model(folder: Path, tmp_path: Path, precision: str) -> None:
    hot = Decoding(max_new_tokens=8, temperature=1.5, seed=5)
    prompts = ask(*"ababab")
    model = local(folder, precision=precision, batch_size=2)
    with ResponseCache(tmp_path / "responses.sqlite") as store:
        cached = CachedModel(model, store)
        first = [answer.text for answer in cached.generate(prompts, hot)]
        assert [answer.text for answer in cached.generate(prompts, hot)] == first
    assert (model.asked, cached.precision) == (6, precision)
    assert len({*first[::2]}) == len({*first[1::2]}) == 3
    assert [answer.text for answer in model.generate(prompts, hot)] == first


def test_what_another_attention_kernel_computes_is_another_question(folder: Path, tmp_path: Path) -> None:
    model = local(folder, precision="float32")
    with ResponseCache(tmp_path / "responses.sqlite") as store:
        cached = CachedModel(model, store)
        cached.generate(ask("a"), DECODING)
        assert (model.asked, model.computed_by) == (1, f"{ENGINE_PATH} on cpu by flash")
        use_kernel(model.loaded.model, "products")
        cached.generate(ask("a"), DECODING)
        assert (model.asked, model.computed_by) == (2, f"{ENGINE_PATH} on cpu by products")
        use_kernel(model.loaded.model, "flex")  # which fails on a CPU
        assert model.computed_by == f"{ENGINE_PATH} on cpu by plain"


@pytest.mark.parametrize("spare_tokens", [0, 45])
def test_a_random_model_writes_valid_json_when_it_is_constrained(tmp_path: Path, spare_tokens: int) -> None:
    model = local(save_tiny(tmp_path / "model", spare_tokens=spare_tokens), precision="float32")
    prompts = ask("the parcel is late", "a", "billing", "x", "y")
    answers = model.generate(prompts, Decoding(max_new_tokens=40, grammar=Grammar(json_schema=SCHEMA)))
    assert {tuple(json.loads(answer.text)) for answer in answers} == {("team", "ok")}
    assert {answer.finish for answer in answers} == {"stop"}
    free = model.generate(prompts, Decoding(max_new_tokens=40))
    assert not any(answer.text.startswith('{"team') for answer in free)


def test_a_form_that_cannot_be_enforced_is_known_before_anything_is_asked(folder: Path) -> None:
    model = local(folder, precision="float32")
    model.check_decoding(DECODING)
    model.check_decoding(replace(DECODING, grammar=Grammar(json_schema=SCHEMA)))
    with pytest.raises(CandidateError, match="Invalid type"):
        model.check_decoding(replace(DECODING, grammar=Grammar(json_schema={"type": "text"})))


def test_a_random_model_names_one_of_the_choices(folder: Path) -> None:
    decoding = Decoding(max_new_tokens=20, temperature=2.0, grammar=Grammar(choices=("billing", "tech", "sales")))
    answers = local(folder, precision="float32").generate(ask(*"abcdefghij"), decoding)
    assert {answer.text for answer in answers} <= {"billing", "tech", "sales"}
    assert len({answer.text for answer in answers}) > 1


def test_a_stop_string_ends_the_answer_and_is_cut_from_it(folder: Path) -> None:
    model = local(folder, precision="float32")
    prompts = ask("the parcel is late", "a")
    for prompt in prompts:
        whole = model.generate([prompt], DECODING)[0]
        stop = whole.text[3:5]
        cut = model.generate([prompt], replace(DECODING, stop=(stop, "never to be seen")))[0]
        assert cut.text == whole.text.split(stop)[0]
        assert cut.finish == "stop"
        assert cut.completion_tokens < whole.completion_tokens


def test_scores_are_the_summed_log_probabilities_of_the_plain_forward(folder: Path) -> None:
    model = local(folder, precision="float64")
    prompts, texts = ask("the parcel is late", "a"), ["billing", "tech", "tech and more"]
    assert model.score is not None
    scores = model.score(prompts, [texts, texts])
    tokenizer = model.loaded.tokenizer
    for prompt, row in zip(prompts, scores, strict=True):
        ids = render_prompt(tokenizer, prompt, template_kwargs={})
        for text, score in zip(texts, row, strict=True):
            more = tokenizer(text, add_special_tokens=False)["input_ids"]
            logp = model.loaded.model(torch.tensor([ids + more])).logits[0].log_softmax(-1)
            expected = sum(float(logp[len(ids) - 1 + place, token]) for place, token in enumerate(more))
            assert score == pytest.approx(expected, abs=1e-6)


def test_a_prompt_without_room_for_its_answer_is_named_before_anything_is_computed(folder: Path) -> None:
    arrived: list[int] = []
    with pytest.raises(CandidateError, match=f"at most {CONTEXT_TOKENS} together") as caught:
        local(folder, precision="float32").generate(
            ask("a", "so long " * 100), DECODING, lambda i, _: arrived.append(i)
        )
    assert "so long so long" in str(caught.value)
    assert arrived == []


def test_a_prompt_that_fits_exactly_is_answered(folder: Path) -> None:
    model = local(folder, precision="float32")
    room = CONTEXT_TOKENS - model.count_tokens(ask("a")[0])
    assert model.generate(ask("a"), Decoding(max_new_tokens=room))[0].completion_tokens <= room
    with pytest.raises(CandidateError):
        model.generate(ask("a"), Decoding(max_new_tokens=room + 1))


def test_the_fingerprint_follows_weights_adapter_precision_and_template(
    folder: Path, adapter: Path, tmp_path: Path
) -> None:
    base = load_local(folder, precision="float32")
    assert load_local(folder, precision="float32").fingerprint == base.fingerprint
    others = [
        load_local(folder, precision="float64"),
        load_local(folder, precision="float32", adapter=adapter),
        load_local(folder, precision="float32", adapter=save_adapter(folder, tmp_path / "other", seed=2)),
        load_local(folder, precision="float32", template_kwargs={"enable_thinking": False}),
        load_local(save_tiny(tmp_path / "weights", seed=1), precision="float32"),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert others[0].rendering == base.rendering != others[3].rendering
    copied = save_tiny(tmp_path / "copy")
    assert load_local(copied, precision="float32").fingerprint == base.fingerprint  # wherever it lies
    moved = Path(shutil.copytree(adapter, tmp_path / "moved"))
    assert load_local(folder, precision="float32", adapter=moved).fingerprint == others[1].fingerprint


@pytest.fixture
def files_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastresort.embedded._SETTLED_S", -60.0)


def test_no_hash_is_remembered_of_a_file_that_has_just_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change of equal size within a tick of the disk's clock would not be seen."""
    from lastresort.embedded import file_hash

    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    file, kept = tmp_path / "model.gguf", tmp_path / "cache" / "hashes"
    file.write_bytes(b"one")
    os.utime(file, (0, 0))  # as tools that copy do
    file_hash(file)
    assert not kept.exists()
    now = time.time()
    monkeypatch.setattr("lastresort.embedded.time", SimpleNamespace(time=lambda: now + 10))
    file_hash(file)
    assert len(list(kept.iterdir())) == 1


@pytest.mark.usefixtures("files_settle_at_once")
def test_hashes_of_long_ago_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key holds the state of the file: of one that changes or goes, nobody asks for the old hash again."""
    from lastresort.embedded import file_hash

    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    file, kept = tmp_path / "model.gguf", tmp_path / "cache" / "hashes"
    for content in (b"one", b"other"):
        file.write_bytes(content)
        file_hash(file)
    assert len(list(kept.iterdir())) == 2
    old = next(kept.iterdir())
    os.utime(old, (0, 0))
    file.write_bytes(b"a third")
    file_hash(file)
    assert len(list(kept.iterdir())) == 2
    assert not old.exists()


@pytest.mark.usefixtures("files_settle_at_once")
def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastresort import embedded as weights

    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    first = weights.file_hash(file)
    reads: list[object] = []
    real = weights.hashlib.file_digest
    monkeypatch.setattr(weights.hashlib, "file_digest", lambda *args: reads.append(args) or real(*args))
    assert weights.file_hash(file) == first
    assert reads == []
    file.write_bytes(b"other")
    assert weights.file_hash(file) != first
    assert len(reads) == 1


@pytest.mark.usefixtures("files_settle_at_once")
@pytest.mark.parametrize(
    "kept", [b"\xff" * 64, b"x" * 64, b"\0" * 64, b""], ids=["no text", "no digits", "zeros", "empty"]
)
def test_a_remembered_hash_that_is_none_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bytes
) -> None:
    from lastresort.embedded import file_hash

    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    first = file_hash(file)
    (entry,) = (tmp_path / "cache" / "hashes").iterdir()
    entry.write_bytes(kept)
    assert file_hash(file) == first
    assert entry.read_text(encoding="ascii") == first


@pytest.mark.usefixtures("files_settle_at_once")
def test_a_remembered_hash_that_another_user_keeps_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lastresort.embedded import file_hash

    def refused(*args: Any, **options: Any) -> str:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    first = file_hash(file)
    monkeypatch.setattr(Path, "read_text", refused)
    assert file_hash(file) == first


@pytest.mark.usefixtures("files_settle_at_once")
def test_another_file_of_equal_size_and_time_of_modification_is_not_taken_for_the_first(tmp_path: Path) -> None:
    from lastresort.embedded import file_hash

    file, other = tmp_path / "model.gguf", tmp_path / "other.gguf"
    file.write_bytes(b"one")
    first = file_hash(file)
    other.write_bytes(b"two")
    os.utime(other, ns=(0, file.stat().st_mtime_ns))
    other.replace(file)
    assert file_hash(file) == hashlib.sha256(b"two").hexdigest() != first


@pytest.mark.parametrize(
    ("tiles", "instruction", "maker", "quicker"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),  # as a virtual machine shows it that hides the tiles
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_a_processor_computes_in_bfloat16_only_where_that_is_quicker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiles: bool, instruction: bool, maker: str, quicker: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instruction)
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\nvendor_id\t: {maker}\nmodel name\t: unknown\n", encoding="utf-8"
    )
    monkeypatch.setattr("lastresort.hardware.environment._CPU_INFO", tmp_path / "cpuinfo")
    assert processor_computes_bfloat16() is quicker


def test_precision_auto_is_one_of_two_and_reduced_precision_binds_answers_to_their_batch(folder: Path) -> None:
    assert chosen_dtype("auto", torch.device("cpu")) in (torch.bfloat16, torch.float32)
    assert [is_reduced(dtype) for dtype in (torch.bfloat16, torch.float32, torch.float64)] == [True, False, False]
    assert local(folder, precision="bfloat16").batch_matters
    assert local(folder, precision="auto").precision in ("bfloat16", "float32")
    assert not local(folder, precision="float32").batch_matters
    with pytest.raises(TaskError, match="float16"):
        load_local(folder, precision="float16")


def test_bfloat16_answers_repeat_for_the_same_batches(folder: Path) -> None:
    prompts = ask("the parcel is late", "a", "billing", "late", "x", "route")
    first = [a.text for a in local(folder, precision="bfloat16").generate(prompts, DECODING)]
    warm = local(folder, precision="bfloat16")
    warm.generate(ask("route this", "something else"), DECODING)
    assert [a.text for a in warm.generate(prompts[4:], DECODING)] == first[4:]
    assert [a.text for a in warm.generate(prompts, DECODING)] == first


def test_an_adapter_that_is_none_or_of_another_model_is_refused(folder: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="adapter_config"):
        load_local(folder, adapter=tmp_path)
    pickled = Path(shutil.copytree(adapter, tmp_path / "pickled"))
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(TaskError, match=r"no adapter_model\.safetensors.*pickled weights are not read"):
        load_local(folder, adapter=pickled)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in adapter.iterdir():
        if file.is_file():
            (broken / file.name).write_bytes(file.read_bytes())
    config = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps({**config, "r": 2}))
    with pytest.raises(TaskError, match="cannot be loaded"):
        load_local(folder, adapter=broken)


def test_open_model_finds_a_folder_from_the_base_folder(folder: Path, adapter: Path) -> None:
    model = open_model(folder.name, base_folder=folder.parent, precision="float32", adapter=adapter)
    assert model.name == folder.name
    assert model.context_tokens == CONTEXT_TOKENS
    assert model.fingerprint == load_local(folder, precision="float32", adapter=adapter).fingerprint
