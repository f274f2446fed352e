"""What a good task file means: forms, defaults, paths, overrides, and the way back to a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastresort.spec.judge import JudgeKeys
from lastresort.spec.score import Reward, Score
from lastresort.spec.task import Task, json_schema, load_task

MINIMAL = """\
task: tickets
about: Route a support ticket to a team.
examples: tickets.jsonl
score: exact
bar: 0.85
"""

# Part 4 of the design, word for word.
COMPLETE = """\
task: ticket-routing
about: Route a support ticket to a team.            # becomes the instruction of the zero-shot prompt
goal: quality
model: embedded
tune: {model: same, method: auto}
ladder: [prompting, retrieval, sft, preference, full]
examples: tickets.jsonl
split: {dev: 0.2, test: 0.3, group_by: customer, seed: 0}
output: {schema: ticket.schema.json}
score: json_exact
bar: 0.85
confidence: 0.95
on_undecided: lead
knowledge: docs/
knowledge_changes: weekly
retrain_every: monthly
preferences: pairs.jsonl
reward: [{python: "rewards.py:score", weight: 1}]
use: {calls_per_month: 200000, prompt_price: 0.15, output_price: 0.60, context: allowed}
limits: {usd: 20, hours: 2, gpu: auto}
sft: {learning_rates: [1e-4, 3e-4, 1e-3], epochs: 3, r: 16, target: attention, replay: 0.1}
decode: {max_new_tokens: auto, temperature: 0}
chat_template_kwargs: {}
general: []
keep: {general: 0.03, sycophancy: 0.05, format_leak: 0.02}
"""

DEFAULTS: dict[str, Any] = {
    "task": "tickets",
    "about": "Route a support ticket to a team.",
    "goal": "quality",
    "model": "embedded",
    "tune": {"model": "same", "method": "auto", "processes": 1},
    "ladder": ["prompting", "retrieval", "sft", "preference", "full"],
    "examples": "tickets.jsonl",
    "columns": None,
    "split": {"dev": 0.2, "test": 0.3, "group_by": None, "seed": 0},
    "output": {},
    "score": "exact",
    "bar": 0.85,
    "confidence": 0.95,
    "on_undecided": "lead",
    "knowledge": None,
    "knowledge_changes": "never",
    "retrain_every": None,
    "facts": None,
    "preferences": None,
    "reward": [],
    "use": {
        "calls_per_month": None,
        "prompt_price": None,
        "output_price": None,
        "hourly_price": None,
        "context": "allowed",
    },
    "limits": {"usd": None, "hours": None, "gpu": "auto"},
    "prompting": {
        "optimise": "auto",
        "reflect": None,
        "calls": 300,
        "usd": None,
        "prompt_price": None,
        "output_price": None,
        "reasoning_effort": None,
    },
    "retrieval": {
        "k": [1, 3, 5],
        "embedder": "embedded",
        "reranker": None,
        "chunk_tokens": 250,
        "overlap_tokens": 30,
        "language": "English",
    },
    "sft": {
        "learning_rates": [1e-4, 3e-4, 1e-3],
        "epochs": 3,
        "r": 16,
        "alpha": None,
        "target": "attention",
        "loraplus_lr_ratio": 1.0,
        "replay": 0.1,
        "replay_loss": "likelihood",
        "replay_weight": 1.0,
        "replay_prompts": "everyday",
        "batch_size": 16,
        "select": "best",
    },
    "preference": {
        "learning_rates": "auto",
        "epochs": "auto",
        "beta": "auto",
        "batch_size": "auto",
        "samples": 8,
        "replay": 0.0,
        "replay_loss": "likelihood",
        "replay_weight": 1.0,
        "replay_prompts": "everyday",
    },
    "full": {
        "learning_rates": [2e-5, 1e-4],
        "epochs": 3,
        "replay": 0.1,
        "replay_loss": "likelihood",
        "replay_weight": 1.0,
        "replay_prompts": "everyday",
        "batch_size": 16,
        "text_learning_rate": 5e-5,
        "text_epochs": 3,
    },
    "decode": {"max_new_tokens": "auto", "temperature": 0.0, "reasoning_effort": None},
    "chat_template_kwargs": {},
    "general": [],
    "keep": {"general": 0.03, "sycophancy": 0.05, "format_leak": 0.02},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the task files here refer to."""
    made = tmp_path_factory.mktemp("outer") / "inner"
    made.mkdir()
    for name in ("tickets.jsonl", "train.jsonl", "dev.jsonl", "test.jsonl", "pairs.jsonl", "../above.jsonl"):
        (made / name).write_text('{"input": "a", "output": "b"}\n')
    (made / "docs").mkdir()
    (made / "ticket.schema.json").write_text('{"type": "object", "properties": {"team": {"type": "string"}}}')
    code = "from json import *\n"
    (made / "stars.py").write_text(code)
    (made / "rewards.py").write_text("import math as score2\nif True:\n    def score(a, b):\n        return 1.0\n")
    return made


