"""Do synthetic rows help: what each of the three trainings learns and for how long, and what a study of them says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from document_schemas import schema_of
from lastresort.app import synth
from lastresort.app.ablation import planned_ablation
from lastresort.app.study import Study, StudyRequest, forecast_study, run_study
from lastresort.app.synth import SynthRequest, synth_data
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb.prepare import prepare
from lastresort.errors import (
    BudgetError,
    DataError,
    InputError,
    LastresortError,
    PrerequisiteError,
    StopRequestedError,
    TaskError,
)
from lastresort.evals.measure import LocalExecutor, MeasureJob, Result
from lastresort.models.protocol import Model
from lastresort.records.atomic import held
from lastresort.records.events.run import BudgetSpent
from lastresort.records.record import Record
from lastresort.report.study import SIGNS, StudyDocument, SyntheticDocument
from lastresort.report.study_page import shown, study_page, study_text
from lastresort.rungs.supervised import training
from lastresort.scale.cluster import Connect, one_cluster
from lastresort.spec.task import load_task
from lastresort.stop import GoOn, Stop
from lastresort.study.compare import orpo_vs_dpo_of
from lastresort.study.effect import compare_in_order, synthetic_of
from lastresort.study.grid import SOURCES, Cell, sources_grid
from lastresort.study.run import PlannedStudy, forecast
from lastresort.study.synthetic import SourceLearner, passes_of, steps_of
from lastresort.types import Progress, SilentProgress
from study_support import arms_study_of, sources_study_of, task_of
from synth_support import Teacher
from tuning_support import COLOURS, THINGS, Cut, CutAt, questions, tiny_task, write_jsonl

FREE = ("seconds", "answer_s")  # what two runs do not share
SPLIT = {"dev": 6, "test": 30}
EPOCHS, BATCH = 2, 20


def made(n: int = 30) -> list[dict[str, str]]:
    """Synthetic rows that resemble nothing in `questions`."""
    return [
        {"input": f"please say which paint suits a wooden {THINGS[i % 24]} of {i} years", "output": COLOURS[i % 3]}
        for i in range(n)
    ]


def request(folder: Path, rows: list[dict[str, str]] | None = None, seeds: int | None = 3, **keys: Any) -> StudyRequest:
    """rows: of the synthetic file."""
    keys = {
        "examples": {"train": "rows.jsonl", "synthetic": "made.jsonl"},
        "split": SPLIT,
        "sft": {"learning_rates": [0.003], "epochs": EPOCHS, "batch_size": BATCH, "r": 4, "replay": 0.0},
        **keys,
    }
    path = tiny_task(folder / "task", **keys)
    write_jsonl(path.parent / "made.jsonl", made() if rows is None else rows)
    return StudyRequest("synthetic", path, seeds=seeds, out=folder / "own")


def rows_of_study(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "own" / "rows.jsonl").read_text("utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in FREE} for line in lines]


@pytest.fixture(autouse=True)
def few_unrelated_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)


@dataclass(slots=True)
class Whole:
    """learned: the texts of the rows of each training, in the order of the cells. stops: the steps at which it was measured on dev.
    measured: ids of all that was answered.
    """

    folder: Path
    document: SyntheticDocument
    learned: list[tuple[str, ...]] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    measured: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Among the synthetic rows somebody wrote two of dev and one of test, one of them nearly."""
    folder = tmp_path_factory.mktemp("whole")
    split = prepare(load_task(Path(str(request(folder).task)))).split
    first, second, third = split.dev[0], split.dev[1], split.test[0]
    near = f"please, {second.input_text}"
    leaking = [{"input": text, "output": "red"} for text in (first.input_text, near, third.input_text)]
    own = request(folder, [*made(), *leaking])
    learned, stops, measured = list[tuple[str, ...]](), list[int](), set[str]()
    run, to_end = LocalExecutor.run, training.train_to

    def measure(
        self: LocalExecutor, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop
    ) -> None:
        measured.update(example.id for job in jobs for example in job.examples)
        run(self, jobs, on_result, stop)

    def learn(bench: Any, own: Any, model: Any, source: Any, until: int, **keywords: Any) -> Any:
        learned.append(tuple(sorted(example.input_text for example in bench.train)))
        assert len(source) == len(bench.train)
        stops.append(until)
        return to_end(bench, own, model, source, until, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "run", measure)
        patch.setattr(training, "train_to", learn)
        patch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)
        document = run_study(own, SilentProgress()).document
        assert isinstance(document, SyntheticDocument)
        yield Whole(folder, document, learned, stops, measured)


