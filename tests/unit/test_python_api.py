"""`import lastresort as lr`: docs/python.md and the example notebook run, and nothing heavy loads before it is needed."""

from __future__ import annotations

import ast
import base64
import copy
import inspect
import json
import os
import pickle
import pydoc
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy
import pytest
from markupsafe import escape

import lastresort as lr
from climb_support import rows, scripted_task
from gate_support import SUITES, gated_task
from lastresort.advice.advise import RULES
from lastresort.app.runs import Run
from lastresort.app.runtime import SETTINGS, interrupt_on_sigterm, set_environment
from lastresort.app.start import ClimbRequest
from lastresort.app.study import Study
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb.identity import settings_of
from lastresort.errors import DataError, InputError, TaskError
from lastresort.gate import built_in
from lastresort.records.atomic import held
from lastresort.records.events.search import RungTested
from lastresort.records.record import Record
from lastresort.report.gate import finding
from lastresort.report.notebook import LETTER, gate_html, ladder_html
from lastresort.report.words.gate import AXIS
from lastresort.report.words.titles import headline
from lastresort.report.words.training import training_lines
from lastresort.spec.document import plain as plain_value
from lastresort.stop import Stop, StopSignal
from lastresort.types import Message, Progress, SilentProgress
from logs_support import write_samples
from tiny_model import save_tiny_model
from train_support import training_file
from tuning_support import COLOURS, tiny_task

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NOTEBOOK = ROOT / "examples" / "climb.ipynb"
SVG = "{http://www.w3.org/2000/svg}"


def climbed(folder: Path, **arguments: Any) -> Run:
    path = scripted_task(folder / "task", quality=[{"right": 0.97}])
    return lr.climb(path, run=folder / "run", progress=SilentProgress(), **arguments)


def picture(html: str) -> ElementTree.Element:
    """The one image of what a notebook shows: the picture, on a ground of its own."""
    (coded,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    ground = ElementTree.fromstring(base64.b64decode(coded))
    assert ":root { background: var(--paper) }" in (ground.findtext(f"{SVG}style") or "")
    (drawn,) = ground.findall(f"{SVG}svg/{SVG}svg")
    return drawn


def executed(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; its value is that of the last line, if it is an expression."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scripted_task(tmp_path, quality=[{"right": 0.97}], task={"task": "ticket-routing"})
    training_file(tmp_path, "sft", rows=rows())
    lines = [f"{i},{'ab'[i % 2]}" for i in range(300)]
    (tmp_path / "rows.csv").write_text("\n".join(["body,team", *lines]), encoding="utf-8")
    samples = [{"input": row["input"], "samples": [row["output"], "nobody"]} for row in rows()]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples), encoding="utf-8")
    for side in ("base", "tuned"):
        write_samples(tmp_path / "logs" / side, [1.0] * 200, task="mmlu", model=side)
    tiny_task(tmp_path / "colours", output={"choices": list(COLOURS)}, score="choice")
    monkeypatch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)
    names: dict[str, Any] = {}
    assert len(BLOCKS) > 6
    for block in BLOCKS:
        executed(block, names)
    assert names["run"].folder == Path("runs/ticket-routing-1")
    assert names["training"].saved.is_dir()
    assert names["result"].verdict == "SHIP"
    assert (names["mixed"].rows, names["pairs"].pairs) == (325, 80)
    study_is_typed_and_drawn(names["study"])
    assert set(re.findall(r"\blr\.(\w+)\(", PAGE)) == set(lr.__all__) - {"Run", "__version__"}


def test_dir_shows_what_is_for_the_user_and_no_imports() -> None:
    """The type of a run, for annotations, is there without loading what it is made of beforehand."""
    assert dir(lr) == sorted(lr.__all__)
    assert lr.Run is Run
    with pytest.raises(AttributeError, match="has no attribute 'Any_'"):
        lr.Any_  # noqa: B018


