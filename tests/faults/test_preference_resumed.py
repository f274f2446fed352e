"""The rung preference on the tiny model, for each kind of data: what it records; cut and resumed it ends the same."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from climb_support import comparable
from lastresort.app.climb import Climbed
from lastresort.records.events.search import RungSearched
from lastresort.records.events.training import (
    BestSampled,
    CandidateMoved,
    GroupsDrawn,
    SamplesPaired,
    TrainingReached,
)
from lastresort.records.record import Record
from lastresort.systems.files import load_system
from lastresort.systems.running import open_answerer
from lastresort.types import Message
from tuning_support import Cut, CutAt, Scissors, climbed, early_figures, labels, pairs, steps_of, tiny_task, tuned_files


@pytest.fixture(scope="module")
def on_pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Climbed, Scissors]:
    """Pairs on top of the rung sft."""
    folder = tmp_path_factory.mktemp("pairs")
    path, scissors = tiny_task(folder, preferences=pairs(), score={"python": "score.py:vowels"}), Scissors()
    return path, climbed(path, folder / "runs" / "whole", scissors), scissors


@pytest.mark.slow
def test_cut_three_times_and_resumed(on_pairs: tuple[Path, Climbed, Scissors], tmp_path: Path) -> None:
    """After each share of the uncut climb's signs of life, in a session of its own."""
    path, whole, scissors = on_pairs
    for share in (0.6, 0.2, 0.15):
        with pytest.raises(Cut):
            climbed(path, tmp_path / "run", Scissors(round(share * scissors.seen)))
    resumed = climbed(path, tmp_path / "run")
    assert comparable(resumed.decision.as_json()) == comparable(whole.decision.as_json())
    assert tuned_files(resumed.run) == tuned_files(whole.run)
    assert early_figures(resumed.run) == early_figures(whole.run)