@pytest.mark.slow
def test_each_learns_its_rows_and_none_that_give_dev_or_test_away(whole: Whole) -> None:
    """Each training is two calls: to half of the steps or the end of its own epochs, and to the end."""
    split = prepare(load_task(whole.folder / "task" / "task.yaml")).split
    real = tuple(sorted(row.input_text for row in split.train if not row.synthetic))
    synthetic = tuple(sorted(row["input"] for row in made()))
    assert len(real) == 84
    expected = [real, synthetic, tuple(sorted((*real, *synthetic)))]
    assert whole.learned[::2] == whole.learned[1::2] == 3 * expected
    assert whole.document.left_out == 3
    assert "3 training rows were also in dev or test and left out of training." in whole.document.notes


@pytest.mark.slow
def test_only_real_dev_items_are_measured(whole: Whole) -> None:
    split = prepare(load_task(whole.folder / "task" / "task.yaml")).split
    assert whole.measured == {example.id for example in split.dev}
    assert not any(example.synthetic for example in split.dev)
    assert whole.document.measured_on.n == len(split.dev) == 6


@pytest.mark.slow
def test_all_three_take_the_steps_of_both(whole: Whole) -> None:
    """114 rows in batches of 20 are 6 steps an epoch, 84 are 5 and 30 are 2."""
    base, real, synthetic, both = whole.document.points
    assert base.training is None
    trained = [one.training for one in (real, synthetic, both)]
    assert [one.steps for one in trained if one] == [12, 12, 12]
    assert [one.steps_in_epochs for one in trained if one] == [10, 4, 12]
    assert [one.passes for one in trained if one] == [12 / 5, 6.0, 2.0]
    assert whole.stops == 3 * [6, 12, 4, 12, 6, 12]
    kept = rows_of_study(whole.folder)
    assert [row["way"] for row in kept] == ["zero-shot", *(["real", "synthetic", "both"] * 3)]
    assert all(row["trained"]["steps"] == 12 for row in kept[1:])
    assert kept[3]["scores"] != kept[6]["scores"] or kept[3]["trained"] != kept[6]["trained"]


@pytest.mark.release
def test_a_study_that_is_cut_goes_on_to_the_same_rows(whole: Whole, tmp_path: Path) -> None:
    own = request(tmp_path)
    made_file = whole.folder / "task" / "made.jsonl"
    (tmp_path / "task" / "made.jsonl").write_bytes(made_file.read_bytes())
    for label, after in (("sft, learning rate", 3), ("synthetic rows, seed 0: dev", 1)):
        with pytest.raises(Cut):
            run_study(own, CutAt(label, after))
    with pytest.raises(Cut):
        run_study(own, CutAt("real rows, seed 1: dev", 1))
    assert rows_of_study(tmp_path) == rows_of_study(whole.folder)[:4]


@pytest.mark.slow
def test_rows_that_are_edited_are_other_cells_and_are_checked_again(tmp_path: Path) -> None:
    own = request(tmp_path)
    with pytest.raises(Cut):
        run_study(own, CutAt("sft: loading", 1))
    held = prepare(load_task(Path(str(own.task)))).split.dev[0].input_text
    write_jsonl(tmp_path / "task" / "made.jsonl", [*made(29), {"input": held, "output": "red"}])
    with pytest.raises(Cut):
        run_study(own, progress := CutAt("sft: loading", 1))
    assert any("The study has 10 cells. Forecast" in said for said in progress.said)
    only = request(tmp_path, [{"input": held, "output": "red"}])
    with pytest.raises(TaskError, match=r'"examples.synthetic": found no synthetic rows to train on'):
        run_study(only, SilentProgress())


def test_steps_count_replay_and_the_last_batch(tmp_path: Path) -> None:
    """40 rows and a replay share of a fifth are 50 rows: 4 batches of 16."""
    task = task_of(tmp_path, sft={"epochs": 3, "batch_size": 16, "replay": 0.2})
    assert steps_of(task, 40) == 12
    assert passes_of(task, 40, 6) == 1.5