def study_is_typed_and_drawn(study: Study) -> None:
    """A finished study is what is in its folder, as values, as rows and as a picture."""
    written = json.loads((study.folder / "study.json").read_text(encoding="utf-8"))
    assert (study.folder, study.document.as_json()) == (Path("studies/tiny-min-data"), written)
    assert study.answer == written["answer"]
    assert study.report.is_file()
    base, *trained = study.rows()
    assert (base["way"], base["n"], base["score"], base["dev_loss"]) == ("zero-shot", 0, written["base"]["score"], None)
    assert [(row["n"], row["seed"]) for row in trained] == [(16, 0), (40, 0), (16, 1), (40, 1)]
    for point in written["points"]:
        own = [row for row in trained if row["n"] == point["n"]]
        assert {row["rows"] for row in own} == {point["n"]}
        for name in ("score", "dev_loss", "train_loss", "kl", "kept"):
            assert fmean(row[name] for row in own) == pytest.approx(point[name]), name
    assert {*base} == {name for row in trained for name in row}
    shown = study._repr_html_()
    assert picture(shown).get("aria-label") == "tiny: score on dev by number of examples"
    assert str(escape(study.answer)) in shown


@pytest.mark.parametrize(
    ("kind", "given", "option", "said"),
    [
        (
            "min-data",
            {"sizes": [20, 90.5], "dpo_rate": 0.1},
            "--sizes=20,90.5",
            '--sizes: found "20,90.5", expected whole',
        ),
        ("min-data", {"sizes": "20,few"}, "--sizes=20,few", '--sizes: found "20,few", expected whole numbers'),
        (
            "crossover",
            {"sizes": (20, 900), "seeds": 1},
            "--sizes=20,900 --seeds=1",
            "--seeds: found 1, expected at least",
        ),
        (
            "crossover",
            {"sizes": numpy.array((20, 900))},
            "--sizes=20,900",
            "--sizes: found 20, 900, expected two or more",
        ),
        ("min-data", {"ray": "nowhere", "seeds": 1}, "--ray=nowhere --seeds=1", "--ray: found"),
        ("orpo-vs-dpo", {"dpo_rate": 2.0, "seeds": 1}, "--dpo-rate=2 --seeds=1", 'key "preferences": found nothing'),
        ("orpo-vs-dpo", {"settings": {"bars": 1}}, "--set=bars=1", '"bars"'),
    ],
)
def test_a_study_is_refused_as_its_command_refuses_it(
    kind: Any,
    given: dict[str, Any],
    option: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where two things are wrong: the same one is named first. Nothing is written."""
    path = tiny_task(tmp_path / "task")
    monkeypatch.chdir(tmp_path)

    monkeypatch.setattr(sys, "argv", ["lastresort", "study", kind, str(path), *option.split()])
    assert guarded(app) == 2
    with pytest.raises(InputError) as refused:
        lr.study(path, kind, progress=SilentProgress(), **given)
    assert said in str(refused.value)
    assert f"Error: {refused.value}" in capsys.readouterr().err
    assert not Path("studies").exists()


def test_a_study_that_there_is_not_is_named_before_all_else() -> None:
    with pytest.raises(InputError, match=r'study: found "crosover", expected crossover, .*Did you mean "crossover"'):
        lr.study("nowhere.yaml", "crosover", sizes="few")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], {cell["cell_type"] for cell in notebook["cells"]}) == (4, {"markdown", "code"})
    names: dict[str, Any] = {}
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    values = [executed(source, names) for source in code]
    run, plan = values[2], values[-1]
    assert run.decision["verdict"] == "MET"
    assert picture(run._repr_html_()).get("aria-label") == "The ladder of routing"
    assert picture(plan._repr_html_()).get("aria-label") == plan.answer
    assert names["items"].shape[0] == len(run.items())


def test_a_run_gives_its_decision_its_items_and_its_picture(tmp_path: Path) -> None:
    run = climbed(tmp_path)
    assert run.finished
    assert run.decision["verdict"] == "MET"
    items = [row for row in run.items() if row["split"] == "test"]
    (tested,) = [rung for rung in run.decision["rungs"] if rung["test"]]
    assert {(row["rung"], row["candidate"]) for row in items} == {("prompting", tested["chosen"])}
    assert sum(row["score"] for row in items) / len(items) == pytest.approx(tested["test"]["score"])
    assert {row["split"] for row in run.items()} == {"dev", "test", "rest of test"}
    drawn = picture(run._repr_html_())
    assert [text.text for text in drawn.iter(f"{SVG}text") if text.get("class") == "name"] == ["prompting"]
    (style,) = drawn.iter(f"{SVG}style")
    assert ".strip .span" in (style.text or "")
    assert headline(run.view) in run._repr_html_()
    shown = [text.text for text in drawn.iter(f"{SVG}text")]
    assert f"100.0% of {tested['test']['n_used']} items" in shown
    held = run.view.rungs[0].replaced(gate="HOLD")
    again = ladder_html(run.view.replaced(rungs=(held, *run.view.rungs[1:])))
    assert "MET, gate: HOLD" in [text.text for text in picture(again).iter(f"{SVG}text")]


@pytest.mark.parametrize("group", [None, 3])
def test_items_that_came_with_the_deciding_batch_are_told_from_those_that_counted(
    tmp_path: Path, group: int | None
) -> None:
    """So that the means of the rows of split test are the decision's scores."""
    path = scripted_task(tmp_path, quality=[{"right": 0.97}], task={"bar": 0.3})
    given = [{**row, "group": f"g{number // group}"} if group else row for number, row in enumerate(rows())]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    run = lr.climb(path, run=tmp_path / "run", progress=SilentProgress())
    (test,) = [rung["test"] for rung in run.decision["rungs"] if rung["test"]]
    items, left = ([row for row in run.items() if row["split"] == split] for split in ("test", "rest of test"))
    assert (test["verdict"], test["unit"]) == ("MET", "group" if group else "item")
    assert len(items) == test["n_used"] * (group or 1) < test["n_available"] * (group or 1)
    assert fmean(row["score"] for row in items) == pytest.approx(test["score"])
    assert left


def test_a_stopped_run_is_opened_and_resumed(tmp_path: Path) -> None:
    run = climbed(tmp_path)
    decided = run.decision
    run.report.unlink()
    with Record.open(run.folder) as record:
        tested = record.last(RungTested)
        assert tested is not None
        record.append(tested)
    again = lr.open_run(str(run.folder))
    assert not again.finished
    assert "Not decided yet" in again._repr_html_()
    with pytest.raises(DataError, match="has gone on since"):
        again.decision  # noqa: B018
    assert again.resume().decision["rungs"] == decided["rungs"]
    with pytest.raises(DataError, match="found no record"):
        lr.open_run(tmp_path)


def test_a_run_is_resumed_with_the_options_of_a_climb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = climbed(tmp_path)
    names = set(inspect.signature(lr.climb).parameters) - {"run", "resume"}
    assert set(inspect.signature(run.resume).parameters) == names
    asked: list[tuple[ClimbRequest, Stop]] = []

    def start(request: ClimbRequest, progress: Progress, stop: Stop) -> Any:
        asked.append((request, stop))
        progress.stage("at work")
        return SimpleNamespace(run=request.run)

    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("lastresort.app.start.start_climb", start)
    stop = StopSignal()
    lr.open_run(run.folder).resume(
        until="sft", gate="quick", compare="lora,full", compare_seeds=2, ray="local", stop=stop
    )
    request = ClimbRequest(run.task_file(), {}, run.folder, True, "sft", "quick", "lora,full", 2, ray="local")
    assert asked == [(request, stop)]
    assert "at work" in capsys.readouterr().err
    assert {name: os.environ[name] for name in SETTINGS} == SETTINGS


def test_the_winner_answers(tmp_path: Path) -> None:
    run = climbed(tmp_path)
    inputs = [(Message("user", row["input"]),) for row in rows()[:20]]
    system = lr.open_system(run.folder)
    answers = system.answer(inputs)
    texts = [row["input"] for row in rows()[:20]]
    assert [one.text for one in system.answer(texts)] == [one.text for one in answers]
    assert "".join(system.stream(texts[0])) == answers[0].text
    with pytest.raises(InputError, match=r"found one text, expected a list of inputs. Write answer\(\[text\]\)"):
        system.answer(texts[0])
    with pytest.raises(DataError, match="none: there is no such folder"):
        lr.open_system(tmp_path / "none")
    with pytest.raises(DataError, match=rf"{tmp_path / 'task'}: found no system, expected .*with its system.yaml"):
        lr.open_system(tmp_path / "task")
    assert sum(answer.text == row["output"] for answer, row in zip(answers, rows(), strict=False)) > 15


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            [{"role": "user", "content": "hi"}],
            "answer, input 1: found one message, expected text, or a conversation as a list",
        ),
        ([[{"role": "user"}]], r'answer, input 1, key "\[0\].content": found null, expected text'),
        (["hi", ["a"]], r'answer, input 2, key "\[0\]": found text, expected a turn {"role"'),
        ([7], "answer, input 1: found a number"),
        ({"role": "user", "content": "hi"}, "answer: found an object, expected a list of inputs"),
    ],
)
def test_what_is_no_conversation_is_refused(inputs: Any, said: str, winner: Run) -> None:
    with lr.open_system(winner) as system, pytest.raises(InputError, match=said):
        system.answer(inputs)


