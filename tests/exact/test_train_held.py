"""Rows that are held to the base: their loss and gradients against full logits, and runs that must be equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_loop import same, some_rows, tiny, weights

from lastresort.engine.forest import Row
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.loop.batches import TrainingItem, batch_of, completions, fingerprint, replayed
from lastresort.train.loop.loop import StepSeen, total_steps, train
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes
from lastresort.train.loop.reference import Base, ReferenceStore
from lastresort.train.settings import AdapterSettings, TrainSettings

SMALL = AdapterSettings(r=4, alpha=8)
WHOLE = AdapterSettings(kind="none")
SETTINGS = TrainSettings(learning_rate=1e-2, epochs=3, batch_size=4, adapter=SMALL, seed=3)


def items(weight: float = 1.0) -> list[TrainingItem]:
    rows = some_rows(12)
    return [*completions(rows[:7]), *replayed(rows[7:], held=True, weight=weight)]


def run(
    folder: Path, settings: TrainSettings = SETTINGS, found: list[TrainingItem] | None = None, **arguments: Any
) -> tuple[Any, list[StepSeen]]:
    model = attach_adapter(tiny(), settings.adapter, base_name="tiny", seed=settings.seed)
    seen: list[StepSeen] = []
    train(model, items() if found is None else found, settings, folder=folder, on_step=seen.append, **arguments)
    return model, seen


def logits(model: Any, row: Row) -> torch.Tensor:
    """log p of every token at the targets, through the model's own forward."""
    found = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, :-1].log_softmax(-1)
    return found[torch.tensor(row.targets[1:])]


def by_hand(model: Any, base: Any, batch: list[TrainingItem]) -> torch.Tensor:
    total, targets = torch.zeros((), dtype=torch.float64), 0
    for item in batch:
        (row,) = item.rows
        own = logits(model, row)
        targets += len(own)
        if item.held:
            with torch.no_grad():
                far = logits(base, row)
            total = total + item.weight * (far.exp() * (far - own)).sum()
        else:
            wanted = torch.tensor([token for token, is_target in zip(row.ids, row.targets, strict=True) if is_target])
            total = total - item.weight * own.gather(1, wanted[:, None]).sum()
    return total / targets


@pytest.mark.sampled(4)
@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, adapter=WHOLE)], ids=["lora", "full"])
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_the_loss_of_every_step_is_that_of_full_logits(settings: TrainSettings, weight: float, tmp_path: Path) -> None:
    """Step by step: the weights before a step give the loss that it reports. Its last steps are far enough to differ."""
    found, base = items(weight), tiny()
    losses = []
    for step in range(total_steps(len(found), settings)):
        model, seen = run(tmp_path / "run", settings, found, until=step + 1)
        losses += [one.loss for one in seen]
        batch = [found[number] for number in batch_of(step + 1, len(found), settings.batch_size, settings.seed)]
        model.eval()
        losses.append(float(by_hand(model, base, batch).detach()))
    paired = list(zip(losses[1:-1:2], losses[2::2], strict=True))
    assert len(paired) == total_steps(len(found), settings) - 1
    for told, expected in paired:
        assert told == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, adapter=WHOLE)], ids=["lora", "full"])
def test_a_run_in_pieces_ends_equal_to_an_uncut_one(settings: TrainSettings, tmp_path: Path) -> None:
    whole, seen = run(tmp_path / "whole", settings)
    pieces: list[StepSeen] = []
    for until in (2, 5, total_steps(12, settings)):
        model, part = run(tmp_path / "cut", settings, until=until)
        pieces += part
    assert [one.loss for one in pieces] == [one.loss for one in seen]
    same(weights(model), weights(whole))


def test_the_output_layer_of_the_base_is_that_of_the_start_and_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    model = attach_adapter(tiny(), WHOLE, base_name="tiny")
    base = Base(Policy(model, 64, Processes()), ReferenceStore(tmp_path / "run", "run", begun=False))
    before = model.lm_head.weight.detach().clone()
    with torch.no_grad():
        model.lm_head.weight.add_(1)
    (far,) = base.far_of(replayed(some_rows(1), held=True))
    assert far is not None
    assert far.head is not None
    assert torch.equal(far.head.module.weight, before)
    assert not far.head.module.weight.requires_grad
    assert base._weights is not None
    assert far.head.module.weight.data_ptr() in {tensor.data_ptr() for tensor in base._weights._kept.values()}


