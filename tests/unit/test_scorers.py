"""Scorers: what counts as right, worked by hand, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lastresort.errors import DataError, TaskError
from lastresort.evals.scorers import SCORERS, build_scorer, format_ok
from lastresort.evals.scorers.python_file import PythonFunction
from lastresort.types import Example, Message


def example(output: str) -> Example:
    return Example(id="e7", input=(Message("user", "?"),), output=output, row=7, source="tickets.jsonl")


def score(name: str, answer: str, expected: str, parameters: dict[str, Any] | None = None, **output: Any) -> float:
    return build_scorer(name, parameters or {}, **output)(answer, example(expected))


def test_import_is_light() -> None:
    code = (
        "import sys, lastresort.evals.scorers; "
        "print([m for m in ('torch', 'scipy', 'jsonschema', 'rouge_score') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Paris", "Paris", 1),
        (" Paris\n", "Paris", 1),
        ("Cafe\u0301", "Caf\u00e9", 1),
        ("paris", "Paris", 0),
        ("Paris.", "Paris", 0),
        ("", "Paris", 0),
    ],
)
def test_exact(answer: str, expected: str, right: float) -> None:
    assert score("exact", answer, expected) == right


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("  the  PARIS, ", "The Paris!", 1),
        ("STRASSE", "Straße", 1),
        ("ﬁne ①", "fine 1", 1),
        ("don't", "dont", 1),
        ("well-known", "well known", 1),
        ("-5", "5", 0),
        ("3.14", "314", 0),
        ("3.14.", "3.14", 1),
        ("1-2", "1 2", 1),
        ("!", "?", 0),
        ("?", " ? ", 1),
        ("Paris France", "Paris", 0),
        ("हिन्दी", "हिन्दी", 1),
        ("हिन्दी", "हन्द", 0),
    ],
)
def test_normalized(answer: str, expected: str, right: float) -> None:
    assert score("normalized", answer, expected) == right


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("It is Paris, France.", "paris", 1),
        ("a party", "art", 0),
        ("new old york", "New York", 0),
        ("in New  York.", "new york", 1),
        ("答案是东京。", "东京", 1),
        ("it is -5", "5", 0),
        ("", "x", 0),
        ("...", "...", 1),
    ],
)
def test_contains(answer: str, expected: str, right: float) -> None:
    assert score("contains", answer, expected) == right


CHOICES = ("billing", "Technical Support", "A", "a")


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Billing", "billing", 1),
        ('**"billing".**', "billing", 1),
        ("technical  support", "Technical Support", 1),
        ("The team is billing", "billing", 0),
        ("billing, technical support", "billing", 0),
        ("A", "A", 1),
        ("a", "A", 0),
        ("A.", "A", 0),
        ("sales", "billing", 0),
        ("", "billing", 0),
    ],
)
def test_choice(answer: str, expected: str, right: float) -> None:
    """ "A." is right for neither "A" nor "a": folded they are the same label."""
    assert score("choice", answer, expected, choices=CHOICES) == right


def test_choice_with_an_expected_label_that_is_not_one() -> None:
    with pytest.raises(DataError, match=r'tickets.jsonl, row 7, key "output" \(example e7\): .*sales.*expected one of'):
        score("choice", "billing", "sales", choices=CHOICES)


@pytest.mark.parametrize(
    ("answer", "pattern", "expected", "right"),
    [
        ("order AB-123 shipped", r"[A-Z]{2}-\d+", "whatever", 1),
        ("no order", r"[A-Z]{2}-\d+", "whatever", 0),
        ("so 3, no: answer is: 7", r"answer is: (\d+)", "7", 1),
        ("answer is: 3. answer is: 7", r"answer is: (\d+)", "7", 1),
        ("answer is: 7. answer is: 3", r"answer is: (\d+)", "7", 0),
        ("answer is: 7", r"answer is: (\d+)", "long text, answer is: 7", 1),
        ("7", r"answer is: (\d+)", "7", 0),
    ],
)
def test_regex(answer: str, pattern: str, expected: str, right: float) -> None:
    assert score("regex", answer, expected, {"value": pattern}) == right
    assert score("regex", answer, expected, {"pattern": pattern}) == right


def test_regex_that_does_not_compile() -> None:
    with pytest.raises(TaskError, match=r'key "score.regex": a pattern that does not compile'):
        build_scorer("regex", {"value": "(("})


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("3 plus 4 is 7.", "7", 1),
        ("The total is $1,234.50", "1234.5", 1),
        ("12%", "12", 1),
        ("-$3", "-3", 1),
        ("$-3", "-3", 1),
        ("−3", "-3", 1),
        ("10-3", "3", 1),
        ("from 10 -3", "-3", 1),
        ("2.5e-3", "0.0025", 1),
        ("1E3", "1000", 1),
        (".5", "0.5", 1),
        ("5.0", "5", 1),
        ("12kg", "12", 1),
        ("#### 42", "42", 1),
        ("1, 2, 3", "3", 1),
        ("1,23", "23", 1),
        ("1234,567", "1234567", 0),
        ("42", "43", 0),
        ("none", "43", 0),
        ("", "43", 0),
        ("1e999", "43", 0),
        ("10²", "10", 1),
    ],
)
def test_number(answer: str, expected: str, right: float) -> None:
    assert score("number", answer, expected) == right


@pytest.mark.parametrize(
    ("answer", "parameters", "right"),
    [
        ("1.01", {"tolerance": 0.01}, 1),
        ("1.02", {"tolerance": 0.01}, 0),
        ("0.99", {"value": 0.01}, 1),
        ("1.05", {"relative": 0.05}, 1),
        ("1.06", {"relative": 0.05}, 0),
        ("1.0001", {}, 0),
    ],
)
def test_number_tolerance(answer: str, parameters: dict[str, Any], right: float) -> None:
    assert score("number", answer, "1", parameters) == right


def test_number_refuses_what_it_cannot_use() -> None:
    with pytest.raises(DataError, match=r"row 7.*expected an answer with a number"):
        score("number", "3", "three")
    with pytest.raises(TaskError, match=r"score\.number\.tolerance"):
        build_scorer("number", {"tolerance": -1})


SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["billing", "tech"]}, "urgent": {"type": "boolean"}},
    "required": ["team"],
}


@pytest.mark.parametrize(
    ("answer", "parses", "valid"),
    [
        ('{"team": "billing"}', True, True),
        (' \n{"team": "tech", "urgent": true}\n', True, True),
        ('{"team": "sales"}', True, False),
        ("{}", True, False),
        ('```json\n{"team": "tech"}\n```', False, False),
        ('Here: {"team": "tech"}', False, False),
        ('{"team": "tech", "team": "billing"}', False, False),
        ('{"team": "tech", "x": NaN}', False, False),
        ('{"team": "tech", "x": 1e999}', False, False),
        ('{"team": "tech"', False, False),
        ("[" * 100_000, False, False),
        ("[" * 200 + "]" * 200, False, False),
        ("9" * 10_000, False, False),
        ("", False, False),
    ],
)
def test_json_valid(answer: str, parses: bool, valid: bool) -> None:
    assert score("json_valid", answer, "ignored") == float(parses)
    assert score("json_valid", answer, "ignored", json_schema=SCHEMA) == float(valid)
    assert format_ok(answer, json_schema=SCHEMA) is valid
    assert format_ok(answer, scorer="json_exact") is parses


def test_schemas_that_cannot_be_used() -> None:
    with pytest.raises(TaskError, match=r"output\.schema.*'strin' is not valid.* at \$\.properties\.a\.type"):
        build_scorer("json_valid", {}, json_schema={"properties": {"a": {"type": "strin"}}})
    remote = {"$ref": "https://example.com/schema.json"}
    with pytest.raises(TaskError, match="one within the schema"):
        score("json_valid", "{}", "{}", json_schema=remote)


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ('{"b": 2.0, "a": 1}', '{"a":1,"b":2}', 1),
        ('{"a": true}', '{"a":1}', 0),
        ('{"a": "1"}', '{"a":1}', 0),
        ('{"a": [1, 2]}', '{"a":[2,1]}', 0),
        ('{"a": null}', "{}", 0),
        ('{"a": {"b": [{}]}}', '{"a":{"b":[{}]}}', 1),
        ("1.0", "1", 1),
        ('{"a": "caf\\u00e9"}', '{"a":"café"}', 1),
        ('```json\n{"a": 1}\n```', '{"a":1}', 0),
        ("", '{"a":1}', 0),
    ],
)
def test_json_exact(answer: str, expected: str, right: float) -> None:
    assert score("json_exact", answer, expected) == right


@pytest.mark.parametrize(
    ("answer", "expected", "share"),
    [
        ('{"a": 1, "b": 2}', '{"a":1,"b":2}', 1),
        ('{"a": 1, "b": 3}', '{"a":1,"b":2}', 1 / 2),
        ('{"a": 1}', '{"a":1,"b":2}', 1 / 2),
        ('{"a": 1, "b": 2, "c": 3}', '{"a":1,"b":2}', 2 / 3),
        ('{"p": {"x": 1, "y": 0}}', '{"p":{"x":1,"y":2}}', 1 / 2),
        ('{"p": [1, 2]}', '{"p":[1,3]}', 0),
        ("{}", "{}", 1),
        ("{}", '{"a":1}', 0),
        ("7", '{"a":1}', 0),
        ("no", '{"a":1}', 0),
    ],
)
def test_json_fields(answer: str, expected: str, share: float) -> None:
    assert score("json_fields", answer, expected) == pytest.approx(share)


def test_json_scorers_name_an_expected_answer_that_is_not_json() -> None:
    for name in ("json_exact", "json_fields"):
        with pytest.raises(DataError, match=r'tickets.jsonl, row 7, key "output".*not JSON.*Write the expected answer'):
            score(name, "{}", "team billing")


@pytest.mark.parametrize(
    ("answer", "expected", "value"),
    [
        ("the cat sat", "a cat sat down", 2 * 2 / (2 + 3)),
        ("cat cat", "cat", 2 / 3),
        ("The", "the", 1),
        ("dog", "cat", 0),
        ("", "cat", 0),
        ("東京都", "東京", 2 * 2 / 5),
    ],
)
def test_token_f1(answer: str, expected: str, value: float) -> None:
    assert score("token_f1", answer, expected) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "expected", "value"),
    [
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        ("東京都", "東京", 2 * 2 / 5),
        ("Ελλάδα", "Ελλάδα", 1),
        ("", "x", 0),
        ("...", "...", 1),
    ],
)
def test_rouge_l(answer: str, expected: str, value: float) -> None:
    """The first two are Lin 2004, section 3, with beta = 1."""
    assert score("rouge_l", answer, expected) == pytest.approx(value)


METRICS = """
from __future__ import annotations
from dataclasses import dataclass
import neighbour