def test_a_system_takes_messages_as_endpoints_do_and_is_closed_by_its_with(winner: Run) -> None:
    text = rows()[0]["input"]
    turns = [{"role": "user", "content": text}]
    with lr.open_system(winner) as system:
        assert repr(system).startswith(f"<open system {system.system.name} on scripted:")
        assert system.answer([turns])[0].text == system.answer([text])[0].text == "".join(system.stream(turns))
        with pytest.raises(InputError, match='stream, key "\\[0\\]": found text, expected a turn'):
            list(system.stream([text]))  # type: ignore[list-item]
    assert repr(system).startswith("<closed system")
    for use in (lambda: system.answer([text]), lambda: list(system.stream(text))):
        with pytest.raises(InputError, match=r"the system was closed, expected an open one\. Open it"):
            use()


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return climbed(tmp_path_factory.mktemp("winner"))


def test_a_run_stands_for_its_folder(winner: Run) -> None:
    assert lr.open_run(winner) == winner
    with pytest.raises(InputError, match="the folder is not empty"):
        lr.climb(winner.task_file(), run=winner, progress=SilentProgress())
    assert lr.climb(winner.task_file(), run=winner, resume=True, progress=SilentProgress()) == winner


FUNCTIONS = [name for name in lr.__all__ if name not in ("Run", "__version__")]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_checks_what_it_is_given(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each argument in turn, the others being as they should be. Nothing is written."""
    monkeypatch.chdir(tmp_path)
    function = getattr(lr, name)
    taken = inspect.signature(function).parameters
    several = {one for one, what in taken.items() if what.kind == what.VAR_POSITIONAL}
    required = {
        one: "x" for one, what in taken.items() if what.default is what.empty and one not in {*several, "options"}
    }
    for argument in taken.keys() - several - {"options"}:
        with pytest.raises(InputError, match=rf"^{name}\({argument}=…\): found a value of type object, expected"):
            function(**required | {argument: object()})
    for argument in several:
        with pytest.raises(InputError, match=rf"^{name}\(\*{argument}\): found a value of type object, expected"):
            function(object(), **required)
    with pytest.raises(InputError, match=rf'^{name}\(…\): found the unknown argument "dry", expected'):
        function(**required, dry=True)
    assert not any(tmp_path.iterdir())


class Table:
    """As pandas and datasets have them."""

    def to_csv(self, path: str, *, index: bool = True) -> None:
        raise AssertionError("nothing is written")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda task: lr.climb({"task": "a"}),
            r"climb\(task=…\): found a mapping with task, expected .*Write it to a file",
        ),
        (
            lambda task: lr.train({"data": "a"}),
            r"train\(file=…\): found a mapping with data, expected .* such as train.yaml",
        ),
        (lambda task: lr.climb(), r"climb\(…\): missing a required argument: 'task'"),
        (
            lambda task: lr.climb(task, settings=["bar=0.3"]),
            'found a list of 1, expected a mapping whose keys are text or None. Write settings={"',
        ),
        (
            lambda task: lr.climb(task, gate=False),
            r'found false \(a truth value\), expected "quick", "full", "none" or None\.',
        ),
        (
            lambda task: lr.climb(task, progress=False),
            "expected a Progress or None. Pass lastresort.types.SilentProgress",
        ),
        (
            lambda task: lr.climb(task, progress=SilentProgress),
            "found the class SilentProgress, expected a Progress or None",
        ),
        (lambda task: lr.climb(task, stop=True), "expected a Stop or None. Pass a lastresort.stop.StopSignal"),
        (lambda task: lr.gate(from_logs="logs"), r'found text \("logs"\), expected a tuple of 2 or None'),
        (lambda task: lr.gate(margin="mmlu=1"), r'expected a list of text. Write margin=\["mmlu=1"\]'),
        (
            lambda task: lr.plan("llama-3-8b", rows="10k"),
            r'plan\(rows=…\): found text \("10k"\), expected a whole number',
        ),
        (
            lambda task: lr.plan("llama-3-8b", methd="lora"),
            'unknown argument "methd", expected method. Write "method".',
        ),
        (lambda task: lr.climb(task, dry_run=True), r"Call lr\.forecast with the other arguments\."),
        (
            lambda task: lr.init(Table()),
            r'found a value of type Table, expected .*Write it with to_csv\("rows.csv", .*name that',
        ),
        (lambda task: lr.climb(Table()), r"with to_csv\(.*\), and draft a task of that file with lr\.init\."),
        (lambda task: lr.train(Table()), r"expected text or a path\. Pass one of them\."),
        (lambda task: lr.check_data(task, show=True), "found true .*expected a whole number"),
    ],
)
def test_another_type_is_named_and_leaves_no_run(
    call: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        call(scripted_task(tmp_path / "task", quality=[{"right": 0.97}]))
    assert [path.name for path in tmp_path.iterdir()] == ["task"]


def test_resuming_checks_what_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^resume\(gate=…\): found true \(a truth value\), expected"):
        Run(tmp_path).resume(gate=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r'^resume\(…\): found the unknown argument "run"'):
        Run(tmp_path).resume(run=tmp_path)  # type: ignore[call-arg]


def test_values_of_numpy_are_those_of_python(tmp_path: Path) -> None:
    path = scripted_task(tmp_path, quality=[{"right": 0.97}])
    given = {
        "split.seed": numpy.int64(3),
        "bar": numpy.float32(0.5),
        "facts.reward": numpy.bool_(True),
        "ladder": numpy.array(["prompting"]),
    }
    task = lr.load_task(path, given)
    assert task.facts is not None
    assert (task.split.seed, task.bar, task.facts.reward, list(task.ladder)) == (3, 0.5, True, ["prompting"])
    with pytest.raises(TaskError, match=r"found a number \(1\.5\)"):
        lr.load_task(path, {"bar": numpy.float64(1.5)})
    run = climbed(tmp_path, settings={"split.seed": numpy.int64(3)})
    assert settings_of(run.folder) == {"split.seed": 3}
    options = {"gpu": "rtx-4090", "method": "lora"}
    own = {"rows": numpy.array(50), "epochs": numpy.float32(1), "checkpointing": numpy.bool_(False)}
    plain = {"rows": 50, "epochs": 1.0, "checkpointing": False}
    assert lr.plan("llama-3-8b", **own, **options) == lr.plan("llama-3-8b", **plain, **options)
    long = numpy.longdouble(1)  # of which numpy itself makes no number of Python's
    for epochs in (long, numpy.array(long)):
        assert lr.plan("llama-3-8b", epochs=epochs, **options) == lr.plan("llama-3-8b", epochs=1.0, **options)
    assert lr.load_task(path, {"bar": numpy.longdouble(0.5)}).bar == 0.5
    held = numpy.array([numpy.int64(3), Path("a"), numpy.bool_(True)], dtype=object)
    assert [*map(type, plain_value(held))] == [int, str, bool]
    with pytest.raises(TaskError, match='key "bar"'):
        lr.load_task(path, {"bar": numpy.float64})
    for complex_number in (numpy.complex64(1), numpy.clongdouble(1)):
        with pytest.raises(InputError, match=r"plan\(epochs=…\): found a value of type c"):
            lr.plan("llama-3-8b", epochs=complex_number, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"study\(sizes=…\): found a value of type ndarray, expected text, a list"):
        lr.study(path, "crossover", sizes=numpy.array(20))  # type: ignore[arg-type]


def test_a_file_of_prices_is_named_by_text_or_a_path(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("rtx-4090: 7.0\n", encoding="utf-8")
    by_text, by_path = (lr.plan("llama-3-8b", gpu="rtx-4090", rows=50, prices=one) for one in (str(prices), prices))
    assert by_text == by_path != lr.plan("llama-3-8b", gpu="rtx-4090", rows=50)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_pickled_and_copied_by_its_name(name: str) -> None:
    function = getattr(lr, name)
    assert pickle.loads(pickle.dumps(function)) is copy.deepcopy(function) is function


def test_advice_is_pickled_and_copied() -> None:
    found = lr.advise(facts={"wrong": ["format", "style"], "n_train": 800})
    assert found.advice.applied
    assert found.advice.frameworks
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_folder_is_refused_with_the_task_file_in_it(tmp_path: Path) -> None:
    for name in ("axolotl.yml", "train.yaml", "task.yaml"):
        (tmp_path / name).write_text("a: 1\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r'Name the file: "[^"]*task.yaml"'):
        lr.load_task(tmp_path)
    (tmp_path / "task.yaml").unlink()
    with pytest.raises(TaskError, match=r"Name a task file, such as task\.yaml"):
        lr.load_task(tmp_path)
    with pytest.raises(TaskError, match=r'Name the file: "[^"]*train.yaml"'):
        lr.train(tmp_path, progress=SilentProgress())


def test_a_draft_speaks_of_its_data_before_its_task_file(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").touch()
    with pytest.raises(DataError, match=r"nope\.csv: no such file"):
        lr.init(tmp_path / "nope.csv", task_file=tmp_path / "task.yaml")


def test_a_run_and_a_check_are_shown_in_one_line(tmp_path: Path) -> None:
    run = climbed(tmp_path)
    assert repr(run) == f"<Run {run.folder}: {headline(run.view)}>"
    gone = replace(run, folder=tmp_path / "none")
    assert (repr(gone), gone._repr_html_()) == (f"<Run {tmp_path / 'none'}>", None)
    found = lr.check_data(run.task_file())
    assert f"report=<DataReport ok: {found.report.counts['train']} train, " in repr(found)
    assert len(repr(found)) < 200
    assert all(str(escape(line)) in found._repr_html_() for line in found.lines())


def test_what_functions_return_is_short_in_a_terminal_and_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = lr.load_task(scripted_task(tmp_path, quality=[{"right": 0.97}]))
    assert repr(task) == str(task)
    said = f"<Task routing: {tmp_path / 'task.yaml'}, model {task.model}, ladder prompting, sft, score choice, bar 0.8>"
    assert str(task) == said
    advice = lr.advise(facts={"wrong": ["format"]})
    assert repr(advice) == f"<Recommendation: {advice.answer}>"
    assert all(step.rung in advice._repr_html_() for step in advice.document.path)
    plan = lr.plan("llama-3-8b", gpu="rtx-4090")
    assert repr(plan) == f"<Plan: {plan.answer}>"
    lines = [f"{i},{'ab'[i % 2]}" for i in range(300)]
    (tmp_path / "rows.csv").write_text("\n".join(["body,team", *lines]), encoding="utf-8")
    drafted = lr.init("rows.csv", output="team", task_file="drafted.yaml")
    assert repr(drafted) == "<Drafted drafted.yaml: 300 rows, score choice, bar 85%>"
    assert str(escape(drafted.lines()[0])) in drafted._repr_html_()


def test_a_training_is_shown_as_its_command_prints_it(tmp_path: Path) -> None:
    training = lr.train(training_file(tmp_path, "sft"), settings={"max_steps": 1}, progress=SilentProgress())
    first, *others = training_lines(training.record, training.objective, training.output)
    assert repr(training) == f"<Training {training.saved}: {first}>"
    assert all(str(escape(line)) in training._repr_html_() for line in (first, *others))


def test_a_climb_is_forecast_as_its_dry_run_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the options of a climb that a forecast depends on."""
    monkeypatch.chdir(tmp_path)
    path = scripted_task(tmp_path, quality=[{"right": 0.97}])
    found = lr.forecast(path, until="prompting", settings={"bar": 0.7}, progress=SilentProgress())
    given = ["climb", str(path), "--dry-run", "--json", "--until", "prompting", "--set", "bar=0.7"]
    monkeypatch.setattr(sys, "argv", ["lastresort", *given])
    assert guarded(app) == 0
    assert json.loads(capsys.readouterr().out) == found.as_json()
    assert not Path("runs").exists()
    assert [rung.name for rung in found.rungs] == ["prompting"]
    assert repr(found).startswith("<DryRun routing: prompting")
    assert "A high estimate" in found._repr_html_()
    assert "--verbose" not in found._repr_html_()
    ours, climbs = (set(inspect.signature(one).parameters) for one in (lr.forecast, lr.climb))
    assert climbs - ours == {"more", "ray", "stop"}
    assert ours < climbs


@pytest.mark.parametrize(
    ("forecast", "does", "command", "options"),
    [
        (lr.forecast_study, lr.study, ["study", "min-data"], {"kind": "min-data", "sizes": [16, 40], "seeds": 2}),
        (lr.forecast_pairs, lr.make_pairs, ["data", "pairs"], {"model": "model", "n": 3, "rows": 5}),
        (lr.forecast_synth, lr.synth_data, ["data", "synth"], {"teacher": "model", "n": 4, "kinds": ["paraphrase"]}),
    ],
)
def test_what_others_would_take_is_forecast_as_their_dry_run_prints_it(
    forecast: Any,
    does: Any,
    command: list[str],
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tiny_task(tmp_path / "task", output={"choices": list(COLOURS)}, score="choice")
    monkeypatch.chdir(path.parent)
    before = sorted(path.parent.rglob("*"))
    found = forecast(path, **options, progress=SilentProgress())
    given = [
        word
        for name, value in options.items()
        if name != "kind"
        for word in (f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value))
    ]
    monkeypatch.setattr(sys, "argv", ["lastresort", *command, str(path), *given, "--dry-run"])
    assert guarded(app) == 0
    assert capsys.readouterr().out == "\n".join(found.lines()) + "\n"
    sys.argv.append("--json")
    assert guarded(app) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.as_dict()))
    assert sorted(path.parent.rglob("*")) == before
    ours, whole = (inspect.signature(one).parameters for one in (forecast, does))
    assert set(ours) < set(whole)
    assert [name for name, one in ours.items() if one.kind is not whole[name].kind] == []
    assert ours["settings"] == whole["settings"]


