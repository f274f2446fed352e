"""What a dry run says beside its figures: the memory of rungs that train, what the figures rest on, and what is not here."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import weakref
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from lastresort.app.dry_run import dry_run, missing
from lastresort.climb import rates
from lastresort.climb.prepare import prepare
from lastresort.climb.shares import error_shares
from lastresort.climb.workload import BYTES_PER_TOKEN, TEMPLATE_TOKENS, TextLengths, counts_of, planned_rung, workload
from lastresort.evals.evidence.bar import items_against_bar
from lastresort.hardware.cards import Card
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.time import FORWARD, FROZEN_BASE
from lastresort.records.rungs import TooLarge
from lastresort.report.forecast import DryRun, forecast_table
from lastresort.report.words.progress import TIMING, busy_here
from lastresort.rungs.forecast import Machine, Rates, answering, training
from lastresort.rungs.supervised.full import FullRung
from lastresort.spec.task import Task, load_task
from lastresort.types import SilentProgress
from pretend_gpu import pretend_gpu
from tuning_support import pairs, questions, tiny_task

MEASURED = Rates(training=8e9, reading=4e9, answering=1e9)
TRAINED = ("prompting", "sft", "preference", "full")
QUIET = {"keep": {"general": "skip", "sycophancy": "skip", "format_leak": "skip"}}


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed here but where a test does so itself."""
    monkeypatch.setattr("lastresort.climb.workload.measured_rates", lambda config, **_: MEASURED)


def task_of(folder: Path, **keys: Any) -> Task:
    return load_task(
        tiny_task(folder, preferences=pairs(), **{"ladder": ["sft", "preference", "full"], **QUIET, **keys})
    )


def shown(found: dict[str, Any], *, verbose: bool = True) -> str:
    out = io.StringIO()
    Console(file=out, width=300).print(
        forecast_table(DryRun.model_validate(json.loads(json.dumps(found))), verbose=verbose)
    )
    return " ".join(out.getvalue().split())


def rungs_of(found: dict[str, Any]) -> dict[str, Any]:
    return {rung["name"]: rung for rung in found["rungs"]}


def test_every_rung_that_trains_has_its_memory(tmp_path: Path) -> None:
    found = dry_run(task_of(tmp_path, ladder=["prompting", "sft", "preference", "full"])).as_json()
    rungs = rungs_of(found)
    assert rungs["prompting"]["memory"] is None
    for name, method in (("sft", "lora"), ("preference", "lora"), ("full", "full")):
        memory = rungs[name]["memory"]
        assert memory["method"] == method
        assert memory["bytes"] == sum(memory["parts"].values())
        assert memory["fits"]
        assert f"{name}: memory: {memory['sentence']}" in shown(found)
    assert rungs["full"]["memory"]["parts"]["optimizer"] > rungs["sft"]["memory"]["parts"]["optimizer"]
    assert "are free here." in rungs["sft"]["memory"]["sentence"]


