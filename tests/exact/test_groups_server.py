"""Groups from a server: the present weights answer, its tokens are what is trained, and what it does not tell is made up for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine_support import reference as forward_logps
from engine_support import relative_difference, twin
from groups_support import ADAPTER, SETTINGS, python_reward, reward_file, sampled_groups, tiny_and_tokenizer
from lastresort.errors import InfrastructureError, InputError
from lastresort.models.api.model import ApiModel
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import parse_endpoint
from lastresort.train.adapters.adapters import trainable
from lastresort.train.groups.server import ServedAdapter
from lastresort.train.loop.batches import Batch, TrainingItem
from lastresort.train.loop.gradients import batch_gradients
from lastresort.train.loop.loop import train
from lastresort.train.loop.policy import Policy, token_logps
from lastresort.train.loop.processes import Processes
from lastresort.train.loop.reference import Reference
from lastresort.train.settings import Objective, TrainSettings
from server_support import BASE, FakeVllm, hang_up, serving, status
from tiny_model import TEMPLATE


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_and_tokenizer(folder)
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base / "tiny", tmp_path / "tiny")
    return tmp_path


@pytest.fixture
def server(base: Path) -> Iterator[FakeVllm]:
    with serving(base / "tiny") as running:
        yield running


def api(server: FakeVllm) -> ApiModel:
    return ApiModel(parse_endpoint(server.name), patience=RetryPolicy(attempts=3), sleep=lambda _: None, concurrency=4)


def groups_of(folder: Path, tokenizer: Any, server: FakeVllm, *, every: int | None = 1, **changes: Any) -> Any:
    asked = api(server)
    served = None if every is None else ServedAdapter(asked, folder / "out", every=every)
    return sampled_groups(folder, tokenizer, server=asked, served=served, **changes)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "completions.jsonl").read_text("utf-8").splitlines()]


def moved(model: Any, seed: int) -> None:
    """Other weights in the adapter, as after a step."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in trainable(model):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def answers_of(batch: Any) -> list[tuple[int, ...]]:
    return [item.rows[0].ids[len(item.rows[0].prompt) :] for item in batch.items]


@pytest.mark.slow
def test_the_weights_of_the_step_answer_each_under_a_name_of_its_own(folder: Path, server: FakeVllm) -> None:
    """The server samples with the log-probabilities of the trained model, and no version but the newest is left there."""
    model, tokenizer = tiny_and_tokenizer(folder)
    with groups_of(folder, tokenizer, server) as groups:
        for step in range(2):
            moved(model, step)
            server.seen.clear()
            batch = groups.at(step, model, None)
            rows = [item.rows[0] for item in batch.items]
            (name,) = server.loaded
            assert name.startswith(f"policy-{step}-")
            assert [path.name for path in (folder / "out" / "served").iterdir()] == [name]
            assert {chat["model"] for chat in server.chats()} == {name}
            assert len(rows) == 12
            with torch.no_grad():
                there = [float(forward_logps(server.loaded[name], [row]).sum()) for row in rows]
            here = [sum(logps) for logps in token_logps(model, rows, 1536)]
            assert here == pytest.approx(there, abs=1e-4)
            with torch.no_grad():
                base = [float(forward_logps(twin_without_adapter(folder), [row]).sum()) for row in rows]
            assert max(abs(a - b) for a, b in zip(here, base, strict=True)) > 0.1
    assert [what for what, _ in server.commands()] == ["load", "unload", "unload"]
    assert server.loaded == {}
    assert not (folder / "out" / "served").exists()


def twin_without_adapter(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder / "tiny", dtype=torch.float32).eval()


def test_its_tokens_are_trained(folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder, dtype="float64")
    server.alphabet = "abcdefgh"
    with groups_of(folder, tokenizer, server, settings=replace(SETTINGS, max_new_tokens=10)) as groups:
        batch, again = groups.at(0, model, None), groups.at(0, model, None)
    chats = server.chats()
    assert all(chat["return_token_ids"] and "logprobs" not in chat for chat in chats)
    drawn = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "max_tokens": 10}
    assert all(chat | drawn == chat for chat in chats)  # nothing is left to the model's generation_config
    assert (
        sorted(chat["seed"] - min(c["seed"] for c in chats) for chat in chats[:12])
        == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    )
    assert again.items == batch.items
    ended = [answer[-1] == tokenizer.eos_token_id for answer in answers_of(batch)]
    assert 0 < sum(ended) < 12
    assert [line["cut"] for line in lines_of(folder)] == [not end for end in ended]
    for line, answer in zip(lines_of(folder), answers_of(batch), strict=True):
        assert line["completion"] == tokenizer.decode(answer, skip_special_tokens=True)