def test_a_decision_that_is_not_there_yet_is_not_asked_to_be_finished_by_two(tmp_path: Path) -> None:
    run = climbed(tmp_path)
    with Record.open(run.folder) as record:
        tested = record.last(RungTested)
        assert tested is not None
        record.append(tested)
    with pytest.raises(DataError, match="--resume"):
        run.decision  # noqa: B018
    with held(run.folder, "held", expected="", remedy=""):
        with pytest.raises(DataError, match=r"A process is climbing it now: `lastresort watch .*` shows how far it is"):
            run.decision  # noqa: B018
        assert "Not decided yet" in run._repr_html_()


def test_settings_override_a_file_and_nothing_else(tmp_path: Path) -> None:
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.97}])
    task = lr.load_task(str(path), {"bar": 0.5})
    assert task.bar == 0.5
    assert lr.check_data(task).as_dict() == lr.check_data(path, settings={"bar": 0.5}).as_dict()
    with pytest.raises(TaskError, match="settings bar for a task that is already loaded"):
        lr.check_data(task, settings={"bar": 0.6})


def test_what_is_refused_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.97}])
    for option, word, said in (("gate", "quik", "quick"), ("until", "ful", "ful"), ("compare", "lora", "at least two")):
        with pytest.raises(InputError, match=said):
            lr.climb(path, progress=SilentProgress(), **{option: word})
    assert not Path("runs").exists()


