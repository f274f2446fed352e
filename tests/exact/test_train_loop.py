"""Training: resumed = uninterrupted, one pass = many passes, what is saved = what was trained."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lastresort.engine.forest import Row
from lastresort.engine.logp import target_logps
from lastresort.engine.support import check_first_batch
from lastresort.errors import BudgetError, DataError, InputError
from lastresort.records.training import FirstBatch, TrainedSteps
from lastresort.stop import StopRequest
from lastresort.train.adapters.adapters import (
    adapters_in_base_precision,
    attach_adapter,
    detach,
    save_adapter,
    trainable,
)
from lastresort.train.loop.batches import TrainingItem, batch_of, completions, pairs
from lastresort.train.loop.checkpoints import OPTIMIZER, STATE, Checkpoints, CheckpointState, load_checkpoint
from lastresort.train.loop.gradients import HeldOut
from lastresort.train.loop.loop import Diverged, StepSeen, total_steps, train
from lastresort.train.loop.optimizers import build_optimizer, learning_rate_at, take_step
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes
from lastresort.train.settings import AdapterSettings, Objective, TrainSettings


def tiny(seed: int = 0) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama",
        vocab_size=89,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).double().eval()


def some_rows(n: int = 11) -> list[Row]:
    generator = torch.Generator().manual_seed(5)
    shared = torch.randint(3, 89, (20,), generator=generator).tolist()
    rows = []
    for i in range(n):
        own = torch.randint(3, 89, (4 + i % 5,), generator=generator).tolist()
        ids = (*shared, *own)
        rows.append(Row(ids, tuple(j >= len(ids) - 3 for j in range(len(ids)))))
    return rows


SMALL = AdapterSettings(r=4, alpha=8)
SETTINGS = TrainSettings(learning_rate=1e-2, epochs=3, batch_size=4, adapter=SMALL, seed=3)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainable(model)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance)


def run(folder: Path, settings: TrainSettings = SETTINGS, **arguments: Any) -> tuple[Any, list[StepSeen]]:
    model = attach_adapter(tiny(), settings.adapter, base_name="tiny", seed=settings.seed)
    seen: list[StepSeen] = []
    train(model, completions(some_rows()), settings, folder=folder, on_step=seen.append, **arguments)
    return model, seen


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("dropout", "ratio"), [(0.0, 1), (0.3, 1), (0.0, 4)])
def test_a_run_in_pieces_ends_equal_to_an_uncut_one(dropout: float, ratio: float, tmp_path: Path) -> None:
    """With dropout too: what it draws follows the step. With LoRA+ too, whose groups number the weights otherwise."""
    settings = replace(SETTINGS, adapter=replace(SMALL, dropout=dropout), loraplus_lr_ratio=ratio)
    whole, seen = run(tmp_path / "whole", settings)
    steps = total_steps(11, settings)
    assert [one.step for one in seen] == list(range(1, steps + 1))
    pieces: list[StepSeen] = []
    for until in (2, 5, steps):
        model, part = run(tmp_path / "cut", settings, until=until)
        pieces += part
    assert [one.step for one in pieces] == list(range(1, steps + 1))
    assert [one.loss for one in pieces] == [one.loss for one in seen]
    same(weights(model), weights(whole))
    if dropout:
        assert seen[0].grad_norm != run(tmp_path / "without", until=1)[1][0].grad_norm


def test_the_loss_falls(tmp_path: Path) -> None:
    _, seen = run(tmp_path / "run", TrainSettings(learning_rate=3e-2, epochs=12, batch_size=4, adapter=SMALL))
    first, last = seen[:3], seen[-3:]
    assert sum(one.loss for one in last) < sum(one.loss for one in first) - 0.3


def test_many_passes_change_nothing(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "one")
    cut, seen = run(tmp_path / "many", replace(SETTINGS, max_pass_tokens=30))
    same(weights(cut), weights(whole), tolerance=1e-7)  # AdamW divides by tiny second moments
    assert seen[0].computed_tokens > 60  # the batch was really cut


def test_plain_path_trains_the_same(tmp_path: Path) -> None:
    packed, _ = run(tmp_path / "packed")
    plain, _ = run(tmp_path / "plain", plain=True)
    same(weights(plain), weights(packed), tolerance=1e-5)


WINDOW = 40


def windowed() -> Any:
    """A model of which the packed form takes 40 tokens."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "mistral",
        vocab_size=89,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=WINDOW,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).double().eval()
    return attach_adapter(model, SMALL, base_name="tiny")