def load(folder: Path, text: str = MINIMAL, overrides: dict[str, Any] | None = None) -> Task:
    path = folder / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return load_task(path, overrides)


def reloaded(task: Task) -> Task:
    """The task after a trip through its resolved form, written over the same file."""
    task.path.write_text(yaml.safe_dump(task.resolved(), sort_keys=False), encoding="utf-8")
    return load_task(task.path)


def test_defaults_are_these(folder: Path) -> None:
    assert load(folder).resolved() == DEFAULTS


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        ({}, True),
        ({"model": "scripted:s.json"}, True),
        ({"model": "openai:gpt"}, False),
        ({"model": "http://host/v1#m", "use.prompt_price": 0.15}, False),
        ({"model": "openai:gpt", "use.prompt_price": 0.15, "use.output_price": 0.6, "limits.usd": 1}, True),
        ({"model": "http://localhost/v1#m", "use.prompt_price": 0, "use.output_price": 0, "limits.usd": 1}, True),
    ],
)
def test_a_task_tells_whether_money_can_be_told(folder: Path, overrides: dict[str, Any], known: bool) -> None:
    task = load(folder, overrides=overrides)
    assert task.price_known is known
    again = json.loads(json.dumps(task.resolved()))
    assert (again["use"]["output_price"] is None) is ("use.output_price" not in overrides)