def test_a_forecast_counts_the_steps_of_both(tmp_path: Path) -> None:
    """84 rows seen 2.4 times, 30 seen 6 times, 114 seen twice."""
    prepared = prepare(load_task(Path(str(request(tmp_path).task))))
    grid = sources_grid(114, 3)
    study = PlannedStudy(prepared, grid, SourceLearner(prepared.task, 0.003))
    tokens = []
    for way in SOURCES:
        found, _ = forecast(study, [Cell(way, 114, 0)], SilentProgress())
        assert found is not None
        tokens.append(found.training_tokens)
    assert [one / tokens[2] for one in tokens] == pytest.approx([84 * 2.4 / 228, 30 * 6 / 228, 1], rel=0.05)


def test_the_second_comparison_is_tested_only_after_the_first_shows_something() -> None:
    dice = np.random.default_rng(0)
    real, low = (np.full((5, 60), level) + 0.01 * dice.standard_normal((5, 60)) for level in (0.5, 0.2))
    both, synthetic = compare_in_order(real, [real, low])
    assert (both.effect, both.tested) == ("CANNOT_TELL", True)
    assert (synthetic.effect, synthetic.tested) == ("CANNOT_TELL", False)
    assert synthetic.interval[1] < 0
    both, synthetic = compare_in_order(real, [real + 0.3, low])
    assert (both.effect, synthetic.effect) == ("BETTER", "WORSE")
    both, synthetic = compare_in_order(real, [low, real + 0.3])
    assert (both.effect, synthetic.effect) == ("WORSE", "BETTER")


def test_the_answer_says_that_they_help_or_harm_or_that_neither_is_shown(tmp_path: Path) -> None:
    task = task_of(tmp_path)

    def found(real: float, synthetic: float, both: float, **facts: Any) -> SyntheticDocument:
        return synthetic_of(sources_study_of(task, real, synthetic, both, **facts))

    help_ = found(0.4, 0.1, 0.8)
    Draft202012Validator(schema_of("synthetic")).validate(help_.as_json())
    assert help_.effect == "BETTER"
    both, synthetic = help_.differences
    low, high = both.interval
    points = f"{100 * both.mean:.1f}".removesuffix(".0")
    assert help_.answer == (
        f"Real and synthetic rows together are better than real rows alone by {points} points "
        f"(95%: {100 * low:.1f} to {100 * high:.1f})."
    )
    assert synthetic.effect == "WORSE"
    assert "Synthetic rows alone are worse than real rows alone by " in " ".join(help_.reasons)
    harm = found(0.8, 0.1, 0.4)
    assert harm.effect == "WORSE"
    assert harm.answer.startswith("Real and synthetic rows together are worse than real rows alone by ")
    neither = found(0.5, 0.1, 0.5)
    assert neither.effect == "CANNOT_TELL"
    assert neither.answer.startswith("It is not shown that the synthetic rows help or harm: ")
    assert neither.differences[1].effect == "CANNOT_TELL"
    assert "it is not tested" in " ".join(neither.reasons)
    assert sum(one.difference for one in help_.by_seed) / 5 == pytest.approx(both.mean)


def test_a_gain_over_real_rows_that_overfit_says_so(tmp_path: Path) -> None:
    """The dev loss of real rows alone rose in the second half of as many steps."""
    task = task_of(tmp_path)
    rose = synthetic_of(sources_study_of(task, 0.4, 0.1, 0.8, half_way_loss=0.4))
    assert "the model trained on real rows alone overfits (its dev loss rose)" in rose.answer
    row = dict(zip(shown(rose).header, shown(rose).rows[1], strict=True))
    assert (row["trained on"], row[""]) == ("real", "dev loss rose")


def test_notes_say_how_many_rows_each_learned_from_and_how_many_were_too_long(tmp_path: Path) -> None:
    study = sources_study_of(task_of(tmp_path), 0.4, 0.1, 0.8)
    document = synthetic_of(replace(study, measured=replace(study.measured, too_long=2)))
    assert "2 training rows exceeded the context and were left out." in document.notes
    (steps,) = (note for note in document.notes if note.startswith("All three train"))
    seen = [one.training.passes * one.rows for one in document.points if one.training]
    real, synthetic, both = (f"{round(one):,}" for one in seen)
    assert f"Rows learned from in all steps: {real} (real), {synthetic} (synthetic) and {both} (both)." in steps


