"""Studies: the grid and its subsets, what is kept of a cell, and what the rows say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from shlex import quote
from types import SimpleNamespace
from typing import Any, Literal, cast
from xml.etree import ElementTree

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from document_schemas import schema_of
from lastresort.app.study import StudyRequest, forecast_study, run_study
from lastresort.app.study_folder import study_in
from lastresort.climb.prepare import prepare
from lastresort.climb.workload import workload
from lastresort.data.split import nested
from lastresort.errors import DataError, InputError, TaskError
from lastresort.gate.suites.suite import SuiteItem
from lastresort.records.document import Statement
from lastresort.records.events.run import FilesRead, TaskRead
from lastresort.records.events.search import PromptOptimised, RungSearched
from lastresort.records.record import Record
from lastresort.records.rungs import GepaMissing
from lastresort.report.study import CrossoverDocument, StudyDocument
from lastresort.report.study_page import shown, standing_alone, study_page
from lastresort.report.words import study as words
from lastresort.rungs.forecast import Machine, Rates
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.sft import SftRung
from lastresort.spec.task import Task, load_task
from lastresort.stop import NEVER
from lastresort.study import cells, run
from lastresort.study.call_costs import TimedCalls, TokenPrice, TokenSeconds, bounds_of, priced_ways, read_tokens
from lastresort.study.cells import SftLearner, kept_requests
from lastresort.study.conclude import crossover_of, min_data_of
from lastresort.study.grid import (
    Cell,
    OptimisedInstruction,
    crossover_grid,
    min_data_grid,
    of_different_rows,
    spread_sizes,
)
from lastresort.study.kinds import MUST_AGREE
from lastresort.study.rows import CellRow, CellTraining, add_row, rows_in
from lastresort.study.run import PlannedStudy, forecast
from lastresort.systems.system import System
from lastresort.types import Example, Message, Selection, SilentProgress
from study_support import SIZES, row_of, study_of, task_of
from tuning_support import COLOURS, Cut, CutAt, pairs, questions, tiny_task, write_jsonl

OF_THE_TASK = {"task", "files", "model", "tuned", "max_new_tokens"}
KEY = "6df6f9b796d731109c71c0ccded5948fa654c200b4ab2a53ea8327b5a881885e"


def examples(n: int, groups: int | None = None) -> list[Example]:
    return [
        Example(f"e{i}", (Message("user", f"question {i}"),), "a", None if groups is None else f"g{i % groups}")
        for i in range(n)
    ]


def test_subsets_are_nested_drawn_by_seed_and_keep_groups_together() -> None:
    found = nested(examples(50), (5, 20, 50), 1)
    assert {size: len(rows) for size, rows in found.items()} == {5: 5, 20: 20, 50: 50}
    assert found[5] == found[20][:5] == found[50][:5]
    assert nested(list(reversed(examples(50))), (5, 20), 1)[20] == found[20]
    assert nested(examples(50), (5, 20), 2)[5] != found[5]
    for rows in nested(examples(60, groups=12), (7, 20), 1).values():
        assert all(sum(row.group == one.group for one in rows) == 5 for row in rows)


def test_sizes_grow_by_a_factor_up_to_all_of_train() -> None:
    assert spread_sizes(960, 6) == (30, 60, 120, 240, 480, 960)
    assert spread_sizes(80, 5) == (8, 14, 25, 45, 80)
    with pytest.raises(InputError, match="found 15 examples"):
        spread_sizes(15, 5)


def test_a_grid_has_every_way_at_every_size_and_its_cells_are_told_apart(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    grid = crossover_grid(task, 80, None, None)
    cells_of = list(grid.cells())
    assert len(cells_of) == len(set(cells_of)) == 2 + 3 * 5 * 4
    assert {cell.way for cell in cells_of if not cell.n} == {"zero-shot", "constrained zero-shot"}
    assert [cell.seed for cell in cells_of] == sorted(cell.seed for cell in cells_of)
    keys = {cell.key({"model": "a"}) for cell in cells_of} | {cell.key({"model": "b"}) for cell in cells_of}
    assert len(keys) == 2 * len(cells_of)
    free = crossover_grid(task.model_copy(update={"output": type(task.output)()}), 80, None, None)
    assert free.ways == ("few-shot", "nearest", "sft")
    assert len(list(min_data_grid(960, None, None).cells())) == 1 + 3 * 6


def test_a_size_is_a_number_of_rows_and_no_two_come_to_the_same_rows() -> None:
    """Groups of 20 rows: 4, 8 and 16 examples are the same 20."""
    train = examples(100, groups=5)
    grid = min_data_grid(100, (4, 8, 16, 40), None)
    with pytest.raises(InputError, match=r"--sizes: found 4, 8, 16, 40, of which .*For example: --sizes 20,40"):
        of_different_rows(grid, train, named=True)
    assert of_different_rows(grid, train, named=False).sizes == (20, 40)
    apart = min_data_grid(100, (10, 50, 100), None)
    assert of_different_rows(apart, train, named=True).sizes == (20, 60, 100)
    assert of_different_rows(grid, examples(100), named=True) == grid
    with pytest.raises(InputError, match="found 20 examples to train on, which do not give two"):
        of_different_rows(grid, examples(20, groups=1), named=False)


def test_groups_of_many_sizes_give_the_same_subsets_under_the_number_of_their_rows() -> None:
    dice = np.random.default_rng(3)
    groups = [f"g{i}" for i in range(30) for _ in range(dice.integers(1, 9))]
    train = [replace(one, group=group) for one, group in zip(examples(len(groups)), groups, strict=True)]
    grid = min_data_grid(len(train), (5, 7, 9, 20, 50, len(train)), 3)
    found = of_different_rows(grid, train, named=False)
    assert of_different_rows(found, train, named=True) == found
    for seed in grid.seeds:
        rows = [len(rows) for rows in nested(train, found.sizes, seed).values()]
        assert rows == sorted(set(rows))
        assert all(n <= taken for n, taken in zip(found.sizes, rows, strict=True))
    assert all(n in {len(nested(train, (n,), seed)[n]) for seed in grid.seeds} for n in found.sizes)


@pytest.mark.parametrize(
    ("sizes", "seeds", "said"),
    [((20,), None, "--sizes: found 20, expected two or more"), ((20, 90), None, "1 to the 80"), (None, 1, "--seeds")],
)
def test_a_grid_that_says_nothing_is_refused(
    sizes: tuple[int, ...] | None, seeds: int | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        crossover_grid(task_of(tmp_path), 80, sizes, seeds)


def test_a_row_that_a_kill_cut_is_done_again_and_another_line_is_named(tmp_path: Path) -> None:
    first, second = (row_of(Cell("sft", 10, seed), 0.5) for seed in (0, 1))
    add_row(tmp_path, first)
    add_row(tmp_path, second)
    path = tmp_path / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert rows_in(tmp_path) == {first.key: first}
    add_row(tmp_path, second)
    assert path.read_bytes() == whole
    path.write_bytes(b'{"way": 1}\n' + whole)
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: found a line that is no finished cell"):
        rows_in(tmp_path)


def test_a_crossover_says_where_and_of_what_it_cannot_tell(tmp_path: Path) -> None:
    found = crossover_of(study_of(task_of(tmp_path), "crossover"))
    Draft202012Validator(schema_of("crossover")).validate(found.as_json())
    by = {(one.way, one.what): one for one in found.crossings}
    few = by["few-shot", "score"]
    assert few.kind == "WITHIN"
    assert few.low is not None
    assert few.high is not None
    assert (few.low, few.high) == (40, 80)
    assert by["zero-shot", "score"].kind == "WITHIN"
    assert {what for _, what in by} == {"score", "format"}
    assert found.answer == "SFT beats every other method from 80 examples on."
    assert words.EACH_ALONE in found.reasons
    assert words.DEV_ONLY in found.notes
    assert "1k calls" not in shown(found).header
    row = dict(zip(shown(found).header, shown(found).rows[2], strict=True))
    assert shown(found).rows[-1][0] == "SFT"
    assert (row["way"], row["examples"], row["tokens in"]) == ("few-shot", "10", "160")


TEXT = "Say which colour it is."


def test_an_optimised_prompt_is_shown_where_it_was_written_and_decides_nothing(tmp_path: Path) -> None:
    """It is better than SFT with the most examples, and the answer about the other ways stays."""
    task, cell = task_of(tmp_path), Cell("optimised", 0, 0)
    plain = crossover_of(study_of(task, "crossover"))
    assert plain.optimised is None
    better = {cell: row_of(cell, 0.99)}
    found = crossover_of(study_of(task, "crossover", better, optimised=OptimisedInstruction(TEXT, 540)))
    Draft202012Validator(schema_of("crossover")).validate(found.as_json())
    assert found.crossings == plain.crossings
    assert found.answer == f"{plain.answer} The optimised prompt is not part of this."
    assert found.optimised is not None
    assert (found.optimised.instruction, found.optimised.rows) == (TEXT, 540)
    sft = [point.score for point in found.points if (point.way, point.n) == ("sft", 320)]
    (own,) = [point for point in found.points if point.way == "optimised"]
    assert (own.n, own.seeds) == (540, 1)
    assert found.optimised.difference.mean == pytest.approx(sft[0] - own.score)
    low, high = found.optimised.difference.interval
    assert low < found.optimised.difference.mean < high
    said = found.reasons[-1]
    assert said.startswith("With 320 examples SFT minus the optimised prompt is −")
    assert "written from 540 rows of train, more than SFT learned from. A climb raced it on dev" in said
    assert said.endswith("so a lead of the prompt shows nothing.")
    (row,) = [row for row in shown(found).rows if row[0] == "optimised prompt"]
    assert row[1] == "540"
    for rows, end in (
        (320, "as many as SFT learned from. A climb raced it on dev, and its score here is too high if it was chosen for that, "
         "so a lead of the prompt shows nothing."),
        (70, "SFT learned from 320, and a climb raced the instruction on dev: one favours SFT, the other the prompt, so neither "
         "lead says which method is better."),
    ):  # fmt: skip
        other = crossover_of(study_of(task, "crossover", better, optimised=OptimisedInstruction(TEXT, rows)))
        assert other.reasons[-1].endswith(f"from {rows} rows of train, {end}")


def test_the_picture_marks_an_optimised_prompt_at_its_rows_on_a_level_line(tmp_path: Path) -> None:
    study = study_of(task_of(tmp_path), "crossover", optimised=OptimisedInstruction(TEXT, 540))
    drawn = ElementTree.fromstring(standing_alone(shown(crossover_of(study)).pictures[0]))

    def of(tag: str, within: ElementTree.Element = drawn) -> list[ElementTree.Element]:
        return list(within.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))

    ticks = {text.text: float(text.get("x", "")) for text in of("text") if text.get("text-anchor") == "middle"}
    (group,) = [
        one for one in of("g") if any("optimised prompt, 540" in (text.text or "") for text in of("title", one))
    ]
    line, *_ = of("polyline", group)
    (start, left), (end, right) = [tuple(map(float, one.split(","))) for one in line.get("points", "").split()]
    (dot,) = of("circle", group)
    assert left == right == float(dot.get("cy", ""))
    assert start < ticks["10"] < ticks["320"] < ticks["540"] < end
    assert abs(float(dot.get("cx", "")) - ticks["540"]) < 13  # lines stand beside each other


def climb_of(of: Task, run: Path, better: bool | None = True, text: str = TEXT, **changed: object) -> Path:
    """A record that optimised an instruction, one that is no better, or none. changed: keys of the task that it read."""
    prepared = prepare(of, begins=False)
    resolved = {**prepared.task.resolved(), "path": "task.yaml", **changed}
    with Record.create(run, TaskRead(task=resolved)) as record:
        record.append(FilesRead(files=prepared.files))
        if better is not None:
            record.append(
                PromptOptimised(
                    rung="prompting",
                    reflector="r",
                    plain="Name it.",
                    best=text if better else "Name it.",
                    plain_score=0.25,
                    best_score=0.75 if better else 0.25,
                    n=30,
                    learned_from=40,
                    proposed=(),
                    calls=300,
                    reflections=4,
                    stopped="calls",
                    tokens_in=1,
                    tokens_out=1,
                    seconds=1.0,
                    usd=0.0,
                    priced=True,
                )
            )
    return run


@pytest.mark.slow
def test_the_optimised_prompt_of_a_climb_is_measured_once_and_another_one_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the other ways stay. The zero-shot prompt and it differ in the instruction alone."""
    measured: list[System] = []
    row = cells._row
    monkeypatch.setattr(cells, "_row", lambda *given, **named: (measured.append(given[1]), row(*given, **named))[1])
    path = tiny_task(tmp_path / "task", split={"dev": 4, "test": 30}, ladder=["prompting", "sft"])
    task = load_task(path)
    first, second = climb_of(task, tmp_path / "a"), climb_of(task, tmp_path / "b", text="Say it.")
    own = StudyRequest("crossover", path, sizes=(16, 40), seeds=2, out=tmp_path / "own", optimised=first)
    with pytest.raises(Cut):
        run_study(own, CutAt("few-shot, 16 examples, seed 0: dev", 1))
    plain, written = measured
    assert (plain.name, written.name) == ("zero-shot", "optimised")
    assert written.prompt == replace(plain.prompt, instruction=TEXT, written_by="model")
    with pytest.raises(Cut):
        run_study(replace(own, optimised=second), again := CutAt("few-shot, 16 examples, seed 0: dev", 1))
    assert any(said.startswith("The study has 14 cells, 1 of them done.") for said in again.said)
    assert [system.prompt.instruction for system in measured[2:]] == ["Say it."]
    found = study_in(tmp_path / "own")
    assert found is not None
    assert f"--optimised {second}" in (found.command(tmp_path) or "")


