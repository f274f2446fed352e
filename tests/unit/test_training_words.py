"""What a rung says while it is at work, what a training says at its end and an export of it, and how far synthetic rows are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lastresort.records.events.search import SkippedFile
from lastresort.records.rungs import CurveBelowBar, SmallReflector
from lastresort.records.training import FirstBatch, TrainedSteps
from lastresort.report.words.synthetic import making_note
from lastresort.report.words.training import (
    held_out_line,
    note_line,
    of_cut_rows,
    of_held_out,
    of_replay_export,
    training_lines,
)
from lastresort.rungs import notes
from lastresort.synthesis.make import MakingNote, RequestsAnswered, RowsKept
from lastresort.train.files.run_folder import SavedWeights, TrainingData, TrainingRecord

CHECK: dict[str, Any] = {"ok": True, "reason": None, "kernel": "flash", "passed_over": ""}
STEPS: dict[str, Any] = {"path": "packed", "reason": None, "check": None, "processes": 1, "sharded": False}


def lines(**trained: Any) -> list[str]:
    steps = {"step": 18, "steps": 18, "computed_tokens": 1_680, "nominal_tokens": 4_780, "seconds": 141.0}
    record = TrainingRecord.model_construct(
        trained=TrainedSteps(**steps | STEPS | trained),
        data=TrainingData.model_construct(items=36, what="rows", eval_items=0, findings=()),
        epochs=({"epoch": 1, "loss": 0.5},),
        steps=tuple({"step": step, "seconds": 5.15} for step in range(18)),
        saved=SavedWeights(kind="adapter", folder="adapter"),
    )
    return training_lines(record, "sft", Path("out"))


def test_the_speed_names_its_tokens_and_the_time_that_they_took() -> None:
    assert lines()[0] == "sft: 36 rows, 18 steps in 2 min 21 s; the steps alone took 1 min 33 s, 52 nominal tokens/s"


@pytest.mark.parametrize(
    ("nominal", "share"),
    [(4_780, "35%"), (1_680, "100%"), (1_456, "115%; more, as the plain path pads the rows of a pass to the longest")],
)
def test_more_tokens_than_the_rows_hold_have_their_reason(nominal: int, share: str) -> None:
    assert f"tokens: 1,680 computed of {nominal:,} nominal ({share})" in lines(nominal_tokens=nominal)


@pytest.mark.parametrize(
    ("figures", "loss", "gradient"),
    [
        ((0.1035, 5.66, 0.03, 0.034, 0.15), "0.1 nats, 1.8% of the largest (5.66), limit 3%", "3.4% of its norm, limit 15%"),
        ((0.02, 0.9, 0.03, 0.3, 0.45), "off by 0.02 nats, limit 0.03 nats", "30% of its norm, limit 45%"),
        ((1e-12, 2.0, 1e-9, 1e-8, 1e-6), "5e-11% of the largest (2), limit 1e-07%", "1e-06% of its norm, limit 0.0001%"),
    ],
)  # fmt: skip
def test_the_first_batch_is_said_with_what_is_compared_and_its_limits(
    figures: tuple[float, ...], loss: str, gradient: str
) -> None:
    names = ("loss_difference", "largest_loss", "loss_limit", "gradient_difference", "gradient_limit")
    check = FirstBatch(**CHECK, **dict(zip(names, figures, strict=True)))
    (line,) = (line for line in lines(check=check) if line.startswith("path:"))
    assert "agree (likelihood loss per token of a row: off by" in line
    assert f"{loss}; gradient: off by {gradient})" in line


def test_a_packed_form_that_failed_is_compared_with_nothing() -> None:
    failed = "the packed form fails on the first batch: an illegal memory access"
    names = ("loss_difference", "largest_loss", "loss_limit", "gradient_difference", "gradient_limit")
    check = FirstBatch(
        **CHECK | {"ok": False, "reason": failed}, **dict(zip(names, (0.0, 0.0, 0.0, 1.0, 0.0), strict=True))
    )
    assert f"path: plain ({failed})" in lines(path="plain", reason=failed, check=check)


SEEN = CurveBelowBar(10, 30, 40, 0.5, 0.2, 0.7, 0.85, False, 0.05)
HOLDS = "sft: lr0.003 needs 3.0 GiB by the plan, and 2.0 GiB is free."


@pytest.mark.parametrize(
    ("note", "line"),
    [
        (
            notes.RateDroppedOut(0.001, "the loss became nan."),
            "sft: learning rate 0.001 drops out: the loss became nan.",
        ),
        (notes.PlainPathTaken("it has no head"), "sft: training takes the plain path: it has no head"),
        (
            notes.SmallerPasses(
                "lr0.003", 3 << 30, 2 << 30, cast(Any, SimpleNamespace(written=lambda: "max_pass_tokens: 64"))
            ),
            f"{HOLDS} It trains with max_pass_tokens: 64.",
        ),
        (
            notes.MayNotFit("lr0.003", 3 << 30, 2 << 30, "Take a smaller model."),
            f"{HOLDS} It may not fit. Take a smaller model.",
        ),
        (notes.OneProcess(), "sft: GRPO samples while it trains, so it runs in one process."),
        (notes.ModelLeftOff("cuda"), "sft: not all of the model could be moved back to cuda."),
        (notes.NothingReplayed(), "sft: no rows are replayed, since GRPO trains on its own samples only."),
        (
            notes.ReplayByLikelihood(),
            "sft: replay rows are trained by likelihood, since this model's hidden states cannot be separated from its logits.",
        ),
        (notes.PlainClosedBook("found no prompt."), "sft: the plain prompt answers closed book: found no prompt."),
        (SkippedFile(path="a.pdf", reason="it holds no text"), "sft: a.pdf is skipped: it holds no text"),
        (
            SmallReflector("m", 2 * 10**9, 7 * 10**9),
            "sft: m reflects with 2 billion weights, but about 7 are advised;",
        ),
        (SEEN, "sft: After 10 of 30 steps it scored 50.0% on 40 dev items; "),
    ],
)
def test_what_a_rung_reports_is_a_line(note: notes.RungNote, line: str) -> None:
    assert note_line("sft", note).startswith(line)


def test_a_curve_below_the_bar_says_that_training_continues_and_asks() -> None:
    said, asked = note_line("sft", SEEN), note_line("sft", notes.TrainOn(SEEN))
    assert said.endswith("This is a warning, not a verdict. Training continues unless you stop it.")
    assert asked.endswith("This is a warning, not a verdict. Train the rest anyway?")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (RowsKept(6, 8, 0.0), "75% of the proposed rows kept"),
        (RowsKept(0, 0, 1.5), "0% of the proposed rows kept, $1.50 spent"),
        (RequestsAnswered(1, 3), "1 of 3 requests answered"),
    ],
)
def test_how_far_synthetic_rows_are(found: MakingNote, told: str) -> None:
    assert making_note(found) == told


@pytest.mark.parametrize(
    ("rows", "cut", "held", "told"),
    [
        (1, 0, False, ["The last row is replay: general requests with the base model's own answers."]),
        (
            1200,
            1,
            True,
            [
                "The last 1,200 rows are replay: general requests with the base model's own answers.",
                "The climb trained the replay rows on the base's distribution; the export trains on their text.",
                "1 replay answer was cut. The climb did not train its end token; the export does.",
            ],
        ),
        (
            12,
            2,
            False,
            [
                "The last 12 rows are replay: general requests with the base model's own answers.",
                "2 replay answers were cut. The climb did not train their end tokens; the export does.",
            ],
        ),
    ],
)
def test_what_an_export_cannot_say_of_replay(rows: int, cut: int, held: bool, told: list[str]) -> None:
    assert of_replay_export(rows, cut, held=held) == told


@pytest.mark.parametrize(("rows", "start"), [(1, "1 row has a cut answer. "), (2, "2 rows have a cut answer. ")])
def test_what_an_export_cannot_say_of_cut_answers(rows: int, start: str) -> None:
    assert of_cut_rows(rows) == f"{start}The climb did not train its end token; the export does."


def test_whether_a_gate_would_still_be_a_test_and_what_to_train_on_instead() -> None:
    none, some = of_held_out("a.yaml", 40, 0, 0), of_held_out("a.yaml", 1040, 1, 2)
    assert held_out_line(none, leaks=False, suffix=None) == (
        "None of the 40 training rows has the same input as a dev or test item of a.yaml."
    )
    assert held_out_line(some, leaks=True, suffix=".train.jsonl") == (
        "warning: Of the 1,040 training rows, 1 repeats a dev item and 2 repeat a test item of a.yaml: a gate or a climb of that "
        "task would test what was trained on. Train on the train split only: the page (Train) writes it to a separate file "
        "(….train.jsonl)."
    )
