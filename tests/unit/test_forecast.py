"""A dry run's estimate is on the high side of what the climb then takes, and costs nothing itself."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from climb_support import scripted_task
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.climb import workload as climb_workload
from lastresort.climb.budget import say_cost, say_forecast
from lastresort.climb.workload import counts_of
from lastresort.errors import StopRequestedError
from lastresort.hardware.find import parameters_of, parameters_of_gguf
from lastresort.records.document import Statement
from lastresort.records.events.search import RungGivenUp
from lastresort.records.events.training import CandidateMoved
from lastresort.report.forecast import DryRun, forecast_table, notes_of
from lastresort.report.words.wording import NO_BREAK
from lastresort.rungs.forecast import Forecast, Machine, Rates, Workload, answering
from lastresort.rungs.preference.rung import PreferenceRung
from lastresort.rungs.prompting.rung import PromptingRung
from lastresort.rungs.rung import find_rung
from lastresort.rungs.supervised.sft import REPLAY_PROMPT_TOKENS, SftRung
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, StopRequest
from lastresort.synthesis.replay import REPLAY_TOKENS, most_prompts, replay_rows
from lastresort.types import Progress, SilentProgress
from retrieval_support import handbook_task

LONG = "I am not at all sure which team this could be for, so let me think about it at length. " * 20
TUNED = {"model": "embedded", "keep": {"format_leak": "skip"}}
QUALITIES: dict[str, list[dict[str, Any]]] = {
    "fails": [{"right": 0.1}],
    "five shots": [{"right": 0.2}, {"right": 0.75, "min_shots": 5}],
    "thinking": [{"right": 0.2}, {"right": 0.75, "contains": "step by step"}],
    "held to the form": [{"right": 0.2}, {"right": 0.7, "min_shots": 3}, {"right": 0.78, "grammar": True}],
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("quality", QUALITIES)
def test_a_climb_takes_no_more_than_was_forecast(tmp_path: Path, quality: str) -> None:
    path = scripted_task(tmp_path / "task", quality=QUALITIES[quality], script={"wrong": [LONG]})
    forecast = dry_run(load_task(path)).as_json()["rungs"][0]["forecast"]
    cost = climb(load_task(path), tmp_path / "run").decision.as_json()["rungs"][0]["cost"]
    assert cost["tokens_in"] <= forecast["tokens_in"]
    assert cost["tokens_out"] <= forecast["tokens_out"]
    assert forecast["tokens_in"] < 12 * cost["tokens_in"]  # high, and still an estimate


@pytest.mark.sampled_slow(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("labelled", "prompting"),
    [
        (True, True),
        (False, False),
        pytest.param(True, False, marks=pytest.mark.slow),
        pytest.param(False, True, marks=pytest.mark.slow),
    ],
)
def test_retrieval_takes_no_more_than_was_forecast(tmp_path: Path, labelled: bool, prompting: bool) -> None:
    """Five shots are what prompting chooses; without labels the ceiling shows five passages with each."""
    script = {
        "answers_from": ["questions.jsonl"],
        "quality": [{"right": 0.1}, {"right": 0.6, "min_shots": 5 if prompting else 3}],
        "wrong": [LONG],
    }
    ladder = ["prompting", "retrieval"] if prompting else ["retrieval"]
    path = handbook_task(tmp_path / "task", labelled=labelled, script=script, task={"ladder": ladder})
    forecast = dry_run(load_task(path)).as_json()["rungs"][-1]["forecast"]
    decision = climb(load_task(path), tmp_path / "run").decision.as_json()
    rung = decision["rungs"][-1]
    assert len(decision["retrieval"]["ceiling"]["systems"]) == (3 if prompting else 2)
    assert rung["test"] is not None
    assert rung["cost"]["tokens_in"] <= forecast["tokens_in"] < 12 * rung["cost"]["tokens_in"]
    assert rung["cost"]["tokens_out"] <= forecast["tokens_out"]


def work(**changes: Any) -> Workload:
    sizes = {"n_train": 180, "n_dev": 100, "n_test": 300, "instruction_tokens": 30, "about_tokens": 20}
    tokens = {"input_tokens": 20.0, "output_tokens": 5.0, "max_new_tokens": 40}
    return Workload(**{"machine": Machine(10**6, 1e9), **sizes, **tokens, **changes})  # type: ignore[arg-type]


def test_which_prompt_is_dearest_does_not_change_with_what_else_runs_here(tmp_path: Path) -> None:
    """A machine that reads slowly for a moment makes long prompts dearest, one that answers slowly long answers."""
    task = load_task(scripted_task(tmp_path, quality=[]))
    reads, answers = Rates(training=1e9, reading=1e6, answering=1e9), Rates(training=1e9, reading=1e9, answering=1e6)
    found = [
        PromptingRung().forecast(task, work(machine=Machine(10**6, 1e9, measured=rates))) for rates in (reads, answers)
    ]
    assert found[0].lines == found[1].lines
    assert found[0].seconds != found[1].seconds


@pytest.mark.parametrize(("epochs", "checkpoints"), [(1, 1), (2, 2), (3, 2), (5, 3)])
@pytest.mark.parametrize("form", [True, False])
def test_sft_counts_replay_every_checkpoint_and_the_constrained_pass(
    tmp_path: Path, epochs: int, checkpoints: int, form: bool
) -> None:
    """Answers: 20 replay rows of 96 tokens; 100 dev items a checkpoint, once more held to the form; 300 test items."""
    keys: dict[str, Any] = {"sft": {"epochs": epochs, "replay": 0.1}}
    task = load_task(
        scripted_task(tmp_path, quality=[], task=keys if form else {**keys, "output": {}, "score": "exact"})
    )
    found = SftRung().forecast(task, work())
    assert replay_rows(180, 0.1) == 20
    assert found.tokens_out == 20 * REPLAY_TOKENS + 40 * (100 * (checkpoints + form) + 300)


def test_no_more_replay_rows_are_forecast_than_there_are_prompts(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"sft": {"epochs": 1, "replay": 0.5}, "output": {}, "score": "exact"}
    task = load_task(scripted_task(tmp_path, quality=[], task=keys))
    found = SftRung().forecast(task, replace(work(), n_train=100_000))
    assert found.tokens_out == most_prompts("everyday") * REPLAY_TOKENS + 40 * (100 + 300)


def test_the_bases_passes_over_held_replay_are_forecast(tmp_path: Path) -> None:
    """20 rows in each of two epochs."""

    def tokens_in(**replay: Any) -> int:
        keys: dict[str, Any] = {"sft": {"learning_rates": [1e-3], "epochs": 2, **replay}}
        return SftRung().forecast(load_task(scripted_task(tmp_path, quality=[], task=keys)), work()).tokens_in

    by_likelihood = tokens_in(replay_loss="likelihood")
    assert tokens_in(replay_loss="kl") == by_likelihood + 2 * 20 * (REPLAY_PROMPT_TOKENS + REPLAY_TOKENS)
    assert tokens_in(replay=0) == tokens_in(replay=0, replay_loss="likelihood")


@pytest.mark.parametrize(("keys", "replayed"), [({}, True), ({"reward": [{"exact": {}}]}, False)])
def test_replay_among_preferences_is_forecast_unless_a_reward_samples_all(
    tmp_path: Path, keys: dict[str, Any], replayed: bool
) -> None:
    own = {"output": {}, "score": "exact", "preference": {"replay": 0.1}, **keys}
    found = PreferenceRung().forecast(load_task(scripted_task(tmp_path, quality=[], task=own)), work())
    assert any(line.startswith("replay") for line in found.lines) == replayed


def test_longer_answers_are_forecast_where_they_are_allowed(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=[]))
    assert SftRung().forecast(task, work(max_new_tokens=80)).tokens_out > SftRung().forecast(task, work()).tokens_out


@pytest.mark.slow
@pytest.mark.parametrize("section", ["decode", "score.judge", "prompting"])
def test_the_forecast_counts_the_room_for_thinking_that_a_named_effort_leaves(tmp_path: Path, section: str) -> None:
    """It costs what an answer costs and is mostly far longer: of the model, of its judge, and of what optimises the prompt."""
    price = {"prompt_price": 0.0, "output_price": 8.0}
    judge = {"model": "openai:judge", "rubric": "Right?", "scale": "yes-no", **price}
    keys = {"model": "http://localhost:9/v1#m", "use": price, "score": {"judge": judge}, "output": {}}
    path = scripted_task(tmp_path, quality=[], task={**keys, "prompting": {"reflect": "openai:large", **price}})
    plain, thinking = (
        dry_run(load_task(path, effort), until="prompting") for effort in ({}, {f"{section}.reasoning_effort": "high"})
    )
    prompting = plain.rungs[0].forecast
    assert prompting is not None
    assert plain.total.usd is not None
    assert thinking.total.usd is not None
    reflections = next(int(line.split()[4]) for line in prompting.lines if "reflections by" in line)
    calls = {"decode": prompting.answers, "score.judge": prompting.answers, "prompting": reflections}[section]
    assert thinking.total.usd - plain.total.usd == pytest.approx(calls * 32_000 * 8 / 1e6)


def test_a_dry_run_of_the_embedded_model_converts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast layers are is timed by tests of its own (test_dry_run.py)."""
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    timed = Rates(training=8e9, reading=4e9, answering=1e9)
    monkeypatch.setattr("lastresort.climb.workload.measured_rates", lambda config, **_: timed)
    path = scripted_task(tmp_path / "task", quality=[], task={"model": "embedded"})
    found = dry_run(load_task(path)).as_json()
    assert not (tmp_path / "cache" / "models").exists()
    assert all(rung["forecast"]["seconds"] > 0 for rung in found["rungs"])