@pytest.mark.slow
def test_pairs_without_sft_train_orpo_from_the_base_and_the_winner_answers_as_it_was_measured(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task", preferences=pairs(), ladder=["preference"], bar=0.1)
    found = climbed(path, tmp_path / "run")
    system = load_system(found.run / "winner")
    with Record.open(found.run, read_only=True) as record:
        notes = record.all(TrainingReached)
        measured = record.measurement("preference", system.name, "dev[0:20]")
    assert {one.settings.objective.name for one in notes} == {"orpo"}
    assert {one.start for one in notes} == {"base"}
    assert found.decision.as_json()["winner"]["kind"] == "adapter"
    assert system.name == found.decision.as_json()["rungs"][0]["chosen"]
    assert measured is not None
    answers = open_answerer(system, found.run / "winner").answer([(Message("user", i.input),) for i in measured.items])
    assert [answer.text for answer in answers] == [item.answer for item in measured.items]


@pytest.mark.slow
def test_labels_train_kto(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task", preferences=labels(), ladder=["preference"])
    found = climbed(path, tmp_path / "run")
    assert found.decision.as_json()["rungs"][0]["chosen"].startswith("kto-lr")
    with Record.open(found.run, read_only=True) as record:
        moved = [one.moved for one in record.all(CandidateMoved)]
    assert all(m and m.margin_of == "labelled answers trained on" and m.margin_n == 30 * 30 for m in moved)
    assert all(m and m.margin and m.margin > 0 for m in moved)


REWARD = "def vowels(completion):\n    return sum(c in 'aeiou' for c in completion) / 6\n"


@pytest.mark.slow
def test_a_reward_trains_grpo(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "reward.py").write_text(REWARD, encoding="utf-8")
    path = tiny_task(
        tmp_path / "task",
        ladder=["preference"],
        reward=[{"python": "reward.py:vowels"}],
        preference={"learning_rates": [0.003], "samples": 4, "batch_size": 16},
    )
    found = climbed(path, tmp_path / "run")
    rung = found.decision.as_json()["rungs"][0]
    assert rung["chosen"].startswith("grpo-lr")
    with Record.open(found.run, read_only=True) as record:
        (drawn,) = record.all(GroupsDrawn)
        curve, moved = steps_of(record, "grpo-lr0.003"), [one.moved for one in record.all(CandidateMoved)]
    assert drawn.differ
    assert 1 <= drawn.groups <= 16
    assert drawn.tokens_out > 0
    assert "reward_vowels" in curve[0]
    assert all(m and m.margin is None and m.kl > 0 for m in moved)
    assert len(rung["candidates"]) == 3  # one epoch, in three parts


@pytest.mark.slow
def test_a_reward_that_tells_no_answers_apart_trains_nothing(tmp_path: Path) -> None:
    """96 groups are drawn to 70 prompts, no step is trained, and a run that is cut meanwhile and then resumed ends the same."""

    def task(folder: Path) -> Path:
        folder.mkdir()
        (folder / "reward.py").write_text("def same(completion):\n    return 0.5\n", encoding="utf-8")
        return tiny_task(folder, ladder=["preference"], reward=[{"python": "reward.py:same"}])

    whole = climbed(task(tmp_path / "whole"), tmp_path / "whole" / "run")
    rung = whole.decision.as_json()["rungs"][0]
    assert not rung["applies"]
    assert (
        "in none of 96 groups of 8 answers, to 70 different prompts, did the reward differ: with 95% confidence it does in fewer "
        "than 4.2% of groups" in rung["skipped_because"]["text"]
    )
    with Record.open(whole.run, read_only=True) as record:
        (drawn,) = record.all(GroupsDrawn)
        assert not record.all(TrainingReached)
    assert (drawn.groups, drawn.prompts, drawn.differ) == (96, 70, False)
    path = task(tmp_path / "cut")
    with pytest.raises(Cut):
        climbed(path, tmp_path / "cut" / "run", CutAt("preference: does the reward tell", 1))
    assert comparable(climbed(path, tmp_path / "cut" / "run").decision.as_json()) == comparable(
        whole.decision.as_json()
    )


@pytest.mark.release
def test_without_data_the_models_own_samples_are_paired_by_the_scorer(tmp_path: Path) -> None:
    """The rung sft has learned to name colours and to end; which it names is left to chance."""
    path = tiny_task(
        tmp_path / "task",
        head=20,
        score={"python": "score.py:begins"},
        sft={"learning_rates": [0.003], "epochs": 6, "r": 16, "target": "all-linear", "replay": 0.0},
        preference={"learning_rates": [0.003], "epochs": 1},
        decode={"max_new_tokens": 8},
    )
    found = climbed(path, tmp_path / "run")
    sft, rung = found.decision.as_json()["rungs"]
    assert rung["chosen"].startswith("dpo-lr")
    with Record.open(found.run, read_only=True) as record:
        samples, search = record.last(SamplesPaired), record.last(RungSearched, "preference")
        best = record.last(BestSampled)
    assert best is not None
    assert all(one <= most for one, most in zip(best.alone, best.best, strict=True))
    assert samples is not None
    assert search is not None
    assert len(samples.pairs) >= 50
    assert all(pair.chosen.score > pair.rejected.score for pair in samples.pairs)
    assert (
        f"{len(samples.pairs)} pairs from {samples.counts.used} of {samples.counts.prompts} prompts" in search.in_words
    )
    assert "from the adapter of sft" in search.in_words
    assert f"the best of 8 samples scored {fmean(best.best):.1%} on {len(best.best)} dev items" in search.in_words
    assert min(samples.tokens_out, best.tokens_out) > 0
    assert rung["cost"]["tokens_out"] > samples.tokens_out + best.tokens_out
    assert sft["chosen"] in {one.start for one in found_training(found)}


def found_training(found: Climbed) -> list[TrainingReached]:
    with Record.open(found.run, read_only=True) as record:
        return [one for one in record.all(TrainingReached) if one.rung == "preference"]


def test_samples_of_which_not_even_the_best_reach_the_bar_are_not_paired(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task", ladder=["preference"], score="exact", bar=0.5)
    found = climbed(path, tmp_path / "run")
    rung = found.decision.as_json()["rungs"][0]
    assert not rung["applies"]
    text = rung["skipped_because"]["text"]
    assert "not even the best of 8 samples to each dev item reaches the bar of 50.0%" in text
    assert ": the best scored 0.0%" in text
    with Record.open(found.run, read_only=True) as record:
        assert record.last(BestSampled) is not None
        assert record.last(SamplesPaired) is None
    resumed = climbed(path, tmp_path / "run")
    assert comparable(resumed.decision.as_json()) == comparable(found.decision.as_json())
