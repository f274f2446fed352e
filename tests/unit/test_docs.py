"""What the documents show works: YAML is read by the program's own reader, task files load, commands run, links lead somewhere."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from climb_support import rows, unfinish
from handoff_support import run_of, system
from lastresort.cli.border import guarded
from lastresort.cli.data import data_app
from lastresort.cli.main import app
from lastresort.cli.study import study_app
from lastresort.objectives import OBJECTIVES
from lastresort.spec.document import read_document
from lastresort.spec.sections import FullSettings, PreferenceSettings, RetrievalSettings, SftSettings
from lastresort.spec.task import load_task
from lastresort.spec.training import TrainingKeys, load_training
from lastresort.train.settings import Objective
from logs_support import FOLDER, write_samples
from models_support import save_adapter
from tiny_model import save_tiny_model

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(document, block) for every fenced block of this language."""
    fenced = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(path.name, block) for path in DOCUMENTS for block in fenced.findall(path.read_text(encoding="utf-8"))]


def _commands(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.startswith("lastresort ")]


YAML = blocks("yaml")
TASKS = [(name, block) for name, block in YAML if re.search("^score:", block, re.MULTILINE)]
TRAININGS = [block for _, block in YAML if re.search("^data:", block, re.MULTILINE)]
COMMANDS = {
    path.name: lines
    for path in DOCUMENTS
    if (lines := [line for name, block in blocks("sh") if name == path.name for line in _commands(block)])
}
SCRIPTED = "model: scripted:script.json\nladder: [prompting]\n"


def test_there_are_task_files_and_commands_in_the_documents() -> None:
    assert {name for name, _ in TASKS} == {"README.md", "running.md", "task.md", "tutorial.md"}
    found = {shlex.split(line, comments=True)[1] for lines in COMMANDS.values() for line in lines}
    assert {"init", "data", "climb", "chat", "report", "train", "merge", "gate"} <= found


def test_every_command_stands_in_the_table_of_commands() -> None:
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8").split("## All commands")[1]
    shown = re.findall(r"^\| `([\w -]+)` \|", page, re.MULTILINE)
    known = {command.name for command in app.registered_commands}
    known |= {f"data {command.name}" for command in data_app.registered_commands}
    known |= {f"study {command.name}" for command in study_app.registered_commands}
    assert sorted(shown) == sorted(known)


