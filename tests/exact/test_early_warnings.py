"""Figures beside the loss: equal to plain forwards, of the base and of it alone, and without any trace in the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lastresort.data.wording import entries, filled
from lastresort.engine.forest import Row
from lastresort.synthesis.replay import REQUESTS
from lastresort.train.adapters.adapters import as_base, attach_adapter, trainable
from lastresort.train.loop.batches import completions
from lastresort.train.loop.loop import StepSeen, train
from lastresort.train.settings import AdapterSettings, TrainSettings
from lastresort.train.watch.early_warnings import (
    Baseline,
    WatchedTexts,
    WatchSize,
    baseline,
    first_within,
    own_tokens,
    watch,
    watch_size,
    watched_from_json,
    watched_to_json,
)
from lastresort.train.watch.kept import summary, warning
from tiny_model import save_tiny_model

TASK = [tuple(range(40 + n, 60 + n)) for n in range(6)]
SIZE = WatchSize(2000)
pytestmark = pytest.mark.usefixtures("whole_answers_are_read")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("watched") / "tiny")


def opened(folder: Path) -> tuple[Any, Any]:
    from lastresort.models.local import load_local

    loaded = load_local(folder, precision="float32")
    return loaded.model, loaded.tokenizer


def adapted(model: Any, dropout: float = 0.0, kind: Any = "lora") -> Any:
    """With an adapter that has learned something."""
    settings = AdapterSettings(kind=kind, r=4, alpha=8, dropout=dropout)
    tuned = attach_adapter(model, settings, base_name="tiny")
    _stir(parameter for _, parameter in trainable(tuned))
    return tuned


def _stir(parameters: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def watched_of(model: Any, tokenizer: Any) -> WatchedTexts:
    return watch(model, tokenizer, TASK, size=SIZE, context_tokens=2048, seed=4)


def plain_sum(model: Any, rows: Sequence[Row]) -> tuple[float, int]:
    """Summed log-probability of the targets by forwards of one row each, and how many there are."""
    total, count = 0.0, 0
    for row in rows:
        with torch.no_grad():
            found = model(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
        places = [place for place, wanted in enumerate(row.targets) if wanted]
        total += sum(float(found[place - 1, row.ids[place]]) for place in places)
        count += len(places)
    return total, count


def expected(base: Any, tuned: Any, watched: WatchedTexts) -> dict[str, float]:
    """By plain forwards of two models."""
    sums = {
        name: (plain_sum(base, rows), plain_sum(tuned, rows)[0])
        for name, rows in (("general", watched.general), ("task", watched.task), ("prose", watched.prose))
    }
    (base_prose, tokens), tuned_prose = sums["prose"]
    return {
        **{f"kl_{name}": (sums[name][0][0] - sums[name][1]) / sums[name][0][1] for name in ("general", "task")},
        "perplexity": math.exp(-tuned_prose / tokens),
        "base_perplexity": math.exp(-base_prose / tokens),
    }


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_is_compared_with_its_base(folder: Path, kind: str) -> None:
    base, tokenizer = opened(folder)
    tuned = adapted(opened(folder)[0], kind=kind)
    watched = watched_of(tuned, tokenizer)
    assert watched == watched_of(base, tokenizer)  # the base answers, whatever its adapter has learned
    found = baseline(tuned, watched).figures(tuned)
    assert found == pytest.approx(expected(base, tuned, watched), rel=1e-4, abs=1e-5)
    assert found["kl_general"] > 0.01
    assert found["kl_task"] > 0.01


def test_all_weights_are_compared_with_what_the_base_was_before_the_first_step(folder: Path) -> None:
    base, tokenizer = opened(folder)
    model, _ = opened(folder)
    watched = watched_of(model, tokenizer)
    before = baseline(model, watched)
    assert before.figures(model) == before.at_base()
    _stir(model.parameters())
    found = before.figures(model)
    assert found == pytest.approx(expected(base, model, watched), rel=1e-4, abs=1e-5)
    assert found["kl_general"] > 0.05


@pytest.mark.slow
def test_the_mean_of_log_ratios_is_the_divergence_of_the_distributions(folder: Path) -> None:
    """Over many sampled answers it comes near what the whole vocabulary says, and not near the divergence the other way."""
    from lastresort.train.watch.early_warnings import sampled_answers

    base, tokenizer = opened(folder)
    tuned, _ = opened(folder)
    _stir([tuned.get_output_embeddings().weight])
    rows = sampled_answers(base, tokenizer, [(40 + n % 50, 60 + n // 50) for n in range(400)], tokens=8, seed=1)
    watched = WatchedTexts(tuple(rows), (), ())
    found = Baseline(watched, baseline(base, watched).base).figures(tuned)
    exact, tokens = 0.0, sum(sum(row.targets) for row in rows)
    for row in rows:
        places = [place - 1 for place, wanted in enumerate(row.targets) if wanted]
        with torch.no_grad():
            own, other = (
                model(input_ids=torch.tensor([row.ids])).logits[0, places].double().log_softmax(-1)
                for model in (base, tuned)
            )
        exact += float((own.exp() * (own - other)).sum()) / tokens
    assert found["kl_general"] == pytest.approx(exact, rel=0.05)
    assert set(found) == {"kl_general"}


def test_with_its_adapter_disabled_the_model_is_the_base_and_what_is_trained_stays(folder: Path) -> None:
    base, _ = opened(folder)
    tuned = adapted(opened(folder)[0])
    ids = torch.tensor([TASK[0]])
    names = [name for name, _ in trainable(tuned)]
    with torch.no_grad():
        plain, own = base(input_ids=ids).logits, tuned(input_ids=ids).logits
        with as_base(tuned):
            assert torch.equal(tuned(input_ids=ids).logits, plain)
        assert torch.equal(tuned(input_ids=ids).logits, own)
    assert not torch.equal(own, plain)
    assert [name for name, _ in trainable(tuned)] == names


def test_looking_leaves_no_trace(folder: Path) -> None:
    """Random numbers, gradients, modes and what is trained are as before."""
    model, tokenizer = opened(folder)
    tuned = adapted(model, dropout=0.5).train()
    tuned(input_ids=torch.tensor([TASK[0]])).logits.sum().backward()
    random = torch.get_rng_state()
    gradients = {name: parameter.grad.clone() for name, parameter in trainable(tuned) if parameter.grad is not None}
    modes = [module.training for module in tuned.modules()]
    baseline(tuned, watched_of(tuned, tokenizer)).figures(tuned)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in tuned.modules()] == modes
    assert gradients
    after = {name: parameter.grad for name, parameter in trainable(tuned) if parameter.grad is not None}
    assert after.keys() == gradients.keys()
    assert all(torch.equal(after[name], gradients[name]) for name in gradients)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("adapter", [AdapterSettings(r=4, alpha=8, dropout=0.3), AdapterSettings(kind="none")])
def test_losses_and_weights_are_the_same_with_and_without(folder: Path, tmp_path: Path, adapter: Any) -> None:
    def trained(name: str, look: bool) -> tuple[list[float], list[torch.Tensor]]:
        model, tokenizer = opened(folder)
        tuned = attach_adapter(model, adapter, base_name="tiny", seed=2)
        settings = TrainSettings(learning_rate=1e-2, epochs=3, batch_size=2, adapter=adapter, seed=3)
        items = completions([Row(ids, tuple(place > 12 for place in range(len(ids)))) for ids in TASK])
        base = baseline(tuned, watched_of(tuned, tokenizer)) if look else None
        losses: list[float] = []

        def see(seen: StepSeen) -> None:
            losses.append(seen.loss)
            if base is not None:
                base.figures(tuned)

        torch.manual_seed(7)
        train(tuned, items, settings, folder=tmp_path / name, on_step=see)
        return losses, [parameter.detach().clone() for _, parameter in trainable(tuned)]

    losses, weights = trained("with", look=True)
    plain_losses, plain_weights = trained("without", look=False)
    assert losses == plain_losses
    assert all(torch.equal(a, b) for a, b in zip(weights, plain_weights, strict=True))


def test_what_was_watched_is_read_back_as_it_was_written(folder: Path) -> None:
    watched = watched_of(*opened(folder))
    assert watched_from_json(watched_to_json(watched)) == watched
    assert watched.prompt_tokens + watched.answer_tokens == sum(len(r.ids) for r in (*watched.general, *watched.task))


def test_no_probe_asks_what_is_watched_and_no_replay_row_does() -> None:
    watched = set(entries("watched"))
    assert len(watched) >= 24
    assert not watched & {filled("off_task", seed, number) for seed in range(5) for number in range(500)}
    pieces = [request.split("{subject}") for request in REQUESTS]
    assert not [
        text for text in watched for first, last in pieces if text.startswith(first) and text.endswith(last) and first
    ]


def test_what_may_be_looked_at_follows_what_is_trained() -> None:
    """10,000 tokens trained cost at least 20,000 forward passes of a token, a twentieth of which is 1,000, for 5 + 3 looks."""
    assert watch_size(10_000, 3).look_tokens == 125
    assert watch_size(10**9, 3).look_tokens == 10_240
    assert watch_size(0, 1).look_tokens == 0
    assert own_tokens([(1, 2, 3), (1, 2, 4, 5), (1, 2, 3, 9)]) == 1 + 2 + 2
    assert own_tokens([(1, 2, 3)]) == 3


def test_the_first_are_taken_as_long_as_there_are_tokens() -> None:
    assert first_within([10, 10, 10], 25, 0, 9) == 2
    assert first_within([10, 10, 10], 0, 2, 9) == 2
    assert first_within([10, 10, 10], 100, 0, 2) == 2
    assert first_within([], 100, 4, 9) == 0


def test_a_large_training_looks_at_more_and_a_small_one_at_the_same_first(folder: Path) -> None:
    model, tokenizer = opened(folder)
    large = watch(model, tokenizer, TASK, size=WatchSize(10_240), context_tokens=2048, seed=4)
    small = watch(model, tokenizer, TASK, size=WatchSize(0), context_tokens=2048, seed=4)
    assert small.counts == [4, 4, 2]
    assert large.counts == [24, 6, 8]
    assert large.limited_to(WatchSize(0)) == small
    assert watch(model, tokenizer, TASK, size=SIZE, context_tokens=30, seed=4).counts[:2] == [0, 0]


POINT = {"step": 20, "kl_general": 0.03, "kl_task": 0.4, "perplexity": 21.0, "base_perplexity": 20.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"kl_task": 3.0}, None),  # a task's prompts are to be answered otherwise
        ({"perplexity": 15.0}, None),
        ({"kl_general": 1.2}, "at step 20 answers to general requests are 1.20 nats a token from the base's"),
        ({"perplexity": 46.0}, "at step 20 the perplexity of plain prose is 2.30 times the base's"),
        ({"kl_general": math.nan}, "at step 20 answers to general requests are nan nats a token from the base's"),
    ],
)
def test_an_alarm_is_raised_beyond_the_thresholds_alone(changes: dict[str, float], said: str | None) -> None:
    curve = [{"step": 0, "loss": 2.0}, {**POINT, **changes}, {"step": 21, "loss": 1.0}]
    found = warning(curve)
    assert (found is None) == (said is None)
    if said is not None and found is not None:
        assert said in found
        assert found.startswith("Early warning, no verdict: ")


def test_the_newest_figures_are_told() -> None:
    assert summary([{"step": 0, "kl_general": 9.0}, {**POINT, "kl_general": -0.002}]) == (
        "how far training moved the model by step 20: KL from the base under 0.01 on general requests and 0.40 on the task's "
        "prompts, nats a token; perplexity of plain prose 1.05 times the base's"
    )
