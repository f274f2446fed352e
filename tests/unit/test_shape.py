"""The shape of the source as a whole: what no single file can show."""

import ast
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

import lastresort

SOURCE = Path(lastresort.__file__).parent
UNTYPED = re.compile(r"\b(?:dict|(?:Mutable)?Mapping)\[str, Any\]")
CIRCLES = {
    frozenset(circle)
    for circle in (
        ("gate", "gate/lm_eval"),
        ("hardware", "hardware/plan"),
        ("interop", "interop/exporting", "interop/trl"),
        ("knowledge", "knowledge/formats"),
        ("models", "models/api"),
        ("records", "records/events"),
        ("report", "report/charts", "report/words"),
        ("rungs", "rungs/prompting"),
        ("verify", "verify/causes"),
    )
}  # of a folder and its own subfolders; the list may only shrink

PAGE_READS = {
    "app",
    "errors.py",
    "foreign.py",
    "keys.py",
    "ladder.py",
    "records",
    "report",
    "stop.py",
    "types.py",
    "ui",
}
PAGE_ALSO_NAMES = {
    # types of values that use cases take and return
    "data/formats/rows.py": {"RawRow"},
    "hardware/plan/document.py": {"PlanDocument"},
    "train/settings.py": {"TrainingFile"},
    # tables, for the choices of a form
    "evals/scorers/__init__.py": {"SCORERS"},
    "hardware/plan/setup.py": {"SHARINGS"},
    "interop/exporting/__init__.py": {"TARGETS"},
    "objectives/__init__.py": {"OBJECTIVES"},
    # the text in an editor, parsed and changed key by key as it is typed, and what `load_task` makes of it
    "spec/document.py": {"TASK", "FileKind", "YamlDocument", "parse_document", "read_value"},
    "spec/edit.py": {"moved", "with_comments", "with_key"},
    "spec/task.py": {"Task", "task_of"},
    "spec/training.py": {"TRAINING", "TrainingKeys"},
    "spec/values.py": {"Section", "dotted", "one_of"},
    # how something is written for a reader
    "data/files.py": {"how_to_convert"},
    "hardware/plan/fit.py": {"gib"},
    # a server is a server: its socket, the Host of a request, uvicorn's log
    "libraries.py": {"quiet_logger"},
    "serve/guard.py": {"is_loopback", "names_this_machine", "only_value"},
    "serve/transport.py": {"address_of", "bound"},
}  # the list may only shrink

SAYS_TEXT = {
    "app/advise.py",  # a dialogue, with the questions of `advice`
    "app/console.py",  # the label of a stage
    "rungs/tuning.py",  # what `train` says, after the name of the rung
    "train/files/run.py",
    "train/loop/checkpoints.py",
    "train/loop/loop.py",
    "train/watch/kept.py",
}  # the list may only shrink