@pytest.mark.parametrize("beyond", [0, 3])
def test_a_stop_string_is_passed_on_and_its_tokens_are_the_last(beyond: int, folder: Path, server: FakeVllm) -> None:
    """Also where the server tells tokens beyond it."""
    model, tokenizer = tiny_and_tokenizer(folder)
    server.beyond = beyond
    server.alphabet, stops = "abcxy", ("c", "xy", "never")
    settings = replace(SETTINGS, max_new_tokens=10, stop=stops)
    with groups_of(folder, tokenizer, server, settings=settings) as groups:
        batch = groups.at(0, model, None)
    assert server.chats()[0]["stop"] == list(stops)
    lines, stopped = lines_of(folder), 0
    for line, answer in zip(lines, answers_of(batch), strict=True):
        whole = tokenizer.decode(answer, skip_special_tokens=True)
        assert not any(stop in line["completion"] for stop in stops)
        assert not any(stop in tokenizer.decode(answer[:-1], skip_special_tokens=True) for stop in stops)
        if any(stop in whole for stop in stops):
            stopped += 1
            assert not line["cut"]
            assert whole[len(line["completion"]) :] in stops
    assert 3 <= stopped < 12


@pytest.mark.slow
def test_answers_of_earlier_weights_keep_the_log_probabilities_they_were_sampled_with(
    folder: Path, server: FakeVllm
) -> None:
    """So the ratio of the objective corrects for the steps in between."""
    model, tokenizer = tiny_and_tokenizer(folder)
    with groups_of(folder, tokenizer, server, every=2) as groups:
        groups.at(0, model, None)
        (name,) = server.loaded
        sampler = twin(model)
        moved(model, 1)
        batch = groups.at(1, model, None)
        assert list(server.loaded) == [name]
        assert server.chats()[-1]["logprobs"] is True
        rows = [item.rows[0] for item in batch.items]
        sampled_with = forward_logps(sampler, rows)
        now = [value for logps in token_logps(model, rows, 1536) for value in logps]
        old = [value for item in batch.items for value in item.old]
        assert old == pytest.approx(sampled_with.tolist(), abs=1e-4)
        assert max(abs(a - b) for a, b in zip(old, now, strict=True)) > 0.1
        server.tells_tokens = False
        batch = groups.at(1, model, None)  # it tells no tokens, and so nothing of them
        assert {item.old for item in batch.items} == {()}
        groups.at(2, model, None)
        assert list(server.loaded) != [name]


