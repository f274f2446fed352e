"""`replay_loss: kl`: a climb holds its replay rows to the base."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lastresort.climb.prepare import ignored_keys
from lastresort.records.events.search import RungSearched
from lastresort.records.events.training import TrainingReached
from lastresort.records.reasons import ReplayKeyIgnored
from lastresort.records.record import Record
from lastresort.records.rungs import PreferencePlan
from lastresort.rungs.notes import NothingReplayed
from lastresort.rungs.preference.training import PreferenceTraining
from lastresort.spec.task import load_task
from tuning_support import Scissors, climbed, labels, pairs, steps_of, tiny_task

WEIGHT_AND_PROMPTS = [("replay_weight", "2"), ("replay_prompts", "wide")]
SFT = {"learning_rates": [0.003], "epochs": 2, "r": 4, "replay": 0.3, "batch_size": 8}


def _run(tmp_path: Path, **keys: object) -> Path:
    path = tiny_task(tmp_path / "task", ladder=["sft"], sft={**SFT, **keys})
    return climbed(path, tmp_path / "run").run


@pytest.mark.slow
def test_a_climb_trains_with_held_replay_and_says_so(tmp_path: Path) -> None:
    run = _run(tmp_path, replay_loss="kl", replay_weight=2)
    with Record.open(run, read_only=True) as record:
        steps = steps_of(record, "lr0.003")
        search = record.last(RungSearched)
    far = [step["kl_to_base"] for step in steps if "kl_to_base" in step]
    assert far[0] == pytest.approx(0.0, abs=1e-6), "the first step finds the model at its base"
    assert far[-1] > 0
    assert search is not None
    assert any("of replay held to the base" in finding.text for finding in search.findings)


@pytest.mark.slow
def test_replay_by_likelihood_knows_no_distance(tmp_path: Path) -> None:
    with Record.open(_run(tmp_path, replay_loss="likelihood"), read_only=True) as record:
        assert not any("kl_to_base" in step for step in steps_of(record, "lr0.003"))


@pytest.mark.slow
def test_a_model_whose_head_is_not_known_is_trained_by_likelihood_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from lastresort.engine import support

    known = support.support
    monkeypatch.setattr("lastresort.engine.support.support", lambda model: replace(known(model), head=None))
    said: list[str] = []
    monkeypatch.setattr("lastresort.types.SilentProgress.say", lambda self, text: said.append(text))
    run = _run(tmp_path, replay_loss="kl")
    with Record.open(run, read_only=True) as record:
        assert not any("kl_to_base" in step for step in steps_of(record, "lr0.003"))
        search = record.last(RungSearched)
    assert search is not None
    assert not any("held to the base" in finding.text for finding in search.findings)
    assert any("replay rows are trained by likelihood" in text for text in said)


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize(("given", "run_name"), [(pairs(), "orpo-lr0.003"), (labels(), "kto-lr0.003")])
def test_preferences_train_with_replay_held_to_the_base(given: list[object], run_name: str, tmp_path: Path) -> None:
    settings = {"learning_rates": [0.003], "epochs": 1, "replay": 0.2, "replay_loss": "kl", "batch_size": 8}
    path = tiny_task(tmp_path / "task", ladder=["preference"], preferences=given, preference=settings)
    run = climbed(path, tmp_path / "run").run
    with Record.open(run, read_only=True) as record:
        steps, search, reached = steps_of(record, run_name), record.last(RungSearched), record.last(TrainingReached)
    far = [step["kl_to_base"] for step in steps if "kl_to_base" in step]
    assert far[-1] > 0
    assert search is not None
    assert reached is not None
    assert 0 < (reached.replay_rows or 0) <= 15
    assert f"{reached.replay_rows} rows of replay held to the base" in search.in_words


@pytest.mark.parametrize(
    ("rung", "keys", "said"),
    [
        ("sft", {}, []),
        ("sft", {"replay": 0, "replay_loss": "likelihood"}, []),
        ("sft", {"replay": 0, "replay_loss": "kl"}, [("replay_loss", "kl")]),
        ("full", {"replay": 0, "replay_weight": 2, "replay_prompts": "wide"}, WEIGHT_AND_PROMPTS),
        ("full", {"replay": 0.2, "replay_loss": "kl"}, []),
        ("preference", {"replay_loss": "kl"}, [("replay_loss", "kl")]),
    ],
)
def test_keys_of_replay_that_change_nothing_are_named(
    rung: str, keys: dict[str, Any], said: list[tuple[str, str]], tmp_path: Path
) -> None:
    task = load_task(tiny_task(tmp_path, **{rung: keys}))
    assert ignored_keys(task) == [ReplayKeyIgnored(rung, *one) for one in said]


@pytest.mark.parametrize(
    ("source", "keys", "said"),
    [
        ("reward", {}, []),
        ("reward", {"replay": 0.2}, [NothingReplayed()]),
        ("reward", {"replay_loss": "kl"}, []),
        ("file", {"replay_loss": "kl"}, []),
    ],
)
def test_replay_that_a_reward_does_not_take_is_named(
    source: Any, keys: dict[str, Any], said: list[NothingReplayed], tmp_path: Path
) -> None:
    found: list[NothingReplayed] = []
    training: Any = object.__new__(PreferenceTraining)
    training._bench = SimpleNamespace(
        task=load_task(tiny_task(tmp_path, preference=keys)), say=lambda rung, note: found.append(note)
    )
    objective: Any = "grpo" if source == "reward" else "dpo"
    training._rung, training._plan = "preference", PreferencePlan(objective, source, on_sft=False)
    assert not training._replay().examples
    assert found == said


@pytest.mark.slow
def test_a_reward_takes_no_replay_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    source = "def vowels(completion):\n    return sum(c in 'aeiou' for c in completion) / 6\n"
    (tmp_path / "task" / "reward.py").write_text(source, encoding="utf-8")
    path = tiny_task(
        tmp_path / "task",
        ladder=["preference"],
        reward=[{"python": "reward.py:vowels"}],
        preference={"learning_rates": [0.01], "epochs": 1, "batch_size": 4, "samples": 2, "replay": 0.2},
    )
    scissors = Scissors()
    climbed(path, tmp_path / "run", scissors)
    assert "preference: no rows are replayed, since GRPO trains on its own samples only." in scissors.said