@pytest.mark.parametrize(("name", "block"), YAML, ids=[name for name, _ in YAML])
def test_yaml_in_the_documents_is_read(name: str, block: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(block, encoding="utf-8")
    assert read_document(tmp_path / name).values


@pytest.mark.parametrize(("name", "block"), TASKS, ids=[name for name, _ in TASKS])
def test_task_files_in_the_documents_load(name: str, block: str, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(block, encoding="utf-8")
    values = read_document(path).values
    row = '{"input": "a", "output": "b"}' if values["examples"].endswith("jsonl") else "message,team\na,repair"
    (tmp_path / values["examples"]).write_text(f"{row}\n")
    if "schema" in values.get("output", {}):
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


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(document, marks=[pytest.mark.slow] * (document == "gate.md"))
        for document in sorted(set(COMMANDS) - {"tutorial.md"})
    ],
)
def test_the_commands_of_the_documents_run(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order: on a task with a scripted model that prompting gets right, a training on a tiny one."""
    _material(tmp_path, drafts=document == "README.md")
    if document == "handoff.md":
        winner = system(tmp_path / "tiny", adapter=save_adapter(tmp_path / "tiny", tmp_path / "tuned"))
        run_of(tmp_path / "runs" / "tickets-1", winner, kind="adapter")
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS[document]:
        if "--resume" in shlex.split(line, comments=True):  # as after a crash
            unfinish(tmp_path / "runs" / "ticket-routing-1")
        _runs(line, monkeypatch, capsys)
        if line.startswith("lastresort init") and "--task" not in line:
            _with_scripted_model(tmp_path / "task.yaml")


@pytest.mark.slow
def test_the_tutorial_runs_from_its_csv_to_a_merged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it in its order, on a scripted model. A prompt wins on it, so an adapter of a tiny model is gated and merged."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for language, block in re.findall(r"```(sh|python)\n(.*?)```", text, re.DOTALL):
        if language == "python":
            exec(compile(block, "tutorial.md", "exec"), {})
            capsys.readouterr()
            continue
        for line in _commands(block):
            if line.startswith("lastresort gate"):
                _trained(tmp_path / "made", monkeypatch, tmp_path / "trained")
                line = line.replace("runs/tickets-1/winner", "trained --quick")
            _runs(line.replace("runs/tickets-1/winner/adapter", "trained"), monkeypatch, capsys)
            if line.startswith("lastresort init"):
                assert (tmp_path / "task.yaml").read_text(encoding="utf-8") == _drafted(text)
                _with_scripted_model(tmp_path / "task.yaml")
                _script(tmp_path, "tickets.csv", "message", "team")
    assert (tmp_path / "tickets-model" / "gguf" / "Modelfile").is_file()


def _drafted(text: str) -> str:
    return re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]


def _runs(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
    monkeypatch.setattr(sys, "stdin", io.StringIO("invoice lost in Oslo\n"))
    code = guarded(app)
    out, error = capsys.readouterr()
    assert code == 0, f"{line}: {error}"
    assert out, line


def _material(folder: Path, *, drafts: bool) -> None:
    """All that a command of the documents reads. drafts: the document makes its task file itself."""
    (folder / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(400)))
    (folder / "mine.csv").write_text("\n".join(["text,label", *(f'"{r["input"]}",{r["output"]}' for r in rows(400))]))
    for name in ("tickets.csv", "rows.csv"):
        lines = [f"ticket {number},team {number % 3}" for number in range(300)]
        (folder / name).write_text("\n".join(["body,team", *lines]))
    if not drafts:
        block = next(block for name, block in TASKS if name == "running.md")
        (folder / "task.yaml").write_text(block + SCRIPTED, encoding="utf-8")
    (folder / "script.json").write_text(json.dumps({"answers_from": ["tickets.jsonl"]}))
    training = next(block for name, block in YAML if name == "train.md" and block in TRAININGS)
    model = save_tiny_model(folder / "tiny")
    (folder / "train.yaml").write_text(training.replace("model: embedded", f"model: {model}"), encoding="utf-8")
    (folder / "my-adapter").mkdir()  # of a scripted model: that it is there is all that counts
    (folder / "my-adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    pairs = [{"prompt": f"Say {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(4)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    samples = [{"input": row["input"], "samples": [row["output"], "nobody", "somebody"]} for row in rows(400)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    for side, written_by in (("base", "tuned"), ("tuned", "base")):  # the other way round, so that nothing is lost
        write_samples(folder / "logs" / side, [1.0] * 200, task="mmlu", model=side)
        shutil.copy(FOLDER / "inspect" / written_by / "sums.eval", folder / f"{side}.eval")


def _with_scripted_model(task: Path) -> None:
    kept = [
        line for line in task.read_text(encoding="utf-8").splitlines() if not line.startswith(("model:", "ladder:"))
    ]
    task.write_text("\n".join(kept) + "\n" + SCRIPTED, encoding="utf-8")


def _script(folder: Path, data: str, source: str, target: str) -> None:
    """The scripted model knows every answer of this CSV."""
    with (folder / data).open(encoding="utf-8", newline="") as file:
        told = [{"input": row[source], "output": row[target]} for row in csv.DictReader(file)]
    (folder / "told.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    (folder / "script.json").write_text(json.dumps({"answers_from": ["told.jsonl"]}))


def _trained(folder: Path, monkeypatch: pytest.MonkeyPatch, to: Path) -> None:
    """An adapter on a tiny model, where the document has one."""
    folder.mkdir()
    _material(folder, drafts=True)
    monkeypatch.setattr(sys, "argv", ["lastresort", "train", str(folder / "train.yaml"), "--set", "max_steps=1"])
    assert guarded(app) == 0
    shutil.copytree(folder / "train-out" / "adapter", to)


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


def test_every_threat_of_the_security_page_has_a_test_that_is_there() -> None:
    lines = (ROOT / "SECURITY.md").read_text("utf-8").splitlines()
    threats = [line for line in lines if line.startswith("| ") and not line.startswith("| threat")]
    assert len(threats) >= 15
    for line in threats:
        named = re.findall(r"`([\w/]+\.py)`", line)
        assert named, line
        assert all((ROOT / "tests" / name).is_file() for name in named), line
