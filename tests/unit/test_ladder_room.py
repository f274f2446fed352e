"""An item longer than the context is refused before anything is spent, or counts as wrong; it never makes a run without an end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from climb_support import calls, reason_lines, rows, scripted_task
from fake_model import FakeModel
from lastresort.app.climb import climb
from lastresort.errors import CandidateError, DataError
from lastresort.evals.measure import measured
from lastresort.evals.scorers import build_scorer
from lastresort.models.protocol import Prompt
from lastresort.records.events.search import RungSearched
from lastresort.records.events.training import TrainingReached
from lastresort.records.record import Record
from lastresort.spec.output import Output
from lastresort.spec.task import load_task
from lastresort.systems.answerer import Answerer
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Decoding, Example, Message
from tiny_model import save_tiny_model

GOOD = [{"right": 0.9}, {"right": 0.97, "min_shots": 5}]


def with_a_long_row(folder: Path, side: str, words: int, context: int) -> Path:
    """A task of three files, one row of `side` about `words` tokens long, on a model with that context."""
    script = {"context_tokens": context, "answers_from": ["train.jsonl", "dev.jsonl", "test.jsonl"]}
    files = {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}
    path = scripted_task(folder, quality=GOOD, task={"examples": files, "split": {"seed": 0}}, script=script)
    data = rows()
    for name, part in {"train": data[:80], "dev": data[80:140], "test": data[140:]}.items():
        if name == side:
            part = [{**row, "input": row["input"] + " word" * words} if n == 16 else row for n, row in enumerate(part)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return path


@pytest.mark.parametrize("side", ["dev", "test"])
def test_an_item_that_fits_no_prompt_is_refused_before_anything_is_asked(tmp_path: Path, side: str) -> None:
    path = with_a_long_row(tmp_path / "task", side, words=300, context=300)
    with pytest.raises(DataError, match=rf"{side}\.jsonl, row 17.*at most the context of 300.*Shorten or remove"):
        climb(load_task(path), tmp_path / "runs" / "r")
    assert not calls(tmp_path / "task")


@pytest.mark.parametrize("side", ["dev", "test"])
def test_a_few_shot_prompt_that_does_not_fit_every_item_is_not_chosen(tmp_path: Path, side: str) -> None:
    path = with_a_long_row(tmp_path / "task", side, words=170, context=300)
    found = climb(load_task(path), tmp_path / "runs" / "r")
    prompting = found.decision.as_json()["rungs"][0]
    tried = {candidate["name"] for candidate in prompting["candidates"]}
    assert not tried & {"few-shot-5", "nearest-5"}
    assert prompting["test"] is not None
    with Record.open(found.run, read_only=True) as record:
        search = record.last(RungSearched, "prompting")
    assert search is not None
    assert "few-shot-5 could not be tried" in search.in_words


class Picky(FakeModel):
    """A model of unknown context that refuses some prompts, as an endpoint does."""

    name, fingerprint, batch_size = "picky", "", 4

    def count_tokens(self, prompt: Prompt) -> int:
        return 1

    def check_decoding(self, decoding: Decoding) -> None:
        if decoding.grammar is not None:
            raise CandidateError("no grammar here")

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: Any = None) -> list[Answer]:
        if any("long" in prompt[-1].content for prompt in prompts):
            raise CandidateError("too long")
        return [Answer("x", 3, 1, "stop", 0.0, 0.01) for _ in prompts]


def scores(*, refused_is_wrong: bool) -> list[tuple[float, str, float]]:
    texts = ("a", "long", "b", "c", "d")
    examples = [Example(text, (Message("user", text),), "x") for text in texts]
    answerer = Answerer(System("s", "picky", PromptDesign(""), Decoding(4)), Picky())
    found = measured(
        answerer, examples, build_scorer("exact", {}), Output(), batch_size=4, refused_is_wrong=refused_is_wrong
    )
    return [(item.score, item.finish, item.usd) for batch in found for item in batch]


def test_in_the_test_what_the_model_refuses_is_wrong_and_the_rest_is_scored() -> None:
    right = (1.0, "stop", 0.01)
    assert scores(refused_is_wrong=True) == [right, (0.0, "refused", 0.0), right, right, right]


def test_in_the_search_a_refusal_drops_the_candidate() -> None:
    with pytest.raises(CandidateError):
        scores(refused_is_wrong=False)


@pytest.mark.slow
def test_training_rows_longer_than_the_context_are_left_out_and_named(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    data = rows(150)
    data = [{**row, "input": row["input"] + " word" * 900} if n < 3 else row for n, row in enumerate(data)]
    for name, part in {"train": data[:80], "dev": data[80:104], "test": data[104:]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    task = {
        "task": "tiny",
        "about": "Route it.",
        "model": "model",
        "ladder": ["sft"],
        "examples": {name: f"{name}.jsonl" for name in ("train", "dev", "test")},
        "score": "exact",
        "bar": 0.5,
        "sft": {"learning_rates": [0.003], "epochs": 1, "r": 4, "replay": 0.0},
        "decode": {"max_new_tokens": 4},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    found = climb(load_task(tmp_path / "task.yaml"), tmp_path / "run")
    assert any(
        "3 training rows" in reason and "left out" in reason for reason in reason_lines(found.decision.as_json())
    )
    with Record.open(found.run, read_only=True) as record:
        assert record.all(TrainingReached)[-1].rows == 77