@pytest.mark.slow
def test_what_does_not_fit_says_what_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the embedded model 1.0 GiB is too little for a full pass in float32; weights of a terabyte fit nowhere."""
    monkeypatch.setattr("lastresort.models.loading.is_reduced", lambda dtype: False)
    monkeypatch.setattr("lastresort.app.dry_run.free_memory_bytes", lambda: 5 << 28)
    write = [{"input": f"{row['input']} {'word ' * 100}", "output": row["output"]} for row in questions()]
    path = tiny_task(tmp_path, ladder=["sft", "full"], model="embedded", **QUIET)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in write), encoding="utf-8")
    rungs = rungs_of(dry_run(load_task(path)).as_json())
    sft, full = rungs["sft"]["memory"], rungs["full"]["memory"]
    assert not sft["fits"]
    assert "it does not fit. It trains with max_pass_tokens: " in sft["sentence"]
    assert (
        "instead, which comes to 1.1 GiB." in sft["sentence"] or "instead, which comes to 1.2 GiB." in sft["sentence"]
    )
    assert "Leave full out of `ladder`, or name a smaller model: lora would fit" in full["sentence"]
    monkeypatch.setattr("lastresort.app.dry_run.free_memory_bytes", lambda: 1 << 20)
    none = rungs_of(dry_run(load_task(path)).as_json())["sft"]["memory"]["sentence"]
    assert "Nothing makes it fit: at the least it holds 0." in none


def test_a_model_that_would_be_downloaded_is_named_once(tmp_path: Path) -> None:
    found = dry_run(task_of(tmp_path, ladder=["prompting"], model="nobody/no-such-model")).as_json()
    (said,) = found["missing"]
    assert said.startswith("nobody/no-such-model is not on this machine: the climb downloads it from the hub first.")
    assert shown(found).count("nobody/no-such-model is not on this machine") == 1


def test_the_judge_is_downloaded_too_and_a_model_that_is_not_tuned_is_not(tmp_path: Path) -> None:
    keys = {"score": {"judge": "nobody/judge"}, "tune": {"model": "nobody/tuned"}}
    for ladder, named in ((["prompting"], ["nobody/judge"]), (["prompting", "sft"], ["nobody/tuned", "nobody/judge"])):
        task = task_of(tmp_path / "-".join(ladder), ladder=ladder, **keys)
        assert [said.split()[0] for said in missing(task, ladder, gated=False)] == named


def test_a_missing_lm_eval_is_said_where_the_gate_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path, ladder=["sft"], general=["lm_eval:mmlu", "lm_eval:gsm8k"])
    monkeypatch.setattr("lastresort.app.dry_run.find_spec", lambda name: None)
    found = dry_run(task).as_json()
    (told,) = found["missing"]
    assert "The gate asks lm_eval:mmlu and lm_eval:gsm8k, and lm-eval is not installed" in told
    assert told in shown(found)
    assert "Prompting alone is not tested against the bar: the task's ladder leaves it out" in shown(found)
    assert dry_run(task, gate="none").as_json()["missing"] == []
    monkeypatch.setattr("lastresort.app.dry_run.find_spec", lambda name: object())
    assert dry_run(task).as_json()["missing"] == []


@pytest.mark.parametrize("rung", ["sft", "preference", "full"])
def test_the_memory_of_a_rung_counts_replay_that_is_held_to_the_base(rung: str, tmp_path: Path) -> None:
    """Where there is replay at all; the preferences are pairs."""
    found = {}
    for name, keys in {
        "likelihood": {"replay": 0.1},
        "kl": {"replay": 0.1, "replay_loss": "kl"},
        "none": {"replay": 0, "replay_loss": "kl"},
    }.items():
        task = task_of(tmp_path, **{rung: keys})
        planned = planned_rung(task, rung, workload(prepare(task), rung))
        assert planned is not None
        found[name] = planned
    assert found["none"].memory == found["likelihood"].memory
    more = {part.name for part in found["kl"].memory.parts} - {part.name for part in found["likelihood"].memory.parts}
    assert more == {"KL loss of replay", *(["initial weights"] if rung == "full" else [])}


def test_keys_without_effect_are_said_also_in_the_short_forecast(tmp_path: Path) -> None:
    task = task_of(tmp_path, ladder=["sft"], sft={"replay": 0, "replay_loss": "kl"}, limits={"gpu": "t4"})
    found = dry_run(task).as_json()
    assert found["ignored"] == [
        "limits.gpu: t4 has no effect in this version.",
        "sft.replay_loss: kl has no effect on SFT, since sft.replay is 0.",
    ]
    assert all(sentence in shown(found, verbose=False) for sentence in found["ignored"])


def test_tokens_are_counted_by_the_tokenizer_that_is_here(tmp_path: Path) -> None:
    """The tiny model's tokens are bytes; its template writes <|im_start|>user\\n…<|im_end|>\\n<|im_start|>assistant\\n."""
    task = task_of(tmp_path, ladder=["sft"])
    counts = counts_of(task, "model")
    assert counts.count("näher") == 6
    assert counts.template == 1 + len("user\n") + 1 + 1 + 1 + len("assistant\n")
    work = workload(prepare(task), "sft")
    assert work.about_tokens == len(task.about) + counts.template
    assert work.output_tokens == pytest.approx(sum(map(len, ("red", "blue", "green"))) / 3, abs=0.1)
    assert work.longest_tokens is not None
    assert work.longest_tokens > work.about_tokens + work.input_tokens
    elsewhere = counts_of(task, "somebody/model-that-is-not-here")
    assert (elsewhere.count("x" * 30), elsewhere.template) == (30 // BYTES_PER_TOKEN, TEMPLATE_TOKENS)
    told = dry_run(task).as_json()["assumed"]
    assert len(told) == 1
    assert told[0].startswith("model: tokens counted by the tokenizer of model; ")


def test_the_length_of_a_text_is_counted_once_and_no_text_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def tokenizer(text: str, **_: Any) -> dict[str, list[int]]:
        counted.append(text)
        return {"input_ids": [0] * len(text)}

    monkeypatch.setattr(TextLengths, "MOST_KEPT", 3)
    lengths = TextLengths(tokenizer)
    texts = [letter * 100_000 for letter in "abc"]
    assert [lengths(text) for text in (*texts, *texts)] == [100_000] * 6
    assert len(counted) == 3
    assert len(pickle.dumps(vars(lengths)["_known"])) < 500
    lengths("d")
    assert len(vars(lengths)["_known"]) == 1, "it begins again"


def test_times_follow_from_the_tokens_and_rates_that_are_shown(tmp_path: Path) -> None:
    """Of a suite, and of a rung whose prompts share their beginning; all weights take 6 operations a token, adapters 4."""
    keep = {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}
    found = dry_run(task_of(tmp_path, ladder=["prompting", "sft"], keep=keep), gate="quick").as_json()
    told = shown(found)
    assert '"about" is based on the rates below' in told
    rates_told = re.search(
        r"([\d,]+) tokens a second in training \(([\d,]+) of all weights\), ([\d,]+) read, ([\d,]+) a", told
    )
    assert rates_told is not None
    trained, all_weights, reading, answering_rate = (number(one) for one in rates_told.groups())
    assert all_weights == pytest.approx(trained * 4 / 6, abs=1)
    (suite,) = found["gate"]["suites"]
    tokens = re.search(r"on base and tuned; ([\d,]+) tokens read and ([\d,]+) answered, about ", told)
    assert tokens is not None
    seconds = number(tokens[1]) / reading + number(tokens[2]) / answering_rate
    assert seconds == pytest.approx(suite["forecast"]["seconds"], rel=0.01)
    prompting = rungs_of(found)["prompting"]["forecast"]
    computed = [number(one) for line in prompting["lines"] for one in re.findall(r"(\d+) prompt tokens computed", line)]
    assert computed
    assert sum(computed) < prompting["tokens_in"]


def test_the_short_forecast_names_both_gates_and_what_the_test_set_can_tell(tmp_path: Path) -> None:
    keep = {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}
    found = dry_run(task_of(tmp_path, ladder=list(TRAINED), keep=keep, bar=0.6, score="exact")).as_json()
    told = shown(found, verbose=False)
    assert found["gate"]["mode"] == "full"
    assert found["quick_gate"]["forecast"]["seconds"] < found["gate"]["forecast"]["seconds"]
    assert re.search(r"The full gate takes about .*; `--gate quick` takes about ", told)
    assert "prompt tokens computed" not in told
    assert "assumed: " not in told
    assert "--verbose" in told
    uncounted = [one["name"] for one in rungs_of(found)["prompting"]["forecast"]["uncounted"]]
    assert uncounted == [f"nearest-{k}" for k in (16, 32, 64) if k < found["examples"]["train"]] != []
    assert re.search(
        rf"prompting: not counted: {uncounted[0]}.*each tried only if the one before it helps; at most [\d,]+ tokens in",
        told,
    )
    assert "A high estimate of what is counted: it assumes" in told
    test = found["test"]
    assert (test["above"], test["below"]) == (pytest.approx(0.7), pytest.approx(0.5))
    used = {rung: f"{100 * share:.2g}% with this test set" for rung, share in found["shares"].items()}
    assert (
        f"At prompting, with its planned error rate of 2.5% ({used['prompting']}), a system that truly scores 70% needs about "
        f"{test['to_meet']} test items to be shown to meet" in told
    )
    strictest, planned = test["strictest"], error_shares(TRAINED, 0.05)
    assert planned[strictest] == min(planned[rung] for rung in TRAINED) < planned["prompting"]
    most = items_against_bar(test["above"], bar=0.6, alpha=planned[strictest])
    assert (
        f", and at {strictest}, whose planned error rate of {100 * planned[strictest]:.2g}% ({used[strictest]}) is the smallest, "
        f"about {most}. To show that a true score of 50%" in told
    )
    passed_on = (
        "What the test items cannot use of a planned rate is passed on to later tests, so the split above differs."
    )
    assert found["shares"]["prompting"] < planned["prompting"]
    assert f"These sizes give 80% power. {passed_on} At prompting, even" in told
    as_planned = shown({**found, "shares": planned}, verbose=False)
    assert "with its planned error rate of 2.5%, a system" in as_planned
    assert passed_on not in as_planned
    assert f"At prompting, even a perfect score needs {test['least']} test items." in told
    assert test["least"] < test["to_meet"]
    assert "Label more examples, or give the test set a larger share (`split.test`)." in told
    found["examples"]["test_file"] = True
    assert "so a rung this close to the bar may end UNDECIDED. Label more examples for the test file." in shown(found)
    found["examples"]["test"] = max(test["to_meet"], test["to_miss"])
    assert "Warning" in shown(found, verbose=False)
    found["examples"]["test"] = most
    assert "Warning" not in shown(found, verbose=False)
    assert dry_run(task_of(tmp_path / "quick", ladder=["sft"], keep=keep), gate="quick").as_json()["quick_gate"] is None


def test_a_test_set_with_a_file_of_its_own_takes_no_share(tmp_path: Path) -> None:
    task_of(tmp_path)
    rows = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)
    for name, part in (("train", rows[40:]), ("test", rows[:40])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
    files = {"train": "train.jsonl", "test": "test.jsonl"}
    task = task_of(tmp_path, ladder=["sft"], bar=0.6, score="exact", examples=files, split={"dev": 20})
    assert "split.test" not in shown(dry_run(task, gate="none").as_json())


def test_a_rung_that_is_too_large_for_this_machine_is_none_whose_test_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its share, as another machine may take the run up."""
    task = task_of(tmp_path, ladder=["sft", "full"], bar=0.6, score="exact")
    whole = dry_run(task).as_json()
    assert (whole["test"]["first"], whole["test"]["strictest"]) == ("sft", "full")
    monkeypatch.setattr(FullRung, "skip_reason", lambda *_: TooLarge(1, 2, 1))
    found = dry_run(task).as_json()
    assert found["shares"] == whole["shares"]
    assert (found["test"]["first"], found["test"]["strictest"]) == ("sft", "sft")


class Stages(SilentProgress):
    def __init__(self) -> None:
        self.labels: list[str] = []

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.labels.append(label)


def test_each_part_of_a_dry_run_says_that_it_has_begun(tmp_path: Path) -> None:
    """The forecast of a gate may take a minute."""
    stages = Stages()
    keep = {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}
    dry_run(task_of(tmp_path, ladder=["prompting", "sft"], keep=keep), gate="quick", progress=stages)
    gate = "forecast of the gate: how many items general takes"
    assert stages.labels == ["reading the examples", "forecast of prompting", "forecast of sft", gate]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_measured_rates_go_before_assumed_ones() -> None:
    """1,000 tokens of 10^6 weights: 4 x 10^9 operations in training, 2 x 10^9 read; 100 answered are 2 x 10^8."""
    machine = Machine(10**6, 1e12, measured=MEASURED)
    assert training("", machine, 10, 1, 100, 0, 1).seconds == pytest.approx(4e9 / 8e9)
    assert answering("", machine, 10, 100, 0, 10).seconds == pytest.approx(2e9 / 4e9 + 2e8 / 1e9)
    assert machine.tokens_per_s() == Rates(2000, 2000, 500)
    assert Machine(10**6, 1e12).rates == Rates(0.5e12, 0.5e12, 0.2e12)
    alone = replace(machine, measured=replace(MEASURED, alone=1e8))
    assert answering("", alone, 10, 100, 0, 10, alone=True).seconds == pytest.approx(2e9 / 4e9 + 2e8 / 1e8)
    assert answering("", machine, 10, 100, 0, 10, alone=True).seconds is None, "it was not measured"


def test_what_a_layer_adds_counts_for_all_of_them() -> None:
    shape = shape_named("smollm2-135m")
    assert rates._extrapolated(1.0, 3.0, shape.layers) == pytest.approx(3.0 + 24 * 0.5)
    assert rates._extrapolated(3.0, 2.9, 30) > 2.9, "noise makes no layer free"
    found = rates.rates_from(shape, 64, 10.0, 5.0, 0.5, 0.2)
    tokens = rates.ROWS * rates.ROW_TOKENS
    assert found.training == FROZEN_BASE * shape.multiplied_parameters * tokens / 10
    assert found.answering == FORWARD * shape.multiplied_parameters * 64 / 0.5
    assert found.alone == FORWARD * shape.multiplied_parameters / 0.2


TIMED = rates._timed  # no test but this times anything
STACK = rates._stack


class Passes(SilentProgress):
    def __init__(self) -> None:
        self.said: list[tuple[str, int | None]] = []
        self.done = 0
        self.busy: list[str] = []

    def say(self, text: str) -> None:
        self.busy.append(text)

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.said.append((label, total))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount


@pytest.mark.parametrize(
    ("pass_s", "passes", "found_s"),
    [
        ([9.0, 1.0, 2.0], [1, 1, 1], 1.0),  # the first warms up
        ([7.0, 4.0, 3.0], [1, 1, 1], 4.0),
        ([11.0, 4.0, 3.0], [1, 2], 11.0),
    ],
)
def test_once_the_time_is_up_no_further_pass_is_taken(pass_s: list[float], passes: list[int], found_s: float) -> None:
    ends, now_s, taken = iter(pass_s), [0.0], list[int]()

    def work() -> None:
        now_s[0] += next(ends)

    assert rates._least_s(work, lambda: now_s[0], 11.0, taken.append) == found_s
    assert taken == passes


def test_a_slow_machine_is_timed_by_one_pass_of_each_kind(tmp_path: Path) -> None:
    """A clock that goes on by 4 s whenever somebody looks: the limit is reached within the first pass."""
    config = json.loads((tiny_task(tmp_path).parent / "model" / "config.json").read_text(encoding="utf-8"))
    looks, taken = count(0.0, 4.0), list[int]()
    found = TIMED(config, 2, 4, False, lambda: next(looks), taken.append)
    assert taken == [1, rates.TRIES] * (rates.PASSES // (1 + rates.TRIES))
    assert found == (4.0, 4.0, 0.4 / rates.NEW_TOKENS, 0.4 / rates.NEW_TOKENS), "no token is free"


@pytest.mark.slow
def test_a_gpu_is_timed_on_itself_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of its matrix products says nothing there of decoding, in which its kernels take longer to start than to run."""
    config = json.loads((tiny_task(tmp_path).parent / "model" / "config.json").read_text(encoding="utf-8"))
    waited, kept, places = list[object](), list[int](), set[str]()
    stacks = list[weakref.ref[Any]]()

    def stack(*given: Any) -> Any:
        model = STACK(*given)
        stacks.append(weakref.ref(model))
        places.update(parameter.device.type for parameter in model.parameters())
        return model

    monkeypatch.setattr(rates, "_TIMED", {})
    monkeypatch.setattr(rates, "_timed", TIMED)
    monkeypatch.setattr(rates, "_stack", stack)
    monkeypatch.setattr(rates, "TRIES", 0)
    with pretend_gpu():
        monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: kept.append(sum(one() is not None for one in stacks)))
        assert rates._most_parameters() == 80_000_000_000 // rates.GPU_BYTES_PER_PARAMETER
        found = rates.measured_rates(config, reduced=True)
        assert found is not None
        assert places == {"cuda"}
        assert len(waited) == 2 * 2, "after the training pass and the reading of both stacks"
        assert kept == [0], "all of it is given back, for workers on the same GPU"


