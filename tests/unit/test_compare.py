"""What `--compare` asks for, what is refused before anything is spent, and what is said of what was measured."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from rich.console import Console

from climb_support import reason_lines, scripted_task
from compare_support import compared, noted
from lastresort.after.compare import compare, training
from lastresort.after.compare import ways as refusals
from lastresort.after.compare.results import ComparisonSetup, compared_ways
from lastresort.after.compare.ways import WAYS, ComparisonRequest, Trial, parse_request
from lastresort.app.dry_run import dry_run
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb.prepare import prepare
from lastresort.errors import InputError, PrerequisiteError
from lastresort.records.decision_parts import ComparedWay, ComparisonRefusal, WayName
from lastresort.records.record import Record
from lastresort.report.forecast import DryRun, forecast_table
from lastresort.report.words import candidates as words
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import load_task
from report_support import training_reached
from tiny_model import save_tiny_model
from tuning_support import tiny_task

SOME = ComparisonRequest(("lora", "full"))


def test_what_others_are_made_of_comes_along() -> None:
    assert parse_request("lora, qlora") == ComparisonRequest(("lora", "qlora"), 3)
    assert parse_request("merged,nf4", 2) == ComparisonRequest(("merged", "nf4", "lora"), 2)
    assert parse_request("none") == ComparisonRequest(())
    assert ComparisonRequest(("lora", "full"), 2).seed_numbers(7) == (8, 9)


@pytest.mark.parametrize(
    ("text", "seeds", "sentence"),
    [
        (
            "lora,dora",
            3,
            r'--compare: found "dora", expected some of lora, qlora, full, merged and nf4\. Name two or more',
        ),
        ("lora", 3, r'--compare: found "lora" alone, expected at least two names\. Add another of'),
        ("", 3, r'--compare: found "", expected some of'),
        ("lora,none", 3, r'--compare: found "none", expected some of'),
        ("lora,qlora,lora", 3, r'--compare: found "lora,qlora,lora", expected each name once'),
        ("lora,qlora", 1, r"--compare-seeds: found 1, expected at least 2\. One seed does not show"),
    ],
)
def test_what_names_no_comparison_is_refused(text: str, seeds: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse_request(text, seeds)


def refused(folder: Path, asked: ComparisonRequest = SOME, until: str | None = None, **keys: Any) -> str:
    with pytest.raises(InputError) as raised:
        refusals.refuse_impossible(asked, prepare(load_task(tiny_task(folder, **keys))), until)
    return str(raised.value)


def test_a_climb_that_cannot_end_at_sft_has_nothing_to_compare(tmp_path: Path) -> None:
    end = "Leave it out, or let the climb reach sft."
    for keys, until, why in (
        ({"ladder": ["prompting", "full"]}, None, "sft is not on the ladder of this task"),
        ({"ladder": ["prompting", "sft"]}, "prompting", "the climb ends at prompting, below sft"),
        (
            {"ladder": ["sft", "full"], "tune": {"method": "full"}},
            None,
            "sft is skipped: it trains adapters, but `tune.method` is full",
        ),
    ):
        found = refused(tmp_path, until=until, **keys)
        assert found.startswith(f"--compare: {why}")
        assert found.endswith(end)


def test_an_endpoint_has_no_weights_to_train(tmp_path: Path) -> None:
    path = scripted_task(tmp_path, quality=[{"right": 0.9}])
    with pytest.raises(
        InputError, match=r"^--compare: sft is skipped: the weights of scripted:script\.json are not local"
    ):
        refusals.refuse_impossible(SOME, prepare(load_task(path)), None)


def test_what_is_missing_or_too_large_here_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastresort.models import quantized

    prepared = prepare(load_task(tiny_task(tmp_path, ladder=["sft"])))
    refusals.refuse_impossible(SOME, prepared, None)
    monkeypatch.setattr(quantized, "import_bitsandbytes", lambda: False)
    for way in ("qlora", "nf4"):
        with pytest.raises(PrerequisiteError, match="bitsandbytes is not installed"):
            refusals.refuse_impossible(ComparisonRequest(("lora", way)), prepared, None)
    monkeypatch.setattr(refusals, "machine_memory_bytes", lambda: 1 << 10)
    with pytest.raises(InputError, match=r"^--compare full: training all .* Leave full out\.$"):
        refusals.refuse_impossible(SOME, prepared, None)


def test_the_command_refuses_before_a_run_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.9}])
    monkeypatch.chdir(tmp_path)
    for arguments in (["--compare", "lora,dora"], ["--compare", "lora,full"], ["--compare", "lora,full", "--dry-run"]):
        monkeypatch.setattr(sys, "argv", ["lastresort", "climb", str(path), *arguments])
        assert guarded(app) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("Error: --compare: ")
    assert not (tmp_path / "runs").exists()


def test_a_winner_that_was_not_trained_is_not_compared(tmp_path: Path) -> None:
    """The prompt of a scripted model wins, and what could be trained is another."""
    save_tiny_model(tmp_path / "task" / "model")
    keys = {"tune": {"model": "model"}}
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.97}], task=keys)
    found = compared(path, tmp_path / "runs" / "routing-1", SOME).decision.as_json()
    assert (found["stopped_at"], found["compare"]) == ("prompting", [])
    assert reason_lines(found)[-1] == "Nothing was compared (lora, full): prompting won, which trains nothing."


def test_ways_are_compared_in_one_process_whatever_the_task_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of others would not be in what is compared."""
    counts = list[object]()

    def why_not(bench: Workbench, *_: object) -> ComparisonRefusal:
        counts.append(bench.task.tune.processes)
        return ComparisonRefusal(code="NO_WINNER")

    monkeypatch.setattr(compare, "_why_not", why_not)
    save_tiny_model(tmp_path / "task" / "model")
    keys = {"tune": {"model": "model", "processes": 8}}
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.97}], task=keys)
    compared(path, tmp_path / "runs" / "routing-1", SOME)
    assert counts == [1]


