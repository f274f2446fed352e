"""The rung full on the tiny model: all weights, with and without pretraining on documents; cut and resumed it ends the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from climb_support import comparable
from lastresort.app.climb import Climbed
from lastresort.records.events.search import RungSearched
from lastresort.records.events.training import BaseAnswered, BaseSummed, TrainingReached
from lastresort.records.record import Record
from lastresort.systems.files import load_system
from lastresort.systems.running import open_answerer
from lastresort.types import Message
from tuning_support import Cut, Scissors, climbed, early_figures, steps_of, tiny_task, tuned_files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Climbed, Scissors]:
    folder = tmp_path_factory.mktemp("full")
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("# Colours\n\n" + "The ape is red. The bee is blue. " * 20, encoding="utf-8")
    (folder / "docs" / "b.txt").write_text("Green things are rare here. " * 20, encoding="utf-8")
    path, scissors = tiny_task(folder, ladder=["full"], knowledge="docs", bar=0.1), Scissors()
    return path, climbed(path, folder / "runs" / "whole", scissors), scissors


def test_the_knowledge_is_learned_as_text_before_the_rows(whole: tuple[Path, Climbed, Scissors]) -> None:
    _, found, _ = whole
    with Record.open(found.run, read_only=True) as record:
        notes = {one.candidate: one for one in record.all(TrainingReached)}
        search = record.last(RungSearched, "full")
        text = steps_of(record, "text")
    assert {"text", "full-lr0.001", "full-lr0.003"} == set(notes)
    assert notes["text"].settings.objective.name == "text"
    assert all(one.settings.adapter.kind == "none" for one in notes.values())
    assert (notes["text"].replay_rows or 0) > 0
    assert text[-1]["loss"] < text[0]["loss"]
    assert search is not None
    assert "first pretrained on the knowledge as plain text (2 documents" in search.in_words
    assert "raced by loss on dev" in search.in_words


def test_the_winner_is_a_whole_model_that_answers_as_it_was_measured(whole: tuple[Path, Climbed, Scissors]) -> None:
    path, found, _ = whole
    assert found.decision.as_json()["winner"]["kind"] == "merged"
    system = load_system(found.run / "winner")
    assert system.adapter is None
    assert system.tuned_from == str((path.parent / "model").resolve())
    assert Path(system.model) == (found.run / "winner" / "model").absolute()
    with Record.open(found.run, read_only=True) as record:
        measured = record.measurement("full", system.name, "dev[0:20]")
    assert measured is not None
    answers = open_answerer(system, found.run / "winner").answer([(Message("user", i.input),) for i in measured.items])
    assert [answer.text for answer in answers] == [item.answer for item in measured.items]


def test_the_winner_can_be_moved(whole: tuple[Path, Climbed, Scissors], tmp_path: Path) -> None:
    import shutil

    _, found, _ = whole
    shutil.copytree(found.run / "winner", tmp_path / "elsewhere")
    system = load_system(tmp_path / "elsewhere")
    assert Path(system.model) == (tmp_path / "elsewhere" / "model").absolute()
    assert open_answerer(system, tmp_path / "elsewhere").answer([(Message("user", "ape 0?"),)])[0].text


def test_every_kept_model_is_compared_with_the_base_that_was_there_before_pretraining(
    whole: tuple[Path, Climbed, Scissors],
) -> None:
    found = early_figures(whole[1].run)
    with Record.open(whole[1].run, read_only=True) as record:
        answers, sums = record.all(BaseAnswered), record.all(BaseSummed)
    went = next(name for name in found if name != "text")
    assert len(found) == 2
    assert found["text"][0]["step"] == 0
    assert found["text"][0]["kl_general"] == 0
    assert {**found["text"][-1], "step": 0} == pytest.approx(found[went][0])  # where the second training begins
    assert len(found[went]) == 3  # its start, and two epochs
    assert len({point["base_perplexity"] for points in found.values() for point in points}) == 1
    assert len(answers) == len(sums) == 1
    entries = whole[1].decision.as_json()["rungs"][0]["early_warnings"]
    assert {entry["training"]: entry["kl_general"] for entry in entries} == {
        name: points[-1]["kl_general"] for name, points in found.items()
    }


def test_no_checkpoint_of_three_times_the_model_is_left(whole: tuple[Path, Climbed, Scissors]) -> None:
    _, found, _ = whole
    assert not list((found.run / "checkpoints").glob("*/*.safetensors"))


@pytest.mark.parametrize("shares", [pytest.param((0.92,), marks=pytest.mark.release), (0.25, 0.35)], ids=str)
def test_cut_and_resumed(shares: tuple[float, ...], whole: tuple[Path, Climbed, Scissors], tmp_path: Path) -> None:
    """After each share of the uncut climb's signs of life, in a session of its own."""
    path, uncut, scissors = whole
    for share in shares:
        with pytest.raises(Cut):
            climbed(path, tmp_path / "run", Scissors(round(share * scissors.seen)))
    resumed = climbed(path, tmp_path / "run")
    assert comparable(resumed.decision.as_json()) == comparable(uncut.decision.as_json())
    assert tuned_files(resumed.run) == tuned_files(uncut.run)
    assert early_figures(resumed.run) == early_figures(uncut.run)