KEPT = Statement.of(GepaMissing(), "No prompt was optimised: gepa is not installed.")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"about": "Other."},
            "found a run of another task or other data: it differs in about, expected a climb of this",
        ),
        ({"task": "other"}, "it differs in task"),
        *(
            pytest.param({key: "other"}, f"it differs in {key}", marks=pytest.mark.slow)
            for key in MUST_AGREE
            if key not in ("task", "about")
        ),
        ({"better": False}, "found that no instruction beat the task's own, which scores 25.0% on 30 rows of train"),
        ({"better": None}, "found a run that stopped before it optimised a prompt"),
        ({"better": None, "ladder": ["sft"]}, "found no rung prompting in its ladder"),
        ({"better": None, "findings": ()}, "found none: no prompt could be measured on dev"),
        ({"better": None, "findings": (), "prompting": {"optimise": "off"}}, "found none: prompting.optimise is off"),
        ({"better": None, "findings": (KEPT,)}, "found none. The run says: No prompt was optimised: gepa is not inst"),
    ],
)
def test_a_run_without_an_optimised_prompt_of_this_task_is_refused(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tiny_task(tmp_path / "task", ladder=["prompting", "sft"])
    findings = given.pop("findings", None)
    run = climb_of(load_task(path), tmp_path / "run", **given)
    if findings is not None:
        with Record.open(run) as record:
            record.append(
                RungSearched(
                    rung="prompting",
                    chosen="zero-shot",
                    candidates=(),
                    why=Selection("zero-shot", "HIGHEST", 1.0, 1),
                    findings=findings,
                    bias_corrected=None,
                )
            )
    own = StudyRequest("crossover", path, sizes=(16, 40), out=tmp_path / "own", optimised=run)
    for study in (run_study, forecast_study):
        with pytest.raises(InputError, match=re.escape(said)) as error:
            study(own, SilentProgress())
        assert f"--optimised {run}" in str(error.value)
        assert f"lastresort climb {quote(str(path))} --until" in str(error.value) or "it differs in" in said
    assert not (tmp_path / "own").exists()


def test_a_forecast_with_workers_says_that_it_counts_one_process(tmp_path: Path) -> None:
    own = StudyRequest("min-data", tiny_task(tmp_path / "task"), sizes=(16, 40), seeds=2)
    alone, at_workers = (forecast_study(one, SilentProgress()) for one in (own, replace(own, ray="local")))
    said = "This time is that of one process; the workers of --ray share the cells."
    assert said == at_workers.assumed
    assert f"{said} It measures" in at_workers.lines()[0]
    assert alone.assumed == ""


def test_a_run_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task", ladder=["prompting", "sft"])
    run = climb_of(load_task(path), tmp_path / "run")
    write_jsonl(path.parent / "rows.jsonl", questions(119))
    with pytest.raises(InputError, match=r"it differs in rows\.jsonl"):
        forecast_study(StudyRequest("crossover", path, sizes=(16, 40), optimised=run), SilentProgress())


def test_other_studies_take_no_optimised_prompt_and_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task")
    other = StudyRequest("min-data", path, sizes=(16, 40), optimised=tmp_path)
    with pytest.raises(
        InputError, match=r"--optimised: found .*, expected none: only crossover compares ways to prompt"
    ):
        run_study(other, SilentProgress())
    with pytest.raises(DataError, match=r"found no record\.sqlite, expected the folder of a run"):
        run_study(StudyRequest("crossover", path, optimised=tmp_path), SilentProgress())


COSTED = TimedCalls(TokenSeconds(0.001, 0.003), TokenSeconds(0.001, 0.003), same=True, longest_tokens=16)


def costed(folder: Path, facts: Callable[[Cell], dict[str, object]] = lambda cell: {}) -> CrossoverDocument:
    """facts: of each row, in place of those of `row_of`."""
    study = study_of(task_of(folder, use={"hourly_price": 3.6}), "crossover")
    rows = {cell: row_of(cell, 0.5, **facts(cell)) for cell in study.grid.cells()}
    return crossover_of(replace(study, measured=replace(study.measured, rows=rows, calls=COSTED)))


def cost_kinds(found: CrossoverDocument) -> dict[str, str]:
    return {one.way: one.kind for one in found.crossings if one.what == "cost"}


def test_costs_are_what_tokens_take_and_cross_where_that_holds_for_all_that_is_not_known(tmp_path: Path) -> None:
    """Shots that all prompts share may be kept, and 8 tokens fewer may be lost to a slower adapter. Those of each item are read."""
    found = costed(tmp_path)
    Draft202012Validator(schema_of("crossover")).validate(found.as_json())
    others = ("zero-shot", "constrained zero-shot", "few-shot", "constrained few-shot")
    assert cost_kinds(found) == dict.fromkeys(others, "CANNOT_TELL") | {"nearest": "WITHIN"}
    points = {(point.way, point.n): point for point in found.points}
    assert points["sft", 10].read_tokens == 40, "32 that are shared are too few to keep"
    assert points["sft", 10].usd == pytest.approx(0.001 * (40 * 0.001 + 3 * 0.003))
    assert points["few-shot", 80].read_tokens == 16
    assert points["few-shot", 80].usd == pytest.approx(0.001 * (16 * 0.001 + 3 * 0.003))
    assert found.call_times is not None
    assert (found.call_times.factor, found.call_times.sft.write_s) == (2, 0.003)
    assert (
        "SFT is cheaper per call than nearest from 20 examples on; with fewer, this study cannot tell." in found.reasons
    )
    row = dict(zip(shown(found).header, shown(found).rows[-1], strict=True))
    assert row["1k calls"] == "$0.049"
    note = found.notes[-1]
    assert "1 ms to read one and 3 ms to write one" in note
    assert "of 64 tokens or more" in note


def test_shots_that_are_near_to_several_items_may_be_kept(tmp_path: Path) -> None:
    """Of the nearest shots a server may have read all but the input before, though not all prompts begin so. SFT's own beginning
    may be too short for it.
    """

    def facts(cell: Cell) -> dict[str, object]:
        tokens = 60 + 10 * min(cell.n, 64)
        return {"begun_tokens": (tokens - 16,) * 120} if cell.way == "nearest" else {}

    assert cost_kinds(costed(tmp_path, facts))["nearest"] == "CANNOT_TELL"
    row = row_of(Cell("nearest", 40, 0), 0.5, begun_tokens=(48,) * 60 + (64,) * 60)
    assert [*map(len, (read_tokens(row), set(read_tokens(row, 0, by_two=True))))] == [120, 2]
    assert read_tokens(row, by_two=True) == [460] * 60 + [396] * 60


def test_the_seconds_of_a_pass_change_no_cost(tmp_path: Path) -> None:
    found = costed(tmp_path, lambda cell: {"answer_s": (9.0 if cell.trains else 0.1,) * 120})
    before = costed(tmp_path)
    assert (found.points, found.crossings) == (before.points, before.crossings)


def test_longer_answers_cost_more_and_a_lead_that_begins_later_is_placed(tmp_path: Path) -> None:
    """With few examples SFT writes 60 tokens, then 2, where prompts write 20. What it reads is little even at 4 times the time."""

    def facts(cell: Cell) -> dict[str, object]:
        written = (60 if cell.n <= 20 else 2) if cell.way == "sft" else 20
        read = 2 if cell.way == "sft" else 8
        none = {"shared_tokens": 0, "begun_tokens": (0,) * 120}
        return {"answer_tokens": (written,) * 120, "prompt_tokens": (read,) * 120, **none}

    found = {one.way: one for one in costed(tmp_path, facts).crossings if one.what == "cost"}
    assert len({(one.kind, one.low, one.high, one.at) for one in found.values()}) == 1
    one = found["zero-shot"]
    assert (one.kind, one.low, one.high) == ("WITHIN", 20, 40)
    assert one.at is not None
    assert 20 < one.at < 40


def test_an_endpoint_has_its_exact_prices_and_no_discount_for_what_it_keeps(tmp_path: Path) -> None:
    use = task_of(tmp_path, use={"hourly_price": 3.6, "prompt_price": 2, "output_price": 8}).use
    calls = replace(COSTED, prompting=None, same=False)
    corners = list(bounds_of(use, calls))
    assert (
        {one.prompting for one in corners} == {TokenPrice(2e-6, 8e-6, math.inf)} == {priced_ways(use, calls).prompting}
    )
    assert len({one.sft for one in corners}) == 5 * 4 * 2
    row = row_of(Cell("few-shot", 40, 0), 0.5)
    assert priced_ways(use, calls).prompting.of(row)[0] == pytest.approx(460 * 2e-6 + 3 * 8e-6)
    assert corners[0].longest(calls) == pytest.approx(16 * 8e-6)


def test_of_two_models_each_time_may_be_off_and_of_one_only_how_they_compare(tmp_path: Path) -> None:
    use = task_of(tmp_path, use={"hourly_price": 3600}).use
    apart = list(bounds_of(use, replace(COSTED, same=False)))
    assert len(apart) == 5 * 16 * 2
    assert {round(one.sft.write / one.prompting.write, 9) for one in apart} == {0.2, 0.8, 3.2, 0.3125, 1.25, 5}
    one_model = list(bounds_of(use, COSTED))
    assert len(one_model) == 5 * 2 * 2
    assert {round(one.prompting.write / one.prompting.read, 9) for one in one_model} == {0.75, 12}
    assert {round(one.sft.read / one.prompting.read, 9) for one in one_model} == {0.8, 4}
    assert {round(one.sft.write / one.prompting.write, 9) for one in one_model} == {0.8, 1.25}


def test_costs_are_shown_and_not_compared_where_no_token_was_timed(tmp_path: Path) -> None:
    """All items of a cell are answered in one pass, so its seconds are one figure, not as many as there are items."""
    found = crossover_of(study_of(task_of(tmp_path, use={"hourly_price": 3.6}), "crossover"))
    assert {one.what for one in found.crossings} == {"score", "format"}
    assert found.call_times is None
    (sft,) = [point.usd for point in found.points if (point.way, point.n) == ("sft", 10)]
    assert sft == pytest.approx(0.4 * 3.6 / 3600)
    row = dict(zip(shown(found).header, shown(found).rows[-1], strict=True))
    assert row["1k calls"] == "$0.40"
    assert words.COSTS_SHOWN in found.notes
    assert words.COSTS_SHOWN not in crossover_of(study_of(task_of(tmp_path), "crossover")).notes


def test_a_token_is_timed_once_for_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later session takes the times of the first. On a card none are measured."""
    task = task_of(tmp_path, use={"hourly_price": 3.6})
    machine = Machine(1000, 1.0, measured=Rates(1e6, 4e6, 1e6))
    with Record.create(tmp_path / "own") as record:
        bench = cast(Workbench, SimpleNamespace(task=task, record=record, progress=SilentProgress(), max_new_tokens=16))
        for here, found in (
            (replace(machine, measured=None), None),
            (machine, TimedCalls(*[TokenSeconds(0.0005, 0.002)] * 2, same=True, longest_tokens=16)),
            (replace(machine, measured=Rates(1, 1, 1)), TimedCalls(*[TokenSeconds(0.0005, 0.002)] * 2, True, 16)),
        ):
            monkeypatch.setattr(run, "machine_of", lambda *_, here=here: here)
            assert run.timed_calls(bench, "base", "base") == found
        qlora = task_of(tmp_path / "qlora", use={"hourly_price": 3.6}, tune={"method": "qlora"})
        in_4_bits = cast(Workbench, SimpleNamespace(**{**vars(bench), "task": qlora}))
        assert run.timed_calls(in_4_bits, "base", "base") is None, "its base takes times of its own"
        free = cast(Workbench, SimpleNamespace(task=task_of(tmp_path / "free"), record=record))
        assert run.timed_calls(free, "base", "base") is None


def test_min_data_names_the_smallest_size_that_every_training_shows(tmp_path: Path) -> None:
    study = study_of(task_of(tmp_path), "min-data")
    found = min_data_of(study)
    Draft202012Validator(schema_of("min_data")).validate(found.as_json())
    assert (found.shifted, found.clean) == (40, 40)
    assert found.answer == ("LoRA measurably beats the base prompt from 40 examples on, without a sign of overfitting.")
    assert [point.shown for point in found.points] == [False, False, True, True, True, True]
    assert found.curve.kind == "FORECAST"
    assert "another 320 examples are worth about" in found.curve_text.lower()
    lost = Cell("sft", 160, 1)
    less = min_data_of(study_of(task_of(tmp_path), "min-data", {lost: row_of(lost, 0.1)}))
    assert less.shifted == 320
    assert less.answer == (
        "LoRA measurably beats the base prompt with 320 examples, the most that were tried (taken alone, also with 40 and "
        "80), without a sign of overfitting."
    )
    last = Cell("sft", 320, 1)
    none = min_data_of(study_of(task_of(tmp_path), "min-data", {last: row_of(last, 0.1)}))
    assert none.shifted is None
    assert none.answer == (
        "LoRA is not shown to beat the base prompt with 320 examples, the most that were tried. Taken alone, all "
        "runs with 40, 80 and 160 beat it."
    )


def test_signs_of_overfitting_are_named_and_move_the_answer(tmp_path: Path) -> None:
    facts = {"learning_rate": 0.001, "steps": 4, "train_loss": 0.1, "dev_loss": 0.5}
    near = {**facts, "half_way_loss": 0.6, "kl": 0.1, "prose": 1.0}

    def signs(kept: tuple[bool, ...] = (True,) * 40, **changed: float) -> tuple[str, ...]:
        trained = CellTraining.model_validate({**near, **changed})
        rows = {
            cell: row_of(cell, 0.75, trained=trained, kept=kept) for cell in (Cell("sft", 80, 0), Cell("sft", 80, 1))
        }
        found = min_data_of(study_of(task_of(tmp_path), "min-data", rows, seeds=2))
        return next(point.signs for point in found.points if point.n == 80)

    assert signs() == ()
    assert signs(half_way_loss=0.48) == ("DEV_LOSS_ROSE",)
    assert signs(half_way_loss=0.495) == ()
    assert signs(kl=1.2) == signs(prose=2.5) == ("FAR_FROM_BASE",)
    assert signs(kept=(False,) * 7 + (True,) * 33) == ("FORMAT_LEAK",)
    assert signs(kept=(False,) * 6 + (True,) * 34) == ()  # of six sizes, a p of 1 in 64 is not enough
    rose = {
        cell: row_of(cell, 0.5, trained=CellTraining.model_validate({**near, "half_way_loss": 0.4}))
        for cell in (Cell("sft", 40, 0), Cell("sft", 40, 1))
    }
    found = min_data_of(study_of(task_of(tmp_path), "min-data", rose, seeds=2))
    assert (found.shifted, found.clean) == (40, 80)
    assert found.answer == (
        "LoRA measurably beats the base prompt from 40 examples on, but there are signs below 80 that it overfits or "
        "forgets (dev loss rose with 40)."
    )
    far = CellTraining.model_validate({**near, "kl": 5.0})
    late = {cell: row_of(cell, 0.9, trained=far) for cell in (Cell("sft", 320, 0), Cell("sft", 320, 1))}
    found = min_data_of(study_of(task_of(tmp_path), "min-data", {**rose, **late}, seeds=2))
    assert (found.shifted, found.clean) == (40, None)
    assert found.answer == (
        "LoRA measurably beats the base prompt from 40 examples on, but there are signs that it overfits or forgets "
        "(dev loss rose with 40; far from the base with 320)."
    )


def test_a_lead_that_falls_is_not_taken_for_one_that_lasts(tmp_path: Path) -> None:
    def answer(others: dict[int, float]) -> list[str]:
        ways = ("few-shot", "nearest", "constrained few-shot")
        cells_of = [Cell(way, n, seed) for way in ways for n in SIZES for seed in range(3)]  # type: ignore[arg-type]
        rows = {cell: row_of(cell, others[cell.n]) for cell in cells_of}
        trained = {cell: row_of(cell, 0.6) for cell in (Cell("sft", n, seed) for n in SIZES for seed in range(3))}
        found = crossover_of(study_of(task_of(tmp_path), "crossover", {**rows, **trained}))
        return [found.answer, *found.reasons]

    first, *reasons = answer(dict(zip(SIZES, (0.1, 0.2, 0.55, 0.8, 0.95, 0.95), strict=True)))
    assert first.startswith("With 320 examples SFT is not shown to beat ")
    assert "Taken alone, it is worse than " in first
    falling = [text for text in reasons if text.startswith("SFT is better than ") and "its lead falls" in text]
    assert any("nearest" in text for text in falling)


def test_groups_are_what_is_counted(tmp_path: Path) -> None:
    study = study_of(task_of(tmp_path), "min-data", seeds=2)
    grouped = min_data_of(replace(study, groups=[f"g{i // 30}" for i in range(120)]))
    assert (grouped.measured_on.n, grouped.measured_on.unit) == (4, "group")
    assert grouped.shifted is None  # four groups cannot show it: 1/16 is above the level
    assert "4 dev groups" in " ".join(grouped.notes)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone_and_escapes_what_it_shows(tmp_path: Path) -> None:
    document = crossover_of(study_of(task_of(tmp_path), "crossover")).replaced(task="<b>&")
    page = study_page(document)
    tags = _Tags()
    tags.feed(page)
    assert tags.links == []
    assert "<b>&<" not in page
    assert page.count("<svg ") == 2
    scored, _ = shown(document).pictures
    assert str(scored.svg).count("<circle") == len(document.points)
    assert 'class="line front"' in standing_alone(scored)


def test_an_endpoint_is_nothing_to_train_and_a_forecast_writes_nothing(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task")
    progress = SilentProgress()
    elsewhere = StudyRequest("crossover", path, {"model": "http://127.0.0.1:9/v1#m"}, out=tmp_path / "none")
    with pytest.raises(TaskError, match="a study trains"):
        run_study(elsewhere, progress)
    found = forecast_study(StudyRequest("crossover", path, sizes=(8, 16), seeds=4), progress)
    assert found.cells == 25
    assert found.lines()[0].startswith("The study has 25 cells. Forecast: about ")
    assert not (tmp_path / "none").exists()


def test_a_training_is_forecast_as_that_of_a_climb_on_as_many_rows(tmp_path: Path) -> None:
    """One learning rate for one epoch: the study measures the loss on dev once more, at half of the steps."""
    task = load_task(
        tiny_task(tmp_path, sft={"learning_rates": [0.003], "epochs": 1, "replay": 0.2}, decode={"max_new_tokens": 6})
    )
    prepared = prepare(task, begins=False)
    grid = crossover_grid(task, 70, (16, 40), None)
    study = PlannedStudy(prepared, grid, SftLearner(0.003))
    found, _ = forecast(study, [Cell("sft", 16, 0)], SilentProgress())
    assert found is not None
    work = replace(workload(prepared, "sft"), n_train=16, n_test=0)
    climb = SftRung().forecast(task, work)
    assert (found.training_tokens, found.tokens_out) == (climb.training_tokens, climb.tokens_out)
    row = work.about_tokens + work.input_tokens + work.output_tokens
    assert found.tokens_in - climb.tokens_in == pytest.approx(work.n_dev * row, abs=2)


def test_a_forecast_runs_no_code_of_the_user(tmp_path: Path) -> None:
    path = tiny_task(tmp_path)
    scorer = path.parent / "score.py"
    scorer.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{scorer.read_text('utf-8')}", encoding="utf-8")
    assert forecast_study(StudyRequest("min-data", path, sizes=(16, 40), seeds=2), SilentProgress()).cells == 5
    assert not (tmp_path / "ran").exists()


def test_a_dev_set_of_one_group_is_refused_before_the_first_cell(tmp_path: Path) -> None:
    path = tiny_task(tmp_path / "task", split={"dev": 20, "test": 30, "group_by": "who"})
    write_jsonl(path.parent / "rows.jsonl", [{**row, "who": f"g{i % 6}"} for i, row in enumerate(questions())])
    own = StudyRequest("min-data", path, sizes=(20, 40), out=tmp_path / "none")
    for study in (run_study, forecast_study):
        with pytest.raises(
            TaskError, match=r'task.yaml, key "split.dev": found 20 dev items of one group, expected at least two'
        ):
            study(own, SilentProgress())
    assert not (tmp_path / "none").exists()


def test_a_row_holds_no_more_than_its_fields() -> None:
    row = row_of(Cell("nearest", 10, 0), 0.5)
    assert CellRow.model_validate_json(json.dumps(row.as_json())) == row


@pytest.mark.parametrize(("keys", "items"), [({"output": {"choices": [*COLOURS]}, "score": "choice"}, 30), ({}, 40)])
def test_unrelated_requests_are_those_that_need_no_pilot_of_the_base(
    keys: dict[str, object], items: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off topic, a base that never answers in the task's form answers as it should: learning the form is then no leak."""
    asked: list[SuiteItem] = []

    def ask(model: object, suite: object, drawn: list[SuiteItem], **_: object) -> SimpleNamespace:
        asked.extend(drawn)
        return SimpleNamespace(with_transcripts=lambda _: [])

    monkeypatch.setattr("lastresort.study.cells.ask", ask)
    bench = SimpleNamespace(
        task=load_task(tiny_task(tmp_path, **keys)),
        dev=examples(60),
        max_new_tokens=6,
        models=SimpleNamespace(open=lambda system: None),
        progress=SilentProgress(),
        stop=NEVER,
    )
    kept_requests(cast(Workbench, bench), cast(System, None), "base")
    assert len(asked) == items
    assert {item.family for item in asked} == {"off task", "counter-instruction"}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", ["crossover", "min-data", "orpo-vs-dpo"])
def test_a_row_is_found_again_by_what_it_depended_on(
    kind: Literal["crossover", "min-data", "orpo-vs-dpo"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every key holds besides the cell, fact by fact, and how it is hashed: rows that are kept must not be lost."""
    seen: list[dict[str, object]] = []
    known = Cell.key
    monkeypatch.setattr(Cell, "key", lambda self, facts: (seen.append(facts), known(self, facts))[1])
    path = tiny_task(
        tmp_path / "task", sft={"learning_rates": [0.004, 0.001]}, preferences=pairs(), ladder=["prompting"]
    )
    with pytest.raises(Cut):
        run_study(StudyRequest(kind, path, seeds=2, out=tmp_path / "own"), CutAt("zero-shot: dev", 1))
    facts = {name: value for name, value in seen[0].items() if name not in OF_THE_TASK}
    rates = {"sft": 0.002, "dpo": 0.0017, "orpo": 0.0017}
    expected: dict[str, object] = {"study": kind, "rate": 0.002, "method": "lora"}
    if kind != "crossover":
        expected["probed"] = ("off task", "counter-instruction")
    assert facts == (expected | {"rates": rates} if kind == "orpo-vs-dpo" else expected)
    assert all(one == seen[0] for one in seen)
    assert {*seen[0]} - {*facts} == {*OF_THE_TASK}
    assert known(Cell("dpo", 60, 1), {"model": "é", "rates": rates}) == KEY


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "docs/studies").glob("*.json")), ids=lambda path: path.stem
)
def test_a_published_study_is_a_document_of_today_that_can_be_drawn(path: Path) -> None:
    document = TypeAdapter[StudyDocument](StudyDocument).validate_json(path.read_bytes())
    assert path.read_text("utf-8") == document.as_text
    assert shown(document).pictures