def test_a_dry_run_says_what_the_comparison_adds(tmp_path: Path) -> None:
    path = tiny_task(tmp_path, ladder=["sft"])
    request = ComparisonRequest(("lora", "merged"), 2)
    alone, found = dry_run(load_task(path)).as_json(), dry_run(load_task(path), compare=request).as_json()
    added = found["compare"]
    assert alone["compare"] is None
    assert found["total"]["training_tokens"] == alone["total"]["training_tokens"] + added["training_tokens"]
    assert found["total"]["tokens_in"] == alone["total"]["tokens_in"] + added["tokens_in"]
    trained = alone["rungs"][0]["forecast"]["training_tokens"]
    assert added["training_tokens"] == pytest.approx(2 * trained, abs=1)  # one rate, twice
    assert [line.split(":")[0] for line in added["lines"]] == [
        "lora, 2 seeds",
        "lora, loss on dev",
        "lora, test",
        "merged, test",
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(forecast_table(DryRun.model_validate(found), verbose=True))
    assert "comparison: lora, 2 seeds: 70 rows x 2 epochs" in " ".join(out.getvalue().split())


def ways(folder: Path, scores: dict[WayName, dict[int, list[float] | str]], **whole: Any) -> tuple[ComparedWay, ...]:
    """scores: of each way and seed, or why it failed."""
    with Record.create(folder) as record:
        for way, seeds in scores.items():
            for seed, found in seeds.items():
                noted(
                    record,
                    way,
                    seed,
                    found if isinstance(found, list) else [],
                    failed=found if isinstance(found, str) else None,
                )
        setup = ComparisonSetup(
            ways=tuple(WAYS[way] for way in scores),
            seeds=tuple(next(iter(scores.values()))),
            groups=whole.get("groups"),
            alpha=0.05,
            epoch=2,
            seed=0,
            trainings={Trial(WAYS[way], seed): [f"{way} {seed}"] for way, seeds in scores.items() for seed in seeds},
        )
        return compared_ways(record, setup)


LOSING = [0.0] * 40 + [1.0] * 160


def test_what_is_reported_by_hand(tmp_path: Path) -> None:
    """Two seeds, four items; QLoRA is right once less with the first seed and once more with the second: the mean is 0."""
    lora, qlora = ways(
        tmp_path, {"lora": {1: [1, 1, 0, 0], 2: [1, 1, 0, 0]}, "qlora": {1: [1, 0, 0, 0], 2: [1, 1, 1, 0]}}
    )
    assert (lora.score, lora.n, lora.difference) == (0.5, 4, None)
    assert (qlora.score, qlora.difference, qlora.n) == (0.5, 0.0, 4)
    assert [(part.seed, part.score, part.difference) for part in qlora.seeds] == [
        (1, 0.25, -0.25),
        (2, 0.75, 0.25),
    ]
    assert qlora.seed_sd == pytest.approx(0.3536, abs=1e-4)
    assert qlora.training is not None
    assert (qlora.training.memory_bytes, qlora.training.seconds) == (2_000_000, 15.0)
    assert qlora.training.tokens_per_s == pytest.approx(2000 / 30)
    assert (qlora.cost.tokens_in, qlora.cost.tokens_out, qlora.cost.seconds) == (160, 40, 4.0)
    assert lora.said == "LoRA scores 50% on the test set, the mean of 2 seeds."
    assert qlora.said.startswith("QLoRA costs 0.0 points (−")
    assert qlora.said.endswith("against LoRA on this task, which may be chance; a cost of 3 points is not ruled out.")


def test_groups_count_as_one(tmp_path: Path) -> None:
    found = ways(
        tmp_path,
        {"lora": {1: [1.0] * 10, 2: [1.0] * 10}, "full": {1: [1.0] * 9 + [0.0], 2: [1.0] * 9 + [0.0]}},
        groups=("a",) * 9 + ("b",),
    )
    assert [entry.n for entry in found] == [2, 2]
    assert found[1].difference == -0.5
    assert "Training of all weights costs 50.0 points" in found[1].said


def test_a_cost_that_is_shown_is_called_one_and_equal_answers_exclude_it(tmp_path: Path) -> None:
    right = {seed: [1.0] * 200 for seed in (1, 2, 3)}
    worse = {seed: list(LOSING) for seed in (1, 2, 3)}
    lora, nf4, merged = ways(tmp_path, {"lora": right, "nf4": worse, "merged": right})
    assert (nf4.verdict, merged.verdict, lora.verdict) == ("REGRESSED", "NON_INFERIOR", None)
    assert nf4.said.startswith("The adapter on a 4-bit base costs 20.0 points (1")
    assert nf4.said.endswith("against LoRA on this task; it is more than 3 points.")
    assert merged.said.endswith("which may be chance; a cost of 3 points is ruled out.")
    turned = ways(tmp_path / "turned", {"nf4": worse, "lora": right})[1]
    assert turned.said.startswith("LoRA gains 20.0 points (1")
    assert turned.said.endswith("over the adapter on a 4-bit base on this task; a cost of 3 points is ruled out.")


def test_seeds_that_drop_out_are_said_and_left_out_of_both(tmp_path: Path) -> None:
    scores: dict[WayName, dict[int, list[float] | str]] = {
        "lora": {1: [1.0, 0.0], 2: [1.0, 1.0], 3: [0.0, 0.0]},
        "qlora": {1: [1.0, 0.0], 2: "training diverged at learning rate 1", 3: [0.0, 0.0]},
        "full": {1: "no", 2: "no", 3: "training diverged"},
        "merged": {1: "no", 2: "no", 3: [1.0, 1.0]},
    }
    lora, qlora, full, merged = ways(tmp_path, scores)
    assert lora.score == 0.5
    assert (qlora.score, qlora.difference) == (0.25, 0.0)
    assert [part.difference for part in qlora.seeds] == [0.0, None, 0.0]
    assert qlora.said.endswith("1 of 3 seeds failed.")
    assert (full.score, full.training, full.said) == (
        None,
        None,
        "Training of all weights could not be made: no.",
    )
    assert (merged.score, merged.difference) == (1.0, None)
    assert merged.said.startswith("The merged adapter cannot be compared with LoRA: fewer than two seeds")
    assert json.dumps([way.as_json() for way in (lora, qlora, full, merged)])


def test_a_way_costs_what_its_own_trainings_took_races_included(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        for number, name in enumerate(("full 1, slow", "full 1, fast", "full 2", "lora 1", "lora 2")):
            record.append(training_reached("compare", name, seconds=10.0**number))
        for way in ("lora", "full"):
            for seed in (1, 2):
                noted(record, way, seed, [1.0, 0.0])
        lora, full = WAYS["lora"], WAYS["full"]
        trainings: dict[Trial, list[str]] = {
            Trial(lora, 1): ["lora 1"],
            Trial(lora, 2): ["lora 2"],
            Trial(full, 1): ["full 1, slow", "full 1, fast"],
            Trial(full, 2): ["full 2", "never begun"],
        }
        setup = ComparisonSetup((lora, full), (1, 2), None, 0.05, 2, 0, trainings)
        found = compared_ways(record, setup)
    assert [way.cost.seconds for way in found] == [11_000 + 2 * 2 * 0.5, 111 + 2 * 2 * 0.5]


def test_all_weights_are_trained_with_the_replay_loss_of_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the rows of the winner: its requests are not asked again."""
    monkeypatch.setattr(training, "SupervisedTraining", lambda bench, rung, section, method, **_: section)
    bench: Any = SimpleNamespace(
        task=load_task(tiny_task(tmp_path, sft={"replay_loss": "kl", "replay_prompts": "wide"}))
    )

    def replay(way: WayName) -> tuple[str, str]:
        trial = Trial(WAYS[way], 1)
        section: Any = training._training(bench, trial, training._method(bench, trial))
        return section.replay_loss, section.replay_prompts

    assert (replay("lora"), replay("full")) == (("kl", "wide"), ("likelihood", "wide"))


def test_the_bases_passes_over_held_replay_are_forecast_for_each_way_that_holds_it(tmp_path: Path) -> None:
    keys = {"learning_rates": [0.003], "epochs": 1, "r": 4, "replay": 0.1}

    def passes(way: WayName, **loss: str) -> list[str]:
        task = load_task(tiny_task(tmp_path / f"{way} {len(loss)}", ladder=["sft"], sft={**keys, **loss}))
        found = compare.forecast_of(ComparisonRequest((way,), seeds=3), prepare(task))
        return [line.partition(" x")[0] for line in found.lines if line.startswith("the base")]

    assert passes("lora", replay_loss="kl") == ["the base at replay rows: 24"], "8 rows, one epoch, three seeds"
    assert passes("lora") == passes("full", replay_loss="kl") == []


def test_one_table_holds_all_ways_and_each_has_words() -> None:
    assert list(WAYS) == list(get_args(WayName)) == list(words.WAYS)
    assert [way.name for way in WAYS.values()] == list(WAYS)
    assert {way.name: way.made_of for way in WAYS.values() if not way.trains} == {"merged": "lora", "nf4": "lora"}
    assert [way.name for way in WAYS.values() if way.trains_all_weights] == ["full"]