@dataclass
class Box:
    value: int

def overlap(answer, expected):
    return len(set(answer) & set(expected)) / max(1, len(set(expected)))

def same(answer: str, expected: str) -> bool:
    return answer == expected

def with_example(answer, expected, example):
    return example.id == "e7"

def declared(answer, expected):
    return 1
declared.binary = True

def half(answer, expected) -> bool:
    return 0.5

def broken(answer, expected):
    return {}["key"]

def two(answer, expected):
    return 2

def text(answer, expected):
    return "1"

def optional(answer, expected, strict=False):
    return not strict

def alone(answer):
    return 1

def leaves(answer, expected):
    raise SystemExit(3)

def huge(answer, expected):
    return 10**400

def longer(answer, expected):
    return 10**5000

def no_number(answer, expected):
    return float("nan")

class Odd:
    def __repr__(self):
        raise RuntimeError("no text")

    def item(self):
        raise RuntimeError("no item")

def odd(answer, expected):
    return Odd()

def wordy(answer, expected):
    return "word " * 1000

builtin = max
nothing = {}.get

def from_numpy(answer, expected):
    import numpy
    return numpy.float32(0.25) if answer else numpy.bool_(True)
"""


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("x = 1\n")
    path = tmp_path / "metrics.py"
    path.write_text(METRICS)
    return path


def open_python(parameters: dict[str, Any]) -> None:
    scorer = build_scorer("python", parameters)
    assert isinstance(scorer, PythonFunction)
    scorer.open()


def test_python_functions(metrics: Path) -> None:
    def run(name: str, answer: str = "ab", expected: str = "abcd") -> float:
        return score("python", answer, expected, {"function": f"{metrics}:{name}"})

    assert run("overlap") == 0.5
    assert run("same", "x", "x") == 1.0
    assert run("same") == 0.0
    assert run("with_example") == 1.0
    assert run("optional") == 1.0
    assert run("from_numpy") == 0.25
    assert run("from_numpy", "") == 1.0
    assert str(metrics.parent) not in sys.path


def test_python_file_and_function_apart(metrics: Path) -> None:
    assert score("python", "ab", "abcd", {"file": str(metrics), "function": "overlap"}) == 0.5
    assert score("python", "ab", "abcd", {"value": f"{metrics}:overlap"}) == 0.5


@pytest.mark.parametrize(
    ("name", "parameters", "binary"),
    [
        ("same", {}, True),
        ("declared", {}, True),
        ("overlap", {}, False),
        ("overlap", {"binary": True}, True),
        ("same", {"binary": False}, False),
    ],
)
def test_python_binary(metrics: Path, name: str, parameters: dict[str, bool], binary: bool) -> None:
    assert build_scorer("python", {"function": f"{metrics}:{name}", **parameters}).binary is binary


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"metrics.py, broken\(\), example e7: raised KeyError: 'key'"),
        ("two", r"two\(\), example e7: returned 2, expected True, False, or a number from 0 to 1"),
        ("text", r"text\(\), example e7: returned '1'"),
        ("half", r"half\(\), example e7: returned 0.5 though it is declared binary"),
        ("leaves", r"leaves\(\), example e7: raised SystemExit: 3"),
        ("huge", r"huge\(\), example e7: returned 10{78}…, expected"),
        ("longer", r"longer\(\), example e7: returned a int, expected"),
        ("no_number", r"no_number\(\), example e7: returned nan"),
        ("odd", r"odd\(\), example e7: raised RuntimeError: no item"),
        ("wordy", r"example e7: returned '(word )+wor…, expected"),
    ],
)
def test_python_faults_name_file_function_and_item(metrics: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score("python", "a", "b", {"function": f"{metrics}:{name}"})


def test_python_that_cannot_be_loaded(metrics: Path) -> None:
    folder = metrics.parent
    (folder / "wrong.py").write_text("def f(:\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "text.txt").write_text("x")
    for address, message in [
        (f"{metrics}:overlp", "Did you mean overlap"),
        (f"{metrics}:alone", r"takes \(answer\), expected \(answer, expected\)"),
        (f"{metrics}:builtin", "without a readable signature.*Wrap it in a Python function"),
        (f"{folder}/none.py:f", "no such file"),
        (f"{folder}/wrong.py:f", "cannot be loaded.*SyntaxError"),
        (f"{folder}/exits.py:f", "cannot be loaded.*SystemExit"),
        (f"{folder}/text.txt:f", "not a Python file"),
        ("metrics.py", "expected FILE:FUNCTION"),
    ]:
        with pytest.raises(TaskError, match=message):
            open_python({"function": address})


def test_unknown_names_and_parameters() -> None:
    with pytest.raises(TaskError, match=r"unknown scorer 'json_exakt'.*Did you mean json_exact"):
        build_scorer("json_exakt", {})
    with pytest.raises(TaskError, match=r'"score.number": an unknown parameter .tolerence.*Did you mean tolerance'):
        build_scorer("number", {"tolerence": 1})
    with pytest.raises(TaskError, match="expected no parameters"):
        build_scorer("exact", {"case": True})
    with pytest.raises(TaskError, match="unknown scorer") as refused:
        build_scorer("judgement", {})
    assert all(name in str(refused.value) for name in SCORERS)
    with pytest.raises(TaskError, match=r'"score.judge": found None, expected the judge.s model'):
        build_scorer("judge", {})


def test_format() -> None:
    assert format_ok("billing.", choices=CHOICES) is True
    assert format_ok("I think billing", choices=CHOICES) is False
    assert format_ok("", choices=CHOICES) is False
    assert format_ok("anything") is None
    assert format_ok("anything", scorer="token_f1") is None
    assert format_ok("it is 3", scorer="number") is True
    assert format_ok("it is three", scorer="number") is False