def test_advice_takes_facts_as_python_has_them() -> None:
    facts = {
        "wrong": numpy.array(["format", "style"]),
        "best_prompt_score": 0.8,
        "reward": True,
        "teacher": numpy.bool_(False),
    }
    typed = {"wrong": "format,style", "best_prompt_score": "0.8", "reward": "yes", "teacher": "no"}
    assert lr.advise(facts=facts).as_dict() == lr.advise(facts=typed).as_dict()
    with pytest.raises(InputError, match="--set without a task file"):
        lr.advise(settings={"bar": 0.9})


def test_a_gate_is_drawn_by_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path / "base", [1.0] * 200, task="mmlu")
    write_samples(tmp_path / "tuned", [1.0] * 120 + [0.0] * 80, task="mmlu")
    found = lr.gate(from_logs=("base", "tuned"), markdown="gate.md", out="found", progress=SilentProgress())
    assert (found.verdict, found.path) == ("REJECT", Path("found/gate.json"))
    assert Path("gate.md").is_file()
    names = [text.text for text in picture(found._repr_html_()).iter(f"{SVG}text") if text.get("class") == "name"]
    assert names == [suite.name for suite in found.document.suites]
    assert repr(found) == f"<GateResult found/gate.json: {finding(found.document)}>"
    (suite,) = found.document.suites
    long = suite.model_copy(update={"name": "lm_eval:mmlu_high_school_world_history"})
    drawn = picture(gate_html(found.document.model_copy(update={"suites": (long,)})))
    strip = next(one for one in drawn.findall(f"{SVG}svg") if one.find(f"{SVG}svg") is not None)
    assert float(strip.get("x", 0)) > LETTER * len(long.name)
    assert AXIS in [text.text for text in drawn.iter(f"{SVG}text")]
    assert "<img" not in gate_html(found.document.model_copy(update={"suites": ()}))