@pytest.mark.slow
def test_a_few_layers_are_timed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((tiny_task(tmp_path).parent / "model" / "config.json").read_text(encoding="utf-8"))
    monkeypatch.undo()
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(rates, "_TIMED", {})
    monkeypatch.setattr(rates, "_timed", TIMED)
    monkeypatch.setattr(rates, "_load", lambda: 1000.0)
    shown = Passes()
    found = rates.measured_rates(config, reduced=False, progress=shown)
    assert found is not None
    assert shown.said == [(TIMING, 2 * rates.PASSES)]
    assert shown.done == 2 * rates.PASSES
    assert shown.busy == [busy_here(1000.0, os.cpu_count() or 1)]
    assert found.alone is not None
    assert min(found.training, found.reading, found.answering, found.alone) > 0
    assert rates.measured_rates(config, reduced=False) is found, "once a process"
    assert rates.measured_rates({**config, "hidden_size": 8192, "intermediate_size": 32_768}, reduced=False) is None
    assert rates.measured_rates({"model_type": "unheard"}, reduced=False) is None


def test_a_machine_is_not_timed_twice_within_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call as in a process of its own."""
    monkeypatch.undo()
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    config, timed = {"model_type": "llama", "hidden_size": 64}, list[Rates]()

    def measured(*_: object) -> Rates:
        timed.append(Rates(1.0 + len(timed), 2.0, 3.0))
        return timed[-1]

    def found(at_s: float, config: dict[str, object] = config, *, reduced: bool = False) -> tuple[Rates | None, str]:
        shown = Said()
        monkeypatch.setattr(rates, "_TIMED", {})
        monkeypatch.setattr(rates, "_measured", measured)
        monkeypatch.setattr(rates, "_load", lambda: 0.0)
        monkeypatch.setattr(rates, "time", SimpleNamespace(time=lambda: at_s))
        return rates.measured_rates(config, reduced=reduced, progress=shown), " ".join(shown.lines)

    began = 1_000_000.0
    assert found(began) == (timed[0], "")
    said = "This machine's speed with the model was measured 1\u00a0min 30\u00a0s ago, at 13:46:40 UTC."
    assert found(began + 90) == (timed[0], said)
    assert found(began + rates.KEPT_S + 1) == (timed[1], ""), "a machine that was busy then may be free now"
    assert found(began) == (timed[2], ""), "a measurement that is to come counts for nothing"
    assert found(began, {**config, "hidden_size": 128}) == (timed[3], "")
    assert found(began, reduced=True) == (timed[4], "")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert found(began + 1) == (timed[5], "")
    (kept,) = {path for path in (tmp_path / "cache" / "rates").iterdir() if b'"training":6.0' in path.read_bytes()}
    kept.write_text('{"rates": {"training": 0, "reading": 2, "answering": 3}, "at_s": 1000000.0}')
    assert found(began + 1) == (timed[6], "")
    monkeypatch.setattr(rates, "card_here", lambda **_: Card("NVIDIA H100", 80 * 2**30))
    assert found(began + 1) == (timed[7], ""), "a GPU has rates of its own"


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (1.9, 1.9, ""),
        (0.5, 8.0, " It is busy now (load 8.0 on 2 cores), so the forecast may be much too low."),
        (8.0, 0.5, " It was busy then (load 8.0 on 2 cores), so the forecast may be much too high."),
        (4.0, 8.0, " It was busy then (load 4.0 on 2 cores) and is now (8.0), so the forecast may be far off."),
    ],
)
def test_a_speed_that_is_taken_again_says_how_busy_the_machine_is(
    then: float, now: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(rates, "_measured", lambda *_: Rates(1.0, 2.0, 3.0))
    shown = Said()
    for load in (then, now):
        monkeypatch.setattr(rates, "_TIMED", {})
        monkeypatch.setattr(rates, "_load", lambda load=load: load)
        rates.measured_rates({"model_type": "llama"}, reduced=False, progress=shown)
    (line,) = shown.lines
    assert line.partition(" UTC.")[2] == said


class Said(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)