def test_the_table_and_the_page_show_all_three_and_the_base(tmp_path: Path) -> None:
    document = synthetic_of(sources_study_of(task_of(tmp_path), 0.4, 0.1, 0.8)).replaced(task="<b>&")
    found = shown(document)
    base, real, synthetic, both = (dict(zip(found.header, row, strict=True)) for row in found.rows)
    assert [one["trained on"] for one in (base, real, synthetic, both)] == ["base prompt", "real", "synthetic", "both"]
    assert [one["rows"] for one in (base, real, synthetic, both)] == ["0", "60", "30", "90"]
    assert both["minus real"].startswith("+")
    assert synthetic["minus real"].startswith("−")
    assert base["minus real"] == real["minus real"] == base["steps"] == ""
    page = study_page(document)
    assert "<b>&<" not in page
    assert document.answer in page
    assert str(found.pictures[0].svg).count("<circle") == 3 * 5 + 1


def printed_at_80(document: StudyDocument) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(study_text(document))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_no_digit_and_no_sign_is_cut_at_80_columns(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    document = synthetic_of(sources_study_of(task, 0.4, 0.1, 1.0))
    signs = ("DEV_LOSS_ROSE", "FORMAT_LEAK", "FAR_FROM_BASE")
    points = tuple(one.replaced(rows=12_345, interval=(0.112, 1.0), kept=1.0, signs=signs) for one in document.points)
    arms = orpo_vs_dpo_of(arms_study_of(task, 0.4, 0.6))
    own = tuple(one.replaced(interval=(0.112, 1.0), kept=1.0, kl=12.5, signs=signs) for one in arms.points)
    for study in (document.replaced(points=points), arms.replaced(points=own)):
        text, found = printed_at_80(study), shown(study)
        table = text[: text.index("On the page alone")]
        assert "…" not in text
        for row in found.rows:
            for name, cell in zip(found.header, row, strict=True):
                assert name in found.page_only or not name or cell in table, (name, cell)
        assert all(word in table for sign in SIGNS.values() for word in sign.split())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"examples": "rows.jsonl"},
            r'task.yaml, key "examples.synthetic": found no synthetic rows to train on, expected',
        ),
        ({"model": "http://127.0.0.1:9/v1#m"}, "a study trains"),
    ],
)
def test_a_task_without_synthetic_rows_or_weights_is_refused_before_anything_is_written(
    keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    own = request(tmp_path, **keys)
    for study in (run_study, forecast_study):
        with pytest.raises(TaskError, match=said):
            study(own, SilentProgress())
    assert not (tmp_path / "own").exists()


def test_a_task_of_synthetic_rows_alone_is_refused(tmp_path: Path) -> None:
    files = {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}
    own = request(tmp_path, examples=files, split={})
    folder = tmp_path / "task"
    write_jsonl(folder / "train.jsonl", [{**row, "synthetic": True} for row in made()])
    write_jsonl(folder / "dev.jsonl", questions()[:20])
    write_jsonl(folder / "test.jsonl", questions()[20:60])
    with pytest.raises(TaskError, match="found no real rows to train on, expected real rows that fit the model"):
        forecast_study(own, SilentProgress())
    write_jsonl(folder / "dev.jsonl", [*questions()[:20], {**made(31)[30], "synthetic": True}])
    with pytest.raises(DataError, match=r'dev.jsonl, row 21, key "synthetic": found a synthetic row'):
        forecast_study(own, SilentProgress())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 2}, "--seeds: found 2, expected at least 3"),
        ({"sizes": (20, 40)}, "--sizes: found 20, 40, expected none"),
        ({"dpo_rate": 0.1}, "--dpo-rate: found 0.1, expected none"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        forecast_study(replace(request(tmp_path), **options), SilentProgress())


def test_a_training_that_diverges_names_the_rate_and_no_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.SupervisedTraining, "to_stop", lambda *_: float("inf"))
    with pytest.raises(DataError, match=r"real rows, seed 0: .*Name a lower rate with --set") as caught:
        run_study(request(tmp_path), SilentProgress())
    assert "--sizes" not in str(caught.value)