def test_a_model_may_be_named_by_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(built_in, "SUITES", SUITES)
    path = gated_task(tmp_path)
    tuned, base = (Path(f"scripted:{tmp_path}/{name}.json") for name in ("tuned", "script"))
    found = lr.gate(path, tuned, base=base, quick=True, progress=SilentProgress())
    assert found.verdict == "SHIP"
    assert found.document.tuned.name == str(tuned)
    model = save_tiny_model(tmp_path / "model")
    assert lr.plan(model, gpu="rtx-4090").document.model.name == "model"


CODE = """
import sys
import lastresort as lr
light = [name for name in ("torch", "transformers", "scipy", "pandas", "pydantic", "rich") if name in sys.modules]
lr.plan("llama-3-8b", gpu="rtx-4090")._repr_html_()
lr.advise(facts={"wrong": "format"})
heavy = [name for name in ("torch", "transformers", "scipy", "pandas") if name in sys.modules]
import lastresort.climb.decide as decide
import lastresort.train.loop.launch
import lastresort.study.grid
import lastresort.gate.verdict
print(light, heavy, *map(callable, (lr.climb, lr.gate, lr.train, lr.study)), decide.__name__)
"""


def test_importing_loads_nothing_heavy_and_the_folders_keep_their_modules() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == "[] [] True True True True lastresort.climb.decide".split()


