"""A study that is cut anywhere goes on where it was: no finished cell is done again, and its rows are those of one not cut."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lastresort.app.study import StudyRequest, run_study
from lastresort.cli.border import guarded, last_words
from lastresort.cli.main import app
from lastresort.climb.prepare import prepare
from lastresort.data.split import nested
from lastresort.errors import (
    BudgetError,
    DataError,
    InputError,
    OutOfMemoryError,
    PrerequisiteError,
    StopRequestedError,
)
from lastresort.evals.measure import LocalExecutor, MeasureJob, Result
from lastresort.records.atomic import held
from lastresort.rungs import divided
from lastresort.rungs.prompting.prompts import shots_of
from lastresort.spec.task import load_task
from lastresort.stop import Stop, StopSignal
from lastresort.systems.system import PromptDesign
from lastresort.train.loop import batches
from lastresort.types import Example
from tiny_model import save_tiny_model
from tuning_support import COLOURS, Cut, CutAt, Scissors, questions, tiny_task, write_jsonl

CONTEXT = 900  # tokens
FREE = ("seconds", "answer_s")  # what two runs do not share


def request(folder: Path, kind: Any = "min-data", **keys: Any) -> StudyRequest:
    path = tiny_task(folder / "task", output={"choices": list(COLOURS)}, score="choice", **keys)
    return StudyRequest(kind, path, sizes=(16, 40), seeds=2, out=folder / "studies" / "own")


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "studies" / "own" / "rows.jsonl").read_text("utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in FREE} for line in lines]


@pytest.mark.slow
def test_a_study_that_is_cut_again_and_again_comes_to_the_same_rows(tmp_path: Path) -> None:
    whole = run_study(request(tmp_path / "whole"), Scissors()).document
    cut = request(tmp_path / "cut")
    for label, after in (("zero-shot: dev", 2), ("sft, learning rate", 3), ("sft, 40 examples, seed 0: dev", 2)):
        with pytest.raises(Cut):
            run_study(cut, CutAt(label, after))
    progress = Scissors()
    found = run_study(cut, progress).document
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert "zero-shot: dev" not in progress.labels
    assert not any("of 3: sft, 16 examples, seed 0" in said for said in progress.said)
    assert found.replaced(seconds=0) == whole.replaced(seconds=0)
    assert not list((tmp_path / "cut" / "studies" / "own" / "cells").iterdir())
    again = Scissors()
    assert run_study(cut, again).document == found
    assert "All 5 cells of the study are done." in again.said


def test_the_first_cell_measures_dev_alone_and_learns_its_subset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast part of the next test: cut where the first training begins."""
    measured, trained = set[str](), list[tuple[str, ...]]()
    run, render = LocalExecutor.run, batches.training_rows

    def measure(self: LocalExecutor, jobs: Sequence[MeasureJob], *arguments: Any) -> None:
        measured.update(example.id for job in jobs for example in job.examples)
        run(self, jobs, *arguments)

    def learn(tokenizer: Any, examples: Sequence[Example], *arguments: Any, **keywords: Any) -> Any:
        if not examples:
            return render(tokenizer, examples, *arguments, **keywords)
        trained.append(tuple(example.id for example in examples))
        raise Cut

    monkeypatch.setattr(LocalExecutor, "run", measure)
    monkeypatch.setattr(batches, "training_rows", learn)
    own = request(tmp_path, decode={"max_new_tokens": 1})
    with pytest.raises(Cut):
        run_study(own, Scissors())
    split = prepare(load_task(Path(str(own.task)))).split
    assert measured == {example.id for example in split.dev}
    assert trained == [tuple(example.id for example in nested(split.train, own.sizes, 0)[16])]