def passed(model: Any, items: Sequence[TrainingItem]) -> tuple[float, Mapping[str, float], dict[str, torch.Tensor]]:
    """Loss, figures and gradients of items as one batch, cut into several passes."""
    policy, objective = Policy(model, 64, Processes()), Objective("grpo")
    model.zero_grad()
    found = batch_gradients(policy, Batch(tuple(items)), objective, Reference(policy))
    return found.loss, found.figures, {name: p.grad.clone() for name, p in trainable(model) if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("told", ["by none", "by some", "by all"])
def test_what_the_present_weights_answered_is_not_scored_again(told: str, folder: Path, server: FakeVllm) -> None:
    """Their ratio is 1 in the pass that trains. Losses and gradients are those of log-probabilities that were computed before."""
    model, tokenizer = tiny_and_tokenizer(folder, dtype="float64")
    moved(model, 1)
    calls: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, out: calls.append(given[0].numel()))
    with groups_of(folder, tokenizer, server) as groups:
        items = groups.at(0, model, None).items
    hook.remove()
    assert calls == []
    assert {item.old for item in items} == {()}
    scored = token_logps(model, [item.rows[0] for item in items], 1536)
    known = [replace(item, old=logps) for item, logps in zip(items, scored, strict=True)]
    mixed = {"by none": items, "by some": [*known[:5], *items[5:]], "by all": known}[told]
    loss, shown, found = passed(model, mixed)
    want_loss, want_shown, want = passed(model, known)
    assert loss == pytest.approx(want_loss, abs=1e-9)
    assert shown == pytest.approx(want_shown)
    assert relative_difference(found, want) < 1e-9
    other = [replace(item, old=tuple(value - 0.5 for value in item.old)) for item in known]
    assert passed(model, other)[0] != pytest.approx(want_loss, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("tells_reason", [True, False])
def test_a_server_that_tells_no_tokens(tells_reason: bool, folder: Path, server: FakeVllm) -> None:
    """Its text is tokenised here; an end token is trained where it is known that the model's own end came."""
    model, tokenizer = tiny_and_tokenizer(folder)
    server.tells_tokens, server.tells_reason = False, tells_reason
    server.alphabet, end = "abcdef", tokenizer.eos_token_id
    settings = replace(SETTINGS, max_new_tokens=10, stop=("e",))
    with groups_of(folder, tokenizer, server, settings=settings) as groups:
        batch = groups.at(0, model, None)
        assert len(server.chats()) >= 13  # the refused ones too
        assert not server.chats()[-1].keys() & {"return_token_ids", "min_p", "top_k"}
        again = groups.at(0, model, None)
    assert again.items == batch.items
    texts = {line["completion"]: line for line in lines_of(folder)}
    for answer in answers_of(batch):
        own = answer[:-1] if answer[-1] == end else answer
        text = tokenizer.decode(own, skip_special_tokens=True)
        assert tells_reason or answer[-1] != end
        assert ("e" in text) == (tells_reason and text.endswith("e"))
        assert text.removesuffix("e") in texts
    with groups_of(folder, tokenizer, server, settings=replace(settings, stop=())) as groups:
        batch = groups.at(0, model, None)
    ended = [answer[-1] == end for answer in answers_of(batch)]
    assert [line["cut"] for line in lines_of(folder)] == [not one for one in ended]
    assert 0 < sum(ended) < 12


@pytest.mark.slow
def test_another_policy_whose_tokenizer_differs_is_taken_by_its_text(folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder)
    server.template = TEMPLATE.replace("assistant\n", "assistant:")
    with groups_of(folder, tokenizer, server, every=None) as groups:
        batch = groups.at(0, model, None)
    assert {chat["model"] for chat in server.chats()} == {BASE}
    assert server.commands() == []
    assert len(batch.items) == 12
    assert {item.old for item in batch.items} == {()}  # it tells nothing of tokens that are none of its own
    with groups_of(folder, tokenizer, server) as groups, pytest.raises(InputError) as caught:
        groups.at(0, model, None)
    assert "the server renders the prompt of example e" in str(caught.value)
    assert "and they differ from token" in str(caught.value)


@pytest.mark.slow
def test_a_server_that_was_started_anew_gets_the_adapter_again(folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder)
    with groups_of(folder, tokenizer, server, every=4) as groups:
        groups.at(0, model, None)
        server.forget()
        assert len(groups.at(1, model, None).items) == 12
        assert [what for what, _ in server.commands()] == ["load", "load"]


def test_a_run_that_goes_on_finds_its_adapter_loaded_and_drops_what_a_kill_left(folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder)
    killed = groups_of(folder, tokenizer, server)
    first = killed.at(0, model, None)
    (name,) = server.loaded
    killed._rewards.close()
    server.loaded["policy-9-x"] = None
    (folder / "out" / "served" / "policy-9-x").mkdir()
    with groups_of(folder, tokenizer, server) as groups:
        assert groups.at(0, model, None).items == first.items
        assert list(server.loaded) == [name]


@pytest.mark.slow
@pytest.mark.parametrize("troubles", [2, 3])
def test_a_cut_line_is_tried_again_and_then_stops_the_run(troubles: int, folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder)
    with groups_of(folder, tokenizer, server) as groups:
        for refused in (hang_up, status(503)):
            server.troubles = [refused] * troubles
            if troubles == 2:
                assert len(groups.at(0, model, None).items) == 12
            else:
                with pytest.raises(InfrastructureError, match="after 3 attempts"):
                    groups.at(0, model, None)


def test_a_server_that_cannot_load_says_why(folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder)

    def refusal(**changes: Any) -> str:
        seen_as = changes.pop("seen_as", None)
        for name, value in changes.items():
            setattr(server, name, value)
        served = ServedAdapter(api(server), folder / "out", seen_as=seen_as)
        with (
            sampled_groups(folder, tokenizer, server=api(server), served=served) as groups,
            pytest.raises(InputError) as caught,
        ):
            groups.at(0, model, None)
        assert server.chats() == []
        return str(caught.value)

    told = refusal(seen_as="/not/shared/")
    assert "does not load the adapter at /not/shared/served/policy-0-" in told
    assert "No adapter found" in told
    assert "server.output_seen_as" in told
    told = refusal(largest_rank=ADAPTER.r - 1)
    assert "(500: LoRA rank 4 is greater than max_lora_rank 3.)" in told
    assert "--max-lora-rank" in told
    told = refusal(loads_adapters=False)
    assert "loads no adapters while it runs (404" in told
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in told
    assert "sync: never" in told


def test_a_refused_request_is_said_in_the_words_of_a_training_file(folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder)
    with groups_of(folder, tokenizer, server, every=None) as groups:
        server.troubles = [status(400, "temperature is too high")] * 12
        with pytest.raises(InputError) as caught:
            groups.at(0, model, None)
    assert (
        "the server refuses the request (400: temperature is too high). Correct server, or what the request sets"
        in str(caught.value)
    )


@pytest.mark.slow
def test_a_step_raises_the_rewarded_answers_of_a_server(folder: Path, server: FakeVllm) -> None:
    model, tokenizer = tiny_and_tokenizer(folder)
    settings = TrainSettings(
        learning_rate=1e-2, epochs=1, batch_size=6, adapter=ADAPTER, seed=5, objective=Objective("grpo")
    )
    path = reward_file(folder)
    with groups_of(folder, tokenizer, server, batch_size=6, rewards=[python_reward(path)]) as groups:
        items = groups.at(0, model, None).items
        rows = [item.rows[0] for item in items]
        before = [sum(logps) for logps in token_logps(model, rows, 1536)]
        train(model, groups, settings, folder=folder / "run")
        after = [sum(logps) for logps in token_logps(model, rows, 1536)]
    gain = [b - a for a, b in zip(before, after, strict=True)]
    better = [g for g, item in zip(gain, items, strict=True) if item.advantage > 0]
    worse = [g for g, item in zip(gain, items, strict=True) if item.advantage < 0]
    assert sum(better) / len(better) > 0.1 > sum(worse) / len(worse) + 0.1


@pytest.mark.slow
def test_an_answer_of_no_tokens_is_compared_and_trains_nothing(folder: Path, server: FakeVllm) -> None:
    """Where a stop string ended it at once and the server tells no tokens, nothing is known to have been sampled."""
    model, tokenizer = tiny_and_tokenizer(folder)
    server.tells_tokens, server.tells_reason, server.alphabet = False, False, "ab"
    settings = replace(SETTINGS, stop=("a",))
    with groups_of(folder, tokenizer, server, settings=settings) as groups:
        batch = groups.at(0, model, None)
    counts = [sum(item.rows[0].targets) for item in batch.items]
    assert 0 in counts
    assert max(counts) > 0
    for name in ("grpo", "dapo", "dr_grpo"):
        seen: list[Any] = []
        model, tokenizer = tiny_and_tokenizer(folder)
        with groups_of(folder, tokenizer, server, settings=settings, objective=name) as groups:
            train(model, groups, settings_of(name), folder=folder / name, max_new_tokens=6, on_step=seen.append)
        assert all(step.loss == step.loss and (step.skipped or step.grad_norm > 0) for step in seen)


def settings_of(name: str) -> TrainSettings:
    return TrainSettings(
        learning_rate=1e-2,
        epochs=1,
        batch_size=3,
        adapter=ADAPTER,
        seed=5,
        objective=Objective(name),
        max_pass_tokens=256,
    )
