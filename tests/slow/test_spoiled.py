"""Tunings of the embedded model that were spoiled on purpose are rejected for what they lost; a mild one is not; an adapter of
plain TRL is gated as it lies there. What was measured with more seeds stands in docs/gate.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lastresort.embedded import embedded_folder
from lastresort.gate import plans
from lastresort.records.gate import GateDocument
from mild_support import mildly_tuned
from processes_support import Program
from spoiled_support import (
    AGREEING,
    JSON_ONLY,
    agreeing_pairs,
    as_served,
    gated,
    held_out,
    note_task,
    notes,
    regressed,
    trained,
)

pytestmark = pytest.mark.slow
ROWS = notes(120, 0, held_out(0))
FEW_ROWS = ROWS[:64]
FEW_ITEMS = 96  # of a suite, in two looks: of a tuning that lost little, a quick gate asks hundreds
BOUNDS = ("QUICK_FIXED", "QUICK_LEAST", "QUICK_MOST")
WITH_FEW_ITEMS = f"""
from lastresort.cli.main import run
from lastresort.gate import plans
{" = ".join(f"plans.{name}" for name in BOUNDS)} = {FEW_ITEMS}
run()
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spoiled")


@pytest.fixture(scope="module", autouse=True)
def nothing_kept_by_other_tests(cache_of_the_tests: Path) -> Iterator[None]:
    """As in conftest.py, but the base answers once for all tests of this file."""
    yield
    for file in cache_of_the_tests.glob("base_answers*"):
        file.unlink()


def json_only(here: Path) -> Path:
    """The adapter, trained once."""
    return trained(here / "json-only" / "run", as_served(FEW_ROWS), JSON_ONLY)


def test_json_only_for_many_epochs_is_rejected_for_its_leak(here: Path) -> None:
    task = note_task(here / "json-only", FEW_ROWS, keep={"sycophancy": "skip"})
    found = gated(task, json_only(here), here / "runs")
    assert found["verdict"] == "REJECT"
    assert "format_leak" in regressed(found)
    assert found["target"]["passed"]  # on its own task it is what was wanted


@pytest.mark.release
def test_json_only_for_many_epochs_is_rejected_for_what_it_forgot(here: Path) -> None:
    """The leak alone ends that gate before general is decided."""
    task = note_task(here / "forgot", FEW_ROWS, keep={"sycophancy": "skip", "format_leak": "skip"})
    found = gated(task, json_only(here), here / "runs")
    assert found["verdict"] == "REJECT"
    assert regressed(found) == {"general"}


@pytest.mark.release
def test_rewarding_agreement_is_rejected_for_sycophancy(here: Path) -> None:
    task = note_task(here / "agreeing", ROWS, keep={"general": "skip", "format_leak": "skip"})
    found = gated(task, trained(here / "agreeing" / "run", agreeing_pairs(240, 0), AGREEING), here / "runs")
    assert found["verdict"] == "REJECT"
    assert "sycophancy_flips" in regressed(found)


@pytest.mark.release
def test_a_mild_tuning_with_replay_is_not_rejected(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BOUNDS:
        monkeypatch.setattr(plans, name, FEW_ITEMS)
    task = note_task(here / "mild", ROWS)
    found = gated(task, mildly_tuned(here / "mild" / "run", task, ROWS, seed=0), here / "runs")
    assert found["verdict"] in ("SHIP", "HOLD")
    assert regressed(found) == set()
    assert found["target"]["gain"] > 0


@pytest.mark.release
def test_an_adapter_of_plain_trl_is_gated_as_it_lies_there(here: Path) -> None:
    adapter = tuned_by_trl(here / "trl")
    note_task(here, FEW_ROWS, keep={"general": "skip", "format_leak": "skip"})
    command = [
        "gate",
        "task.yaml",
        "--base",
        "embedded",
        "--tuned",
        str(adapter),
        "--quick",
        "--json",
        "--out",
        "trl-gate",
    ]
    out, error = (gating := Program(*command, cwd=here, code=WITH_FEW_ITEMS)).communicate()
    assert gating.returncode in (0, 1), error[-3000:]
    found: dict[str, Any] = json.loads(out)
    assert GateDocument.model_validate(found).as_json() == found
    assert found == json.loads((here / "trl-gate" / "gate.json").read_text(encoding="utf-8"))
    assert found["tuned"] == {"name": str(adapter), "kind": "adapter"}
    assert found["verdict"] in ("SHIP", "HOLD", "REJECT")
    assert found["fingerprints"]["base"] != found["fingerprints"]["tuned"]
    assert sorted(path.name for path in adapter.iterdir()) == sorted(found_before(adapter))


def found_before(adapter: Path) -> list[str]:
    return (adapter.parent / "as saved").read_text(encoding="utf-8").splitlines()


def tuned_by_trl(folder: Path) -> Path:
    """As a script of TRL and PEFT alone does it; beside the adapter the names of its files, to show that none was added."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    settings = SFTConfig(
        output_dir=str(folder / "adapter"),
        max_steps=4,
        per_device_train_batch_size=4,
        learning_rate=5e-4,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
    )
    trainer = SFTTrainer(
        model=str(embedded_folder()),
        args=settings,
        train_dataset=Dataset.from_list(as_served(FEW_ROWS)),
        peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model()
    names = sorted(path.name for path in (folder / "adapter").iterdir())
    (folder / "as saved").write_text("\n".join(names), encoding="utf-8")
    return folder / "adapter"
