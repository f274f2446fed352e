"""Rows of replay among pairs and labelled answers: loss and gradients as on plain forwards, packed and plain, resumed as uncut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_objectives import OPTIONS, SMALL, by_hand, items_of, move, prompts, settings_of, target_logps

from engine_support import draw, relative_difference, row, tiny
from lastresort.engine.forest import Row
from lastresort.train.adapters.adapters import attach_adapter, trainable
from lastresort.train.loop.batches import DataSet, TrainingItem, replayed
from lastresort.train.loop.gradients import batch_gradients
from lastresort.train.loop.loop import StepSeen, train
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes
from lastresort.train.loop.reference import Base, ReferenceStore, reference_of_run
from lastresort.types import SilentProgress

NAMES = ["dpo", "orpo", "simpo", "kto"]
GENERAL = [row(draw(6, 200 + i), draw(3 + i, 210 + i)) for i in range(3)] + [row(prompts()[0], draw(5, 220))]


def mixed(name: str, *, held: bool, weight: float = 1.0) -> list[TrainingItem]:
    """Replay between the others, and one row that shares its prompt with a pair."""
    own, general = items_of(name), replayed(GENERAL, held=held, weight=weight)
    return [general[0], *own[:4], general[1], *own[4:], *general[2:]]


def moved() -> Any:
    model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
    move(model)
    return model


def distributions(model: Any, item: Row) -> torch.Tensor:
    logps = model(input_ids=torch.tensor([item.ids])).logits[0].log_softmax(-1)
    return torch.stack([logps[place - 1] for place, wanted in enumerate(item.targets) if wanted])


def replay_by_hand(model: Any, *, held: bool) -> list[torch.Tensor]:
    """Of each row the mean over its targets."""
    if not held:
        return [-target_logps(model, item).mean() for item in GENERAL]
    found = []
    for item in GENERAL:
        with model.disable_adapter(), torch.no_grad():
            far = distributions(model, item)
        found.append((far.exp() * (far - distributions(model, item))).sum(-1).mean())
    return found


def computed(
    name: str, folder: Path, *, held: bool, weight: float, plain: bool = False, max_pass_tokens: int = 1536
) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
    model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
    settings = settings_of(name, batch_size=20, options=tuple(OPTIONS[name].items()))
    source = DataSet(mixed(name, held=held, weight=weight), 20, 3)
    policy, store = Policy(model, max_pass_tokens, Processes(), plain=plain), ReferenceStore(folder, "run", begun=False)
    reference = reference_of_run(policy, source, settings.objective, store, SilentProgress())
    move(model)
    batch = source.at(0, model, reference.of_answers)
    passed = batch_gradients(policy, batch, settings.objective, reference, base=Base(policy, store))
    gradients = {n: p.grad.clone() for n, p in trainable(model) if p.grad is not None}
    return passed.loss, gradients, dict(passed.figures)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("held", [True, False], ids=["kl", "likelihood"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_plain_forwards(name: str, held: bool, tmp_path: Path) -> None:
    loss, found, figures = computed(name, tmp_path, held=held, weight=2.5)
    model = moved()
    replay = replay_by_hand(model, held=held)
    own = len(items_of(name))
    expected = (own * by_hand(name, model) + 2.5 * torch.stack(replay).sum()) / (own + len(GENERAL))
    expected.backward()  # type: ignore[no-untyped-call]
    assert min(one.item() for one in replay) > 0.001, "a missing row would be missed"
    assert loss == pytest.approx(expected.item(), rel=1e-7)
    assert relative_difference(found, {n: p.grad for n, p in trainable(model)}) < 1e-6
    assert ("kl_to_base" in figures) == held
    if held:
        assert figures["kl_to_base"] == pytest.approx(sum(one.item() for one in replay) / len(GENERAL), rel=1e-7)


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_figures_of_the_pairs_are_those_without_replay(name: str, tmp_path: Path) -> None:
    model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
    settings = settings_of(name, batch_size=20, options=tuple(OPTIONS[name].items()))
    source, policy = DataSet(items_of(name), 20, 3), Policy(model, 1536, Processes())
    store = ReferenceStore(tmp_path / "alone", "run", begun=False)
    reference = reference_of_run(policy, source, settings.objective, store, SilentProgress())
    move(model)
    alone = batch_gradients(policy, source.at(0, model, None), settings.objective, reference).figures
    _, _, figures = computed(name, tmp_path, held=True, weight=1.0)
    assert set(figures) - set(alone) == {"kl_to_base"}
    for key, value in alone.items():
        assert figures[key] == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize("name", ["dpo", "kto"])
@pytest.mark.parametrize("changes", [{"plain": True}, {"max_pass_tokens": 40}], ids=["plain", "many passes"])
def test_neither_path_nor_passes_change_anything(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    loss, found, figures = computed(name, tmp_path / "one", held=True, weight=1.0)
    other_loss, other, other_figures = computed(name, tmp_path / "other", held=True, weight=1.0, **changes)
    assert other_loss == pytest.approx(loss, rel=1e-7)
    assert relative_difference(other, found) < 1e-6
    assert other_figures == pytest.approx(figures, rel=1e-7)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["dpo", "orpo", "kto"])
def test_resumed_is_uninterrupted_bit_for_bit(name: str, tmp_path: Path) -> None:
    """In batches of three, some hold replay alone, some none."""

    def run(folder: Path, *untils: int | None) -> tuple[dict[str, torch.Tensor], list[StepSeen]]:
        seen: list[StepSeen] = []
        for until in untils:
            model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
            train(model, mixed(name, held=True), settings_of(name), folder=folder, on_step=seen.append, until=until)
        return {n: p.detach().clone() for n, p in trainable(model)}, seen

    whole, seen = run(tmp_path / "whole", None)
    cut, pieces = run(tmp_path / "cut", 2, 5, None)
    assert [one.loss for one in pieces] == [one.loss for one in seen]
    assert all(torch.equal(cut[name], weight) for name, weight in whole.items())


def test_a_batch_of_replay_alone_has_its_loss(tmp_path: Path) -> None:
    model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
    seen: list[StepSeen] = []
    settings = settings_of("kto", batch_size=4, epochs=1)
    items = replayed(GENERAL, held=True)
    train(model, items, settings, folder=tmp_path / "run", on_step=seen.append)
    assert seen[0].loss == pytest.approx(0.0, abs=1e-12), "the model is its base"
    assert seen[0].figures["kl_to_base"] == pytest.approx(0.0, abs=1e-12)
