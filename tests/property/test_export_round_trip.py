"""What is written for another framework and read back is the training that it was: every key that both know, and the rows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from export_support import exported, grouped, saved_adapter
from lastresort.interop.exporting.export import export
from lastresort.interop.exporting.rows import rows_of
from lastresort.interop.exporting.trained import exportable
from lastresort.interop.reading import framework_of, read, write_imported
from lastresort.spec.training import load_training
from lastresort.train.loop.batches import steps_per_epoch
from lastresort.train.settings import TrainingFile
from tiny_model import save_tiny_model
from train_support import data_for

FILES = {"axolotl": "axolotl.yaml", "llamafactory": "llamafactory.yaml"}
SAME = (
    "learning_rate", "batch_size", "schedule", "weight_decay", "max_grad_norm", "optimizer",
    "loraplus_lr_ratio", "checkpointing", "seed",
)  # fmt: skip
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

numbers = st.sampled_from([0.05, 0.1, 0.25, 0.5, 1.5])
adapters = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["lora", "rslora", "dora", "qlora"]),
            "r": st.sampled_from([2, 8, 64]),
            "alpha": st.sampled_from([1, 16, 128]),
            "target": st.sampled_from(["attention", "all-linear", ["q_proj", "down_proj"]]),
            "dropout": st.sampled_from([0.0, 0.1]),
        }
    ),
    st.just("full"),
)
courses = st.fixed_dictionaries(
    {
        "learning_rate": st.sampled_from([1e-6, 2e-5, 3e-4]),
        "epochs": st.integers(1, 5),
        "batch_size": st.integers(2, 24),
        "max_steps": st.sampled_from([None, 3]),
        "schedule": st.sampled_from(["linear", "cosine", "constant"]),
        "warmup": st.sampled_from([0.0, 0.03, 0.25, 2, 7]),
        "weight_decay": st.sampled_from([0.0, 0.01]),
        "max_grad_norm": st.sampled_from([0.3, 1.0]),
        "optimizer": st.sampled_from(["adamw", "paged_adamw_8bit"]),
        "checkpointing": st.booleans(),
        "seed": st.integers(0, 2**31 - 1),
        "max_tokens": st.sampled_from([64, 2048]),
        "longer_rows": st.sampled_from(["refuse", "drop", "truncate"]),
    }
)
OBJECTIVES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "sft": {},
    "text": {},
    "dpo": {"beta": numbers, "label_smoothing": st.sampled_from([0.0, 0.2])},
    "ipo": {"beta": numbers, "per_token": st.just(True)},
    "hinge": {"beta": numbers},
    "apo_zero": {"beta": numbers},
    "simpo": {"beta": numbers, "gamma": numbers},
    "orpo": {"weight": numbers},
    "kto": {"beta": numbers, "desirable_weight": numbers, "undesirable_weight": numbers},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def cases() -> Iterator[tuple[str, str]]:
    for to in FILES:
        for objective in OBJECTIVES:
            if (to, objective) != ("llamafactory", "apo_zero"):  # which has no counterpart
                yield to, objective


@contextmanager
def there_and_back(
    to: str, model: Path, objective: str, keys: dict[str, Any]
) -> Iterator[tuple[TrainingFile, TrainingFile]]:
    """The training file, and what comes of it after an export and an import."""
    with tempfile.TemporaryDirectory(dir=model.parent) as name:
        folder = Path(name)
        rows = "".join(json.dumps(row) + "\n" for row in data_for(objective))
        (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
        eval_share = {} if objective == "text" else {"eval": 0.25}
        document = {"model": str(model), "data": {"train": "rows.jsonl", **eval_share}, **keys}
        (folder / "train.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        before = load_training(folder / "train.yaml")
        found = export(exportable(before), to, folder / "out")
        config = found.folder / FILES[to]
        assert framework_of(config) == to
        yield before, load_training(write_imported(read(config), folder / "back", config))


@pytest.mark.sampled_slow(3, each="to")
@pytest.mark.sampled(12, each="to")
@pytest.mark.parametrize(("to", "objective"), list(cases()))
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)
@given(data=st.data())
def test_every_key_comes_back(to: str, objective: str, model: Path, data: st.DataObject) -> None:
    course = data.draw(courses)
    adapter = data.draw(adapters)
    options = {name: data.draw(strategy) for name, strategy in OBJECTIVES[objective].items()}
    if adapter != "full":
        course["loraplus_lr_ratio"] = data.draw(st.sampled_from([1.0, 2.5, 16.0]))
    keys = {**course, "adapter": adapter, "objective": {objective: options} if options else objective}
    with there_and_back(to, model, objective, keys) as (before, after):
        assert [getattr(after.settings, name) for name in SAME] == [getattr(before.settings, name) for name in SAME]
        assert (after.max_tokens, after.objective) == (before.max_tokens, before.objective)
        assert {**after.settings.objective.defaults(), **dict(after.settings.objective.options)} == {
            **before.settings.objective.defaults(),
            **dict(before.settings.objective.options),
        }
        check_length(objective, before, after)
        check_warmup(to, objective, before, after)
        check_adapter(before, after)
        if to == "axolotl" and objective != "text":
            assert after.longer_rows == before.longer_rows
        if objective == "kto" and to == "axolotl":
            return  # whose rows come back as text that is rendered already
        assert rows_of(after) == rows_of(before)


def check_length(objective: str, before: TrainingFile, after: TrainingFile) -> None:
    """Where fewer steps are asked for than the epochs have, the epochs count for nothing there, and may come back as more."""
    rows = len(rows_of(before)[0])
    whole = steps_per_epoch(rows, before.settings.batch_size) * before.settings.epochs
    if before.settings.max_steps is not None and (objective == "text" or before.settings.max_steps < whole):
        assert after.settings.max_steps == before.settings.max_steps
        assert after.settings.epochs * steps_per_epoch(rows, before.settings.batch_size) >= min(
            before.settings.max_steps, whole
        )
    else:
        assert (after.settings.max_steps, after.settings.epochs) == (None, before.settings.epochs)


def check_warmup(to: str, objective: str, before: TrainingFile, after: TrainingFile) -> None:
    """As it was; for simpo Axolotl takes a count alone."""
    if to == "axolotl" and objective == "simpo" and before.settings.warmup < 1:
        assert after.settings.warmup == int(after.settings.warmup)
    else:
        assert after.settings.warmup == before.settings.warmup


def check_adapter(before: TrainingFile, after: TrainingFile) -> None:
    own, found = before.settings.adapter, after.settings.adapter
    named = ATTENTION if own.target == "attention" else own.target
    if own.kind == "none":
        assert found.kind == "none"
        return
    lost = before.need in ("pairs", "labels")  # whose trainers turn dropout off
    assert (found.choice, found.r, found.alpha, found.dropout) == (
        own.choice, own.r, own.alpha, 0.0 if lost else own.dropout
    )  # fmt: skip
    assert found.target == named


@pytest.mark.parametrize("objective", ["grpo", "dr_grpo", "dapo"])
def test_groups_come_back_with_their_rewards(objective: str, tmp_path: Path) -> None:
    """The rewards as functions of rewards.py, which are what the file named."""
    keys: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "group_size": 4, "batch_size": 3}
    found = grouped(tmp_path, "axolotl", {objective: {"eps_low": 0.1, "eps_high": 0.3, "kl_weight": 0.05}}, **keys)
    config = found.folder / FILES["axolotl"]
    before, after = (
        load_training(tmp_path / "train.yaml"),
        load_training(write_imported(read(config), tmp_path / "back", config)),
    )
    assert (after.objective, dict(after.settings.objective.options)) == (
        objective,
        {"eps_low": 0.1, "eps_high": 0.3, "kl_weight": 0.05},
    )
    assert before.groups is not None
    assert after.groups is not None
    same = ("temperature", "top_p", "top_k", "group_size", "max_new_tokens")
    assert {key: getattr(after.groups.sampling, key) for key in same} == {
        key: getattr(before.groups.sampling, key) for key in same
    }
    assert (after.settings.batch_size, after.settings.epochs) == (3, before.settings.epochs)
    assert [term.weight for term in after.groups.reward] == [0.5, 1.0]
    assert [term.parameters["function"] for term in after.groups.reward] == ["python_1", "exact_2"]


@pytest.mark.parametrize(("to", "objective"), [("llamafactory", "dpo"), ("llamafactory", "kto"), ("axolotl", "orpo")])
def test_what_a_training_goes_on_from_comes_back(to: str, objective: str, tmp_path: Path) -> None:
    adapter = saved_adapter(tmp_path)
    found = exported(tmp_path, to, objective, data_for(objective), adapter=None, start_from=str(adapter))
    config = found.folder / FILES[to]
    after = load_training(write_imported(read(config), tmp_path / "back", config))
    assert after.start_from == found.folder / "start"
