"""The rungs full and sft before they train: when they are skipped, whether knowledge is trained in first, what fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from climb_support import in_words
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.climb.budget import over_time
from lastresort.climb.prepare import prepare
from lastresort.records.events.search import RungPlanned
from lastresort.records.record import Record
from lastresort.records.rungs import TooLarge
from lastresort.rungs.supervised.full import FullRung, pretraining_reason, rows_a_step, too_large
from lastresort.rungs.supervised.sft import SftRung, outdates_weights
from lastresort.spec.task import Task, load_task
from tuning_support import tiny_task

STALE = {"knowledge_changes": "weekly", "retrain_every": "monthly"}


def task_of(folder: Path, **keys: Any) -> Task:
    if "knowledge" in keys:
        (folder / "docs").mkdir(parents=True, exist_ok=True)
        (folder / "docs" / "a.md").write_text("The ape is red.", encoding="utf-8")
    return load_task(tiny_task(folder, ladder=["sft", "full"], **keys))


def skipped(rung: FullRung | SftRung, folder: Path, n_train: int = 70, **keys: Any) -> str | None:
    task = task_of(folder, **keys)
    return in_words(rung.skip_reason(task, prepare(task).split.train[:n_train]))


@pytest.mark.parametrize(
    ("changes", "retrained", "stale"),
    [
        ("weekly", "monthly", True),
        ("monthly", "weekly", False),
        ("weekly", "weekly", False),
        ("daily", "never", True),
        ("never", "never", False),
        ("daily", None, False),
        (None, "never", False),
    ],
)
def test_weights_are_stale_where_knowledge_changes_more_often_than_they_are_trained(
    changes: Any, retrained: Any, stale: bool
) -> None:
    assert outdates_weights(changes, retrained) is stale


@pytest.mark.parametrize("rung", [FullRung(), SftRung()])
def test_stale_weights_are_refused_with_the_sentence_that_says_why(rung: FullRung | SftRung, tmp_path: Path) -> None:
    told = "the knowledge changes weekly and the model would be retrained only monthly, so its weights would be out of date"
    assert skipped(rung, tmp_path / "a", knowledge="docs", **STALE) == f"{told}: use retrieval"
    forbidden = {"use": {"context": "forbidden"}}  # then weights are the only place left
    assert skipped(rung, tmp_path / "b", knowledge="docs", **forbidden, **STALE) is None
    assert skipped(rung, tmp_path / "c", **STALE) is None  # no knowledge, nothing to be out of date


@pytest.mark.parametrize(
    ("keys", "n_train", "says"),
    [
        ({"model": "openai:large"}, 70, "the weights of openai:large are not local"),
        ({"tune": {"method": "lora"}}, 70, "`tune.method` is lora"),
        ({"tune": {"method": "qlora"}}, 70, "`tune.method` is qlora"),
        ({}, 49, "49 training rows are too few"),
    ],
)
def test_why_full_is_skipped(keys: dict[str, Any], n_train: int, says: str, tmp_path: Path) -> None:
    found = skipped(FullRung(), tmp_path, n_train, **keys)
    assert found is not None
    assert says in found


def test_the_method_says_which_of_the_two_trains(tmp_path: Path) -> None:
    assert skipped(FullRung(), tmp_path, tune={"method": "full"}) is None
    assert "but `tune.method` is full; set it to auto, lora or qlora" in str(
        skipped(SftRung(), tmp_path, tune={"method": "full"})
    )
    assert skipped(SftRung(), tmp_path, tune={"method": "qlora"}) is None


def test_a_model_whose_weights_gradients_and_optimizer_do_not_fit_is_refused() -> None:
    gib = 1 << 30
    assert too_large(gib, 16 * gib + 1) is None
    assert in_words(too_large(gib, 15 * gib)) == (
        "training all 1.07 billion weights takes 16 GiB for weights, gradients and optimizer alone, and this machine has 15 GiB"
    )
    assert too_large(gib, 20 * gib + 1, "kl") is None
    assert too_large(gib, 20 * gib, "kl") == TooLarge(gib, 20 * gib, 20 * gib)
    assert too_large(None, gib) is None
    assert too_large(gib, None) is None


@pytest.mark.parametrize(
    ("keys", "lacking", "why"),
    [
        ({}, None, None),
        ({"knowledge": "docs"}, None, "no retrieval has shown that knowledge is not what is missing"),
        ({"knowledge": "docs"}, 0, None),
        ({"knowledge": "docs"}, 1, "1 dev item failed for lack of knowledge"),
        ({"knowledge": "docs"}, 7, "7 dev items failed for lack of knowledge"),
        ({"knowledge": "docs", "use": {"context": "forbidden"}}, 0, "it may not go into the prompt"),
    ],
)
def test_knowledge_is_trained_in_first_where_failures_call_for_it(
    keys: dict[str, Any], lacking: int | None, why: str | None, tmp_path: Path
) -> None:
    assert pretraining_reason(task_of(tmp_path, **keys), lacking) == why


def test_the_forecast_of_all_weights_is_dearer_and_counts_the_documents(tmp_path: Path) -> None:
    """A row of text, and eight of replay."""
    found = {rung["name"]: rung["forecast"] for rung in dry_run(task_of(tmp_path, knowledge="docs")).as_json()["rungs"]}
    assert any(line.startswith("pretraining: 9 rows") for line in found["full"]["lines"])
    assert any(line.startswith("training of all weights, 2 learning rates raced") for line in found["full"]["lines"])


def test_a_plan_longer_than_what_is_left_is_not_begun() -> None:
    assert over_time(3600, 1.0) is None
    assert over_time(None, 1.0) is None
    assert over_time(1e9, None) is None
    assert in_words(over_time(7200, 0.5)) == (
        "its plan of 2 h exceeds the 30 min left of `limits.hours`; raise it and continue with --resume"
    )


@pytest.mark.slow
def test_a_rung_beyond_the_limits_is_skipped_until_the_limit_is_raised(tmp_path: Path) -> None:
    """No time passes on this clock: only the plan exceeds the limit."""
    path = tiny_task(tmp_path, ladder=["sft"], limits={"hours": 1e-9})
    found = climb(load_task(path), tmp_path / "run", clock=lambda: 0.0, gate="none")
    assert " left of `limits.hours`" in found.decision.as_json()["rungs"][0]["skipped_because"]["text"]
    again = climb(load_task(path), tmp_path / "run", clock=lambda: 0.0, gate="none")
    assert again.decision.as_json()["rungs"] == found.decision.as_json()["rungs"]
    tiny_task(tmp_path, ladder=["sft"], limits={"hours": 9})
    raised = climb(load_task(path), tmp_path / "run", clock=lambda: 0.0, gate="none")
    assert raised.decision.as_json()["rungs"][0]["applies"]
    with Record.open(raised.run, read_only=True) as record:
        assert [plan.beyond is None for plan in record.all(RungPlanned)] == [False, True]


@pytest.mark.parametrize(
    ("rows", "epochs", "expected"), [(21, 10, 2), (20, 10, 2), (19, 10, 1), (3, 1, 1), (40, 10, 4), (5000, 3, 4)]
)
def test_short_documents_are_learned_in_smaller_steps(rows: int, epochs: int, expected: int) -> None:
    """100 steps are wanted: 21 rows read ten times make 105 of two rows each, 19 rows would make 95."""
    assert rows_a_step(rows, epochs) == expected
