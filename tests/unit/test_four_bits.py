"""`tune.method: auto` takes QLoRA where the plan says that the card needs it, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from climb_support import scripted_task
from lastresort.hardware.cards import Card, known_cards
from lastresort.hardware.plan.setup import Setup
from lastresort.rungs.supervised import methods as four_bits
from lastresort.rungs.supervised.methods import card_needs_4_bits, in_4_bits, method_of
from lastresort.spec.task import Task, load_task
from lastresort.train.settings import TrainSettings


def task(folder: Path, method: str, model: str = "meta-llama/Llama-3.1-8B") -> Task:
    return load_task(scripted_task(folder, quality=[], task={"tune": {"model": model, "method": method}}))


def with_card(monkeypatch: pytest.MonkeyPatch, card: Card | None) -> None:
    monkeypatch.setattr(four_bits, "card_here", lambda *, processor: card)


@pytest.mark.parametrize(
    ("card", "needed"), [("rtx-3060", True), ("t4", True), ("rtx-4090", False), ("h100", False), (None, False)]
)
def test_auto_follows_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: str | None, needed: bool) -> None:
    with_card(monkeypatch, known_cards()[card] if card else None)
    asked = task(tmp_path, "auto")
    assert in_4_bits(asked) is needed
    assert method_of(asked).name == ("qlora" if needed else "lora")


@pytest.mark.parametrize(
    ("keys", "counted"),
    [
        ({}, "likelihood"),
        ({"sft": {"replay_loss": "kl"}}, "kl"),
        ({"sft": {"replay": 0, "replay_loss": "kl"}}, "likelihood"),
        ({"preference": {"replay": 0.1, "replay_loss": "kl"}}, "kl"),
    ],
)
def test_auto_counts_the_divergence_of_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, object], counted: str
) -> None:
    setups = list[Setup]()

    def fits(_shape: object, setup: Setup, _cards: object) -> object:
        setups.append(setup)
        return SimpleNamespace(fits=setup.method == "qlora")

    with_card(monkeypatch, known_cards()["rtx-3060"])
    monkeypatch.setattr(four_bits, "fit", fits)
    tuned = {"model": "meta-llama/Llama-3.1-8B", "method": "auto"}
    assert in_4_bits(load_task(scripted_task(tmp_path, quality=[], task={"tune": tuned, **keys})))
    assert [setup.replay_loss for setup in setups] == [counted, counted]


def test_what_the_task_says_goes_before_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_card(monkeypatch, known_cards()["rtx-3060"])
    assert in_4_bits(task(tmp_path / "a", "lora")) is False
    with_card(monkeypatch, known_cards()["h100"])
    assert in_4_bits(task(tmp_path / "b", "qlora")) is True


def test_without_bitsandbytes_there_is_no_qlora_to_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_card(monkeypatch, known_cards()["rtx-3060"])
    asked = task(tmp_path, "auto")
    assert in_4_bits(asked) is True
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert in_4_bits(asked) is False


def test_a_model_too_large_for_both_or_unknown_stays_lora() -> None:
    small = known_cards()["rtx-3060"]
    assert card_needs_4_bits("llama-3-70b", Path(), small, r=16) is False
    assert card_needs_4_bits("someone/never-heard-of", Path(), small, r=16) is False
    assert card_needs_4_bits("openai:gpt", Path(), small, r=16) is False


def test_the_pass_is_as_long_as_training_makes_it() -> None:
    assert TrainSettings(learning_rate=1e-4).max_pass_tokens == four_bits.PASS_TOKENS