def test_the_complete_file_of_the_design(folder: Path) -> None:
    task = load(folder, COMPLETE)
    assert task.path == folder.resolve() / "task.yaml"
    assert task.folder == folder.resolve()
    assert task.examples.all == task.folder / "tickets.jsonl"
    assert task.output.json_schema == {"type": "object", "properties": {"team": {"type": "string"}}}
    assert task.output.schema_path == task.folder / "ticket.schema.json"
    assert task.knowledge == task.folder / "docs"
    assert task.preferences == task.folder / "pairs.jsonl"
    parameters = {"file": str(task.folder / "rewards.py"), "function": "score"}
    assert task.reward == (Reward(name="python", keys=parameters, weight=1.0),)
    assert task.sft.learning_rates == (1e-4, 3e-4, 1e-3)
    assert task.use.calls_per_month == 200_000
    assert task.limits.usd == 20.0
    assert task.split.group_by == "customer"
    changed = {key for key, value in task.resolved().items() if value != DEFAULTS[key]}
    assert changed == {
        *("task", "split", "output", "score", "knowledge", "knowledge_changes", "retrain_every", "preferences"),
        *("reward", "use", "limits"),
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "minimal": {},
    "split files": {"examples": {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}},
    "split files and seed": {
        "examples": {"train": "train.jsonl", "test": "test.jsonl"},
        "split.seed": 4,
        "split.dev": 50,
    },
    "file above the folder": {"examples": "../above.jsonl"},
    "choices": {"output": {"choices": ["yes", "no", "010", "1e5", "2024-01-01", "12:30", "null", "~", "a: b", 7]}},
    "inline schema": {"output": {"schema": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}}},
    "number": {"score": {"number": {"tolerance": "5e-5"}}},
    "bare number": {"score": "number"},
    "regex": {"score": {"regex": r"^\d+: \"yes\"$ "}},
    "python": {"score": {"python": "rewards.py:score"}},
    "number with both": {"score": {"number": {"tolerance": 1, "relative": 0.01}}},
    "binary python": {"score": {"python": {"function": "rewards.py:score", "binary": True}}},
    "judge": {"score": {"judge": "openai:gpt-x"}},
    "judge that compares": {
        "score": {
            "judge": {
                "model": "scripted:judge.json",
                "against": "reference",
                "criteria": "the house style",
                "labelled": "pairs.jsonl",
                "max_new_tokens": 512,
                "prompt_price": 0.5,
                "output_price": 2,
            }
        }
    },
    "judge that grades": {"score": {"judge": {"model": "embedded", "rubric": "It is polite.", "scale": "yes-no"}}},
    "judge as a reward": {"reward": [{"judge": {"model": "./docs", "rubric": "It is short."}, "weight": 2}]},
    "rewards": {"reward": ["json_valid", {"python": "rewards.py:score"}, {"number": {"tolerance": 1}, "weight": -0.5}]},
    "template": {"chat_template_kwargs": {"enable_thinking": False, "deep": {"a": [1, 2.5, None, "on"]}}},
    "suites": {"general": ["lm_eval:mmlu"], "keep": {"lm_eval:mmlu": 0.1, "sycophancy": "skip"}},
    "cost": {"goal": "cost", "use.calls_per_month": 1000, "use.hourly_price": "1.9"},
    "two rungs": {"ladder": ["prompting", "sft"], "tune": {"model": "org/name", "method": "qlora"}},
    "tokens": {"decode": {"max_new_tokens": 64, "temperature": 0.7}, "sft.alpha": 8},
}


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_resolved_loads_as_an_equal_task(folder: Path, overrides: dict[str, Any]) -> None:
    task = load(folder, overrides=overrides)
    resolved = task.resolved()
    assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved
    again = reloaded(task)
    assert again == task
    assert again.resolved() == resolved


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    """Built and checked once: that takes most of the time."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_json_schema_accepts_what_is_accepted(
    folder: Path, schema: jsonschema.Draft202012Validator, overrides: dict[str, Any]
) -> None:
    schema.validate(load(folder, overrides=overrides).resolved())


def test_json_schema_is_one_and_knows_the_keys_of_the_file() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(DEFAULTS)
    assert set(schema["required"]) == {"task", "about", "examples", "score", "bar"}
    assert all(inner.get("description") for inner in schema["properties"].values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"bar": 85},
        {"bar": 1},
        {"baar": 0.8},
        {"goal": "speed"},
        {"path": "x"},
        {"score": "json_exactly"},
        {"score": {"exact": {}, "number": {}}},
        {"score": {"judge": {"rubric": "It is polite."}}},
        {"score": {"judge": {"model": "embedded", "scale": "1-10"}}},
        {"examples": {"test": "test.jsonl"}},
        {"sft": {"epochs": 0}},
        {"split": {"test": 0}},
        {"output": {"json_schema": {}}},
        {"ladder": ["rag"]},
        {"sft": {"learning_rates": []}},
    ],
    ids=repr,
)
def test_json_schema_refuses_what_is_refused(schema: jsonschema.Draft202012Validator, wrong: dict[str, Any]) -> None:
    schema.validate(yaml.safe_load(MINIMAL))
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({**yaml.safe_load(MINIMAL), **wrong})


labels = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).map(str.strip)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.lists(labels.filter(bool), min_size=2, max_size=5, unique=True))
def test_labels_survive_the_way_through_yaml(folder: Path, choices: list[str]) -> None:
    task = load(folder, overrides={"output.choices": choices})
    assert task.output.choices == tuple(choices)
    assert reloaded(task) == task


def test_labels_are_what_their_author_wrote(folder: Path) -> None:
    text = MINIMAL + "output: {choices: [yes, No, off, 2024-01-01, 12:30, 010, 3, 0x1F, 1_000, .nan]}\n"
    expected = ("yes", "No", "off", "2024-01-01", "12:30", "010", "3", "0x1F", "1_000", ".nan")
    assert load(folder, text).output.choices == expected


@pytest.mark.parametrize(
    ("score", "name", "parameters"),
    [
        ("json_fields", "json_fields", {}),
        ("{exact: }", "exact", {}),
        ("{number: {tolerance: 0.01}}", "number", {"tolerance": 0.01}),
        ("number", "number", {"tolerance": 0.0}),
        ("{regex: '^a+$'}", "regex", {"pattern": "^a+$"}),
    ],
)
def test_forms_of_a_score(folder: Path, score: str, name: str, parameters: dict[str, Any]) -> None:
    task = load(folder, MINIMAL.replace("score: exact", f"score: {score}"))
    assert task.score == Score(name=name, keys=parameters)


@pytest.mark.parametrize("model", ["embedded", "http://localhost:8000/v1#x"])
def test_a_judge_by_its_model_alone(folder: Path, model: str) -> None:
    task = load(folder, MINIMAL.replace("score: exact", f"score: {{judge: '{model}'}}"))
    assert task.score == Score(name="judge", judge=JudgeKeys(model=model))
    assert task.score.parameters == {"model": model}


@pytest.mark.parametrize("reference", ["rewards.py:score", "rewards.py:score2", "stars.py:loads"])
def test_a_function_may_be_nested_in_if_or_imported(folder: Path, reference: str) -> None:
    task = load(folder, overrides={"score": {"python": reference}})
    file_name, _, function = reference.partition(":")
    assert task.score.parameters == {"file": str(task.folder / file_name), "function": function}


def test_the_users_file_is_not_run(folder: Path) -> None:
    (folder / "loud.py").write_text("raise SystemExit(3)\ndef score(a, b): return 1.0\n")
    assert load(folder, overrides={"score": {"python": "loud.py:score"}}).score.name == "python"


def test_numbers_that_yaml_reads_as_text_are_numbers(folder: Path) -> None:
    text = (
        MINIMAL.replace("0.85", '"0.85"') + "sft: {learning_rates: [5e-5, 1E-4], epochs: 2.0}\nlimits: {hours: 1e1}\n"
    )
    task = load(folder, text)
    assert (task.bar, task.sft.learning_rates, task.sft.epochs, task.limits.hours) == (0.85, (5e-5, 1e-4), 2, 10.0)


def test_shares_and_counts_keep_their_kind(folder: Path) -> None:
    split = load(folder, MINIMAL + "split: {dev: 100, test: 0.25}\n").split
    assert (split.dev, split.test) == (100, 0.25)
    assert isinstance(split.dev, int)


@pytest.mark.parametrize(
    "text", ["\ufeff" + MINIMAL, MINIMAL.replace("\n", "\r\n"), "---\n" + MINIMAL, MINIMAL.rstrip()]
)
def test_byte_order_mark_and_line_ends(folder: Path, text: str) -> None:
    (folder / "task.yaml").write_bytes(text.encode())
    assert load_task(folder / "task.yaml").resolved() == DEFAULTS


def test_overrides_win_and_leave_the_rest(folder: Path) -> None:
    overrides = {
        "split.seed": 3,
        "model": "scripted:x",
        "sft.learning_rates": ("1e-4", 2e-4),
        "examples": Path("train.jsonl"),
    }
    task = load(folder, MINIMAL + "split: {dev: 0.1}\n", overrides)
    assert (task.split.seed, task.split.dev, task.model) == (3, 0.1, "scripted:x")
    assert task.sft.learning_rates == (1e-4, 2e-4)
    assert task.examples.all == task.folder / "train.jsonl"


def test_margins_given_are_laid_over_the_defaults(folder: Path) -> None:
    task = load(folder, MINIMAL + "keep: {sycophancy: skip, general: 0.01}\n")
    assert task.keep == {"general": 0.01, "sycophancy": "skip", "format_leak": 0.02}
    assert load(folder).keep == {"general": 0.03, "sycophancy": 0.05, "format_leak": 0.02}


def test_a_part_with_a_file_of_its_own_has_no_share(folder: Path) -> None:
    task = load(folder, overrides={"examples": {"train": "train.jsonl", "test": "test.jsonl"}, "split.dev": 0.8})
    assert task.resolved()["split"] == {"dev": 0.8, "group_by": None, "seed": 0}


def test_paths_do_not_depend_on_the_current_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder)
    monkeypatch.chdir(tmp_path)
    relative = Path("..") / Path(*folder.relative_to(tmp_path.parent).parts) / "task.yaml"
    assert load_task(relative) == load_task(folder / "task.yaml")


def test_what_resolved_returns_is_a_copy(folder: Path) -> None:
    task = load(folder)
    task.resolved()["keep"]["general"] = 1
    assert task.keep["general"] == 0.03


def test_a_task_is_frozen(folder: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(folder).bar = 0.5  # type: ignore[misc]


def test_reading_a_task_loads_nothing_heavy(folder: Path) -> None:
    load(folder, COMPLETE)
    heavy = ("torch", "transformers", "peft", "accelerate", "datasets", "scipy", "numpy")
    code = (
        "import sys; from pathlib import Path; from lastresort.spec.task import load_task; "
        "from lastresort.spec.task import json_schema; json_schema(); "
        f"load_task(Path(sys.argv[1])); print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "task.yaml")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_judge_is_the_same_model_from_any_folder_and_is_written_as_the_file_has_it(folder: Path) -> None:
    task = load(folder, overrides=VARIANTS["judge that compares"])
    keys = task.score.judge
    assert keys is not None
    assert keys.model == f"scripted:{folder.resolve() / 'judge.json'}"
    assert keys.labelled == folder.resolve() / "pairs.jsonl"
    assert task.resolved()["score"]["judge"]["model"] == "scripted:judge.json"
    assert task.resolved()["score"]["judge"]["labelled"] == "pairs.jsonl"
    reward = load(folder, overrides=VARIANTS["judge as a reward"]).reward[0]
    assert reward.parameters["model"] == str(folder.resolve() / "docs")


def test_every_scorer_that_is_built_is_known_with_its_parameters(folder: Path) -> None:
    from lastresort.evals.scorers import SCORERS, build_scorer

    needed = {"choice": {"output": {"choices": ["a", "b"]}}, "regex": {"score": {"regex": "a"}}}
    needed["python"] = {"score": {"python": {"function": "rewards.py:score", "binary": True}}}
    needed["judge"] = {"score": {"judge": {"model": "embedded", "criteria": "brevity", "labelled": "pairs.jsonl"}}}
    for name in SCORERS:
        task = load(folder, overrides={"score": name, **needed.get(name, {})})
        choices = task.output.choices
        assert callable(build_scorer(task.score.name, task.score.parameters, choices=choices)), name
        assert set(task.score.parameters) <= set(SCORERS[name].parameters), name
