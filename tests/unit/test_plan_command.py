"""`lastresort plan` and `lastresort env`: what they print, what they choose, and what a user's mistake looks like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

import lastresort
from document_schemas import schema_of
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.hardware.environment import EXTRAS


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, with 16 GiB."""
    from lastresort.hardware import environment

    monkeypatch.setattr(environment, "has_gpu", lambda: False)
    monkeypatch.setattr(environment, "processor_memory_bytes", lambda: 16 << 30)
    monkeypatch.setenv("COLUMNS", "80")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *words])
    return guarded(app)


def document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(monkeypatch, "plan", *words, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(Draft202012Validator(schema_of("plan")).iter_errors(found)) == []
    return found


def test_the_terminal_shows_every_part_and_what_to_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", "llama-3-8b", "--gpu", "rtx-3060", "--rows", "10000")
    assert run(monkeypatch, "plan", *words) == 0
    out, error = capsys.readouterr()
    assert not error
    first = out.splitlines()[0]
    assert first.startswith("llama-3-8b, QLoRA: ")
    assert "fits on rtx-3060 (11.8" in " ".join(out.split())
    told = " ".join(out.split())
    assert "QLoRA, which needs" in told
    assert "since LoRA needs" in told
    for name in ("weights of the layers", "embeddings", "adapters", "optimizer", "one layer", "logits", "CUDA context"):
        assert name in out
    assert "6.98 billion x 0.516 bytes" in told
    assert max(map(len, out.splitlines())) <= 80


def test_the_parts_add_up_and_the_document_fits_its_schema(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(monkeypatch, capsys, "--model", "llama-3.1-405b", "--method", "qlora", "--gpu", "4xh100")
    memory = found["memory"]
    assert memory["per_card_bytes"] == sum(part["per_card_bytes"] for part in memory["parts"])
    assert memory["total_bytes"] == sum(part["total_bytes"] for part in memory["parts"]) == 4 * memory["per_card_bytes"]
    assert found["fits"] is True
    assert "quantisation scales" in {part["name"] for part in memory["parts"]}
    assert found["beyond_our_trainer"] is None
    assert found["time"] is None


@pytest.mark.parametrize(
    ("gpu", "method"), [("rtx-3060", "qlora"), ("rtx-3090", "lora"), ("a100-80", "lora"), ("t4", "qlora")]
)
def test_the_method_follows_from_the_card(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gpu: str, method: str
) -> None:
    found = document(monkeypatch, capsys, "--model", "llama-3-8b", "--gpu", gpu)
    assert found["setup"]["method"] == method


def test_without_a_card_the_cheapest_that_fits_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ("--price", "rtx-3090=9", "--price", "rtx-4090=8", "--price", "l40s=0.01")
    found = document(monkeypatch, capsys, "--model", "llama-3-8b", "--rows", "1000", *prices)
    assert (found["cards"]["name"], found["cards"]["named"]) == ("l40s", False)
    costs = [offer["usd"] for offer in found["offers"]]
    assert costs == sorted(costs)
    assert found["offers"][0]["price_kind"] == "yours"


@pytest.mark.parametrize(
    ("job", "heading"), [(("--rows", "1000"), "cheapest GPU for this job"), ((), "cheapest GPU per hour")]
)
def test_each_table_says_what_its_cheapest_card_is_cheapest_by(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: tuple[str, ...], heading: str
) -> None:
    assert run(monkeypatch, "plan", "--model", "qwen3-8b", *job) == 0
    methods, ladder = (line for line in capsys.readouterr().out.splitlines() if "cheapest" in line)
    assert heading in methods
    assert heading in ladder


def test_with_a_job_both_tables_name_the_card_that_is_cheapest_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(monkeypatch, capsys, "--model", "qwen3-8b", "--rows", "10000")
    (lora,) = (one["cheapest"] for one in found["methods"] if one["method"] == "lora")
    sft, preference, full = found["ladder"]
    assert sft["cheapest"] == sft["cheapest_up_to_here"] == lora
    assert preference["cheapest_up_to_here"]["usd"] > preference["cheapest"]["usd"] > lora["usd"]
    assert full["cheapest_up_to_here"]["seconds"] > full["cheapest"]["seconds"]


def test_the_foot_says_why_a_card_is_not_for_train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", "llama-3-70b", "--gpu", "8xh100", "--optimizer", "paged_adamw_8bit")
    assert run(monkeypatch, "plan", *words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "(not with `train`)" in told
    assert "Not with `train`: `lastresort train` does not shard the state of paged_adamw_8bit" in told


def test_of_a_bare_size_the_cards_are_named_whose_speed_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", "qwen3-0.6b", "--gpu", "12GB", "--rows", "1000")
    assert run(monkeypatch, "plan", *words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "No time, since the speed of 12gb is not known; name the GPU that is meant, such as rtx-3060, rtx-4070," in told
    )
    time = document(monkeypatch, capsys, *words[:3], "13.3GB", *words[4:])["time"]
    assert time["lines"][-1] == "no time, since the speed of 13.3gb is not known"


def test_a_price_is_of_the_card_named_and_time_is_money(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", "mistral-7b", "--method", "qlora", "--gpu", "2xa100-80", "--rows", "10000", "--price", "2")
    found = document(monkeypatch, capsys, *words)
    assert found["cards"]["price"] == {"usd_per_hour": 2.0, "date": None, "kind": "yours"}
    assert found["time"]["usd"] == pytest.approx(found["time"]["seconds"] / 3600 * 2 * 2)
    assert found["time"]["computed_tokens"] == 10_000 * 1024 * 3


def test_a_size_has_a_price_as_a_card_of_the_catalogue_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", "qwen3-8b", "--rows", "1000")
    found = document(monkeypatch, capsys, *words, "--gpu", "48GB", "--price", "1")
    assert found["cards"]["price"] == {"usd_per_hour": 1.0, "date": None, "kind": "yours"}
    assert found["time"]["usd"] is None, "its speed is not known"
    cheapest = document(monkeypatch, capsys, *words[:2], "--price", "48GB=0.01")
    assert (cheapest["cards"]["name"], cheapest["cards"]["named"]) == ("48gb", False)
    assert document(monkeypatch, capsys, *words, "--price", "48GB=0.01")["cards"]["name"] != "48gb"


def test_replay_that_is_held_to_the_base_takes_memory_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, more in (("lora", "KL loss of replay"), ("full", "initial weights")):
        words = ("--model", "qwen3-0.6b", "--method", method, "--gpu", "h100")
        plain = document(monkeypatch, capsys, *words)
        held = document(monkeypatch, capsys, *words, "--replay-loss", "kl")
        assert (plain["setup"]["replay_loss"], held["setup"]["replay_loss"]) == ("likelihood", "kl")
        plain_parts, held_parts = ({part["name"] for part in found["memory"]["parts"]} for found in (plain, held))
        assert held_parts - plain_parts == {more}
        assert held["memory"]["total_bytes"] > plain["memory"]["total_bytes"]
        assert held["measuring"] == plain["measuring"]


def test_what_does_not_fit_says_so_and_what_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(monkeypatch, capsys, "--model", "llama-3-70b", "--gpu", "rtx-4090")
    assert found["fits"] is False
    assert found["largest_batch"] == 0
    assert any("does not fit" in warning for warning in found["warnings"])
    assert found["setup"]["why"].startswith("neither LoRA nor QLoRA")
    assert found["offers"][0]["card"] in ("l40s", "a100-80")


def test_a_training_that_fits_can_fail_to_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(monkeypatch, capsys, "--model", "llama-2-13b", "--gpu", "t4", "--method", "qlora")
    assert found["fits"] is True
    assert 0 < found["measuring"]["fit_at_once"] < found["measuring"]["answers_at_once"] == 16
    assert any("measuring needs memory too" in warning for warning in found["warnings"])


def test_the_largest_batch_fits_and_one_more_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", "qwen3-8b", "--method", "qlora", "--gpu", "rtx-3090")
    most = document(monkeypatch, capsys, *words)["largest_batch"]
    assert most > 4
    for batch, fits in ((most, True), (most + 1, False)):
        found = document(monkeypatch, capsys, *words, "--batch", str(batch))
        assert (found["memory"]["per_card_bytes"] <= found["cards"]["memory_bytes"]) is fits


def test_experts_in_4_bits_are_warned_of_and_a_card_without_bf16_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(monkeypatch, capsys, "--model", "mixtral-8x7b", "--method", "qlora", "--gpu", "8xv100")
    assert any("stacked tensor" in warning for warning in found["warnings"])
    assert any("no bf16" in warning for warning in found["warnings"])


def test_the_ladder_ahead_has_a_card_for_each_rung_and_for_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rungs = {one["rung"]: one for one in document(monkeypatch, capsys, "--model", "qwen3-0.6b")["ladder"]}
    assert list(rungs) == ["sft", "preference", "full"]
    hourly = [rungs[name]["cheapest_up_to_here"]["usd_per_hour"] for name in rungs]
    assert hourly == sorted(hourly), "what holds more rungs is never cheaper"


def test_this_machines_processor_can_be_planned_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lastresort.hardware.environment.matrix_flops_per_s", lambda reduced: 1e11)
    found = document(monkeypatch, capsys, "--model", "embedded", "--gpu", "cpu", "--rows", "100", "--tokens", "128")
    assert found["cards"] == {
        "name": "cpu", "count": 1, "sharing": None, "memory_bytes": 16 << 30, "memory_estimated": False, "here": True,
        "named": False, "price": None,
    }  # fmt: skip
    assert found["time"]["usd"] == 0
    assert found["time"]["seconds"] > 0


def test_the_picture_is_one_svg_with_a_bar_a_method_and_the_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "plan.svg"
    assert run(monkeypatch, "plan", "--model", "llama-3-8b", "--gpu", "rtx-3090", "--picture", str(picture)) == 0
    assert f"written: {picture}" in capsys.readouterr().out.replace("\n", "")
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert [text.split()[0] for text in texts if text and " GiB" in text and not text[0].isdigit()] == [
        "qlora",
        "lora",
        "full",
    ]
    assert {"rtx-3090", "rtx-3060", "t4"} <= set(texts)
    bars = [node for node in root.iter() if node.tag.endswith("rect") and list(node)]
    assert len(bars) >= 2 * 7
    assert "full 121 GiB, beyond the edge" in texts, (
        "what takes far more than the plan and its card is cut off at the edge"
    )
    assert all(float(node.get("width", "0").rstrip("%")) > 0 for node in bars)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "plan: no model, expected --model NAME"),
        (
            ("task.yaml",),
            'plan: found "task.yaml", expected options only. `lastresort climb task.yaml --dry-run` forecasts',
        ),
        (("llama-3-8b",), "Put the name of its option before it, such as --model llama-3-8b."),
        (("--model", "llama-3-9b"), "Did you mean llama-3-8b"),
        (("--model", "qwen3-8b", "--gpu", "l40x"), "Did you mean l40s"),
        (("--model", "qwen3-8b", "--method", "qlor"), 'Did you mean "qlora"?'),
        (
            ("--model", "qwen3-8b", "--objective", "orpo"),
            "Name dpo, which covers all on pairs: dpo, ipo, hinge, simpo",
        ),
        (
            ("--model", "qwen3-8b", "--objective", "dapo"),
            "Name grpo, which covers all on groups: grpo, dr_grpo, dapo.",
        ),
        (("--model", "qwen3-8b", "--objective", "kto"), "Name sft, which takes the same memory"),
        (("--model", "qwen3-8b", "--objective", "gpro"), 'Did you mean "grpo"?'),
        (("--model", "qwen3-8b", "--tokens", "0"), "--tokens: found 0, expected a number of at least 1"),
        (("--model", "qwen3-8b", "--batch", "0"), "--batch: found 0, expected a number of at least 1"),
        (("--model", "qwen3-8b", "--r", "-2"), "--r: found -2, expected a number of at least 1"),
        (("--model", "qwen3-8b", "--answer-tokens", "-1"), "--answer-tokens: found -1"),
        (("--model", "qwen3-8b", "--shared-tokens", "1024"), "--shared-tokens: found 1,024, expected at least 0, and"),
        (
            ("--model", "qwen3-8b", "--tokens", "512", "--mean-tokens", "900", "--rows", "10"),
            "--mean-tokens: found 900, expected a number above 0, and at most that of the longest row (512, --tokens).\n",
        ),
        (
            ("--model", "qwen3-8b", "--mean-tokens", "100", "--shared-tokens", "500", "--rows", "10"),
            "--mean-tokens: found 100, expected a number above what all rows share (500, --shared-tokens), and at most",
        ),
        (("--model", "qwen3-8b", "--mean-tokens", "0", "--rows", "10"), "--mean-tokens: found 0"),
        (("--model", "qwen3-8b", "--replay-loss", "l2"), "--replay-loss"),
        (
            ("--model", "qwen3-8b", "--replay-loss", "kl", "--objective", "grpo"),
            "--replay-loss: found kl with --objective",
        ),
        (("--model", "qwen3-8b", "--price", "3"), "names no GPU, expected GPU=USD, or also --gpu"),
        (("--model", "qwen3-8b", "--picture", "plan.png"), "ends in .svg"),
    ],
)
def test_a_mistake_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(monkeypatch, "plan", *words) == 2
    out, error = capsys.readouterr()
    assert said in error
    assert "Traceback" not in error
    assert not out


def test_the_catalogue_can_be_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "plan", "--list") == 0
    out = capsys.readouterr().out
    assert "llama-3.1-405b" in out
    assert "a100-80" in out
    assert run(monkeypatch, "plan", "--list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["models"]["llama-3-8b"] == 8_030_261_248


def test_a_plan_loads_no_torch() -> None:
    code = (
        "import sys; from lastresort.cli.main import app; sys.argv = ['lastresort', 'plan', '--model', 'llama-3-8b', '--gpu',"
        " 'l40s', '--rows', '10']; app(standalone_mode=False); assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_env_names_only_extras_that_the_program_uses() -> None:
    folder = Path(lastresort.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.py") if path.name != "environment.py"]
    unused = [name for name, (module, *_) in EXTRAS.items() if not any(module in text for text in texts)]
    assert unused == []


def test_env_says_what_is_here_and_what_it_trains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "env", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["memory_bytes"] == 16 << 30
    assert found["gpus"] == []
    assert found["processor"]["cores"] >= 1
    assert found["packages"]["torch"] is not None
    assert found["precision"] in ("float32", "bfloat16")
    assert (
        found["reach"]["full"]["parameters"]
        < found["reach"]["lora"]["parameters"]
        <= found["reach"]["qlora"]["parameters"]
    )
    assert run(monkeypatch, "env") == 0
    out = capsys.readouterr().out
    assert "16.0 GiB" in out
    assert "none visible to torch" in out
    assert f"QLoRA: {found['reach']['qlora']['name']}" in out
    assert max(map(len, out.splitlines())) <= 80