def test_no_two_public_classes_share_a_name() -> None:
    """A name that is searched for leads to one class."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, text in _sources().items():
        for node in _parsed(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_source_stays_within_its_shape() -> None:
    """How many files there are, how long the command line is, and how often a value has no type but that of foreign JSON."""
    texts = _sources()
    assert len(texts) <= 597
    assert sum(text.count("\n") for name, text in texts.items() if name.startswith("cli/")) < 1650
    assert sum(len(UNTYPED.findall(text)) for text in texts.values()) <= 289
    assert len(_imported(texts["climb/loop.py"])) <= 20


def test_what_a_user_hears_is_worded_in_report() -> None:
    """Lines of progress that are text where they are said, instead of what `report.words` makes of values. Text that a function
    gives a name first counts, too.
    """
    said = {
        name
        for name, text in _sources().items()
        for node in ast.walk(_parsed(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _says_text(node)
    }
    assert said == SAYS_TEXT


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("p.say('a')", True),
        ("p.say(f'{a} b')", True),
        ("p.say('a' + b)", True),
        ("p.say(a or 'b')", True),
        ("p.say(a if b else f'{a} b')", True),
        ("p.say(text='a')", True),
        ("p.say(' '.join(a))", True),
        ("p.say('{} b'.format(a))", True),
        ("p.say(spaced(f'{a} b'))", True),
        ("line = f'{a} b'\n    p.say(line)", True),
        ("line = words.a()\n    line += ' b'\n    p.say(line)", True),
        ("if line := a or 'b':\n        p.say(line)", True),
        ("p.say(words.a('b', c))", False),
        ("p.say(words.A)", False),
        ("for line in words.lines(a):\n        p.say(line)", False),
        ("p.say(a['b'])", False),
        ("bench.say('retrieval', Note(a))", False),
    ],
)
def test_what_counts_as_text(body: str, says: bool) -> None:
    (function,) = ast.parse(f"def f():\n    {body}").body
    assert isinstance(function, ast.FunctionDef)
    assert _says_text(function) == says


def test_what_the_page_imports_besides_app_records_and_report_is_listed() -> None:
    """These three are let through whole. Imports within functions and for types alone count, too."""
    named: dict[str, set[str]] = defaultdict(set)
    for name, text in _sources().items():
        if name.startswith("ui/"):
            for file, what in _imports(text):
                if file.partition("/")[0] not in PAGE_READS:
                    named[file].add(what)
    assert named == PAGE_ALSO_NAMES


def test_no_folder_imports_another_in_a_new_circle() -> None:
    """Imports within functions and for types alone count, too. A circle that is gone goes from the list."""
    imports: dict[str, set[str]] = defaultdict(set)
    for name, text in _sources().items():
        if name != "__init__.py":  # the Python API, which imports what is called
            imports[_folder(name)] |= {_folder(other) for other in _imported(text)} - {_folder(name)}
    reached = {folder: _reached(folder, imports) for folder in imports}
    circles = {
        frozenset(other for other in found if folder in reached[other])
        for folder, found in reached.items()
        if folder in found
    }
    assert circles == CIRCLES


def _says_text(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    named = {
        name.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and _is_text(node.value)
    }
    said = [
        argument
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and _called(node) in ("say", "_say") and len(node.args) + len(node.keywords) == 1
        for argument in (*node.args, *(keyword.value for keyword in node.keywords))
    ]
    return any(_is_text(one) or (isinstance(one, ast.Name) and one.id in named) for one in said)


def _is_text(node: ast.expr) -> bool:
    """Whether some of it is text that is written here, rather than given to a function that words it."""
    match node:
        case ast.JoinedStr() | ast.BinOp():
            return True
        case ast.Constant():
            return isinstance(node.value, str)
        case ast.IfExp():
            return _is_text(node.body) or _is_text(node.orelse)
        case ast.BoolOp():
            return any(map(_is_text, node.values))
        case ast.Call(func=ast.Attribute(attr="join" | "format", value=text)):
            return _is_text(text)
        case ast.Call():
            return _called(node) == "spaced" and any(map(_is_text, node.args))
        case _:
            return False


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


_parsed = cache(ast.parse)


@cache
def _sources() -> Mapping[str, str]:
    """By their paths in the package."""
    return {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}


def _imported(text: str) -> set[str]:
    """The files of ours that a source imports, wherever it does."""
    return {file for file, _ in _imports(text)}


def _imports(text: str) -> set[tuple[str, str]]:
    """With what it imports of each, "" for the file itself."""
    found = set[tuple[str, str]]()
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                module = _file(f"{node.module}.{name.name}")
                found.add((module, "") if module else (_file(node.module or ""), name.name))
        elif isinstance(node, ast.Import):
            found |= {(_file(name.name), "") for name in node.names}
    return {one for one in found if one[0]}


def _file(module: str) -> str:
    """ "" of what is no module of ours."""
    first, *rest = module.split(".")
    path = "/".join(rest)
    places = (f"{path}.py", f"{path}/__init__.py") if rest else ("__init__.py",)
    return next((place for place in places if first == "lastresort" and place in _sources()), "")


def _folder(file: str) -> str:
    """A file of the package itself is taken for a folder of its own."""
    return file.rpartition("/")[0] or file


def _reached(folder: str, imports: Mapping[str, set[str]]) -> set[str]:
    found, ahead = set[str](), [folder]
    while ahead:
        new = imports.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found