@pytest.mark.slow
def test_no_test_item_is_measured_and_nothing_but_the_subset_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The context has room for 16 shots, not for 40."""
    measured: set[str] = set()
    prompts: dict[str, PromptDesign] = {}
    trained: list[tuple[str, ...]] = []
    run, render = LocalExecutor.run, batches.training_rows

    def measure(
        self: LocalExecutor, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop
    ) -> None:
        for job in jobs:
            measured.update(example.id for example in job.examples)
            prompts[job.label.removesuffix(": dev")] = job.system.prompt
        run(self, jobs, on_result, stop)

    def learn(tokenizer: Any, examples: Sequence[Example], *arguments: Any, **keywords: Any) -> Any:
        trained.append(tuple(example.id for example in examples))
        return render(tokenizer, examples, *arguments, **keywords)

    monkeypatch.setattr(LocalExecutor, "run", measure)
    monkeypatch.setattr(batches, "training_rows", learn)
    own = request(tmp_path, "crossover")
    config = Path(str(own.task)).parent / "model" / "config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text("utf-8")), "max_position_embeddings": CONTEXT}), "utf-8"
    )
    document = run_study(own, Scissors()).document
    split = prepare(load_task(Path(str(own.task)))).split
    dev = tuple(example.id for example in split.dev)
    assert measured == set(dev)
    subsets = {seed: nested(split.train, (16, 40), seed) for seed in (0, 1)}
    learned = [tuple(example.id for example in subsets[seed][n]) for seed in (0, 1) for n in (16, 40)]
    assert [ids for ids in trained if ids and ids != dev] == learned
    for seed, by_size in subsets.items():
        for n, examples in by_size.items():
            pool = shots_of(examples, seed)
            cell = f"{n} examples, seed {seed}"
            assert prompts[f"nearest, {cell}"].shots == pool
            few = prompts[f"few-shot, {cell}"].shots
            assert few == prompts[f"constrained few-shot, {cell}"].shots == pool[: len(few)]
            assert len(few) == 16 if n == 16 else 16 <= len(few) < 40
            assert prompts[f"sft, {cell}"].shots == ()
    assert document.measured_on.n == len(split.dev)
    assert {point.way for point in document.points} == {  # type: ignore[union-attr]
        "zero-shot",
        "constrained zero-shot",
        "few-shot",
        "nearest",
        "constrained few-shot",
        "sft",
    }


def test_sizes_that_rows_too_long_for_the_model_make_equal_are_one(tmp_path: Path) -> None:
    """10 of 70 rows do not fit: 60, 65 and 70 examples are the same 60."""
    own = request(tmp_path, examples={"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}, split={})
    folder, found = Path(str(own.task)).parent, questions()
    long = [{**row, "input": row["input"] + " long" * 500} for row in found[60:70]]
    write_jsonl(folder / "train.jsonl", [*found[:60], *long])
    write_jsonl(folder / "dev.jsonl", found[70:90])
    write_jsonl(folder / "test.jsonl", found[90:])
    with pytest.raises(Cut):
        run_study(replace(own, sizes=(16, 60, 65, 70)), progress := CutAt("zero-shot: dev", 1))
    assert any("The study has 5 cells." in said for said in progress.said)


def test_a_stop_ends_it_with_what_is_done_and_another_process_waits(tmp_path: Path) -> None:
    own, stop = request(tmp_path), StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError, match="Give the same command again"):
        run_study(own, Scissors(), stop)
    folder = tmp_path / "studies" / "own"
    with (
        held(folder, "held", expected="", remedy=""),
        pytest.raises(InputError, match="another process is at work in this folder"),
    ):
        run_study(own, Scissors())


def test_more_processes_than_cards_are_refused_first_though_the_ladder_does_not_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 1)
    own = request(tmp_path, "crossover", ladder=["prompting"], tune={"processes": 8})
    with pytest.raises(PrerequisiteError, match="found 8, expected at most 1, one for each CUDA GPU here"):
        run_study(own, CutAt("opening the model", 1))


@pytest.mark.slow
def test_a_limit_names_the_key_to_raise_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    own = request(tmp_path)
    short = replace(own, settings={"limits.hours": 1e-6})
    for _ in range(2):
        with pytest.raises(BudgetError, match=r"limits\.hours: .* Raise it\. Give the same command again"):
            run_study(short, Scissors())
    longer = replace(own, settings={"limits.hours": 3})
    with pytest.raises(Cut):
        run_study(longer, CutAt("sft, 16 examples", 1))
    assert len(rows(tmp_path)) == 1


@pytest.mark.slow
def test_a_training_that_runs_out_of_memory_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastresort.train.loop import gradients

    def eating(*_: Any) -> Any:
        raise MemoryError

    own = request(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(gradients, "_share", eating)
        with pytest.raises(
            OutOfMemoryError, match="Give the same command again: it then trains with max_pass_tokens: "
        ):
            run_study(own, Scissors())
    with pytest.raises(Cut):
        run_study(own, CutAt("sft, 16 examples, seed 0: dev", 1))


@pytest.mark.release
def test_other_weights_of_the_model_to_train_are_other_cells(tmp_path: Path) -> None:
    own = request(tmp_path, model="base", tune={"model": "model"})
    folder = Path(str(own.task)).parent
    save_tiny_model(folder / "base", seed=1)
    with pytest.raises(Cut):
        run_study(own, CutAt("sft, 16 examples", 1))
    with pytest.raises(Cut):
        run_study(own, progress := CutAt("sft, 16 examples", 1))
    assert any("The study has 5 cells, 1 of them done" in said for said in progress.said)
    for changed, seed in (("model", 0), ("base", 1)):
        save_tiny_model(folder / changed, seed=2)
        with pytest.raises(Cut):
            run_study(own, progress := CutAt("zero-shot: dev", 1))
        assert any("The study has 5 cells. Forecast" in said for said in progress.said)
        save_tiny_model(folder / changed, seed=seed)


@pytest.mark.slow
def test_what_a_kill_left_of_a_finished_cell_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, left = request(tmp_path), tmp_path / "studies" / "own" / "cells"

    def killed(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr("lastresort.study.run.tidy", killed)
        with pytest.raises(Cut):
            run_study(own, Scissors())
    with monkeypatch.context() as patch:
        patch.setattr("lastresort.study.cells.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Cut):
            run_study(own, CutAt("sft, 40 examples, seed 0: dev", 1))
    assert len(list(left.iterdir())) == 2
    with pytest.raises(Cut):
        run_study(own, CutAt("sft, 40 examples, seed 0: dev", 1))
    assert len(list(left.iterdir())) == 1  # of the cell that was cut


def test_a_training_that_diverges_says_how_to_keep_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = request(tmp_path)
    monkeypatch.setattr("lastresort.study.cells.SupervisedTraining.to_stop", lambda *_: math.inf)
    with pytest.raises(DataError, match=r"sft, 16 examples, seed 0: .*Leave 16 examples out with --sizes"):
        run_study(own, Scissors())


@pytest.mark.slow
def test_other_settings_are_other_cells_in_the_same_folder(tmp_path: Path) -> None:
    own = request(tmp_path)
    run_study(own, Scissors())
    kept = rows(tmp_path)
    faster = StudyRequest("min-data", own.task, {"sft.learning_rates": [0.01]}, (16, 40), 2, own.out)
    with pytest.raises(Cut):
        run_study(faster, progress := CutAt("sft: loading", 1))
    assert rows(tmp_path)[: len(kept)] == kept
    assert any("The study has 5 cells. Forecast" in said for said in progress.said)
    cheaper = StudyRequest("min-data", own.task, {"limits.hours": 3, "bar": 0.5}, (16, 40), 2, own.out)
    run_study(cheaper, progress := Scissors())
    assert "All 5 cells of the study are done." in progress.said


@pytest.mark.slow
def test_the_command_prints_one_document_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = request(tmp_path)

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["lastresort", *words])
        return guarded(app)

    common = ["study", "min-data", str(own.task), "--out", str(own.out), "--seeds", "2", "--sizes", "16,40"]
    assert run(*common, "--dry-run") == 0
    assert "The study has 5 cells." in capsys.readouterr().out
    assert run(*common, "--json") == 0
    out = capsys.readouterr().out
    document = json.loads(out)
    assert document == json.loads((tmp_path / "studies" / "own" / "study.json").read_text("utf-8"))
    assert run(*common) == 0
    assert document["answer"] in capsys.readouterr().out.replace("\n", " ")
    assert run(*common[:-1], "few") == 2
    assert (
        'Error: --sizes: found "few", expected whole numbers. For example: --sizes 20,40,80' in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ["crossover", "min-data", "orpo-vs-dpo"])
def test_the_last_words_say_how_to_go_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lastresort", "study", kind, "task.yaml"])
    assert last_words() == "Interrupted. Answers are kept; run the same command again to resume."
