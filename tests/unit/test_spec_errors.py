"""Every mistake in a task file is one TaskError that says where, what was found, what was expected, what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastresort.errors import TaskError
from lastresort.spec.task import load_task

MINIMAL: dict[str, Any] = {
    "task": "tickets",
    "about": "Route a support ticket to a team.",
    "examples": "tickets.jsonl",
    "score": "exact",
    "bar": 0.85,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that a task may refer to; it is the current one, so that errors name `task.yaml` alone."""
    for name in ("tickets.jsonl", "train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text('{"input": "a", "output": "b"}\n')
    (tmp_path / "docs").mkdir()
    (tmp_path / "metrics.py").write_text("def score(answer, example):\n    return 1.0\n")
    (tmp_path / "broken.py").write_text("def score(:\n")
    (tmp_path / "broken.schema.json").write_text('{"type": "object",}')
    (tmp_path / "list.schema.json").write_text("[]")
    (tmp_path / "wrong.schema.json").write_text('{"properties": {"team": {"type": "txt"}}}')
    (tmp_path / "remote.schema.json").write_text('{"$ref": "https://example.org/team.json"}')
    (tmp_path / "dangling.schema.json").write_text('{"$ref": "#/$defs/team"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(changes: dict[str, Any]) -> TaskError:
    """The error of the minimal task with changes; a key changed to ... is left out."""
    values = {name: value for name, value in {**MINIMAL, **changes}.items() if value is not ...}
    Path("task.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(TaskError) as caught:
        load_task(Path("task.yaml"))
    return caught.value


def check(error: TaskError, where: str, found: str, expected: str, remedy: str) -> None:
    """Each part holds what it should; nothing of pydantic's own wording is in the sentence."""
    assert where in error.where
    assert found in error.found
    assert expected in error.expected
    assert remedy in error.remedy
    sentence = str(error)
    assert not any(
        word in sentence.lower() for word in ("pydantic", "validation error", "input should", "refused", "input_")
    )
    assert sentence.startswith("task.yaml")
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence


KEYS: list[tuple[dict[str, Any], str, str, str, str]] = [
    # unknown and missing keys
    ({"bar": ..., "baar": 0.8}, 'key "baar"', 'unknown key "baar"', "bar", 'Write "bar".'),
    ({"zzz": 1}, 'key "zzz"', 'unknown key "zzz"', "task, about, goal", "Remove it"),
    ({"path": "x"}, 'key "path"', 'unknown key "path"', "task, about", "Remove it"),
    ({"epochs": 3}, 'key "epochs"', 'unknown key "epochs"', "sft.epochs", "Write sft: {epochs: …}."),
    ({"sft": {"learning_rate": 1e-4}}, 'key "sft.learning_rate"', "unknown key", "learning_rates", '"learning_rates"'),
    ({"split": {"tset": 0.3}}, 'key "split.tset"', 'unknown key "tset"', "test", 'Write "test".'),
    ({"split": {"bar": 0.3}}, 'key "split.bar"', 'unknown key "bar"', "bar", "left margin"),
    ({"examples": {"train": "train.jsonl", "tests": "test.jsonl"}}, 'key "examples.tests"', "unknown", "test", "test"),
    ({"output": {"json_schema": {}}}, 'key "output.json_schema"', "unknown key", "schema", 'Write "schema".'),
    ({"bar": ...}, 'key "bar"', "found nothing", "strictly between 0 and 1", "bar: 0.85"),
    ({"about": ...}, 'key "about"', "found nothing", "instruction", "about: Route"),
    ({"examples": ...}, 'key "examples"', "found nothing", "labelled examples", "examples: examples.jsonl"),
    ({"score": ...}, 'key "score"', "found nothing", "judged", "score: exact"),
    # the bar and other numbers
    ({"bar": 85}, 'line 5, key "bar"', "a number (85)", "strictly between 0 and 1", "Write 0.85."),
    ({"bar": "85%"}, 'key "bar"', 'text ("85%")', "strictly between 0 and 1", "Write 0.85."),
    ({"bar": "0,85"}, 'key "bar"', 'text ("0,85")', "a number", "Write 0.85."),
    ({"bar": 1}, 'key "bar"', "a number (1)", "strictly between 0 and 1", "Write a share, such as 0.8 for 80%."),
    ({"bar": 0}, 'key "bar"', "a number (0)", "strictly between 0 and 1", "Write a share, such as 0.8 for 80%."),
    ({"bar": -0.5}, 'key "bar"', "a number (-0.5)", "strictly between 0 and 1", "Write a share, such as 0.8"),
    ({"bar": 150}, 'key "bar"', "a number (150)", "strictly between 0 and 1", "Write a share, such as 0.8 for 80%."),
    ({"bar": "high"}, 'key "bar"', 'text ("high")', "strictly between 0 and 1", "Write a number"),
    ({"bar": "nan"}, 'key "bar"', "nan", "strictly between 0 and 1", "Write a number"),
    ({"bar": float("inf")}, 'key "bar"', ".inf", "strictly between 0 and 1", "Write a number"),
    ({"bar": True}, 'key "bar"', "true (a truth value)", "a number", "Write a number"),
    ({"bar": None}, 'key "bar"', "found nothing", "a number", "Write a number"),
    ({"bar": [0.8]}, 'key "bar"', "a list of 1", "a number", "Write a number"),
    ({"confidence": 0.5}, 'key "confidence"', "a number (0.5)", "above 0.5 and at most 0.9999", "Write a number"),
    ({"confidence": 95}, 'key "confidence"', "a number (95)", "above 0.5 and at most 0.9999", "Write 0.95."),
    (
        {"confidence": 0.999999999999},
        'key "confidence"',
        "a number (0.999999999999)",
        "above 0.5 and at most 0.9999",
        "Write a number above 0.5 and at most 0.9999.",
    ),
    ({"sft": {"lr": 1e-4}}, 'key "sft.lr"', 'unknown key "lr"', "learning_rates", 'Write "learning_rates".'),
    ({"examples": {"train_file": "rows.jsonl"}}, 'key "examples.train_file"', "unknown key", "train", 'Write "train".'),
    ({"sft": {"lora_rank": 8}}, 'key "sft.lora_rank"', 'unknown key "lora_rank"', "r", 'Write "r".'),
    (
        {"sft": {"ab": 8}},
        'key "sft.ab"',
        'unknown key "ab"',
        "learning_rates, epochs",
        "Remove it or correct its name.",
    ),
    ({"sft": {"learning_rates": [20]}}, 'key "sft.learning_rates[0]"', "(20)", "at most 1", "such as 1e-4."),
    ({"sft": {"replay": 10}}, 'key "sft.replay"', "a number (10)", "from 0 to 0.5", "Write 0.1."),
    ({"sft": {"epochs": 2.5}}, 'key "sft.epochs"', "a number (2.5)", "a whole number", "Write a whole number."),
    ({"sft": {"epochs": 0}}, 'key "sft.epochs"', "a number (0)", "at least 1", "Write a whole number of at least 1"),
    ({"sft": {"learning_rates": [1e-4, "fast"]}}, 'key "sft.learning_rates[1]"', '"fast"', "above 0", "Write a number"),
    ({"sft": {"learning_rates": []}}, 'key "sft.learning_rates"', "an empty list", "at least one", "Leave it out"),
    ({"sft": {"learning_rates": 0.001}}, 'key "sft.learning_rates"', "a number (0.001)", "a list", "Write [0.001]."),
    ({"sft": {"learning_rates": [-1]}}, 'key "sft.learning_rates[0]"', "(-1)", "above 0", "Write a number"),
    ({"decode": {"temperature": 3}}, 'key "decode.temperature"', "(3)", "from 0 to 2", "Write a number from 0 to 2."),
    ({"decode": {"max_new_tokens": "all"}}, 'key "decode.max_new_tokens"', '"all"', "auto or a whole", "Write"),
    ({"decode": {"reasoning_effort": "lo"}}, 'key "decode.reasoning_effort"', '"lo"', "minimal, low", 'Write "low".'),
    ({"decode": {"reasoning_effort": "low"}}, 'key "decode.reasoning_effort"', "runs here", "an endpoint", "Remove it"),
    (
        {"prompting": {"reasoning_effort": "low"}},
        '"prompting.reasoning_effort"',
        "runs here",
        "an endpoint",
        "Remove it",
    ),
    ({"decode": {"max_new_tokens": 0}}, 'key "decode.max_new_tokens"', "(0)", "auto or a whole", "Write auto."),
    ({"use": {"prompt_price": -1}}, 'key "use.prompt_price"', "(-1)", "at least 0", "Write a number"),
    ({"use": {"hourly_price": -1}}, 'key "use.hourly_price"', "(-1)", "at least 0", "Write a number"),
    ({"limits": {"usd": 0}}, 'key "limits.usd"', "(0)", "above 0", "Write a number above 0."),
    ({"split": {"seed": "abc"}}, 'key "split.seed"', '"abc"', "a whole number", "Write a number"),
    ({"split": {"test": 0}}, 'key "split.test"', "(0)", "share strictly between 0 and 1", "Write a share"),
    ({"split": {"test": 30.0}}, 'key "split.test"', "(30.0)", "or a count", "Write 30 for a count."),
    ({"split": {"test": "30%"}}, 'key "split.test"', '"30%"', "share", "Write 0.3."),
    # text, choices of words, lists, mappings
    ({"task": 7}, 'key "task"', "a number (7)", "text", "Put it in quotes."),
    ({"task": "my tickets!"}, 'key "task"', '"my tickets!"', "letters, digits", 'Write "my-tickets".'),
    ({"task": "../up"}, 'key "task"', '"../up"', "letters, digits", 'Write "up".'),
    ({"about": "  "}, 'key "about"', "empty text", "text", "Write text."),
    ({"about": ["a"]}, 'key "about"', "a list of 1", "text", "Write text."),
    ({"goal": "qualty"}, 'key "goal"', '"qualty"', "quality or cost", 'Write "quality".'),
    ({"on_undecided": False}, 'key "on_undecided"', "false", "lead or collect", "Write"),
    ({"tune": {"method": "qlra"}}, 'key "tune.method"', '"qlra"', "auto, lora, qlora or full", 'Write "qlora".'),
    ({"tune": "lora"}, 'key "tune"', 'text ("lora")', "a mapping with model, method or processes", "Write tune: {"),
    ({"sft": None}, 'key "sft"', "found nothing", "a mapping with learning_rates", "or remove it"),
    ({"use": {"context": "maybe"}}, 'key "use.context"', '"maybe"', "allowed or forbidden", "Write"),
    ({"knowledge_changes": "week"}, 'key "knowledge_changes"', '"week"', "weekly", 'Write "weekly".'),
    ({"retrain_every": 30}, 'key "retrain_every"', "(30)", "never, yearly", "Write"),
    (
        {"chat_template_kwargs": "x"},
        'key "chat_template_kwargs"',
        'text ("x")',
        "a mapping",
        "Write chat_template_kwargs",
    ),
    (
        {"chat_template_kwargs": {"messages": []}},
        'key "chat_template_kwargs.messages"',
        '"messages"',
        "variables of the chat template",
        "Leave it out",
    ),
    (
        {"chat_template_kwargs": {"tokenize": True}},
        '"chat_template_kwargs.tokenize"',
        '"tokenize"',
        "variables",
        "Leave",
    ),
    # the ladder
    ({"ladder": "sft"}, 'key "ladder"', 'text ("sft")', "a list", "Write [sft]."),
    ({"ladder": []}, 'key "ladder"', "an empty list", "at least one rung", "Write [prompting"),
    ({"ladder": ["prompting", "rag"]}, 'key "ladder[1]"', 'unknown rung "rag"', "retrieval", "correct its name."),
    ({"ladder": ["prompt", "sft"]}, 'key "ladder[0]"', 'unknown rung "prompt"', "prompting", 'Write "prompting".'),
    ({"ladder": ["sft", "sft"]}, 'key "ladder[1]"', '"sft" twice', "once", "Remove one."),
    ({"ladder": ["sft", "prompting"]}, 'key "ladder"', "sft, prompting", "order", "Write [prompting, sft]."),
    # files
    ({"examples": "ticket.jsonl"}, 'key "examples"', 'no file "ticket.jsonl"', "exists", '"tickets.jsonl"?'),
    ({"examples": "far/away.bin"}, 'key "examples"', 'no file "far/away.bin"', "exists", "relative to the folder"),
    ({"examples": "docs"}, 'key "examples"', 'the folder "docs"', "a file", "Name a file in it."),
    ({"examples": ["a", "b"]}, 'key "examples"', "a list of 2", "a mapping with train", "examples: {train"),
    ({"examples": {"test": "test.jsonl"}}, 'key "examples.train"', "found nothing", "training", "Add train"),
    (
        {"examples": {"train": "train.jsonl", "test": "./train.jsonl"}},
        '"examples.test"',
        "again",
        "own",
        "Name another",
    ),
    ({"examples": {"train": 3}}, 'key "examples.train"', "a number (3)", "the name of a file", "Write one name."),
    ({"knowledge": "dcos/"}, 'key "knowledge"', 'no file "dcos"', "a file or folder", '"docs"?'),
    ({"preferences": "pairs.jsonl"}, 'key "preferences"', 'no file "pairs.jsonl"', "a file that exists", "Create it"),
    ({"model": "./models/x"}, 'key "model"', 'no file "models/x"', "a file or folder", "Create it"),
    ({"model": "tiny.gguf"}, 'key "model"', 'no file "tiny.gguf"', "exists", "Create it"),
    # models
    ({"model": ""}, 'key "model"', "empty text", "text (embedded, a hub id", "Write text."),
    ({"model": "http://host/v1"}, 'key "model"', "without a model's name", "http://host/v1#NAME", "after #"),
    ({"model": "http://me:secret@host/v1#x"}, 'key "model"', "user name or password", "#NAME", "in the environment"),
    ({"model": "openai:"}, 'key "model"', '"openai:"', "openai:NAME", "after the colon"),
    ({"model": "my model"}, 'key "model"', '"my model"', "hub id", "without spaces"),
    ({"tune": {"model": "openai:gpt"}}, 'key "tune.model"', '"openai:gpt"', "can be trained", "embedded"),
    # the output
    ({"output": {"schema": "no.json"}}, 'key "output.schema"', 'no file "no.json"', "exists", "Create it"),
    ({"output": {"schema": "broken.schema.json"}}, 'key "output.schema"', "line 1, column", "JSON schema", "Correct"),
    ({"output": {"schema": "list.schema.json"}}, 'key "output.schema"', "an empty list", "a JSON schema", "Write {"),
    (
        {"output": {"schema": "wrong.schema.json"}},
        'key "output.schema"',
        "$.properties.team.type",
        "2020-12",
        "Correct",
    ),
    ({"output": {"schema": "remote.schema.json"}}, 'key "output.schema"', "example.org", "within", "$defs"),
    ({"output": {"schema": "dangling.schema.json"}}, 'key "output.schema"', "leads nowhere", "within", "$defs"),
    ({"output": {"schema": 3}}, 'key "output.schema"', "a number (3)", "the name of a file", "Write one name."),
    ({"output": {"schema": {"type": "object"}, "choices": ["a", "b"]}}, 'key "output"', "both", "one", "Remove one."),
    ({"output": {"choices": "a, b"}}, 'key "output.choices"', 'text ("a, b")', "a list of labels", "Write ["),
    ({"output": {"choices": ["a"]}}, 'key "output.choices"', "a list of 1", "at least two", "Write ["),
    ({"output": {"choices": ["a", "b", "a "]}}, 'key "output.choices[2]"', "twice", "once", "Remove one."),
    ({"output": {"choices": [True, False]}}, 'key "output.choices[0]"', "true", "text", "in quotes"),
    ({"output": "free"}, 'key "output"', 'text ("free")', "a mapping", "or remove it"),
    # the score
    ({"score": "json_exactly"}, 'key "score"', 'unknown scorer "json_exactly"', "json_exact", 'Write "json_exact".'),
    ({"score": "metrics.py:score"}, 'key "score"', "unknown scorer", "exact", 'Write {python: "metrics.py:score"}.'),
    ({"score": "regex"}, 'key "score"', '"regex" alone', "what it needs", "Write {regex:"),
    ({"score": {"regex": "(a"}}, 'key "score.regex"', "not a regular expression", "Python's re", "Correct it."),
    ({"score": {"regex": 3}}, 'key "score.regex"', "a number (3)", "a regular expression", "in quotes"),
    ({"score": {"number": 0.01}}, 'key "score.number"', "(0.01)", "tolerance", "{number: {tolerance"),
    ({"score": {"number": {"tol": 1}}}, 'key "score.number.tol"', "unknown key", "tolerance", "Write"),
    ({"score": {"number": {"tolerance": -1}}}, 'key "score.number.tolerance"', "(-1)", "at least 0", "Write"),
    (
        {"score": {"exact": {"case": False}}},
        'key "score.exact"',
        "a mapping with case",
        "no parameters",
        "Remove them.",
    ),
    ({"score": {"exact": None, "number": None}}, 'key "score"', "exact and number", "one scorer", "Write"),
    ({"score": ["exact"]}, 'key "score"', "a list of 1", "one scorer", "Write for instance"),
    ({"score": {"python": "metrics.py"}}, 'key "score.python"', '"metrics.py"', "FILE:FUNCTION", "a colon"),
    ({"score": {"python": "metric.py:score"}}, 'key "score.python"', 'no file "metric.py"', "exists", '"metrics.py"?'),
    ({"score": {"python": "metrics.py:scor"}}, 'key "score.python"', 'no function "scor"', "FILE:FUNCTION", ":score"),
    ({"score": {"python": "broken.py:score"}}, 'key "score.python"', "broken.py, line 1", "parses", "Correct it."),
    ({"score": {"judge": None}}, 'key "score.judge"', "found nothing", "judge's model", "{judge: MODEL}"),
    ({"score": {"judge": "http://host/v1"}}, 'key "score.judge"', "without a model", "#NAME", "after #"),
    (
        {"score": {"judge": {"rubric": "It is polite."}}},
        'key "score.judge.model"',
        "found nothing",
        "judge's model",
        "{judge: MODEL}",
    ),
    ({"score": {"judge": {"model": "embedded", "rubrik": "x"}}}, '"score.judge.rubrik"', "unknown", "rubric", "Write"),
    (
        {"score": {"judge": {"model": "embedded", "against": "people"}}},
        '"score.judge.against"',
        '"people"',
        "reference",
        'Write "reference".',
    ),
    (
        {"score": {"judge": {"model": "embedded", "rubric": "x", "scale": "1-10"}}},
        '"score.judge.scale"',
        '"1-10"',
        "1-5 or yes-no",
        'Write "1-5".',
    ),
    (
        {"score": {"judge": {"model": "embedded", "scale": "1-5"}}},
        '"score.judge.scale"',
        "a scale without a rubric",
        "what the grades are for",
        "Add rubric",
    ),
    (
        {"score": {"judge": {"model": "embedded", "rubric": "x", "criteria": "y"}}},
        '"score.judge.criteria"',
        "criteria together with rubric",
        "one of them",
        "all of it",
    ),
    (
        {"score": {"judge": {"model": "embedded", "rubric": "x", "against": "reference"}}},
        '"score.judge.against"',
        "against together with rubric",
        "one of them",
        "without the reference",
    ),
    (
        {"score": {"judge": {"model": "embedded", "criteria": ""}}},
        '"score.judge.criteria"',
        "empty",
        "text",
        "sentence",
    ),
    (
        {"score": {"judge": {"model": "embedded", "labelled": "tests.jsonl"}}},
        '"score.judge.labelled"',
        'no file "tests.jsonl"',
        "exists",
        "test.jsonl",
    ),
    (
        {"score": {"judge": {"model": "embedded", "prompt_price": -1}}},
        '"score.judge.prompt_price"',
        "(-1)",
        "at least 0",
        "Write",
    ),
    (
        {"score": {"judge": {"model": "openai:m", "reasoning_effort": "much"}}},
        '"score.judge.reasoning_effort"',
        '"much"',
        "minimal, low, medium or high",
        'Write "minimal".',
    ),
    (
        {"score": {"judge": {"model": "embedded", "reasoning_effort": "low"}}},
        '"score.judge.reasoning_effort"',
        "runs here",
        "behind an endpoint",
        "Remove it.",
    ),
    # rewards, suites, margins
    (
        {"reward": [{"judge": {"model": "embedded", "labelled": "test.jsonl"}}]},
        'key "reward[0].judge.labelled"',
        "labelled of a judge that is a reward",
        "under score alone",
        "Remove it.",
    ),
    ({"reward": "exact"}, 'key "reward"', 'text ("exact")', "a list", "Write [exact]."),
    ({"reward": [{"exact": {}, "weight": "much"}]}, 'key "reward[0].weight"', '"much"', "a number", "Write a number"),
    ({"reward": [{"python": "metrics.py:scor"}]}, 'key "reward[0].python"', "no function", "FILE", ":score"),
    ({"reward": [{"weight": 1}]}, 'key "reward[0]"', "empty mapping", "one scorer", "Write"),
    ({"general": ["general"]}, 'key "general[0]"', "always runs", "further suite", "keep.general"),
    ({"general": ["mmlu"]}, 'key "general[0]"', 'found "mmlu"', '"lm_eval:"', "Write lm_eval:mmlu."),
    ({"general": ["lm_eval:a", "lm-eval:b"]}, 'key "general[1]"', '"lm-eval:b"', "task of lm-eval", "Write lm_eval:b."),
    ({"general": ["lm_eval:"]}, 'key "general[0]"', '"lm_eval:"', "name or path", "Write lm_eval:mmlu."),
    ({"general": ["lm_eval:a", "lm_eval:a"]}, 'key "general[1]"', "twice", "once", "Remove one."),
    ({"keep": {"generl": 0.1}}, 'key "keep.generl"', 'unknown suite "generl"', "general", 'Write "general".'),
    (
        {"keep": {"general": 3}},
        'key "keep.general"',
        "(3)",
        "strictly between 0 and 1",
        "Write a share, such as 0.8 for 80%.",
    ),
    ({"bar": 2}, 'key "bar"', "a number (2)", "strictly between 0 and 1", "Write a share, such as 0.8 for 80%."),
    ({"sft": {"replay": 2}}, 'key "sft.replay"', "a number (2)", "from 0 to 0.5", "Write a number from 0 to 0.5."),
    ({"keep": {"general": "never"}}, 'key "keep.general"', '"never"', "a number", "Write a number"),
    ({"keep": {"target": "skip"}}, 'key "keep.target"', '"target"', "lose a little", "always judged"),
    ({"keep": 0.03}, 'key "keep"', "(0.03)", "a mapping", "keep: {general"),
    # keys that contradict each other
    ({"score": "choice"}, 'key "score"', "without output.choices", "labels", "output: {choices"),
    ({"score": "json_exact", "output": {"choices": ["a", "b"]}}, 'key "score"', "not JSON", "labels", "score: choice"),
    ({"tune": {"method": "full"}, "ladder": ["sft"]}, 'key "tune.method"', "leaves out", "lora", "Add full to ladder"),
    ({"split": {"dev": 0.5, "test": 0.5}}, 'key "split"', "0.5 for dev", "below 1", "Lower one."),
    (
        {"examples": {"train": "train.jsonl", "test": "test.jsonl"}, "split": {"test": 0.3}},
        'key "split.test"',
        "is a file",
        "one of them",
        "Remove one.",
    ),
    (
        {"model": "openai:gpt", "limits": {"usd": 5}},
        'key "limits.usd"',
        "whose calls have no known price",
        "use.prompt_price and use.output_price",
        "0 where its calls cost nothing",
    ),
    (
        {"model": "http://host/v1#m", "limits": {"usd": 5}, "use": {"prompt_price": 1}},
        'key "limits.usd"',
        "no known price",
        "use.output_price",
        "Add use",
    ),
    (
        {"score": {"judge": "openai:gpt"}, "limits": {"usd": 5}},
        'key "limits.usd"',
        "the judge openai:gpt, whose calls have no known price",
        "score.judge.prompt_price and score.judge.output_price",
        "0 where its calls cost nothing",
    ),
    (
        {"reward": ["exact", {"judge": {"model": "http://host/v1#m", "prompt_price": 1}}], "limits": {"usd": 5}},
        'key "limits.usd"',
        "the judge http://host/v1#m, whose calls have no known price",
        "reward[1].judge.prompt_price and reward[1].judge.output_price",
        "0 where its calls cost nothing",
    ),
    ({"goal": "cost"}, 'key "goal"', "without use.calls_per_month", "volume", "Add use"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("changes", "where", "found", "expected", "remedy"), KEYS, ids=lambda value: None)
def test_wrong_key(changes: dict[str, Any], where: str, found: str, expected: str, remedy: str) -> None:
    check(refused(changes), where, found, expected, remedy)


@pytest.mark.usefixtures("folder")
def test_a_key_without_a_description_says_no_more_than_its_form() -> None:
    assert str(refused({"sft": {"learning_rates": 0.001}})).endswith("expected a list. Write [0.001].")


FILES: list[tuple[str, bytes, str, str, str, str]] = [
    ("empty", b"", "task.yaml", "an empty file", "a task", "Write at least task"),
    ("blank", b" \n\n", "task.yaml", "an empty file", "a task", "Write at least task"),
    ("comments only", b"# task\n", "task.yaml", "no keys", "a task", "Write at least task"),
    ("empty mapping", b"{}\n", "task.yaml", "no keys", "a task", "Write at least task"),
    ("list", b"- task: x\n", "task.yaml", "a list", "keys with values", "not the data"),
    ("text", b"hello\n", "task.yaml", 'text ("hello")', "keys with values", "one key a line"),
    ("not UTF-8", b"task: x\nabout: caf\xe9\n", "task.yaml, line 2", "0xe9", "UTF-8", "Save the file as UTF-8."),
    ("UTF-16", "task: x".encode("utf-16"), "task.yaml", "UTF-16", "UTF-8", "Save it as UTF-8"),
    ("binary", b"task: \x00\x01", "task.yaml", "binary data", "UTF-8", "Save it"),
    ("zip", b"PK\x03\x04 and more", "task.yaml", "a zip archive", "UTF-8", "Save it"),
    ("control character", b"task: x\nabout: a\x07b\n", "task.yaml, line 2", "#x0007", "text", "Remove it."),
    (
        "colon in text",
        b"task: x\nabout: a: b\n",
        "task.yaml, line 2, column 9",
        "not YAML",
        "`key: value`",
        "quote text",
    ),
    ("tab", b"task: x\nsplit:\n\tdev: 1\n", "task.yaml, line 3, column 1", "not YAML", "`key: value`", "Indent"),
    ("open bracket", b"task: [x\n", "task.yaml, line 2", "not YAML", "`key: value`", "brackets"),
    ("duplicate", b"task: x\nbar: .8\nbar: .9\n", 'line 3, key "bar"', "first on line 2", "once", "Remove one."),
    ("deep duplicate", b"task: x\nsplit: {dev: 1, dev: 2}\n", '"split.dev"', "first on line 2", "once", "Remove one."),
    ("two documents", b"task: x\n---\ntask: y\n", "task.yaml, line 2", "a second document", "one", "Remove the line"),
    ("alias", b"task: &a x\nabout: *a\n", "task.yaml, line 2", "the alias *a", "plain values", "Write the value out."),
    ("tag", b"task: !!python/name:os.system x\n", 'line 1, key "task"', "the tag", "plain", "Remove the tag."),
    ("false number", b"task: !!int x\n", 'line 1, key "task"', "the tag", "plain", "Remove the tag."),
    ("number as key", b"task: x\n1: y\n", "task.yaml, line 2", "the key 1", "text as a key", "in quotes"),
    ("list as key", b"task: x\n? [a]\n: y\n", "task.yaml, line 2", "a list or mapping", "text as a key", "in quotes"),
    (
        "half a character",
        b'task: t\nabout: "a\\uD83D"\n',
        'line 2, key "about"',
        "half of a surrogate pair",
        "text",
        "Remove",
    ),
    ("deep nesting", b"task: " + b"[" * 5000, "task.yaml", "nested too deeply", "", "Write it flat."),
    ("huge", b"#" * (4 * 2**20 + 1), "task.yaml", "4 MiB", "a few kilobytes", "not the data"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("data", "where", "found", "expected", "remedy"), [row[1:] for row in FILES], ids=[row[0] for row in FILES]
)
def test_wrong_file(data: bytes, where: str, found: str, expected: str, remedy: str) -> None:
    Path("task.yaml").write_bytes(data)
    with pytest.raises(TaskError) as caught:
        load_task(Path("task.yaml"))
    check(caught.value, where, found, expected, remedy)


@pytest.mark.usefixtures("folder")
def test_missing_file_names_the_one_beside_it() -> None:
    Path("ticket.yaml").write_text("task: x")
    with pytest.raises(TaskError) as caught:
        load_task(Path("task.yaml"))
    check(caught.value, "task.yaml", "no such file", "a task file", 'Did you mean "ticket.yaml"?')


@pytest.mark.usefixtures("folder")
def test_missing_file_with_nothing_beside_it() -> None:
    with pytest.raises(TaskError) as caught:
        load_task(Path("task.yaml"))
    check(caught.value, "task.yaml", "no such file", "a task file", "Check the name.")


def test_folder_instead_of_file_names_the_file_in_it(folder: Path) -> None:
    (folder / "task.yaml").write_text("task: x")
    with pytest.raises(TaskError, match="found a folder, expected a task file") as caught:
        load_task(folder)
    assert f'Name the file: "{folder / "task.yaml"}"' in caught.value.remedy


def test_name_that_no_file_can_have() -> None:
    with pytest.raises(TaskError, match="found"):
        load_task(Path("task\0.yaml"))


def unreadable(path: Path, flags: int) -> int:
    raise PermissionError(13, "Permission denied", str(path))


def test_file_without_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "task.yaml").write_text("task: x")
    monkeypatch.setattr(os, "open", unreadable)
    with pytest.raises(TaskError) as caught:
        load_task(Path("task.yaml"))
    check(caught.value, "task.yaml", "cannot be read (Permission denied)", "", "permissions")


OVERRIDES: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"bar": 85}, 'key "bar" (from --set)', "a number (85)", "between 0 and 1", "Write 0.85."),
    ({"split.sed": 3}, 'key "split.sed" (from --set)', 'unknown key "sed"', "seed", 'Write "seed".'),
    ({"split.": 3}, "task.yaml", "'split.'", "names joined by dots", "split.seed"),
    ({"": 3}, "task.yaml", "''", "names joined by dots", "split.seed"),
    (
        {"examples.test": "test.jsonl"},
        'key "examples.test"',
        "'examples'",
        "keys below it",
        'Set "examples" as a whole',
    ),
    ({"chat_template_kwargs": {"a": float("nan")}}, 'key "chat_template_kwargs"', "JSON", "numbers", "Change it."),
    ({"sft.epochs": 10**400}, 'key "sft.epochs"', "a number", "whole number", "Write"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("overrides", "where", "found", "expected", "remedy"), OVERRIDES, ids=lambda value: None)
def test_wrong_override(overrides: dict[str, Any], where: str, found: str, expected: str, remedy: str) -> None:
    Path("task.yaml").write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(TaskError) as caught:
        load_task(Path("task.yaml"), overrides)
    check(caught.value, where, found, expected, remedy)


@pytest.mark.usefixtures("folder")
def test_several_mistakes_are_named_in_one_sentence() -> None:
    error = refused({"bar": 85, "goal": "speed", "sft": {"epochs": 0}})
    assert 'key "bar"' in error.where
    assert 'Also wrong or missing: "goal" and "sft.epochs".' in error.remedy


@pytest.mark.usefixtures("folder")
def test_an_unknown_key_comes_before_the_missing_one_that_it_explains() -> None:
    assert 'key "scroe"' in refused({"score": ..., "scroe": "exact"}).where


@pytest.mark.usefixtures("folder")
def test_long_values_are_cut() -> None:
    assert len(str(refused({"goal": "x" * 10_000}))) < 300


WRECKERS: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**18,
    "",
    " ",
    "x",
    "\u2028",
    [],
    [[]],
    [None],
    {},
    {"x": {}},
    "a/b:c#d",
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("wrecked", WRECKERS, ids=repr)
def test_any_value_at_any_key_is_accepted_or_refused_in_words(wrecked: Any, every_key: list[str]) -> None:
    Path("task.yaml").write_text(yaml.safe_dump(MINIMAL))
    errors = [error for key in every_key if (error := tried({key: wrecked})) is not None]
    assert errors
    for error in errors:
        assert error.found.startswith("found "), str(error)
        assert error.expected, str(error)
        assert error.remedy, str(error)


def tried(overrides: dict[str, Any]) -> TaskError | None:
    """The TaskError of the task with overrides, None where it loads. Whatever else is raised is raised."""
    try:
        load_task(Path("task.yaml"), overrides)
    except TaskError as error:
        return error
    return None


@pytest.fixture
def every_key() -> list[str]:
    """Every dotted key of the task file, two deep, but for what lies below a key that is plain in MINIMAL."""
    from lastresort.spec.task import json_schema

    schema = json_schema()
    keys = []
    for name, inner in schema["properties"].items():
        reference = json.dumps(inner).partition("#/$defs/")[2].partition('"')[0]
        deeper = schema["$defs"].get(reference, {}).get("properties", {})
        keys += [name, *(f"{name}.{below}" for below in deeper)]
    assert {"sft.epochs", "split.seed", "keep", "tune.method"} <= set(keys)
    return keys
