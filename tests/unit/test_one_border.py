"""Files of others are opened and parsed by `lastresort.foreign` alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "lastresort"
PARSING = {
    "json.load",
    "json.loads",
    "yaml.load",
    "yaml.safe_load",
    "yaml.compose",
    "gzip.open",
    "gzip.decompress",
    "os.open",
    "io.open",
    "codecs.open",
    "yaml.full_load",
    "yaml.unsafe_load",
    "yaml.load_all",
    "yaml.safe_load_all",
    "json.JSONDecoder",
    "pickle.load",
    "pickle.loads",
    "torch.load",
    "np.load",
    "tomllib.load",
    "tomllib.loads",
    "gzip.GzipFile",
    "zipfile.ZipFile",
    "tarfile.open",
    "sqlite3.connect",
    "shutil.copyfile",
}
OPENING = {"open", "safe_open", "load_file"}  # by their names alone
READING = {"read_text", "read_bytes"}  # of any path
NAMED = re.compile(rf"\b(?:{'|'.join({name.rpartition('.')[2] for name in PARSING} | OPENING | READING)})\s*\(")
ALLOWED = {
    "after/compare/compare.py": "reads what its own process answers",
    "after/compare/training.py": "reads what its own process answers",
    "apart.py": "reads what its own process answers",
    "app/consent.py": "parses what it wrote itself",
    "app/runtime.py": "reads the number that the page wrote for it",
    "cli/border.py": "opens the null device",
    "climb/rates.py": "reads what it kept in the cache",
    "cli/start.py": "prints the task file that it wrote itself",
    "data/conversion/sinks.py": "packs what it writes",
    "data/conversion/streams.py": "unpacks line by line, each of a bounded length, what `foreign` opened",
    "data/answer_schema.py": "reads again the schema that it wrote itself",
    "data/template_limits.py": "reads what the system says of itself",
    "data/wording.py": "reads a file of the package",
    "embedded.py": "hashes the weights of a model, and reads the hashes that it kept in the cache",
    "evals/user_code/child.py": "reads what its own parent asks, and what the system says of itself",
    "evals/user_code/process.py": "reads what its own process answers",
    "gate/lm_eval/tasks.py": "reads the source of an installed package",
    "gate/logs/inspect.py": "unpacks archives within limits of its own",
    "handoff/weights.py": "copies what `refuse_links_out` has seen",
    "hardware/cards.py": "reads a file of the package",
    "hardware/environment.py": "reads what the system says of itself",
    "hardware/memory.py": "reads what the system says of itself",
    "interop/exporting/rewards.py": "looks for imports in Python that the task file names",
    "interop/foreign_keys.py": "reads a file of the package",
    "interop/reading.py": "compares rows with those that it wrote itself",
    "interop/skypilot.py": "reads a file of the package",
    "libraries.py": "reads the head of a file that `foreign` opened",
    "models/scripted.py": "parses answers that `foreign` read, and counts lines that it wrote itself",
    "records/atomic.py": "opens locks and folders",
    "records/chain.py": "reads a column of a record, which is bounded there",
    "records/database.py": "opens databases",
    "records/salvage.py": "copies a database to read of it what it can",
    "report/html.py": "reads a file of the package",
    "scale/work.py": "hashes the files of the package",
    "serve/answers.py": "reads again the schema that it wrote itself",
    "spec/document.py": "has the YAML of task files, which it reads from text that `foreign` opened",
    "synthesis/journal.py": "cuts the half of a line that a kill left in its own files",
    "systems/files.py": "hashes the weights of a model",
    "train/adapters/adapters.py": "reads again what PEFT wrote a moment ago",
    "train/adapters/gguf.py": "reads weights whose heads it has read",
    "train/adapters/merge.py": "copies what the model was loaded with",
    "train/files/run_folder.py": "hashes the files that it trains on",
    "train/groups/groups.py": "cuts its own log, which it reads line by line",
    "train/groups/server.py": "hashes the adapter that it wrote itself",
    "train/loop/checkpoints.py": "reads weights in a file that `foreign` opened",
    "train/loop/spawn.py": "reads what the processes send that it started",
    "train/loop/spawned.py": "reads what the process sends that started it",
    "train/watch/early_warnings.py": "reads a file of the package",
    "ui/findings.py": "reads what its own process answers",
    "ui/jobs.py": "reads the end of a log, and no more",
    "ui/pages/task_beginning.py": "reads a file of the package",
    "ui/pages/plan.py": "reads the picture that its own process drew",
    "ui/processes.py": "opens the null device and logs to write",
    "ui/site.py": "reads a file of the package",
}


def read_here(tree: ast.Module) -> set[str]:
    """The calls that open or parse a file without `foreign`."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in OPENING:
            found.add(called.id)
        elif isinstance(called, ast.Attribute):
            owner = called.value.id if isinstance(called.value, ast.Name) else ""
            if f"{owner}.{called.attr}" in PARSING or (called.attr in READING and owner != "foreign"):
                found.add(called.attr)
            elif called.attr == "open" and (_mode(node).startswith("r") or _says_encoding(node)):
                found.add("open")
    return found


def _read_by(source: str) -> set[str]:
    """Not parsed where no such name is called: most files."""
    return read_here(ast.parse(source)) if NAMED.search(source) else set()


def _mode(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def _says_encoding(call: ast.Call) -> bool:
    """As who opens a file does whose mode is the usual one, "r"."""
    return not _mode(call) and any(keyword.arg == "encoding" for keyword in call.keywords)


def test_nothing_else_opens_and_parses_files() -> None:
    elsewhere = {
        path.relative_to(SRC).as_posix(): calls
        for path in sorted(SRC.rglob("*.py"))
        if path != SRC / "foreign.py" and (calls := _read_by(path.read_text("utf-8")))
    }
    assert {name: calls for name, calls in elsewhere.items() if name not in ALLOWED} == {}
    assert ALLOWED.keys() <= elsewhere.keys(), "what is no longer so is no longer allowed"


@pytest.mark.parametrize(
    "line",
    [
        "json.loads(a)",
        "yaml.safe_load(a)",
        "path.read_text()",
        "a.b.read_bytes()",
        "open(a)",
        'path.open("rb")',
        'path.open(encoding="utf-8")',
        "torch.load(a)",
        "safe_open(a)",
        "sqlite3.connect(a)",
    ],
)
def test_such_a_line_is_noticed(line: str) -> None:
    assert _read_by(line)


@pytest.mark.parametrize("line", ["read_text(path)", "model.open()", 'path.open("w")', "json.dumps(a)"])
def test_other_lines_are_not(line: str) -> None:
    assert not read_here(ast.parse(line))
