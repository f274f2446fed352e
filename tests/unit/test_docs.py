"""What the documents show works: YAML is read by the program's own reader, task files load, commands run, links lead somewhere."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from climb_support import rows, unfinish
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.objectives import OBJECTIVES
from lastresort.spec.document import read_document
from lastresort.spec.sections import FullSettings, PreferenceSettings, RetrievalSettings, SftSettings
from lastresort.spec.task import load_task
from lastresort.spec.training import TrainingKeys, load_training
from lastresort.train.settings import Objective
from logs_support import FOLDER, write_samples
from tiny_model import save_tiny_model

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(document, block) for every fenced block of this language."""
    fenced = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(path.name, block) for path in DOCUMENTS for block in fenced.findall(path.read_text(encoding="utf-8"))]


YAML = blocks("yaml")
TASKS = [(name, block) for name, block in YAML if re.search("^score:", block, re.MULTILINE)]
TRAININGS = [block for _, block in YAML if re.search("^data:", block, re.MULTILINE)]
COMMANDS = [line for _, block in blocks("sh") for line in block.splitlines() if line.startswith("lastresort ")]


def test_there_are_task_files_and_commands_in_the_documents() -> None:
    assert {name for name, _ in TASKS} == {"README.md", "task.md"}
    assert {"data", "climb", "chat", "report", "train", "merge", "gate"} <= {
        shlex.split(line, comments=True)[1] for line in COMMANDS
    }


@pytest.mark.parametrize(("name", "block"), YAML, ids=[name for name, _ in YAML])
def test_yaml_in_the_documents_is_read(name: str, block: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(block, encoding="utf-8")
    assert read_document(tmp_path / name).values


@pytest.mark.parametrize(("name", "block"), TASKS, ids=[name for name, _ in TASKS])
def test_task_files_in_the_documents_load(name: str, block: str, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(block, encoding="utf-8")
    values = read_document(path).values
    (tmp_path / values["examples"]).write_text('{"input": "a", "output": "b"}\n')
    if "output" in values:
        (tmp_path / values["output"]["schema"]).write_text(json.dumps({"type": "object"}))
    if "knowledge" in values:
        (tmp_path / values["knowledge"]).mkdir()
    if "preferences" in values:
        (tmp_path / values["preferences"]).write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    task = load_task(path)
    assert task.task == values["task"]
    if "# the defaults" in block:
        assert task.sft == SftSettings()
        assert task.retrieval == RetrievalSettings()
        assert task.preference == PreferenceSettings()
        assert task.full == FullSettings()


def test_the_commands_of_the_documents_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order: on the README's own task with a scripted model that prompting gets right, its own training on a tiny one."""
    block = next(block for name, block in TASKS if name == "README.md")
    scripted = "model: scripted:script.json\nladder: [prompting]\n"
    (tmp_path / "task.yaml").write_text(block + scripted, encoding="utf-8")
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(400)))
    lines = [f"ticket {number},team {number % 3}" for number in range(300)]
    (tmp_path / "tickets.csv").write_text("\n".join(["body,team", *lines]))
    (tmp_path / "script.json").write_text(json.dumps({"answers_from": ["tickets.jsonl"]}))
    training = next(block for name, block in YAML if name == "README.md" and block in TRAININGS)
    model = save_tiny_model(tmp_path / "tiny")
    (tmp_path / "train.yaml").write_text(training.replace("model: embedded", f"model: {model}"), encoding="utf-8")
    (tmp_path / "my-adapter").mkdir()  # of a scripted model: that it is there is all that counts
    (tmp_path / "my-adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    pairs = [{"prompt": f"Say {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    for side in ("base", "tuned"):
        write_samples(tmp_path / "logs" / side, [1.0] * 200, task="mmlu")
        shutil.copy(FOLDER / "inspect" / "base" / "sums.eval", tmp_path / f"{side}.eval")
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        words = shlex.split(line, comments=True)
        if "--resume" in words:  # as after a crash
            unfinish(tmp_path / "runs" / "ticket-routing-1")
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "stdin", io.StringIO("invoice lost in Oslo\n"))
        code = guarded(app)
        out, error = capsys.readouterr()
        assert code == 0, f"{line}: {error}"
        assert out, line


@pytest.mark.parametrize("block", TRAININGS)
def test_training_files_in_the_documents_load(block: str, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(block, encoding="utf-8")
    values = read_document(path).values
    data = values["data"] if isinstance(values["data"], dict) else {"train": values["data"]}
    for file in (part for part in data.values() if isinstance(part, str)):
        (tmp_path / file).write_text("{}\n", encoding="utf-8")
    (tmp_path / values.get("start_from", ".")).mkdir(parents=True, exist_ok=True)
    (tmp_path / "rewards.py").write_text("def score(answer, expected):\n    return 0.0\n", encoding="utf-8")
    assert load_training(path).data.train == (tmp_path.resolve() / data["train"],)


def test_the_documents_show_every_key_of_a_training_file(tmp_path: Path) -> None:
    shown = set()
    for number, block in enumerate(TRAININGS):
        (tmp_path / f"{number}.yaml").write_text(block, encoding="utf-8")
        shown |= set(read_document(tmp_path / f"{number}.yaml").values)
    assert shown == set(TrainingKeys.model_fields) - {"pairs_as_labels"}  # which stands in the table of data


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_options_of_every_objective_are_those_of_its_function() -> None:
    page = (
        (ROOT / "docs" / "train.md")
        .read_text(encoding="utf-8")
        .split("## Options of an objective")[1]
        .split("\n## ")[0]
    )
    told = {}
    for names, options in re.findall(r"^\| (`.*?`) \| (.*) \|$", page, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = dict(re.findall(r"`(\w+): ([\w.]+)`", options))
    assert told == {
        name: {option: json.dumps(default) for option, default in Objective(name).defaults().items()}
        for name in OBJECTIVES
    }