def test_many_passes_change_nothing(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "one")
    cut, _ = run(tmp_path / "many", replace(SETTINGS, max_pass_tokens=30))
    same(weights(cut), weights(whole), tolerance=1e-7)


def test_plain_path_trains_the_same(tmp_path: Path) -> None:
    packed, _ = run(tmp_path / "packed")
    plain, _ = run(tmp_path / "plain", plain=True)
    same(weights(plain), weights(packed), tolerance=1e-5)


def test_a_model_that_is_its_base_learns_nothing_from_held_rows(tmp_path: Path) -> None:
    found = replayed(some_rows(8), held=True)
    _, seen = run(tmp_path / "run", replace(SETTINGS, weight_decay=0.0), found, until=1)
    assert seen[0].loss == pytest.approx(0.0, abs=1e-12)
    assert seen[0].grad_norm == pytest.approx(0.0, abs=1e-12)
    assert seen[0].figures["kl_to_base"] == pytest.approx(0.0, abs=1e-12)


def test_the_distance_shown_is_the_mean_over_held_rows(tmp_path: Path) -> None:
    found, base = items(), tiny()
    model, _ = run(tmp_path / "run", found=found, until=4)
    _, seen = run(tmp_path / "run", found=found, until=5)
    batch = [found[number] for number in batch_of(4, len(found), 4, SETTINGS.seed)]
    held = [item.rows[0] for item in batch if item.held]
    assert held, "the batch was chosen to hold some"
    model.eval()
    with torch.no_grad():
        far = [
            float((logits(base, row).exp() * (logits(base, row) - logits(model, row))).sum(-1).mean()) for row in held
        ]
    assert seen[0].figures["kl_to_base"] == pytest.approx(sum(far) / len(far), rel=1e-6)


def test_the_loss_of_the_task_is_that_of_its_rows_alone(tmp_path: Path) -> None:
    """In one pass and in many. Its weight is that of no held row."""
    found, base = items(weight=2.5), tiny()
    model, _ = run(tmp_path / "run", found=found, until=4)
    batch = [found[number] for number in batch_of(4, len(found), 4, SETTINGS.seed)]
    model.eval()
    expected = float(by_hand(model, base, [item for item in batch if not item.held]).detach())
    for settings in (SETTINGS, replace(SETTINGS, max_pass_tokens=30)):
        folder = tmp_path / str(settings.max_pass_tokens)
        run(folder, settings, found, until=4)
        _, seen = run(folder, settings, found, until=5)
        assert seen[0].figures["task_loss"] == pytest.approx(expected, rel=1e-6)
        assert seen[0].loss != pytest.approx(expected, rel=1e-2)


def test_a_batch_of_held_rows_alone_has_no_loss_of_the_task(tmp_path: Path) -> None:
    _, seen = run(tmp_path / "held", found=replayed(some_rows(4), held=True), until=1)
    assert set(seen[0].figures) == {"kl_to_base"}
    _, seen = run(tmp_path / "free", found=replayed(some_rows(4), held=False), until=1)
    assert not seen[0].figures


def test_held_rows_keep_a_model_nearer_to_its_base(tmp_path: Path) -> None:
    rows = some_rows(12)
    probe = rows[6:]

    def distance(found: list[TrainingItem]) -> float:
        model, _ = run(tmp_path / str(len(found)), replace(SETTINGS, epochs=8, batch_size=len(found)), found)
        with torch.no_grad():
            return sum(
                float((logits(tiny(), row).exp() * (logits(tiny(), row) - logits(model, row))).sum()) for row in probe
            )

    free = distance(completions(rows[:6]))
    held = distance([*completions(rows[:6]), *replayed(rows[6:], held=True, weight=5)])
    assert held < 0.7 * free


def test_held_items_make_another_run(tmp_path: Path) -> None:
    """A checkpoint of a run with likelihood does not go on with held rows, nor with other weights."""
    rows = some_rows(4)
    kinds = [
        completions(rows),
        replayed(rows, held=False),
        replayed(rows, held=True),
        replayed(rows, held=True, weight=2),
    ]
    prints = [fingerprint(one) for one in kinds]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