def long_rows(numbers: Sequence[int], n: int) -> list[TrainingItem]:
    """Rows of which those of these numbers are longer than the window."""
    return completions(
        [
            Row((7,) * WINDOW + row.ids, (False,) * WINDOW + row.targets) if i in numbers else row
            for i, row in enumerate(some_rows(n))
        ]
    )


@pytest.mark.parametrize("right", [True, False])
def test_a_first_batch_beyond_the_window_is_checked_all_the_same(
    right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are shortened for it; later batches, which the packed form takes, are trained by the path that was found right."""
    settings = replace(SETTINGS, epochs=1)
    first = batch_of(0, 8, settings.batch_size, settings.seed)
    if not right:

        def wrong(model: Any, rows: Sequence[Row]) -> FirstBatch:
            return check_first_batch(model, rows).replaced(ok=False, reason="packed and plain differ")

        monkeypatch.setattr("lastresort.train.loop.policy.check_first_batch", wrong)
    paths: list[str] = []

    def score(*arguments: Any, **named: Any) -> Any:
        found = target_logps(*arguments, **named)
        paths.append(found.path)
        return found

    monkeypatch.setattr("lastresort.train.loop.policy.target_logps", score)
    trained = train(windowed(), long_rows(first, 8), settings, folder=tmp_path / "run")
    assert trained.check is not None
    assert trained.check.gradient_difference is not None, "the check was made"
    assert trained.check.ok == right
    assert paths == (["plain", "packed"] if right else ["plain", "plain"])


def test_what_a_checkpoint_holds_has_the_same_name_in_the_record_of_a_training() -> None:
    """A field that has a default there and is renamed on one side alone would take its default without a word."""
    assert {one.name for one in fields(CheckpointState)} - {"run"} <= TrainedSteps.model_fields.keys()


def test_a_checkpoint_of_another_run_is_not_continued_and_that_is_said(tmp_path: Path) -> None:
    run(tmp_path / "run", until=4)
    other, progress = replace(SETTINGS, learning_rate=2e-2), Stages()
    _, seen = run(tmp_path / "run", other, progress=progress)
    assert seen[0].step == 1
    said = f"{tmp_path / 'run'} holds a checkpoint of other settings, data or weights: training starts over"
    assert progress.stages[0] == [said]


def test_the_deadline_stops_with_a_checkpoint(tmp_path: Path) -> None:
    asked = iter([None, None, StopRequest("time", "the time limit is reached")])
    with pytest.raises(BudgetError, match=r"the time limit is reached, in step 3 of 9"):
        run(tmp_path / "run", stop=SimpleNamespace(requested=lambda: next(asked)))
    model, seen = run(tmp_path / "run")
    assert seen[0].step == 3
    same(weights(model), weights(run(tmp_path / "whole")[0]))


class Stages:
    """Progress that remembers: each stage with its total and how far it got."""

    def __init__(self) -> None:
        self.stages: list[list[Any]] = []

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.stages.append([label, total, done])

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.stages[-1][2] += amount

    def say(self, text: str) -> None:
        self.stages.append([text])

    def count_steps(self) -> None:
        self.stages[-1].append("steps")


def pair_items(n: int = 11) -> list[TrainingItem]:
    rows = some_rows(n)
    return pairs(rows, [Row((*row.ids[:-3], 5, 6, 7), row.targets) for row in rows])


def test_the_reference_and_the_evaluation_are_stages_with_a_total(tmp_path: Path) -> None:
    """Small passes, so that each stage is advanced more than once; a run that goes on reads the reference back."""
    found: list[list[Any]] = []
    for until in (4, None):
        progress = Stages()
        settings = replace(SETTINGS, objective=Objective("dpo"), epochs=2, max_pass_tokens=60)
        model = attach_adapter(tiny(), SMALL, base_name="tiny")
        held_out = pair_items(13)[11:]
        arguments: dict[str, Any] = {"held_out": held_out, "until": until, "progress": progress}
        train(model, pair_items(), settings, folder=tmp_path / "run", **arguments)
        found += progress.stages
    assert found == [
        ["the first batch", None, 0],
        ["the reference", 11, 11],
        ["the reference of the items held out", 2, 2],
        ["training", 6, 0, "steps"],
        ["evaluating 2 items held out", 2, 2],
        ["training continues from step 4", 6, 3, "steps"],
        ["the first batch", None, 0],
        ["training continues from step 5", 6, 4, "steps"],
        ["evaluating 2 items held out", 2, 2],
    ]


def test_the_seconds_of_the_reference_and_of_the_evaluation_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock on which only these take time: 100 s a reference, 1,000 s an evaluation of two epochs."""
    now = [0.0]
    sums, evaluated = Policy.logps_of, HeldOut.evaluate

    def slow_sums(*arguments: Any, **named: Any) -> Any:
        now[0] += 100
        return sums(*arguments, **named)

    def slow_evaluation(*arguments: Any) -> Any:
        now[0] += 1000
        return evaluated(*arguments)

    monkeypatch.setattr(Policy, "logps_of", slow_sums)
    monkeypatch.setattr(HeldOut, "evaluate", slow_evaluation)
    settings, seconds = replace(SETTINGS, objective=Objective("dpo"), epochs=2), []
    for until in (2, None):
        model = attach_adapter(tiny(), SMALL, base_name="tiny")
        items = {"held_out": pair_items(13)[11:], "until": until, "clock": lambda: now[0]}
        trained = train(model, pair_items(), settings, folder=tmp_path / "run", **items)
        seconds.append(trained.seconds)
    assert seconds == [200, 200 + 2000]


@pytest.mark.parametrize(
    ("every_s", "saving_s", "saved_at"),
    [(30, 2, [40, 82, 124]), (30, 100, [40, 1050, 2060]), (0, 100, [10, 120, 230])],
    ids=["quick", "slow", "after each step"],
)
def test_checkpoints_that_take_long_come_less_often(
    every_s: float, saving_s: float, saved_at: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 10 s. Saving takes at most a tenth of the time, unless a checkpoint after each step was asked for."""
    now, found = [0.0], list[float]()

    def save(*_: Any) -> None:
        found.append(now[0])
        now[0] += saving_s

    monkeypatch.setattr("lastresort.train.loop.checkpoints.save_checkpoint", save)
    kept = Checkpoints(tmp_path, torch.nn.Linear(1, 1), None, "run", Processes(), every_s, lambda: now[0])
    while len(found) < 3:
        now[0] += 10
        if kept.due:
            kept.save(CheckpointState(1, "run", 0, 0, now[0]))
    assert found == saved_at


def test_what_a_run_goes_on_from_is_in_memory_and_no_longer_in_its_file(tmp_path: Path) -> None:
    """safetensors maps a file: the next checkpoint would replace it, and its room on the disk would stay taken to the end."""
    folder = tmp_path / "run"
    run(folder, until=2)
    model = attach_adapter(tiny(), SMALL, base_name="tiny")
    optimizer = build_optimizer(trainable(model), SETTINGS)
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    assert load_checkpoint(folder, model, optimizer, state["run"]) is not None
    found = [optimizer.state[one]["exp_avg"] for _, one in trainable(model)]
    before = [one.clone() for one in found]
    kept = folder / OPTIMIZER
    with kept.open("r+b") as file:  # the same file, not one in its place
        file.write(bytes(kept.stat().st_size))
    assert all(torch.equal(one, other) for one, other in zip(found, before, strict=True))
    assert any(one.any() for one in found)


def test_a_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    model = attach_adapter(tiny(), SETTINGS.adapter, base_name="tiny", seed=SETTINGS.seed)
    with torch.no_grad():
        next(iter(trainable(model)))[1].fill_(float("nan"))
    with pytest.raises(DataError, match=r"the loss became nan in step 1 of 9"):
        train(model, completions(some_rows()), SETTINGS, folder=tmp_path / "run")


def test_gradients_that_are_not_finite_stop_before_they_reach_the_weights(tmp_path: Path) -> None:
    """The loss may well be finite. What stood before is in the checkpoint, from which the run goes on."""
    model = attach_adapter(tiny(), SMALL, base_name="tiny", seed=SETTINGS.seed)
    seen: list[StepSeen] = []
    spoilt = trainable(model)[0][1]
    spoilt.register_hook(lambda gradient: gradient * (float("inf") if len(seen) == 2 else 1.0))
    with pytest.raises(Diverged, match=r"the norm of the gradients became (nan|inf) in step 3 of 9"):
        train(
            model,
            completions(some_rows()),
            SETTINGS,
            folder=tmp_path / "run",
            on_step=seen.append,
            checkpoint_every_s=0,
        )
    assert all(bool(parameter.isfinite().all()) for _, parameter in trainable(model))
    resumed, after = run(tmp_path / "run")
    assert after[0].step == 3
    same(weights(resumed), weights(run(tmp_path / "whole")[0]))


def test_a_saved_adapter_answers_as_the_trained_one_and_detaching_gives_the_base_back(tmp_path: Path) -> None:
    from peft import PeftModel

    model, _ = run(tmp_path / "run")
    ids = torch.tensor([list(some_rows()[0].ids)])
    with torch.no_grad():
        trained = model(input_ids=ids).logits
        save_adapter(model, tmp_path / "adapter")
        loaded = PeftModel.from_pretrained(tiny(), str(tmp_path / "adapter")).eval()
        torch.testing.assert_close(loaded(input_ids=ids).logits, trained, rtol=1e-6, atol=1e-6)
        base = tiny()(input_ids=ids).logits
        assert (trained - base).abs().max() > 1e-3
        torch.testing.assert_close(detach(model)(input_ids=ids).logits, base, rtol=0, atol=0)


def test_each_epoch_holds_every_row_once_in_another_order() -> None:
    for epoch in range(2):
        rows = [i for step in range(epoch * 3, epoch * 3 + 3) for i in batch_of(step, 11, 4, seed=1)]
        assert sorted(rows) == list(range(11))
    assert batch_of(0, 11, 11, 1) != batch_of(1, 11, 11, 1) != batch_of(1, 11, 11, 2)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    settings = TrainSettings(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate_at(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_a_warmup_from_1_on_counts_steps() -> None:
    for count in (1, 7):
        by_count = TrainSettings(learning_rate=1.0, warmup=count)
        rates = [learning_rate_at(step, 50, by_count) for step in range(50)]
        assert rates == [
            learning_rate_at(step, 50, TrainSettings(learning_rate=1.0, warmup=count / 50)) for step in range(50)
        ]
        assert rates[:count] == pytest.approx([(i + 1) / count for i in range(count)])
        assert rates[count] == 1.0 > rates[count + 1]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedules_are_those_of_transformers(schedule: Any) -> None:
    """Whose warm-up begins at 0, which would waste a step: here it begins at its second rate."""
    from transformers import get_scheduler

    settings = TrainSettings(learning_rate=0.5, schedule=schedule, warmup=0.25)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    name = {"constant": "constant_with_warmup"}.get(schedule, schedule)
    theirs, rates = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=20), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = [learning_rate_at(step, 20, settings) for step in range(20)]
    assert ours[5:] == pytest.approx(rates[5:])
    assert ours[:5] == pytest.approx(rates[1:6])
    assert 0 < ours[0] < ours[5] == 0.5


def test_a_step_is_adamws_on_clipped_gradients() -> None:
    """Loshchilov & Hutter 2019, algorithm 2. The gradient (3, 4), of norm 5, is clipped to (0.6, 0.8). At the first step the
    moments' ratio is the sign: each weight falls by the rate, 0.1, after it has lost 0.1 x 0.5 of itself to the decay.
    """
    settings = TrainSettings(learning_rate=1.0, weight_decay=0.5)
    weight = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    optimizer = build_optimizer([("weight", weight)], settings)
    weight.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert take_step(optimizer, 0.1, 1.0) == pytest.approx(5.0)
    assert weight.tolist() == pytest.approx([2.0 * 0.95 - 0.1, -1.0 * 0.95 - 0.1], rel=1e-6)
    assert optimizer.state[weight]["exp_avg"].tolist() == pytest.approx([0.06, 0.08], rel=1e-5)
    assert weight.grad is None


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_lora_plus_is_that_of_peft(tmp_path: Path, kind: Any) -> None:
    """Its optimizer over the same steps: the same batches, a constant rate, no clipping, decay on all matrices."""
    from peft.optimizers import create_loraplus_optimizer

    adapter, rows = replace(SMALL, kind=kind), some_rows(8)
    settings = TrainSettings(
        1e-2, epochs=2, batch_size=8, adapter=adapter, schedule="constant", warmup=0, max_grad_norm=1e9, loraplus_lr_ratio=4,
        weight_decay=0.1,
    )  # fmt: skip
    ours = attach_adapter(tiny(), adapter, base_name="tiny")
    train(ours, completions(rows), settings, folder=tmp_path)

    theirs = attach_adapter(tiny(), adapter, base_name="tiny")
    matrices = [parameter for _, parameter in trainable(theirs) if parameter.ndim > 1]
    optimizer = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=1e-2, loraplus_lr_ratio=4, loraplus_weight_decay=0.1
    )
    assert sum(group["weight_decay"] > 0 for group in optimizer.param_groups for _ in group["params"]) >= len(matrices)
    for _ in range(2):
        (-target_logps(theirs, rows).per_token.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    for (name, mine), (_, other) in zip(trainable(ours), trainable(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_a_ratio_moves_every_b_and_makes_another_run(tmp_path: Path) -> None:
    plain, plus = (attach_adapter(tiny(), SMALL, base_name="tiny") for _ in range(2))
    settings = replace(SETTINGS, max_steps=2)
    train(plain, completions(some_rows()), settings, folder=tmp_path / "plain")
    train(plus, completions(some_rows()), replace(settings, loraplus_lr_ratio=4), folder=tmp_path / "plus")
    moved = {
        name: float((p - q).detach().abs().max())
        for (name, p), (_, q) in zip(trainable(plain), trainable(plus), strict=True)
    }
    assert min(change for name, change in moved.items() if "lora_B" in name) > 1e-3
    assert settings.fingerprint() != replace(settings, loraplus_lr_ratio=4).fingerprint()


def test_a_run_without_a_ratio_is_that_of_the_version_before_there_was_one() -> None:
    assert TrainSettings(1e-4).fingerprint() == "ec10e8237d2d4e50"


def test_a_ratio_beside_no_adapter_is_refused() -> None:
    with pytest.raises(InputError, match=r"loraplus_lr_ratio.*adapter"):
        TrainSettings(1e-4, adapter=AdapterSettings(kind="none"), loraplus_lr_ratio=2)


def test_adapters_in_base_precision_are_as_near_to_the_truth_as_peft():
    """bf16 base: gradients of both ways against float64 on the same (bf16-rounded) weights."""
    rows, found = some_rows(), {}
    rounded = tiny().bfloat16()
    for name, dtype in (("truth", torch.float64), ("peft", torch.bfloat16), ("ours", torch.bfloat16)):
        model = attach_adapter(copy.deepcopy(rounded).to(dtype), SMALL, base_name="tiny")
        with torch.no_grad():
            for i, (_, parameter) in enumerate(trainable(model)):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
        with adapters_in_base_precision(model) if name == "ours" else nullcontext():
            logps = target_logps(model, rows).per_token
        (-logps.mean()).backward()
        found[name] = torch.cat([p.grad.double().flatten() for _, p in trainable(model)])
        assert {p.dtype for _, p in trainable(model)} == {dtype if dtype == torch.float64 else torch.float32}
    apart = {name: float((g - found["truth"]).norm() / found["truth"].norm()) for name, g in found.items()}
    assert 0 < apart["ours"] < max(0.05, 2 * apart["peft"])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointed_layers_of_a_16_bit_base_are_computed_again_alike(tmp_path: Path, dropout: float):
    """With dropout in the adapter, whose input PEFT would turn into float32 in the second computation alone."""
    adapter = AdapterSettings(r=4, alpha=8, dropout=dropout)

    def losses(checkpointing: bool) -> list[float]:
        settings = replace(SETTINGS, adapter=adapter, checkpointing=checkpointing, max_steps=3)
        model = attach_adapter(tiny().bfloat16(), adapter, base_name="tiny", seed=settings.seed)
        seen: list[StepSeen] = []
        folder = tmp_path / str(checkpointing)
        train(model, completions(some_rows()), settings, folder=folder, on_step=seen.append)
        return [step.loss for step in seen]

    again = losses(True)
    assert len(again) == 3
    assert again == pytest.approx(losses(False), rel=0.02)
