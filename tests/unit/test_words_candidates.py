"""Every name that a climb gives a candidate has a line that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from climb_support import scripted_task
from lastresort.climb.prepare import prepare
from lastresort.report.words.candidates import about_candidate
from lastresort.rungs.prompting.prompts import variants
from lastresort.spec.task import load_task
from ui_support import MET, finished_run, page_of


def test_every_way_of_prompting_is_explained(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=MET))
    names = [system.name for system in variants(task, prepare(task).split.train, 16, "m")]
    assert {"zero-shot+constrained", "nearest-5", "chain-of-thought"} <= set(names)
    lines = [about_candidate(name) for name in names]
    assert all(lines)
    assert len(set(lines)) == len(names)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("few-shot-5+optimised", "5 solved examples, the same for every input; the instruction as a model rewrote it"),
        ("few-shot-5+3-passages", "5 solved examples, the same for every input; the 3 best passages"),
        ("zero-shot+1-passage", "; the best passage of the search"),
        ("lora-lr1e-05-epoch3", "LoRA adapter, learning rate 1e-05, stopped after epoch 3"),
        ("full-lr0.0003-step40+constrained", "All weights trained, learning rate 0.0003, stopped after step 40; dec"),
        ("lora-replay25-lr0.0003-epoch2-scale0.75", "25% replay rows among the training rows, learning rate 0.0003"),
        ("dpo-lr1e-06-step12", "Trained on preferences (dpo), learning rate 1e-06, stopped after step 12"),
    ],
)
def test_a_name_says_what_it_is_made_of(name: str, says: str) -> None:
    assert says in about_candidate(name)


@pytest.mark.parametrize("name", ["", "mine", "zero-shot+mine", "lora-mine", "lr0.1"])
def test_a_name_that_holds_something_else_gets_no_line(name: str) -> None:
    assert about_candidate(name) == ""


def test_names_are_explained_where_they_are_shown(tmp_path: Path) -> None:
    finished_run(tmp_path)
    _, client = page_of(tmp_path)
    for path in (
        "routing-1",
        "routing-1/items?system=prompting%2Fnearest-5",
        "routing-1/items?with=prompting%2Fzero-shot",
    ):
        text = client.get(f"/runs/{path}").text
        assert "The instruction" in text, path