@pytest.mark.slow
def test_a_climb_and_a_gate_load_torch_only_when_they_compute() -> None:
    code = """
import sys
import lastresort.app.climb, lastresort.app.gate, lastresort.gate.command, lastresort.gate.from_logs
print([name for name in ("torch", "transformers", "scipy", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "first", "sentence"),
    [
        (lr.climb, "task", "Climb the ladder of a task"),
        (lr.gate, "task", "Compare a tuned model with its base"),
        (lr.train, "file", "Train from a training file"),
        (lr.study, "task", "Study how many examples a training needs"),
        (lr.verify, "run", "Check whether a running OpenAI-compatible server"),
        (lr.handoff, "run", "Write what another server needs"),
    ],
)
def test_a_command_says_what_it_does_and_takes(command: Any, first: str, sentence: str) -> None:
    assert next(iter(inspect.signature(command).parameters)) == first
    assert command.__doc__.startswith(sentence)
    assert f"\n{command.__name__}(" in pydoc.plain(pydoc.render_doc(command))


def test_a_thread_that_is_not_the_main_one_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt_on_sigterm).result()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_process_keeps_what_its_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    set_environment()
    assert {name: os.environ[name] for name in SETTINGS} == {**SETTINGS, "GOMP_SPINCOUNT": "7"}