def test_the_size_of_a_gguf_is_that_of_its_tensors(tmp_path: Path) -> None:
    """Of the file as it is now, though it is read once a process."""
    for pieces in (50, 60):
        write_gguf(tmp_path / "tiny.gguf", pieces)
        assert parameters_of_gguf(tmp_path / "tiny.gguf") == pieces * 8 + 8 * 8


def write_gguf(path: Path, pieces: int) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((pieces, 8), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((8, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_embedded_model_has_the_size_of_its_configuration() -> None:
    from lastresort.embedded import embedded_gguf

    config = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    shape = {**config, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True}
    assert parameters_of_gguf(embedded_gguf()) == pytest.approx(parameters_of(shape), rel=1e-3)


def test_the_terminal_calls_it_what_it_is(tmp_path: Path) -> None:
    import io

    from rich.console import Console

    from lastresort.report.forecast import forecast_table

    out = io.StringIO()
    found = json.loads(json.dumps(dry_run(load_task(scripted_task(tmp_path, quality=[]))).as_json()))
    Console(file=out, width=80).print(forecast_table(DryRun.model_validate(found)))
    text = " ".join(out.getvalue().split())
    assert "every answer has the maximum length" in text
    assert "upper estimate" not in text


@pytest.mark.slow
def test_a_dry_run_says_what_the_gate_would_ask(tmp_path: Path) -> None:
    """Where something may be tuned and a gate is not left out; a quick one asks fewer items."""
    path = scripted_task(tmp_path / "task", quality=[], task=TUNED)
    assert dry_run(load_task(path), "prompting").as_json()["gate"] is None
    task = load_task(path)
    without, full, quick = (
        dry_run(task, gate="none").as_json(),
        dry_run(task).as_json(),
        dry_run(task, gate="quick").as_json(),
    )
    assert without["gate"] is None
    assert (full["gate"]["mode"], quick["gate"]["mode"]) == ("full", "quick")
    assert [suite["name"] for suite in full["gate"]["suites"]] == ["general", "sycophancy"]
    for more, fewer in zip(full["gate"]["suites"], quick["gate"]["suites"], strict=True):
        assert more["items"] > fewer["items"]
        assert more["pilot_items"] >= fewer["pilot_items"] > 0
        assert more["forecast"]["tokens_in"] > fewer["forecast"]["tokens_in"]
    for found in (full, quick):
        assert found["total"]["tokens_in"] - without["total"]["tokens_in"] == found["gate"]["forecast"]["tokens_in"]
        assert found["gate"]["forecast"]["tokens_in"] == sum(
            suite["forecast"]["tokens_in"] for suite in found["gate"]["suites"]
        )


@pytest.mark.slow
def test_the_terminal_shows_the_gate_by_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scripted_task(tmp_path / "task", quality=[], task=TUNED)
    Console(width=200).print(forecast_table(dry_run(load_task(path), gate="quick"), verbose=True))
    said = capsys.readouterr().out
    assert "gate (quick): general: up to about 1,104 items on the base model first, then " in said
    assert "gate (quick): sycophancy: up to about 48 items on the base model first, then " in said


def test_a_dry_run_says_whether_the_time_limit_cuts_the_climb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"model": "embedded", "ladder": ["prompting"], "limits": {"hours": 1e-6}}
    Console(width=300).print(forecast_table(dry_run(load_task(scripted_task(tmp_path, quality=[], task=keys)))))
    said = capsys.readouterr().out
    assert "The time limit (limits.hours) leaves 0.0 s, less than the " in said
    assert "the climb may stop during prompting. Raise the limit, or leave rungs out with --until." in said


def test_a_dry_run_calls_no_time_limit_enough_where_the_time_of_a_rung_or_of_the_judge_is_not_known(
    tmp_path: Path,
) -> None:
    keys = {"model": "embedded", "ladder": ["prompting", "sft"], "limits": {"hours": 1000}}
    found = dry_run(load_task(scripted_task(tmp_path, quality=[], task=keys)), gate="none")
    prompting, sft = found.rungs
    assert prompting.forecast is not None

    def said(**parts: Any) -> str:
        (line,) = (note for note in notes_of(found.model_copy(update=parts)) if "limits.hours" in note)
        return line

    unknown = replace(prompting.forecast, seconds=None)
    assert ", enough for these rungs, which " in said()
    assert said(judge=unknown).endswith("together, and the judge counts too.")
    assert "; with the judge about " in said(judge=replace(unknown, seconds=9.0))
    rungs = (prompting.model_copy(update={"forecast": unknown}), sft)
    assert said(rungs=rungs).endswith("together, and prompting counts too.")


def test_a_climb_says_beforehand_what_its_rungs_take_and_how_to_shorten_a_long_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """prompting is over already, retrieval does not apply, and nothing is known of full. A judge takes a second an answer, a
    minute at sft.
    """
    seconds = {"prompting": 9.0, "retrieval": 9.0, "sft": 1440.0, "preference": 30.0, "full": None}

    forecasts = {name: Forecast(0, 0, 0, taken, 0.0) for name, taken in seconds.items()}
    forecasts["sft"] = replace(answering("dev and test", Machine(1, 1.0), 60, 1, 0, 1), seconds=1440.0)

    class Known(SilentProgress):
        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, text: str) -> None:
            self.said.append(text)

    def rung(name: str) -> Any:
        return SimpleNamespace(
            skip_reason=lambda task, train: "no documents" if name == "retrieval" else None,
            forecast=lambda task, work: forecasts[name],
        )

    machine = SimpleNamespace(training_cards=1, parameters=1)
    monkeypatch.setattr("lastresort.climb.budget.find_rung", rung)
    monkeypatch.setattr("lastresort.climb.budget.workload", lambda *_: SimpleNamespace(machine=machine))
    monkeypatch.setattr(
        "lastresort.climb.budget.forecast_of_judge", lambda prepared, answers: Forecast(0, 0, 0, float(answers), 0.0)
    )
    progress = Known()
    given_up = RungGivenUp(rung="prompting", reason=Statement(code="out of reach", figures={}, text="It cannot."))
    tested = SimpleNamespace(
        last=lambda kind, name: name if name == "prompting" else None, since=lambda: iter([(1, given_up)])
    )
    bench: Any = SimpleNamespace(
        task=SimpleNamespace(ladder=tuple(seconds), model="embedded"),
        train=(),
        record=tested,
        progress=progress,
        hours_left=lambda: 0.25,
        stop=NEVER,
    )
    prepared: Any = None
    say_forecast(bench, prepared, bench.task.ladder, gated=True)
    assert "The gate of a tuned model comes on top" in progress.said[0]
    assert [line.replace(NO_BREAK, " ").partition(". ")[0] for line in progress.said] == [
        "Forecast for this machine: about 25 min for SFT and 30 s for preference tuning",
        "The time limit (limits.hours) leaves 15 min, less than the 25 min forecast up to the end of SFT: SFT may be skipped",
        "sft: this may take 25 min",
    ]
    machine.training_cards, machine.training_speedup = 4, 3.4
    say_forecast(bench, prepared, bench.task.ladder, gated=True)
    said = "Training on 4 GPUs is assumed, not measured, to be at most 3.4 times as fast as on one."
    assert progress.said[-2] == said
    del progress.said[3:]
    del progress.said[3:]
    monkeypatch.setattr("lastresort.climb.budget.forecast_of_judge", lambda *_: Forecast(0, 0, 0, None, 0.0))
    bench.hours_left = lambda: 9.0
    say_forecast(bench, prepared, bench.task.ladder, gated=True)
    assert progress.said[4].endswith("together, and the judge, full fine-tuning and a gate count too.")
    del progress.said[3:]
    forecasts |= {name: replace(forecasts[name], seconds=None) for name in ("sft", "preference")}
    say_forecast(bench, prepared, bench.task.ladder, gated=True)
    assert len(progress.said) == 3, "nothing of cards without a forecast"
    say_forecast(bench, prepared, bench.task.ladder[:2], gated=True)
    bench.task.model = "openai:some-model"
    say_forecast(bench, prepared, bench.task.ladder, gated=True)
    assert len(progress.said) == 3


@pytest.mark.parametrize("begun", [False, True])
def test_a_stop_is_heard_while_the_layers_are_timed(monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    """It takes half a minute on a slow machine, and whoever asked to stop waits. begun: a rung that a resume goes on with."""
    asked: list[StopRequest] = []
    steps: list[int] = []

    def timed(prepared: object, name: str, progress: Progress) -> None:
        progress.stage("timing", 9)
        for step in range(9):
            if step == 2:
                asked.append(StopRequest("time", "the limit is reached"))
            if step == 4:
                asked[:] = [StopRequest("file", "the file asks to stop")]
            progress.advance()
            steps.append(step)

    monkeypatch.setattr("lastresort.climb.budget.workload", timed)
    found = CandidateMoved(rung="prompting", candidate="one", moved=None)
    bench: Any = SimpleNamespace(
        task=SimpleNamespace(ladder=("prompting",), model="embedded"),
        train=(),
        record=SimpleNamespace(last=lambda kind, name: None, since=lambda: iter([(1, found)] if begun else ())),
        progress=SilentProgress(),
        stop=SimpleNamespace(requested=lambda: asked[0] if asked else None),
    )
    prepared: Any = SimpleNamespace(task=bench.task)
    says = partial(say_forecast, bench, prepared, bench.task.ladder, gated=False)
    if begun:
        says()
        assert not steps, "which says nothing of it"
        says = partial(say_cost, bench, prepared, find_rung("prompting"))
    with pytest.raises(StopRequestedError):
        says()
    assert steps == [0, 1, 2, 3]


def test_a_text_is_tokenised_once_for_all_rungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Tokenizer:
        def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
            read.append(text)
            return {"input_ids": [1] * len(text.split())}

    tokenizer = Tokenizer()
    monkeypatch.setattr(climb_workload, "_tokenizer", lambda folder: tokenizer)
    monkeypatch.setattr(climb_workload, "_template", lambda tokenizer, task: 0)
    (tmp_path / "tokenizer_config.json").touch()
    task: Any = SimpleNamespace(folder=tmp_path)
    for _ in ("prompting", "sft"):
        assert list(map(counts_of(task, str(tmp_path)).count, ("one", "two words"))) == [1, 2]
    assert read == ["one", "two words"]