@pytest.mark.slow
def test_the_command_forecasts_and_prints_one_document(
    whole: Whole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["study", "synthetic", str(whole.folder / "task" / "task.yaml"), "--out", str(whole.folder / "own")]

    def run(*more: str) -> str:
        monkeypatch.setattr("sys.argv", ["lastresort", *words, *more])
        assert guarded(app) == 0
        return capsys.readouterr().out

    said = run("--dry-run")
    assert "The study has 16 cells. Forecast: " in said
    assert (
        "It measures real rows alone, synthetic rows alone and real and synthetic rows together, with 5 seeds" in said
    )
    document = json.loads(run("--seeds", "3", "--json"))
    assert document == whole.document.as_json()
    assert document == json.loads((whole.folder / "own" / "study.json").read_text("utf-8"))


def proposing(texts: Sequence[str]) -> Teacher:
    """Three of these rows a reply."""
    waiting = iter(texts)

    def write(*_: object) -> str:
        return json.dumps({"rows": [{"input": next(waiting), "output": "red"} for _ in range(3)]})

    return Teacher(write, answer=lambda _: "red")


@pytest.fixture
def made_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SynthRequest:
    """A request for six rows, of a task that names no synthetic file."""
    own = request(tmp_path, examples="rows.jsonl", output={"choices": list(COLOURS)}, score="choice")
    texts = [f"{a}{b} {b}{c}" for a, b, c in zip("qwxz" * 6, "vkjqpy" * 4, "zxkwvfgh" * 3, strict=True)]
    teacher = proposing(texts)
    monkeypatch.setattr("lastresort.app.synth._opened", lambda *_: nullcontext(teacher))
    monkeypatch.chdir(tmp_path)
    path = Path(str(own.task))
    return SynthRequest(path, n=6, kinds=("expansion",), balance="any", agreement=0, runs=tmp_path / "runs")


def ablate(
    made_rows: SynthRequest, progress: Progress, go_on: GoOn | None = None, connect: Connect | None = None
) -> Study:
    ablation = planned_ablation(made_rows, 3, progress, go_on=go_on, connect=connect)
    return ablation.studied(synth_data(made_rows, progress, connect=connect), progress)


@pytest.mark.slow
def test_rows_are_made_and_then_studied_as_if_the_task_named_them(tmp_path: Path, made_rows: SynthRequest) -> None:
    """Cut after the first cell, which the study by itself finds done. A further call makes no row again."""
    for _ in range(2):
        with pytest.raises(Cut):
            ablate(made_rows, progress := CutAt("sft: loading", 1))
    assert len((tmp_path / "task" / "tiny-synthetic.jsonl").read_text("utf-8").splitlines()) == 6
    assert any("The study has 10 cells, 1 of them done" in said for said in progress.said)
    named = {"examples": {"train": "rows.jsonl", "synthetic": "tiny-synthetic.jsonl"}}
    with pytest.raises(Cut):
        run_study(StudyRequest("synthetic", made_rows.task, named, seeds=3), progress := CutAt("sft: loading", 1))
    assert any("The study has 10 cells, 1 of them done" in said for said in progress.said)


@pytest.mark.parametrize(
    ("teacher", "expected", "before"),
    [
        (None, ["local"] * 3, ["local starts", "rows"]),
        ("openai:teacher", ["local"] * 2, ["local starts", "it ends", "rows", "local starts"]),
    ],
)
def test_workers_of_one_cluster_answer_for_the_rows_and_for_their_study(
    teacher: str | None,
    expected: list[str],
    before: list[str],
    made_rows: SynthRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The study connects first to see that it can use it; while an endpoint writes the rows, nobody is connected."""
    asked, events, teacher_of = list[str](), list[str](), synth._opened

    @contextmanager
    def started(address: str) -> Iterator[object]:
        events.append(f"{address} starts")
        yield address
        events.append("it ends")

    def crew(address: str, *_: object, connect: Connect, **__: object) -> AbstractContextManager[None]:
        return study(address, connect)

    @contextmanager
    def study(address: str, *given: Any) -> Iterator[None]:
        with (given[-1] or started)(address):
            asked.append(address)
            yield

    def opened(*given: Any) -> AbstractContextManager[Model]:
        events.append("rows")
        return teacher_of(*given)

    monkeypatch.setattr("lastresort.scale.cluster.ray_cluster", started)
    monkeypatch.setattr(synth, "_opened", opened)
    monkeypatch.setattr("lastresort.app.spread.crew_on_ray", crew)
    monkeypatch.setattr("lastresort.app.spread.study_on_ray", study)
    with one_cluster() as connect:
        with pytest.raises(Cut):
            ablate(replace(made_rows, teacher=teacher, ray="local"), CutAt("sft: loading", 1), connect=connect)
        assert asked == expected
        assert events == before
    assert events == [*before, "it ends"]


def test_a_cluster_that_the_study_cannot_use_is_refused_before_a_row_is_paid(
    made_rows: SynthRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an endpoint writes the rows, for which no worker is needed."""

    def refuse(_: str) -> AbstractContextManager[None]:
        raise PrerequisiteError("found no cluster", where="--ray auto", remedy="Start one.")

    monkeypatch.setattr("lastresort.app.spread.ray_cluster", refuse)
    with pytest.raises(PrerequisiteError, match="found no cluster"):
        planned_ablation(replace(made_rows, ray="auto"), 3, SilentProgress())


@pytest.mark.parametrize("named", ["alias/tiny-synthetic.jsonl", "task/../task/tiny-synthetic.jsonl"])
def test_rows_that_the_task_names_by_another_path_count_once(
    named: str, tmp_path: Path, made_rows: SynthRequest
) -> None:
    synth_data(made_rows, SilentProgress())
    (tmp_path / "alias").symlink_to(tmp_path / "task")
    settings = {**made_rows.settings, "examples": {"train": "rows.jsonl", "synthetic": "tiny-synthetic.jsonl"}}
    found = synth_data(replace(made_rows, settings=settings, out=tmp_path / named), SilentProgress())
    task = load_task(Path(str(made_rows.task)), settings)
    assert found.sources.with_synthetic(found.path).synthetic == task.examples.synthetic
    assert "synthetic: tiny-synthetic.jsonl}" in "\n".join(found.lines())


def used_up(folder: Path) -> None:
    with Record.create(folder) as record:
        record.append(BudgetSpent(seconds=7200.0, usd=0.0))


@pytest.mark.parametrize(
    ("settings", "before", "said"),
    [
        ({"split": {"dev": 5, "test": 30}}, None, r'"split.dev".*: found 5 dev items, expected at least 6 items'),
        ({"model": "http://127.0.0.1:9/v1#m"}, None, "a study trains"),
        ({"model": "nowhere"}, None, "nowhere"),
        ({"tune": {"model": "nowhere"}}, None, "nowhere"),
        ({}, lambda folder: folder.parent.write_text("x"), "studies"),
        ({"limits": {"hours": 1}}, used_up, "limits.hours: the time limit of 1 hours is reached"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_a_row_is_made(
    settings: dict[str, Any],
    before: Callable[[Path], None] | None,
    said: str,
    tmp_path: Path,
    made_rows: SynthRequest,
) -> None:
    folder = tmp_path / "studies" / "tiny-synthetic"
    if before is used_up:
        folder.parent.mkdir()
    if before is not None:
        before(folder)
    with pytest.raises(LastresortError, match=said):
        ablate(replace(made_rows, settings=settings), SilentProgress())
    assert not (tmp_path / "task" / "tiny-synthetic.jsonl").exists()


def test_items_too_long_and_a_folder_that_is_held_are_refused_before_a_row_is_made(
    tmp_path: Path, made_rows: SynthRequest
) -> None:
    with pytest.raises(InputError, match="--seeds: found 2, expected at least 3"):
        planned_ablation(made_rows, 2, SilentProgress())
    folder = tmp_path / "studies" / "tiny-synthetic"
    folder.mkdir(parents=True)
    with (
        held(folder, "busy", expected="", remedy=""),
        pytest.raises(InputError, match="another process is at work in this folder"),
    ):
        ablate(made_rows, SilentProgress())
    files = {"train": "rows.jsonl", "dev": "dev.jsonl"}
    write_jsonl(tmp_path / "task" / "dev.jsonl", [*made(10), {"input": "why " * 3000, "output": "red"}])
    with pytest.raises(DataError, match=r"dev.jsonl, row 11"):
        ablate(replace(made_rows, settings={"examples": files, "split": {"test": 30}}), SilentProgress())
    assert not (tmp_path / "task" / "tiny-synthetic.jsonl").exists()


def judged(usd: float | None = None) -> dict[str, Any]:
    judge = {"model": "http://127.0.0.1:9/v1#judge", "prompt_price": 1.0, "output_price": 2.0}
    limits = {} if usd is None else {"limits": {"usd": usd}}
    return {"score": {"judge": {**judge, "rubric": "Is it a colour?"}}, **limits}


def test_a_paid_judge_is_asked_about_before_a_row_is_made(tmp_path: Path, made_rows: SynthRequest) -> None:
    """Of 10 cells on 6 dev items."""
    asked: list[str] = []
    with pytest.raises(StopRequestedError, match="nobody agreed to the paid calls of the judge"):
        ablate(
            replace(made_rows, settings=judged()), SilentProgress(), lambda question, _: bool(asked.append(question))
        )
    assert len(asked) == 1
    assert "127.0.0.1:9/v1#judge judge up to 60 answers, for " in asked[0]
    assert not (tmp_path / "task" / "tiny-synthetic.jsonl").exists()


@pytest.mark.parametrize(("usd", "limit"), [(None, "limits.usd"), (2.0, "--usd")])
def test_the_study_gets_what_the_rows_left_of_the_money(
    usd: float | None, limit: str, made_rows: SynthRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, limits = replace(made_rows, settings=judged(2.0), usd=usd), list[float | None]()
    ablation = planned_ablation(request, 3, SilentProgress())
    made = replace(synth_data(made_rows, SilentProgress()))
    monkeypatch.setattr("lastresort.app.ablation.run_study", lambda study, *_: limits.append(study.task.limits.usd))
    ablation.studied(replace(made, tally=replace(made.tally, usd=0.5)), SilentProgress())
    assert limits == [1.5]
    with pytest.raises(BudgetError, match=f"{limit}: 2.00 USD are spent on rows"):
        ablation.studied(replace(made, tally=replace(made.tally, usd=2.0)), SilentProgress())


def test_rows_of_another_name_have_a_study_of_their_own(tmp_path: Path, made_rows: SynthRequest) -> None:
    folders = [
        planned_ablation(replace(made_rows, out=out), 3, SilentProgress()).folder
        for out in (None, tmp_path / "task" / "half.jsonl")
    ]
    assert folders == [Path("studies/tiny-synthetic"), Path("studies/tiny-synthetic-half")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seeds", "3"), "--seeds: found 3, expected --ablate beside it"),
        (("--ablate", "--dry-run"), "found --ablate and --dry-run, expected one of them"),
    ],
)
def test_options_of_the_command_that_contradict_each_other(
    options: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = str(request(tmp_path).task)
    monkeypatch.setattr("sys.argv", ["lastresort", "data", "synth", task, *options])
    assert guarded(app) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


class Ablated:
    """A study that ends with what `study` gives or raises."""

    def __init__(self, study: Callable[[], Study]) -> None:
        self.study = study

    def studied(self, *_: object) -> Study:
        return self.study()


def test_the_command_prints_rows_before_the_study_and_as_json_the_study_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(ended="rows", lines=lambda: ["6 synthetic rows"], as_dict=dict)
    document = synthetic_of(sources_study_of(task_of(tmp_path / "other"), 0.4, 0.1, 0.8))
    study, task = Study(document, tmp_path / "own", ()), str(request(tmp_path).task)
    monkeypatch.setattr("lastresort.app.synth.synth_data", lambda *_: made)

    def refused() -> Study:
        raise InputError("found a fault", expected="none", remedy="Mend it.")

    def run(ends: Callable[[], Study], code: int, *more: str) -> tuple[str, str]:
        monkeypatch.setattr("lastresort.app.ablation.planned_ablation", lambda *_: Ablated(ends))
        monkeypatch.setattr("sys.argv", ["lastresort", "data", "synth", task, "--ablate", "--seeds", "3", *more])
        assert guarded(app) == code
        said = capsys.readouterr()
        return said.out, said.err

    out, err = run(lambda: study, 0, "--json")
    assert json.loads(out) == document.as_json()
    assert "6 synthetic rows" in err
    said = " ".join(run(lambda: study, 0)[0].split())
    assert said.startswith("6 synthetic rows ")
    assert document.answer in said
    assert run(refused, 2)[0] == "6 synthetic rows\n"
    assert "6 synthetic rows" in run(refused, 2, "--json")[1]
    made.ended = "calls"
    assert "Nothing was trained" in run(refused, 4)[1]
